//! `portolan controller`: allocates load-balancer addresses in a cluster, until it is stopped.
//!
//! `pages` answers kubelet and Prometheus. All else is in `portolan-address-controller`.

mod pages;

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use portolan_address_controller::election::Timing;
use portolan_address_controller::{Controller, Options, Pools};
use portolan_config::watch::ConfigFile;
use portolan_config::{Config, Flags, Level};
use portolan_kubernetes::Followed;
use portolan_observe::servers::PageServer;
use tracing::{error, info, warn};

use self::pages::pages;
use crate::cli::ControllerArgs;
use crate::event::Event;
use crate::mailbox::{Mail, mailbox};
use crate::runtime::Runtime;
use crate::signals::{self, Ending};
use crate::threads::spawn;
use crate::{configuration, logging, process_one};

/// A write that is under way, and giving the Lease back, may take this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs until it is asked to end. Otherwise it returns only errors that nothing can be done about.
pub(crate) fn controller(args: &ControllerArgs) -> anyhow::Result<()> {
    process_one::leave(())?;
    signals::end_on_panic(|_| false, "");
    let flags = flags(args);
    let (loaded, file) = configuration::load(&flags)?;
    let config = loaded.config;
    logging::start(config.logging.verbosity, config.logging.format);
    // What else there is to know is of the rules.
    configuration::log(loaded.notes.iter().filter(|note| note.level == Level::Warning));
    let (events, received) = mailbox();
    let patience = Box::new(|| PATIENCE);
    signals::end_on_signals(&events, Ending { patience, last_words: "; the Lease is given back" })?;
    let identity = identity();
    info!("portolan {} as controller {identity}", env!("CARGO_PKG_VERSION"));
    let ignore_metallb = args.ignore_metallb_pools;
    let options = options(args, &config, identity);
    let controller = portolan_address_controller::start(options, pools(&config, ignore_metallb))?;
    let runtime = Runtime::start("pages").context("starting a thread")?;
    let address = args.bind_address;
    let server = PageServer::start(runtime.handle(), address, pages(controller.status()));
    let server = server.with_context(|| {
        format!("--bind-address {address}: see who listens there with ss -lnp, or give another address")
    })?;
    info!("/livez, /healthz and /metrics on {}", server.address());
    let controller = Arc::new(Mutex::new(controller));
    if let Some(file) = file {
        let controller = controller.clone();
        spawn("configuration", &events, move || follow(&flags, config, file, &controller, ignore_metallb))?;
    }
    loop {
        match received.recv()? {
            Mail::Event(Event::End) => break,
            Mail::Event(Event::Lost(error)) => return Err(error),
            // Nobody sends others.
            Mail::Event(Event::Asked(_) | Event::AddressesAsked(_) | Event::Alone(_)) | Mail::Observed(_) => {
            }
        }
    }
    lock(&controller).stop();
    Ok(())
}

/// Has the controller use pools that the file gives from now on. What cannot be used is logged, and
/// all stays as it was.
fn follow(
    flags: &Flags,
    mut in_use: Config,
    mut file: ConfigFile,
    controller: &Mutex<Controller>,
    ignore_metallb: bool,
) -> anyhow::Result<()> {
    let path = file.path().to_owned();
    loop {
        match portolan_config::load(flags, Some((&path, file.wait()?))) {
            Ok(loaded) if loaded.config.load_balancer == in_use.load_balancer => {
                if loaded.config != in_use {
                    warn!("{}: what has changed there beside loadBalancer needs a restart", path.display());
                }
                in_use = loaded.config;
            }
            Ok(loaded) => {
                info!("{}: pools have changed, and are in use", path.display());
                in_use = loaded.config;
                lock(controller).set_pools(pools(&in_use, ignore_metallb));
            }
            Err(errors) => error!("{}; going on with the previous one", configuration::unusable(&errors)),
        }
    }
}

fn pools(config: &Config, ignore_metallb: bool) -> Pools {
    let load_balancer = &config.load_balancer;
    Pools {
        pools: load_balancer.pools.clone(),
        is_default: load_balancer.default,
        of_metallb: !ignore_metallb,
    }
}

/// The flags that `portolan run` would have for the same.
fn flags(args: &ControllerArgs) -> Flags {
    Flags {
        config: args.config.clone(),
        kubeconfig: args.kubeconfig.clone(),
        load_balancer_pool: args.load_balancer_pool.clone(),
        verbosity: args.verbosity,
        ..Flags::default()
    }
}

fn options(args: &ControllerArgs, config: &Config, identity: String) -> Options {
    let api = portolan_kubernetes::Options {
        kubeconfig: config.client.kubeconfig.clone(),
        master: None,
        qps: config.client.qps,
        burst: config.client.burst,
        node_name: "".into(),
        followed: Followed::default(),
        snapshot: None,
    };
    Options {
        api,
        api_timing: portolan_kubernetes::Timing::default(),
        lease_namespace: args.lease_namespace.clone(),
        lease_name: args.lease_name.clone(),
        identity,
        timing: Timing::default(),
    }
}

/// A name that no other process has, as client-go has it: the host's, which is the pod's, and a
/// number.
fn identity() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{:016x}", host.trim(), RandomState::new().hash_one(0))
}

fn lock(controller: &Mutex<Controller>) -> std::sync::MutexGuard<'_, Controller> {
    controller.lock().unwrap_or_else(PoisonError::into_inner)
}

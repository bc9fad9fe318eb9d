//! `portolan run`: follows a cluster, or a folder of manifests, and keeps the kernel to it until it is stopped.
//!
//! Threads wait, for objects, for interface addresses and for whoever asks; the main thread owns the proxy and
//! everything that changes. Stopping the process at any moment leaves the rules in force (spec §11.22).

use std::io::Write;
use std::os::fd::FromRawFd;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use portolan_config::watch::ConfigFile;
use portolan_config::{Config, Mode};
use portolan_dataplane::Dataplane;
use portolan_dataplane::iptables::{self, Iptables};
use portolan_dataplane::nftables::Nftables;
use portolan_observe::servers::Servers;
use portolan_observe::{BuildInfo, PacketCounter, Telemetry};
use portolan_service::{Family, ServicePlan};
use portolan_source::manifests::{Manifests, Options, Update};
use tracing::{debug, info, warn};

use crate::addresses;
use crate::batch::Batch;
use crate::cleanup::TakeOver;
use crate::cli::{ProxyArgs, RunArgs};
use crate::cluster::{self, Cluster};
use crate::configuration::{self, Loaded};
use crate::describe::counted;
use crate::fit::Fit;
use crate::mailbox::{Receiver, Sender, mailbox};
use crate::proxy::{MakeDataplane, Proxy, Surroundings};
use crate::this_node::{self, ThisNode};
use crate::{cleanup, forwarding, kernel_settings, logging, privileges, servers};

/// The modes that this version has.
pub(crate) const AVAILABLE: &[Mode] = &[Mode::Nftables, Mode::Iptables];

/// Of the problems that one change of the manifests brings or solves so many are logged, the others
/// counted.
const LOGGED_PROBLEMS: usize = 100;

/// What the waiting threads tell the main one.
pub(crate) enum Event {
    Observed(Batch),
    /// Somebody wants to know all plans.
    Asked(mpsc::Sender<Vec<Arc<ServicePlan>>>),
    /// A thread cannot go on, or the process must not.
    Lost(anyhow::Error),
}

/// Runs until killed, or does the one thing that flags ask for. Returns only errors that nothing can be done about.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<()> {
    if let Some(form) = &args.version {
        return print_version(form);
    }
    let flags = &args.proxy.flags;
    let (loaded, file) = configuration::load(flags)?;
    let config = &loaded.config;
    logging::start(config.logging.verbosity, config.logging.format);
    configuration::log(&loaded.notes);
    if let Some(path) = &flags.write_config_to {
        return configuration::write(config, path);
    }
    if flags.cleanup == Some(true) {
        cleanup::own(|line| info!("{line}"))?;
        return cleanup::kube_proxy(|line| info!("{line}"));
    }
    if !AVAILABLE.contains(&config.mode) {
        let modes: Vec<&str> = AVAILABLE.iter().map(|mode| mode.name()).collect();
        bail!(
            "mode {} is not available in this version: leave the mode empty or set {}",
            config.mode,
            modes.join(" or ")
        );
    }
    let name = this_node::name(config)?;
    info!("portolan {} for node {name}, mode {}", env!("CARGO_PKG_VERSION"), config.mode);
    // On a host without a cluster, only what somebody asked for is changed.
    if args.manifests.is_none() || flags.config.is_some() {
        kernel_settings::apply(config);
    }
    if config.mode == Mode::Iptables {
        kernel_settings::warn_of_bridge();
    }
    if flags.init_only == Some(true) {
        if this_node::wants_localhost_node_ports(config) {
            kernel_settings::route_localnet();
        }
        return Ok(());
    }
    privileges::drop_unneeded(config.mode, config.accept_forwarded);
    forwarding::start(config.accept_forwarded);
    forward(args, &loaded, file, &name)
}

fn print_version(form: &str) -> anyhow::Result<()> {
    match form {
        "true" => println!("Kubernetes v{} (Portolan)", env!("CARGO_PKG_VERSION")),
        "raw" => println!("{:#?}", BuildInfo::new(env!("CARGO_PKG_VERSION"))),
        other => bail!("--version={other}: give true or raw"),
    }
    Ok(())
}

fn forward(args: &RunArgs, loaded: &Loaded, file: Option<ConfigFile>, name: &str) -> anyhow::Result<()> {
    let config = &loaded.config;
    let build = BuildInfo::new(env!("CARGO_PKG_VERSION"));
    let telemetry = Arc::new(Telemetry::new(
        portolan_observe::Mode::named(config.mode.name()),
        &Family::ALL,
        config.sync_period,
        &build,
    ));
    servers::tell_configuration(config, &telemetry.metrics);
    if config.mode == Mode::Iptables {
        let metrics = &telemetry.metrics;
        metrics.count_packets(PacketCounter::InvalidDropped, iptables::invalid_dropped);
        metrics.count_packets(PacketCounter::LocalhostAccepted, iptables::localhost_accepted);
    }
    let (events, received) = mailbox();
    let service_networks: &[_] =
        if args.manifests.is_some() { &args.proxy.service_cluster_ip_range } else { &[] };
    let mut node = ThisNode::new(name, config, service_networks, kernel_settings::tcp_is_liberal());

    let watch = addresses::Watch::start().context("listening for interface addresses")?;
    let addresses = Batch::of_addresses(addresses::list().context("listing interface addresses")?);
    let (cluster, folder) = match &args.manifests {
        Some(folder) => (None, Some((folder, Manifests::open(folder, options(&args.proxy, false))?))),
        None => (Some(cluster::follow(args, config, name, &telemetry, &events)?), None),
    };
    node.set_api_server(cluster.iter().filter_map(Cluster::api_server).collect());
    let servers = servers::start(args, loaded, &build, &telemetry, &events, cluster.as_ref())?;
    let mut proxy = Proxy::new(node, surroundings(config, servers, &telemetry, cluster.is_some()));
    proxy.observe(addresses);

    let mut fit = Fit::new(config, name, cluster.is_some());
    let mut ready_fd = args.ready_fd;
    if let Some((folder, mut manifests)) = folder {
        let started = Instant::now();
        let first = manifests.load();
        log_problems(&first);
        let objects = counted(first.changes.len(), "object");
        info!("{}: {objects} read in {:.1?}", folder.display(), started.elapsed());
        let first = Batch::of_changes(first.changes, started);
        fit.check(&first)?;
        proxy.received(&first);
        proxy.observe(first);
        announce_ready(&proxy, &mut ready_fd)?;
        spawn("manifests", &events, move |events| follow_manifests(&mut manifests, events))?;
    }
    spawn("addresses", &events, move |events| follow_addresses(&watch, events))?;
    if let Some(mut file) = file {
        let (flags, in_use) = (args.proxy.flags.clone(), config.clone());
        spawn("configuration", &events, move |_| configuration::until_changed(&flags, &in_use, &mut file))?;
    }
    if let Some(cluster) = &cluster {
        cluster.announce_start();
    }
    let mut follow = Follow {
        proxy,
        fit,
        mode: config.mode,
        min_sync_period: config.min_sync_period,
        in_cluster: cluster.is_some(),
        ready_fd,
        telemetry,
    };
    follow.run(&received)
}

fn surroundings(
    config: &Config,
    servers: Servers,
    telemetry: &Arc<Telemetry>,
    in_cluster: bool,
) -> Surroundings {
    Surroundings {
        make: make_dataplane(config.mode),
        // The rule that keeps strangers from loopback addresses is there (spec §5.20).
        synced: Box::new(|settings| {
            if settings.localhost_node_ports {
                kernel_settings::route_localnet();
            }
        }),
        set_responders: Box::new(move |responders, addresses| servers.set_responders(responders, addresses)),
        telemetry: telemetry.clone(),
        sync_period: config.sync_period,
        in_cluster,
    }
}

/// The loop of the main thread.
struct Follow {
    proxy: Proxy,
    fit: Fit,
    mode: Mode,
    min_sync_period: Duration,
    in_cluster: bool,
    ready_fd: Option<i32>,
    telemetry: Arc<Telemetry>,
}

impl Follow {
    /// Brings what is received into force for as long as the process lives. Between the end of a commit and the next
    /// one at least `min_sync_period` passes; what comes meanwhile waits and goes into one transaction.
    fn run(&mut self, received: &Receiver) -> anyhow::Result<()> {
        let mut waiting = Batch::default();
        let mut not_before = Instant::now();
        let mut take_over = true;
        loop {
            let commit_at = (!waiting.is_empty()).then_some(not_before);
            let event = match self.proxy.next_tick().into_iter().chain(commit_at).min() {
                Some(due) => received.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => received.recv(),
            };
            let telemetry = self.telemetry.clone();
            let _turn = telemetry.health.turn();
            match event {
                Ok(first) => {
                    for event in std::iter::once(first).chain(received.try_iter()) {
                        self.take(event, &mut waiting)?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(anyhow!("all event sources have ended")),
            }
            if !waiting.is_empty() && not_before <= Instant::now() {
                self.proxy.observe(std::mem::take(&mut waiting));
                not_before = Instant::now() + self.min_sync_period;
            }
            self.proxy.tick();
            announce_ready(&self.proxy, &mut self.ready_fd)?;
            if take_over && self.proxy.in_force() {
                take_over = false;
                let (mode, chains, in_cluster) = (self.mode, self.proxy.iptables(), self.in_cluster);
                TakeOver { mode, chains, in_cluster }.start();
            }
        }
    }

    fn take(&mut self, event: Event, waiting: &mut Batch) -> anyhow::Result<()> {
        match event {
            Event::Observed(batch) => {
                self.fit.check(&batch)?;
                self.proxy.received(&batch);
                waiting.extend(batch);
            }
            // Who asked may have gone.
            Event::Asked(answer) => drop(answer.send(self.proxy.plans().cloned().collect())),
            Event::Lost(error) => return Err(error),
        }
        Ok(())
    }
}

/// The manifest source's options for these flags.
pub(crate) fn options(args: &ProxyArgs, read_only: bool) -> Options {
    Options {
        service_ranges: args.service_cluster_ip_range.clone(),
        node_port_range: args.service_node_port_range.clone(),
        ledger: Some(args.state_dir.join("allocations.json")),
        read_only,
    }
}

/// How to make the dataplane of a mode. A new mode is a line here and one in [`AVAILABLE`].
pub(crate) fn make_dataplane(mode: Mode) -> MakeDataplane {
    match mode {
        Mode::Nftables => Box::new(|settings| Ok(Box::new(Nftables::new(settings)?) as Box<dyn Dataplane>)),
        Mode::Iptables => Box::new(|settings| Ok(Box::new(Iptables::new(&settings)?) as Box<dyn Dataplane>)),
        Mode::Ipvs => Box::new(move |_| {
            Err(portolan_dataplane::Error::Unusable(format!("mode {mode} is not available in this version")))
        }),
    }
}

fn spawn(
    name: &str,
    events: &Sender,
    follow: impl FnOnce(&Sender) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let events = events.clone();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            if let Err(error) = follow(&events) {
                let _ = events.send(Event::Lost(error));
            }
        })
        .map(drop)
        .with_context(|| format!("starting the {name} thread"))
}

fn follow_manifests(manifests: &mut Manifests, events: &Sender) -> anyhow::Result<()> {
    loop {
        if let Some(update) = manifests.wait(None).context("following the manifests")? {
            log_problems(&update);
            events.send(Event::Observed(Batch::of_changes(update.changes, update.received)))?;
        }
    }
}

fn follow_addresses(watch: &addresses::Watch, events: &Sender) -> anyhow::Result<()> {
    let mut last = None;
    loop {
        match addresses::list() {
            Ok(mut now) => {
                now.sort_unstable();
                if last.as_ref() != Some(&now) {
                    events.send(Event::Observed(Batch::of_addresses(now.clone())))?;
                    last = Some(now);
                }
                watch.wait().context("listening for interface addresses")?;
            }
            Err(error) => {
                // A dump that raced with changes; the next attempt sees them all.
                debug!("listing interface addresses: {error}");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn log_problems(update: &Update) {
    for problem in update.new_problems.iter().take(LOGGED_PROBLEMS) {
        warn!("{problem}");
    }
    for problem in update.solved.iter().take(LOGGED_PROBLEMS) {
        info!("solved: {problem}");
    }
    let more = |count: usize| count.saturating_sub(LOGGED_PROBLEMS);
    let (new, solved) = (more(update.new_problems.len()), more(update.solved.len()));
    if new + solved > 0 {
        warn!("{new} more problems, and {solved} more that are solved; portolan check lists them");
    }
}

/// Tells whoever waits on `--ready-fd`, once, when all Services are in force.
fn announce_ready(proxy: &Proxy, ready_fd: &mut Option<i32>) -> anyhow::Result<()> {
    if !proxy.in_force() {
        return Ok(());
    }
    let Some(fd) = ready_fd.take() else { return Ok(()) };
    // SAFETY: the caller of the program passed this descriptor for us alone to use; it is taken once.
    let mut pipe = unsafe { std::fs::File::from_raw_fd(fd) };
    pipe.write_all(b"\n").with_context(|| format!("--ready-fd {fd}: is it open for writing?"))
}

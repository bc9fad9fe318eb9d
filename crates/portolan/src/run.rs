//! `portolan run`: follows a cluster, or a folder of manifests, and keeps the kernel to it until it is stopped.
//!
//! Threads wait, for objects, for interface addresses and for whoever asks; the main thread owns the proxy and
//! everything that changes. Stopping the process at any moment leaves the rules in force (spec §11.22).

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use portolan_config::Config;
use portolan_config::watch::ConfigFile;
use portolan_dataplane::{MODES, ModeDescriptor};
use portolan_netlink::rtnetlink::Changes;
use portolan_observe::servers::Servers;
use portolan_observe::{BuildInfo, Telemetry};
use portolan_service::{Family, ServicePlan};
use portolan_source::manifests::{Manifests, Options, Update};
use tracing::{debug, info, warn};

use crate::addresses;
use crate::batch::Batch;
use crate::cleanup::TakeOver;
use crate::cli::{ProxyArgs, RunArgs};
use crate::cluster::Cluster;
use crate::configuration::{self, Loaded};
use crate::describe::counted;
use crate::fit::Fit;
use crate::mailbox::{Receiver, Sender, mailbox};
use crate::proxy::{Proxy, Surroundings};
use crate::ready_fd::ReadyFd;
use crate::sole::{self, Holder, Sole, Taken};
use crate::this_node::{self, ThisNode};
use crate::{
    cleanup, cluster, forwarding, kernel_settings, logging, privileges, process_one, requirements, servers,
    signals,
};

/// A source that has nothing new says so this often.
const SOURCE_SAYS: Duration = Duration::from_secs(10);

/// Of the problems that one change of the manifests brings or solves so many are logged, the others
/// counted.
const LOGGED_PROBLEMS: usize = 100;

/// What the waiting threads report to the main one.
pub(crate) enum Event {
    Observed(Batch),
    /// Somebody wants to know all plans.
    Asked(mpsc::Sender<Vec<Arc<ServicePlan>>>),
    /// No other proxy works on this node any more.
    Alone(Sole),
    /// A thread cannot go on, or the process must not.
    Lost(anyhow::Error),
    /// Somebody wants the process to end.
    End,
}

/// Runs until it is asked to end, or does the one thing that flags ask for. Otherwise returns only errors that nothing can
/// be done about.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<()> {
    // Before anything else opens a descriptor, and before there is a second process that has it.
    let ready = args.ready_fd.map(ReadyFd::take).transpose()?;
    let ready = process_one::leave(ready)?;
    signals::end_on_panic();
    if let Some(form) = &args.version {
        return print_version(form);
    }
    let flags = &args.proxy.flags;
    one_source(args)?;
    let (loaded, file) = configuration::load(flags)?;
    let config = &loaded.config;
    logging::start(config.logging.verbosity, config.logging.format);
    configuration::log(&loaded.notes);
    if let Some(path) = flags.write_to() {
        return configuration::write(config, path);
    }
    if flags.cleanup == Some(true) {
        cleanup::own(|line| info!("{line}"))?;
        return cleanup::kube_proxy(|line| info!("{line}"));
    }
    let mode = mode(config)?;
    let name = this_node::name(config)?;
    info!("portolan {} for node {name}, mode {}", env!("CARGO_PKG_VERSION"), config.mode);
    if flags.init_only == Some(true) {
        apply_settings(args, config, mode);
        kernel_settings::apply_sysctls(&this_node::sysctls(mode, config));
        return Ok(());
    }
    requirements::check(args, config)?;
    forward(args, &loaded, mode, file, &name, ready)
}

/// The mode that is configured.
pub(crate) fn mode(config: &Config) -> anyhow::Result<&'static ModeDescriptor> {
    portolan_dataplane::named(config.mode.name()).ok_or_else(|| {
        let modes: Vec<&str> = MODES.iter().map(|mode| mode.name).collect();
        anyhow!(
            "mode {} is not available in this version: leave the mode empty or set {}",
            config.mode,
            modes.join(" or ")
        )
    })
}

/// On a host without a cluster, only what somebody asked for is changed.
fn apply_settings(args: &RunArgs, config: &Config, mode: &ModeDescriptor) {
    if args.manifests().is_none() || args.proxy.flags.file().is_some() {
        kernel_settings::apply(config);
    }
    for warning in (mode.warnings)() {
        warn!("{warning}");
    }
}

/// A folder of manifests stands in place of a cluster.
fn one_source(args: &RunArgs) -> anyhow::Result<()> {
    let flags = &args.proxy.flags;
    let kubeconfig = flags.kubeconfig.as_ref().is_some_and(|path| !path.as_os_str().is_empty());
    let master = flags.master.as_ref().is_some_and(|url| !url.is_empty());
    let other = [("--kubeconfig", kubeconfig), ("--master", master)].into_iter().find(|(_, given)| *given);
    match (args.manifests(), other) {
        (Some(_), Some((flag, _))) => bail!(
            "--manifests and {flag} exclude each other: objects come from the folder or from the cluster; leave one out"
        ),
        _ => Ok(()),
    }
}

fn print_version(form: &str) -> anyhow::Result<()> {
    match form {
        "true" => println!("Kubernetes v{} (Portolan)", env!("CARGO_PKG_VERSION")),
        "raw" => println!("{:#?}", BuildInfo::new(env!("CARGO_PKG_VERSION"))),
        other => bail!("--version={other}: give true or raw"),
    }
    Ok(())
}

/// Waits for its turn, then brings what the source says into force until it is asked to end.
fn forward(
    args: &RunArgs,
    loaded: &Loaded,
    mode: &'static ModeDescriptor,
    file: Option<ConfigFile>,
    name: &str,
    ready: Option<ReadyFd>,
) -> anyhow::Result<()> {
    let config = &loaded.config;
    let accepting = config.accept_forwarded;
    let build = BuildInfo::new(env!("CARGO_PKG_VERSION"));
    let telemetry = Arc::new(Telemetry::new(
        portolan_observe::Mode::named(mode.name),
        &Family::ALL,
        config.sync_period,
        &build,
    ));
    servers::tell_configuration(config, &telemetry.metrics);
    let (events, received) = mailbox();
    signals::end_on_signals(&events)?;
    let reported = Arc::new(OnceLock::new());
    // Threads that are started now shall not have what only the settings below need.
    let start_servers = || {
        privileges::without_unneeded(mode, accepting, || {
            servers::start(args, loaded, &build, &telemetry, &events, &reported)
        })
    };
    let (sole, mut servers) = match sole::take()? {
        Taken::Ours(sole) => (sole, None),
        Taken::Theirs(holder) => {
            // Its rules serve on. Whoever asks is answered why this one does nothing.
            warn!("{holder}");
            telemetry.health.set_waiting_for(Some(holder.to_string()));
            let servers = start_servers()?;
            let Some(sole) = until_alone(holder, &events, &received)? else { return Ok(()) };
            telemetry.health.set_waiting_for(None);
            (sole, Some(servers))
        }
    };
    let cluster = match args.manifests() {
        Some(_) => None,
        None => Some(privileges::without_unneeded(mode, accepting, || {
            cluster::follow(args, config, name, &telemetry, &events)
        })?),
    };
    if let Some(cluster) = &cluster {
        // Set once, here.
        let _ = reported.set(cluster.clone());
    }
    let servers = servers.take().map_or_else(start_servers, Ok)?;
    apply_settings(args, config, mode);
    if !accepting {
        forwarding::end();
    }
    privileges::drop_unneeded(mode, accepting);
    forwarding::start(accepting);
    cleanup::mark_for_calico(mode, args.calico_marker);
    sole.announce(&telemetry)?;
    let threads = Threads { args, config, mode, name, events: &events, telemetry: &telemetry };
    let mut follow = threads.start(file, cluster, servers, ready)?;
    follow.run(&received)
}

/// Waits until the other proxy has ended. `None` if this one is to end before.
fn until_alone(holder: Holder, events: &Sender, received: &Receiver) -> anyhow::Result<Option<Sole>> {
    spawn("waiting", events, move |events| {
        let sole = holder.wait()?;
        Ok(events.send(Event::Alone(sole))?)
    })?;
    loop {
        match received.recv()? {
            Event::Alone(sole) => {
                info!("the other portolan has ended: taking over");
                return Ok(Some(sole));
            }
            Event::End => return Ok(None),
            Event::Lost(error) => return Err(error),
            // Nothing is planned.
            Event::Asked(answer) => drop(answer.send(Vec::new())),
            Event::Observed(_) => {}
        }
    }
}

/// What the threads need that wait for things to happen.
struct Threads<'a> {
    args: &'a RunArgs,
    config: &'a Config,
    mode: &'static ModeDescriptor,
    name: &'a str,
    events: &'a Sender,
    telemetry: &'a Arc<Telemetry>,
}

impl Threads<'_> {
    /// Starts them. Returns the loop that takes what they observe.
    fn start(
        &self,
        file: Option<ConfigFile>,
        cluster: Option<Cluster>,
        servers: Servers,
        ready: Option<ReadyFd>,
    ) -> anyhow::Result<Follow> {
        let Threads { args, config, mode, name, events, telemetry } = *self;
        for counter in mode.counters {
            telemetry.metrics.count_packets(counter.metric, counter.help, counter.read);
        }
        let service_networks: &[_] =
            if args.manifests().is_some() { &args.proxy.service_cluster_ip_range } else { &[] };
        let mut node = ThisNode::new(name, mode, config, service_networks, kernel_settings::tcp_is_liberal());
        node.set_api_server(cluster.iter().filter_map(Cluster::api_server).collect());
        let mut changes = addresses::changes().context("listening for interface addresses")?;
        let addresses = Batch::of_addresses(addresses::list().context("listing interface addresses")?);
        let mut proxy = Proxy::new(node, surroundings(config, servers, telemetry, cluster.is_some()));
        proxy.observe(addresses);
        let mut follow = Follow {
            proxy,
            fit: Fit::new(config, name, cluster.is_some()),
            min_sync_period: config.min_sync_period,
            cluster,
            ready,
            telemetry: telemetry.clone(),
        };
        if let Some(folder) = args.manifests() {
            self.follow_folder(folder, &mut follow)?;
        }
        spawn("addresses", events, move |events| follow_addresses(&mut changes, events))?;
        if let Some(mut file) = file {
            let (flags, in_use) = (args.proxy.flags.clone(), config.clone());
            spawn("configuration", events, move |_| {
                configuration::until_changed(&flags, &in_use, &mut file)
            })?;
        }
        if let Some(cluster) = &follow.cluster {
            cluster.announce_start();
        }
        Ok(follow)
    }

    /// Brings what the folder says at present into force, and follows it from then on.
    fn follow_folder(&self, folder: &Path, follow: &mut Follow) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut manifests = Manifests::open(folder, options(&self.args.proxy, false))?;
        let first = manifests.load();
        log_problems(&first);
        let objects = counted(first.changes.len(), "object");
        info!("{}: {objects} read in {:.1?}", folder.display(), started.elapsed());
        let first = Batch::of_changes(first.changes, started);
        follow.fit.check(&first)?;
        follow.proxy.received(&first);
        follow.proxy.observe(first);
        follow.announce_ready()?;
        let telemetry = self.telemetry.clone();
        spawn("manifests", self.events, move |events| follow_manifests(&mut manifests, events, &telemetry))
    }
}

fn surroundings(
    config: &Config,
    servers: Servers,
    telemetry: &Arc<Telemetry>,
    in_cluster: bool,
) -> Surroundings {
    Surroundings {
        make: Box::new(|mode| mode.dataplane()),
        synced: Box::new(|mode| kernel_settings::apply_sysctls(&mode.sysctls())),
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
    min_sync_period: Duration,
    cluster: Option<Cluster>,
    ready: Option<ReadyFd>,
    telemetry: Arc<Telemetry>,
}

/// Whether the loop goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Continue,
    End,
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
                        if self.take(event, &mut waiting)? == Next::End {
                            return Ok(());
                        }
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
            self.announce_ready()?;
            if let Some(cluster) = self.cluster.as_ref().filter(|_| self.proxy.next_tick().is_some()) {
                cluster.tell_that_it_goes_on(&self.telemetry.health);
            }
            if take_over && self.proxy.in_force() {
                take_over = false;
                let (in_use, in_cluster) = (self.proxy.in_use(), self.cluster.is_some());
                TakeOver { in_use, in_cluster }.start();
            }
        }
    }

    fn take(&mut self, event: Event, waiting: &mut Batch) -> anyhow::Result<Next> {
        match event {
            Event::Observed(batch) => {
                self.fit.check(&batch)?;
                self.proxy.received(&batch);
                waiting.extend(batch);
            }
            // Who asked may have gone.
            Event::Asked(answer) => drop(answer.send(self.proxy.plans().cloned().collect())),
            Event::Lost(error) => return Err(error),
            Event::End => return Ok(Next::End),
            // There is no second wait.
            Event::Alone(_) => {}
        }
        Ok(Next::Continue)
    }

    /// Lets whoever waits on `--ready-fd` know, once, when all Services are in force.
    fn announce_ready(&mut self) -> anyhow::Result<()> {
        if !self.proxy.in_force() {
            return Ok(());
        }
        self.ready.take().map_or(Ok(()), ReadyFd::announce)
    }
}

/// The manifest source's options for these flags.
pub(crate) fn options(args: &ProxyArgs, read_only: bool) -> Options {
    Options {
        service_ranges: args.service_cluster_ip_range.clone(),
        node_port_range: args.service_node_port_range.clone(),
        ledger: (!args.state_dir.as_os_str().is_empty()).then(|| args.state_dir.join("allocations.json")),
        read_only,
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
                // The loop may have ended.
                let _ = events.send(Event::Lost(error));
            }
        })
        .map(drop)
        .with_context(|| format!("starting the {name} thread"))
}

fn follow_manifests(manifests: &mut Manifests, events: &Sender, telemetry: &Telemetry) -> anyhow::Result<()> {
    loop {
        telemetry.health.source_goes_on();
        if let Some(update) = manifests.wait(Some(SOURCE_SAYS)).context("following the manifests")? {
            log_problems(&update);
            events.send(Event::Observed(Batch::of_changes(update.changes, update.received)))?;
        }
    }
}

fn follow_addresses(changes: &mut Changes, events: &Sender) -> anyhow::Result<()> {
    let mut last = None;
    loop {
        match addresses::list() {
            Ok(mut now) => {
                now.sort_unstable();
                if last.as_ref() != Some(&now) {
                    events.send(Event::Observed(Batch::of_addresses(now.clone())))?;
                    last = Some(now);
                }
                changes.wait().context("listening for interface addresses")?;
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

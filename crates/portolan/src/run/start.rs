//! The order in which `portolan run` starts what it consists of.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use portolan_config::Config;
use portolan_config::watch::ConfigFile;
use portolan_dataplane::{ConfiguredMode, ModeDescriptor};
use portolan_observe::servers::Servers;
use portolan_observe::{BuildInfo, Telemetry};
use portolan_probe::Prober;
use portolan_service::Family;
use tracing::{error, info, warn};

use super::event_loop::EventLoop;
use crate::announcing::{Addresses, Announcing};
use crate::answers::Others;
use crate::batch::Batch;
use crate::cli::RunArgs;
use crate::cluster::{self, Cluster};
use crate::configuration::{self, Loaded};
use crate::consumers;
use crate::dns::on_node::{self, OnNode, Prepared};
use crate::event::Event;
use crate::feed::{Consumer, Feed};
use crate::mailbox::{Mail, Receiver, Sender, mailbox};
use crate::node_check::NodeCheck;
use crate::node_lock::{self, Holder, NodeLock, Taken};
use crate::probing::Probing;
use crate::proxy::{Proxy, Surroundings};
use crate::ready_fd::ReadyFd;
use crate::this_node::ThisNode;
use crate::threads::spawn;
use crate::wanted::Wanted;
use crate::{
    addresses, cleanup, forwarding, kernel_settings, manifests, privileges, probing, servers, signals,
    traffic,
};

/// So long do connections that the process has itself go on when it is to end. The next one begins
/// after that, unless it waits already.
const PATIENCE: Duration = Duration::from_secs(5);

/// Waits for its turn, then brings what the source says into force until it is asked to end.
pub(super) fn forward(
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
    let telemetry =
        Arc::new(Telemetry::new(config.mode, config.rules(), &Family::ALL, config.sync_period, &build));
    servers::record_configuration(config, &telemetry.metrics);
    let (events, received) = mailbox();
    let names = answered_names(args, &events)?;
    let prober = Prober::default();
    if args.probes() {
        probing::count(&prober, &telemetry.metrics);
    }
    signals::end_on_signals(&events, signals::Ending::of_proxy(PATIENCE))?;
    let reported = Arc::new(OnceLock::new());
    // Threads that are started now shall not have what only the settings below need.
    let start_servers = || {
        privileges::without_unneeded(mode, config, || {
            let names = names.as_ref().map(Prepared::names).unwrap_or_default();
            let counted = mode.traffic;
            let others = Others { counted, names, prober: prober.clone() };
            servers::start(args, loaded, &build, &telemetry, &events, &reported, others)
        })
    };
    let (mut lock, mut servers) = match node_lock::take()? {
        Taken::Ours(lock) => (lock, None),
        Taken::Theirs(holder) => {
            // Its rules serve on. Whoever asks is answered why this one does nothing.
            warn!("{holder}");
            telemetry.health.set_waiting_for(Some(holder.to_string()));
            let servers = start_servers()?;
            let Some(lock) = until_alone(holder, &events, &received)? else { return Ok(()) };
            telemetry.health.set_waiting_for(None);
            (lock, Some(servers))
        }
    };
    let in_cluster = args.manifests().is_none();
    let observed = consumers::of_observed(&events, name, in_cluster, &telemetry);
    let mut wanted = Wanted::for_rules(args, config, name);
    if let Some(names) = &names {
        (wanted.names, wanted.pods) = (true, names.wants_pods());
    }
    let cluster = if in_cluster {
        Some(privileges::without_unneeded(mode, config, || {
            cluster::follow(wanted, &telemetry, &observed, &events)
        })?)
    } else {
        None
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
    privileges::drop_unneeded(mode, config);
    forwarding::start(accepting);
    cleanup::mark_for_calico(mode, config, args.calico_marker);
    lock.announce(&telemetry)?;
    let parts =
        Parts { args, config, mode, name, events: &events, observed: &observed, telemetry: &telemetry };
    let (on_node, in_force) = parts.answer_names(names)?;
    let announcing = parts.announce(cluster.as_ref())?;
    let mut event_loop = parts.event_loop(cluster, servers, ready, in_force, announcing);
    event_loop.proxy.take_over(lock.take_over());
    parts.start_threads(file, prober)?;
    if let Some(cluster) = &event_loop.cluster {
        cluster.announce_start();
    }
    let ended = event_loop.run(&received);
    end(event_loop.proxy, lock, on_node);
    ended
}

/// Gives way to the next proxy. One that waits already gets the sockets of Service ports, and
/// serves while connections of this process go on.
fn end(mut proxy: Proxy, lock: NodeLock, mut on_node: Option<OnNode>) {
    proxy.end_announcing();
    if lock.is_waited_for() {
        if let Some(on_node) = on_node.take() {
            on_node.end();
        }
        // Where ports are taken, the next one tries again only after some seconds.
        proxy.end_servers();
        lock.hand_over(&proxy.sockets());
    }
    proxy.end(PATIENCE);
    if let Some(on_node) = on_node {
        on_node.end();
    }
}

/// The names that this node answers, if it does. A Corefile that cannot be used costs no rule: the
/// DNS Service answers until it can be.
fn answered_names(args: &RunArgs, events: &Sender<Event>) -> anyhow::Result<Option<Prepared>> {
    if !args.dns.dns {
        return Ok(None);
    }
    // A cluster says itself which its networks are.
    let networks: &[_] = if args.manifests().is_some() { &args.proxy.service_cluster_ip_range } else { &[] };
    match Prepared::load(&args.dns, networks) {
        Ok(names) => Ok(Some(names)),
        Err(error) => {
            error!("{error:#}; names are not answered on this node, and the DNS Service answers");
            let (args, networks) = (args.dns.clone(), networks.to_vec());
            spawn("corefile", events, move || on_node::until_usable(&args, &networks))?;
            Ok(None)
        }
    }
}

/// On a host without a cluster, only what somebody asked for is changed.
pub(super) fn apply_settings(args: &RunArgs, config: &Config, mode: &ModeDescriptor) {
    if args.manifests().is_none() || args.proxy.flags.file().is_some() {
        kernel_settings::apply(config);
    }
    for warning in (mode.warnings)() {
        warn!("{warning}");
    }
    if args.manifests().is_none() && !config.load_balancer.pools.is_empty() {
        warn!(
            "pools of load-balancer addresses have no effect in a cluster: its load balancer writes them into the \
             status of Services"
        );
    }
}

/// Waits until the other proxy has ended. `None` if this one is to end before.
fn until_alone(
    holder: Holder,
    events: &Sender<Event>,
    received: &Receiver<Event>,
) -> anyhow::Result<Option<NodeLock>> {
    let alone = events.clone();
    spawn("waiting", events, move || Ok(alone.send(Event::Alone(holder.wait()?))?))?;
    loop {
        match received.recv()? {
            Mail::Event(Event::Alone(lock)) => {
                info!("the other portolan has ended: taking over");
                return Ok(Some(lock));
            }
            Mail::Event(Event::End) => return Ok(None),
            Mail::Event(Event::Lost(error)) => return Err(error),
            // Nothing is planned.
            Mail::Event(Event::Asked(answer)) => drop(answer.send(Vec::new())),
            Mail::Event(Event::AddressesAsked(answer)) => drop(answer.send(Addresses::default())),
            Mail::Observed(_) => {}
        }
    }
}

/// What the parts of a running proxy are made from.
#[derive(Clone, Copy)]
struct Parts<'a> {
    args: &'a RunArgs,
    config: &'a Config,
    mode: &'static ModeDescriptor,
    name: &'a str,
    events: &'a Sender<Event>,
    /// Takes what the sources observe.
    observed: &'a Feed,
    telemetry: &'a Arc<Telemetry>,
}

impl Parts<'_> {
    /// The loop that takes what is observed.
    fn event_loop(
        self,
        cluster: Option<Cluster>,
        servers: Servers,
        ready: Option<ReadyFd>,
        in_force: Feed,
        announcing: Option<Announcing>,
    ) -> EventLoop {
        let Parts { args, config, mode, name, telemetry, .. } = self;
        for counter in mode.counters {
            telemetry.metrics.count_packets(counter.metric, counter.help, counter.read);
        }
        if let Some(open) = mode.traffic {
            telemetry.metrics.count_balanced(move || traffic::balanced(open));
        }
        let service_networks: &[_] =
            if args.manifests().is_some() { &args.proxy.service_cluster_ip_range } else { &[] };
        let mut node = ThisNode::new(name, mode, config, service_networks, kernel_settings::tcp_is_liberal());
        node.set_api_server(cluster.iter().filter_map(Cluster::api_server).collect());
        EventLoop {
            proxy: Proxy::new(node, surroundings(config, servers, telemetry, in_force, announcing)),
            node_check: NodeCheck::new(config, name, cluster.is_some()),
            min_sync_period: config.min_sync_period,
            cluster,
            ready,
            telemetry: telemetry.clone(),
        }
    }

    /// Who announces load-balancer addresses, if that is asked for.
    fn announce(self, cluster: Option<&Cluster>) -> anyhow::Result<Option<Announcing>> {
        let Parts { config, name, telemetry, .. } = self;
        let up_to_date: Box<dyn Fn() -> bool + Send> = match cluster.cloned() {
            Some(cluster) => Box::new(move || cluster.is_up_to_date()),
            None => Box::new(|| true),
        };
        Announcing::start(config, name, cluster.is_some(), up_to_date, &telemetry.metrics)
    }

    /// Has names answered on this node, if they are to be. Returns who takes what is in force.
    fn answer_names(self, names: Option<Prepared>) -> anyhow::Result<(Option<OnNode>, Feed)> {
        let Parts { name, events, telemetry, .. } = self;
        // Of a process that was killed.
        cleanup::local_routes(|line| info!("{line}"))
            .unwrap_or_else(|error| warn!("{error}; trying again with the next start"));
        let (on_node, consumers): (_, Vec<Box<dyn Consumer>>) = match names {
            None => (None, Vec::new()),
            Some(names) => {
                let (on_node, consumers) = names.start(name, telemetry, events)?;
                (Some(on_node), consumers)
            }
        };
        Ok((on_node, consumers::of_in_force(telemetry, consumers)))
    }

    /// Starts the threads that wait, for addresses, for files, for a changed configuration. What
    /// there is at present is observed before this returns.
    fn start_threads(self, file: Option<ConfigFile>, prober: Prober) -> anyhow::Result<()> {
        let Parts { args, config, events, observed, telemetry, .. } = self;
        let mut changes = addresses::changes().context("listening for interface addresses")?;
        observed.publish(&Batch::of_addresses(addresses::list().context("listing interface addresses")?));
        if let Some(folder) = args.manifests() {
            let probing = args.probes().then(|| Probing::new(prober));
            let options = manifests::options(&args.proxy, config, false);
            let mut folder = manifests::read(folder, options, probing, observed, telemetry)?;
            let (feed, telemetry) = (observed.clone(), telemetry.clone());
            spawn("manifests", events, move || folder.follow(&feed, &telemetry, || true))?;
        }
        let feed = observed.clone();
        spawn("addresses", events, move || addresses::follow(&mut changes, &feed))?;
        if let Some(mut file) = file {
            let (flags, in_use) = (args.proxy.flags.clone(), config.clone());
            spawn("configuration", events, move || configuration::until_changed(&flags, &in_use, &mut file))?;
        }
        Ok(())
    }
}

fn surroundings(
    config: &Config,
    servers: Servers,
    telemetry: &Arc<Telemetry>,
    in_force: Feed,
    announcing: Option<Announcing>,
) -> Surroundings {
    Surroundings {
        make: Box::new(ConfiguredMode::dataplane),
        synced: Box::new(|mode| kernel_settings::apply_sysctls(&mode.sysctls())),
        set_responders: Box::new(move |responders, addresses| servers.set_responders(responders, addresses)),
        telemetry: telemetry.clone(),
        sync_period: config.sync_period,
        in_force,
        announcing,
    }
}

//! Names answered on the node that the proxy runs on: what pods send to the cluster's DNS is
//! answered by this process, from the state that the rules are made from.
//!
//! `facts` is what that depends on, `controller` brings it about. Until all is known, and after any
//! failure, questions go to the DNS Service like other packets.

mod controller;
mod facts;

use std::collections::hash_map::RandomState;
use std::fmt::Write;
use std::hash::BuildHasher;
use std::sync::{Arc, RwLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ipnet::IpNet;
use portolan_corefile::Corefile;
use portolan_names::{Names, PodMode};
use portolan_observe::{BuildInfo, Telemetry};
use portolan_service::{Node, Service};
use tracing::error;

use self::controller::Controller;
use self::facts::{Facts, Watcher};
use super::answering::{Answering, Options};
use super::corefile::{self, Loaded, Source};
use super::metrics::Metrics;
use super::open_files;
use super::plan::Plan;
use crate::cli::NodeDnsArgs;
use crate::event;
use crate::feed::Consumer;
use crate::mailbox::{Mail, Receiver, Sender, mailbox};
use crate::names::NamesConsumer;
use crate::threads::spawn;

/// The port of the Service, and of the server blocks that are answered for.
const PORT: u16 = 53;
/// At the end, what is under way may take so long.
const END_WITHIN: Duration = Duration::from_millis(2500);
/// After a failure it is tried again after so long at first, and at most.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_mins(1);
/// After so long it is looked whether somebody else has removed anything.
const VERIFY: Duration = Duration::from_secs(10);

/// What happens to answering on the node.
enum Event {
    /// The DNS Service, as it is in force.
    Service(Option<Arc<Service>>),
    /// The Node of this node.
    Node(Node),
    /// All addresses on the node's interfaces.
    Interfaces(Vec<std::net::IpAddr>),
    /// One more of the names is complete.
    Synced,
    /// What another Corefile asks for.
    Plan(Box<Plan>),
    /// The end; whoever waits hears when it is reached.
    End(mpsc::Sender<()>),
}

/// Answering on the node, about to begin.
pub(crate) struct Prepared {
    args: NodeDnsArgs,
    own_networks: Vec<IpNet>,
    source: Source,
    loaded: Loaded,
    plan: Plan,
    names: Vec<Arc<RwLock<Names>>>,
}

impl Prepared {
    /// Reads the Corefile. Nobody else is asked for names of addresses in `own_networks`.
    pub(crate) fn load(args: &NodeDnsArgs, own_networks: &[IpNet]) -> anyhow::Result<Prepared> {
        let source = source(args);
        let mut loaded = source.load()?;
        let corefile = loaded.take()?;
        corefile::log_notices(&corefile);
        let (plan, names) = planned(&corefile, args, own_networks)?;
        let (args, own_networks) = (args.clone(), own_networks.to_vec());
        Ok(Prepared { args, own_networks, source, loaded, plan, names })
    }

    /// Pods are to be followed, for their names.
    pub(crate) fn wants_pods(&self) -> bool {
        self.plan.names.iter().any(|settings| settings.pods == PodMode::Verified)
    }

    /// The names of each server block that has some.
    pub(crate) fn names(&self) -> Vec<Arc<RwLock<Names>>> {
        self.names.clone()
    }

    /// Who takes what is in force, and has names answered on the node called `node` from then on.
    pub(crate) fn start(
        self,
        node: &str,
        telemetry: &Telemetry,
        events: &Sender<event::Event>,
    ) -> anyhow::Result<(OnNode, Vec<Box<dyn Consumer>>)> {
        let Prepared { args, own_networks, source, loaded, plan, names } = self;
        open_files::raise_limit();
        let metrics = Metrics::new(&BuildInfo::new(env!("CARGO_PKG_VERSION"))).context("metrics")?;
        let options = Options { threads: args.dns_threads, log_one_of: args.dns_log_one_of };
        let answering = Arc::new(Answering::new(options, Arc::new(metrics))?);
        let shown = answering.clone();
        telemetry.metrics.append(move || text_of_metrics(&shown));
        let (sender, received) = mailbox();
        let mut consumers: Vec<Box<dyn Consumer>> = Vec::new();
        for kept in &names {
            let (sender, metrics) = (sender.clone(), answering.metrics.clone());
            let mut known = false;
            let consumer = NamesConsumer::start(kept.clone(), move |names, triggers| {
                metrics.programmed(names, triggers);
                if !known && names.is_synced() {
                    known = true;
                    drop(sender.send(Event::Synced));
                }
            });
            consumers.push(Box::new(consumer.context("starting the names thread")?));
        }
        let watcher =
            Watcher { service: args.dns_service.clone(), node: node.into(), events: sender.clone() };
        consumers.push(Box::new(watcher));
        let follows = plan.reload && args.dns_conf.is_some();
        let more = args.dns_address.iter().copied().collect();
        if follows {
            let (to, replan) = (sender.clone(), Replan { args, own_networks, settings: plan.names.clone() });
            spawn("corefile", events, move || {
                corefile::follow(&source, loaded, |corefile| change(corefile, &replan, &to))
            })?;
        }
        let controller = Controller::new(answering, plan, names, more);
        spawn("node-dns", events, move || run(controller, &received))?;
        Ok((OnNode { events: sender }, consumers))
    }
}

/// What the server counts, and where it answers.
fn text_of_metrics(answering: &Answering) -> String {
    let mut text = answering.metrics.text(&answering.counts());
    text.push_str("# HELP portolan_dns_node_address Addresses that this node answers at; always 1\n");
    text.push_str("# TYPE portolan_dns_node_address gauge\n");
    for address in answering.addresses() {
        // Text takes all that is written.
        let _ = writeln!(text, "portolan_dns_node_address{{address=\"{}\"}} 1", address.ip());
    }
    text
}

/// Waits until the Corefile can be used, and then ends the process, to be started again with it.
pub(crate) fn until_usable(args: &NodeDnsArgs, own_networks: &[IpNet]) -> anyhow::Result<()> {
    let source = source(args);
    loop {
        let mut loaded = source.load()?;
        ensure!(
            loaded.take().and_then(|corefile| planned(&corefile, args, own_networks)).is_err(),
            "the Corefile can be used now; ending, to be started again with it"
        );
        loaded.wait().context("following the Corefile")?;
    }
}

/// How a Corefile becomes a plan.
struct Replan {
    args: NodeDnsArgs,
    own_networks: Vec<IpNet>,
    /// Of the names that there are.
    settings: Vec<portolan_names::Settings>,
}

fn source(args: &NodeDnsArgs) -> Source {
    Source::new(("--dns-conf", args.dns_conf.as_deref()), &args.cluster_domain, PORT)
}

/// What `corefile` asks for, and the names of each server block that has some, of which nothing is
/// known yet.
fn planned(
    corefile: &Corefile,
    args: &NodeDnsArgs,
    own_networks: &[IpNet],
) -> anyhow::Result<(Plan, Vec<Arc<RwLock<Names>>>)> {
    let plan = plan(corefile, args, own_networks)?;
    let named = |settings: &portolan_names::Settings| {
        let names = Names::new(settings.clone(), RandomState::new().hash_one(0))?;
        Ok(Arc::new(RwLock::new(names)))
    };
    let names = plan.names.iter().map(named).collect::<Result<_, portolan_names::Error>>();
    Ok((plan, names.context("--dns-conf: kubernetes")?))
}

/// What `corefile` asks for, as far as it is for the node: addresses and pages are not.
fn plan(corefile: &Corefile, args: &NodeDnsArgs, own_networks: &[IpNet]) -> anyhow::Result<Plan> {
    let mut corefile = corefile.clone();
    for block in &mut corefile.blocks {
        block.bind.clear();
        (block.health, block.ready, block.prometheus) = (None, None, None);
    }
    let plan = Plan::new(&corefile, &args.dns_allow_from, own_networks)?;
    ensure!(
        plan.zones_at(PORT).next().is_some(),
        "--dns-conf: no server block is for port {PORT}, which is the only one on a node: add one such as .:{PORT}"
    );
    Ok(plan)
}

/// Names are answered on the node.
pub(crate) struct OnNode {
    events: Sender<Event>,
}

impl OnNode {
    /// Gives what pods ask back to the DNS Service, and answers what has come.
    pub(crate) fn end(self) {
        let (ended, end) = mpsc::channel();
        if self.events.send(Event::End(ended)).is_ok() {
            // It ends when the thread does, too.
            let _ = end.recv_timeout(END_WITHIN);
        }
    }
}

/// Passes on what a changed Corefile asks for. One that needs other names ends the process. Returns
/// whether it is to be followed.
fn change(
    corefile: anyhow::Result<Corefile>,
    replan: &Replan,
    events: &Sender<Event>,
) -> anyhow::Result<bool> {
    let plan = match corefile.and_then(|corefile| plan(&corefile, &replan.args, &replan.own_networks)) {
        Ok(plan) => plan,
        Err(error) => {
            error!("the Corefile has changed, and cannot be used; going on as before: {error:#}");
            return Ok(true);
        }
    };
    ensure!(
        plan.names == replan.settings,
        "kubernetes or cache in the Corefile has changed; ending, to be started again with it"
    );
    let reload = plan.reload;
    // Whoever takes it ends with the process.
    let _ = events.send(Event::Plan(Box::new(plan)));
    Ok(reload)
}

/// A retry after this pause.
fn after(pause: Duration) -> (Instant, Duration) {
    (Instant::now() + pause, pause)
}

/// Does what events ask for, and tries again what fails.
fn run(mut controller: Controller, received: &Receiver<Event>) -> anyhow::Result<()> {
    let (mut facts, mut synced) = (Facts::default(), 0);
    let mut retry: Option<(Instant, Duration)> = None;
    loop {
        let until = retry.map_or(Instant::now() + VERIFY, |(at, _)| at);
        let mail = received.recv_timeout(until.saturating_duration_since(Instant::now()));
        let in_time = !matches!(mail, Err(mpsc::RecvTimeoutError::Timeout));
        match mail {
            Ok(Mail::Event(Event::Service(service))) => facts.service = service,
            Ok(Mail::Event(Event::Node(node))) => facts.node = Some(node),
            Ok(Mail::Event(Event::Interfaces(addresses))) => facts.interfaces = addresses,
            Ok(Mail::Event(Event::Synced)) => synced += 1,
            Ok(Mail::Event(Event::Plan(plan))) => controller.set_plan(*plan),
            Ok(Mail::Event(Event::End(ended))) => {
                controller.end();
                // Whoever asked may not wait any more.
                let _ = ended.send(());
                return Ok(());
            }
            Err(mpsc::RecvTimeoutError::Timeout) => controller.verify(),
            Ok(Mail::Observed(_)) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
        }
        retry = if controller.bring(&facts, synced) {
            None
        } else {
            match retry {
                // What else happens does not put it off.
                Some(due) if in_time => Some(due),
                Some((_, pause)) => Some(after((pause * 2).min(RETRY_MAX))),
                None => Some(after(RETRY)),
            }
        };
    }
}

//! The servers that answer whoever asks: load balancers, kubelet, Prometheus, `portolan get`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use portolan_config::{Config, Gate};
use portolan_observe::control::{Answered, AskProxy, Control, Query, Table};
use portolan_observe::rows::{endpoint_rows, service_rows};
use portolan_observe::servers::{self, Options, Server, Servers};
use portolan_observe::{BuildInfo, Feature, FeatureStage, Metrics, Telemetry};
use portolan_service::ServicePlan;
use tracing::{error, warn};

use crate::cli::RunArgs;
use crate::cluster::Cluster;
use crate::configuration::Loaded;
use crate::mailbox::Sender;
use crate::run::Event;

/// The proxy's loop answers within this time or is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Starts the servers that the configuration asks for.
pub(crate) fn start(
    args: &RunArgs,
    loaded: &Loaded,
    build: &BuildInfo,
    telemetry: &Arc<Telemetry>,
    events: &Sender,
    cluster: Option<&Cluster>,
) -> anyhow::Result<Servers> {
    let config = &loaded.config;
    let socket = &args.socket;
    let control =
        (!socket.as_os_str().is_empty()).then(|| Control { path: socket.clone(), ask: ask(events.clone()) });
    let (reported, events) = (cluster.cloned(), events.clone());
    let options = Options {
        healthz: config.healthz,
        metrics: Some(config.metrics),
        control,
        hard_fail: config.bind_address_hard_fail,
        mode: config.mode.name().to_owned(),
        component: "kube-proxy".to_owned(),
        configz: portolan_config::to_json(config),
        flags: args.proxy.flags.values().into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        build: build.clone(),
        profiling: config.enable_profiling,
        set_verbosity: None,
        before_scrape: Box::new(|_| {}),
        on_failure: Arc::new(move |failure| {
            if failure.server == Server::Control {
                // Without root there is no place for it; nothing else needs it.
                warn!("{failure}; `portolan get` will not find this proxy");
            } else if failure.fatal || failure.lasting {
                error!("{failure}");
            } else {
                // While one proxy gives way to another the port is still taken.
                warn!("{failure}");
            }
            if let Some(cluster) = reported.as_ref().filter(|_| !failure.lasting) {
                cluster.report(&failure);
            }
            if failure.fatal {
                let _ = events.send(Event::Lost(anyhow!("{failure}")));
            }
        }),
    };
    servers::start(options, telemetry.clone()).context("starting the servers")
}

/// Tells the metrics what is configured: which gates are open, and a hash by which nodes can be compared.
pub(crate) fn tell_configuration(config: &Config, metrics: &Metrics) {
    for gate in Gate::ALL {
        metrics.feature(&Feature {
            name: gate.name().to_owned(),
            stage: match gate.stage() {
                "ALPHA" => FeatureStage::Alpha,
                "BETA" => FeatureStage::Beta,
                "DEPRECATED" => FeatureStage::Deprecated,
                _ => FeatureStage::Stable,
            },
            enabled: config.enabled(gate),
        });
    }
    let mut hasher = DefaultHasher::new();
    portolan_config::write(config).hash(&mut hasher);
    metrics.config(&format!("{:016x}", hasher.finish()));
}

/// Asks the proxy's loop for what is in force.
fn ask(events: Sender) -> AskProxy {
    let events = std::sync::Mutex::new(events);
    Arc::new(move |query| {
        let (answer, answered) = mpsc::channel();
        let events = events.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if events.send(Event::Asked(answer)).is_err() {
            return Answered::Unavailable("the proxy is ending".to_owned());
        }
        match answered.recv_timeout(ANSWER_WITHIN) {
            Ok(plans) => rows(&query, plans),
            Err(_) => Answered::Unavailable(format!("the proxy was busy for {ANSWER_WITHIN:?}; ask again")),
        }
    })
}

fn rows(query: &Query, mut plans: Vec<Arc<ServicePlan>>) -> Answered {
    if let Some(namespace) = &query.namespace {
        plans.retain(|plan| plan.name.namespace() == namespace);
    }
    plans.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    match query.table {
        Table::Services => Answered::Services(plans.iter().flat_map(|plan| service_rows(plan)).collect()),
        Table::Endpoints => Answered::Endpoints(plans.iter().flat_map(|plan| endpoint_rows(plan)).collect()),
        Table::Changes | Table::Status => {
            Answered::Unavailable("not for the proxy's loop to answer".to_owned())
        }
    }
}

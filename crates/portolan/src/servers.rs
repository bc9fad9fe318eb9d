//! The servers that answer whoever asks: load balancers, kubelet, Prometheus, `portolan get`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, anyhow};
use portolan_config::{Config, Gate};
use portolan_observe::servers::{self, ControlSocket, Options, Server, Servers};
use portolan_observe::{BuildInfo, Feature, FeatureStage, Metrics, Telemetry};
use tracing::{error, warn};

use crate::answers::{self, Others};
use crate::cli::RunArgs;
use crate::cluster::Cluster;
use crate::configuration::Loaded;
use crate::event::Event;
use crate::logging;
use crate::mailbox::Sender;

/// Starts the servers that the configuration asks for.
pub(crate) fn start(
    args: &RunArgs,
    loaded: &Loaded,
    build: &BuildInfo,
    telemetry: &Arc<Telemetry>,
    events: &Sender<Event>,
    cluster: &Arc<OnceLock<Cluster>>,
    others: Others,
) -> anyhow::Result<Servers> {
    let config = &loaded.config;
    let socket = &args.socket;
    let control = (!socket.as_os_str().is_empty()).then(|| ControlSocket {
        paths: vec![socket.clone()],
        ask: answers::of_proxy(events.clone(), others),
    });
    let (reported, events) = (cluster.clone(), events.clone());
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
        set_verbosity: Arc::new(logging::set_verbosity),
        on_failure: Arc::new(move |failure| {
            if failure.server == Server::ControlSocket {
                // Without root there is no place for it; nothing else needs it.
                warn!("{failure}; `portolan get` will not find this proxy");
            } else if failure.fatal || failure.lasting {
                error!("{failure}");
            } else {
                // While one proxy gives way to another the port is still taken.
                warn!("{failure}");
            }
            if let Some(cluster) = reported.get().filter(|_| !failure.lasting) {
                cluster.report(&failure);
            }
            if failure.fatal {
                let _ = events.send(Event::Lost(anyhow!("{failure}")));
            }
        }),
    };
    servers::start(options, telemetry.clone()).context("starting the servers")
}

/// Records in the metrics what is configured: which gates are open, and a hash by which nodes can
/// be compared.
pub(crate) fn record_configuration(config: &Config, metrics: &Metrics) {
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

//! The cluster as the source of objects, and as the place to report to.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use portolan_config::Config;
use portolan_kubernetes::{Event as ClusterEvent, Options, Origin, Regarding, Source, Update};
use portolan_observe::servers::{Server, ServerFailure};
use portolan_observe::{Telemetry, View};
use tracing::{info, warn};

use crate::batch::Batch;
use crate::cli::RunArgs;
use crate::run::Event;

/// The cluster that is being followed.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    source: Arc<Source>,
    node: Arc<str>,
}

/// Follows the cluster that the configuration names. What changes goes to `events`.
pub(crate) fn follow(
    args: &RunArgs,
    config: &Config,
    node: &str,
    telemetry: &Arc<Telemetry>,
    events: &Sender<Event>,
) -> anyhow::Result<Cluster> {
    let node: Arc<str> = node.into();
    let options = Options {
        kubeconfig: config.client.kubeconfig.clone(),
        master: args.proxy.flags.master.clone(),
        qps: config.client.qps,
        burst: config.client.burst,
        node_name: node.clone(),
        snapshot: snapshot(args),
    };
    let (events, told) = (events.clone(), telemetry.clone());
    let mut first = true;
    let source = portolan_kubernetes::start(options, move |update| {
        let telemetry = &told;
        if std::mem::take(&mut first) || update.origin != Origin::Change {
            announce(&update);
        }
        if let Origin::Snapshot { taken } = update.origin {
            telemetry.health.set_view(View::Snapshot { taken });
        }
        for problem in &update.problems {
            let portolan_kubernetes::Problem { kind, name, message } = problem;
            warn!("{kind} {name}: {message}; what was known of it stays");
            telemetry.metrics.undecodable(problem.kind);
        }
        // The main thread lives as long as the process.
        let _ = events.send(Event::Observed(batch(update)));
    })?;
    let status = source.status();
    telemetry.health.set_view(View::Live { age: Arc::new(move || status.age()) });
    Ok(Cluster { source: Arc::new(source), node })
}

fn snapshot(args: &RunArgs) -> Option<PathBuf> {
    let folder = &args.proxy.state_dir;
    (!folder.as_os_str().is_empty()).then(|| folder.join("cluster.snapshot"))
}

fn announce(update: &Update) {
    let count = update.changes.len();
    match update.origin {
        Origin::Snapshot { taken } => warn!(
            "the API server has not answered: forwarding for the cluster as it was {:.0?} ago, {count} objects from the snapshot",
            taken.elapsed().unwrap_or_default()
        ),
        Origin::Initial => info!(
            "the cluster's first state is complete: {count} objects, read in {:.1?}",
            update.received.elapsed()
        ),
        Origin::Change => {}
    }
}

fn batch(update: Update) -> Batch {
    let mut batch = Batch::of_changes(update.changes, update.received);
    batch.service_networks = update.service_networks;
    batch.triggers = update.triggers;
    batch
}

impl Cluster {
    /// Reports that the proxy starts (spec §11.20).
    pub(crate) fn announce_start(&self) {
        self.source.publish(ClusterEvent {
            regarding: Regarding::Node,
            warning: false,
            reason: "Starting",
            action: "StartKubeProxy",
            note: String::new(),
        });
    }

    /// Reports a server that could not be started (spec §11.20).
    pub(crate) fn report(&self, failure: &ServerFailure) {
        let (regarding, reason, action) = match &failure.server {
            Server::Healthz => (Regarding::Node, "FailedToStartProxierHealthcheck", "StartKubeProxy"),
            Server::Metrics => (Regarding::Node, "FailedToStartMetricServer", "StartKubeProxy"),
            Server::HealthCheck(service) => {
                (Regarding::Service(service.clone()), "FailedToStartServiceHealthcheck", "Listen")
            }
            Server::Control => return,
        };
        let note = failure.service_event_note(&self.node).unwrap_or_else(|| failure.to_string());
        self.source.publish(ClusterEvent { regarding, warning: true, reason, action, note });
    }
}

//! The cluster as the source of objects, and as the place to report to.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::anyhow;
use portolan_kubernetes::{
    Event as ClusterEvent, Followed, Observation, Options, Origin, Regarding, Source, Status, Update,
};
use portolan_observe::servers::{Server, ServerFailure};
use portolan_observe::{ApiClient, Health, Telemetry, View};
use tracing::{info, warn};

use crate::batch::Batch;
use crate::describe::counted;
use crate::event::Event;
use crate::feed::Feed;
use crate::mailbox::Sender;
use crate::wanted::Wanted;

/// The thread that follows the API server comes by more often than this.
const SOURCE_IS_STUCK: Duration = Duration::from_secs(20);

/// Whoever has not heard from the API server for so long has lost it.
const OUT_OF_DATE: Duration = Duration::from_secs(90);

/// The cluster that is being followed.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    source: Arc<Source>,
    node: Arc<str>,
}

/// Follows what is `wanted`. What changes is handed to `observed`.
pub(crate) fn follow(
    wanted: Wanted,
    telemetry: &Arc<Telemetry>,
    observed: &Feed,
    events: &Sender<Event>,
) -> anyhow::Result<Cluster> {
    let Wanted { node_object, names, pods, node, .. } = wanted;
    let options = Options {
        kubeconfig: wanted.kubeconfig,
        master: wanted.master,
        qps: wanted.qps,
        burst: wanted.burst,
        node_name: node.clone(),
        followed: Followed { node: node_object, names, pods },
        snapshot: wanted.snapshot,
    };
    let (observed, record) = (observed.clone(), telemetry.clone());
    let status: Arc<OnceLock<Arc<Status>>> = Arc::default();
    let age = status.clone();
    let live = move || {
        let age = age.clone();
        View::Live { age: Arc::new(move || age.get()?.age()) }
    };
    telemetry.health.set_view(live());
    let ended = Ended(events.clone());
    let source = portolan_kubernetes::start(options, move |update| {
        // Dropped with this closure, when the thread ends.
        let _ = &ended;
        announce(&update);
        match update.origin {
            Origin::Snapshot { taken } => record.health.set_view(View::Snapshot { taken }),
            Origin::Initial => record.health.set_view(live()),
            Origin::Change => {}
        }
        for problem in &update.problems {
            let portolan_kubernetes::Problem { kind, name, message } = problem;
            warn!("{kind} {name}: {message}; what was known of it stays");
            record.metrics.undecodable(kind);
        }
        observed.publish(&batch(update));
    })?;
    let (metrics, host) = (telemetry.clone(), source.status().report().host);
    source.status().on_observation(move |observation| {
        count(&metrics.metrics.api_client, &host, observation);
    });
    // Set once, here.
    let _ = status.set(source.status());
    Ok(Cluster { source: Arc::new(source), node })
}

/// Counts what happened to requests to the API server at `host`.
fn count(metrics: &ApiClient, host: &str, observation: &Observation) {
    match *observation {
        Observation::Limited { method, took } => metrics.limited(host, method, took),
        Observation::Request { method, code, took, length } => {
            metrics.requested(host, method, code, took, length);
        }
        Observation::Answer { method, length } => metrics.answered(host, method, length),
        Observation::Retried { method, code } => metrics.retried(host, method, code),
        Observation::Resolved { took } => metrics.resolved(host, took),
        Observation::Plugin { code, outcome } => metrics.plugin_called(code, outcome),
        Observation::Certificate { until, replaced_after } => {
            metrics.certificate_given(until, replaced_after);
        }
        Observation::Transport => metrics.transport_made(),
    }
}

/// Ends the process when the thread that has this ends: nothing would be followed any more.
struct Ended(Sender<Event>);

impl Drop for Ended {
    fn drop(&mut self) {
        // The loop may have ended, too.
        let _ = self.0.send(Event::Lost(anyhow!("the thread that follows the API server has ended")));
    }
}

fn announce(update: &Update) {
    let objects = counted(update.changes.len(), "object");
    match update.origin {
        Origin::Snapshot { taken } => warn!(
            "the API server has not answered: forwarding for the cluster as it was {:.0?} ago, {objects} from the snapshot",
            taken.elapsed().unwrap_or_default()
        ),
        Origin::Initial => info!(
            "the cluster's first state is complete: {objects}, read in {:.1?}",
            update.received.elapsed()
        ),
        Origin::Change => {}
    }
}

fn batch(update: Update) -> Batch {
    let mut batch = Batch::of_changes(update.changes, update.received);
    batch.names = update.names;
    batch.names_complete = update.names_complete;
    batch.service_networks = update.service_networks;
    batch.triggers = update.triggers;
    batch
}

impl Cluster {
    /// Has `health` know whether the thread that follows the API server still does.
    pub(crate) fn report_progress(&self, health: &Health) {
        if self.source.last_turn().elapsed() < SOURCE_IS_STUCK {
            health.source_goes_on();
        }
    }

    /// Whether what is known of Services and endpoints is up to date, as far as can be known
    /// without asking: the API server says something once a minute at least.
    pub(crate) fn is_up_to_date(&self) -> bool {
        self.source.status().age().is_some_and(|age| age < OUT_OF_DATE)
    }

    /// The address at which the API server is reached, if it is not a name.
    pub(crate) fn api_server(&self) -> Option<IpAddr> {
        let host = self.source.status().report().host;
        let address = host.parse::<SocketAddr>().map(|socket| socket.ip());
        address.or_else(|_| host.trim_matches(['[', ']']).parse()).ok()
    }

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
                let service = Regarding::Service { name: service.clone(), uid: None };
                (service, "FailedToStartServiceHealthcheck", "Listen")
            }
            Server::ControlSocket => return,
        };
        let note = failure.service_event_note(&self.node).unwrap_or_else(|| failure.to_string());
        self.source.publish(ClusterEvent { regarding, warning: true, reason, action, note });
    }
}

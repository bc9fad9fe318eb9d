//! What a service proxy shows of itself: its health, its metrics, its last changes and its live
//! table, and the servers that answer questions about them.
//!
//! The proxy's loop records in a [`Telemetry`] what happens. The threads of [`servers`] answer from
//! it: load balancers, kubelet, Prometheus, people. Nothing flows back into the loop.
//!
//! "spec §" means the behaviour of kube-proxy 1.36, clause by clause.

mod build_info;
mod changes;
pub mod control;
mod health;
mod metrics;
pub mod rows;
pub mod servers;
pub mod timestamp;

use std::time::Duration;

use portolan_config::Mode;
use portolan_service::Family;

pub use build_info::BuildInfo;
pub use changes::{ChangeLog, Transaction};
pub use health::{Age, Eligibility, Health, Trouble, Turn, View};
use metrics::HealthCheck;
pub use metrics::{
    Announcements, ApiClient, BalancedPort, Commit, Feature, FeatureStage, Metrics, Probes, ProbesOfKind,
    RelayedPort, RelayedPorts, Totals,
};

/// What is known of the running proxy. Shared between its loop, which records, and the servers,
/// which are asked.
#[derive(Debug)]
pub struct Telemetry {
    /// The metrics.
    pub metrics: Metrics,
    /// The health.
    pub health: Health,
    /// The last changes.
    pub changes: ChangeLog,
}

impl Telemetry {
    /// The telemetry of a proxy that has done nothing yet, in `mode` with rules as `rules` has
    /// them, for `families`, with `syncPeriod` as configured.
    pub fn new(
        mode: Mode,
        rules: Mode,
        families: &[Family],
        sync_period: Duration,
        build: &BuildInfo,
    ) -> Telemetry {
        Telemetry {
            metrics: Metrics::new(mode, rules, families, build),
            health: Health::new(families, sync_period),
            changes: ChangeLog::new(),
        }
    }

    /// The metrics as Prometheus reads them, with those that change by themselves as they are now.
    pub fn metrics_text(&self) -> String {
        self.metrics.view(&self.health.view());
        self.metrics.problems(self.health.problems());
        self.metrics.text()
    }

    /// The health checks as service level indicators, as Prometheus reads them: filled from the
    /// first scrape on.
    pub(crate) fn slis_text(&self) -> String {
        self.metrics.slis_text(|check| match check {
            HealthCheck::Healthz => self.health.healthz().0.as_u16(),
            HealthCheck::Livez => self.health.livez().0.as_u16(),
        })
    }
}

//! Our own metrics: what kube-proxy's do not show.

use std::time::Duration;

use portolan_service::Family;
use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::kube_proxy::gauge_value;
use super::register::{Register, doubling};
use super::{Commit, Totals};
use crate::BuildInfo;
use crate::health::View;

/// The kinds of objects that may not decode, in a cluster or in manifests. They are counted from 0,
/// so that an alert sees the first one. What has no kind that could be read is `unknown`.
const UNDECODABLE: [&str; 8] =
    ["Service", "EndpointSlice", "Node", "ServiceCIDR", "Endpoints", "Pod", "Namespace", "unknown"];

pub(super) struct Own {
    event_to_commit: Histogram,
    commits: IntCounterVec,
    kernel_operations: IntCounter,
    repairs: IntCounter,
    refused_services: IntGauge,
    problems: IntGauge,
    oversized_services: IntGauge,
    undecodable: IntCounterVec,
    services: IntGauge,
    endpoints: IntGaugeVec,
    frontends: IntGaugeVec,
    view_age: Gauge,
    snapshot_in_use: IntGauge,
    config: IntGaugeVec,
}

impl Own {
    pub(super) fn register(registry: &Registry, families: &[Family], build: &BuildInfo) -> Own {
        let register = Register { registry, prefix: "portolan" };
        let per_family = |name: &str, help: &str| {
            let gauges = register.int_gauges(name, help, &["ip_family"]);
            for family in families {
                gauges.with_label_values(&[&family.to_string()]);
            }
            gauges
        };
        register
            .int_gauges("build_info", "What was built; always 1", &["version", "commit", "platform"])
            .with_label_values(&[
                build.git_version.trim_start_matches('v'),
                &build.git_commit,
                &build.platform,
            ])
            .set(1);
        let commits = register.int_counters("commits_total", "Kernel transactions", &["extent", "result"]);
        for extent in ["full", "partial"] {
            for result in ["ok", "error"] {
                commits.with_label_values(&[extent, result]);
            }
        }
        let undecodable = register.int_counters(
            "undecodable_objects_total",
            "Objects that were skipped because they do not decode",
            &["kind"],
        );
        for kind in UNDECODABLE {
            undecodable.with_label_values(&[kind]);
        }
        Own {
            event_to_commit: register.histogram(
                "event_to_commit_seconds",
                "From the receipt of a change to its rules being in force, in seconds",
                doubling(0.0001, 20),
            ),
            commits,
            kernel_operations: register
                .int_counter("kernel_operations_total", "Rules and set elements written or removed"),
            repairs: register
                .int_counter("repairs_total", "Changes of our rules by somebody else that were put right"),
            refused_services: register
                .int_gauge("refused_services", "Services whose rules the kernel refuses"),
            oversized_services: register.int_gauge(
                "oversized_services",
                "Services that are not served because each alone asks for too many kernel elements",
            ),
            problems: register.int_gauge(
                "problems",
                "Things asked for by Services, or in manifests, that cannot be honoured; the log names them",
            ),
            undecodable,
            services: register.int_gauge("services", "Services in force"),
            endpoints: per_family("endpoints", "Endpoints in force, once for each Service port"),
            frontends: per_family("frontends", "Addresses and ports in force that clients connect to"),
            view_age: register.gauge(
                "view_age_seconds",
                "How long ago the objects in force were known to be up to date; 0 for files",
            ),
            snapshot_in_use: register.int_gauge(
                "snapshot_in_use",
                "1 while the objects come from before the last start because no API server has been reached",
            ),
            config: register.int_gauges("config_info", "The configuration in use; always 1", &["hash"]),
        }
    }

    pub(super) fn committed(&self, commit: &Commit, operations: usize) {
        self.commits.with_label_values(&[extent(commit), "ok"]).inc();
        self.kernel_operations.inc_by(operations as u64);
    }

    pub(super) fn commit_failed(&self, commit: &Commit) {
        self.commits.with_label_values(&[extent(commit), "error"]).inc();
    }

    pub(super) fn event_to_commit(&self, took: Duration) {
        self.event_to_commit.observe(took.as_secs_f64());
    }

    pub(super) fn repaired(&self) {
        self.repairs.inc();
    }

    pub(super) fn refused_services(&self, count: usize) {
        self.refused_services.set(gauge_value(count));
    }

    pub(super) fn oversized_services(&self, count: usize) {
        self.oversized_services.set(gauge_value(count));
    }

    pub(super) fn problems(&self, count: usize) {
        self.problems.set(gauge_value(count));
    }

    pub(super) fn undecodable(&self, kind: &str) {
        self.undecodable.with_label_values(&[kind]).inc();
    }

    pub(super) fn totals(&self, totals: &Totals, families: &[Family]) {
        self.services.set(gauge_value(totals.services));
        for family in families {
            let label = family.to_string();
            self.endpoints.with_label_values(&[&label]).set(gauge_value(*totals.endpoints.get(*family)));
            self.frontends.with_label_values(&[&label]).set(gauge_value(*totals.frontends.get(*family)));
        }
    }

    pub(super) fn config(&self, hash: &str) {
        self.config.reset();
        self.config.with_label_values(&[hash]).set(1);
    }

    pub(super) fn view(&self, view: &View) {
        self.view_age.set(view.age().unwrap_or(Duration::ZERO).as_secs_f64());
        self.snapshot_in_use.set(i64::from(view.is_snapshot()));
    }
}

fn extent(commit: &Commit) -> &'static str {
    if commit.full { "full" } else { "partial" }
}

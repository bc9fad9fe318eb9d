//! kube-proxy's own metrics, name by name and bucket by bucket (spec §11.16).

mod of_mode;

use std::time::{Duration, SystemTime};

use portolan_config::Mode;
use portolan_service::Family;
use prometheus::{GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use self::of_mode::OfMode;
use super::Commit;
use super::register::{Register, doubling};
use crate::timestamp::unix_seconds;

const FAMILY: &str = "ip_family";
const POLICIES: [&str; 2] = ["internal", "external"];

pub(super) struct KubeProxy {
    sync: HistogramVec,
    last_sync: GaugeVec,
    last_queued: GaugeVec,
    network_programming: HistogramVec,
    endpoint_changes_pending: IntGauge,
    endpoint_changes: IntCounter,
    service_changes_pending: IntGauge,
    service_changes: IntCounter,
    no_local_endpoints: IntGaugeVec,
    conntrack_sync: HistogramVec,
    conntrack_deleted: IntCounterVec,
    healthz: IntCounterVec,
    livez: IntCounterVec,
    of_mode: OfMode,
}

/// Makes metrics with a label for the address family, which begin at zero for each family.
struct ByFamily<'a> {
    register: &'a Register<'a>,
    families: &'a [Family],
}

impl ByFamily<'_> {
    fn histograms(&self, name: &str, help: &str, buckets: Vec<f64>) -> HistogramVec {
        let histograms = self.register.histograms(name, help, buckets, &[FAMILY]);
        for family in self.families {
            histograms.with_label_values(&[&family.to_string()]);
        }
        histograms
    }

    /// How long something took.
    fn durations(&self, name: &str, help: &str) -> HistogramVec {
        self.histograms(name, help, doubling(0.001, 15))
    }

    fn counters(&self, name: &str, help: &str) -> IntCounterVec {
        let counters = self.register.int_counters(name, help, &[FAMILY]);
        for family in self.families {
            counters.with_label_values(&[&family.to_string()]);
        }
        counters
    }
}

impl KubeProxy {
    pub(super) fn register(registry: &Registry, mode: Mode, families: &[Family]) -> KubeProxy {
        let register = Register { registry, prefix: "kubeproxy" };
        let by_family = ByFamily { register: &register, families };
        let codes = |name: &str, help: &str| {
            let counters = register.int_counters(name, help, &["code"]);
            for code in ["200", "503"] {
                counters.with_label_values(&[code]);
            }
            counters
        };
        KubeProxy {
            sync: by_family.durations("sync_proxy_rules_duration_seconds", "How long commits took, in seconds"),
            last_sync: register.gauges(
                "sync_proxy_rules_last_timestamp_seconds",
                "When the last commit succeeded, in seconds since 1970",
                &[FAMILY],
            ),
            last_queued: register.gauges(
                "sync_proxy_rules_last_queued_timestamp_seconds",
                "When a commit was last asked for, in seconds since 1970",
                &[FAMILY],
            ),
            network_programming: by_family.histograms(
                "network_programming_duration_seconds",
                "From a change of endpoints, as their last-change-trigger-time has it, to its rules being in force",
                network_programming_buckets(),
            ),
            endpoint_changes_pending: register.int_gauge(
                "sync_proxy_rules_endpoint_changes_pending",
                "Changes of EndpointSlices that are not in force yet",
            ),
            endpoint_changes: register
                .int_counter("sync_proxy_rules_endpoint_changes_total", "Changes of EndpointSlices received"),
            service_changes_pending: register.int_gauge(
                "sync_proxy_rules_service_changes_pending",
                "Changes of Services that are not in force yet",
            ),
            service_changes: register.int_counter(
                "sync_proxy_rules_service_changes_total",
                "Changes of Services received, once for each address family",
            ),
            no_local_endpoints: register.int_gauges(
                "sync_proxy_rules_no_local_endpoints_total",
                "Service ports with a Local traffic policy and endpoints, but none on this node",
                &["traffic_policy", FAMILY],
            ),
            conntrack_sync: by_family.durations(
                "conntrack_reconciler_sync_duration_seconds",
                "How long looking for stale connection tracking entries took, in seconds",
            ),
            conntrack_deleted: by_family.counters(
                "conntrack_reconciler_deleted_entries_total",
                "Stale connection tracking entries removed",
            ),
            healthz: codes("proxy_healthz_total", "Answers of /healthz by status code"),
            livez: codes("proxy_livez_total", "Answers of /livez by status code"),
            of_mode: OfMode::register(&by_family, mode),
        }
    }

    pub(super) fn queued(&self, family: Family, at: SystemTime) {
        self.last_queued.with_label_values(&[&family.to_string()]).set(unix_seconds(at));
    }

    pub(super) fn synced(&self, family: Family, commit: &Commit) {
        for histograms in std::iter::once(&self.sync).chain(self.of_mode.sync(commit.full)) {
            histograms.with_label_values(&[&family.to_string()]).observe(commit.took.as_secs_f64());
        }
    }

    pub(super) fn last_synced(&self, family: Family, at: SystemTime) {
        self.last_sync.with_label_values(&[&family.to_string()]).set(unix_seconds(at));
    }

    pub(super) fn failed(&self, family: Family, full: bool) {
        self.of_mode.failed(family, full);
    }

    pub(super) fn cleanup_failed(&self, family: Family) {
        self.of_mode.cleanup_failed(family);
    }

    pub(super) fn network_programming(&self, family: Family, took: Duration) {
        self.network_programming.with_label_values(&[&family.to_string()]).observe(took.as_secs_f64());
    }

    pub(super) fn service_changes(&self, count: usize) {
        self.service_changes.inc_by(count as u64);
    }

    pub(super) fn endpoint_changes(&self, count: usize) {
        self.endpoint_changes.inc_by(count as u64);
    }

    pub(super) fn changes_pending(&self, services: usize, endpoints: usize) {
        self.service_changes_pending.set(gauge_value(services));
        self.endpoint_changes_pending.set(gauge_value(endpoints));
    }

    pub(super) fn no_local_endpoints(&self, family: Family, internal: usize, external: usize) {
        for (policy, count) in POLICIES.into_iter().zip([internal, external]) {
            self.no_local_endpoints.with_label_values(&[policy, &family.to_string()]).set(gauge_value(count));
        }
    }

    pub(super) fn conntrack_reconciled(&self, family: Family, removed: usize, took: Duration) {
        let family = family.to_string();
        self.conntrack_sync.with_label_values(&[&family]).observe(took.as_secs_f64());
        self.conntrack_deleted.with_label_values(&[&family]).inc_by(removed as u64);
    }

    pub(super) fn iptables_rules(&self, family: Family, table: &str, total: usize, last: usize) {
        self.of_mode.iptables_rules(family, table, total, last);
    }

    pub(super) fn healthz_answered(&self, code: u16) {
        self.healthz.with_label_values(&[&code.to_string()]).inc();
    }

    pub(super) fn livez_answered(&self, code: u16) {
        self.livez.with_label_values(&[&code.to_string()]).inc();
    }
}

/// A quarter and half a second; each second of the first minute; every 5 of the second; every 30 up
/// to 5 minutes.
fn network_programming_buckets() -> Vec<f64> {
    let seconds = (1..60).chain((60..120).step_by(5)).chain((120..=300).step_by(30));
    [0.25, 0.5].into_iter().chain(seconds.map(f64::from)).collect()
}

/// A count as a gauge holds it.
pub(super) fn gauge_value(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

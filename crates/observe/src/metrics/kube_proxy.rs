//! kube-proxy's own metrics, name by name and bucket by bucket (spec §11.16).

use std::time::{Duration, SystemTime};

use portolan_service::Family;
use prometheus::{GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::register::{Register, doubling};
use super::{Commit, Mode};
use crate::timestamp::unix_seconds;

const FAMILY: &str = "ip_family";
const POLICIES: [&str; 2] = ["internal", "external"];
const TABLES: [&str; 2] = ["filter", "nat"];

/// Those of one mode only are `None` in the others.
pub(super) struct KubeProxy {
    sync: HistogramVec,
    full_sync: Option<HistogramVec>,
    partial_sync: Option<HistogramVec>,
    last_sync: GaugeVec,
    last_queued: GaugeVec,
    network_programming: HistogramVec,
    endpoint_changes_pending: IntGauge,
    endpoint_changes: IntCounter,
    service_changes_pending: IntGauge,
    service_changes: IntCounter,
    no_local_endpoints: IntGaugeVec,
    iptables_total: Option<IntGaugeVec>,
    iptables_last: Option<IntGaugeVec>,
    restore_failures: Option<IntCounterVec>,
    partial_restore_failures: Option<IntCounterVec>,
    nftables_failures: Option<IntCounterVec>,
    nftables_cleanup_failures: Option<IntCounterVec>,
    conntrack_sync: Option<HistogramVec>,
    conntrack_deleted: Option<IntCounterVec>,
    healthz: IntCounterVec,
    livez: IntCounterVec,
}

impl KubeProxy {
    pub(super) fn register(registry: &Registry, mode: Mode, families: &[Family]) -> KubeProxy {
        let register = Register { registry, prefix: "kubeproxy" };
        let iptables = mode == Mode::Iptables;
        let nftables = mode == Mode::Nftables;
        let partial = iptables || nftables;
        let histograms = |name: &str, help: &str| {
            let histograms = register.histograms(name, help, doubling(0.001, 15), &[FAMILY]);
            for family in families {
                histograms.with_label_values(&[&family.to_string()]);
            }
            histograms
        };
        let counters = |name: &str, help: &str| {
            let counters = register.int_counters(name, help, &[FAMILY]);
            for family in families {
                counters.with_label_values(&[&family.to_string()]);
            }
            counters
        };
        let network_programming = register.histograms(
            "network_programming_duration_seconds",
            "From a change of endpoints, as their last-change-trigger-time tells, to its rules being in force",
            network_programming_buckets(),
            &[FAMILY],
        );
        let codes = |name: &str, help: &str| {
            let counters = register.int_counters(name, help, &["code"]);
            for code in ["200", "503"] {
                counters.with_label_values(&[code]);
            }
            counters
        };
        for family in families {
            network_programming.with_label_values(&[&family.to_string()]);
        }
        KubeProxy {
            sync: histograms("sync_proxy_rules_duration_seconds", "How long commits took, in seconds"),
            full_sync: partial.then(|| {
                histograms(
                    "sync_full_proxy_rules_duration_seconds",
                    "How long commits of everything took, in seconds",
                )
            }),
            partial_sync: partial.then(|| {
                histograms(
                    "sync_partial_proxy_rules_duration_seconds",
                    "How long commits of changes took, in seconds",
                )
            }),
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
            network_programming,
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
            iptables_total: iptables.then(|| {
                register.int_gauges(
                    "sync_proxy_rules_iptables_total",
                    "Rules there are of ours",
                    &["table", FAMILY],
                )
            }),
            iptables_last: iptables.then(|| {
                register.int_gauges(
                    "sync_proxy_rules_iptables_last",
                    "Rules written by the last commit",
                    &["table", FAMILY],
                )
            }),
            restore_failures: (iptables || mode == Mode::Ipvs).then(|| {
                counters(
                    "sync_proxy_rules_iptables_restore_failures_total",
                    "Commits that the kernel refused",
                )
            }),
            partial_restore_failures: iptables.then(|| {
                counters(
                    "sync_proxy_rules_iptables_partial_restore_failures_total",
                    "Commits of changes that the kernel refused",
                )
            }),
            nftables_failures: nftables.then(|| {
                counters("sync_proxy_rules_nftables_sync_failures_total", "Commits that the kernel refused")
            }),
            nftables_cleanup_failures: nftables.then(|| {
                counters(
                    "sync_proxy_rules_nftables_cleanup_failures_total",
                    "Removals of what nothing needs any more that the kernel refused",
                )
            }),
            conntrack_sync: (mode != Mode::Other).then(|| {
                histograms(
                    "conntrack_reconciler_sync_duration_seconds",
                    "How long looking for stale connection tracking entries took, in seconds",
                )
            }),
            conntrack_deleted: (mode != Mode::Other).then(|| {
                counters(
                    "conntrack_reconciler_deleted_entries_total",
                    "Stale connection tracking entries removed",
                )
            }),
            healthz: codes("proxy_healthz_total", "Answers of /healthz by status code"),
            livez: codes("proxy_livez_total", "Answers of /livez by status code"),
        }
    }

    pub(super) fn queued(&self, family: Family, at: SystemTime) {
        self.last_queued.with_label_values(&[&family.to_string()]).set(unix_seconds(at));
    }

    pub(super) fn synced(&self, family: Family, commit: &Commit) {
        let of_kind = if commit.full { &self.full_sync } else { &self.partial_sync };
        for histograms in std::iter::once(&self.sync).chain(of_kind) {
            histograms.with_label_values(&[&family.to_string()]).observe(commit.took.as_secs_f64());
        }
    }

    pub(super) fn last_synced(&self, family: Family, at: SystemTime) {
        self.last_sync.with_label_values(&[&family.to_string()]).set(unix_seconds(at));
    }

    pub(super) fn failed(&self, family: Family, full: bool) {
        let partial = if full { &None } else { &self.partial_restore_failures };
        for counters in [&self.restore_failures, &self.nftables_failures, partial].into_iter().flatten() {
            counters.with_label_values(&[&family.to_string()]).inc();
        }
    }

    pub(super) fn cleanup_failed(&self, family: Family) {
        if let Some(failures) = &self.nftables_cleanup_failures {
            failures.with_label_values(&[&family.to_string()]).inc();
        }
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
        if let Some(sync) = &self.conntrack_sync {
            sync.with_label_values(&[&family.to_string()]).observe(took.as_secs_f64());
        }
        if let Some(deleted) = &self.conntrack_deleted {
            deleted.with_label_values(&[&family.to_string()]).inc_by(removed as u64);
        }
    }

    pub(super) fn iptables_rules(&self, family: Family, table: &str, total: usize, last: usize) {
        debug_assert!(TABLES.contains(&table), "{table}");
        for (gauges, count) in [(&self.iptables_total, total), (&self.iptables_last, last)] {
            if let Some(gauges) = gauges {
                gauges.with_label_values(&[table, &family.to_string()]).set(gauge_value(count));
            }
        }
    }

    pub(super) fn healthz_answered(&self, code: u16) {
        self.healthz.with_label_values(&[&code.to_string()]).inc();
    }

    pub(super) fn livez_answered(&self, code: u16) {
        self.livez.with_label_values(&[&code.to_string()]).inc();
    }
}

/// A quarter and half a second; each second of the first minute; every 5 of the second; every 30 up to 5 minutes.
fn network_programming_buckets() -> Vec<f64> {
    let seconds = (1..60).chain((60..120).step_by(5)).chain((120..=300).step_by(30));
    [0.25, 0.5].into_iter().chain(seconds.map(f64::from)).collect()
}

/// A count as a gauge holds it.
pub(super) fn gauge_value(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

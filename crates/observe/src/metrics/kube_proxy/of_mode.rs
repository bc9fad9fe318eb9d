//! Those of kube-proxy's metrics that only some modes have (spec §11.16, §11.18).

use portolan_config::Mode;
use portolan_service::Family;
use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec};

use super::{ByFamily, FAMILY, gauge_value};

const TABLES: [&str; 2] = ["filter", "nat"];

/// What the mode does not have is `None`.
pub(super) struct OfMode {
    full_sync: Option<HistogramVec>,
    partial_sync: Option<HistogramVec>,
    iptables_total: Option<IntGaugeVec>,
    iptables_last: Option<IntGaugeVec>,
    restore_failures: Option<IntCounterVec>,
    partial_restore_failures: Option<IntCounterVec>,
    nftables_failures: Option<IntCounterVec>,
    nftables_cleanup_failures: Option<IntCounterVec>,
}

impl OfMode {
    pub(super) fn register(by_family: &ByFamily<'_>, mode: Mode) -> OfMode {
        let iptables = mode == Mode::Iptables;
        let nftables = mode == Mode::Nftables;
        let durations = |wanted: bool, name, help| wanted.then(|| by_family.durations(name, help));
        let counters = |wanted: bool, name, help| wanted.then(|| by_family.counters(name, help));
        let by_table = |wanted: bool, name, help| {
            wanted.then(|| by_family.register.int_gauges(name, help, &["table", FAMILY]))
        };
        OfMode {
            full_sync: durations(
                iptables || nftables,
                "sync_full_proxy_rules_duration_seconds",
                "How long commits of everything took, in seconds",
            ),
            partial_sync: durations(
                iptables || nftables,
                "sync_partial_proxy_rules_duration_seconds",
                "How long commits of changes took, in seconds",
            ),
            iptables_total: by_table(iptables, "sync_proxy_rules_iptables_total", "Rules there are of ours"),
            iptables_last: by_table(
                iptables,
                "sync_proxy_rules_iptables_last",
                "Rules written by the last commit",
            ),
            restore_failures: counters(
                iptables || mode == Mode::Ipvs,
                "sync_proxy_rules_iptables_restore_failures_total",
                "Commits that the kernel refused",
            ),
            partial_restore_failures: counters(
                iptables,
                "sync_proxy_rules_iptables_partial_restore_failures_total",
                "Commits of changes that the kernel refused",
            ),
            nftables_failures: counters(
                nftables,
                "sync_proxy_rules_nftables_sync_failures_total",
                "Commits that the kernel refused",
            ),
            nftables_cleanup_failures: counters(
                nftables,
                "sync_proxy_rules_nftables_cleanup_failures_total",
                "Removals of what nothing needs any more that the kernel refused",
            ),
        }
    }

    /// How long commits of everything took, or those of changes.
    pub(super) fn sync(&self, full: bool) -> Option<&HistogramVec> {
        if full { self.full_sync.as_ref() } else { self.partial_sync.as_ref() }
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

    pub(super) fn iptables_rules(&self, family: Family, table: &str, total: usize, last: usize) {
        debug_assert!(TABLES.contains(&table), "{table}");
        for (gauges, count) in [(&self.iptables_total, total), (&self.iptables_last, last)] {
            if let Some(gauges) = gauges {
                gauges.with_label_values(&[table, &family.to_string()]).set(gauge_value(count));
            }
        }
    }
}

//! What happens, for metrics, health and the log of the last changes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use portolan_dataplane::{Outcome, Reconciled};
use portolan_observe::{Commit, Metrics, Telemetry};
use portolan_service::{Change, ChangeSet, Family, ObjectName};
use tracing::{error, info};

use super::log;
use super::pending::Pending;
use super::totals::Planned;
use crate::describe::{self, counted};

/// Records what happens.
#[derive(Debug)]
pub(super) struct Record {
    telemetry: Arc<Telemetry>,
    /// How much is planned.
    planned: Planned,
    /// Objects that have changed and are not in force.
    pending: Pending,
    /// Services whose rules the kernel refuses.
    refused: Arc<BTreeSet<ObjectName>>,
}

impl Record {
    /// Nothing has happened yet.
    pub(super) fn new(telemetry: Arc<Telemetry>) -> Record {
        Record {
            telemetry,
            planned: Planned::default(),
            pending: Pending::default(),
            refused: Arc::default(),
        }
    }

    /// Where it is recorded.
    pub(super) fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// For a test that records something itself.
    #[cfg(test)]
    pub(super) fn shared_telemetry(&self) -> Arc<Telemetry> {
        self.telemetry.clone()
    }

    fn metrics(&self) -> &Metrics {
        &self.telemetry.metrics
    }

    /// Objects have changed.
    pub(super) fn received(&mut self, changes: &[Change]) {
        self.pending.received(changes, &self.telemetry.metrics);
    }

    /// All that was received is given to the dataplane.
    pub(super) fn taken(&mut self) {
        self.pending.taken();
    }

    /// All that the dataplane was given is in force.
    pub(super) fn nothing_pending(&mut self) {
        self.pending.in_force(&self.telemetry.metrics);
    }

    /// The plan has changed, because of something that was noticed at `received`.
    pub(super) fn planned(&mut self, changes: &ChangeSet, received: Instant) {
        self.metrics().queued(SystemTime::now());
        self.telemetry.health.pending(received);
        self.planned.apply(changes);
    }

    /// Everything was written: what the kernel refused before counts no more.
    pub(super) fn everything_written(&mut self) {
        self.refused = Arc::default();
    }

    /// The kernel accepted `changes`, or everything if `full`. So many `services` are planned.
    pub(super) fn committed(
        &mut self,
        changes: &ChangeSet,
        full: bool,
        outcome: &Outcome,
        took: Duration,
        services: usize,
    ) {
        if !self.refused.is_empty() {
            let refused = Arc::make_mut(&mut self.refused);
            changes.services.iter().for_each(|change| drop(refused.take(&change.name)));
        }
        for (service, reason) in &outcome.refused {
            error!("Service {service}: the kernel refused its rules: {reason}; the others are in force");
            Arc::make_mut(&mut self.refused).insert(service.clone());
        }
        let at = SystemTime::now();
        let metrics = &self.telemetry.metrics;
        metrics.committed(&Commit { full, took: outcome.commit, at }, outcome.operations);
        for rules in &outcome.rules {
            metrics.iptables_rules(rules.family, rules.table, rules.total, rules.written);
        }
        metrics.event_to_commit(took);
        self.pending.in_force(metrics);
        metrics.refused_services(self.refused.len());
        self.planned.report(metrics, services);
        self.telemetry.changes.push(portolan_observe::Transaction {
            at,
            full,
            event_to_commit: Some(took),
            commit: outcome.commit,
            operations: outcome.operations,
            error: None,
            ..transaction(changes)
        });
    }

    /// Services whose rules the kernel refuses.
    pub(super) fn refused(&self) -> &Arc<BTreeSet<ObjectName>> {
        &self.refused
    }

    /// A look through connection tracking has ended.
    pub(super) fn reconciled(&self, reconciled: Reconciled) {
        let removed = reconciled.removed.v4 + reconciled.removed.v6;
        if removed > 0 {
            info!("ended {}", counted(removed, "stale UDP flow"));
        }
        for family in Family::ALL {
            let removed = *reconciled.removed.get(family);
            self.metrics().conntrack_reconciled(family, removed, reconciled.took);
        }
    }

    /// The kernel did not accept `changes`; without any, everything.
    pub(super) fn commit_failed(
        &self,
        changes: &ChangeSet,
        took: Duration,
        error: &portolan_dataplane::Error,
    ) {
        let full = changes.is_empty();
        let at = SystemTime::now();
        self.metrics().commit_failed(&Commit { full, took, at });
        self.telemetry.changes.push(portolan_observe::Transaction {
            at,
            full,
            commit: took,
            error: Some(error.to_string()),
            ..transaction(changes)
        });
    }
}

/// A transaction for the log of changes, before anything has come of it.
fn transaction(changes: &ChangeSet) -> portolan_observe::Transaction {
    let named = || changes.services.iter().take(log::NAMED);
    portolan_observe::Transaction {
        at: SystemTime::UNIX_EPOCH,
        services: changes.services.iter().map(|change| change.name.to_string()).collect(),
        lines: named().flat_map(describe::lines).collect(),
        full: false,
        event_to_commit: None,
        commit: Duration::ZERO,
        operations: 0,
        error: None,
    }
}

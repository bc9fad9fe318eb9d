//! What became of changes, in the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use portolan_service::{ChangeSet, ObjectName, Planner, ServicePlan};
use tracing::{debug, info};

use crate::describe::{self, counted};

/// At most this many changes of one batch are logged by name. The others are counted.
pub(super) const NAMED: usize = 20;

/// Logs each change, with what became of it.
pub(super) fn report(changes: &ChangeSet, outcome: &str) {
    for change in changes.services.iter().take(NAMED) {
        info!("{}; {outcome}", describe::lines(change).join("; "));
    }
    if changes.services.len() > NAMED {
        let more = counted(changes.services.len() - NAMED, "more Service");
        info!("{more} changed; {outcome}");
    }
}

/// Services that have changed since ports that are new in force were last logged, with their plans
/// then. Nothing is kept where nobody reads it.
#[derive(Debug, Default)]
pub(super) struct NewPorts(BTreeMap<ObjectName, Option<Arc<ServicePlan>>>);

impl NewPorts {
    /// These have changed.
    pub(super) fn add(&mut self, changes: &ChangeSet) {
        if tracing::enabled!(tracing::Level::DEBUG) {
            for change in &changes.services {
                self.0.entry(change.name.clone()).or_insert_with(|| change.before.clone());
            }
        }
    }

    /// Logs each Service port that is in force now and was not before (`-v 2`).
    pub(super) fn announce(&mut self, planner: &Planner) {
        for (name, before) in std::mem::take(&mut self.0) {
            let after = planner.plan(&name).map(|plan| &**plan);
            for line in describe::new_ports(before.as_deref(), after) {
                debug!("Adding new service port {line}");
            }
        }
    }
}

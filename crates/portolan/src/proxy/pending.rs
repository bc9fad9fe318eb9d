//! Which objects have changed and are not in force as they are now.

use std::collections::BTreeSet;

use portolan_observe::Metrics;
use portolan_service::{Change, ObjectName};

/// Services and EndpointSlices with changes that are not in force yet (spec §11.16).
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Received, and not yet given to the dataplane.
    waiting: Objects,
    /// Given to it, and not yet in force.
    behind: Objects,
}

#[derive(Debug, Default)]
struct Objects {
    services: BTreeSet<ObjectName>,
    slices: BTreeSet<ObjectName>,
}

impl Pending {
    /// Takes changes as they come from the source.
    pub(super) fn received(&mut self, changes: &[Change], metrics: &Metrics) {
        for change in changes {
            match change {
                Change::Service(service) => {
                    self.waiting.services.insert(service.name.clone());
                }
                Change::ServiceRemoved(name) => {
                    self.waiting.services.insert(name.clone());
                }
                Change::Slice(slice) => {
                    self.waiting.slices.insert(slice.name.clone());
                }
                Change::SliceRemoved(name) => {
                    self.waiting.slices.insert(name.clone());
                }
                Change::Node(_) | Change::NodeRemoved(_) => {}
            }
        }
        self.report(metrics);
    }

    /// All that has been received is given to the dataplane.
    pub(super) fn taken(&mut self) {
        self.behind.services.append(&mut self.waiting.services);
        self.behind.slices.append(&mut self.waiting.slices);
    }

    /// All that the dataplane was given is in force.
    pub(super) fn in_force(&mut self, metrics: &Metrics) {
        self.behind = Objects::default();
        self.report(metrics);
    }

    fn report(&self, metrics: &Metrics) {
        let count = |waiting: &BTreeSet<ObjectName>, behind| waiting.union(behind).count();
        metrics.changes_pending(
            count(&self.waiting.services, &self.behind.services),
            count(&self.waiting.slices, &self.behind.slices),
        );
    }
}

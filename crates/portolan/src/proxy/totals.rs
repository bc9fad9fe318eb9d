//! How much is planned, kept up to date change by change.

use portolan_observe::{Metrics, Totals};
use portolan_service::{ChangeSet, Family, PerFamily, ServicePlan};

/// How much is planned.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Planned {
    endpoints: PerFamily<usize>,
    frontends: PerFamily<usize>,
    /// Ports whose policy allows local endpoints only, of which there are none: internal, external.
    no_local: PerFamily<[usize; 2]>,
}

impl Planned {
    /// Takes a change of the plan.
    pub(super) fn apply(&mut self, changes: &ChangeSet) {
        for change in &changes.services {
            // Added first: no number passes below zero.
            change.after.iter().for_each(|plan| self.count(plan, usize::wrapping_add));
            change.before.iter().for_each(|plan| self.count(plan, usize::wrapping_sub));
        }
    }

    fn count(&mut self, plan: &ServicePlan, step: fn(usize, usize) -> usize) {
        for port in &plan.ports {
            let count = |number: &mut usize, by: usize| *number = step(*number, by);
            let endpoints = if port.cluster.is_empty() { port.local.len() } else { port.cluster.len() };
            count(self.endpoints.get_mut(port.family), endpoints);
            count(self.frontends.get_mut(port.family), port.frontends.len());
            let [internal, external] = self.no_local.get_mut(port.family);
            count(internal, usize::from(port.lacks_internal_endpoints()));
            count(external, usize::from(port.lacks_external_endpoints()));
        }
    }

    /// Reports it to the metrics; `services` have a plan.
    pub(super) fn report(&self, metrics: &Metrics, services: usize) {
        metrics.totals(&Totals { services, endpoints: self.endpoints, frontends: self.frontends });
        for family in Family::ALL {
            let [internal, external] = *self.no_local.get(family);
            metrics.no_local_endpoints(family, internal, external);
        }
    }
}

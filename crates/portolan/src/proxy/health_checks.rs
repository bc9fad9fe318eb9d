//! The health-check responders that the plan asks for (spec §3.14, §11.8-11.12).

use portolan_observe::servers::{Addresses, Responder, Responders};
use portolan_service::{ChangeSet, Family, PerFamily, ServicePlan};

/// Serves these health-check responders from now on, on these addresses.
pub(crate) type SetResponders = Box<dyn Fn(Responders, Addresses)>;

/// The responders as planned, and where they listen.
pub(super) struct HealthChecks {
    responders: Responders,
    listen: Addresses,
    set: SetResponders,
}

impl HealthChecks {
    /// None yet.
    pub(super) fn new(set: SetResponders) -> HealthChecks {
        HealthChecks { responders: Responders::new(), listen: Addresses::default(), set }
    }

    /// Serves what the plan asks for after `changes`.
    pub(super) fn update(&mut self, changes: &ChangeSet) {
        let mut changed = false;
        for change in &changes.services {
            for (key, _) in change.before.iter().flat_map(|plan| responders(plan)) {
                changed |= self.responders.remove(&key).is_some();
            }
        }
        for change in &changes.services {
            for (key, responder) in change.after.iter().flat_map(|plan| responders(plan)) {
                self.responders.insert(key, responder);
                changed = true;
            }
        }
        if changed {
            self.serve();
        }
    }

    /// Listens on these addresses.
    pub(super) fn listen_on(&mut self, addresses: Addresses) {
        if self.listen != addresses {
            self.listen = addresses;
            self.serve();
        }
    }

    /// Ends whatever serves them.
    pub(super) fn end(&mut self) {
        self.set = Box::new(|_, _| {});
    }

    fn serve(&self) {
        (self.set)(self.responders.clone(), self.listen.clone());
    }
}

/// The health-check responders a plan asks for, one for each family it has ports of.
fn responders(plan: &ServicePlan) -> Vec<((Family, u16), Responder)> {
    let Some(check) = plan.health_check else { return Vec::new() };
    let families: PerFamily<bool> = PerFamily {
        v4: plan.ports.iter().any(|port| port.family == Family::V4),
        v6: plan.ports.iter().any(|port| port.family == Family::V6),
    };
    Family::ALL
        .into_iter()
        .filter(|family| *families.get(*family))
        .map(|family| {
            let local_endpoints = *check.local_endpoints.get(family);
            ((family, check.port), Responder { service: plan.name.clone(), local_endpoints })
        })
        .collect()
}

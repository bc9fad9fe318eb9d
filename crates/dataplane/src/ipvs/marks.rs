//! Which ports of a plan need a mark by which IPVS finds endpoints for clients from outside.
//!
//! A port keeps its mark for as long as it has such endpoints. A later process takes over the marks
//! that it finds in the rules, so that no connection is lost.

use std::collections::HashMap;

use portolan_service::{PortPlan, ServicePlan};

use super::Ipvs;
use super::wanted::marked_frontends;
use crate::nftables::{FrontendKey, MarkedPort};

/// The ports of `plan` that need a mark.
pub(super) fn marked_ports(plan: &ServicePlan) -> impl Iterator<Item = &PortPlan> {
    plan.ports.iter().filter(|port| marked_frontends(port).next().is_some())
}

impl Ipvs {
    /// Gives each port of `plan` that needs one a mark.
    pub(super) fn assign_marks(&mut self, plan: &ServicePlan) {
        for port in marked_ports(plan) {
            self.rules.assign_mark(MarkedPort::new(plan, port), None);
        }
    }

    /// Gives the ports of `plans` marks, those that they have in the kernel if possible.
    pub(super) fn adopt_marks(&mut self, plans: &[&ServicePlan], held: &HashMap<FrontendKey, u32>) {
        self.rules.forget_marks();
        for plan in plans {
            for port in marked_ports(plan) {
                let mut keys = marked_frontends(port).map(|frontend| FrontendKey {
                    address: frontend.address,
                    protocol: port.protocol,
                    port: frontend.port,
                });
                let known = keys.find_map(|key| held.get(&key)).copied();
                if known.is_some() {
                    self.rules.assign_mark(MarkedPort::new(plan, port), known);
                }
            }
        }
        for plan in plans {
            self.assign_marks(plan);
        }
    }

    /// Frees the marks of ports of `before` that need none in `after`.
    pub(super) fn release_marks(&mut self, before: Option<&ServicePlan>, after: Option<&ServicePlan>) {
        let Some(before) = before else { return };
        for port in marked_ports(before) {
            let key = MarkedPort::new(before, port);
            let needed =
                after.is_some_and(|plan| marked_ports(plan).any(|other| MarkedPort::new(plan, other) == key));
            if !needed {
                self.rules.release_mark(&key);
            }
        }
    }
}

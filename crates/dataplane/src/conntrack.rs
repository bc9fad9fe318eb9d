//! Stale UDP flows: connection tracking keeps sending a client's datagrams where its first one went, even when
//! that endpoint is gone, for as long as they keep coming (spec §8A).
//!
//! Unlike the behaviour described there, flows of Services that fall to zero endpoints or are deleted go too
//! (spec §8.5), NodePorts are matched with their address (§8.3), and nothing but a change is a reason to look.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use portolan_netfilter::conntrack::{Conntrack, Flow};
use portolan_netfilter::nft::TableFamily;
use portolan_service::{Backend, Family, PortPlan, Protocol, ServicePlan};

/// Above this many frontends, one pass over all flows is cheaper than one for each frontend: the kernel walks
/// its whole table for either.
const ASK_FOR_EACH: usize = 4;

type Address = (IpAddr, u16);

/// What becomes of the flows to one UDP frontend.
#[derive(Debug, Clone)]
enum Keep {
    /// Those to these backends are right; others, and those never translated, are stale.
    Serving(Vec<Address>),
    /// Nobody serves it any more; what was translated is stale, what was not has nothing to do with us.
    Untranslated,
}

/// UDP frontends whose flows may be stale. Kept until they have been looked through.
#[derive(Debug, Default)]
pub(crate) struct StaleFlows {
    frontends: HashMap<Address, Keep>,
}

impl StaleFlows {
    /// Nothing has to be looked through.
    pub(crate) fn is_empty(&self) -> bool {
        self.frontends.is_empty()
    }

    /// Adds what the change of one Service makes stale: frontends that are new, gone, or lost a serving backend.
    pub(crate) fn change(&mut self, before: Option<&ServicePlan>, after: Option<&ServicePlan>) {
        let mut old: HashMap<Address, &PortPlan> = before.into_iter().flat_map(udp_frontends).collect();
        for (frontend, port) in after.into_iter().flat_map(udp_frontends) {
            let looks = old.remove(&frontend).is_none_or(|old| lost_any(&old.serving, &port.serving));
            if looks {
                self.frontends.insert(frontend, Keep::Serving(addresses(&port.serving)));
            } else if let Some(pending) = self.frontends.get_mut(&frontend) {
                *pending = Keep::Serving(addresses(&port.serving));
            }
        }
        for frontend in old.into_keys() {
            // Another Service of the same change set may have taken it over.
            self.frontends.entry(frontend).or_insert(Keep::Untranslated);
        }
    }

    /// Forgets what an earlier call decided about the frontends of `plan`, before [`StaleFlows::change`] is called
    /// for every Service of a change set.
    pub(crate) fn supersede(&mut self, before: Option<&ServicePlan>) {
        for (frontend, _) in before.into_iter().flat_map(udp_frontends) {
            if let Some(Keep::Serving(_)) = self.frontends.get(&frontend) {
                self.frontends.insert(frontend, Keep::Untranslated);
            }
        }
    }

    /// Everything that is in force, after a start: `plans`, and frontends that the kernel had before.
    pub(crate) fn everything<'a>(
        plans: impl IntoIterator<Item = &'a ServicePlan>,
        before: impl IntoIterator<Item = Address>,
    ) -> StaleFlows {
        let mut frontends: HashMap<Address, Keep> =
            before.into_iter().map(|frontend| (frontend, Keep::Untranslated)).collect();
        frontends.extend(
            plans
                .into_iter()
                .flat_map(udp_frontends)
                .map(|(frontend, port)| (frontend, Keep::Serving(addresses(&port.serving)))),
        );
        StaleFlows { frontends }
    }

    fn is_stale(&self, flow: &Flow) -> bool {
        let translated = (flow.reply.source, flow.reply.source_port);
        let frontend = (flow.original.destination, flow.original.destination_port);
        flow.protocol == Protocol::Udp.number()
            && match self.frontends.get(&frontend) {
                None => false,
                Some(Keep::Serving(backends)) => !backends.contains(&translated),
                Some(Keep::Untranslated) => translated != frontend,
            }
    }

    /// Looks the flows through and removes the stale ones; returns how many. Afterwards nothing is pending,
    /// unless it fails.
    pub(crate) fn remove(&mut self) -> io::Result<usize> {
        if self.is_empty() {
            return Ok(0);
        }
        let mut conntrack = Conntrack::open()?;
        let mut stale = Vec::new();
        {
            let mut look = |flow: &Flow| {
                if self.is_stale(flow) {
                    stale.push(*flow);
                }
            };
            if self.frontends.len() <= ASK_FOR_EACH {
                for frontend in self.frontends.keys() {
                    conntrack.udp_flows(
                        address_family(Family::of(frontend.0)),
                        Some(*frontend),
                        &mut look,
                    )?;
                }
            } else {
                for family in Family::ALL {
                    if self.frontends.keys().any(|(address, _)| Family::of(*address) == family) {
                        conntrack.udp_flows(address_family(family), None, &mut look)?;
                    }
                }
            }
        }
        let mut removed = 0;
        for flow in &stale {
            removed += usize::from(conntrack.delete(flow)?);
        }
        self.frontends.clear();
        Ok(removed)
    }
}

fn address_family(family: Family) -> TableFamily {
    match family {
        Family::V4 => TableFamily::Ip,
        Family::V6 => TableFamily::Ip6,
    }
}

fn udp_frontends(plan: &ServicePlan) -> impl Iterator<Item = (Address, &PortPlan)> {
    plan.ports
        .iter()
        .filter(|port| port.protocol == Protocol::Udp)
        .flat_map(|port| port.frontends.iter().map(move |frontend| ((frontend.address, frontend.port), port)))
}

fn addresses(backends: &[Backend]) -> Vec<Address> {
    backends.iter().map(|backend| (backend.address, backend.port)).collect()
}

fn lost_any(before: &[Backend], after: &[Backend]) -> bool {
    if std::ptr::eq(before, after) {
        return false;
    }
    let after: std::collections::HashSet<Address> =
        after.iter().map(|backend| (backend.address, backend.port)).collect();
    before.iter().any(|backend| !after.contains(&(backend.address, backend.port)))
}

//! What a plan asks for, where IPVS cannot be written: its rules are written, and its virtual
//! servers are returned.

use portolan_netfilter::ipvs::{Destination, ServerState};
use portolan_service::ServicePlan;

use super::marks::marked_ports;
use super::settings::IpvsSettings;
use super::wanted::{Server, servers};
use crate::dataplane::Dataplane;
use crate::error::Error;
use crate::mode::Computed;
use crate::nftables::{Layout, MarkedPort, Nftables};

/// Writes the rules for `plans` into the network namespace of the calling thread, and says which
/// virtual servers go with them. IPVS is not asked for anything, so that each scheduler counts as
/// known.
pub fn compute(settings: &IpvsSettings, plans: &[&ServicePlan]) -> Result<Computed, Error> {
    let mut rules = Nftables::with_layout(settings.rules.clone(), Layout::steer(settings.bit))?;
    for plan in plans {
        for port in marked_ports(plan) {
            rules.assign_mark(MarkedPort::new(plan, port), None);
        }
    }
    let outcome = rules.sync(&mut plans.iter().copied())?;
    let of_plan = |plan: &&ServicePlan| servers(plan, settings, |_| true, |port| rules.mark(plan, port));
    let virtual_servers = plans.iter().flat_map(of_plan).map(state).collect();
    Ok(Computed { outcome, virtual_servers })
}

/// As the kernel would have it.
fn state(server: Server) -> (ServerState, Vec<Destination>) {
    let destinations = server.destinations.into_iter().chain(server.lingering).collect();
    (ServerState { key: server.key, scheduling: server.scheduling }, destinations)
}

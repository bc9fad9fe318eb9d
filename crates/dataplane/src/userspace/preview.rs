//! What a sync would change, as far as it can be said before sockets are open: a port that the
//! kernel has for a frontend is taken to stay.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use portolan_service::{List, PortPlan, Verdict};

use super::settings::UserspaceSettings;
use crate::dataplane::Difference;
use crate::nftables::{FrontendKey, HeldEndpoints};

/// The place that the kernel has for a list of endpoints, if it is a socket of this mode; else one
/// that is none.
pub(super) fn place<'a>(
    held: &'a HeldEndpoints,
    settings: &'a UserspaceSettings,
) -> impl FnMut(&PortPlan, List) -> Option<SocketAddr> + 'a {
    move |port, list| {
        let address = (*settings.addresses.get(port.family))?;
        let forward = Verdict::Forward(list);
        let of_kernel = port.frontends.iter().find_map(|frontend| {
            let map = if frontend.inside == forward {
                &held.everybody
            } else if frontend.outside == forward {
                &held.outside
            } else {
                return None;
            };
            let key = FrontendKey { address: frontend.address, protocol: port.protocol, port: frontend.port };
            map.get(&key).copied().filter(|place| place.ip() == address)
        });
        (port.protocol != portolan_service::Protocol::Sctp)
            .then(|| of_kernel.unwrap_or(SocketAddr::new(address, 0)))
    }
}

/// Leaves out what is about sockets and not about frontends.
pub(super) fn without_guards(
    differences: Vec<Difference>,
    held: &HeldEndpoints,
    settings: &UserspaceSettings,
) -> Vec<Difference> {
    let addresses = [settings.addresses.v4, settings.addresses.v6];
    let of_all: [&HashMap<FrontendKey, SocketAddr>; 2] = [&held.everybody, &held.outside];
    let mut guards: HashSet<String> = HashSet::new();
    for (key, place) in
        of_all.into_iter().flatten().filter(|(_, place)| addresses.contains(&Some(place.ip())))
    {
        let guard = FrontendKey { address: place.ip(), protocol: key.protocol, port: place.port() };
        guards.insert(guard.to_string());
    }
    for address in addresses.into_iter().flatten() {
        for protocol in portolan_service::Protocol::ALL {
            guards.insert(FrontendKey { address, protocol, port: 0 }.to_string());
        }
    }
    let is_guard = |difference: &Difference| {
        let (Difference::Added(what) | Difference::Changed(what) | Difference::Removed(what)) = difference;
        let mut words = what.split(',').next().unwrap_or_default().rsplitn(4, ' ');
        let mut last: Vec<&str> = words.by_ref().take(3).collect();
        last.reverse();
        guards.contains(&last.join(" "))
    };
    differences.into_iter().filter(|difference| !is_guard(difference)).collect()
}

//! What a sync would change, as far as it can be said before sockets are open: a port that the
//! kernel has for a frontend is taken to stay.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use portolan_service::{FrontendKind, List, PortPlan, Protocol, Verdict};

use super::settings::UserspaceSettings;
use crate::dataplane::Difference;
use crate::iptables::HeldPortal;
use crate::nftables::{FrontendKey, HeldEndpoints};

/// A frontend as rules name it: `None` is any address for NodePorts.
type Key = (Option<IpAddr>, Protocol, u16);

/// Where the kernel sends clients of frontends.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Everybody, but those who have another place here
    everybody: HashMap<Key, SocketAddr>,
    /// Clients from outside
    outside: HashMap<Key, SocketAddr>,
}

impl From<HeldEndpoints> for Held {
    fn from(held: HeldEndpoints) -> Held {
        let keyed = |places: HashMap<FrontendKey, SocketAddr>| {
            let places = places.into_iter();
            places.map(|(key, place)| ((Some(key.address), key.protocol, key.port), place)).collect()
        };
        Held { everybody: keyed(held.everybody), outside: keyed(held.outside) }
    }
}

impl From<Vec<HeldPortal>> for Held {
    fn from(portals: Vec<HeldPortal>) -> Held {
        let mut held = Held::default();
        for portal in portals {
            let key = (portal.address, portal.protocol, portal.port);
            held.everybody.extend(portal.inside.map(|place| (key, place)));
            held.outside.extend(portal.outside.map(|place| (key, place)));
        }
        held
    }
}

/// The place that the kernel has for a list of endpoints, if it is a socket of this mode; else one
/// that is none.
pub(super) fn place<'a>(
    held: &'a Held,
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
            let held = |address| map.get(&(address, port.protocol, frontend.port)).copied();
            let any = || held(None).filter(|_| frontend.kind == FrontendKind::NodePort);
            held(Some(frontend.address)).or_else(any).filter(|place| place.ip() == address)
        });
        (port.protocol != Protocol::Sctp).then(|| of_kernel.unwrap_or(SocketAddr::new(address, 0)))
    }
}

/// Leaves out what is about sockets and not about frontends.
pub(super) fn without_guards(
    differences: Vec<Difference>,
    held: &Held,
    settings: &UserspaceSettings,
) -> Vec<Difference> {
    let addresses = [settings.addresses.v4, settings.addresses.v6];
    let of_all: [&HashMap<Key, SocketAddr>; 2] = [&held.everybody, &held.outside];
    let mut guards: HashSet<String> = HashSet::new();
    for ((_, protocol, _), place) in
        of_all.into_iter().flatten().filter(|(_, place)| addresses.contains(&Some(place.ip())))
    {
        let guard = FrontendKey { address: place.ip(), protocol: *protocol, port: place.port() };
        guards.insert(guard.to_string());
    }
    for address in addresses.into_iter().flatten() {
        for protocol in Protocol::ALL {
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

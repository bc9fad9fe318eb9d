//! What the kernel of a live node does with packets between the hooks: it checks where they come
//! from, looks for a route, and forwards them or does not.

use std::net::IpAddr;

use portolan_service::Family;

use super::answer::Stop;
use crate::host::{Host, Refusal, ReversePath};
use crate::packet::{Node, Routed};

/// A packet on its way between two hooks.
pub(super) struct Leg<'a> {
    pub(super) host: &'a Host,
    pub(super) node: &'a Node,
    pub(super) family: Family,
    pub(super) source: IpAddr,
    /// `None`: an address of the node itself, it is not known which.
    pub(super) destination: Option<IpAddr>,
    /// That it came in through, if that is known.
    pub(super) interface: Option<&'a str>,
}

/// Before any rule.
pub(super) fn comes_in(leg: &Leg<'_>) -> Option<Stop> {
    let interface = leg.host.interfaces.get(leg.interface?)?;
    (!interface.up).then_some(Stop::ComesInByDown)
}

/// Before `input` and `forward` (`ip_route_input_slow` and `fib_validate_source` of net/ipv4). IPv6
/// does not check where packets come from.
pub(super) fn is_accepted(leg: &Leg<'_>) -> Option<Stop> {
    let at = leg.interface.filter(|name| *name != "lo");
    let known = at.and_then(|name| leg.host.interfaces.get(name));
    if leg.destination.is_some_and(|to| to.is_loopback()) && leg.interface != Some("lo") {
        let mut others =
            leg.host.interfaces.iter().filter(|(name, _)| *name != "lo").map(|(_, interface)| interface);
        let allowed = match known {
            Some(interface) => interface.route_localnet,
            None => others.any(|interface| interface.route_localnet),
        };
        if leg.family == Family::V6 || !allowed {
            return Some(Stop::Loopback);
        }
    }
    let (Some(interface), Some(name), Family::V4) = (known, at, leg.family) else { return None };
    match (interface.reverse_path, leg.node.routed(leg.source)) {
        (ReversePath::Strict, Routed::Through(back)) if back != name => Some(Stop::ReversePath),
        (ReversePath::Strict | ReversePath::Loose, Routed::Nowhere | Routed::Refused(_)) => {
            Some(Stop::ReversePath)
        }
        _ => None,
    }
}

/// Before `forward` (`IN_DEV_FORWARD` of the interface it came in through; `ip6_forward`).
pub(super) fn is_forwarded(leg: &Leg<'_>) -> Option<Stop> {
    if !leg.host.forwards(leg.family) && leg.family == Family::V6 {
        return Some(Stop::NotForwarding);
    }
    if leg.family == Family::V4 {
        let mut all = leg.host.interfaces.iter().filter(|(name, _)| *name != "lo");
        let known = leg.interface.and_then(|name| leg.host.interfaces.get(name));
        let forwards = match known {
            Some(interface) => interface.forwards_v4,
            None => all.any(|(_, interface)| interface.forwards_v4),
        };
        if !forwards {
            let only_here = known.is_some() && leg.host.forwards(Family::V4);
            return Some(if only_here { Stop::NotForwardingHere } else { Stop::NotForwarding });
        }
    }
    leaves(leg)
}

/// Before it leaves.
pub(super) fn leaves(leg: &Leg<'_>) -> Option<Stop> {
    match leg.node.routed(leg.destination?) {
        Routed::Nowhere => Some(Stop::NoRoute),
        Routed::Refused(Refusal::Blackhole) => Some(Stop::Blackhole),
        Routed::Refused(Refusal::Unreachable) => Some(Stop::Unreachable),
        Routed::Refused(Refusal::Prohibited) => Some(Stop::Prohibited),
        Routed::Through(name) => {
            let interface = leg.host.interfaces.get(name)?;
            match (interface.up, interface.carrier) {
                (false, _) => Some(Stop::LeavesByDown),
                (true, false) if name != "lo" => Some(Stop::LeavesWithoutCarrier),
                _ => None,
            }
        }
        Routed::Unknown => None,
    }
}

//! The interfaces of this node that addresses can be announced on.

use std::io;
use std::net::IpAddr;

use portolan_netlink::rtnetlink::{Changes, Rtnetlink, Subject};

use crate::link::Interface;

/// Which interfaces are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selected {
    /// Those that have one of the node's own addresses, or a network that an address is in.
    Fitting,
    /// Those with these names; `*` at the end of one stands for anything.
    Named(Vec<String>),
}

impl Selected {
    fn has(&self, name: &str) -> bool {
        match self {
            Selected::Fitting => true,
            Selected::Named(patterns) => patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(begin) => name.starts_with(begin),
                None => name == pattern,
            }),
        }
    }
}

/// Wakes whoever waits when interfaces or their addresses change.
pub(crate) fn changes() -> io::Result<Changes> {
    Changes::of(&[Subject::Links, Subject::Ipv4Addresses, Subject::Ipv6Addresses])
}

/// Interfaces of Ethernet that carry packets and have an address that is more than link-local.
pub(crate) fn list(selected: &Selected) -> io::Result<Vec<Interface>> {
    let mut rtnetlink = Rtnetlink::open()?;
    let addresses = rtnetlink.addresses()?;
    let links = rtnetlink.links()?.into_iter();
    let fit = links.filter(|link| link.is_running() && selected.has(&link.name));
    Ok(fit
        .filter_map(|link| {
            let own = addresses.iter().filter(|address| address.index == link.index);
            let networks: Vec<_> =
                own.map(|address| address.network).filter(|network| is_global(network.addr())).collect();
            let hardware = link.hardware.filter(|_| !networks.is_empty())?;
            Some(Interface { index: link.index, name: link.name, hardware, networks })
        })
        .collect())
}

fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_link_local() && !address.is_loopback(),
        IpAddr::V6(address) => !address.is_unicast_link_local() && !address.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_patterns() {
        let named = |patterns: &[&str]| Selected::Named(patterns.iter().map(ToString::to_string).collect());
        for (selected, name, expected) in [
            (Selected::Fitting, "eth0", true),
            (named(&["eth0"]), "eth0", true),
            (named(&["eth0"]), "eth01", false),
            (named(&["bond0", "eth*"]), "eth01", true),
            (named(&["*"]), "eth01", true),
            (named(&[]), "eth0", false),
        ] {
            assert_eq!(selected.has(name), expected, "{selected:?} {name}");
        }
    }
}

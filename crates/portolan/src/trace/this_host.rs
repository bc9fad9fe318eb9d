//! The node that live rules are for, as its kernel tells: addresses, interfaces, routes (rtnetlink).

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use portolan_trace::Node;

use crate::addresses;

/// This node: that of the calling thread's network namespace.
pub(super) fn node() -> io::Result<Node> {
    let interfaces = interfaces()?;
    let mut node = Node::default();
    addresses::dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()), |message| {
        if let RouteNetlinkMessage::NewAddress(message) = message
            && let Some(address) = own_address(&message)
            && let Ok(network) = IpNet::new(address, message.header.prefix_len)
            && let Some(interface) = interfaces.get(&message.header.index)
        {
            node.addresses.push((network, interface.clone()));
        }
    })?;
    addresses::dump(RouteNetlinkMessage::GetRoute(RouteMessage::default()), |message| {
        if let RouteNetlinkMessage::NewRoute(route) = message {
            node.routes.extend(route_of(&route, &interfaces));
        }
    })?;
    Ok(node)
}

/// The names of its interfaces, by index.
pub(super) fn interfaces() -> io::Result<HashMap<u32, String>> {
    let mut interfaces = HashMap::new();
    addresses::dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), |message| {
        if let RouteNetlinkMessage::NewLink(link) = message {
            let name = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            });
            interfaces.extend(name.map(|name| (link.header.index, name)));
        }
    })?;
    Ok(interfaces)
}

/// An interface's own address: IFA_LOCAL, which differs from IFA_ADDRESS on point-to-point links.
fn own_address(message: &AddressMessage) -> Option<IpAddr> {
    let mut other = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => return Some(*address),
            AddressAttribute::Address(address) => other = Some(*address),
            _ => {}
        }
    }
    other
}

/// A route of the main table, with the interface it leads through.
fn route_of(route: &RouteMessage, interfaces: &HashMap<u32, String>) -> Option<(IpNet, String)> {
    if route.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let mut destination = None;
    let mut interface = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                destination = Some(IpAddr::from(*address));
            }
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                destination = Some(IpAddr::from(*address));
            }
            RouteAttribute::Oif(index) => interface = interfaces.get(index),
            _ => {}
        }
    }
    let any = match route.header.address_family {
        netlink_packet_route::AddressFamily::Inet => IpAddr::from([0; 4]),
        netlink_packet_route::AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let network =
        IpNet::new(destination.unwrap_or(any), route.header.destination_prefix_length).ok()?.trunc();
    Some((network, interface?.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_local_and_leads_to_itself() {
        let node = node().unwrap();
        let loopback = "127.0.0.1".parse().unwrap();
        assert!(node.is_local(loopback));
        assert!(
            node.addresses.iter().any(|(network, name)| network.addr() == loopback && name == "lo"),
            "{node:?}"
        );
    }
}

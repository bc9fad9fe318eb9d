//! The node that live rules are for, as its kernel has it: addresses, interfaces and routes
//! (rtnetlink), and switches of /proc/sys.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::{fs, io};

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType};
use netlink_packet_route::rule::{RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use portolan_service::PerFamily;
use portolan_trace::{Host, Interface, Node, Refusal, ReversePath};

use crate::rtnetlink;

/// This node: that of the calling thread's network namespace.
pub(crate) fn node() -> io::Result<Node> {
    let links = links()?;
    let interfaces: HashMap<u32, String> =
        links.iter().map(|(index, link)| (*index, link.name.clone())).collect();
    let mut node = Node::default();
    rtnetlink::dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()), |message| {
        if let RouteNetlinkMessage::NewAddress(message) = message
            && let Some(address) = own_address(&message)
            && let Ok(network) = IpNet::new(address, message.header.prefix_len)
            && let Some(interface) = interfaces.get(&message.header.index)
        {
            node.addresses.push((network, interface.clone()));
        }
    })?;
    let mut routes = Routes::default();
    rtnetlink::dump(RouteNetlinkMessage::GetRoute(RouteMessage::default()), |message| {
        if let RouteNetlinkMessage::NewRoute(route) = message {
            routes.add(&route, &interfaces);
        }
    })?;
    node.routes = routes.ways.into_values().flat_map(|(_, ways)| ways).collect();
    node.host = Some(Host {
        forwarding: PerFamily {
            v4: switch(Path::new("/proc/sys/net/ipv4/ip_forward")) != 0,
            v6: switch(Path::new("/proc/sys/net/ipv6/conf/all/forwarding")) != 0,
        },
        interfaces: links.into_values().map(|link| (link.name.clone(), link.interface())).collect(),
        refused: routes.refused,
        policy_routing: routes.incomplete || policy_routing()?,
    });
    Ok(node)
}

/// What a link says of itself.
struct Link {
    name: String,
    flags: LinkFlags,
}

impl Link {
    fn interface(&self) -> Interface {
        let of = |name: &str, switch_name: &str| {
            // Names of interfaces hold no slash.
            switch(&Path::new("/proc/sys/net/ipv4/conf").join(name).join(switch_name))
        };
        Interface {
            up: self.flags.contains(LinkFlags::Up),
            carrier: self.flags.contains(LinkFlags::LowerUp),
            forwards_v4: of(&self.name, "forwarding") != 0,
            reverse_path: match of("all", "rp_filter").max(of(&self.name, "rp_filter")) {
                0 => ReversePath::Off,
                1 => ReversePath::Strict,
                _ => ReversePath::Loose,
            },
            route_localnet: of("all", "route_localnet") != 0 || of(&self.name, "route_localnet") != 0,
        }
    }
}

/// The number in a file of /proc/sys. 0 if the file is missing: a family that the kernel lacks does
/// nothing.
fn switch(path: &Path) -> u32 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Routes of the main table: of each network those with the lowest metric.
#[derive(Default)]
struct Routes {
    ways: HashMap<IpNet, (u32, Vec<(IpNet, String)>)>,
    refused: Vec<(IpNet, Refusal)>,
    /// There is one whose interface is not known.
    incomplete: bool,
}

impl Routes {
    fn add(&mut self, route: &RouteMessage, interfaces: &HashMap<u32, String>) {
        let Some(found) = route_of(route, interfaces) else { return };
        let refusal = match route.header.kind {
            RouteType::BlackHole => Some(Refusal::Blackhole),
            RouteType::Unreachable => Some(Refusal::Unreachable),
            RouteType::Prohibit => Some(Refusal::Prohibited),
            RouteType::Unicast => None,
            // Those to the node itself are in its addresses; `throw` is for policy routing.
            RouteType::Throw => {
                self.incomplete = true;
                return;
            }
            _ => return,
        };
        if let Some(refusal) = refusal {
            // What IPv6 has in place of no route.
            let nothing = found.network.prefix_len() == 0 && found.metric == u32::MAX;
            if !nothing {
                self.refused.push((found.network, refusal));
            }
            return;
        }
        if found.interfaces.is_empty() {
            self.incomplete = true;
            return;
        }
        let ways: Vec<(IpNet, String)> =
            found.interfaces.into_iter().map(|name| (found.network, name)).collect();
        match self.ways.get_mut(&found.network) {
            Some((metric, _)) if *metric < found.metric => {}
            Some((metric, known)) if *metric == found.metric => known.extend(ways),
            _ => {
                self.ways.insert(found.network, (found.metric, ways));
            }
        }
    }
}

/// linux/rtnetlink.h
const RT_TABLE_DEFAULT: u8 = 253;
const RT_TABLE_LOCAL: u8 = 255;

/// Whether policy routing has other rules than those of every kernel: local, main and default.
fn policy_routing() -> io::Result<bool> {
    let mut others = false;
    rtnetlink::dump(RouteNetlinkMessage::GetRule(RuleMessage::default()), |message| {
        if let RouteNetlinkMessage::NewRule(rule) = message {
            let priority = rule.attributes.iter().find_map(|attribute| match attribute {
                RuleAttribute::Priority(priority) => Some(*priority),
                _ => None,
            });
            // `fib_default_rules_init` (net/ipv4/fib_rules.c), `fib6_rules_net_init`
            // (net/ipv6/fib6_rules.c)
            let usual = matches!(
                (priority.unwrap_or(0), rule.header.table),
                (0, RT_TABLE_LOCAL) | (32_766, RouteHeader::RT_TABLE_MAIN) | (32_767, RT_TABLE_DEFAULT)
            );
            let family = matches!(rule.header.family, AddressFamily::Inet | AddressFamily::Inet6);
            others |= family && !usual;
        }
    })?;
    Ok(others)
}

/// Its links, by index.
fn links() -> io::Result<HashMap<u32, Link>> {
    let mut links = HashMap::new();
    rtnetlink::dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), |message| {
        if let RouteNetlinkMessage::NewLink(link) = message {
            let name = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            });
            let flags = link.header.flags;
            links.extend(name.map(|name| (link.header.index, Link { name, flags })));
        }
    })?;
    Ok(links)
}

/// The names of its interfaces, by index.
pub(crate) fn interfaces() -> io::Result<HashMap<u32, String>> {
    Ok(links()?.into_iter().map(|(index, link)| (index, link.name)).collect())
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

/// A route of the main table.
struct Route {
    network: IpNet,
    metric: u32,
    /// Those that it leads through: several of a multipath route; none if it does not say.
    interfaces: Vec<String>,
}

fn route_of(route: &RouteMessage, interfaces: &HashMap<u32, String>) -> Option<Route> {
    if route.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let mut destination = None;
    let mut indices = Vec::new();
    let mut metric = 0;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                destination = Some(IpAddr::from(*address));
            }
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                destination = Some(IpAddr::from(*address));
            }
            RouteAttribute::Oif(index) => indices.push(*index),
            RouteAttribute::MultiPath(hops) => indices.extend(hops.iter().map(|hop| hop.interface_index)),
            RouteAttribute::Priority(priority) => metric = *priority,
            _ => {}
        }
    }
    let any = match route.header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let network =
        IpNet::new(destination.unwrap_or(any), route.header.destination_prefix_length).ok()?.trunc();
    let mut names: Vec<String> = indices.iter().filter_map(|index| interfaces.get(index).cloned()).collect();
    names.sort();
    names.dedup();
    Some(Route { network, metric, interfaces: names })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_local_and_leads_to_itself() {
        let node = node().unwrap();
        let loopback = "127.0.0.1".parse().unwrap();
        assert!(node.is_local(loopback));
        let host = node.host.as_ref().expect("its kernel was asked");
        assert!(host.interfaces.contains_key("lo"), "{host:?}");
        assert!(
            node.addresses.iter().any(|(network, name)| network.addr() == loopback && name == "lo"),
            "{node:?}"
        );
    }
}

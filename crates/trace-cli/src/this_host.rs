//! The node that live rules are for, as its kernel has it: addresses, interfaces and routes
//! (rtnetlink), and switches of /proc/sys.

use std::collections::HashMap;
use std::path::Path;
use std::{fs, io};

use ipnet::IpNet;
use portolan_netlink::rtnetlink::{LOCAL_TABLE, Link, MAIN_TABLE, Route, RouteKind, Rtnetlink};
use portolan_service::PerFamily;
use portolan_trace::{Host, Interface, Node, Refusal, ReversePath};

/// This node: that of the calling thread's network namespace.
pub(crate) fn node() -> io::Result<Node> {
    let mut kernel = Rtnetlink::open()?;
    let links = kernel.links()?;
    let interfaces = names(&links);
    let mut node = Node::default();
    for address in kernel.addresses()? {
        if let Some(interface) = interfaces.get(&address.index) {
            node.addresses.push((address.network, interface.clone()));
        }
    }
    let mut routes = Routes::default();
    for route in &kernel.routes()? {
        match route.table {
            MAIN_TABLE => routes.add(route, &interfaces),
            LOCAL_TABLE => add_address(&mut node, route, &interfaces),
            _ => {}
        }
    }
    node.routes = routes.ways.into_values().flat_map(|(_, ways)| ways).collect();
    node.host = Some(Host {
        forwarding: PerFamily {
            v4: switch(Path::new("/proc/sys/net/ipv4/ip_forward")) != 0,
            v6: switch(Path::new("/proc/sys/net/ipv6/conf/all/forwarding")) != 0,
        },
        interfaces: links.iter().map(|link| (link.name.clone(), interface(link))).collect(),
        refused: routes.refused,
        policy_routing: routes.incomplete || kernel.policy_routing()?,
    });
    Ok(node)
}

/// Adds the address that `route` has the node take for its own, though no interface may have it.
fn add_address(node: &mut Node, route: &Route, interfaces: &HashMap<u32, String>) {
    let destination = route.destination;
    let one = destination.prefix_len() == destination.max_prefix_len();
    if route.kind != RouteKind::Local || !one || node.is_local(destination.addr()) {
        return;
    }
    let interface = route.interfaces.first().and_then(|index| interfaces.get(index));
    node.addresses.extend(interface.map(|interface| (destination, interface.clone())));
}

fn interface(link: &Link) -> Interface {
    let of = |name: &str, switch_name: &str| {
        // Names of interfaces hold no slash.
        switch(&Path::new("/proc/sys/net/ipv4/conf").join(name).join(switch_name))
    };
    Interface {
        up: link.up,
        carrier: link.carrier,
        forwards_v4: of(&link.name, "forwarding") != 0,
        reverse_path: match of("all", "rp_filter").max(of(&link.name, "rp_filter")) {
            0 => ReversePath::Off,
            1 => ReversePath::Strict,
            _ => ReversePath::Loose,
        },
        route_localnet: of("all", "route_localnet") != 0 || of(&link.name, "route_localnet") != 0,
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
    fn add(&mut self, route: &Route, interfaces: &HashMap<u32, String>) {
        let refusal = match route.kind {
            RouteKind::Blackhole => Some(Refusal::Blackhole),
            RouteKind::Unreachable => Some(Refusal::Unreachable),
            RouteKind::Prohibit => Some(Refusal::Prohibited),
            RouteKind::Unicast => None,
            RouteKind::Throw => {
                self.incomplete = true;
                return;
            }
            // Those to the node itself are in the local table.
            RouteKind::Local | RouteKind::Other => return,
        };
        if let Some(refusal) = refusal {
            // What IPv6 has in place of no route.
            let nothing = route.destination.prefix_len() == 0 && route.metric == u32::MAX;
            if !nothing {
                self.refused.push((route.destination, refusal));
            }
            return;
        }
        let mut names: Vec<String> =
            route.interfaces.iter().filter_map(|index| interfaces.get(index).cloned()).collect();
        names.sort();
        names.dedup();
        if names.is_empty() {
            self.incomplete = true;
            return;
        }
        let ways: Vec<(IpNet, String)> = names.into_iter().map(|name| (route.destination, name)).collect();
        match self.ways.get_mut(&route.destination) {
            Some((metric, _)) if *metric < route.metric => {}
            Some((metric, known)) if *metric == route.metric => known.extend(ways),
            _ => {
                self.ways.insert(route.destination, (route.metric, ways));
            }
        }
    }
}

/// The names of its interfaces, by index.
pub(crate) fn interfaces() -> io::Result<HashMap<u32, String>> {
    Ok(names(&Rtnetlink::open()?.links()?))
}

fn names(links: &[Link]) -> HashMap<u32, String> {
    links.iter().map(|link| (link.index, link.name.clone())).collect()
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

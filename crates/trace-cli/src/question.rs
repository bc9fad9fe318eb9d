//! From places to the packet that the rules are asked for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, anyhow, bail};
use portolan_service::{Family, Protocol};
use portolan_trace::ruleset::Tool;
use portolan_trace::{Entry, Node, Packet, Ruleset, State};

use crate::meant::meant;
use crate::names::{Client, Names};
use crate::place::{PLACES, Place};

/// Where clients send from; rules of service proxies do not ask for it.
const CLIENT_PORT: u16 = 40000;
/// So many interfaces are listed when one is missing.
const LISTED: usize = 8;
/// A machine outside: addresses that nobody has (RFC 5737, RFC 3849).
const OUTSIDE: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(192, 0, 2, 7), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7));

/// What one packet is asked for by.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) from: Place,
    pub(crate) to: Place,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) family: Option<Family>,
    pub(crate) in_interface: Option<String>,
    pub(crate) state: State,
    pub(crate) rules: OfRules,
    /// Whoever sends it is outside of the cluster, though `from` is an address.
    pub(crate) from_outside: bool,
}

/// What dumps say of families.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OfRules {
    /// The only family that they have rules of: asked for where nothing else says which.
    only: Option<Family>,
    /// Each dump is of one family, so that rules of the other are missing.
    one_a_dump: bool,
}

impl OfRules {
    pub(crate) fn of(rules: &Ruleset) -> OfRules {
        OfRules {
            only: rules.only_family(),
            one_a_dump: rules.tables().iter().all(|table| table.tool != Tool::Nftables),
        }
    }
}

impl Question {
    /// The packet, on `node`.
    pub(crate) fn packet(&self, names: &Names, node: &Node) -> anyhow::Result<Packet> {
        let with_namespaces = |flag: &'static str, place| meant(place, names).context(flag);
        let from = with_namespaces("--from", &self.from)?;
        let to = with_namespaces("--to", &self.to)?;
        Question { from, to, ..self.clone() }.packet_between(names, node)
    }

    /// For a client outside: which address of a Service it uses, and which it does not.
    pub(crate) fn address_taken(&self, names: &Names, packet: &Packet) -> Option<String> {
        let Place::Service { namespace, name, port } = meant(&self.to, names).ok()? else { return None };
        let family = Some(packet.family());
        let found =
            names.service(&namespace, &name, port.as_deref(), self.protocol, family, self.client()).ok()?;
        let (taken, cluster_ip) = (packet.destination.ip(), found.not_cluster_ip?);
        let to = SocketAddr::new(cluster_ip, packet.destination.port());
        Some(format!(
            "a client outside uses {taken} of svc/{namespace}/{name}; to ask for the ClusterIP, give {to}"
        ))
    }

    fn client(&self) -> Client {
        if self.from_outside || self.from == Place::Outside { Client::Outside } else { Client::Inside }
    }

    fn packet_between(&self, names: &Names, node: &Node) -> anyhow::Result<Packet> {
        let wanted = self.family()?.or(self.rules.only);
        let (destination, protocol) = self.destination(names, node, wanted)?;
        let family = Family::of(destination.ip());
        if let Some(only) = self.rules.only.filter(|only| self.rules.one_a_dump && *only != family) {
            let program = if family == Family::V6 { "ip6tables-save" } else { "iptables-save" };
            bail!(
                "the packet is of {family}, and the rules that were given are of {only} only: give what {program} \
                 prints, too"
            );
        }
        let protocol = self.protocol.or(protocol).unwrap_or(Protocol::Tcp);
        let (source, port, from_node) = self.source(names, node, family, destination.ip())?;
        if Family::of(source) != family {
            bail!("the packet would go from {source} to {destination}: give two addresses of one family");
        }
        let entry = if from_node {
            if let Some(interface) = &self.in_interface {
                bail!(
                    "--in-interface {interface}: packets from the node itself come in through none; leave it out"
                );
            }
            Entry::Output
        } else {
            self.check_interface(node)?;
            Entry::Prerouting { interface: self.in_interface.clone() }
        };
        let mut packet =
            Packet::new(SocketAddr::new(source, port.unwrap_or(CLIENT_PORT)), destination, protocol, entry);
        packet.state = self.state;
        Ok(packet)
    }

    /// A live node has no other interfaces than those that its kernel listed.
    fn check_interface(&self, node: &Node) -> anyhow::Result<()> {
        let (Some(asked), Some(host)) = (&self.in_interface, &node.host) else { return Ok(()) };
        if host.interfaces.contains_key(asked) {
            return Ok(());
        }
        let known: Vec<&str> = host.interfaces.keys().map(String::as_str).take(LISTED).collect();
        let more = host.interfaces.len().saturating_sub(LISTED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        bail!(
            "--in-interface {asked}: this node has no such interface; it has {}{more} (`ip link`)",
            known.join(", ")
        );
    }

    pub(crate) fn family(&self) -> anyhow::Result<Option<Family>> {
        let said = [self.from.family(), self.to.family(), self.family];
        let mut family = None;
        for said in said.into_iter().flatten() {
            if family.is_some_and(|family| family != said) {
                bail!("addresses of both families: give two of one, and the --family of these or none");
            }
            family = Some(said);
        }
        Ok(family)
    }

    fn destination(
        &self,
        names: &Names,
        node: &Node,
        family: Option<Family>,
    ) -> anyhow::Result<(SocketAddr, Option<Protocol>)> {
        let with_port = |address: IpAddr, port: &Option<u16>, example: &str| {
            port.map(|port| (SocketAddr::new(address, port), None)).ok_or_else(|| {
                anyhow!("--to {example}: the port is missing: write {example}:80, for instance")
            })
        };
        let of_node = || family.or_else(|| only_family(node)).unwrap_or(Family::V4);
        match &self.to {
            Place::Address(address @ IpAddr::V6(_), port) => {
                with_port(*address, port, &format!("[{address}]"))
            }
            Place::Address(address, port) => with_port(*address, port, &address.to_string()),
            Place::Pod { namespace, name, port } => {
                let address = names.pod(namespace, name, family)?;
                with_port(address, port, &format!("pod/{namespace}/{name}"))
            }
            Place::Service { namespace, name, port } => {
                let found =
                    names.service(namespace, name, port.as_deref(), self.protocol, family, self.client())?;
                let address = match found.address {
                    Some(address) => address,
                    None => address_of(node, of_node())?,
                };
                Ok((SocketAddr::new(address, found.port), Some(found.protocol)))
            }
            Place::Short { .. } | Place::Bare { .. } => bail!("--to: {PLACES}"),
            Place::Node(port) => with_port(address_of(node, of_node())?, port, "node"),
            Place::Localhost(port) => with_port(loopback(family.unwrap_or(Family::V4)), port, "localhost"),
            Place::Outside => with_port(outside(family.unwrap_or(Family::V4)), &Some(443), "outside"),
        }
    }

    /// Address, port, and whether it is the node itself that sends.
    fn source(
        &self,
        names: &Names,
        node: &Node,
        family: Family,
        destination: IpAddr,
    ) -> anyhow::Result<(IpAddr, Option<u16>, bool)> {
        Ok(match &self.from {
            Place::Address(address, port) => (*address, *port, node.is_local(*address)),
            Place::Pod { namespace, name, port } => {
                let address = names.pod(namespace, name, Some(family))?;
                // Pods on the host's network send as the node does.
                (address, *port, node.is_local(address))
            }
            Place::Service { namespace, name, .. } => {
                bail!(
                    "--from svc/{namespace}/{name}: Services send nothing: give the pod or address that does"
                );
            }
            Place::Short { .. } | Place::Bare { .. } => bail!("--from: {PLACES}"),
            // The node sends to its own addresses from the same.
            Place::Node(port) if node.is_local(destination) => (destination, *port, true),
            Place::Node(port) => (address_towards(node, family, destination)?, *port, true),
            Place::Localhost(port) => (loopback(family), *port, true),
            Place::Outside => (outside(family), None, false),
        })
    }
}

/// The only family that the node is known to have an address of.
fn only_family(node: &Node) -> Option<Family> {
    let mut families = node
        .addresses
        .iter()
        .map(|(address, _)| address.addr())
        .filter(|address| !address.is_loopback() && !is_link_local(*address))
        .map(Family::of);
    let first = families.next()?;
    families.all(|family| family == first).then_some(first)
}

/// The address that the node sends from to `destination`: that of the interface it leaves through,
/// or else its first.
fn address_towards(node: &Node, family: Family, destination: IpAddr) -> anyhow::Result<IpAddr> {
    let interface = node.route(destination);
    let mut at = node.addresses.iter().filter(|(address, at)| {
        Some(at.as_str()) == interface
            && Family::of(address.addr()) == family
            && !is_link_local(address.addr())
    });
    match at.next() {
        Some((address, _)) => Ok(address.addr()),
        None => address_of(node, family),
    }
}

/// The node's first address of `family`.
fn address_of(node: &Node, family: Family) -> anyhow::Result<IpAddr> {
    node.addresses
        .iter()
        .map(|(address, _)| address.addr())
        .find(|address| Family::of(*address) == family && !address.is_loopback() && !is_link_local(*address))
        .ok_or_else(|| anyhow!("no {family} address of the node is known: give it with --node-ip"))
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

fn outside(family: Family) -> IpAddr {
    match family {
        Family::V4 => OUTSIDE.0.into(),
        Family::V6 => OUTSIDE.1.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        let address = |text: &str, at: &str| (text.parse().unwrap(), at.to_owned());
        Node {
            addresses: vec![
                address("127.0.0.1/8", "lo"),
                address("192.168.50.1/24", "eth0"),
                address("10.244.1.1/24", "cbr0"),
                address("fd00:50::1/64", "eth0"),
            ],
            routes: vec![address("0.0.0.0/0", "eth0")],
            ..Node::default()
        }
    }

    fn ask(line: &str) -> anyhow::Result<String> {
        let words: Vec<&str> = line.split(' ').collect();
        let question = Question {
            from: words[0].parse().map_err(anyhow::Error::msg)?,
            to: words[1].parse().map_err(anyhow::Error::msg)?,
            protocol: None,
            family: words.get(2).map(|family| if *family == "IPv6" { Family::V6 } else { Family::V4 }),
            in_interface: None,
            state: State::New,
            rules: OfRules::default(),
            from_outside: false,
        };
        let packet = question.packet(&Names::default(), &node())?;
        let hook = if packet.entry == Entry::Output { "output" } else { "prerouting" };
        Ok(format!("{hook} {} {} {}", packet.source, packet.destination, packet.protocol))
    }

    #[test]
    fn hooks_and_addresses_follow_from_places() {
        for (line, expected) in [
            ("10.244.1.9 10.96.0.1:80", "prerouting 10.244.1.9:40000 10.96.0.1:80 tcp"),
            ("10.244.1.9:1234 10.96.0.1:80", "prerouting 10.244.1.9:1234 10.96.0.1:80 tcp"),
            ("192.168.50.1 10.96.0.1:80", "output 192.168.50.1:40000 10.96.0.1:80 tcp"),
            ("node 10.96.0.1:80", "output 192.168.50.1:40000 10.96.0.1:80 tcp"),
            ("node 10.244.1.7:80", "output 10.244.1.1:40000 10.244.1.7:80 tcp"),
            ("node 192.168.50.1:30080", "output 192.168.50.1:40000 192.168.50.1:30080 tcp"),
            ("node localhost:30080", "output 127.0.0.1:40000 127.0.0.1:30080 tcp"),
            ("localhost localhost:30080", "output 127.0.0.1:40000 127.0.0.1:30080 tcp"),
            ("localhost 10.96.0.1:80", "output 127.0.0.1:40000 10.96.0.1:80 tcp"),
            ("outside node:30080", "prerouting 192.0.2.7:40000 192.168.50.1:30080 tcp"),
            ("outside node:30080 IPv6", "prerouting [2001:db8::7]:40000 [fd00:50::1]:30080 tcp"),
            ("outside [fd00::1]:80", "prerouting [2001:db8::7]:40000 [fd00::1]:80 tcp"),
            ("node [fd00::1]:80", "output [fd00:50::1]:40000 [fd00::1]:80 tcp"),
        ] {
            assert_eq!(ask(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_told_with_a_remedy() {
        for (line, part) in [
            ("10.244.1.9 10.96.0.1", "write 10.96.0.1:80"),
            ("10.244.1.9 fd00::1", "both families"),
            ("10.244.1.9 [fd00::1]:80", "both families"),
            ("fd00::9 10.96.0.1:80 IPv6", "both families"),
            ("outside node", "write node:80"),
            ("shop/web:http 10.96.0.1:80", "Services send nothing"),
            ("pod/shop/cart-0 10.96.0.1:80", "no pod is known by name"),
            ("outside shop/web:http", "no such Service"),
        ] {
            let refused = ask(line).unwrap_err().to_string();
            assert!(refused.contains(part), "{line}: {refused}");
        }
    }
}

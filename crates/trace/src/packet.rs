//! What is asked: a packet, and the node it meets.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use portolan_service::{Family, Protocol};

use crate::host::{Host, Refusal};

/// Where a packet meets the rules first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// It comes in from a pod or from outside.
    Prerouting {
        /// Through this interface; rules that ask for it "depend" if it is not said.
        interface: Option<String>,
    },
    /// A process in the node's own network namespace sends it.
    Output,
}

/// What connection tracking says of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The first of its connection. Only such packets meet the rules of nat tables.
    New,
    /// A later one, in the direction of the first.
    Established,
    /// Of another connection that belongs to one known.
    Related,
    /// Not to be understood.
    Invalid,
}

/// A packet to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Where it enters.
    pub entry: Entry,
    /// Its connection tracking state.
    pub state: State,
    /// Its mark when it enters.
    pub mark: u32,
    /// For packets of established connections: where the connection's first packet was sent.
    pub translated: Option<SocketAddr>,
}

impl Packet {
    /// The first packet of a connection, without a mark.
    pub fn new(source: SocketAddr, destination: SocketAddr, protocol: Protocol, entry: Entry) -> Packet {
        Packet { source, destination, protocol, entry, state: State::New, mark: 0, translated: None }
    }

    /// The family of its destination.
    pub fn family(&self) -> Family {
        Family::of(self.destination.ip())
    }
}

/// What the routes say of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Routed<'a> {
    /// Packets to it leave through this interface.
    Through(&'a str),
    /// A route refuses them.
    Refused(Refusal),
    /// There is no route.
    Nowhere,
    /// No route is known, or several that are as good.
    Unknown,
}

/// What rules can ask about the node. Loopback addresses are always local.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Its addresses and the interface of each.
    pub addresses: Vec<(IpNet, String)>,
    /// Its routes: what leaves through which interface. Networks of [`Node::addresses`] count as
    /// routes, too. Rules that ask for the interface of a packet without a route "depend".
    pub routes: Vec<(IpNet, String)>,
    /// What else its kernel says, if it was asked: then addresses and routes are all there are.
    pub host: Option<Host>,
}

impl Node {
    /// Whether `address` is one of the node's own.
    pub fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.iter().any(|(own, _)| own.addr() == address)
    }

    /// Whether it has `address` only because a Service does: kube-proxy's mode ipvs gives such
    /// addresses to a device of its own (spec §7.5).
    pub(crate) fn has_for_services(&self, address: IpAddr) -> bool {
        let mut own = self.addresses.iter().filter(|(own, _)| own.addr() == address).peekable();
        own.peek().is_some() && own.all(|(_, at)| at == "kube-ipvs0")
    }

    /// The interface through which a packet to `address` leaves.
    pub fn route(&self, address: IpAddr) -> Option<&str> {
        match self.routed(address) {
            Routed::Through(interface) => Some(interface),
            Routed::Refused(_) | Routed::Nowhere | Routed::Unknown => None,
        }
    }

    /// What the longest of the routes to `address` says. Where a kernel was asked for all of its
    /// routes, the networks of its addresses are among them.
    pub(crate) fn routed(&self, address: IpAddr) -> Routed<'_> {
        if self.is_local(address) {
            return Routed::Through("lo");
        }
        let connected = if self.host.is_none() { &self.addresses[..] } else { &[] };
        let refused = self.host.iter().flat_map(|host| &host.refused);
        let ways = connected
            .iter()
            .chain(&self.routes)
            .map(|(network, interface)| (network, Routed::Through(interface)))
            .chain(refused.map(|(network, refusal)| (network, Routed::Refused(*refusal))))
            .filter(|(network, _)| network.contains(&address));
        let mut longest: Option<(u8, Routed<'_>)> = None;
        for (network, way) in ways {
            match longest {
                Some((length, _)) if length > network.prefix_len() => {}
                Some((length, other)) if length == network.prefix_len() && other != way => {
                    longest = Some((length, Routed::Unknown));
                }
                _ => longest = Some((network.prefix_len(), way)),
            }
        }
        match (longest, &self.host) {
            (Some((_, way)), _) => way,
            (None, Some(host)) if !host.policy_routing => Routed::Nowhere,
            (None, _) => Routed::Unknown,
        }
    }

    /// Whether this is one of the interfaces that a kernel listed.
    pub(crate) fn has_interface(&self, name: &str) -> bool {
        self.host.as_ref().is_some_and(|host| host.interfaces.contains_key(name))
    }

    /// The first address of `family` at `interface`.
    pub(crate) fn address_at(&self, interface: &str, family: Family) -> Option<IpAddr> {
        self.addresses
            .iter()
            .find(|(address, at)| at == interface && Family::of(address.addr()) == family)
            .map(|(address, _)| address.addr())
    }

    /// The address that masquerading through `interface` gives. Loopback addresses of IPv4 are
    /// valid on this host only, and not taken. For what the node sends to itself, the first address
    /// of any other interface stands in (`inet_select_addr` of net/ipv4/devinet.c).
    pub(crate) fn masquerade_address(&self, interface: &str, family: Family) -> Option<IpAddr> {
        if family == Family::V6 {
            return self.address_at(interface, family);
        }
        let global =
            || self.addresses.iter().filter(|(own, _)| own.addr().is_ipv4() && !own.addr().is_loopback());
        let at_interface = global().find(|(_, at)| at == interface);
        at_interface.or_else(|| global().next()).map(|(own, _)| own.addr())
    }

    /// The type of `address` in the routing tables, as `RTN_*` of linux/rtnetlink.h.
    pub(crate) fn address_type(&self, address: IpAddr) -> u8 {
        const UNICAST: u8 = 1;
        const LOCAL: u8 = 2;
        const BROADCAST: u8 = 3;
        const MULTICAST: u8 = 5;
        let broadcast = match address {
            IpAddr::V4(v4) => {
                v4.is_broadcast()
                    || v4.octets()[0] == 0
                    || self.addresses.iter().any(
                        |(own, _)| matches!(own, IpNet::V4(own) if own.prefix_len() < 31 && own.broadcast() == v4),
                    )
            }
            IpAddr::V6(_) => false,
        };
        if self.is_local(address) {
            LOCAL
        } else if address.is_multicast() {
            MULTICAST
        } else if broadcast {
            BROADCAST
        } else {
            UNICAST
        }
    }
}

//! What a node's kernel does with packets besides its rules: forwarding, reverse paths, interfaces.

use std::collections::BTreeMap;

use ipnet::IpNet;
use portolan_service::{Family, PerFamily};

/// What is known of a live node's kernel. Of a dump nothing is, and nothing is concluded from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Whether packets are forwarded at all: `net.ipv4.conf.all.forwarding` (the same as
    /// `net.ipv4.ip_forward`) and `net.ipv6.conf.all.forwarding`.
    pub forwarding: PerFamily<bool>,
    /// Every interface, by name.
    pub interfaces: BTreeMap<String, Interface>,
    /// Networks to which a route refuses packets, of the main table.
    pub refused: Vec<(IpNet, Refusal)>,
    /// There are rules of policy routing besides the three that every kernel has (`ip rule`).
    /// Tables other than main and local may have routes, so that a missing route proves nothing.
    pub policy_routing: bool,
}

/// One interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "switches of the kernel that do not exclude each other")]
pub struct Interface {
    /// It is switched on (IFF_UP).
    pub up: bool,
    /// It has a carrier (IFF_LOWER_UP).
    pub carrier: bool,
    /// `net.ipv4.conf.INTERFACE.forwarding`: packets of IPv4 that come in through it are forwarded.
    pub forwards_v4: bool,
    /// How strictly sources of IPv4 are checked: the larger of `net.ipv4.conf.all.rp_filter` and
    /// that of the interface.
    pub reverse_path: ReversePath,
    /// `route_localnet`, of all interfaces or this one: packets of IPv4 may go to loopback
    /// addresses.
    pub route_localnet: bool,
}

/// How the source of a packet that comes in is checked (RFC 3704; `rp_filter` of
/// Documentation/networking/ip-sysctl.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReversePath {
    /// Not at all.
    Off,
    /// Answers must leave through the same interface.
    Strict,
    /// There must be a route to it.
    Loose,
}

/// A route that refuses packets (RTN_* of linux/rtnetlink.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// `blackhole`: silently.
    Blackhole,
    /// `unreachable`: the sender gets an error.
    Unreachable,
    /// `prohibit`: the sender gets an error.
    Prohibited,
}

impl Host {
    /// Whether the family is forwarded at all.
    pub fn forwards(&self, family: Family) -> bool {
        *self.forwarding.get(family)
    }
}

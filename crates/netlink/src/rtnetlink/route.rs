//! Routes (linux/rtnetlink.h).

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{FAMILY_V4, FAMILY_V6, Rtnetlink, family};
use crate::socket::IfThere;
use crate::wire::{Attribute, Attributes, Message, Writer, align};

const NEW: u16 = 24;
const DELETE: u16 = 25;
const GET: u16 = 26;

// RTA_*
const DESTINATION: u16 = 1;
const INTERFACE: u16 = 4;
const GATEWAY: u16 = 5;
const PRIORITY: u16 = 6;
const PREFERRED_SOURCE: u16 = 7;
const MULTIPATH: u16 = 9;
const TABLE: u16 = 15;

/// Length of `struct rtmsg`, bytes
const HEADER: usize = 12;
/// Length of `struct rtnexthop`, bytes; its own length is at 0, the interface at 4
const NEXT_HOP: usize = 8;

/// `RTPROT_BOOT`: set by hand
const BY_HAND: u8 = 3;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;
const UNICAST: u8 = 1;
const LOCAL: u8 = 2;
const BLACKHOLE: u8 = 6;
/// The loopback interface is the first of each network namespace.
const LOOPBACK: u32 = 1;
/// `RTNH_F_ONLINK`: the gateway need not be in a network of the interface.
const ON_LINK: u32 = 4;

/// The table that packets are routed by without policy routing (`RT_TABLE_MAIN`).
pub const MAIN_TABLE: u32 = 254;

/// The table of the node's own addresses, which is looked into first (`RT_TABLE_LOCAL`).
pub const LOCAL_TABLE: u32 = 255;

/// What becomes of packets on a route (`RTN_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// They go on.
    Unicast,
    /// The node takes them for its own.
    Local,
    /// They vanish.
    Blackhole,
    /// They are refused as unreachable.
    Unreachable,
    /// They are refused as prohibited.
    Prohibit,
    /// The look-up goes on in the next table.
    Throw,
    /// Anything else: broadcast, multicast.
    Other,
}

impl RouteKind {
    const fn of(number: u8) -> RouteKind {
        match number {
            UNICAST => RouteKind::Unicast,
            LOCAL => RouteKind::Local,
            BLACKHOLE => RouteKind::Blackhole,
            7 => RouteKind::Unreachable,
            8 => RouteKind::Prohibit,
            9 => RouteKind::Throw,
            _ => RouteKind::Other,
        }
    }
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The number of its table
    pub table: u32,
    /// What becomes of packets
    pub kind: RouteKind,
    /// Where they are for
    pub destination: IpNet,
    /// Whose it is (`rtm_protocol`): those above 4 are for programs to choose.
    pub protocol: u8,
    /// Less is preferred.
    pub metric: u32,
    /// The interfaces that it leads through: several of a multipath route; none if it does not say.
    pub interfaces: Vec<u32>,
}

impl Route {
    pub(super) fn parse(message: &Message<'_>) -> Option<Route> {
        if message.kind != NEW {
            return None;
        }
        let [family, length, _, _, table, protocol, _, kind, ..] =
            *message.payload.first_chunk::<HEADER>()?;
        let attributes = Attributes::new(message.payload.get(HEADER..)?);
        let anywhere = match family {
            FAMILY_V4 => IpAddr::from([0; 4]),
            FAMILY_V6 => IpAddr::from([0; 16]),
            _ => return None,
        };
        let destination = match attributes.get(DESTINATION) {
            Some(destination) => destination.address()?,
            None => anywhere,
        };
        let number = |kind: u16| attributes.get(kind).and_then(|attribute| attribute.ne32());
        let mut interfaces = Vec::from_iter(number(INTERFACE));
        interfaces.extend(attributes.get(MULTIPATH).into_iter().flat_map(|hops| next_hops(&hops)));
        Some(Route {
            table: number(TABLE).unwrap_or_else(|| table.into()),
            kind: RouteKind::of(kind),
            destination: IpNet::new(destination, length).ok()?.trunc(),
            protocol,
            metric: number(PRIORITY).unwrap_or(0),
            interfaces,
        })
    }
}

/// The interfaces of a multipath route.
fn next_hops(hops: &Attribute<'_>) -> Vec<u32> {
    let mut rest = hops.payload;
    let mut interfaces = Vec::new();
    while let Some([l0, l1, _, _, index @ ..]) = rest.first_chunk::<NEXT_HOP>() {
        interfaces.push(u32::from_ne_bytes(*index));
        let length = usize::from(u16::from_ne_bytes([*l0, *l1])).max(NEXT_HOP);
        rest = rest.get(align(length)..).unwrap_or(&[]);
    }
    interfaces
}

fn header(network: IpNet, via: Option<IpAddr>) -> [u8; HEADER] {
    let (scope, flags) = if via.is_some() { (SCOPE_UNIVERSE, ON_LINK) } else { (SCOPE_LINK, 0) };
    let [f0, f1, f2, f3] = flags.to_ne_bytes();
    let (family, length) = (family(network.addr()), network.prefix_len());
    let table = MAIN_TABLE.to_le_bytes()[0];
    [family, length, 0, 0, table, BY_HAND, scope, UNICAST, f0, f1, f2, f3]
}

fn local_header(address: IpAddr, protocol: u8) -> [u8; HEADER] {
    let length = IpNet::from(address).prefix_len();
    let table = LOCAL_TABLE.to_le_bytes()[0];
    [family(address), length, 0, 0, table, protocol, SCOPE_HOST, LOCAL, 0, 0, 0, 0]
}

fn everything_local_header(ipv6: bool, protocol: u8) -> [u8; HEADER] {
    let family = if ipv6 { FAMILY_V6 } else { FAMILY_V4 };
    [family, 0, 0, 0, 0, protocol, SCOPE_HOST, LOCAL, 0, 0, 0, 0]
}

fn blackhole_header(address: IpAddr, protocol: u8) -> [u8; HEADER] {
    let length = IpNet::from(address).prefix_len();
    [family(address), length, 0, 0, 0, protocol, SCOPE_UNIVERSE, BLACKHOLE, 0, 0, 0, 0]
}

fn emit(network: IpNet, via: Option<IpAddr>, index: u32, to: &mut Writer) {
    to.address(DESTINATION, network.network());
    to.ne32(INTERFACE, index);
    if let Some(via) = via {
        to.address(GATEWAY, via);
    }
}

impl Rtnetlink {
    /// The routes of all tables.
    pub fn routes(&mut self) -> io::Result<Vec<Route>> {
        self.routes_that(|_| true)
    }

    /// The routes of `protocol` in all tables. No others are kept: a node that speaks BGP may have
    /// a million.
    pub fn routes_of(&mut self, protocol: u8) -> io::Result<Vec<Route>> {
        self.routes_that(|route| route.protocol == protocol)
    }

    fn routes_that(&mut self, wanted: impl Fn(&Route) -> bool) -> io::Result<Vec<Route>> {
        self.netlink.dump_whole(
            GET,
            &[0; HEADER],
            |_| {},
            |routes: &mut Vec<Route>, message| {
                routes.extend(Route::parse(message).filter(&wanted));
            },
        )
    }

    /// Adds a route to the main table, or replaces the one to the same network. Without a gateway
    /// `via`, `network` is on the interface's link. The gateway need not be in a network of the
    /// interface.
    pub fn set_route(&mut self, network: IpNet, via: Option<IpAddr>, index: u32) -> io::Result<()> {
        self.netlink.create(NEW, IfThere::Replace, &header(network, via), |to| emit(network, via, index, to))
    }

    /// Deletes a route of the main table.
    pub fn delete_route(&mut self, network: IpNet, via: Option<IpAddr>, index: u32) -> io::Result<()> {
        self.netlink.acknowledged(DELETE, &header(network, via), |to| emit(network, via, index, to))
    }

    /// Has the node take `address` for its own, though no interface has it: adds a `local` route of
    /// `protocol`. `EEXIST`: it is local already, or has a route of another kind there. What this
    /// node sends there has the address `source`, which must be one of the node's (`EINVAL`), or
    /// without one `address` itself.
    pub fn add_local_route(
        &mut self,
        address: IpAddr,
        source: Option<IpAddr>,
        protocol: u8,
    ) -> io::Result<()> {
        self.netlink.create(NEW, IfThere::Refuse, &local_header(address, protocol), |to| {
            emit(address.into(), None, LOOPBACK, to);
            if let Some(source) = source {
                to.address(PREFERRED_SOURCE, source);
            }
        })
    }

    /// Has the node take for its own all packets, of IPv4 or of IPv6, that are routed by `table`:
    /// adds a `local` route of `protocol` to everywhere. `EEXIST`: the table has such a route.
    pub fn add_local_everything(&mut self, ipv6: bool, table: u32, protocol: u8) -> io::Result<()> {
        self.netlink.create(NEW, IfThere::Refuse, &everything_local_header(ipv6, protocol), |to| {
            to.ne32(TABLE, table);
            to.ne32(INTERFACE, LOOPBACK);
        })
    }

    /// Deletes what [`Rtnetlink::add_local_everything`] added; `ESRCH` if it is missing.
    pub fn delete_local_everything(&mut self, ipv6: bool, table: u32, protocol: u8) -> io::Result<()> {
        self.netlink.acknowledged(DELETE, &everything_local_header(ipv6, protocol), |to| {
            to.ne32(TABLE, table);
            to.ne32(INTERFACE, LOOPBACK);
        })
    }

    /// Adds a route of `protocol` to `table` on which packets to `address` vanish. `EEXIST`: the
    /// table has a route to it.
    pub fn add_blackhole(&mut self, address: IpAddr, table: u32, protocol: u8) -> io::Result<()> {
        self.netlink.create(NEW, IfThere::Refuse, &blackhole_header(address, protocol), |to| {
            to.address(DESTINATION, address);
            to.ne32(TABLE, table);
        })
    }

    /// Deletes what [`Rtnetlink::add_blackhole`] added; `ESRCH` if it is missing.
    pub fn delete_blackhole(&mut self, address: IpAddr, table: u32, protocol: u8) -> io::Result<()> {
        self.netlink.acknowledged(DELETE, &blackhole_header(address, protocol), |to| {
            to.address(DESTINATION, address);
            to.ne32(TABLE, table);
        })
    }

    /// Deletes what [`Rtnetlink::add_local_route`] added; `ESRCH` if it is missing.
    pub fn delete_local_route(&mut self, address: IpAddr, protocol: u8) -> io::Result<()> {
        self.netlink.acknowledged(DELETE, &local_header(address, protocol), |to| {
            emit(address.into(), None, LOOPBACK, to);
        })
    }
}

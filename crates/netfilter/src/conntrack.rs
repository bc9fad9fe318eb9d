//! Connection tracking entries (linux/netfilter/nfnetlink_conntrack.h).

use std::io;
use std::net::IpAddr;

use crate::nft::TableFamily;
use crate::socket::netfilter_header;
use portolan_netlink::socket::NetlinkSocket;
use portolan_netlink::wire::{Attribute, Message, Writer};

// NFNL_SUBSYS_CTNETLINK and enum cntl_msg_types
const NEW: u16 = 1 << 8;
const GET: u16 = NEW + 1;
const DELETE: u16 = NEW + 2;

// enum ctattr_type, ctattr_tuple, ctattr_ip, ctattr_l4proto
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const IPV4_SOURCE: u16 = 1;
const IPV4_DESTINATION: u16 = 2;
const IPV6_SOURCE: u16 = 3;
const IPV6_DESTINATION: u16 = 4;
const PROTO_NUMBER: u16 = 1;
const PROTO_SOURCE_PORT: u16 = 2;
const PROTO_DESTINATION_PORT: u16 = 3;

// Which parts of a tuple a dump is filtered by (net/netfilter/nf_conntrack_netlink.c)
const FILTER_ORIGINAL: u16 = 1;
const FILTER_REPLY: u16 = 2;
const FILTER_SOURCE: u32 = 1 << 0;
const FILTER_DESTINATION: u32 = 1 << 1;
const FILTER_PROTO_NUMBER: u32 = 1 << 3;
const FILTER_SOURCE_PORT: u32 = 1 << 4;
const FILTER_DESTINATION_PORT: u32 = 1 << 5;

const UDP: u8 = 17;

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Who sends
    pub source: IpAddr,
    /// Who receives
    pub destination: IpAddr,
    /// 0 for protocols without ports
    pub source_port: u16,
    /// 0 for protocols without ports
    pub destination_port: u16,
}

impl Tuple {
    fn emit(&self, kind: u16, protocol: u8, to: &mut Writer) {
        let tuple = to.nest(kind);
        let addresses = to.nest(TUPLE_IP);
        put_address(IPV4_SOURCE, IPV6_SOURCE, self.source, to);
        put_address(IPV4_DESTINATION, IPV6_DESTINATION, self.destination, to);
        to.end_nest(addresses);
        let ports = to.nest(TUPLE_PROTO);
        to.u8(PROTO_NUMBER, protocol);
        to.be16(PROTO_SOURCE_PORT, self.source_port);
        to.be16(PROTO_DESTINATION_PORT, self.destination_port);
        to.end_nest(ports);
        to.end_nest(tuple);
    }

    /// Reads a tuple and its protocol.
    fn parse(tuple: &Attribute<'_>) -> Option<(Tuple, u8)> {
        let tuple = tuple.nested();
        let addresses = tuple.get(TUPLE_IP)?.nested();
        let address = |v4, v6| {
            if let Some(v4) = addresses.get(v4) {
                return Some(IpAddr::from(*v4.payload.first_chunk::<4>()?));
            }
            Some(IpAddr::from(*addresses.get(v6)?.payload.first_chunk::<16>()?))
        };
        let proto = tuple.get(TUPLE_PROTO)?.nested();
        let port = |kind| proto.get(kind).and_then(|port| port.be16()).unwrap_or(0);
        let parsed = Tuple {
            source: address(IPV4_SOURCE, IPV6_SOURCE)?,
            destination: address(IPV4_DESTINATION, IPV6_DESTINATION)?,
            source_port: port(PROTO_SOURCE_PORT),
            destination_port: port(PROTO_DESTINATION_PORT),
        };
        Some((parsed, proto.get(PROTO_NUMBER)?.u8()?))
    }
}

fn put_address(v4: u16, v6: u16, address: IpAddr, to: &mut Writer) {
    match address {
        IpAddr::V4(address) => to.attribute(v4, &address.octets()),
        IpAddr::V6(address) => to.attribute(v6, &address.octets()),
    }
}

/// A connection that the kernel tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Transport protocol number
    pub protocol: u8,
    /// As the first packet was sent, before any translation
    pub original: Tuple,
    /// As answers to it are sent, before any translation
    pub reply: Tuple,
    /// Bit mask (`enum ip_conntrack_status`)
    pub status: u32,
    /// The kernel's number for it, a hash of its place in memory; a later connection of the same
    /// addresses and ports has another one unless it happens to get the same place
    pub id: u32,
    /// Its zone, unless that is 0
    pub zone: Option<u16>,
}

impl Flow {
    /// Reads an `IPCTNL_MSG_CT_NEW`.
    pub fn parse(message: &Message<'_>) -> Option<Flow> {
        let (_, attributes) = message.netfilter()?;
        let (original, protocol) = Tuple::parse(&attributes.get(TUPLE_ORIGINAL)?)?;
        let (reply, _) = Tuple::parse(&attributes.get(TUPLE_REPLY)?)?;
        Some(Flow {
            protocol,
            original,
            reply,
            status: attributes.get(STATUS)?.be32()?,
            id: attributes.get(ID)?.be32()?,
            zone: attributes.get(ZONE).and_then(|zone| zone.be16()),
        })
    }

    /// Appends what names exactly this connection.
    fn emit_identity(&self, to: &mut Writer) {
        self.original.emit(TUPLE_ORIGINAL, self.protocol, to);
        to.be32(ID, self.id);
        if let Some(zone) = self.zone {
            to.be16(ZONE, zone);
        }
    }

    fn family(&self) -> TableFamily {
        family_of(self.original.source)
    }
}

fn family_of(address: IpAddr) -> TableFamily {
    if address.is_ipv4() { TableFamily::Ip } else { TableFamily::Ip6 }
}

/// Access to the connections of one network namespace.
#[derive(Debug)]
pub struct Conntrack {
    netlink: NetlinkSocket,
    /// The kernel has not refused to filter dumps. Before 5.8 it ignores being asked.
    filters: bool,
}

impl Conntrack {
    /// Opens it for the calling thread's network namespace.
    pub fn open() -> io::Result<Conntrack> {
        Ok(Conntrack { netlink: NetlinkSocket::open(libc::NETLINK_NETFILTER)?, filters: true })
    }

    /// Calls `each` with every UDP connection, or only with those whose first packet was sent to
    /// `destination`, address and port. Connections that come and go meanwhile may be missing or
    /// come twice.
    pub fn udp_flows(
        &mut self,
        family: TableFamily,
        destination: Option<(IpAddr, u16)>,
        each: impl FnMut(&Flow),
    ) -> io::Result<()> {
        if destination.is_some_and(|(address, _)| family_of(address) != family) {
            return Ok(());
        }
        self.filtered(family, destination, None, each)
    }

    /// Calls `each` with every UDP connection whose first packet was sent to `destination`, and
    /// that `replier` answers, as [`Conntrack::udp_flows`] does.
    pub fn udp_flows_between(
        &mut self,
        destination: (IpAddr, u16),
        replier: (IpAddr, u16),
        each: impl FnMut(&Flow),
    ) -> io::Result<()> {
        self.filtered(family_of(destination.0), Some(destination), Some(replier), each)
    }

    fn filtered(
        &mut self,
        family: TableFamily,
        destination: Option<(IpAddr, u16)>,
        replier: Option<(IpAddr, u16)>,
        mut each: impl FnMut(&Flow),
    ) -> io::Result<()> {
        let mut wanted = |message: &Message<'_>| {
            let flow = (message.kind == NEW).then(|| Flow::parse(message)).flatten();
            let Some(flow) = flow.filter(|flow| flow.protocol == UDP) else { return };
            let to = (flow.original.destination, flow.original.destination_port);
            let from = (flow.reply.source, flow.reply.source_port);
            if destination.is_none_or(|destination| destination == to)
                && replier.is_none_or(|replier| replier == from)
            {
                each(&flow);
            }
        };
        if self.filters {
            let fill = |to: &mut Writer| put_filter(destination, replier, to);
            match self.netlink.dump(GET, &netfilter_header(family.number()), fill, &mut wanted) {
                // Refused before any flow came.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
                    self.filters = false;
                }
                result => return result.map(|_| ()),
            }
        }
        self.netlink.dump(GET, &netfilter_header(family.number()), |_| {}, wanted).map(|_| ())
    }

    /// Deletes exactly this connection and no later one of the same addresses and ports, which
    /// would have another [`Flow::id`]. False if it is gone.
    pub fn delete(&mut self, flow: &Flow) -> io::Result<bool> {
        let header = netfilter_header(flow.family().number());
        match self.netlink.acknowledged(DELETE, &header, |to| flow.emit_identity(to)) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Appends the filter for UDP connections, to `destination` and answered by `replier` alone if
/// these are given. Addresses are asked for in IPv4 only: for IPv6 kernels up to 6.18 at least
/// compare them the wrong way round (`ctnetlink_filter_match_tuple` takes equal for different).
fn put_filter(destination: Option<(IpAddr, u16)>, replier: Option<(IpAddr, u16)>, to: &mut Writer) {
    let mut parts = FILTER_PROTO_NUMBER;
    let tuple = to.nest(TUPLE_ORIGINAL);
    let addresses = to.nest(TUPLE_IP);
    if let Some((IpAddr::V4(address), _)) = destination {
        parts |= FILTER_DESTINATION;
        to.attribute(IPV4_DESTINATION, &address.octets());
    }
    to.end_nest(addresses);
    let ports = to.nest(TUPLE_PROTO);
    to.u8(PROTO_NUMBER, UDP);
    if let Some((_, port)) = destination {
        parts |= FILTER_DESTINATION_PORT;
        to.be16(PROTO_DESTINATION_PORT, port);
    }
    to.end_nest(ports);
    to.end_nest(tuple);
    let mut reply_parts = 0;
    if let Some((address, port)) = replier {
        reply_parts = FILTER_PROTO_NUMBER | FILTER_SOURCE_PORT;
        let tuple = to.nest(TUPLE_REPLY);
        let addresses = to.nest(TUPLE_IP);
        if let IpAddr::V4(address) = address {
            reply_parts |= FILTER_SOURCE;
            to.attribute(IPV4_SOURCE, &address.octets());
        }
        to.end_nest(addresses);
        let ports = to.nest(TUPLE_PROTO);
        to.u8(PROTO_NUMBER, UDP);
        to.be16(PROTO_SOURCE_PORT, port);
        to.end_nest(ports);
        to.end_nest(tuple);
    }
    let filter = to.nest(FILTER);
    // These two are in host byte order.
    to.attribute(FILTER_ORIGINAL, &parts.to_ne_bytes());
    to.attribute(FILTER_REPLY, &reply_parts.to_ne_bytes());
    to.end_nest(filter);
}

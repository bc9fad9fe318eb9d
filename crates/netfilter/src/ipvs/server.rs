//! Virtual servers.

use std::net::IpAddr;

use portolan_netlink::wire::{Attributes, Message, Writer};

use super::counters::Counters;
use super::scheduling::Scheduling;
use crate::nft::TableFamily;

const NEW: u8 = 1;

// linux/ip_vs.h: IPVS_CMD_ATTR_SERVICE, IPVS_SVC_ATTR_*
const SERVICE: u16 = 1;
const FAMILY: u16 = 1;
const PROTOCOL: u16 = 2;
const ADDRESS: u16 = 3;
const PORT: u16 = 4;
const FIREWALL_MARK: u16 = 5;
const COUNTERS: u16 = 12;
/// Length of `union nf_inet_addr`, bytes
const ADDRESS_LEN: usize = 16;

/// An address, a protocol and a port that a virtual server serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VirtualServer {
    /// Transport protocol number
    pub protocol: u8,
    /// Where it serves
    pub address: IpAddr,
    /// Where it serves; 0 for all ports
    pub port: u16,
}

/// Which packets a virtual server serves. The kernel looks for their mark first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServerKey {
    /// Those for an address, a protocol and a port.
    Address(VirtualServer),
    /// Those of a family with this mark, which is not 0.
    Mark(TableFamily, u32),
}

/// A virtual server as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerState {
    /// What it serves
    pub key: ServerKey,
    /// How it chooses among its destinations
    pub scheduling: Scheduling,
}

impl ServerState {
    /// Reads an `IPVS_CMD_NEW_SERVICE`.
    pub fn parse(message: &Message<'_>) -> Option<ServerState> {
        let service = service(message)?;
        Some(ServerState { key: ServerKey::parse(&service)?, scheduling: Scheduling::parse(&service)? })
    }

    /// Reads what was counted, of an `IPVS_CMD_NEW_SERVICE`.
    pub fn parse_counters(message: &Message<'_>) -> Option<(ServerKey, Counters)> {
        let service = service(message)?;
        let counters = service.get(COUNTERS)?.nested();
        Some((ServerKey::parse(&service)?, Counters::parse(&counters)))
    }
}

/// The attributes of the virtual server in an `IPVS_CMD_NEW_SERVICE`.
fn service<'a>(message: &Message<'a>) -> Option<Attributes<'a>> {
    // The head of generic netlink is as long as that of netfilter, and starts with the command.
    let (command, attributes) = message.netfilter()?;
    (command == NEW).then(|| attributes.get(SERVICE))?.map(|found| found.nested())
}

impl ServerKey {
    fn parse(service: &Attributes<'_>) -> Option<ServerKey> {
        let family = TableFamily::from_number(u8::try_from(service.get(FAMILY)?.ne16()?).ok()?)?;
        if let Some(mark) = service.get(FIREWALL_MARK) {
            return Some(ServerKey::Mark(family, mark.ne32()?));
        }
        Some(ServerKey::Address(VirtualServer {
            protocol: u8::try_from(service.get(PROTOCOL)?.ne16()?).ok()?,
            address: parse_address(family, service.get(ADDRESS)?.payload)?,
            port: service.get(PORT)?.be16()?,
        }))
    }

    /// What it serves, unless that is a mark.
    pub fn address(&self) -> Option<VirtualServer> {
        match self {
            ServerKey::Address(server) => Some(*server),
            ServerKey::Mark(..) => None,
        }
    }

    /// The family of its packets.
    pub fn family(&self) -> TableFamily {
        match self {
            ServerKey::Address(server) => family_of(server.address),
            ServerKey::Mark(family, _) => *family,
        }
    }

    /// Writes the key, and what `more` adds, as a virtual server.
    pub(super) fn emit(&self, to: &mut Writer, more: impl FnOnce(&mut Writer)) {
        let service = to.nest(SERVICE);
        to.ne16(FAMILY, self.family().number().into());
        match self {
            ServerKey::Address(VirtualServer { protocol, address, port }) => {
                to.ne16(PROTOCOL, u16::from(*protocol));
                to.attribute(ADDRESS, &address_bytes(*address));
                to.be16(PORT, *port);
            }
            ServerKey::Mark(_, mark) => to.ne32(FIREWALL_MARK, *mark),
        }
        more(to);
        to.end_nest(service);
    }
}

fn family_of(address: IpAddr) -> TableFamily {
    match address {
        IpAddr::V4(_) => TableFamily::Ip,
        IpAddr::V6(_) => TableFamily::Ip6,
    }
}

/// An IPv4 address is in the first bytes.
pub(super) fn address_bytes(address: IpAddr) -> [u8; ADDRESS_LEN] {
    match address {
        IpAddr::V4(address) => {
            let mut bytes = [0; ADDRESS_LEN];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
        IpAddr::V6(address) => address.octets(),
    }
}

pub(super) fn parse_address(family: TableFamily, payload: &[u8]) -> Option<IpAddr> {
    let bytes = payload.first_chunk::<ADDRESS_LEN>()?;
    match family {
        TableFamily::Ip => Some(IpAddr::from(*bytes.first_chunk::<4>()?)),
        TableFamily::Ip6 => Some(IpAddr::from(*bytes)),
    }
}

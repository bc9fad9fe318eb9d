//! Destinations of virtual servers.

use std::net::IpAddr;

use portolan_netlink::wire::{Message, Writer};

use super::NEW_DESTINATION;
use super::counters::Counters;
use super::server::{address_bytes, parse_address};
use crate::nft::TableFamily;

// linux/ip_vs.h: IPVS_CMD_ATTR_DEST, IPVS_DEST_ATTR_*
const DESTINATION: u16 = 2;
const ADDRESS: u16 = 1;
const PORT: u16 = 2;
const METHOD: u16 = 3;
const WEIGHT: u16 = 4;
const UPPER_THRESHOLD: u16 = 5;
const LOWER_THRESHOLD: u16 = 6;
const ACTIVE: u16 = 7;
const INACTIVE: u16 = 8;
const FAMILY: u16 = 11;
const COUNTERS: u16 = 12;
/// `IP_VS_CONN_F_MASQ`: packets are translated.
const TRANSLATED: u32 = 0;
/// `IP_VS_CONN_F_FWD_MASK`
const METHOD_MASK: u32 = 0x7;

/// Where a virtual server leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    /// Its address
    pub address: IpAddr,
    /// Its port, which is not 0
    pub port: u16,
    /// Its share of new connections; with 0 it gets none, and those that it has go on. Below 2^31.
    pub weight: u32,
}

/// A destination as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DestinationState {
    /// What it is
    pub destination: Destination,
    /// Packets are translated to it, rather than tunnelled or routed.
    pub is_translated: bool,
    /// Connections that are established
    pub active: u32,
    /// Other connections, those that have ended of late among them
    pub inactive: u32,
    /// What was counted
    pub counters: Counters,
}

impl DestinationState {
    /// Reads an `IPVS_CMD_NEW_DEST`.
    pub fn parse(message: &Message<'_>) -> Option<DestinationState> {
        let (command, attributes) = message.netfilter()?;
        if command != NEW_DESTINATION {
            return None;
        }
        let attributes = attributes.get(DESTINATION)?.nested();
        let number = |kind| attributes.get(kind).and_then(|found| found.ne32());
        let family = attributes.get(FAMILY)?.ne16()?;
        let family = TableFamily::from_number(u8::try_from(family).ok()?)?;
        Some(DestinationState {
            destination: Destination {
                address: parse_address(family, attributes.get(ADDRESS)?.payload)?,
                port: attributes.get(PORT)?.be16()?,
                weight: number(WEIGHT)?,
            },
            is_translated: number(METHOD)? & METHOD_MASK == TRANSLATED,
            active: number(ACTIVE)?,
            inactive: number(INACTIVE)?,
            counters: attributes
                .get(COUNTERS)
                .map_or_else(Counters::default, |found| Counters::parse(&found.nested())),
        })
    }
}

impl Destination {
    /// Writes what it is known by, and what `more` adds, as a destination.
    fn emit_key(&self, to: &mut Writer, more: impl FnOnce(&mut Writer)) {
        let destination = to.nest(DESTINATION);
        to.attribute(ADDRESS, &address_bytes(self.address));
        to.be16(PORT, self.port);
        let family = if self.address.is_ipv4() { TableFamily::Ip } else { TableFamily::Ip6 };
        to.ne16(FAMILY, family.number().into());
        more(to);
        to.end_nest(destination);
    }

    /// To find it by.
    pub(super) fn emit_known(&self, to: &mut Writer) {
        self.emit_key(to, |_| {});
    }

    /// To create or change it.
    pub(super) fn emit(&self, to: &mut Writer) {
        self.emit_key(to, |to| {
            to.ne32(METHOD, TRANSLATED);
            to.ne32(WEIGHT, self.weight);
            to.ne32(UPPER_THRESHOLD, 0);
            to.ne32(LOWER_THRESHOLD, 0);
        });
    }
}

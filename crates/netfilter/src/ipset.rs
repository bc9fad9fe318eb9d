//! ipsets: named sets of addresses and ports that iptables rules look into
//! (linux/netfilter/ipset/ip_set.h).

use std::io;
use std::net::IpAddr;
use std::path::Path;

use crate::nft::TableFamily;
use crate::socket::netfilter_header;
use portolan_netlink::socket::NetlinkSocket;
use portolan_netlink::wire::{Attribute, Message, Writer};

// NFNL_SUBSYS_IPSET and enum ipset_cmd
const SUBSYSTEM: u16 = 6 << 8;
const DESTROY: u16 = SUBSYSTEM + 3;
const LIST: u16 = SUBSYSTEM + 7;

/// `IPSET_PROTOCOL_MIN`: understood by all kernels since 2.6.39
const PROTOCOL_VERSION: u8 = 6;

// Attributes of a command, of an element, and of an address in one
const PROTOCOL: u16 = 1;
const SETNAME: u16 = 2;
const FLAGS: u16 = 6;
const DATA: u16 = 7;
const ADT: u16 = 8;
const IP: u16 = 1;
const PORT: u16 = 4;
const PROTO: u16 = 7;
const IPV4: u16 = 1;
const IPV6: u16 = 2;
/// `NLA_F_NET_BYTEORDER`
const NET_BYTEORDER: u16 = 1 << 14;
/// `IPSET_ATTR_REFERENCES`, in what is said about a set as a whole
const REFERENCES: u16 = 25;
/// `IPSET_FLAG_LIST_HEADER`: without elements
const HEADERS_ONLY: u32 = 1 << 2;
/// `IPSET_ERR_BUSY`, which is no errno
const BUSY: i32 = 4100;

/// The kernel has ipsets. Asking it in any other way would load the module.
pub fn is_present() -> bool {
    let modules = Path::new("/sys/module");
    // Without sysfs nobody knows.
    !modules.exists() || modules.join("ip_set").exists()
}

/// A set as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpSet {
    /// Its name
    pub name: String,
    /// How many rules and other sets refer to it
    pub references: u32,
}

impl IpSet {
    /// Reads an `IPSET_CMD_LIST`.
    pub fn parse(message: &Message<'_>) -> Option<IpSet> {
        let (_, attributes) = message.netfilter()?;
        let about = attributes.get(DATA).filter(|_| message.kind == LIST)?.nested();
        Some(IpSet {
            name: attributes.get(SETNAME)?.text()?.to_owned(),
            references: about.get(REFERENCES)?.be32()?,
        })
    }
}

/// An element, as far as it is an address, a protocol and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Member {
    /// Its address, if the set has such
    pub address: Option<IpAddr>,
    /// Its transport protocol number, if the set has such
    pub protocol: Option<u8>,
    /// Its port, if the set has such
    pub port: Option<u16>,
}

impl Member {
    fn parse(data: &Attribute<'_>) -> Member {
        let attributes = data.nested();
        let address = attributes.get(IP).and_then(|ip| {
            let ip = ip.nested();
            ip.get(IPV4).or_else(|| ip.get(IPV6))?.address()
        });
        Member {
            address,
            protocol: attributes.get(PROTO).and_then(|protocol| protocol.u8()),
            port: attributes.get(PORT).and_then(|port| port.be16()),
        }
    }

    /// Reads the elements in an `IPSET_CMD_LIST`.
    pub fn parse_all(message: &Message<'_>) -> Vec<Member> {
        let list = message.netfilter().and_then(|(_, attributes)| attributes.get(ADT));
        list.into_iter()
            .flat_map(|list| list.nested())
            .filter(|item| item.kind == DATA)
            .map(|item| Member::parse(&item))
            .collect()
    }
}

/// Why a set was not destroyed.
#[derive(Debug, thiserror::Error)]
pub enum DestroyError {
    /// A rule, or another set, refers to it.
    #[error("it is in use")]
    InUse,
    /// The kernel refuses for another reason.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Access to the sets of one network namespace.
#[derive(Debug)]
pub struct IpSets {
    netlink: NetlinkSocket,
}

impl IpSets {
    /// Opens it for the calling thread's network namespace.
    pub fn open() -> io::Result<IpSets> {
        Ok(IpSets { netlink: NetlinkSocket::open(libc::NETLINK_NETFILTER)? })
    }

    /// All sets.
    pub fn sets(&mut self) -> io::Result<Vec<IpSet>> {
        let mut sets = Vec::new();
        let fill = |to: &mut Writer| {
            to.u8(PROTOCOL, PROTOCOL_VERSION);
            to.be32(FLAGS | NET_BYTEORDER, HEADERS_ONLY);
        };
        self.netlink.dump(LIST, &header(), fill, |message| sets.extend(IpSet::parse(message)))?;
        Ok(sets)
    }

    /// The elements of a set; none if it is missing.
    pub fn members(&mut self, set: &str) -> io::Result<Vec<Member>> {
        let mut members = Vec::new();
        let fill = |to: &mut Writer| {
            to.u8(PROTOCOL, PROTOCOL_VERSION);
            to.string(SETNAME, set);
        };
        let collect = |message: &Message<'_>| {
            if message.kind == LIST {
                members.extend(Member::parse_all(message));
            }
        };
        match self.netlink.dump(LIST, &header(), fill, collect) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
            Err(error) => Err(error),
            Ok(_) => Ok(members),
        }
    }

    /// Destroys a set; false if it is missing.
    pub fn destroy(&mut self, set: &str) -> Result<bool, DestroyError> {
        let fill = |to: &mut Writer| {
            to.u8(PROTOCOL, PROTOCOL_VERSION);
            to.string(SETNAME, set);
        };
        match self.netlink.acknowledged(DESTROY, &header(), fill) {
            Ok(()) => Ok(true),
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT) => Ok(false),
                Some(BUSY) => Err(DestroyError::InUse),
                _ => Err(error.into()),
            },
        }
    }
}

/// The family is not looked at, but must be one.
const fn header() -> [u8; 4] {
    netfilter_header(TableFamily::Ip.number())
}

//! Virtual servers of IPVS (linux/ip_vs.h), by generic netlink (linux/genetlink.h).

use std::io;
use std::net::IpAddr;
use std::path::Path;

use crate::nft::TableFamily;
use portolan_netlink::socket::NetlinkSocket;
use portolan_netlink::wire::{Message, Writer};

// linux/genetlink.h
const CONTROL: u16 = 0x10;
const CONTROL_GET_FAMILY: u8 = 3;
const CONTROL_FAMILY_ID: u16 = 1;
const CONTROL_FAMILY_NAME: u16 = 2;

// linux/ip_vs.h: IPVS_CMD_*, IPVS_CMD_ATTR_SERVICE, IPVS_SVC_ATTR_*
const NAME: &str = "IPVS";
const NEW_SERVICE: u8 = 1;
const DELETE_SERVICE: u8 = 3;
const GET_SERVICE: u8 = 4;
const SERVICE: u16 = 1;
const FAMILY: u16 = 1;
const PROTOCOL: u16 = 2;
const ADDRESS: u16 = 3;
const PORT: u16 = 4;
const FIREWALL_MARK: u16 = 5;
/// Length of `union nf_inet_addr`, bytes
const ADDRESS_LEN: usize = 16;

/// The kernel has IPVS. Asking it in any other way would load the module.
pub fn is_present() -> bool {
    Path::new("/proc/thread-self/net/ip_vs").exists()
}

/// A virtual server for an address, a protocol and a port. (Others are for a firewall mark.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VirtualServer {
    /// Transport protocol number
    pub protocol: u8,
    /// Where it serves
    pub address: IpAddr,
    /// Where it serves; 0 for all ports
    pub port: u16,
}

impl VirtualServer {
    /// Reads an `IPVS_CMD_NEW_SERVICE`; `None` if it is for a firewall mark.
    pub fn parse(message: &Message<'_>) -> Option<VirtualServer> {
        // The head of generic netlink is as long as that of netfilter, and starts with the command.
        let (command, attributes) = message.netfilter()?;
        if command != NEW_SERVICE {
            return None;
        }
        let service = attributes.get(SERVICE)?.nested();
        if service.get(FIREWALL_MARK).is_some() {
            return None;
        }
        let family = TableFamily::from_number(u8::try_from(service.get(FAMILY)?.ne16()?).ok()?)?;
        let bytes = service.get(ADDRESS)?.payload.first_chunk::<ADDRESS_LEN>()?;
        let address = match family {
            TableFamily::Ip => IpAddr::from(*bytes.first_chunk::<4>()?),
            TableFamily::Ip6 => IpAddr::from(*bytes),
        };
        Some(VirtualServer {
            protocol: u8::try_from(service.get(PROTOCOL)?.ne16()?).ok()?,
            address,
            port: service.get(PORT)?.be16()?,
        })
    }

    fn emit(&self, to: &mut Writer) {
        let mut bytes = [0; ADDRESS_LEN];
        let family = match self.address {
            IpAddr::V4(address) => {
                bytes[..4].copy_from_slice(&address.octets());
                TableFamily::Ip
            }
            IpAddr::V6(address) => {
                bytes = address.octets();
                TableFamily::Ip6
            }
        };
        let service = to.nest(SERVICE);
        to.attribute(FAMILY, &u16::from(family.number()).to_ne_bytes());
        to.attribute(PROTOCOL, &u16::from(self.protocol).to_ne_bytes());
        to.attribute(ADDRESS, &bytes);
        to.be16(PORT, self.port);
        to.end_nest(service);
    }
}

/// Access to IPVS in one network namespace.
#[derive(Debug)]
pub struct Ipvs {
    netlink: NetlinkSocket,
    /// The number that this kernel gave it
    family: u16,
}

impl Ipvs {
    /// Opens it for the calling thread's network namespace. Loads the kernel module unless
    /// [`is_present`].
    pub fn open() -> io::Result<Ipvs> {
        let mut netlink = NetlinkSocket::open(libc::NETLINK_GENERIC)?;
        let mut family = None;
        let fill = |to: &mut Writer| to.string(CONTROL_FAMILY_NAME, NAME);
        netlink.ask(CONTROL, &header(CONTROL_GET_FAMILY), fill, |message| {
            let id = message.netfilter().and_then(|(_, attributes)| attributes.get(CONTROL_FAMILY_ID));
            family = family.or(id.and_then(|id| id.ne16()));
        })?;
        let family = family.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Ipvs { netlink, family })
    }

    /// All virtual servers that are not for a firewall mark.
    pub fn virtual_servers(&mut self) -> io::Result<Vec<VirtualServer>> {
        let mut servers = Vec::new();
        let collect = |message: &Message<'_>| servers.extend(VirtualServer::parse(message));
        self.netlink.dump(self.family, &header(GET_SERVICE), |_| {}, collect)?;
        Ok(servers)
    }

    /// Deletes a virtual server and what it leads to; false if it is missing.
    pub fn delete(&mut self, server: &VirtualServer) -> io::Result<bool> {
        match self.netlink.acknowledged(self.family, &header(DELETE_SERVICE), |to| server.emit(to)) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// `struct genlmsghdr`, of version 1
const fn header(command: u8) -> [u8; 4] {
    [command, 1, 0, 0]
}

//! Addresses of interfaces (linux/if_addr.h).

use std::io;

use ipnet::IpNet;

use super::{Rtnetlink, family, number_at};
use crate::socket::IfThere;
use crate::wire::{Attributes, Message, Writer};

// linux/rtnetlink.h
const NEW: u16 = 20;
const DELETE: u16 = 21;
const GET: u16 = 22;

// IFA_*
const PEER: u16 = 1;
const LOCAL: u16 = 2;

/// Length of `struct ifaddrmsg`, bytes; `ifa_prefixlen` is at 1, `ifa_index` at 4
const HEADER: usize = 8;
const INDEX: usize = 4;

/// `IFA_F_NODAD`: usable at once, without detection of duplicates
const NO_DETECTION: u8 = 0x02;

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The interface
    pub index: u32,
    /// The address itself, with the length of its network
    pub network: IpNet,
}

impl Address {
    pub(super) fn parse(message: &Message<'_>) -> Option<Address> {
        if message.kind != NEW {
            return None;
        }
        let attributes = Attributes::new(message.payload.get(HEADER..)?);
        // `IFA_ADDRESS` is the other end of a point-to-point link, and the same as `IFA_LOCAL`,
        // which IPv6 leaves out, on any other.
        let address = attributes.get(LOCAL).or_else(|| attributes.get(PEER))?.address()?;
        let network = IpNet::new(address, *message.payload.get(1)?).ok()?;
        Some(Address { index: number_at(message, INDEX)?, network })
    }

    fn header(&self) -> [u8; HEADER] {
        let [a, b, c, d] = self.index.to_ne_bytes();
        [family(self.network.addr()), self.network.prefix_len(), NO_DETECTION, 0, a, b, c, d]
    }

    fn emit(&self, to: &mut Writer) {
        to.address(LOCAL, self.network.addr());
        to.address(PEER, self.network.addr());
    }
}

impl Rtnetlink {
    /// All addresses of all interfaces.
    pub fn addresses(&mut self) -> io::Result<Vec<Address>> {
        self.netlink.dump_whole(
            GET,
            &[0; HEADER],
            |_| {},
            |addresses: &mut Vec<Address>, message| {
                addresses.extend(Address::parse(message));
            },
        )
    }

    /// Adds an address that is usable at once: duplicates are not looked for.
    pub fn add_address(&mut self, address: &Address) -> io::Result<()> {
        self.netlink.create(NEW, IfThere::Refuse, &address.header(), |to| address.emit(to))
    }

    /// Deletes an address.
    pub fn delete_address(&mut self, address: &Address) -> io::Result<()> {
        self.netlink.acknowledged(DELETE, &address.header(), |to| address.emit(to))
    }
}

//! Neighbours: hardware addresses on the link, by address (linux/neighbour.h).

use std::io;
use std::net::IpAddr;

use super::{HardwareAddress, Rtnetlink, family};
use crate::socket::IfThere;

// linux/rtnetlink.h
const NEW: u16 = 28;
const DELETE: u16 = 29;

// NDA_*
const DESTINATION: u16 = 1;
const HARDWARE_ADDRESS: u16 = 2;

/// `NUD_PERMANENT`
const PERMANENT: u16 = 0x80;

/// A `struct ndmsg`.
fn header(index: u32, address: IpAddr, state: u16) -> [u8; 12] {
    let ([i0, i1, i2, i3], [s0, s1]) = (index.to_ne_bytes(), state.to_ne_bytes());
    [family(address), 0, 0, 0, i0, i1, i2, i3, s0, s1, 0, 0]
}

impl Rtnetlink {
    /// Says once and for all which hardware address a neighbour has.
    pub fn set_neighbour(
        &mut self,
        index: u32,
        address: IpAddr,
        hardware: HardwareAddress,
    ) -> io::Result<()> {
        self.netlink.create(NEW, IfThere::Replace, &header(index, address, PERMANENT), |to| {
            to.address(DESTINATION, address);
            to.attribute(HARDWARE_ADDRESS, &hardware);
        })
    }

    /// Forgets which hardware address a neighbour was last seen at. False if it was not.
    pub fn forget_neighbour(&mut self, index: u32, address: IpAddr) -> io::Result<bool> {
        let forgotten = self
            .netlink
            .acknowledged(DELETE, &header(index, address, 0), |to| to.address(DESTINATION, address));
        match forgotten {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

//! Interfaces, their addresses, routes and neighbours (rtnetlink(7)).
//!
//! [`Rtnetlink`] asks and changes, [`Changes`] waits until somebody has changed something. An
//! interface is named by its index, as the kernel does; [`Rtnetlink::link`] finds it by name.

mod address;
mod link;
mod neighbour;
mod route;
mod rule;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

pub use address::Address;
pub use link::{HardwareAddress, Link, VethEnd};
pub use route::{LOCAL_TABLE, MAIN_TABLE, Route, RouteKind};
pub use rule::MarkRule;

use crate::socket::NetlinkSocket;
use crate::wire::Message;

/// Access to the interfaces and routes of one network namespace.
#[derive(Debug)]
pub struct Rtnetlink {
    netlink: NetlinkSocket,
}

impl Rtnetlink {
    /// Opens it for the calling thread's network namespace.
    pub fn open() -> io::Result<Rtnetlink> {
        Ok(Rtnetlink { netlink: NetlinkSocket::open(libc::NETLINK_ROUTE)? })
    }
}

/// What [`Changes`] can report (`RTNLGRP_*`, linux/rtnetlink.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Interfaces.
    Links = 1,
    /// IPv4 addresses of interfaces.
    Ipv4Addresses = 5,
    /// IPv6 addresses of interfaces.
    Ipv6Addresses = 9,
}

/// Word of changes in one network namespace.
#[derive(Debug)]
pub struct Changes {
    netlink: NetlinkSocket,
}

impl Changes {
    /// Listens in the calling thread's network namespace. What changes from now on wakes
    /// [`Changes::wait`].
    pub fn of(subjects: &[Subject]) -> io::Result<Changes> {
        let netlink = NetlinkSocket::open(libc::NETLINK_ROUTE)?;
        for subject in subjects {
            netlink.join(*subject as libc::c_int)?;
        }
        Ok(Changes { netlink })
    }

    /// Blocks until something has changed. What it was has to be asked for: events can be lost.
    pub fn wait(&mut self) -> io::Result<()> {
        match self.netlink.receive() {
            Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes all that has been reported so far, without waiting.
    pub fn drain(&mut self) {
        loop {
            match self.netlink.try_receive() {
                Ok(Some(_)) => {}
                // Events can be lost, which is reported as an error and means a change, too.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// As [`Changes::wait`], but not longer than `timeout`. Returns whether there may have been a
    /// change.
    pub fn wait_for(&mut self, timeout: Duration) -> io::Result<bool> {
        if !self.netlink.wait(timeout)? {
            return Ok(false);
        }
        self.wait()?;
        Ok(true)
    }
}

impl AsFd for Changes {
    /// Readable when something has changed.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.netlink.as_fd()
    }
}

/// `AF_INET` or `AF_INET6`
fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { FAMILY_V4 } else { FAMILY_V6 }
}

// linux/socket.h
const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 10;

/// The 32-bit number at a place of a message's head, in host byte order.
fn number_at(message: &Message<'_>, place: usize) -> Option<u32> {
    message.payload.get(place..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_message_makes_it_panic(kind in 16_u16..40, payload: Vec<u8>) {
            let message = Message { kind, flags: 0, sequence: 1, payload: &payload };
            let _ = link::Link::parse(&message);
            let _ = address::Address::parse(&message);
            let _ = route::Route::parse(&message);
            let _ = rule::Rule::parse(&message);
        }
    }
}

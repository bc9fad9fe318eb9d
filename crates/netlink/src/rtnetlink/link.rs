//! Network interfaces (linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h).

use std::io;
use std::net::IpAddr;

use crate::socket::Socket;
use crate::wire::{Attributes, Message, Writer};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;

/// `IFLA_IFNAME`
const NAME: u16 = 3;
/// `IFA_ADDRESS`; on a link that is no tunnel the same as `IFA_LOCAL`
const ADDRESS: u16 = 1;
/// Length of `struct ifinfomsg`, bytes; `ifi_index` is at 4
const LINK_HEADER: usize = 16;
/// Length of `struct ifaddrmsg`, bytes; `ifa_index` is at 4
const ADDRESS_HEADER: usize = 8;
const INDEX: usize = 4;

/// Access to the interfaces of one network namespace.
#[derive(Debug)]
pub struct Links {
    socket: Socket,
}

impl Links {
    /// Opens it for the calling thread's network namespace.
    pub fn open() -> io::Result<Links> {
        Ok(Links { socket: Socket::open_for(libc::NETLINK_ROUTE)? })
    }

    /// The number of the interface of that name, if there is one.
    pub fn index(&mut self, name: &str) -> io::Result<Option<u32>> {
        let mut index = None;
        let fill = |to: &mut Writer| to.string(NAME, name);
        let asked = self.socket.ask(GET_LINK, &[0; LINK_HEADER], fill, |message| {
            if message.kind == NEW_LINK {
                index = index_of(message);
            }
        });
        match asked {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(index),
        }
    }

    /// The addresses of an interface.
    pub fn addresses(&mut self, index: u32) -> io::Result<Vec<IpAddr>> {
        let mut addresses = Vec::new();
        self.socket.dump(
            GET_ADDRESS,
            &[0; ADDRESS_HEADER],
            |_| {},
            |message| {
                if message.kind == NEW_ADDRESS && index_of(message) == Some(index) {
                    addresses.extend(address_of(message));
                }
            },
        )?;
        Ok(addresses)
    }

    /// Deletes an interface with its addresses; false if it is missing.
    pub fn delete(&mut self, index: u32) -> io::Result<bool> {
        let mut header = [0; LINK_HEADER];
        header[INDEX..INDEX + 4].copy_from_slice(&index.to_ne_bytes());
        match self.socket.acknowledged(DELETE_LINK, &header, |_| {}) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The interface that an `RTM_NEWLINK` or `RTM_NEWADDR` is about.
fn index_of(message: &Message<'_>) -> Option<u32> {
    message.payload.get(INDEX..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn address_of(message: &Message<'_>) -> Option<IpAddr> {
    Attributes::new(message.payload.get(ADDRESS_HEADER..)?).get(ADDRESS)?.address()
}

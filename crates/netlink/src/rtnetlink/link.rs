//! Network interfaces (linux/if_link.h).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Rtnetlink, number_at};
use crate::socket::IfThere;
use crate::wire::{Attributes, Message, Writer};

// linux/rtnetlink.h
const NEW: u16 = 16;
const DELETE: u16 = 17;
const GET: u16 = 18;
const SET: u16 = 19;

// IFLA_*
const HARDWARE_ADDRESS: u16 = 1;
const NAME: u16 = 3;
const CONTROLLER: u16 = 10;
const STATE: u16 = 16;
const INFO: u16 = 18;
const GROUP: u16 = 27;
const NAMESPACE: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const BRIDGE_SPANNING_TREE: u16 = 5;
const VETH_PEER: u16 = 1;

/// Length of `struct ifinfomsg`, bytes
const HEADER: usize = 16;
/// Place of `ifi_type`, and its number for Ethernet (net/if_arp.h)
const KIND: usize = 2;
const ETHERNET: u16 = 1;
/// Place of `ifi_index` and `ifi_flags`
const INDEX: usize = 4;
const FLAGS: usize = 8;

// net/if.h
const UP: u32 = 1;
const LOWER_UP: u32 = 1 << 16;

// `IF_OPER_*`, linux/if.h
const NOT_PRESENT: u8 = 1;
const DOWN: u8 = 2;
const LOWER_LAYER_DOWN: u8 = 3;

/// A hardware address of Ethernet.
pub type HardwareAddress = [u8; 6];

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its network namespace
    pub index: u32,
    /// Its name
    pub name: String,
    /// It was set up.
    pub up: bool,
    /// What it is connected to is there.
    pub carrier: bool,
    /// Its hardware address, if it is one of Ethernet
    pub hardware: Option<HardwareAddress>,
    /// `IF_OPER_*`; 0 where the kernel does not say (loopback, a bridge)
    state: u8,
}

impl Link {
    pub(super) fn parse(message: &Message<'_>) -> Option<Link> {
        if message.kind != NEW {
            return None;
        }
        let flags = number_at(message, FLAGS)?;
        let attributes = Attributes::new(message.payload.get(HEADER..)?);
        Some(Link {
            index: number_at(message, INDEX)?,
            name: attributes.get(NAME)?.text()?.to_owned(),
            up: flags & UP != 0,
            carrier: flags & LOWER_UP != 0,
            hardware: attributes
                .get(HARDWARE_ADDRESS)
                .and_then(|address| HardwareAddress::try_from(address.payload).ok())
                .filter(|_| message.payload.get(KIND..KIND + 2) == Some(&ETHERNET.to_ne_bytes()[..])),
            state: attributes.get(STATE).and_then(|state| state.u8()).unwrap_or(0),
        })
    }

    /// It carries packets.
    pub fn is_running(&self) -> bool {
        self.up && self.carrier && !matches!(self.state, NOT_PRESENT | DOWN | LOWER_LAYER_DOWN)
    }
}

/// One of the two interfaces of a veth pair.
#[derive(Debug, Clone, Copy)]
pub struct VethEnd<'a> {
    /// Its name
    pub name: &'a str,
    /// Its hardware address; without it the kernel chooses one.
    pub address: Option<HardwareAddress>,
    /// Where it is to be, if not in the namespace that is asked
    pub namespace: Option<BorrowedFd<'a>>,
}

impl VethEnd<'_> {
    fn emit(&self, to: &mut Writer) {
        to.string(NAME, self.name);
        if let Some(address) = self.address {
            to.attribute(HARDWARE_ADDRESS, &address);
        }
        if let Some(namespace) = self.namespace {
            to.ne32(NAMESPACE, namespace.as_raw_fd().unsigned_abs());
        }
    }
}

/// A `struct ifinfomsg`: `flags` are those to set, out of `changed`.
fn header(index: u32, flags: u32, changed: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    for (place, number) in [(INDEX, index), (FLAGS, flags), (FLAGS + 4, changed)] {
        header[place..place + 4].copy_from_slice(&number.to_ne_bytes());
    }
    header
}

impl Rtnetlink {
    /// All interfaces.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        self.netlink.dump_whole(
            GET,
            &header(0, 0, 0),
            |_| {},
            |links: &mut Vec<Link>, message| {
                links.extend(Link::parse(message));
            },
        )
    }

    /// The interface of that name, if there is one.
    pub fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut link = None;
        let fill = |to: &mut Writer| to.string(NAME, name);
        let asked = self.netlink.ask(GET, &header(0, 0, 0), fill, |message| link = Link::parse(message));
        match asked {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(link),
        }
    }

    /// Creates a bridge without spanning tree: its ports forward at once. It keeps its hardware
    /// address when ports come and go.
    pub fn add_bridge(&mut self, name: &str, address: HardwareAddress) -> io::Result<()> {
        self.netlink.create(NEW, IfThere::Refuse, &header(0, 0, 0), |to| {
            to.string(NAME, name);
            to.attribute(HARDWARE_ADDRESS, &address);
            let info = to.nest(INFO);
            to.string(INFO_KIND, "bridge");
            let data = to.nest(INFO_DATA);
            to.ne32(BRIDGE_SPANNING_TREE, 0);
            to.end_nest(data);
            to.end_nest(info);
        })
    }

    /// Creates a pair of joined interfaces.
    pub fn add_veth(&mut self, one: VethEnd<'_>, other: VethEnd<'_>) -> io::Result<()> {
        self.netlink.create(NEW, IfThere::Refuse, &header(0, 0, 0), |to| {
            one.emit(to);
            let info = to.nest(INFO);
            to.string(INFO_KIND, "veth");
            let data = to.nest(INFO_DATA);
            let peer = to.nest(VETH_PEER);
            to.raw(&header(0, 0, 0));
            other.emit(to);
            to.end_nest(peer);
            to.end_nest(data);
            to.end_nest(info);
        })
    }

    /// Makes an interface a port of a bridge.
    pub fn set_controller(&mut self, index: u32, bridge: u32) -> io::Result<()> {
        self.netlink.acknowledged(SET, &header(index, 0, 0), |to| to.ne32(CONTROLLER, bridge))
    }

    /// Sets an interface up, or down.
    pub fn set_up(&mut self, index: u32, up: bool) -> io::Result<()> {
        let flags = if up { UP } else { 0 };
        self.netlink.acknowledged(SET, &header(index, flags, UP), |_| {})
    }

    /// Puts an interface into a group, a number that means nothing to the kernel; 0 is that of all
    /// others.
    pub fn set_group(&mut self, index: u32, group: u32) -> io::Result<()> {
        self.netlink.acknowledged(SET, &header(index, 0, 0), |to| to.ne32(GROUP, group))
    }

    /// Deletes all interfaces of a group as [`Rtnetlink::delete_link`] does one, and hardly slower:
    /// the kernel waits once for whoever looks at them. False if there is none.
    pub fn delete_group(&mut self, group: u32) -> io::Result<bool> {
        match self.netlink.acknowledged(DELETE, &header(0, 0, 0), |to| to.ne32(GROUP, group)) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes an interface with its addresses, and of a veth pair the other one too. False if it
    /// is missing.
    pub fn delete_link(&mut self, index: u32) -> io::Result<bool> {
        match self.netlink.acknowledged(DELETE, &header(index, 0, 0), |_| {}) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

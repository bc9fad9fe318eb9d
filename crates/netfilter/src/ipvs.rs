//! Virtual servers of IPVS and their destinations (linux/ip_vs.h), by generic netlink
//! (linux/genetlink.h). Needs `CAP_NET_ADMIN` in the initial user namespace.

mod counters;
mod destination;
mod request;
mod scheduling;
mod server;

use std::io;
use std::path::Path;

use portolan_netlink::socket::NetlinkSocket;
use portolan_netlink::wire::{Message, Writer};

pub use self::counters::{Counters, Counts};
pub use self::destination::{Destination, DestinationState};
pub use self::request::Request;
pub use self::scheduling::{HASH_BY_PORT, REFUSE_NOBODY, Scheduling};
pub use self::server::{ServerKey, ServerState, VirtualServer};

// linux/genetlink.h
const CONTROL: u16 = 0x10;
const CONTROL_GET_FAMILY: u8 = 3;
const CONTROL_FAMILY_ID: u16 = 1;
const CONTROL_FAMILY_NAME: u16 = 2;

// linux/ip_vs.h: IPVS_CMD_*, IPVS_CMD_ATTR_*
const NAME: &str = "IPVS";
const GET_SERVICE: u8 = 4;
const NEW_DESTINATION: u8 = 5;
const GET_DESTINATION: u8 = 8;
const SET_CONFIG: u8 = 12;
const TIMEOUT_TCP: u16 = 4;
const TIMEOUT_TCP_FIN: u16 = 5;
const TIMEOUT_UDP: u16 = 6;

/// The kernel has IPVS. Asking it in any other way would load the module.
pub fn is_present() -> bool {
    Path::new("/proc/thread-self/net/ip_vs").exists()
}

/// How long connections are remembered without packets, seconds; 0 leaves a timeout as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP connections
    pub tcp: u32,
    /// TCP connections that are being closed
    pub tcp_fin: u32,
    /// UDP flows
    pub udp: u32,
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
    /// [`is_present`]. `ENOENT`: the kernel has no IPVS.
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

    /// All virtual servers.
    pub fn servers(&mut self) -> io::Result<Vec<ServerState>> {
        let mut servers = Vec::new();
        let collect = |message: &Message<'_>| servers.extend(ServerState::parse(message));
        self.netlink.dump(self.family, &header(GET_SERVICE), |_| {}, collect)?;
        Ok(servers)
    }

    /// The destinations of a virtual server; none if it is missing.
    pub fn destinations(&mut self, server: &ServerKey) -> io::Result<Vec<DestinationState>> {
        let mut destinations = Vec::new();
        let collect = |message: &Message<'_>| destinations.extend(DestinationState::parse(message));
        let dump =
            self.netlink.dump(self.family, &header(GET_DESTINATION), |to| server.emit(to, |_| {}), collect);
        match dump {
            Err(error) if is_missing(&error) => Ok(Vec::new()),
            dump => dump.map(|_| destinations),
        }
    }

    /// What was counted at a virtual server; `None` if it is missing.
    pub fn counters(&mut self, server: &ServerKey) -> io::Result<Option<Counters>> {
        let mut counters = None;
        let fill = |to: &mut Writer| server.emit(to, |_| {});
        let asked = self.netlink.ask(self.family, &header(GET_SERVICE), fill, |message| {
            counters = counters.or(ServerState::parse_counters(message).map(|(_, counters)| counters));
        });
        match asked {
            Err(error) if is_missing(&error) => Ok(None),
            asked => asked.map(|()| counters),
        }
    }

    /// Calls `each` with what was counted at each virtual server.
    pub fn each_counters(&mut self, mut each: impl FnMut(ServerKey, Counters)) -> io::Result<()> {
        let take = |message: &Message<'_>| {
            if let Some((server, counters)) = ServerState::parse_counters(message) {
                each(server, counters);
            }
        };
        self.netlink.dump(self.family, &header(GET_SERVICE), |_| {}, take).map(drop)
    }

    /// Does what is asked for, in order. A request that fails stops no other. Returns the numbers
    /// of those that failed, with the error of each: `EEXIST` for what is there, `ENOENT` and
    /// `ESRCH` for what is missing, and `ENOENT` for an unknown scheduler.
    pub fn request(&mut self, requests: &[Request<'_>]) -> io::Result<Vec<(usize, io::Error)>> {
        let failed =
            self.netlink.batch(self.family, requests, |request| header(request.command()), Request::emit)?;
        Ok(failed.into_iter().map(|(index, errno)| (index, io::Error::from_raw_os_error(errno))).collect())
    }

    /// Deletes a virtual server and what it leads to; false if it is missing.
    pub fn delete(&mut self, server: &ServerKey) -> io::Result<bool> {
        match self.request(&[Request::DeleteServer(server)])?.pop() {
            None => Ok(true),
            Some((_, error)) if is_missing(&error) => Ok(false),
            Some((_, error)) => Err(error),
        }
    }

    /// Sets the timeouts of the network namespace.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) -> io::Result<()> {
        let Timeouts { tcp, tcp_fin, udp } = timeouts;
        self.netlink.acknowledged(self.family, &header(SET_CONFIG), |to| {
            for (kind, seconds) in [(TIMEOUT_TCP, tcp), (TIMEOUT_TCP_FIN, tcp_fin), (TIMEOUT_UDP, udp)] {
                to.ne32(kind, seconds);
            }
        })
    }
}

/// A request failed because its virtual server or destination is missing.
pub fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT))
}

/// `struct genlmsghdr`, of version 1
const fn header(command: u8) -> [u8; 4] {
    [command, 1, 0, 0]
}

#[cfg(test)]
mod tests;

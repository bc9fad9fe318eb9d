//! A netlink socket of the netfilter family. Transactions are in `commit.rs`, what the rule set
//! holds is read in `read.rs`.

mod commit;
mod read;

use std::io;
use std::time::Duration;

use portolan_netlink::socket::NetlinkSocket;
use portolan_netlink::wire::{Messages, NFGENMSG_LEN};

pub use commit::{CommitError, MessageError};

use crate::nft::{TRACE_GROUP, TraceEvent};

/// A socket in one network namespace.
#[derive(Debug)]
pub struct Socket {
    netlink: NetlinkSocket,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> io::Result<Socket> {
        Ok(Socket { netlink: NetlinkSocket::open(libc::NETLINK_NETFILTER)? })
    }

    /// Moves it to a descriptor of at least `number`: what belongs to it goes before what belongs
    /// to lower ones if the process is killed ([`NetlinkSocket::move_above`]).
    pub fn move_above(&mut self, number: i32) -> io::Result<()> {
        self.netlink.move_above(number)
    }

    /// What carries its messages.
    pub(crate) fn netlink(&mut self) -> &mut NetlinkSocket {
        &mut self.netlink
    }

    /// From now on [`Socket::trace_events`] reports packets that are traced. Such a socket is for
    /// nothing else: what comes between answers to requests would be lost.
    pub fn join_trace(&self) -> io::Result<()> {
        self.netlink.join(TRACE_GROUP)
    }

    /// Waits for trace events, not longer than `timeout`, and calls `each` with those of one
    /// datagram, or with none. Returns whether there were any. `ENOBUFS` says that some were lost;
    /// the next call goes on.
    pub fn trace_events(&mut self, timeout: Duration, each: impl FnMut(TraceEvent)) -> io::Result<bool> {
        if !self.netlink.wait(timeout)? {
            return Ok(false);
        }
        let Some(datagram) = self.netlink.try_receive()? else { return Ok(false) };
        Messages::new(datagram)
            .map_while(Result::ok)
            .filter_map(|message| TraceEvent::parse(&message))
            .for_each(each);
        Ok(true)
    }
}

/// The `struct nfgenmsg` of a request about `family`.
pub(crate) const fn netfilter_header(family: u8) -> [u8; NFGENMSG_LEN] {
    [family, 0, 0, 0]
}

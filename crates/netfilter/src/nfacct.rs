//! Named counters that rules of iptables count into with `-m nfacct`
//! (linux/netfilter/nfnetlink_acct.h).
//!
//! They belong to the network namespace, not to a family or a table, and outlive the rules that
//! name them.

use std::io;

use crate::socket::{Socket, netfilter_header};
use portolan_netlink::wire::Message;

// NFNL_SUBSYS_ACCT and enum nfnl_acct_msg_types
const NEW: u16 = 7 << 8;
const GET: u16 = NEW + 1;

// enum nfnl_acct_type
const NAME: u16 = 1;
const PACKETS: u16 = 2;
const BYTES: u16 = 3;

/// The longest name of a counter, bytes (`NFACCT_NAME_MAX` without its NUL).
pub const NAME_MAX: usize = 31;

/// What a counter has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counter {
    /// Packets
    pub packets: u64,
    /// Bytes, network headers included
    pub bytes: u64,
}

impl Counter {
    /// Reads the counter `name` in an `NFNL_MSG_ACCT_NEW`.
    pub fn parse(message: &Message<'_>, name: &str) -> Option<Counter> {
        let (_, attributes) = message.netfilter().filter(|_| message.kind == NEW)?;
        if attributes.get(NAME)?.text()? != name {
            return None;
        }
        Some(Counter { packets: attributes.get(PACKETS)?.be64()?, bytes: attributes.get(BYTES)?.be64()? })
    }
}

/// Creates a counter if it is missing; one that is there counts on. False if the kernel has no such
/// counters. Needs `CAP_NET_ADMIN`.
pub fn ensure(socket: &mut Socket, name: &str) -> io::Result<bool> {
    check(name)?;
    match socket.netlink().acknowledged(NEW, &header(), |to| to.string(NAME, name)) {
        Ok(()) => Ok(true),
        // It is there.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST)) => Ok(true),
        Err(error) if is_missing_subsystem(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads a counter; `None` if there is none of that name, or if the kernel has no such counters.
pub fn read(socket: &mut Socket, name: &str) -> io::Result<Option<Counter>> {
    check(name)?;
    let mut counter = None;
    let collect = |message: &Message<'_>| counter = counter.or_else(|| Counter::parse(message, name));
    match socket.netlink().ask(GET, &header(), |to| to.string(NAME, name), collect) {
        Ok(()) => Ok(counter),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) || is_missing_subsystem(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What nfnetlink answers for a subsystem that it does not have, now that the name is known to be
/// fine.
fn is_missing_subsystem(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP))
}

fn check(name: &str) -> io::Result<()> {
    if name.is_empty() || name.len() > NAME_MAX || name.contains('\0') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("name of a counter, \"{name}\": must have 1 to {NAME_MAX} bytes, none of them NUL"),
        ));
    }
    Ok(())
}

/// Counters have no family.
const fn header() -> [u8; portolan_netlink::wire::NFGENMSG_LEN] {
    netfilter_header(0)
}

//! What makes steered packets the node's own: a rule of policy routing for a bit of their mark, and
//! a table with one route.

use std::io;

use portolan_netlink::rtnetlink::{MarkRule, Rtnetlink};
use portolan_service::Family;

use super::kernel::netlink;
use crate::error::Error;

/// The number of the table, and of whose the rule and the route are (`rtm_protocol`): above those
/// that the kernel and routing daemons use.
const TABLE: u32 = 20_556;
const OURS: u8 = 80;
/// After the table of the node's own addresses, and before rules of network plugins.
const PRIORITY: u32 = 5;

/// The rule and the route of each family.
#[derive(Debug)]
pub(super) struct Routing {
    kernel: Rtnetlink,
    rule: MarkRule,
}

impl Routing {
    pub(super) fn open(bit: u32) -> Result<Routing, Error> {
        let kernel = Rtnetlink::open().map_err(netlink("opening a netlink socket for routes"))?;
        Ok(Routing { kernel, rule: MarkRule { priority: PRIORITY, bit, table: TABLE, protocol: OURS } })
    }

    /// Makes what is missing. Returns whether anything was.
    pub(super) fn ensure(&mut self, families: &[Family]) -> Result<bool, Error> {
        let mut missing = false;
        for family in families {
            let ipv6 = *family == Family::V6;
            // The route first: without it, a rule leads nowhere.
            missing |= is_new(self.kernel.add_local_everything(ipv6, TABLE, OURS))
                .map_err(netlink("adding the route to IPVS"))?;
            missing |= is_new(self.kernel.add_mark_rule(ipv6, &self.rule))
                .map_err(netlink("adding the routing rule for packets to IPVS"))?;
        }
        Ok(missing)
    }

    /// Removes what is there, of whatever bit. Returns whether anything was.
    pub(super) fn remove(&mut self) -> Result<bool, Error> {
        let mut removed = false;
        for ipv6 in [false, true] {
            for bit in (0..u32::BITS).map(|bit| 1 << bit) {
                let rule = MarkRule { bit, ..self.rule };
                removed |= is_gone(self.kernel.delete_mark_rule(ipv6, &rule))
                    .map_err(netlink("deleting the routing rule for packets to IPVS"))?;
            }
            removed |= is_gone(self.kernel.delete_local_everything(ipv6, TABLE, OURS))
                .map_err(netlink("deleting the route to IPVS"))?;
        }
        Ok(removed)
    }
}

fn is_new(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_gone(result: io::Result<()>) -> io::Result<bool> {
    const MISSING: [i32; 3] = [libc::ENOENT, libc::ESRCH, libc::EAFNOSUPPORT];
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error().is_some_and(|code| MISSING.contains(&code)) => Ok(false),
        Err(error) => Err(error),
    }
}

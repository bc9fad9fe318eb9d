//! Routes to addresses in a routing table of its own, for a routing daemon to read: it announces
//! what is there, by BGP for instance. No packet is routed by them.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use portolan_netlink::rtnetlink::{RouteKind, Rtnetlink};

/// Whose the routes are (`rtm_protocol`), in whatever table.
const OURS: u8 = 155;

/// The routes of a table.
#[derive(Debug)]
pub struct Routes {
    table: u32,
    rtnetlink: Rtnetlink,
    wanted: BTreeSet<IpAddr>,
    /// What has yet to be brought in line with what is wanted: the table of a route, and its
    /// address.
    pending: BTreeSet<(u32, IpAddr)>,
}

impl Routes {
    /// Those of `table`, in the calling thread's network namespace. What is there, and in other
    /// tables, of a process that was killed goes with the first [`Routes::sync`], unless it is
    /// wanted again.
    pub fn of(table: u32) -> io::Result<Routes> {
        let mut rtnetlink = Rtnetlink::open()?;
        let pending = ours(&mut rtnetlink)?.into_iter().collect();
        Ok(Routes { table, rtnetlink, wanted: BTreeSet::new(), pending })
    }

    /// The number of the table.
    pub fn table(&self) -> u32 {
        self.table
    }

    /// The addresses that have a route in it.
    pub fn present(&self) -> impl Iterator<Item = IpAddr> {
        let pending = |address: &&IpAddr| self.pending.contains(&(self.table, **address));
        self.wanted.iter().filter(move |address| !pending(address)).copied()
    }

    /// Whether there shall be a route to `address`, after the next [`Routes::sync`].
    pub fn want(&mut self, address: IpAddr, is_wanted: bool) {
        let changed = if is_wanted { self.wanted.insert(address) } else { self.wanted.remove(&address) };
        if changed {
            self.pending.insert((self.table, address));
        }
    }

    /// Adds and deletes routes as is wanted. What fails is tried again the next time.
    pub fn sync(&mut self) -> io::Result<()> {
        let mut failed = None;
        for (table, address) in std::mem::take(&mut self.pending) {
            let (done, expected) = if table == self.table && self.wanted.contains(&address) {
                (self.rtnetlink.add_blackhole(address, table, OURS), libc::EEXIST)
            } else {
                (self.rtnetlink.delete_blackhole(address, table, OURS), libc::ESRCH)
            };
            match done {
                Err(error) if error.raw_os_error() != Some(expected) => {
                    failed = Some(error);
                    self.pending.insert((table, address));
                }
                _ => {}
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Removes those of all tables, and returns their addresses.
    pub fn clean_up() -> io::Result<Vec<IpAddr>> {
        let mut rtnetlink = Rtnetlink::open()?;
        let mut removed = Vec::new();
        for (table, address) in ours(&mut rtnetlink)? {
            match rtnetlink.delete_blackhole(address, table, OURS) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
                _ => removed.push(address),
            }
        }
        Ok(removed)
    }
}

/// The table and the address of each of our routes.
fn ours(rtnetlink: &mut Rtnetlink) -> io::Result<Vec<(u32, IpAddr)>> {
    let routes = rtnetlink.routes_of(OURS)?.into_iter();
    let ours = routes.filter(|route| {
        route.kind == RouteKind::Blackhole && route.destination == IpNet::from(route.destination.addr())
    });
    Ok(ours.map(|route| (route.table, route.destination.addr())).collect())
}

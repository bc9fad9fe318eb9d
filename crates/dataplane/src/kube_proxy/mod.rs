//! Taking over from kube-proxy: finds and removes what any of its modes left in the kernel, without its tools.
//!
//! To be called when our own rules are in force: then no connection finds a moment without rules. Rules, chains, virtual
//! servers and ipsets of others stay as they are, counters included; so do kubelet's (spec §5.40), and what these rely
//! on. kube-proxy must not be running, or it puts back what it misses.
//!
//! Connections that iptables or nftables translated go on, as connection tracking remembers them. Those that IPVS balances
//! end: the kernel drops their packets when their virtual server is gone.

mod iptables_legacy;
mod iptables_nft;
mod ipvs;
mod ownership;
mod report;
mod tables;
mod xtables_lock;

pub use report::{Error, Failure, Kept, Leftovers, Part, Removed, Variant};

use std::path::Path;

use portolan_netfilter::socket::Socket;
use report::Report;

/// Looks what kube-proxy has left; changes nothing, and loads no kernel module. Parts that cannot be read are in the
/// error, with all others that were found.
pub fn find() -> Result<Leftovers, Error> {
    let mut report = Report::default();
    if let Some(mut socket) = open(&mut report) {
        iptables_nft::find(&mut socket, &mut report);
        tables::find(&mut socket, &mut report);
    }
    iptables_legacy::find(&mut report);
    ipvs::find(&mut report);
    report.finish().map(|(parts, kept)| Leftovers { parts, kept })
}

/// Removes what kube-proxy has left, each part in one step. What is missing is fine. A part that cannot be removed is in
/// the error, and the others are removed nevertheless.
///
/// Tables of iptables-legacy are changed under the lock that all programs take that do so, the file `/run/xtables.lock`,
/// which a container must share with the host.
pub fn remove() -> Result<Removed, Error> {
    remove_locking(Path::new(xtables_lock::PATH))
}

/// As [`remove`], with the lock of iptables-legacy elsewhere.
pub fn remove_locking(xtables_lock: &Path) -> Result<Removed, Error> {
    let mut report = Report::default();
    if let Some(mut socket) = open(&mut report) {
        iptables_nft::remove(&mut socket, &mut report);
        tables::remove(&mut socket, &mut report);
    }
    iptables_legacy::remove(xtables_lock, &mut report);
    ipvs::remove(&mut report);
    report.finish().map(|(parts, kept)| Removed { parts, kept })
}

fn open(report: &mut Report) -> Option<Socket> {
    Socket::open().map_err(|source| report.fail(Failure::system("opening a netlink socket")(source))).ok()
}

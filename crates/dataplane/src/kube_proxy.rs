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
mod marker;
mod ownership;
mod report;
mod tables;
pub(crate) mod xtables_lock;

pub(crate) use iptables_nft::table_family;
pub use marker::mark;
pub use report::{Error, Failure, Kept, Leftovers, Part, Removed, Variant};

use std::path::{Path, PathBuf};

use ownership::Owner;
use portolan_netfilter::socket::Socket;
use portolan_service::{Family, PerFamily};
use report::Report;

/// The comment of a rule at the end of chain `KUBE-POSTROUTING` of table `nat`, which no packet
/// gets to: it says that the chains that are kube-proxy's by name were written by our mode
/// iptables. kube-proxy writes that chain anew with each sync, so that the mark is gone once the
/// chains are its own again.
pub const MARK: &str = "written by portolan";

/// What to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// Only rules of iptables that our mode iptables wrote, which [`MARK`] tells; else all that kube-proxy may have
    /// left.
    pub own: bool,
    /// Where our mode iptables serves, which stays: of that variant and family only chains that mode iptables does not
    /// use are looked for.
    pub beside: PerFamily<Option<Variant>>,
    /// The lock that all programs take that change tables of iptables-legacy. A container must share it with the host.
    pub xtables_lock: PathBuf,
}

impl Default for Search {
    /// All that kube-proxy may have left, under the lock `/run/xtables.lock`.
    fn default() -> Search {
        Search { own: false, beside: PerFamily::default(), xtables_lock: xtables_lock::PATH.into() }
    }
}

impl Search {
    /// Looks for it; changes nothing, and loads no kernel module. Parts that cannot be read are in the error, with all
    /// others that were found.
    pub fn find(&self) -> Result<Leftovers, Error> {
        let mut report = Report::default();
        if let Some(mut socket) = open(&mut report) {
            iptables_nft::find(&mut socket, self, &mut report);
            if !self.own {
                tables::find(&mut socket, &mut report);
            }
        }
        iptables_legacy::find(self, &mut report);
        if !self.own {
            ipvs::find(&mut report);
        }
        report.finish().map(|(parts, kept)| Leftovers { parts, kept })
    }

    /// Removes it, each part in one step. What is missing is fine. A part that cannot be removed is in the error, and the
    /// others are removed nevertheless.
    pub fn remove(&self) -> Result<Removed, Error> {
        let mut report = Report::default();
        if let Some(mut socket) = open(&mut report) {
            iptables_nft::remove(&mut socket, self, &mut report);
            if !self.own {
                tables::remove(&mut socket, &mut report);
            }
        }
        iptables_legacy::remove(self, &mut report);
        if !self.own {
            ipvs::remove(&mut report);
        }
        report.finish().map(|(parts, kept)| Removed { parts, kept })
    }

    /// Whose chains are looked for in rules of iptables, if any are.
    fn owner(
        &self,
        variant: Variant,
        family: Family,
        is_marked: impl FnOnce() -> Result<bool, Failure>,
    ) -> Result<Option<Owner>, Failure> {
        let serves = *self.beside.get(family) == Some(variant);
        Ok(match (self.own, serves) {
            (false, false) => Some(Owner::KubeProxy),
            (false, true) => Some(Owner::OtherModes),
            (true, false) => is_marked()?.then_some(Owner::KubeProxy),
            (true, true) => None,
        })
    }
}

/// Looks what kube-proxy has left: [`Search::find`] of all there is.
pub fn find() -> Result<Leftovers, Error> {
    Search::default().find()
}

/// Removes what kube-proxy has left: [`Search::remove`] of all there is.
pub fn remove() -> Result<Removed, Error> {
    Search::default().remove()
}

/// As [`remove`], with the lock of iptables-legacy elsewhere.
pub fn remove_locking(xtables_lock: &Path) -> Result<Removed, Error> {
    Search { xtables_lock: xtables_lock.to_owned(), ..Search::default() }.remove()
}

/// Where rules of our mode iptables are: variants and families whose rules bear [`MARK`].
pub fn marked() -> Result<Vec<(Variant, Family)>, Error> {
    let mut report = Report::default();
    let mut marked = Vec::new();
    let mut socket = open(&mut report);
    for family in Family::ALL {
        let of_nft = socket.as_mut().map_or(Ok(false), |socket| iptables_nft::is_marked(socket, family));
        let of_legacy = iptables_legacy::is_marked(family);
        for (variant, found) in [(Variant::Nft, of_nft), (Variant::Legacy, of_legacy)] {
            match found {
                Ok(true) => marked.push((variant, family)),
                Ok(false) => {}
                Err(failure) => report.fail(failure),
            }
        }
    }
    report.finish().map(|_| marked)
}

fn open(report: &mut Report) -> Option<Socket> {
    Socket::open().map_err(|source| report.fail(Failure::system("opening a netlink socket")(source))).ok()
}

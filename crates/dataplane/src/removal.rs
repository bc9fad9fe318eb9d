//! Finding and removing what a proxy left in the kernel, without the programs that wrote it.
//!
//! Rules of iptables are found by the names of chains. Rules and chains of others stay as they are,
//! counters included; so do kubelet's (spec §5.40), and what these rely on.

mod iptables_legacy;
mod iptables_nft;
mod report;
mod selection;
pub(crate) mod xtables_lock;

use std::path::Path;

use portolan_netfilter::socket::Socket;
use portolan_service::Family;

pub(crate) use report::Report;
pub use report::{Failure, Kept, Leftovers, Part, RemovalError};

use crate::variant::Variant;

/// Whether a chain, of a table, is one that is looked for.
pub(crate) type IsSought = fn(table: &str, chain: &str) -> bool;

/// What is looked for in the rules of one variant and family.
#[derive(Clone, Copy)]
pub(crate) enum Sought {
    /// Nothing.
    Nothing,
    /// These chains.
    Chains(IsSought),
    /// These chains, if they bear [`crate::chain_names::MARK`].
    MarkedChains(IsSought),
}

/// A search for chains of iptables.
pub(crate) struct ChainSearch<'a> {
    /// What is looked for
    pub(crate) sought: &'a dyn Fn(Variant, Family) -> Sought,
    /// The lock that all programs take that change tables of iptables-legacy
    pub(crate) xtables_lock: &'a Path,
}

impl ChainSearch<'_> {
    /// Reports what is there; changes nothing, and loads no kernel module. Without a socket only
    /// iptables-legacy is looked at.
    pub(crate) fn find(&self, socket: Option<&mut Socket>, report: &mut Report) {
        if let Some(socket) = socket {
            iptables_nft::find(socket, self, report);
        }
        iptables_legacy::find(self, report);
    }

    /// Removes it, and reports what is gone.
    pub(crate) fn remove(&self, socket: Option<&mut Socket>, report: &mut Report) {
        if let Some(socket) = socket {
            iptables_nft::remove(socket, self, report);
        }
        iptables_legacy::remove(self, report);
    }

    /// The chains that are looked for, if any are.
    fn chains(
        &self,
        variant: Variant,
        family: Family,
        is_marked: impl FnOnce() -> Result<bool, Failure>,
    ) -> Result<Option<IsSought>, Failure> {
        Ok(match (self.sought)(variant, family) {
            Sought::Nothing => None,
            Sought::Chains(chains) => Some(chains),
            Sought::MarkedChains(chains) => is_marked()?.then_some(chains),
        })
    }
}

/// Where rules are that bear [`crate::chain_names::MARK`]: variants and families.
pub(crate) fn marked() -> Result<Vec<(Variant, Family)>, RemovalError> {
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

/// A socket to ask nftables with; a failure is in the report.
pub(crate) fn open(report: &mut Report) -> Option<Socket> {
    Socket::open().map_err(|source| report.fail(Failure::system("opening a netlink socket")(source))).ok()
}

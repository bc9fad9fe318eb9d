//! Taking over from kube-proxy: finds and removes what any of its modes left in the kernel, without
//! its tools.
//!
//! Call it when our own rules are in force: then no connection finds a moment without rules.
//! Rules, chains, virtual servers and ipsets of others stay as they are. kube-proxy must not be
//! running, or it puts back what it misses.
//!
//! Connections that iptables or nftables translated go on, as connection tracking remembers them.
//! Those that IPVS balances end: the kernel drops their packets when their virtual server is gone.

mod chains;
mod ipvs;
mod marker;
mod tables;

use std::path::{Path, PathBuf};

#[cfg(test)]
pub(crate) use chains::{is_of_kube_proxy, is_of_other_modes};
pub use marker::mark;

use portolan_service::Family;

use crate::dataplane::InUse;
use crate::removal::xtables_lock;
use crate::removal::{self, ChainSearch, Leftovers, RemovalError, Report, Sought};
use crate::variant::Variant;

/// What to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// What a dataplane of ours uses, which stays: where it has chains of kube-proxy's names, only
    /// chains that it does not use are looked for.
    pub beside: InUse,
    /// The lock that all programs take that change tables of iptables-legacy. A container must
    /// share it with the host.
    pub xtables_lock: PathBuf,
}

impl Default for Search {
    /// All that kube-proxy may have left, under the lock `/run/xtables.lock`.
    fn default() -> Search {
        Search { beside: InUse::default(), xtables_lock: xtables_lock::PATH.into() }
    }
}

impl Search {
    /// Looks for it; changes nothing, and loads no kernel module. Parts that cannot be read are in
    /// the error, with all others that were found.
    pub fn find(&self) -> Result<Leftovers, RemovalError> {
        let mut report = Report::default();
        let mut socket = removal::open(&mut report);
        self.chains(|search| search.find(socket.as_mut(), &mut report));
        if let Some(socket) = &mut socket {
            tables::find(socket, &mut report);
        }
        ipvs::find(&mut report);
        report.finish()
    }

    /// Removes it, each part in one step. What is missing is fine. A part that cannot be removed is
    /// in the error, and the others are removed nevertheless.
    pub fn remove(&self) -> Result<Leftovers, RemovalError> {
        let mut report = Report::default();
        let mut socket = removal::open(&mut report);
        self.chains(|search| search.remove(socket.as_mut(), &mut report));
        if let Some(socket) = &mut socket {
            tables::remove(socket, &mut report);
        }
        ipvs::remove(&mut report);
        report.finish()
    }

    fn chains(&self, act: impl FnOnce(&ChainSearch<'_>)) {
        let sought = |variant: Variant, family: Family| {
            let serves = *self.beside.iptables.get(family) == Some(variant);
            Sought::Chains(if serves { chains::is_of_other_modes } else { chains::is_of_kube_proxy })
        };
        act(&ChainSearch { sought: &sought, xtables_lock: &self.xtables_lock });
    }
}

/// Looks what kube-proxy has left: [`Search::find`] of all there is.
pub fn find() -> Result<Leftovers, RemovalError> {
    Search::default().find()
}

/// Removes what kube-proxy has left: [`Search::remove`] of all there is.
pub fn remove() -> Result<Leftovers, RemovalError> {
    Search::default().remove()
}

/// As [`remove`], with the lock of iptables-legacy elsewhere.
pub fn remove_locking(xtables_lock: &Path) -> Result<Leftovers, RemovalError> {
    Search { xtables_lock: xtables_lock.to_owned(), ..Search::default() }.remove()
}

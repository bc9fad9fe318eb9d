//! Chains that our mode iptables left, whichever process it was. They have kube-proxy's names; a
//! mark says that they are ours.

use std::path::PathBuf;

use portolan_service::Family;

use super::is_ours;
use crate::dataplane::InUse;
use crate::removal::{self, ChainSearch, Leftovers, RemovalError, Report, Sought, xtables_lock};
use crate::variant::Variant;

/// A search for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnChains {
    /// What a dataplane uses, which stays.
    pub beside: InUse,
    /// The lock that all programs take that change tables of iptables-legacy. A container must
    /// share it with the host.
    pub xtables_lock: PathBuf,
}

impl OwnChains {
    /// All but what is in use, under the lock `/run/xtables.lock`.
    pub fn beside(in_use: InUse) -> OwnChains {
        OwnChains { beside: in_use, xtables_lock: xtables_lock::PATH.into() }
    }

    /// Looks for them; changes nothing.
    pub fn find(&self) -> Result<Leftovers, RemovalError> {
        let mut report = Report::default();
        let mut socket = removal::open(&mut report);
        self.search(|search| search.find(socket.as_mut(), &mut report));
        report.finish()
    }

    /// Removes them.
    pub fn remove(&self) -> Result<Leftovers, RemovalError> {
        let mut report = Report::default();
        let mut socket = removal::open(&mut report);
        self.search(|search| search.remove(socket.as_mut(), &mut report));
        report.finish()
    }

    fn search(&self, act: impl FnOnce(&ChainSearch<'_>)) {
        let sought = |variant: Variant, family: Family| {
            let serves = *self.beside.iptables.get(family) == Some(variant);
            if serves { Sought::Nothing } else { Sought::MarkedChains(is_ours) }
        };
        act(&ChainSearch { sought: &sought, xtables_lock: &self.xtables_lock });
    }
}

/// Where there are such chains: variants and families.
pub fn marked() -> Result<Vec<(Variant, Family)>, RemovalError> {
    removal::marked()
}

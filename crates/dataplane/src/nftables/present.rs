//! What the sets of one family hold already, while everything is written in portions.

use std::collections::{HashMap, HashSet};

use portolan_netfilter::nft::OwnedData;

use super::chain::Chain;
use super::set::SetName;

/// A set and a key in it.
type Slot = (SetName, Vec<u8>);
/// The end of the range and the data.
type EndAndData = (Option<Vec<u8>>, Option<OwnedData>);

/// What the sets of one family hold already.
#[derive(Debug, Default)]
pub(super) struct Present {
    pub(super) elements: HashMap<Slot, EndAndData>,
    pub(super) wanted: HashSet<Slot>,
    /// Chains of Service ports, and sets of remembered clients.
    pub(super) port_chains: Vec<Chain>,
    pub(super) affinity_sets: HashSet<String>,
    /// Wanted by what is being committed.
    pending: Vec<Slot>,
}

/// How a wanted element stands to what is present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// It is not there.
    Missing,
    /// Another is there under its key.
    Other,
    /// It is there.
    Same,
}

impl Present {
    /// Looks for an element, and remembers that it is wanted until [`Present::settle`] is called.
    pub(super) fn want(
        &mut self,
        set: SetName,
        key: &[u8],
        data: impl FnOnce(Option<&OwnedData>) -> bool,
    ) -> Presence {
        let slot = (set, key.to_vec());
        let presence = match self.elements.get(&slot) {
            None => Presence::Missing,
            Some((_, held)) if data(held.as_ref()) => Presence::Same,
            Some(_) => Presence::Other,
        };
        self.pending.push(slot);
        presence
    }

    /// What was wanted since the last call is in force, or given up.
    pub(super) fn settle(&mut self, in_force: bool) {
        let pending = std::mem::take(&mut self.pending);
        if in_force {
            self.wanted.extend(pending);
        }
    }
}

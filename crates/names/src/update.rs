//! What zone data is made of: the objects that a proxy needs, and some that only names need.

use portolan_service::{Change, NamesChange};

/// One step of the observed state.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// An object that rules come from too.
    Object(Change),
    /// An object that only names come from. Pods have a use in [`crate::PodMode::Verified`] only.
    Names(NamesChange),
}

impl From<Change> for Update {
    fn from(change: Change) -> Update {
        Update::Object(change)
    }
}

impl From<NamesChange> for Update {
    fn from(change: NamesChange) -> Update {
        Update::Names(change)
    }
}

//! Which messages of a transaction are which Service's.

use crate::owner::Owner;

/// For elements that several Services share.
pub(super) const NOBODY: Owner = Owner::MAX;

/// Which messages of a batch carry which Service's elements: first message and owner, ascending.
#[derive(Debug, Default)]
pub(crate) struct Owners(pub(super) Vec<(usize, Owner)>);

impl Owners {
    /// Whose elements message number `index` of the batch carries; `None` for what is no Service's.
    pub(crate) fn of(&self, index: usize) -> Option<Owner> {
        let after = self.0.partition_point(|(first, _)| *first <= index);
        let (_, owner) = self.0.get(after.checked_sub(1)?)?;
        (*owner != NOBODY).then_some(*owner)
    }
}

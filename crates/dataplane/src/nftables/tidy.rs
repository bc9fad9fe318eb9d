//! Housekeeping: what nobody needs any more goes when there is time.

use std::collections::BTreeSet;

use portolan_service::{Family, PerFamily};

use super::inventory::Inventory;
use super::kernel::Commit;
use super::schema::Features;
use super::table::table;
use super::{Nftables, rewrite};
use crate::error::Error;

impl Nftables {
    /// Deletes chains and rules that were of no use the last time either: what comes and goes often
    /// stays. Returns whether some are left.
    pub(super) fn drop_idle(&mut self, inventories: &mut PerFamily<Inventory>) -> Result<bool, Error> {
        let mut batch = self.kernel.begin();
        let mut idle = BTreeSet::new();
        let mut dropped = Vec::new();
        let mut features = PerFamily::<Features>::default();
        for family in &self.families {
            let inventory = inventories.get(*family);
            let needs = inventory.needs();
            let keeps = needs.union(inventory.features.intersection(*self.needed.get(*family)));
            rewrite::reconfigure(&mut batch, &self.schema(*family, inventory.features), keeps);
            *features.get_mut(*family) = keeps;
            *self.needed.get_mut(*family) = needs;
            for chain in inventory.idle_chains() {
                let found = (*family, chain.clone());
                if self.idle.contains(&found) {
                    batch.flush_chain(table(*family), &chain.name());
                    batch.delete_chain(table(*family), &chain.name());
                    dropped.push(found);
                } else {
                    idle.insert(found);
                }
            }
        }
        match self.kernel.commit(batch)? {
            Commit::Done => {
                for family in &self.families {
                    inventories.get_mut(*family).features = *features.get(*family);
                }
                for (family, chain) in dropped {
                    inventories.get_mut(family).chain_deleted(&chain);
                }
                let unneeded =
                    |family: &Family| inventories.get(*family).features != *self.needed.get(*family);
                let more = !idle.is_empty() || self.families.iter().any(unneeded);
                self.idle = idle;
                Ok(more)
            }
            // Someone else committed; `verify` looks into that first. Or the kernel still has a
            // chain in use for a moment (before 6.2, while a removed element is being freed).
            Commit::Stale => Ok(true),
            Commit::Refused(refusal) if refusal.is_busy() => Ok(true),
            Commit::Refused(refusal) => Err(refusal.into_error("deleting idle chains")),
        }
    }
}

//! A start that finds in the kernel what is wanted: nothing is written.

use std::collections::BTreeSet;
use std::time::Instant;

use portolan_service::{PerFamily, ServicePlan};

use super::Nftables;
use super::chain::Chain;
use super::inventory::Inventory;
use super::rewrite::FoundTable;
use crate::dataplane::Outcome;
use crate::error::Error;

/// A set of more elements is written anew at each start: the time that the kernel takes to list one
/// grows with the square of its size, and is longer than that of writing it then.
const LISTED_AT_MOST: usize = 100_000;

impl Nftables {
    /// Takes over what is in the kernel, if that is exactly what `plans` ask for. `None` if it has
    /// to be written: because it differs, because it was written by us since and somebody changed
    /// it, or because looking would take longer.
    pub(super) fn adopt(&mut self, plans: &[&ServicePlan]) -> Result<Option<Outcome>, Error> {
        if self.inventories.is_some() || !self.refused.is_empty() {
            return Ok(None);
        }
        let started = Instant::now();
        self.kernel.refresh()?;
        let mut udp_frontends = Vec::new();
        let found = self.recognise_all(false, &mut udp_frontends)?;
        if !found.iter().all(|(_, found)| matches!(found, FoundTable::Ours { .. })) {
            return Ok(None);
        }
        let mut inventories = self.inventories_of(plans);
        for (family, found) in found {
            let FoundTable::Ours { chains, .. } = found else { continue };
            let inventory = inventories.get_mut(family);
            if inventory.largest() > LISTED_AT_MOST {
                return Ok(None);
            }
            // Those of other numbers are not in use any more; tidying takes them away.
            for chain in
                chains.into_iter().filter(|chain| matches!(chain, Chain::Pick(_) | Chain::PickLocal(_)))
            {
                inventory.chain_created(chain);
            }
        }
        if !self.inspect(&inventories)?.is_empty()
            || !self.compare(&mut plans.iter().copied())?.is_empty()
            || self.kernel.is_outdated()?
        {
            return Ok(None);
        }
        self.uncompared = false;
        self.inventories = Some(inventories);
        self.in_force_now(plans, &BTreeSet::new(), udp_frontends);
        Ok(Some(Outcome { commit: started.elapsed(), ..Outcome::default() }))
    }

    /// What the kernel holds once `plans` are written, and nothing else.
    fn inventories_of(&mut self, plans: &[&ServicePlan]) -> PerFamily<Inventory> {
        let needed = self.survey(plans, &BTreeSet::new());
        let mut inventories = PerFamily::<Inventory>::default();
        for family in &self.families {
            let inventory = inventories.get_mut(*family);
            let (features, chains) = needed.get(*family);
            inventory.features = *features;
            for chain in chains {
                inventory.chain_created(chain.clone());
            }
            let staging = self.staging.get_mut(*family);
            staging.clear();
            for (owner, plan) in (0..).zip(plans) {
                staging.change(&self.layout, None, Some(plan), owner);
                staging.write_nothing();
            }
            staging.settle(inventory);
            inventory.merge(&staging.tally);
            staging.clear();
        }
        inventories
    }
}

//! Writing everything in several transactions, where the process may not send all of it at once.
//!
//! A process without privileges over the machine, such as root of a user namespace, can send a few
//! hundred kilobytes in one transaction. Then what is there is compared element by element and
//! brought to the wanted state some Services at a time; what is wanted by nobody goes last. Each
//! Service changes in one transaction, and none that stays loses anything on the way.

use std::collections::BTreeSet;
use std::time::Instant;

use portolan_netfilter::nft::Element;
use portolan_service::{Family, PerFamily, ServicePlan};

use super::chain::Chain;
use super::inventory::Inventory;
use super::kernel::{Commit, Learnt, write_learnt};
use super::present::Present;
use super::rewrite::{FoundTable, Keep};
use super::schema::Features;
use super::set::declare_affinity_set;
use super::staging::set_id;
use super::table::table;
use super::{ATTEMPTS, Nftables};
use crate::dataplane::Outcome;
use crate::error::Error;
use crate::owner::Owner;

/// Elements removed in one transaction: well below any limit.
const REMOVED_AT_ONCE: usize = 1000;

impl Nftables {
    /// As [`Nftables::rewrite`].
    pub(super) fn rewrite_in_portions(&mut self, plans: &[&ServicePlan]) -> Result<Outcome, Error> {
        let started = Instant::now();
        let mut outcome = Outcome::default();
        let mut udp_frontends = Vec::new();
        // Until all is done, nothing certain is in force.
        self.inventories = None;
        let (mut inventories, mut present) = self.write_frame(plans, &mut udp_frontends)?;
        for family in &self.families {
            self.staging.get_mut(*family).kept_sets.clone_from(&present.get(*family).affinity_sets);
        }
        let mut left_out = BTreeSet::<Owner>::new();

        // Halved until each part can be sent, and until a part that is refused is one Service.
        let mut parts: Vec<std::ops::Range<usize>> = std::iter::once(0..plans.len()).collect();
        let mut stale = 0;
        while let Some(part) = parts.pop() {
            let mut batch = self.kernel.begin();
            for family in &self.families {
                let staging = self.staging.get_mut(*family);
                staging.clear();
                for owner in part.clone() {
                    let plan = Some(plans[owner]);
                    staging.change(&self.layout, None, plan, Owner::try_from(owner).unwrap_or(Owner::MAX));
                }
                staging.settle(inventories.get(*family));
                staging.subtract(&self.layout, present.get_mut(*family));
                staging.write_removed(&self.layout, &mut batch, None);
                staging.write_affinity(&mut batch, None);
                staging.write_added(&self.layout, &mut batch, None);
            }
            let commit = if self.kernel.can_send(&batch) { Some(self.kernel.commit(batch)?) } else { None };
            for family in &self.families {
                present.get_mut(*family).settle(matches!(commit, Some(Commit::Done)));
            }
            match commit {
                Some(Commit::Done) => {
                    for family in &self.families {
                        let staging = self.staging.get(*family);
                        inventories.get_mut(*family).merge(&staging.tally);
                        outcome.operations += staging.operations;
                    }
                }
                Some(Commit::Stale) if stale < ATTEMPTS => {
                    stale += 1;
                    self.kernel.refresh()?;
                    parts.push(part);
                }
                Some(Commit::Stale) => {
                    return Err(Error::Unusable("others change the rule set all the time: try again".into()));
                }
                None | Some(Commit::Refused(_)) if part.len() > 1 => {
                    let middle = part.start.midpoint(part.end);
                    parts.push(middle..part.end);
                    parts.push(part.start..middle);
                }
                refused => {
                    let reason = match refused {
                        Some(Commit::Refused(refusal)) => refusal.into_error("adding it").to_string(),
                        _ => "its elements are more than this process may send at once: raise net.core.wmem_max".into(),
                    };
                    if let Some(plan) = plans.get(part.start) {
                        left_out.insert(Owner::try_from(part.start).unwrap_or(Owner::MAX));
                        outcome.refused.push((plan.name.clone(), reason));
                    }
                }
            }
        }
        for family in self.families.clone() {
            self.staging.get_mut(family).kept_sets.clear();
            outcome.operations += self.remove_unwanted(family, present.get(family))?;
            self.forget_unwanted(family, present.get(family), inventories.get(family))?;
        }
        outcome.commit = started.elapsed();
        self.inventories = Some(inventories);
        self.in_force_now(plans, &left_out, udp_frontends);
        // Others may have committed between ours.
        self.uncompared = stale > 0;
        Ok(outcome)
    }

    /// Writes table, sets, chains and rules, those that exist too, with all features until the next
    /// tidying; leaves the elements. Returns what the sets hold.
    fn write_frame(
        &mut self,
        plans: &[&ServicePlan],
        udp_frontends: &mut Vec<(std::net::IpAddr, u16)>,
    ) -> Result<(PerFamily<Inventory>, PerFamily<Present>), Error> {
        for _ in 0..ATTEMPTS {
            self.kernel.refresh()?;
            udp_frontends.clear();
            let found = self.recognise_all(false, udp_frontends)?;
            let mut needed = self.survey(plans, &BTreeSet::new());
            for family in &self.families {
                needed.get_mut(*family).0 = Features::ALL;
            }
            let mut inventories = PerFamily::<Inventory>::default();
            let mut batch = self.kernel.begin();
            for (family, found) in &found {
                let inventory = inventories.get_mut(*family);
                self.write_layout(&mut batch, *family, found, needed.get(*family), inventory, Keep::Elements);
            }
            match self.kernel.commit(batch)? {
                Commit::Done => {}
                Commit::Stale => continue,
                Commit::Refused(refusal) => return Err(refusal.into_error("writing chains and rules")),
            }
            let mut present = PerFamily::<Present>::default();
            for (family, found) in found {
                let of_family = present.get_mut(family);
                match found {
                    FoundTable::Nothing => {}
                    FoundTable::Ours { chains, affinity_sets, .. } => {
                        of_family.affinity_sets = affinity_sets;
                        of_family.port_chains = chains.into_iter().filter(Chain::is_of_a_port).collect();
                    }
                    FoundTable::Other { learnt } => self.move_learnt(family, learnt, of_family)?,
                }
            }
            for family in self.families.clone() {
                let of_family = present.get_mut(family);
                for set in self.layout.sets().iter().copied() {
                    self.kernel.elements(family, set, |element| {
                        let content = (element.key_end.clone(), element.data.clone());
                        of_family.elements.insert((set, element.key.clone()), content);
                    })?;
                }
            }
            return Ok((inventories, present));
        }
        Err(Error::Unusable(format!(
            "gave up after {ATTEMPTS} attempts to write chains and rules: try again"
        )))
    }

    /// Creates sets of remembered clients anew, with their clients.
    fn move_learnt(
        &mut self,
        family: Family,
        learnt: Vec<(String, Vec<Learnt>)>,
        present: &mut Present,
    ) -> Result<(), Error> {
        for (set, clients) in learnt {
            let mut batch = self.kernel.begin();
            let id = set_id(&batch);
            batch.add_set(table(family), &declare_affinity_set(&set, None, id));
            self.commit_leniently(batch)?;
            for some in clients.chunks(REMOVED_AT_ONCE) {
                let mut batch = self.kernel.begin();
                write_learnt(&mut batch, family, &set, some);
                self.commit_leniently(batch)?;
            }
            present.affinity_sets.insert(set);
        }
        Ok(())
    }

    /// Forgets the clients of endpoints that nobody wanted.
    fn forget_unwanted(
        &mut self,
        family: Family,
        present: &Present,
        inventory: &Inventory,
    ) -> Result<(), Error> {
        let mut batch = self.kernel.begin();
        for chain in present.port_chains.iter().filter(|chain| !inventory.has_rules(chain)) {
            batch.flush_chain(table(family), &chain.name());
        }
        self.commit_leniently(batch)?;
        let unwanted: Vec<&String> = present.affinity_sets.difference(inventory.affinity_sets()).collect();
        for some in unwanted.chunks(REMOVED_AT_ONCE) {
            let mut batch = self.kernel.begin();
            for set in some {
                batch.delete_set(table(family), set);
            }
            self.commit_leniently(batch)?;
        }
        Ok(())
    }

    /// Removes the elements that nobody wanted, those that lead to others first. Returns how many.
    fn remove_unwanted(&mut self, family: Family, present: &Present) -> Result<usize, Error> {
        let mut removed = 0;
        for set in self.layout.sets().iter().copied().rev() {
            let unwanted: Vec<Element<'_>> = present
                .elements
                .iter()
                .filter(|(slot, _)| slot.0 == set && !present.wanted.contains(slot))
                .map(|((_, key), (end, _))| Element { key_end: end.as_deref(), ..Element::new(key) })
                .collect();
            for some in unwanted.chunks(REMOVED_AT_ONCE) {
                let mut batch = self.kernel.begin();
                batch.delete_elements(table(family), set.name(), some.iter().copied());
                self.commit_leniently(batch)?;
            }
            removed += unwanted.len();
        }
        Ok(removed)
    }

    /// Commits whatever others do meanwhile.
    fn commit_leniently(&mut self, batch: portolan_netfilter::nft::Batch) -> Result<(), Error> {
        self.kernel.expect_nothing();
        let commit = self.kernel.commit(batch)?;
        self.kernel.refresh()?;
        match commit {
            Commit::Done | Commit::Stale => Ok(()),
            Commit::Refused(refusal) => Err(refusal.into_error("bringing over or removing what was there")),
        }
    }
}

//! Writing everything anew over whatever is there, in one transaction.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::time::Instant;

use portolan_netfilter::nft::{Batch, SetInfo};
use portolan_service::{Family, PerFamily, Protocol, ServicePlan};

use super::affinity::sticky_ports;
use super::chain::{Chain, is_in_place};
use super::element::render_dispatch;
use super::encoding::take_frontend;
use super::inventory::{Inventory, Tally};
use super::kernel::{Commit, Contents, Learnt, write_learnt};
use super::owners::Owners;
use super::schema::{Features, Schema};
use super::set::{SetName, declare_set, is_affinity_set, is_like};
use super::staging::{Staging, set_id};
use super::table::{TABLE_COMMENT, table};
use super::{ATTEMPTS, Nftables};
use crate::dataplane::Outcome;
use crate::error::Error;
use crate::owner::Owner;

/// Writes one chain with its rules.
pub(crate) fn add_chain(batch: &mut Batch, schema: &Schema<'_>, chain: &Chain) {
    batch.add_chain(table(schema.family), &chain.declaration());
    add_rules(batch, schema, chain);
}

fn add_rules(batch: &mut Batch, schema: &Schema<'_>, chain: &Chain) {
    let name = chain.name();
    for rule in schema.rules(chain) {
        batch.add_rule(table(schema.family), &name, &rule);
    }
}

/// Writes what leads from the rules of `old` to those for `features`, touching no other chain.
/// Returns whether there was anything to do.
pub(crate) fn reconfigure(batch: &mut Batch, old: &Schema<'_>, features: Features) -> bool {
    if old.features == features {
        return false;
    }
    let new = Schema { features, ..*old };
    let family = old.family;
    let (had, has) = (old.chains(), new.chains());
    let table = table(family);
    for chain in has.iter().filter(|chain| !had.contains(chain)) {
        batch.add_chain(table, &chain.declaration());
    }
    let goes = |chain: &&Chain| !has.contains(chain);
    // Those that go may lead to each other: empty all before deleting any.
    for chain in had.iter().filter(goes) {
        batch.flush_chain(table, &chain.name());
    }
    for chain in &has {
        if !had.contains(chain) {
            add_rules(batch, &new, chain);
        } else if old.rules(chain) != new.rules(chain) {
            batch.flush_chain(table, &chain.name());
            add_rules(batch, &new, chain);
        }
    }
    for chain in had.iter().filter(goes) {
        batch.delete_chain(table, &chain.name());
    }
    true
}

/// What was found of our table in one family, and what can be done with it.
#[derive(Debug)]
pub(super) enum FoundTable {
    /// Nothing.
    Nothing,
    /// Our layout: sets stay, with their remembered clients; rules and elements are written anew.
    Ours { chains: BTreeSet<Chain>, foreign_chains: Vec<String>, affinity_sets: HashSet<String> },
    /// Another layout, or damage. Deleted and created in one transaction; remembered clients move
    /// over if they can be read.
    Other { learnt: Vec<(String, Vec<Learnt>)> },
}

impl FoundTable {
    /// Sets of remembered clients that stay.
    pub(super) fn affinity_sets(&self) -> HashSet<String> {
        match self {
            FoundTable::Ours { affinity_sets, .. } => affinity_sets.clone(),
            FoundTable::Nothing | FoundTable::Other { .. } => HashSet::new(),
        }
    }
}

/// Writes the remembered clients that were found, as far as there is still a set for them.
fn write_found_clients(batch: &mut Batch, family: Family, found: &FoundTable, inventory: &Inventory) {
    let FoundTable::Other { learnt } = found else { return };
    for (set, clients) in learnt {
        if inventory.affinity_sets().contains(set) {
            write_learnt(batch, family, set, clients);
        }
    }
}

/// What a layout that is ours already keeps, apart from remembered clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// All elements go.
    Nothing,
    /// They stay, and so do the rules of Service ports.
    Elements,
}

impl Nftables {
    /// Makes the kernel hold exactly `plans`.
    pub(super) fn rewrite(&mut self, plans: &[&ServicePlan]) -> Result<Outcome, Error> {
        if let Some(outcome) = self.adopt(plans)? {
            return Ok(outcome);
        }
        let started = Instant::now();
        let mut outcome = Outcome::default();
        let mut left_out = BTreeSet::<Owner>::new();
        let mut find_culprits = false;
        let mut start_over = false;
        let mut udp_frontends = Vec::new();
        for _ in 0..ATTEMPTS {
            self.kernel.refresh()?;
            udp_frontends.clear();
            let found = self.recognise_all(start_over, &mut udp_frontends)?;

            let mut inventories = PerFamily::<Inventory>::default();
            let needed = self.survey(plans, &left_out);

            let mut owners = find_culprits.then(Owners::default);
            let mut batch = self.kernel.begin();
            for (family, found) in &found {
                let inventory = inventories.get_mut(*family);
                self.write_layout(&mut batch, *family, found, needed.get(*family), inventory, Keep::Nothing);
                let mut staging = std::mem::replace(self.staging.get_mut(*family), Staging::new(*family));
                staging.clear();
                staging.kept_sets = found.affinity_sets();
                for (owner, plan) in (0..).zip(plans) {
                    if !left_out.contains(&owner) {
                        staging.change(&self.layout, None, Some(plan), owner);
                        staging.spill(&self.layout, &mut batch, owners.as_mut());
                    }
                }
                staging.settle(inventory);
                staging.write_affinity(&mut batch, owners.as_mut());
                staging.write_added(&self.layout, &mut batch, owners.as_mut());
                inventory.merge(&staging.tally);
                outcome.operations += staging.operations;
                for set in staging.kept_sets.drain() {
                    if !inventory.affinity_sets().contains(&set) {
                        batch.delete_set(table(*family), &set);
                    }
                }
                *self.staging.get_mut(*family) = staging;
                write_found_clients(&mut batch, *family, found, inventory);
            }

            if !self.kernel.can_send(&batch) {
                return self.rewrite_in_portions(plans);
            }
            match self.kernel.commit(batch)? {
                Commit::Done => {
                    outcome.commit = started.elapsed();
                    self.inventories = Some(inventories);
                    self.uncompared = false;
                    self.in_force_now(plans, &left_out, udp_frontends);
                    return Ok(outcome);
                }
                Commit::Stale => outcome.operations = 0,
                Commit::Refused(refusal) => {
                    outcome.operations = 0;
                    let culprits = owners.as_ref().map(|owners| refusal.culprits(owners)).unwrap_or_default();
                    if culprits.is_empty() && find_culprits {
                        if start_over {
                            return Err(refusal.into_error("writing all Services"));
                        }
                        start_over = true;
                    }
                    for (owner, reason) in culprits {
                        if left_out.insert(owner) {
                            outcome.refused.push((plans[owner as usize].name.clone(), reason));
                        }
                    }
                    find_culprits = true;
                }
            }
        }
        Err(Error::Unusable(format!("gave up after {ATTEMPTS} attempts to write all Services: try again")))
    }

    /// All `plans` but those in `left_out` are in force: remembers what is not, and lets stale UDP
    /// flows be removed.
    pub(super) fn in_force_now(
        &mut self,
        plans: &[&ServicePlan],
        left_out: &BTreeSet<Owner>,
        udp_frontends: Vec<(IpAddr, u16)>,
    ) {
        self.refused = left_out.iter().map(|owner| (plans[*owner as usize].name.clone(), None)).collect();
        let in_force = (0..).zip(plans).filter(|(owner, _)| !left_out.contains(owner)).map(|(_, plan)| *plan);
        self.stale_flows.everything(in_force, udp_frontends);
        self.idle.clear();
        self.compared = Some(Instant::now());
    }

    /// What rules and numbered chains `plans` need.
    pub(super) fn survey(
        &mut self,
        plans: &[&ServicePlan],
        left_out: &BTreeSet<Owner>,
    ) -> PerFamily<(Features, BTreeSet<Chain>)> {
        let mut needed = PerFamily::<(Features, BTreeSet<Chain>)>::default();
        let mut dispatch = Vec::new();
        for family in &self.families {
            let mut tally = Tally::default();
            for (owner, plan) in (0..).zip(plans) {
                if !left_out.contains(&owner) {
                    dispatch.clear();
                    render_dispatch(&self.layout, plan, *family, &mut dispatch);
                    for element in &dispatch {
                        tally.count(element, 1);
                    }
                    let sticky = sticky_ports(plan, *family).filter(|_| self.layout.chooses_endpoints());
                    for port in sticky {
                        for endpoint in port.endpoints() {
                            tally.count_use(port.endpoint_chain(endpoint), 1);
                        }
                    }
                }
            }
            let nothing = Inventory::default();
            *needed.get_mut(*family) =
                (tally.needs(&nothing), tally.missing_chains(&nothing).cloned().collect());
        }
        needed
    }

    /// Looks at what is there in all families, and which UDP frontends there are.
    pub(super) fn recognise_all(
        &mut self,
        start_over: bool,
        udp_frontends: &mut Vec<(IpAddr, u16)>,
    ) -> Result<Vec<(Family, FoundTable)>, Error> {
        let mut found = Vec::new();
        for family in self.families.clone() {
            let contents = self.kernel.contents(family)?;
            found.push((family, self.recognise(family, &contents, start_over)?));
            self.collect_udp_frontends(family, &contents, udp_frontends)?;
        }
        Ok(found)
    }

    /// Looks at what is there.
    fn recognise(
        &mut self,
        family: Family,
        contents: &Contents,
        start_over: bool,
    ) -> Result<FoundTable, Error> {
        let Some(found) = &contents.table else { return Ok(FoundTable::Nothing) };
        let (affinity, fixed): (Vec<_>, Vec<_>) =
            contents.sets.iter().partition(|info| is_affinity_set(family, info));
        let sets = self.layout.sets();
        let known = |info: &&SetInfo| sets.iter().any(|name| is_like(*name, family, info));
        let whole = fixed.len() == sets.len() && fixed.iter().all(known);
        let mut chains = BTreeSet::new();
        let mut foreign_chains = Vec::new();
        let mut fits = whole && found.flags == 0 && !start_over;
        for info in &contents.chains {
            match Chain::parse(&info.name) {
                Some(chain) if is_in_place(&chain, info) => {
                    chains.insert(chain);
                }
                Some(_) => fits = false,
                None => foreign_chains.push(info.name.clone()),
            }
        }
        if fits {
            let affinity_sets = affinity.into_iter().map(|info| info.name.clone()).collect();
            return Ok(FoundTable::Ours { chains, foreign_chains, affinity_sets });
        }
        let mut learnt = Vec::new();
        for info in affinity {
            learnt.push((info.name.clone(), self.kernel.learnt(family, &info.name)?));
        }
        Ok(FoundTable::Other { learnt })
    }

    /// The UDP frontends that the kernel has had so far.
    fn collect_udp_frontends(
        &mut self,
        family: Family,
        contents: &Contents,
        frontends: &mut Vec<(IpAddr, u16)>,
    ) -> Result<(), Error> {
        for name in [SetName::UdpFrontends, SetName::Frontends] {
            if !contents.sets.iter().any(|info| is_like(name, family, info)) {
                continue;
            }
            self.kernel.elements(family, name, |element| {
                let mut key = &element.key[..];
                if let Some(frontend) = take_frontend(&mut key, family)
                    && frontend.protocol == Protocol::Udp
                {
                    frontends.push((frontend.address, frontend.port));
                }
            })?;
        }
        Ok(())
    }

    /// Writes table, sets, chains and rules over what was found.
    pub(super) fn write_layout(
        &self,
        batch: &mut Batch,
        family: Family,
        found: &FoundTable,
        (features, numbered): &(Features, BTreeSet<Chain>),
        inventory: &mut Inventory,
        keep: Keep,
    ) {
        let features = *features;
        inventory.features = features;
        let schema = self.schema(family, features);
        let table = table(family);
        let fixed = schema.chains();
        let mut wanted: BTreeSet<Chain> = numbered.clone();
        match found {
            FoundTable::Ours { chains, foreign_chains, .. } => {
                // Those of other numbers stay, unused: the kernel may still have them in use for a
                // moment.
                wanted.extend(chains.iter().filter(|chain| chain.comes_and_goes()).cloned());
                match keep {
                    Keep::Nothing => {
                        batch.flush_rules(table);
                        for name in self.layout.sets() {
                            batch.flush_set(table, name.name());
                        }
                    }
                    Keep::Elements => {
                        for chain in chains.iter().filter(|chain| !chain.is_of_a_port()) {
                            batch.flush_chain(table, &chain.name());
                        }
                        for name in foreign_chains {
                            batch.flush_chain(table, name);
                        }
                    }
                }
                for name in foreign_chains {
                    batch.delete_chain(table, name);
                }
                let unneeded =
                    chains.iter().filter(|chain| !chain.comes_and_goes() && !fixed.contains(chain));
                for chain in unneeded {
                    batch.delete_chain(table, &chain.name());
                }
                for chain in fixed.iter().chain(numbered).filter(|chain| !chains.contains(chain)) {
                    batch.add_chain(table, &chain.declaration());
                }
            }
            FoundTable::Nothing | FoundTable::Other { .. } => {
                if matches!(found, FoundTable::Other { .. }) {
                    batch.delete_table(table);
                }
                batch.add_table(table, TABLE_COMMENT);
                for name in self.layout.sets() {
                    let id = set_id(batch);
                    batch.add_set(table, &declare_set(*name, family, id));
                }
                for chain in fixed.iter().chain(numbered) {
                    batch.add_chain(table, &chain.declaration());
                }
            }
        }
        // Rules before elements: making a rule walks the elements of the maps that it looks into.
        for chain in fixed.iter().chain(&wanted) {
            add_rules(batch, &schema, chain);
        }
        for chain in wanted {
            inventory.chain_created(chain);
        }
    }
}

//! Mode `nftables`: one table in each family, a constant number of chains and rules, and every
//! Service and endpoint as a set element.
//!
//! No chain, rule or set belongs to a Service without session affinity. A packet's destination,
//! protocol and port are looked up in the map `services`, which leads to a chain for the *number*
//! of endpoints; that chain draws one and looks it up in the map `endpoints`. Frontends of one or
//! two endpoints are looked up there at once. So a change of a Service is a change of a few
//! elements, whatever else there is. Service ports with session affinity have chains of their own,
//! and their endpoints sets: see `affinity.rs`.
//!
//! NodePorts on loopback addresses have no rules: see `localhost.rs`.

mod adopt;
mod affinity;
mod chain;
mod element;
mod encoding;
mod endpoint_list;
mod held;
mod integrity;
mod inventory;
mod kernel;
mod layout;
mod listing;
mod localhost;
mod marks;
mod mode;
mod owners;
mod portions;
mod present;
mod preview;
mod rewrite;
mod schema;
mod set;
mod staging;
mod steered;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod tidy;

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use portolan_netfilter::nft::Batch;
use portolan_service::{ChangeSet, Family, ObjectName, PerFamily, ServiceChange, ServicePlan};
use std::sync::Arc;

pub(crate) use self::encoding::{FrontendKey, put_frontend, take_frontend};
pub(crate) use self::endpoint_list::forward_list;
pub(crate) use self::held::HeldEndpoints;
pub(crate) use self::layout::Layout;
pub(crate) use self::localhost::by_rules;
pub(crate) use self::marks::{MarkedPort, Marks};
pub use self::mode::MODE;
pub(crate) use self::steered::HeldFrontend;

use self::chain::Chain;
use self::inventory::Inventory;
use self::kernel::{Commit, Kernel};
use self::owners::Owners;
use self::schema::{Features, Schema};
use self::staging::Staging;
use self::table::table;
use crate::dataplane::{Dataplane, Difference, InUse, Integrity, Outcome, Reconciled, Standing};
use crate::error::Error;
use crate::families::{absence, families};
use crate::listeners::{self, Listeners};
use crate::owner::Owner;
use crate::settings::{LocalDetector, Settings};
use crate::stale_flows::Reconciler;

/// How often a transaction is tried again when others commit theirs in between.
const ATTEMPTS: usize = 8;
/// The longest name of an interface (`IFNAMSIZ` less its terminator).
const INTERFACE_NAME_MAX: usize = 15;

/// The nftables dataplane.
///
/// Remembers of what it wrote only counts (elements in each set, Services that share an element,
/// uses of each chain that comes and goes), and of session affinity the names of its sets and a
/// hash of each chain's rules.
#[derive(Debug)]
pub struct Nftables {
    settings: Settings,
    layout: Layout,
    /// Those that are served.
    families: Vec<Family>,
    /// Why the others are not.
    troubles: PerFamily<Option<Standing>>,
    kernel: Kernel,
    /// What is in force; `None` before the first [`Dataplane::sync`].
    inventories: Option<PerFamily<Inventory>>,
    /// Services whose last change the kernel refused, with what is in force for each.
    refused: HashMap<ObjectName, Option<Arc<ServicePlan>>>,
    staging: PerFamily<Staging>,
    stale_flows: Reconciler,
    /// NodePorts on loopback addresses
    listeners: Listeners,
    /// Found idle by the last [`Dataplane::tidy`].
    idle: BTreeSet<(Family, Chain)>,
    /// What elements needed then.
    needed: PerFamily<Features>,
    /// Others committed since the content of all sets was last known.
    uncompared: bool,
    /// When the content of all sets was last known.
    compared: Option<Instant>,
}

/// One Service's step within a transaction.
#[derive(Debug, Clone, Copy)]
struct ServiceStep<'a> {
    name: &'a ObjectName,
    before: Option<&'a ServicePlan>,
    after: Option<&'a ServicePlan>,
}

impl Nftables {
    /// Opens the kernel interface in the network namespace of the calling thread. Changes nothing
    /// yet.
    ///
    /// IPv6 is served if the kernel has it (`/proc/net/if_inet6`, spec §1.32).
    pub fn new(settings: Settings) -> Result<Nftables, Error> {
        Nftables::with_layout(settings, Layout::Translate)
    }

    /// As [`Nftables::new`], with tables of this layout.
    pub(crate) fn with_layout(settings: Settings, layout: Layout) -> Result<Nftables, Error> {
        for family in Family::ALL {
            check_detector(settings.local.get(family).as_ref(), family)?;
        }
        Ok(Nftables {
            settings,
            layout,
            families: families(),
            troubles: PerFamily::default(),
            kernel: Kernel::open()?,
            inventories: None,
            refused: HashMap::new(),
            staging: PerFamily { v4: Staging::new(Family::V4), v6: Staging::new(Family::V6) },
            stale_flows: Reconciler::default(),
            listeners: localhost::listeners(),
            idle: BTreeSet::new(),
            needed: PerFamily::default(),
            uncompared: false,
            compared: None,
        })
    }

    fn schema(&self, family: Family, features: Features) -> Schema<'_> {
        Schema { family, settings: &self.settings, layout: &self.layout, features }
    }

    /// Stages `steps` but those in `left_out`, for all families.
    fn stage(
        &mut self,
        inventories: &PerFamily<Inventory>,
        steps: &[ServiceStep<'_>],
        left_out: &BTreeSet<Owner>,
    ) {
        for family in &self.families {
            let staging = self.staging.get_mut(*family);
            staging.clear();
            for (owner, step) in (0..).zip(steps) {
                if !left_out.contains(&owner) {
                    staging.change(&self.layout, step.before, step.after, owner);
                }
            }
            staging.settle(inventories.get(*family));
        }
    }

    /// Writes the staged changes, and the chains and rules that they need.
    fn encode(&mut self, inventories: &PerFamily<Inventory>, mut owners: Option<&mut Owners>) -> Batch {
        let mut batch = self.kernel.begin();
        for family in &self.families {
            let inventory = inventories.get(*family);
            let staging = self.staging.get_mut(*family);
            let features = inventory.features.union(staging.tally.needs(inventory));
            let schema = Schema { family: *family, settings: &self.settings, layout: &self.layout, features };
            for chain in staging.tally.missing_chains(inventory) {
                rewrite::add_chain(&mut batch, &schema, chain);
            }
            rewrite::reconfigure(&mut batch, &Schema { features: inventory.features, ..schema }, features);
            staging.write_removed(&self.layout, &mut batch, owners.as_deref_mut());
            staging.write_affinity(&mut batch, owners.as_deref_mut());
            staging.write_added(&self.layout, &mut batch, owners.as_deref_mut());
        }
        batch
    }

    /// After a foreign commit: makes sure that ours is untouched, as far as a look of constant size
    /// can see.
    fn revalidate(&mut self, inventories: &PerFamily<Inventory>) -> Result<(), Error> {
        let findings = self.inspect(inventories)?;
        if findings.is_empty() {
            return Ok(());
        }
        Err(Error::Unusable(format!("someone changed our tables ({}): write them anew", findings.join("; "))))
    }

    /// Brings `steps` into force, all in one transaction but those that the kernel refuses.
    fn commit_steps(
        &mut self,
        inventories: &mut PerFamily<Inventory>,
        steps: &[ServiceStep<'_>],
        outcome: &mut Outcome,
    ) -> Result<BTreeSet<Owner>, Error> {
        let started = Instant::now();
        let mut left_out = BTreeSet::new();
        self.stage(inventories, steps, &left_out);
        let mut find_culprits = false;
        for _ in 0..ATTEMPTS {
            let mut owners = find_culprits.then(Owners::default);
            let batch = self.encode(inventories, owners.as_mut());
            match self.kernel.commit(batch)? {
                Commit::Done => {
                    for family in &self.families {
                        let staging = self.staging.get(*family);
                        let inventory = inventories.get_mut(*family);
                        inventory.features = inventory.features.union(staging.tally.needs(inventory));
                        inventory.merge(&staging.tally);
                        outcome.operations += staging.operations;
                    }
                    outcome.commit = started.elapsed();
                    return Ok(left_out);
                }
                Commit::Stale => {
                    self.revalidate(inventories)?;
                    // What was staged is spent.
                    self.stage(inventories, steps, &left_out);
                }
                Commit::Refused(refusal) => {
                    if let Some(owners) = &owners {
                        let culprits = refusal.culprits(owners);
                        if culprits.is_empty() {
                            return Err(refusal.into_error("changing Services"));
                        }
                        for (owner, reason) in culprits {
                            if left_out.insert(owner) {
                                outcome.refused.push((steps[owner as usize].name.clone(), reason));
                            }
                        }
                    }
                    find_culprits = true;
                    self.stage(inventories, steps, &left_out);
                }
            }
        }
        Err(Error::Unusable(format!("gave up after {ATTEMPTS} attempts to change Services: try again")))
    }

    /// Writes everything anew, in all families that can be written.
    fn rewrite_what_can_be(&mut self, plans: &[&ServicePlan]) -> Result<Outcome, Error> {
        let all = families();
        self.families.clone_from(&all);
        self.troubles = PerFamily::default();
        let failure = match self.rewrite(plans) {
            Err(failure) if all.len() > 1 => failure,
            result => return result,
        };
        // One transaction is for both families. Which of the two is it that cannot be written?
        for family in &all {
            self.families = vec![*family];
            let outcome = match self.rewrite(plans) {
                Ok(outcome) => outcome,
                Err(error) => {
                    *self.troubles.get_mut(*family) = Some(trouble(&error));
                    continue;
                }
            };
            let others = || all.iter().filter(|other| *other != family);
            if others().all(|other| self.troubles.get(*other).is_some()) {
                return Ok(outcome);
            }
            self.probe(others(), plans);
            if others().all(|other| self.troubles.get(*other).is_some()) {
                return Ok(outcome);
            }
            // It was for a moment only.
            self.families = all;
            self.troubles = PerFamily::default();
            return self.rewrite(plans);
        }
        self.families = all;
        self.troubles = PerFamily::default();
        Err(failure)
    }

    /// Writes each of `families` by itself, and notes its trouble if that fails. What is known of
    /// those that are served stays as it is. Returns whether one could be written.
    fn probe<'a>(&mut self, families: impl Iterator<Item = &'a Family>, plans: &[&ServicePlan]) -> bool {
        let served = std::mem::take(&mut self.families);
        let (inventories, refused) = (self.inventories.take(), std::mem::take(&mut self.refused));
        let generation = self.kernel.generation();
        let mut written = false;
        for family in families {
            self.families = vec![*family];
            match self.rewrite(plans) {
                Ok(_) => {
                    written = true;
                    *self.troubles.get_mut(*family) = None;
                }
                Err(error) => *self.troubles.get_mut(*family) = Some(trouble(&error)),
            }
        }
        (self.families, self.inventories, self.refused) = (served, inventories, refused);
        // What others committed meanwhile is to be looked at.
        self.kernel.expect_generation(generation);
        written
    }

    /// The plan that is in force for a Service that should have `wanted`.
    fn in_force<'a>(&'a self, name: &ObjectName, wanted: Option<&'a ServicePlan>) -> Option<&'a ServicePlan> {
        match self.refused.get(name) {
            Some(plan) => plan.as_deref(),
            None => wanted,
        }
    }
}

impl Nftables {
    /// The families whose table of ours is in the kernel.
    pub(crate) fn tables(&mut self) -> Result<Vec<Family>, Error> {
        let mut found = Vec::new();
        for family in Family::ALL {
            if self.kernel.has_table(family)? {
                found.push(family);
            }
        }
        Ok(found)
    }
}

impl Dataplane for Nftables {
    fn sync(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Outcome, Error> {
        let plans: Vec<&ServicePlan> = plans.collect();
        let outcome = self.rewrite_what_can_be(&plans)?;
        self.listeners.sync(localhost::wishes(plans));
        Ok(outcome)
    }

    fn standing(&self) -> PerFamily<Standing> {
        let of_family = |family| match (absence(family), self.troubles.get(family)) {
            (Some(reason), _) => Standing::Absent(reason),
            (None, trouble) => trouble.clone().unwrap_or_default(),
        };
        PerFamily { v4: of_family(Family::V4), v6: of_family(Family::V6) }
    }

    fn catch_up(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Option<Outcome>, Error> {
        let all = families();
        let behind: Vec<Family> =
            all.into_iter().filter(|family| self.troubles.get(*family).is_some()).collect();
        if behind.is_empty() {
            return Ok(None);
        }
        let plans: Vec<&ServicePlan> = plans.collect();
        if self.probe(behind.iter(), &plans) {
            return self.rewrite_what_can_be(&plans).map(Some);
        }
        Ok(None)
    }

    fn apply(&mut self, changes: &ChangeSet) -> Result<Outcome, Error> {
        let mut outcome = Outcome::default();
        let Some(mut inventories) = self.inventories.take() else {
            return Err(Error::Unusable("nothing is in force yet: write everything first".into()));
        };
        let refused = std::mem::take(&mut self.refused);
        let steps: Vec<ServiceStep<'_>> = changes
            .services
            .iter()
            .map(|change| ServiceStep {
                name: &change.name,
                before: match refused.get(&change.name) {
                    Some(in_force) => in_force.as_deref(),
                    None => change.before.as_deref(),
                },
                after: change.after.as_deref(),
            })
            .collect();
        let result = self.commit_steps(&mut inventories, &steps, &mut outcome);
        let left_out = match result {
            Ok(left_out) => left_out,
            Err(error) => {
                self.inventories = Some(inventories);
                self.refused = refused;
                return Err(error);
            }
        };
        self.inventories = Some(inventories);
        let in_effect =
            || (0..).zip(&steps).filter(|(owner, _)| !left_out.contains(owner)).map(|(_, step)| step);
        self.stale_flows.changes(|| in_effect().map(|step| (step.before, step.after)));

        let mut now_refused = HashMap::new();
        for (owner, change) in (0..).zip(&changes.services) {
            if left_out.contains(&owner) {
                let before = refused.get(&change.name).unwrap_or(&change.before).clone();
                now_refused.insert(change.name.clone(), before);
            }
        }
        let mut refused = refused;
        for change in &changes.services {
            refused.remove(&change.name);
        }
        refused.extend(now_refused);
        self.refused = refused;
        let wishes = |plan: fn(&ServiceChange) -> Option<&ServicePlan>| {
            localhost::wishes(changes.services.iter().filter_map(plan))
        };
        let before = wishes(|change| change.before.as_deref());
        self.listeners.change(before, wishes(|change| change.after.as_deref()));
        Ok(outcome)
    }

    fn verify(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Integrity, Error> {
        self.check(plans)
    }

    fn preview(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Vec<Difference>, Error> {
        self.differences(plans)
    }

    fn listing(&mut self) -> Result<Vec<String>, Error> {
        self.lines()
    }

    fn reconciled(&mut self, patience: Duration) -> Vec<Reconciled> {
        self.stale_flows.reconciled(patience)
    }

    fn tidy(&mut self) -> Result<bool, Error> {
        self.listeners.retry();
        let Some(mut inventories) = self.inventories.take() else { return Ok(false) };
        let result = self.drop_idle(&mut inventories);
        self.inventories = Some(inventories);
        result
    }

    fn cleanup(&mut self) -> Result<(), Error> {
        self.listeners.sync(Vec::new());
        for _ in 0..ATTEMPTS {
            let mut batch = self.kernel.begin();
            for family in Family::ALL {
                if self.kernel.has_table(family)? {
                    batch.delete_table(table(family));
                }
            }
            if batch.is_empty() {
                self.inventories = None;
                self.refused.clear();
                return Ok(());
            }
            match self.kernel.commit(batch)? {
                // Look again: nothing may be left.
                Commit::Done | Commit::Stale => {}
                Commit::Refused(refusal) => return Err(refusal.into_error("deleting our tables")),
            }
        }
        Err(Error::Unusable(
            "our tables come back as soon as they are deleted: stop the other proxy first".into(),
        ))
    }

    fn in_use(&self) -> InUse {
        InUse { tables: true, ..InUse::default() }
    }

    fn unserved(&self) -> Vec<String> {
        self.listeners.unserved()
    }

    fn obstacles(&self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Vec<String> {
        listeners::taken(&localhost::wishes(plans))
    }

    fn listeners(&mut self) -> Option<&mut Listeners> {
        Some(&mut self.listeners)
    }
}

fn trouble(error: &Error) -> Standing {
    match error {
        // A kernel without one family's part of nf_tables.
        Error::Netlink { source, .. }
            if matches!(source.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT)) =>
        {
            Standing::Absent(format!("{error}; load the kernel module nf_tables, with this family's part"))
        }
        _ => Standing::Behind(error.to_string()),
    }
}

fn check_detector(detector: Option<&LocalDetector>, family: Family) -> Result<(), Error> {
    match detector {
        Some(LocalDetector::SourceNetwork(network)) if Family::of(network.addr()) != family => {
            Err(Error::Unusable(format!(
                "local detection for {family}: network {network} is of the other family: give one of {family}"
            )))
        }
        Some(LocalDetector::Interface(name) | LocalDetector::InterfacePrefix(name))
            if name.is_empty() || name.len() > INTERFACE_NAME_MAX =>
        {
            Err(Error::Unusable(format!(
                "local detection for {family}: interface {name:?} cannot exist: names have 1 to {INTERFACE_NAME_MAX} bytes"
            )))
        }
        _ => Ok(()),
    }
}

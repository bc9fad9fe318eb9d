//! Mode `iptables`: the classic chains, rule for rule what kube-proxy's users know (spec §5),
//! written with iptables-restore.
//!
//! What differs from kube-proxy is how little is written: a change writes the chains of its
//! Services and single rules of the chains that many Services share, never these as a whole; after
//! a restart, or when somebody else changed something, what is held is read and only differences
//! are written. Rules that stay keep their counters.
//!
//! Nothing of what was written is remembered but the last state of the tables as a whole, to see
//! that somebody else changed them.

mod accept_forwarded;
mod chains;
mod change;
mod compare;
mod family_tables;
mod held;
mod jumps;
mod listing;
mod mode;
mod names;
mod options;
mod own_chains;
mod rule;
mod saved;
mod script;
mod service;
#[cfg(test)]
mod tests;
mod tool;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use portolan_service::{ChangeSet, Family, ObjectName, PerFamily, ServicePlan};

pub use self::accept_forwarded::AcceptForwarded;
use self::chains::{Style, Table};
use self::compare::{Tables, Wanted, compare};
use self::family_tables::{Applied, FamilyTables, LARGE, trouble};
pub(crate) use self::held::HeldPortal;
pub use self::mode::{CAPABILITIES, MODE};
pub use self::options::{Layout, Options};
pub use self::own_chains::{OwnChains, marked};
use self::tool::Fingerprint;
pub use crate::chain_names::MARK;
use crate::dataplane::{Dataplane, Difference, InUse, Integrity, Outcome, Reconciled, Standing};
use crate::error::Error;
use crate::families::{absence, families};
use crate::owner::Owner;
use crate::settings::Settings;
use crate::stale_flows::Reconciler;

/// The iptables dataplane.
#[derive(Debug)]
pub struct Iptables {
    settings: Settings,
    options: Options,
    /// Those that there are programs for.
    families: Vec<FamilyTables>,
    /// Why the others cannot be served, for people.
    absent: PerFamily<Option<String>>,
    /// Services whose rules iptables did not take: what is in force for them is not known here.
    refused: BTreeSet<ObjectName>,
    stale_flows: Reconciler,
    synced: bool,
}

/// The chain is one of mode iptables alone, whoever wrote it: kube-proxy or we (spec §5.8, §5.9).
/// KUBE-FIREWALL is kubelet's too (§5.40).
pub(crate) fn is_ours(table: &str, chain: &str) -> bool {
    Table::ALL.into_iter().any(|known| known.name() == table && chains::is_ours(known, chain))
}

impl Iptables {
    /// Finds the programs of iptables in the network namespace of the calling thread. Changes
    /// nothing yet.
    ///
    /// IPv6 is served if the kernel has it (`/proc/net/if_inet6`, spec §1.32). Fails if neither
    /// family can be served.
    pub fn new(settings: &Settings, options: &Options) -> Result<Iptables, Error> {
        let mut iptables = Iptables {
            settings: settings.clone(),
            options: options.clone(),
            families: Vec::new(),
            absent: PerFamily::default(),
            refused: BTreeSet::new(),
            stale_flows: Reconciler::default(),
            synced: false,
        };
        let mut failure = None;
        for family in Family::ALL {
            match absence(family) {
                Some(reason) => *iptables.absent.get_mut(family) = Some(reason),
                None => failure = failure.or(iptables.find(family).err()),
            }
        }
        match failure {
            Some(error) if iptables.families.is_empty() => Err(error),
            _ => Ok(iptables),
        }
    }

    /// Finds the programs of one family.
    fn find(&mut self, family: Family) -> Result<(), Error> {
        let found = FamilyTables::new(family, &self.settings, &self.options);
        *self.absent.get_mut(family) = found.as_ref().err().map(ToString::to_string);
        self.families.push(found?);
        self.families.sort_by_key(|tables| tables.style.family);
        Ok(())
    }

    fn served(&mut self) -> impl Iterator<Item = &mut FamilyTables> {
        self.families.iter_mut().filter(|family| family.trouble.is_none())
    }

    /// The states of all tables; `None` for those that cannot be read.
    fn fingerprints(&mut self) -> Vec<Option<Fingerprint>> {
        self.families.iter_mut().map(|family| family.tool.fingerprint().ok()).collect()
    }

    /// What the tables hold is known, if nobody else changed anything since they were in the states
    /// of `before`, and we made this many commits since. Otherwise the next look goes through
    /// everything.
    fn learn(&mut self, before: &[Option<Fingerprint>], commits: usize) {
        for (family, before) in self.families.iter_mut().zip(before) {
            let after = family.tool.fingerprint().ok();
            family.known =
                after.filter(|after| before.as_ref().is_some_and(|before| after.follows(before, commits)));
        }
    }

    /// Makes the tables that `which` picks hold `plans`. Returns the UDP frontends that are no
    /// more, and an error for each family that is as before, which has its trouble noted.
    fn write(
        &mut self,
        which: impl Fn(&FamilyTables) -> bool,
        plans: &[&ServicePlan],
        outcome: &mut Outcome,
    ) -> (Vec<(IpAddr, u16)>, Vec<Error>) {
        let started = Instant::now();
        let before = self.fingerprints();
        let (mut commits, mut gone, mut failures) = (0, Vec::new(), Vec::new());
        for family in self.families.iter_mut().filter(|family| which(family)) {
            match family.sync(plans, outcome) {
                Ok(synced) => {
                    family.trouble = None;
                    commits += synced.commits;
                    gone.extend(synced.gone);
                }
                Err(error) => {
                    family.trouble = Some(trouble(&error));
                    failures.push(error);
                }
            }
        }
        self.learn(&before, commits);
        outcome.commit = started.elapsed();
        (gone, failures)
    }
}

/// The error that says most of why nothing could be done: not the one about what the host lacks, if
/// there is another.
fn worst(failures: Vec<Error>) -> Option<Error> {
    let (missing, others): (Vec<Error>, Vec<Error>) =
        failures.into_iter().partition(|error| matches!(error, Error::Missing(_)));
    others.into_iter().chain(missing).next()
}

/// The rules that tables of `family` without anything else would hold for `plans`, as text for
/// iptables-restore, with every feature that a current iptables and kernel have. Reads and changes
/// nothing.
pub fn rules(settings: &Settings, options: &Options, family: Family, plans: &[&ServicePlan]) -> String {
    let endpoints: usize = plans.iter().map(|plan| service::endpoints(plan, family)).sum();
    let style = Style {
        family,
        settings: settings.clone(),
        options: options.clone(),
        random_fully: true,
        counters: false,
        large: endpoints > LARGE,
    };
    let wanted = Wanted {
        style: &style,
        plans,
        left_out: &BTreeSet::new(),
        whole: false,
        ahead: false,
        differences: false,
    };
    compare(&wanted, &Tables::default()).script.text()
}

/// The places of Services that were refused.
fn left_out(plans: &[&ServicePlan], refused: &BTreeSet<ObjectName>) -> BTreeSet<Owner> {
    if refused.is_empty() {
        return BTreeSet::new();
    }
    (0..).zip(plans).filter(|(_, plan)| refused.contains(&plan.name)).map(|(owner, _)| owner).collect()
}

impl Dataplane for Iptables {
    fn sync(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Outcome, Error> {
        let plans: Vec<&ServicePlan> = plans.collect();
        let mut outcome = Outcome::default();
        let (gone, failures) = self.write(|_| true, &plans, &mut outcome);
        if failures.len() == self.families.len()
            && let Some(error) = worst(failures)
        {
            return Err(error);
        }
        self.refused = outcome.refused.iter().map(|(name, _)| name.clone()).collect();
        self.synced = true;
        self.stale_flows.everything(plans, gone);
        Ok(outcome)
    }

    fn apply(&mut self, changes: &ChangeSet) -> Result<Outcome, Error> {
        let started = Instant::now();
        if !self.synced {
            return Err(Error::Unusable("nothing is in force yet: write everything first".into()));
        }
        if let Some(change) = changes.services.iter().find(|change| self.refused.contains(&change.name)) {
            return Err(Error::Unusable(format!(
                "Service {}: iptables did not take its rules before: write everything anew",
                change.name
            )));
        }
        let before = self.fingerprints();
        let undisturbed = self.families.iter().zip(&before).all(|(family, before)| {
            family.trouble.is_some() || (before.is_some() && family.known == *before)
        });
        // Both families at the same time: each is a process that waits for the kernel.
        let results: Vec<Result<Applied, Error>> = std::thread::scope(|scope| {
            let threads: Vec<_> = self.served().map(|family| scope.spawn(|| family.apply(changes))).collect();
            threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
        });
        let mut outcome = Outcome::default();
        let mut commits = 0;
        for result in results {
            let applied = result?;
            outcome.operations += applied.operations;
            outcome.rules.extend(applied.rules);
            commits += applied.commits;
        }
        if undisturbed {
            self.learn(&before, commits);
        }
        outcome.commit = started.elapsed();
        let steps =
            || changes.services.iter().map(|change| (change.before.as_deref(), change.after.as_deref()));
        self.stale_flows.changes(steps);
        Ok(outcome)
    }

    fn standing(&self) -> PerFamily<Standing> {
        let of_family = |family| {
            let tables = self.families.iter().find(|tables| tables.style.family == family);
            match (tables, self.absent.get(family)) {
                (Some(tables), _) => tables.trouble.clone().unwrap_or_default(),
                (None, reason) => Standing::Absent(reason.clone().unwrap_or_default()),
            }
        };
        PerFamily { v4: of_family(Family::V4), v6: of_family(Family::V6) }
    }

    fn catch_up(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Option<Outcome>, Error> {
        for family in families() {
            if self.families.iter().all(|tables| tables.style.family != family)
                && self.find(family).is_ok()
                && let Some(found) = self.families.iter_mut().find(|tables| tables.style.family == family)
            {
                found.trouble = Some(Standing::Behind(format!("{family}: nothing has been written yet")));
            }
        }
        let behind = self.families.iter().filter(|family| family.trouble.is_some()).count();
        if behind == 0 {
            return Ok(None);
        }
        let plans: Vec<&ServicePlan> = plans.collect();
        let mut outcome = Outcome::default();
        let (gone, failures) = self.write(|family| family.trouble.is_some(), &plans, &mut outcome);
        if failures.len() == behind {
            return Ok(None);
        }
        self.refused.extend(outcome.refused.iter().map(|(name, _)| name.clone()));
        self.stale_flows.everything(plans, gone);
        Ok(Some(outcome))
    }

    fn verify(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Integrity, Error> {
        let refused = std::mem::take(&mut self.refused);
        let mut read: Option<(Vec<&ServicePlan>, BTreeSet<Owner>)> = None;
        let (mut findings, mut failures, mut intact) = (Vec::new(), Vec::new(), 0);
        for family in self.served() {
            let looked = family.is_suspect().and_then(|suspect| {
                if !suspect {
                    return Ok(Vec::new());
                }
                let (plans, left_out) = read.get_or_insert_with(|| {
                    let plans: Vec<&ServicePlan> = plans.collect();
                    let left_out = left_out(&plans, &refused);
                    (plans, left_out)
                });
                family.look(plans, left_out)
            });
            match looked {
                Ok(found) => {
                    intact += 1;
                    findings.extend(found);
                }
                Err(error) => failures.push((family, error)),
            }
        }
        // What concerns all families is no one's trouble.
        let everywhere = if intact == 0 { std::mem::take(&mut failures) } else { Vec::new() };
        let failed = worst(everywhere.into_iter().map(|(_, error)| error).collect());
        for (family, error) in failures {
            family.trouble = Some(trouble(&error));
        }
        self.refused = refused;
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(if findings.is_empty() { Integrity::Intact } else { Integrity::Changed(findings) })
    }

    fn preview(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Vec<Difference>, Error> {
        let plans: Vec<&ServicePlan> = plans.collect();
        let mut differences = Vec::new();
        for family in &self.families {
            differences.extend(family.compare(&plans, &BTreeSet::new(), false, true)?.differences);
        }
        Ok(differences)
    }

    fn listing(&mut self) -> Result<Vec<String>, Error> {
        let mut lines = Vec::new();
        for family in &self.families {
            lines.extend(listing::lines(family.style.family, &Tables::read(&family.save()?)));
        }
        Ok(lines)
    }

    fn reconciled(&mut self, patience: Duration) -> Vec<Reconciled> {
        self.stale_flows.reconciled(patience)
    }

    fn tidy(&mut self) -> Result<bool, Error> {
        Ok(false)
    }

    fn cleanup(&mut self) -> Result<(), Error> {
        self.synced = false;
        for family in &mut self.families {
            family.cleanup()?;
        }
        Ok(())
    }

    fn in_use(&self) -> InUse {
        let mut in_use = InUse::default();
        for family in &self.families {
            *in_use.iptables.get_mut(family.style.family) = Some(family.tool.variant());
        }
        in_use
    }
}

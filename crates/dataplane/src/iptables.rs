//! Mode `iptables`: the classic chains, rule for rule what kube-proxy's users know (spec §5), written with iptables-restore.
//!
//! What differs from kube-proxy is how little is written: a change writes the chains of its Services and single rules of the
//! chains that many Services share, never these as a whole; after a restart, or when somebody else changed something, what
//! is held is read and only differences are written. Rules that stay keep their counters.
//!
//! Nothing of what was written is remembered but the last state of the tables as a whole, to see that somebody else
//! changed them.

mod accept_forwarded;
mod chains;
mod change;
mod compare;
mod held;
mod listing;
mod names;
mod rule;
mod script;
mod service;
#[cfg(test)]
mod tests;
mod tool;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use portolan_netfilter::nfacct;
use portolan_netfilter::socket::Socket;
use portolan_service::{ChangeSet, Family, ObjectName, PerFamily, ServicePlan};

pub use self::accept_forwarded::AcceptForwarded;
use self::chains::{Counts, Style, Table};
pub(crate) use self::chains::{MARK_MASQ, POSTROUTING};
use self::compare::{Comparison, Tables, Wanted, compare};
use self::script::{Owner, Script};
use self::tool::{Fingerprint, RestoreError, Tool};
use crate::conntrack::Reconciler;
use crate::kube_proxy::Variant;
use crate::{Dataplane, Difference, Error, Integrity, Outcome, Reconciled, RuleCount, Settings, Standing};

/// With more endpoints than this, rules of single Services go without comments (spec §5.33).
const LARGE: usize = 1000;
/// How often everything is written again without Services that iptables does not take.
const ATTEMPTS: usize = 8;
/// Looking through everything may take one part of so many of the time.
const LOOK_SHARE: u32 = 10;
/// iptables-legacy does not tell of every change: how often to look through everything nevertheless.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Of what someone else changed, so much is told.
const FINDINGS: usize = 10;

/// The iptables dataplane.
#[derive(Debug)]
pub struct Iptables {
    settings: Settings,
    /// Those that there are programs for.
    families: Vec<FamilyTables>,
    /// Why the others cannot be served, for people.
    absent: PerFamily<Option<String>>,
    /// Services whose rules iptables did not take: what is in force for them is not known here.
    refused: BTreeSet<ObjectName>,
    stale_flows: Reconciler,
    synced: bool,
}

/// The tables of one family.
#[derive(Debug)]
struct FamilyTables {
    /// Why they do not hold what is wanted; `None` if they do, as far as is known.
    trouble: Option<Standing>,
    tool: Tool,
    style: Style,
    /// Endpoints of all Services.
    endpoints: usize,
    /// Rules that are in force.
    rules: Counts,
    /// The state of the tables in which we know what they hold.
    known: Option<Fingerprint>,
    /// Not before this is everything looked through again.
    look_at: Instant,
    /// At this at the latest it is, if the variant does not tell of all changes.
    look_by: Instant,
}

/// What became of one family's tables.
struct Synced {
    commits: usize,
    /// UDP frontends that are no more.
    gone: Vec<(IpAddr, u16)>,
}

/// What a change was for one family's tables.
struct Applied {
    commits: usize,
    operations: usize,
    rules: [RuleCount; 2],
}

/// The chain is one of mode iptables alone, whoever wrote it: kube-proxy or we (spec §5.8, §5.9). KUBE-FIREWALL is kubelet's
/// too (§5.40).
pub(crate) fn is_ours(table: &str, chain: &str) -> bool {
    Table::ALL.into_iter().any(|known| known.name() == table && chains::is_ours(known, chain))
}

/// Packets that rules have dropped as invalid (spec §5.16); `None` if nobody counts them.
pub fn invalid_dropped() -> Option<u64> {
    packets(chains::DROPPED_INVALID)
}

/// Packets that rules have accepted at NodePorts on loopback addresses (spec §5.25); `None` if nobody counts them.
pub fn localhost_accepted() -> Option<u64> {
    packets(chains::LOCALHOST_ACCEPTED)
}

fn packets(counter: &str) -> Option<u64> {
    let read = || nfacct::read(&mut Socket::open()?, counter);
    read().ok().flatten().map(|counter| counter.packets)
}

impl Iptables {
    /// Finds the programs of iptables in the network namespace of the calling thread. Changes nothing yet.
    ///
    /// IPv6 is served if the kernel has it (`/proc/net/if_inet6`, spec §1.32). Fails if neither family can be served.
    pub fn new(settings: &Settings) -> Result<Iptables, Error> {
        let mut iptables = Iptables {
            settings: settings.clone(),
            families: Vec::new(),
            absent: PerFamily::default(),
            refused: BTreeSet::new(),
            stale_flows: Reconciler::default(),
            synced: false,
        };
        let mut failure = None;
        for family in Family::ALL {
            match crate::absence(family) {
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
        let found = FamilyTables::new(family, &self.settings);
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

    /// What the tables hold is known, if nobody else changed anything since they were in the states of `before`, in which
    /// time we committed so often. Otherwise the next look goes through everything.
    fn learn(&mut self, before: &[Option<Fingerprint>], commits: usize) {
        for (family, before) in self.families.iter_mut().zip(before) {
            let after = family.tool.fingerprint().ok();
            family.known =
                after.filter(|after| before.as_ref().is_some_and(|before| after.follows(before, commits)));
        }
    }

    /// Makes the tables that `which` picks hold `plans`. Returns the UDP frontends that are no more, and an error for each
    /// family that is as before, which has its trouble noted.
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

fn trouble(error: &Error) -> Standing {
    match error {
        Error::Missing(reason) => Standing::Absent(reason.clone()),
        Error::Netlink { .. } | Error::Unusable(_) => Standing::Behind(error.to_string()),
    }
}

/// The error that says most of why nothing could be done: not the one about what the host lacks, if there is another.
fn worst(failures: Vec<Error>) -> Option<Error> {
    let (missing, others): (Vec<Error>, Vec<Error>) =
        failures.into_iter().partition(|error| matches!(error, Error::Missing(_)));
    others.into_iter().chain(missing).next()
}

/// The rules that tables of `family` without anything else would hold for `plans`, as text for iptables-restore, with
/// every feature that a current iptables and kernel have. Reads and changes nothing.
pub fn rules(settings: &Settings, family: Family, plans: &[&ServicePlan]) -> String {
    let endpoints: usize = plans.iter().map(|plan| service::endpoints(plan, family)).sum();
    let style = Style {
        family,
        settings: settings.clone(),
        random_fully: true,
        counters: false,
        large: endpoints > LARGE,
    };
    let wanted =
        Wanted { style: &style, plans, left_out: &BTreeSet::new(), whole: false, ahead: false, tell: false };
    compare(&wanted, &Tables::default()).script.text()
}

impl FamilyTables {
    fn new(family: Family, settings: &Settings) -> Result<FamilyTables, Error> {
        let tool = Tool::find(family)?;
        let style = Style {
            family,
            settings: settings.clone(),
            random_fully: tool.random_fully(),
            counters: tool::ensure_counters(),
            large: false,
        };
        let now = Instant::now();
        Ok(FamilyTables {
            trouble: None,
            tool,
            style,
            endpoints: 0,
            rules: Counts::default(),
            known: None,
            look_at: now,
            look_by: now,
        })
    }

    fn save(&self) -> Result<String, Error> {
        self.tool.save(&Table::ALL.map(Table::name))
    }

    /// What has to be done for the tables to hold `plans`.
    fn compare(
        &self,
        plans: &[&ServicePlan],
        left_out: &BTreeSet<Owner>,
        whole: bool,
        tell: bool,
    ) -> Result<Comparison, Error> {
        let saved = self.save()?;
        let ahead = self.tool.variant() == Variant::Nft;
        Ok(compare(
            &Wanted { style: &self.style, plans, left_out, whole, ahead, tell },
            &Tables::read(&saved),
        ))
    }

    /// Writes what is missing, without the Services that iptables does not take.
    fn sync(&mut self, plans: &[&ServicePlan], outcome: &mut Outcome) -> Result<Synced, Error> {
        let family = self.style.family;
        self.endpoints = plans.iter().map(|plan| service::endpoints(plan, family)).sum();
        self.style.large = self.endpoints > LARGE;
        let mut whole = false;
        let mut left_out = BTreeSet::new();
        for _ in 0..ATTEMPTS {
            let comparison = self.compare(plans, &left_out, whole, false)?;
            match self.restore(&comparison.script) {
                Ok(commits) => {
                    outcome.operations += comparison.script.operations();
                    self.rules = comparison.rules;
                    outcome.rules.extend(self.count(comparison.script.written()));
                    self.look_by = Instant::now() + LOOK_EVERY;
                    return Ok(Synced { commits, gone: comparison.gone });
                }
                Err(RestoreError::Rejected { line, message }) => {
                    let owner = line.and_then(|line| comparison.script.owner(line));
                    let plan = owner.and_then(|owner| plans.get(owner as usize));
                    let rejected = rejected(&comparison.script, line, plan.map(|plan| &plan.name), &message);
                    match (owner, plan) {
                        (Some(owner), Some(plan)) if left_out.insert(owner) => {
                            outcome.refused.push((plan.name.clone(), rejected));
                        }
                        // Perhaps a rule that it cannot delete one by one.
                        _ if !whole => whole = true,
                        _ => return Err(Error::Unusable(rejected)),
                    }
                }
                Err(RestoreError::Failed(error)) => return Err(error),
            }
        }
        Err(Error::Unusable(format!(
            "gave up after {ATTEMPTS} attempts to write the rules of {family}: try again"
        )))
    }

    /// What is in force, and what of it was written just now.
    fn count(&self, written: Counts) -> [RuleCount; 2] {
        let family = self.style.family;
        let count = |table: Table, total, written| RuleCount { family, table: table.name(), total, written };
        [
            count(Table::Filter, self.rules.filter, written.filter),
            count(Table::Nat, self.rules.nat, written.nat),
        ]
    }

    /// Writes it. Returns how many transactions that was.
    fn restore(&mut self, script: &Script) -> Result<usize, RestoreError> {
        if script.is_empty() {
            return Ok(0);
        }
        self.tool.restore(&script.text())?;
        Ok(script.commits())
    }

    /// Applies one change of each of `steps`.
    fn apply(&mut self, changes: &ChangeSet) -> Result<Applied, Error> {
        let family = self.style.family;
        for change in &changes.services {
            let count = |plan: Option<&std::sync::Arc<ServicePlan>>| {
                plan.map_or(0, |plan| service::endpoints(plan, family))
            };
            self.endpoints += count(change.after.as_ref());
            self.endpoints = self.endpoints.saturating_sub(count(change.before.as_ref()));
        }
        self.style.large = self.endpoints > LARGE;
        let mut script = Script::default();
        let mut rules = self.rules;
        for (owner, change) in (0..).zip(&changes.services) {
            change::change(
                &mut script,
                &mut rules,
                &self.style,
                change.before.as_deref(),
                change.after.as_deref(),
                owner,
            );
        }
        match self.restore(&script) {
            Ok(commits) => {
                self.rules = rules;
                Ok(Applied { commits, operations: script.operations(), rules: self.count(script.written()) })
            }
            Err(RestoreError::Rejected { line, message }) => {
                let owner = line.and_then(|line| script.owner(line));
                let service = owner.and_then(|owner| changes.services.get(owner as usize));
                let name = service.map(|change| &change.name);
                Err(Error::Unusable(format!("{family}: {}", rejected(&script, line, name, &message))))
            }
            Err(RestoreError::Failed(error)) => Err(error),
        }
    }

    /// Somebody may have changed something since the tables were last looked through.
    fn is_suspect(&mut self) -> Result<bool, Error> {
        let now = Instant::now();
        if now < self.look_at {
            return Ok(false);
        }
        let overdue = self.tool.variant() == Variant::Legacy && self.look_by <= now;
        Ok(overdue || self.known.as_ref() != Some(&self.tool.fingerprint()?))
    }

    /// What somebody changed.
    fn look(&mut self, plans: &[&ServicePlan], left_out: &BTreeSet<Owner>) -> Result<Vec<String>, Error> {
        let began = Instant::now();
        // What is changed while we look is found the next time.
        let fingerprint = self.tool.fingerprint()?;
        let comparison = self.compare(plans, left_out, false, true)?;
        let now = Instant::now();
        self.look_at = now + (now - began) * LOOK_SHARE;
        if comparison.script.is_empty() {
            self.known = Some(fingerprint);
            self.look_by = now + LOOK_EVERY.max((now - began) * LOOK_SHARE);
            return Ok(Vec::new());
        }
        self.look_at = now;
        Ok(findings(self.style.family, &comparison.differences))
    }

    fn cleanup(&mut self) -> Result<(), Error> {
        let script = compare::removal(self.style.family, &Tables::read(&self.save()?));
        self.restore(&script).map(drop).map_err(|error| match error {
            RestoreError::Rejected { line, message } => {
                Error::Unusable(rejected(&script, line, None, &message))
            }
            RestoreError::Failed(error) => error,
        })
    }
}

/// What iptables did not take, for people.
fn rejected(script: &Script, line: Option<usize>, service: Option<&ObjectName>, message: &str) -> String {
    let text = script.text();
    let line = line.and_then(|line| text.lines().nth(line.checked_sub(1)?));
    let line = line.map_or_else(String::new, |line| format!(" ({line})"));
    let service = service.map_or_else(String::new, |service| format!(" of Service {service}"));
    format!("iptables-restore refuses a line{service}{line}: {message}")
}

fn findings(family: Family, differences: &[Difference]) -> Vec<String> {
    let mut lines: Vec<String> = differences
        .iter()
        .take(FINDINGS)
        .map(|difference| match difference {
            Difference::Added(what) => format!("{family}: {what} is missing"),
            Difference::Changed(what) => format!("{family}: {what} is not as written"),
            Difference::Removed(what) => format!("{family}: {what} is not ours"),
        })
        .collect();
    if differences.len() > FINDINGS {
        lines.push(format!("{family}: {} more", differences.len() - FINDINGS));
    }
    lines
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
        for family in crate::families() {
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

    fn iptables(&self) -> PerFamily<Option<Variant>> {
        let mut variants = PerFamily::default();
        for family in &self.families {
            *variants.get_mut(family.style.family) = Some(family.tool.variant());
        }
        variants
    }
}

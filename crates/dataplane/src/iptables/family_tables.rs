//! The tables of one family: what they hold, what they should hold, and how they get there.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use portolan_service::{ChangeSet, Family, ObjectName, ServicePlan};

use super::chains::{Counts, Style, Table};
use super::compare::{self, Comparison, Tables, Wanted};
use super::options::Options;
use super::script::Script;
use super::tool::{self, Fingerprint, RestoreError, Tool};
use super::{change, service};
use crate::dataplane::{Difference, Outcome, RuleCount, Standing};
use crate::error::Error;
use crate::owner::Owner;
use crate::settings::Settings;
use crate::variant::Variant;

/// With more endpoints than this, rules of single Services go without comments (spec §5.33).
pub(super) const LARGE: usize = 1000;
/// How often everything is written again without Services that iptables does not take.
const ATTEMPTS: usize = 8;
/// Looking through everything may take this share of the time: 1 of 10.
const LOOK_SHARE: u32 = 10;
/// iptables-legacy does not report every change: how often to look through everything
/// nevertheless.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// At most this many changes of somebody else are reported.
const FINDINGS: usize = 10;

/// The tables of one family.
#[derive(Debug)]
pub(super) struct FamilyTables {
    /// Why they do not hold what is wanted; `None` if they do, as far as is known.
    pub(super) trouble: Option<Standing>,
    pub(super) tool: Tool,
    pub(super) style: Style,
    /// Endpoints of all Services.
    pub(super) endpoints: usize,
    /// Rules that are in force.
    pub(super) rules: Counts,
    /// The state of the tables in which we know what they hold.
    pub(super) known: Option<Fingerprint>,
    /// Not before this is everything looked through again.
    pub(super) look_at: Instant,
    /// At this time at the latest, if the variant does not report all changes.
    pub(super) look_by: Instant,
}

/// What became of one family's tables.
pub(super) struct Synced {
    pub(super) commits: usize,
    /// UDP frontends that are no more.
    pub(super) gone: Vec<(IpAddr, u16)>,
}

/// What a change was for one family's tables.
pub(super) struct Applied {
    pub(super) commits: usize,
    pub(super) operations: usize,
    pub(super) rules: [RuleCount; 2],
}

impl FamilyTables {
    pub(super) fn new(family: Family, settings: &Settings, options: &Options) -> Result<FamilyTables, Error> {
        let tool = Tool::find(family)?;
        let style = Style {
            family,
            settings: settings.clone(),
            options: options.clone(),
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

    pub(super) fn save(&self) -> Result<String, Error> {
        self.tool.save(&Table::ALL.map(Table::name))
    }

    /// What has to be done for the tables to hold `plans`.
    pub(super) fn compare(
        &self,
        plans: &[&ServicePlan],
        left_out: &BTreeSet<Owner>,
        whole: bool,
        differences: bool,
    ) -> Result<Comparison, Error> {
        let saved = self.save()?;
        let ahead = self.tool.variant() == Variant::Nft;
        Ok(compare::compare(
            &Wanted { style: &self.style, plans, left_out, whole, ahead, differences },
            &Tables::read(&saved),
        ))
    }

    /// Writes what is missing, without the Services that iptables does not take.
    pub(super) fn sync(&mut self, plans: &[&ServicePlan], outcome: &mut Outcome) -> Result<Synced, Error> {
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

    /// Applies `changes`.
    pub(super) fn apply(&mut self, changes: &ChangeSet) -> Result<Applied, Error> {
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
    pub(super) fn is_suspect(&mut self) -> Result<bool, Error> {
        let now = Instant::now();
        if now < self.look_at {
            return Ok(false);
        }
        let overdue = self.tool.variant() == Variant::Legacy && self.look_by <= now;
        Ok(overdue || self.known.as_ref() != Some(&self.tool.fingerprint()?))
    }

    /// What somebody changed.
    pub(super) fn look(
        &mut self,
        plans: &[&ServicePlan],
        left_out: &BTreeSet<Owner>,
    ) -> Result<Vec<String>, Error> {
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

    pub(super) fn cleanup(&mut self) -> Result<(), Error> {
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
pub(super) fn rejected(
    script: &Script,
    line: Option<usize>,
    service: Option<&ObjectName>,
    message: &str,
) -> String {
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

/// How a family is served after this error.
pub(super) fn trouble(error: &Error) -> Standing {
    match error {
        Error::Missing(reason) => Standing::Absent(reason.clone()),
        Error::Netlink { .. } | Error::Unusable(_) => Standing::Behind(error.to_string()),
    }
}

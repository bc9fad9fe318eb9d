//! From what the kernel holds to what it should hold: as few lines as possible, so that what stays
//! keeps its counters.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use portolan_service::{Family, ServicePlan};

use super::chains::{Counts, Fixed, Shared, Style, Table, fixed, is_ours, jumps, to_node_ports};
use super::names::{PortChains, is_of_a_service};
use super::rule::{Match, Rule};
use super::saved::{Held, target};
use super::script::Script;
use super::service::render;
use crate::dataplane::Difference;
use crate::owner::Owner;

/// What all tables of one family hold.
#[derive(Debug, Default)]
pub(super) struct Tables<'a> {
    pub(super) mangle: Held<'a>,
    pub(super) filter: Held<'a>,
    pub(super) nat: Held<'a>,
}

impl<'a> Tables<'a> {
    /// Reads what iptables-save printed.
    pub(super) fn read(saved: &'a str) -> Tables<'a> {
        let mut tables = Tables::default();
        let mut within = None;
        for line in saved.lines() {
            if let Some(name) = line.strip_prefix('*') {
                within = Table::ALL.into_iter().find(|table| table.name() == name);
                continue;
            }
            let held = match within {
                Some(Table::Mangle) => &mut tables.mangle,
                Some(Table::Filter) => &mut tables.filter,
                Some(Table::Nat) => &mut tables.nat,
                None => continue,
            };
            held.read_line(line);
        }
        tables
    }

    pub(super) fn get(&self, table: Table) -> &Held<'a> {
        match table {
            Table::Mangle => &self.mangle,
            Table::Filter => &self.filter,
            Table::Nat => &self.nat,
        }
    }
}

/// What the tables should hold.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) style: &'a Style,
    /// All Services; their places are their owner numbers.
    pub(super) plans: &'a [&'a ServicePlan],
    /// Services that stay as they are, because iptables does not take their rules.
    pub(super) left_out: &'a BTreeSet<Owner>,
    /// Chains with rules of many Services are written whole, as their rules cannot be deleted one
    /// by one.
    pub(super) whole: bool,
    /// New chains may be written ahead of the others: the variant is better off with many
    /// transactions.
    pub(super) ahead: bool,
    /// What differs is to be named. Whoever only writes it needs no words for tens of thousands of
    /// chains.
    pub(super) differences: bool,
}

/// What is to be done, and why.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) script: Script,
    /// Empty unless asked for.
    pub(super) differences: Vec<Difference>,
    /// UDP frontends that are held and not wanted: addresses and ports.
    pub(super) gone: Vec<(IpAddr, u16)>,
    /// Rules of ours, once it is done.
    pub(super) rules: Counts,
}

/// Rewriting a chain is cheaper than this part of its rules one by one: 1 of 4.
const MANY: usize = 4;

/// How many new chains to write in one transaction. While rules are in force that can be reached,
/// the kernel looks through all of them for each transaction (46 ms at 10,000 Services), so then it
/// is better to have few.
const PART_UNREACHED: usize = 200;
const PART_REACHED: usize = 2000;

/// What brings `held` to `wanted`.
pub(super) fn compare(wanted: &Wanted<'_>, held: &Tables<'_>) -> Comparison {
    let mut comparer = Comparer {
        family: wanted.style.family,
        held,
        differences: wanted.differences,
        wanted_chains: HashSet::new(),
        kept_owners: HashMap::new(),
        done: Comparison::default(),
    };
    if wanted.ahead {
        let reached = held.nat.chain(Shared::Services.chain()).is_some();
        let part = if reached { PART_REACHED } else { PART_UNREACHED };
        comparer.done.script = Script::in_parts_of(Some(part));
    }
    comparer.keep_left_out(wanted);
    // Their chains come first, as those of Services lead there.
    for chain in fixed(wanted.style) {
        comparer.fixed_chain(&chain);
    }
    let mut shared: HashMap<Shared, Vec<(Rule, Option<Owner>)>> = HashMap::new();
    for (owner, plan) in (0..).zip(wanted.plans) {
        if wanted.left_out.contains(&owner) {
            continue;
        }
        let rules = render(wanted.style, plan);
        for (chain, rule) in rules.shared {
            shared.entry(chain).or_default().push((rule, Some(owner)));
        }
        comparer.own_chains(plan, rules.chains, owner);
    }
    for chain in Shared::ALL {
        let last = if chain == Shared::Services { to_node_ports(wanted.style) } else { Vec::new() };
        let rules = shared.remove(&chain).unwrap_or_default();
        comparer.shared_chain(chain, &rules, &last, wanted.whole);
    }
    comparer.jumps();
    comparer.stale_chains();
    comparer.done
}

/// What removes everything of ours from `held` (spec §5.40). Chains that rules of others lead to
/// are emptied only.
pub(super) fn removal(family: Family, held: &Tables<'_>) -> Script {
    let mut script = Script::default();
    for jump in jumps().iter().filter(|jump| jump.removable) {
        for rule in held.get(jump.table).rules(jump.from) {
            if Rule::parse(rule, family).as_ref() == Some(&jump.rule) {
                script.delete(jump.table, jump.from, rule, None);
            }
        }
    }
    for table in Table::ALL {
        let held = held.get(table);
        let in_use = targets_of_others(table, family, held);
        for (name, chain) in held.chains().filter(|(name, _)| is_ours(table, name)) {
            if !in_use.contains(name) {
                script.remove(table, name, None);
            } else if !chain.rules.is_empty() {
                script.declare(table, name, None);
            }
        }
    }
    script
}

/// Where rules of chains lead that are not ours, our own jumps apart.
fn targets_of_others<'a>(table: Table, family: Family, held: &Held<'a>) -> HashSet<&'a str> {
    let jumps = jumps();
    let is_jump = |chain: &str, rule: &str| {
        jumps.iter().any(|jump| {
            jump.table == table
                && jump.from == chain
                && Rule::parse(rule, family).as_ref() == Some(&jump.rule)
        })
    };
    held.chains()
        .filter(|(name, _)| !is_ours(table, name))
        .flat_map(|(name, chain)| chain.rules.iter().map(move |rule| (name, *rule)))
        .filter_map(|(name, rule)| Some((name, rule, target(rule)?)))
        .filter(|(name, rule, target)| is_ours(table, target) && !is_jump(name, rule))
        .map(|(_, _, target)| target)
        .collect()
}

struct Comparer<'a> {
    family: Family,
    held: &'a Tables<'a>,
    differences: bool,
    /// Chains of Services that are to be there.
    wanted_chains: HashSet<String>,
    /// What rules in shared chains are kept because they are a left-out Service's: names of its
    /// ports.
    kept_owners: HashMap<String, PortChains>,
    done: Comparison,
}

impl Comparer<'_> {
    fn differ(&mut self, difference: impl FnOnce() -> Difference) {
        if self.differences {
            self.done.differences.push(difference());
        }
    }

    /// Services that iptables did not take stay as they are in the kernel.
    fn keep_left_out(&mut self, wanted: &Wanted<'_>) {
        for owner in wanted.left_out {
            let Some(plan) = wanted.plans.get(*owner as usize) else { continue };
            for port in plan.ports.iter().filter(|port| port.family == self.family) {
                let name = plan.port_name(port);
                let chains = PortChains::of(&name, port.protocol);
                for chain in [&chains.cluster, &chains.local, &chains.external, &chains.firewall] {
                    let endpoints = self.held.nat.rules(chain).iter().filter_map(|rule| target(rule));
                    self.wanted_chains.extend(endpoints.map(str::to_owned));
                    self.wanted_chains.insert(chain.clone());
                }
                self.kept_owners.insert(name, chains);
            }
        }
    }

    /// The rule is one of a Service that is left out.
    fn is_kept(&self, rule: &Rule) -> bool {
        rule.matches().iter().any(|condition| match condition {
            Match::Comment(comment) => {
                let name = comment.split(' ').next().unwrap_or_default();
                self.kept_owners.contains_key(name)
            }
            _ => false,
        })
    }

    fn own_chains(&mut self, plan: &ServicePlan, chains: Vec<(String, Vec<Rule>)>, owner: Owner) {
        let (old, new): (Vec<_>, Vec<_>) =
            chains.into_iter().partition(|(chain, _)| self.held.nat.chain(chain).is_some());
        for (chain, rules) in &old {
            self.own_chain(plan, chain, rules, owner);
        }
        for (chain, rules) in &new {
            self.done.rules.add(Table::Nat, rules.len());
            self.differ(|| Difference::Added(format!("chain {chain} of Service {}", plan.name)));
        }
        self.done.script.create(&new, Some(owner));
        self.wanted_chains.extend(old.into_iter().chain(new).map(|(chain, _)| chain));
    }

    fn own_chain(&mut self, plan: &ServicePlan, chain: &str, rules: &[Rule], owner: Owner) {
        self.done.rules.add(Table::Nat, rules.len());
        // With and without comments is the same (spec §5.33).
        let same = |held: &&str, wanted: &Rule| {
            Rule::parse(held, self.family).is_some_and(|held| held.is_same_but_comments(wanted))
        };
        let held = self.held.nat.rules(chain);
        if held.len() == rules.len() && held.iter().zip(rules).all(|(held, wanted)| same(held, wanted)) {
            return;
        }
        self.differ(|| Difference::Changed(format!("chain {chain} of Service {}", plan.name)));
        self.write_chain(Table::Nat, chain, rules, Some(owner));
    }

    fn write_chain(&mut self, table: Table, chain: &str, rules: &[Rule], owner: Option<Owner>) {
        self.done.script.declare(table, chain, owner);
        for rule in rules {
            self.done.script.append(table, chain, rule, owner);
        }
    }

    /// `last` must be the end of the chain, in order; the others may be in any.
    fn shared_chain(&mut self, shared: Shared, rules: &[(Rule, Option<Owner>)], last: &[Rule], whole: bool) {
        let (table, chain) = (shared.table(), shared.chain());
        self.done.rules.add(table, rules.len() + last.len());
        let held = self.held.get(table).chain(chain);
        let is_new = held.is_none();
        let held: Vec<(&str, Option<Rule>)> = held
            .map_or(&[][..], |chain| &chain.rules)
            .iter()
            .map(|text| (*text, Rule::parse(text, self.family)))
            .collect();
        let split = held.len().saturating_sub(last.len());
        let (body, tail) = held.split_at(split);
        let tail_is_right = tail.len() == last.len()
            && tail.iter().zip(last).all(|((_, held), wanted)| held.as_ref() == Some(wanted));

        let mut left: HashMap<&Rule, Vec<&str>> = HashMap::new();
        let mut strange: Vec<&str> = Vec::new();
        let mut kept: Vec<&str> = Vec::new();
        for (text, rule) in body {
            match rule {
                Some(rule) if self.is_kept(rule) => kept.push(text),
                Some(rule) => left.entry(rule).or_default().push(text),
                None => strange.push(text),
            }
        }
        let mut missing = Vec::new();
        for (rule, owner) in rules {
            match left.get_mut(rule) {
                Some(texts) if !texts.is_empty() => drop(texts.pop()),
                _ => missing.push((rule, *owner)),
            }
        }
        strange.extend(left.into_values().flatten());

        let describe =
            |rule: &dyn std::fmt::Display| format!("rule of chain {chain} ({}): {rule}", table.name());
        for (rule, _) in &missing {
            self.differ(|| Difference::Added(describe(rule)));
        }
        for rule in &strange {
            self.differ(|| Difference::Removed(describe(rule)));
        }
        if !tail_is_right && !is_new {
            self.differ(|| Difference::Changed(describe(&"the last rules are not the last")));
        }
        let gone = strange.iter().filter_map(|text| Rule::parse(text, self.family)?.udp_destination());
        self.done.gone.extend(gone);
        let changes = missing.len() + strange.len();
        if is_new || !tail_is_right || (whole && changes > 0) || changes * MANY > rules.len() + MANY {
            self.done.script.declare(table, chain, None);
            for text in kept {
                // A rule that iptables printed is one that it takes.
                if let Some(rule) = Rule::parse(text, self.family) {
                    self.done.script.append(table, chain, &rule, None);
                }
            }
            for (rule, owner) in rules {
                self.done.script.append(table, chain, rule, *owner);
            }
            for rule in last {
                self.done.script.append(table, chain, rule, None);
            }
            return;
        }
        for text in strange {
            self.done.script.delete(table, chain, &text, None);
        }
        for (rule, owner) in missing {
            self.done.script.insert(table, chain, rule, owner);
        }
    }

    fn fixed_chain(&mut self, wanted: &Fixed) {
        let held = self.held.get(wanted.table).chain(wanted.chain);
        let name = || format!("chain {} ({})", wanted.chain, wanted.table.name());
        self.done.rules.add(wanted.table, wanted.rules.as_ref().map_or(0, Vec::len));
        let difference = match (held, &wanted.rules) {
            (None, _) => Difference::Added(name()),
            (Some(_), None) => return,
            (Some(held), Some(rules)) => {
                let same = |held: &&str, rule: &Rule| Rule::parse(held, self.family).as_ref() == Some(rule);
                if held.rules.len() == rules.len() && held.rules.iter().zip(rules).all(|(h, w)| same(h, w)) {
                    return;
                }
                Difference::Changed(name())
            }
        };
        self.differ(|| difference);
        let rules = wanted.rules.clone().unwrap_or_default();
        if wanted.table == Table::Nat && held.is_none() {
            // Chains of Services lead here.
            self.done.script.create(&[(wanted.chain.to_owned(), rules)], None);
        } else {
            self.write_chain(wanted.table, wanted.chain, &rules, None);
        }
    }

    fn jumps(&mut self) {
        for jump in jumps() {
            self.done.rules.add(jump.table, 1);
            let held = self.held.get(jump.table).rules(jump.from);
            if held.iter().any(|rule| Rule::parse(rule, self.family).as_ref() == Some(&jump.rule)) {
                continue;
            }
            self.differ(|| {
                let (from, table, rule) = (jump.from, jump.table.name(), &jump.rule);
                Difference::Added(format!("rule of chain {from} ({table}): {rule}"))
            });
            self.done.script.insert(jump.table, jump.from, &jump.rule, None);
        }
    }

    /// Spec §5.36.
    fn stale_chains(&mut self) {
        let nat = &self.held.nat;
        let stale: Vec<&str> = nat
            .chains()
            .map(|(name, _)| name)
            .filter(|name| is_of_a_service(name) && !self.wanted_chains.contains(*name))
            .collect();
        if stale.is_empty() {
            return;
        }
        let in_use = targets_of_others(Table::Nat, self.family, nat);
        for name in stale {
            if !in_use.contains(name) {
                self.differ(|| Difference::Removed(format!("chain {name}")));
                self.done.script.remove(Table::Nat, name, None);
            } else if !nat.rules(name).is_empty() {
                self.differ(|| Difference::Removed(format!("rules of chain {name}")));
                self.done.script.declare(Table::Nat, name, None);
            }
        }
    }
}

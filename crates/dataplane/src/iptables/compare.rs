//! From what the kernel holds to what it should hold: as few lines as possible, so that what stays
//! keeps its counters.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use portolan_service::{Family, ServicePlan};

use super::chains::{Counts, Fixed, Shared, Style, Table, fixed, is_ours};
use super::jumps::Jump;
use super::names::PortChains;
use super::options::Layout;
use super::rule::{Match, Rule};
use super::saved::{Held, target};
use super::script::Script;
use super::service::render;
use crate::chain_names::{MARK, MARK_MASQ, POSTROUTING};
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
        let reached = [Shared::Services, Shared::PortalsHost]
            .iter()
            .any(|shared| held.nat.chain(shared.chain()).is_some());
        let part = if reached { PART_REACHED } else { PART_UNREACHED };
        comparer.done.script = Script::in_parts_of(Some(part));
    }
    comparer.keep_left_out(wanted);
    // Their chains come first, as those of Services lead there.
    let fixed = fixed(wanted.style);
    for chain in &fixed {
        comparer.fixed_chain(chain);
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
    let layout = wanted.style.options.layout;
    for chain in Shared::ALL.into_iter().filter(|chain| chain.is_of(layout)) {
        let rules = shared.remove(&chain).unwrap_or_default();
        comparer.shared_chain(chain, &rules, &chain.last(wanted.style), wanted.whole);
    }
    comparer.jumps(wanted.style);
    for table in Table::ALL {
        comparer.stale(table, &wanted_by(&fixed, layout, table));
    }
    comparer.done
}

/// What removes everything of ours from `held` (spec §5.40). Chains that rules of others lead to
/// are emptied only.
pub(super) fn removal(family: Family, held: &Tables<'_>) -> Script {
    let mut script = Script::default();
    for table in Table::ALL {
        for (from, rule, jump) in held_jumps(table, family, held.get(table)) {
            if jump.is_removable() {
                script.delete(table, from, &rule, None);
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

/// The rules of chains that are not ours that are jumps of ours: chain, text, and which one it is.
fn held_jumps<'a>(table: Table, family: Family, held: &Held<'a>) -> Vec<(&'a str, &'a str, &'static Jump)> {
    let base = held.chains().filter(|(_, chain)| chain.is_base);
    let mut jumps: Vec<_> = base
        .flat_map(|(from, chain)| chain.rules.iter().map(move |rule| (from, *rule)))
        .filter(|(_, rule)| target(rule).is_some_and(|to| to.starts_with("KUBE-")))
        .filter_map(|(from, rule)| {
            Some((from, rule, Jump::that_is(table, from, &Rule::parse(rule, family)?)?))
        })
        .collect();
    jumps.sort_unstable_by_key(|(from, rule, _)| (*from, *rule));
    jumps
}

/// Where rules of chains lead that are not ours, our own jumps apart.
fn targets_of_others<'a>(table: Table, family: Family, held: &Held<'a>) -> HashSet<&'a str> {
    let jumps = held_jumps(table, family, held);
    let jumps: HashSet<(&str, &str)> = jumps.into_iter().map(|(from, rule, _)| (from, rule)).collect();
    held.chains()
        .filter(|(name, _)| !is_ours(table, name))
        .flat_map(|(name, chain)| chain.rules.iter().map(move |rule| (name, *rule)))
        .filter_map(|(name, rule)| Some((name, rule, target(rule)?)))
        .filter(|(name, rule, target)| is_ours(table, target) && !jumps.contains(&(name, rule)))
        .map(|(_, _, target)| target)
        .collect()
}

/// The chains of a table that are there whatever Services there are.
fn wanted_by(fixed: &[Fixed], layout: Layout, table: Table) -> HashSet<&'static str> {
    let fixed = fixed.iter().filter(|chain| chain.table == table).map(|chain| chain.chain);
    let shared = Shared::ALL.into_iter().filter(|chain| chain.is_of(layout) && chain.table() == table);
    fixed.chain(shared.map(Shared::chain)).collect()
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

    fn jumps(&mut self, style: &Style) {
        for jump in Jump::of(style.options.layout) {
            let held = self.held.get(jump.table).rules(jump.from);
            for rule in jump.rules(style) {
                self.done.rules.add(jump.table, 1);
                if held.iter().any(|held| Rule::parse(held, self.family).as_ref() == Some(&rule)) {
                    continue;
                }
                self.differ(|| Difference::Added(jump_in(jump.table, jump.from, &rule)));
                if jump.is_last() {
                    self.done.script.append(jump.table, jump.from, &rule, None);
                } else {
                    self.done.script.insert(jump.table, jump.from, &rule, None);
                }
            }
        }
        let keeps_masquerading = self.keeps_masquerading(style.options.layout);
        for table in Table::ALL {
            for (from, text, jump) in held_jumps(table, self.family, self.held.get(table)) {
                let rule = Rule::parse(text, self.family);
                let is_wanted = || {
                    let mut wanted = Jump::of(style.options.layout).filter(|wanted| *wanted == jump);
                    wanted.any(|jump| jump.rules(style).iter().any(|wanted| rule.as_ref() == Some(wanted)))
                };
                if !jump.is_removable()
                    || (keeps_masquerading && jump.leads_to() == POSTROUTING)
                    || is_wanted()
                {
                    continue;
                }
                self.differ(|| Difference::Removed(jump_in(table, from, &text)));
                self.done.script.delete(table, from, &text, None);
            }
        }
    }

    /// The chains that masquerade are to stay although the layout has none: kubelet has its own of
    /// these names, and host ports of others may lead there (spec §5.41, §5.43).
    fn keeps_masquerading(&self, layout: Layout) -> bool {
        let is_mark = |rule: &&str| {
            let rule = Rule::parse(rule, self.family).unwrap_or_default();
            rule.matches().iter().any(|condition| matches!(condition, Match::Comment(text) if text == MARK))
        };
        let nat = &self.held.nat;
        layout == Layout::Portals
            && (!nat.rules(POSTROUTING).iter().any(is_mark)
                || targets_of_others(Table::Nat, self.family, nat).contains(MARK_MASQ))
    }

    /// Chains of Services that are no more (spec §5.36), and those of the other layout. `wanted`:
    /// those without a Service.
    fn stale(&mut self, table: Table, wanted: &HashSet<&'static str>) {
        let held = self.held.get(table);
        let mut stale: Vec<&str> = held
            .chains()
            .map(|(name, _)| name)
            .filter(|name| is_ours(table, name) && !wanted.contains(name))
            .filter(|name| !self.wanted_chains.contains(*name))
            .collect();
        if table == Table::Nat && !wanted.contains(POSTROUTING) && self.keeps_masquerading(Layout::Portals) {
            stale.retain(|name| ![POSTROUTING, MARK_MASQ].contains(name));
        }
        if stale.is_empty() {
            return;
        }
        let in_use = targets_of_others(table, self.family, held);
        for name in stale {
            if !in_use.contains(name) {
                self.differ(|| Difference::Removed(format!("chain {name}")));
                self.done.script.remove(table, name, None);
            } else if !held.rules(name).is_empty() {
                self.differ(|| Difference::Removed(format!("rules of chain {name}")));
                self.done.script.declare(table, name, None);
            }
        }
    }
}

fn jump_in(table: Table, from: &str, rule: &dyn std::fmt::Display) -> String {
    format!("rule of chain {from} ({}): {rule}", table.name())
}

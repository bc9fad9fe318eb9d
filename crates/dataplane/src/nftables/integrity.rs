//! Whether the kernel still holds what we left there, and what is different if not.
//!
//! Three looks, each only when the one before gives a reason: the generation id (one number);
//! chains, rules, sets and their sizes (the same few whatever the Services are); the content of all
//! sets.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use portolan_netfilter::nft::{self, OwnedData};
use portolan_service::{Family, PerFamily, ServicePlan};

use super::Nftables;
use super::affinity::fingerprint;
use super::chain::{Chain, is_in_place};
use super::element::{Data, Element, Key, Target, render};
use super::encoding::{take_address, take_frontend};
use super::inventory::Inventory;
use super::layout::Layout;
use super::schema::Schema;
use super::set::{SetName, is_affinity_set, is_like};
use super::staging::{put_comment, verdict};
use super::table::table_name;
use crate::dataplane::Integrity;
use crate::error::Error;

/// Up to this many elements, contents are compared whenever there is a reason; the kernel's dump
/// takes a time that grows with the square of a set's size.
const COMPARE_FREELY: usize = 100_000;
/// Larger tables are compared no more often than this.
const COMPARE_EVERY: Duration = Duration::from_mins(1);

impl Nftables {
    /// See [`crate::Dataplane::verify`].
    pub(super) fn check(
        &mut self,
        plans: &mut dyn Iterator<Item = &ServicePlan>,
    ) -> Result<Integrity, Error> {
        let Some(inventories) = self.inventories.take() else {
            return Ok(Integrity::Changed(vec!["nothing is in force yet".into()]));
        };
        let findings = self.find_changes(&inventories, plans);
        self.inventories = Some(inventories);
        let findings = findings?;
        Ok(if findings.is_empty() { Integrity::Intact } else { Integrity::Changed(findings) })
    }

    fn find_changes(
        &mut self,
        inventories: &PerFamily<Inventory>,
        plans: &mut dyn Iterator<Item = &ServicePlan>,
    ) -> Result<Vec<String>, Error> {
        if self.kernel.is_outdated()? {
            let findings = self.inspect(inventories)?;
            if !findings.is_empty() {
                return Ok(findings);
            }
        }
        if !self.uncompared {
            return Ok(Vec::new());
        }
        let total: usize = self.families.iter().map(|family| inventories.get(*family).total()).sum();
        if total > COMPARE_FREELY && self.compared.is_some_and(|at| at.elapsed() < COMPARE_EVERY) {
            return Ok(Vec::new());
        }
        let findings = self.compare(plans)?;
        self.compared = Some(Instant::now());
        // What was committed while we read may be in or not: then there is a next time.
        self.uncompared = self.kernel.is_outdated()?;
        Ok(findings)
    }

    /// Looks at everything that is not an element, and at how many elements there are, as of the
    /// present generation.
    pub(super) fn inspect(&mut self, inventories: &PerFamily<Inventory>) -> Result<Vec<String>, Error> {
        self.kernel.refresh()?;
        self.uncompared = true;
        let mut findings = Vec::new();
        for family in self.families.clone() {
            let contents = self.kernel.contents(family)?;
            match &contents.table {
                None => {
                    findings.push(format!("{} deleted", table_name(family)));
                    continue;
                }
                Some(found) if found.flags != 0 => findings.push(format!("{} disabled", table_name(family))),
                Some(_) => {}
            }
            let inventory = inventories.get(family);
            let schema = self.schema(family, inventory.features);
            let mut found = Vec::new();
            inspect_sets(self.layout.sets(), inventory, family, &contents.sets, &mut found);
            let chains: Vec<Chain> = schema.chains().into_iter().chain(inventory.chains().cloned()).collect();
            inspect_chains(&chains, &contents.chains, &mut found);
            let rules = self.kernel.rules(family)?;
            let schema = self.schema(family, inventory.features);
            inspect_rules(&schema, inventory, &chains, &rules, &mut found);
            findings.extend(found.into_iter().map(|finding| format!("{}: {finding}", table_name(family))));
        }
        Ok(findings)
    }

    /// Compares the content of all sets with what `plans` ask for.
    pub(super) fn compare(
        &mut self,
        plans: &mut dyn Iterator<Item = &ServicePlan>,
    ) -> Result<Vec<String>, Error> {
        let mut hashes = Hashes::default();
        for family in self.families.clone() {
            for set in self.layout.sets().iter().copied() {
                self.kernel.elements(family, set, |element| {
                    let end = element.key_end.as_deref().unwrap_or_default();
                    let hash = hashes.hash(
                        family,
                        set,
                        &element.key,
                        end,
                        DataRef::of(element),
                        comment_of(element),
                    );
                    hashes.unexplained.insert(hash);
                })?;
            }
        }
        let mut missing: HashMap<(Family, SetName), (usize, String)> = HashMap::new();
        let mut unseen: HashSet<_> = self.refused.keys().collect();
        for plan in plans {
            unseen.remove(&plan.name);
            if let Some(plan) = self.in_force(&plan.name, Some(plan)) {
                hashes.explain(&self.layout, plan, &self.families, &mut missing);
            }
        }
        for name in unseen {
            if let Some(plan) = self.in_force(name, None) {
                hashes.explain(&self.layout, plan, &self.families, &mut missing);
            }
        }
        let mut findings: Vec<String> = missing
            .into_iter()
            .map(|((family, set), (count, example))| {
                format!(
                    "{}: {} {}: {} missing or changed, among them {example}",
                    table_name(family),
                    set.kind(),
                    set.name(),
                    elements(count)
                )
            })
            .collect();
        if !hashes.unexplained.is_empty() {
            self.name_unexplained(&hashes, &mut findings)?;
        }
        findings.sort_unstable();
        Ok(findings)
    }

    /// Reads the sets again to say what the elements are that nobody asked for.
    fn name_unexplained(&mut self, hashes: &Hashes, findings: &mut Vec<String>) -> Result<(), Error> {
        for family in self.families.clone() {
            for set in self.layout.sets().iter().copied() {
                let mut count = 0;
                let mut example = None;
                self.kernel.elements(family, set, |element| {
                    let end = element.key_end.as_deref().unwrap_or_default();
                    if hashes.unexplained.contains(&hashes.hash(
                        family,
                        set,
                        &element.key,
                        end,
                        DataRef::of(element),
                        comment_of(element),
                    )) {
                        count += 1;
                        example.get_or_insert_with(|| describe(family, set, &element.key));
                    }
                })?;
                if let Some(example) = example {
                    findings.push(format!(
                        "{}: {} {}: {} not ours, among them {example}",
                        table_name(family),
                        set.kind(),
                        set.name(),
                        elements(count)
                    ));
                }
            }
        }
        Ok(())
    }
}

fn inspect_sets(
    sets: &[SetName],
    inventory: &Inventory,
    family: Family,
    found: &[nft::SetInfo],
    findings: &mut Vec<String>,
) {
    for set in sets.iter().copied() {
        let (kind, name) = (set.kind(), set.name());
        let Some(info) = found.iter().find(|info| info.name == name) else {
            findings.push(format!("{kind} {name} deleted"));
            continue;
        };
        if !is_like(set, family, info) {
            findings.push(format!("{kind} {name} replaced by another of this name"));
        }
        let expected = inventory.len(set);
        if let Some(count) = info.count
            && count as usize != expected
        {
            findings.push(format!("{kind} {name}: {count} elements instead of {expected}"));
        }
    }
    let mut missing = inventory.affinity_sets().clone();
    for info in found.iter().filter(|info| sets.iter().all(|set| set.name() != info.name)) {
        let name = &info.name;
        if !missing.remove(name) {
            findings.push(format!("set {name} is not ours"));
        } else if !is_affinity_set(family, info) {
            findings.push(format!("set {name} replaced by another of this name"));
        }
    }
    findings.extend(missing.into_iter().map(|name| format!("set {name} deleted")));
}

fn inspect_chains(expected: &[Chain], found: &[nft::ChainInfo], findings: &mut Vec<String>) {
    let mut by_name: HashMap<&str, &nft::ChainInfo> =
        found.iter().map(|info| (info.name.as_str(), info)).collect();
    for chain in expected {
        let name = chain.name();
        match by_name.remove(name.as_str()) {
            None => findings.push(format!("chain {name} deleted")),
            Some(info) if info.drops => findings.push(format!("chain {name} has policy drop")),
            Some(info) if !is_in_place(chain, info) => {
                findings.push(format!("chain {name} moved to another hook"));
            }
            Some(_) => {}
        }
    }
    findings.extend(by_name.into_keys().map(|name| format!("chain {name} is not ours")));
}

fn inspect_rules(
    schema: &Schema<'_>,
    inventory: &Inventory,
    chains: &[Chain],
    found: &[nft::RuleInfo],
    findings: &mut Vec<String>,
) {
    let mut of_chains: HashMap<&str, Vec<&nft::RuleInfo>> = HashMap::new();
    for rule in found {
        of_chains.entry(&rule.chain).or_default().push(rule);
    }
    for chain in chains {
        let name = chain.name();
        let present = of_chains.remove(name.as_str()).unwrap_or_default();
        if chain.is_of_a_port() {
            let rules = present.iter().map(|rule| &rule.exprs[..]);
            if fingerprint(rules) != inventory.port_rules(chain) {
                findings.push(format!("chain {name}: other rules than it should have"));
            }
            continue;
        }
        let expected = schema.rules(chain);
        if expected.iter().map(|rule| &rule.exprs).eq(present.iter().map(|rule| &rule.exprs)) {
            continue;
        }
        let mut foreign = present;
        let mut missing = 0;
        for rule in &expected {
            match foreign.iter().position(|present| present.exprs == rule.exprs) {
                Some(at) => drop(foreign.remove(at)),
                None => missing += 1,
            }
        }
        let rules = |count: usize| if count == 1 { "1 rule".to_owned() } else { format!("{count} rules") };
        match (missing, foreign.len()) {
            (0, 0) => findings.push(format!("chain {name}: rules in another order")),
            (missing, 0) => findings.push(format!("chain {name}: {} missing", rules(missing))),
            (0, more) => findings.push(format!("chain {name}: {} not ours", rules(more))),
            (missing, more) => {
                findings.push(format!("chain {name}: {} missing, {} not ours", rules(missing), rules(more)));
            }
        }
    }
}

/// What an element holds, to be hashed.
#[derive(Hash)]
enum DataRef<'a> {
    None,
    Value(&'a [u8]),
    Verdict(&'a nft::Verdict),
}

impl DataRef<'_> {
    fn of(element: &nft::OwnedElement) -> DataRef<'_> {
        match &element.data {
            None => DataRef::None,
            Some(OwnedData::Value(value)) => DataRef::Value(value),
            Some(OwnedData::Verdict(verdict)) => DataRef::Verdict(verdict),
        }
    }
}

fn comment_of(element: &nft::OwnedElement) -> &[u8] {
    element.comment.as_deref().unwrap_or_default().as_bytes()
}

/// Elements by their hash: 8 bytes each instead of what they are.
#[derive(Default)]
struct Hashes {
    state: RandomState,
    /// In the kernel, and not asked for by a plan so far.
    unexplained: HashSet<u64>,
    /// Shared elements that some plan asked for.
    shared: HashSet<Key>,
    verdicts: HashMap<Target, nft::Verdict>,
}

impl Hashes {
    fn hash(
        &self,
        family: Family,
        set: SetName,
        key: &[u8],
        end: &[u8],
        data: DataRef<'_>,
        comment: &[u8],
    ) -> u64 {
        self.state.hash_one((family, set, key, end, data, comment))
    }

    /// Ticks off what `plan` asks for; counts what is not there, with an example.
    fn explain(
        &mut self,
        layout: &Layout,
        plan: &ServicePlan,
        families: &[Family],
        missing: &mut HashMap<(Family, SetName), (usize, String)>,
    ) {
        let (mut expected, service) = (Vec::new(), plan.name.as_str());
        let (mut key, mut end, mut value, mut comment) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for family in families {
            expected.clear();
            render(layout, plan, *family, &mut expected);
            for element in &expected {
                let shared = matches!(element.key, Key::ClusterIp(_) | Key::Hairpin(_));
                if shared && !self.shared.insert(element.key) {
                    continue;
                }
                key.clear();
                end.clear();
                value.clear();
                comment.clear();
                element.key.encode(&mut key);
                element.key.encode_end(&mut end);
                if let Data::Target(target) = &element.data
                    && !self.verdicts.contains_key(target)
                {
                    self.verdicts.insert(target.clone(), verdict(target));
                }
                let data = match &element.data {
                    Data::None => DataRef::None,
                    Data::Target(target) => DataRef::Verdict(&self.verdicts[target]),
                    data @ (Data::Endpoint(..) | Data::Mark(_)) => {
                        data.encode(&mut value);
                        DataRef::Value(&value)
                    }
                };
                let set = element.key.set();
                if let Some(port) = element.port_name {
                    put_comment(&mut comment, service, port);
                }
                let hash = self.hash(*family, set, &key, &end, data, &comment);
                if !self.unexplained.remove(&hash) {
                    let entry = missing.entry((*family, set)).or_insert_with(|| (0, example(plan, element)));
                    entry.0 += 1;
                }
            }
        }
    }
}

fn example(plan: &ServicePlan, element: &Element<'_>) -> String {
    match element.port_name {
        Some(port) if !port.is_empty() => format!("{}:{port} {}", plan.name, element.key),
        _ => format!("{} {}", plan.name, element.key),
    }
}

fn elements(count: usize) -> String {
    if count == 1 { "1 element".into() } else { format!("{count} elements") }
}

/// A key in the kernel, for people.
fn describe(family: Family, set: SetName, mut key: &[u8]) -> String {
    let words = match set {
        SetName::ClusterIps | SetName::Hairpin => {
            take_address(&mut key, family).map(|address| address.to_string())
        }
        SetName::Endpoints | SetName::EndpointsLocal => {
            key.split_first_chunk::<4>().and_then(|(index, mut rest)| {
                let frontend = take_frontend(&mut rest, family)?;
                Some(format!("{frontend} endpoint {}", u32::from_ne_bytes(*index)))
            })
        }
        _ => take_frontend(&mut key, family).map(|frontend| frontend.to_string()),
    };
    words.unwrap_or_else(|| "one that cannot be read".into())
}

//! Parts of tables: lines that grep has found, or single chains. What is there is read; what
//! kube-proxy writes in every cluster is assumed where it is missing; what else is missing is
//! named, and answers depend on it.

use std::collections::{BTreeMap, BTreeSet};

use super::group::{Group, Line, add};
use super::hooks::base;
use super::open::{Given, Open};
use crate::Error;
use crate::ruleset::{Action, Goal, Part, Rule, Ruleset, Table, TableFamily, Test, Tool};

/// Chains and targets of kube-proxy begin so in table nat, and nowhere else.
const IN_NAT: [&str; 8] = [
    "KUBE-SVC-",
    "KUBE-SVL-",
    "KUBE-SEP-",
    "KUBE-FW-",
    "KUBE-EXT-",
    "KUBE-XLB-",
    "KUBE-MARK-",
    "KUBE-POSTROUTING",
];
/// The same of table filter.
const IN_FILTER: [&str; 4] =
    ["KUBE-FORWARD", "KUBE-FIREWALL", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL"];

/// Chains that nothing is seen to lead to: so many of them are followed.
const MOST_ORPHANS: usize = 8;

/// Rules by which kube-proxy leads to its chains, and what its constant chains hold
/// (`writeIptablesRules` of its proxier.go): table, the chain that must be there, and the rules
/// that are written where none leads to it.
const LEADING: [(&str, &str, &[&str]); 9] = [
    ("nat", "KUBE-NODEPORTS", &["-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"]),
    ("nat", "KUBE-SERVICES", &["-A PREROUTING -j KUBE-SERVICES", "-A OUTPUT -j KUBE-SERVICES"]),
    ("nat", "KUBE-POSTROUTING", &["-A POSTROUTING -j KUBE-POSTROUTING"]),
    (
        "filter",
        "KUBE-SERVICES",
        &[
            "-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES",
            "-A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES",
        ],
    ),
    (
        "filter",
        "KUBE-EXTERNAL-SERVICES",
        &[
            "-A INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES",
            "-A FORWARD -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES",
        ],
    ),
    ("filter", "KUBE-NODEPORTS", &["-A INPUT -j KUBE-NODEPORTS"]),
    ("filter", "KUBE-FORWARD", &["-A FORWARD -j KUBE-FORWARD"]),
    ("filter", "KUBE-FIREWALL", &["-A INPUT -j KUBE-FIREWALL", "-A OUTPUT -j KUBE-FIREWALL"]),
    (
        "filter",
        "KUBE-PROXY-FIREWALL",
        &[
            "-A INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL",
            "-A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL",
            "-A OUTPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL",
        ],
    ),
];

/// What a rule without the rest of its table shows.
#[derive(Debug)]
struct Shown<'a> {
    chain: &'a str,
    target: Option<&'a str>,
    text: &'a str,
}

impl<'a> Shown<'a> {
    fn of(line: &'a str) -> Option<Shown<'a>> {
        let mut words = line.split_ascii_whitespace();
        matches!(words.next()?, "-A" | "-I" | "--append" | "--insert").then_some(())?;
        let chain = words.next()?;
        let mut target = None;
        let mut quoted = false;
        while let Some(word) = words.next() {
            // Comments may say anything.
            let quotes = word.matches('"').count() - word.matches("\\\"").count();
            if !quoted && quotes == 0 && matches!(word, "-j" | "-g" | "--jump" | "--goto") {
                target = words.next();
            }
            quoted ^= quotes % 2 == 1;
        }
        Some(Shown { chain, target, text: line })
    }

    /// The table that only this rule can be in.
    fn table(&self) -> Option<&'static str> {
        let target = self.target.unwrap_or_default();
        let begins = |name: &str, with: &[&str]| with.iter().any(|prefix| name.starts_with(prefix));
        if begins(self.chain, &IN_NAT) || begins(target, &IN_NAT) {
            return Some("nat");
        }
        if begins(self.chain, &IN_FILTER) || begins(target, &IN_FILTER) {
            return Some("filter");
        }
        match (self.chain, target) {
            (_, "DNAT" | "SNAT" | "MASQUERADE" | "REDIRECT" | "NETMAP") => Some("nat"),
            ("FORWARD", _) | ("KUBE-SERVICES" | "KUBE-NODEPORTS", "REJECT" | "DROP" | "ACCEPT") => {
                Some("filter")
            }
            // Both tables lead there; that of filter asks for new connections only.
            ("INPUT" | "OUTPUT", "KUBE-SERVICES") if self.text.contains("--ctstate NEW") => Some("filter"),
            ("PREROUTING" | "POSTROUTING" | "OUTPUT", _) if target.starts_with("KUBE-") => Some("nat"),
            ("KUBE-SERVICES" | "KUBE-NODEPORTS", _) => Some("nat"),
            ("INPUT", _) | (_, "REJECT") => Some("filter"),
            ("PREROUTING" | "POSTROUTING", _) => Some("nat"),
            _ => None,
        }
    }
}

/// Reads parts of the tables of `family`.
pub(super) fn read(parts: Vec<Group>, given: Given<'_>) -> Result<Ruleset, Error> {
    let family = given.family;
    // Of what grep has found by the name KUBE, chains of this name are whole.
    let found =
        |group: &Group| group.whole_chains || group.lines.iter().all(|line| line.text.contains("KUBE"));
    let whole = parts.iter().all(found);
    let declared: BTreeSet<String> = parts
        .iter()
        .flat_map(|group| &group.lines)
        .filter(|line| line.text.starts_with(':') && !is_base(&line.text))
        .filter_map(|line| line.text[1..].split_ascii_whitespace().next().map(str::to_owned))
        .collect();
    let by_table = by_table(parts);
    let mut tables = Vec::new();
    let mut assumed = BTreeSet::new();
    let mut orphans = Vec::new();
    for (name, lines) in &by_table {
        let mut open = Open::new(Table::new(TableFamily::Only(family), name, Tool::Iptables), 0);
        open.in_part = true;
        open.table.shown_alone = true;
        let rules: Vec<Shown<'_>> = lines.iter().filter_map(|line| Shown::of(&line.text)).collect();
        let added = assumptions(name, &rules);
        let all =
            || rules.iter().map(|rule| rule.chain).chain(added.iter().filter_map(|text| chain_of(text)));
        for chain in all() {
            if !open.chains.contains_key(chain) {
                open.add_chain(chain, base(name, chain, false));
            }
        }
        for chain in declared.iter().filter(|_| whole) {
            if !open.chains.contains_key(chain.as_str()) {
                open.add_chain(chain, None);
            }
        }
        for line in lines.iter().filter(|line| !line.text.starts_with(':') || is_base(&line.text)) {
            add(&mut open, line, given)?;
        }
        for text in &added {
            let shown = format!("{text} (assumed: the dump leaves it out)");
            add(&mut open, &Line { number: 0, text: text.clone(), shown: Some(shown) }, given)?;
            assumed.extend(chain_of(text).map(str::to_owned));
        }
        orphans.extend(lead_to_orphans(&mut open, name));
        tables.push(open.table);
    }
    let mut ruleset = Ruleset::of(tables);
    ruleset.leaves_out(
        family,
        "This is a part of the rules: what other rules do is not known; iptables-save prints all of them.",
    );
    if !assumed.is_empty() {
        let chains: Vec<String> = assumed.into_iter().collect();
        ruleset.leaves_out(
            family,
            &format!("Assumed: rules of {} are as kube-proxy writes them.", chains.join(", ")),
        );
    }
    if orphans.len() > MOST_ORPHANS {
        ruleset.leaves_out(
            family,
            &format!(
                "Nothing in it leads to {} of its chains, such as {}: they are left out.",
                orphans.len() - MOST_ORPHANS,
                orphans[MOST_ORPHANS]
            ),
        );
    }
    Ok(ruleset)
}

fn is_base(declaration: &str) -> bool {
    declaration.starts_with(':') && !declaration.contains(" - ")
}

fn chain_of(rule: &str) -> Option<&str> {
    rule.split_ascii_whitespace().nth(1)
}

/// The lines of each table. A rule that could be in several is in the one that others of its chain,
/// or rules that lead to it, are in.
fn by_table(parts: Vec<Group>) -> BTreeMap<String, Vec<Line>> {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for group in &parts {
        for shown in group.lines.iter().filter_map(|line| Shown::of(&line.text)) {
            let Some(table) = group.table.as_deref().or(shown.table()) else { continue };
            for chain in [Some(shown.chain), shown.target].into_iter().flatten() {
                known.entry(chain.to_owned()).or_insert_with(|| table.to_owned());
            }
        }
    }
    let mut tables: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for group in parts {
        for line in group.lines {
            let shown = Shown::of(&line.text);
            let declared = line.text.strip_prefix(':').and_then(|text| text.split_ascii_whitespace().next());
            let chain = shown.as_ref().map(|shown| shown.chain).or(declared).unwrap_or_default();
            let table = group
                .table
                .as_deref()
                .or_else(|| shown.as_ref().and_then(Shown::table))
                .or_else(|| known.get(chain).map(String::as_str))
                .unwrap_or("filter");
            tables.entry(table.to_owned()).or_default().push(line.clone());
        }
    }
    tables
}

/// Rules of kube-proxy that must be there for those of `table` that are.
fn assumptions(table: &str, rules: &[Shown<'_>]) -> Vec<String> {
    let mut added: Vec<String> = Vec::new();
    let has = |chain: &str, added: &[String]| {
        rules.iter().any(|rule| rule.chain == chain) || added.iter().any(|text| chain_of(text) == Some(chain))
    };
    let led_to = |chain: &str| rules.iter().any(|rule| rule.target == Some(chain));
    if table == "nat" && led_to("KUBE-MARK-MASQ") {
        if !has("KUBE-MARK-MASQ", &added) {
            added.push("-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000".to_owned());
        }
        if !has("KUBE-POSTROUTING", &added) && !rules.iter().any(|rule| rule.target == Some("MASQUERADE")) {
            added.push("-A KUBE-POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE".to_owned());
        }
    }
    for (of, chain, leading) in LEADING {
        if of == table && has(chain, &added) && !led_to(chain) {
            added.extend(leading.iter().map(|rule| (*rule).to_owned()));
        }
    }
    added
}

/// Lets the base chains lead to chains that nothing is seen to lead to, on a condition. Returns all
/// of those chains.
fn lead_to_orphans(open: &mut Open, table: &str) -> Vec<String> {
    let entries: &[&str] =
        if table == "filter" { &["INPUT", "FORWARD", "OUTPUT"] } else { &["PREROUTING", "OUTPUT"] };
    let mut led_to = BTreeSet::new();
    for part in open.table.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.parts) {
        if let Part::Action(Action::Goal(Goal::Jump(chain) | Goal::Goto(chain))) = part {
            led_to.insert(*chain);
        }
    }
    let orphans: Vec<(u32, String)> = (0..)
        .zip(&open.table.chains)
        .filter(|(number, chain)| chain.base.is_none() && !chain.rules.is_empty() && !led_to.contains(number))
        .map(|(number, chain)| (number, chain.name.to_string()))
        .collect();
    for (number, name) in orphans.iter().take(MOST_ORPHANS) {
        for entry in entries {
            let known = open.chains.get(*entry).copied();
            let chain = known.unwrap_or_else(|| open.add_chain(entry, base(table, entry, false)));
            let test = Test::Unknown(format!("a rule that the dump leaves out leads to {name}").into());
            let parts = [Part::Test(test), Part::Action(Action::Goal(Goal::Jump(*number)))].into();
            let text = format!("-A {entry} ... -j {name} (not in the dump)").into();
            open.table.chains[chain as usize].rules.push(Rule { text, comment: None, parts });
        }
    }
    orphans.into_iter().map(|(_, name)| name).collect()
}

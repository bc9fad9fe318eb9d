//! Tables in memory that do what iptables-restore does with the lines that this mode writes.

use std::collections::BTreeMap;
use std::fmt::Write;

use portolan_service::Family;

use super::super::rule::Rule;
use super::super::saved::target;

/// Tables by name, with their chains and these with their rules as written.
#[derive(Debug, Clone)]
pub(super) struct Simulated {
    family: Family,
    tables: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

const BASE: [(&str, &[&str]); 3] = [
    ("mangle", &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]),
    ("filter", &["INPUT", "FORWARD", "OUTPUT"]),
    ("nat", &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]),
];

impl Simulated {
    pub(super) fn new(family: Family) -> Simulated {
        let chains = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), Vec::new())).collect();
        let tables = BASE.iter().map(|(table, names)| ((*table).to_owned(), chains(names))).collect();
        Simulated { family, tables }
    }

    /// Each table's lines as one transaction. Panics where iptables would refuse.
    pub(super) fn restore(&mut self, input: &str) {
        let mut table = String::new();
        let mut chains = BTreeMap::new();
        for line in input.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name.to_owned();
                chains = self.tables[name].clone();
                continue;
            }
            if line == "COMMIT" {
                check(&chains);
                self.tables.insert(table.clone(), std::mem::take(&mut chains));
                continue;
            }
            if let Some(chain) = line.strip_prefix(':') {
                let name = chain.split(' ').next().expect("a name");
                chains.insert(name.to_owned(), Vec::new());
                continue;
            }
            let (command, rest) = line.split_once(' ').expect("a command");
            let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
            let rules = chains.get_mut(chain).unwrap_or_else(|| panic!("no chain {chain}: {line}"));
            match command {
                "-A" => rules.push(rule.to_owned()),
                "-I" => rules.insert(0, rule.to_owned()),
                "-D" => {
                    let wanted = Rule::parse(rule, self.family).unwrap_or_else(|| panic!("{line}"));
                    let same = |held: &String| Rule::parse(held, self.family).as_ref() == Some(&wanted);
                    let place = rules.iter().position(same).unwrap_or_else(|| panic!("no such rule: {line}"));
                    rules.remove(place);
                }
                "-X" => {
                    assert!(rules.is_empty(), "not empty: {line}");
                    chains.remove(chain);
                }
                _ => panic!("{line}"),
            }
        }
    }

    /// What iptables-save would print.
    pub(super) fn print(&self) -> String {
        let print = |table: &str| {
            let mut text = format!("*{table}\n");
            for (chain, rules) in &self.tables[table] {
                let base = BASE.iter().any(|(_, names)| names.contains(&chain.as_str()));
                writeln!(text, ":{chain} {} [0:0]", if base { "ACCEPT" } else { "-" }).expect("a string");
                for rule in rules {
                    writeln!(text, "-A {chain} {rule}").expect("a string");
                }
            }
            text + "COMMIT\n"
        };
        print("mangle") + &print("filter") + &print("nat")
    }

    /// Writes a rule of somebody else.
    pub(super) fn add_foreign(&mut self, table: &str, chain: &str, rule: &str) {
        let chains = self.tables.get_mut(table).expect("a table");
        chains.entry(chain.to_owned()).or_default().push(rule.to_owned());
    }

    /// The rules of a chain.
    pub(super) fn rules(&self, table: &str, chain: &str) -> &[String] {
        self.tables[table].get(chain).map_or(&[], |rules| rules)
    }

    pub(super) fn remove_chain(&mut self, table: &str, chain: &str) {
        self.tables.get_mut(table).expect("a table").remove(chain);
    }

    /// All chains of a table.
    pub(super) fn chains(&self, table: &str) -> Vec<String> {
        self.tables[table].keys().cloned().collect()
    }
}

/// Every jump leads to a chain that exists.
fn check(chains: &BTreeMap<String, Vec<String>>) {
    for (chain, rules) in chains {
        for rule in rules {
            let to = target(rule).unwrap_or_default();
            assert!(
                !to.starts_with("KUBE-") || chains.contains_key(to),
                "{chain} leads to {to}, which is not there"
            );
        }
    }
}

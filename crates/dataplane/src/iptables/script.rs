//! What is written: the input of one `iptables-restore --noflush`, with the Service that each line
//! is for.

use std::fmt::{self, Write};

use super::chains::{Counts, Table};
use super::rule::Rule;
use crate::owner::Owner;

/// Changes of all tables of one family. Each table is one transaction.
#[derive(Debug, Default)]
pub(super) struct Script {
    mangle: Section,
    filter: Section,
    nat: Section,
    /// New chains of Services, to be written ahead of all that leads there.
    ahead: Vec<Section>,
    /// How many chains go into one part of `ahead`; `None`: all go into one transaction with what
    /// leads there.
    part: Option<usize>,
}

/// Changes of one table, in the order in which they are possible: what leads to a chain goes before
/// the chain does.
#[derive(Debug, Default)]
struct Section {
    declared: Lines,
    deleted: Lines,
    rules: Lines,
    removed: Lines,
}

#[derive(Debug, Default)]
struct Lines {
    text: String,
    owners: Vec<Option<Owner>>,
}

impl Lines {
    fn push(&mut self, owner: Option<Owner>, line: fmt::Arguments<'_>) {
        self.text.write_fmt(line).expect("a string takes everything");
        self.text.push('\n');
        self.owners.push(owner);
    }
}

impl Script {
    /// With new chains written ahead, this many in a transaction.
    ///
    /// What iptables-nft does for a transaction grows with the square of its chains: ten thousand
    /// Services in one take nineteen seconds, in parts of a hundred two (iptables 1.8.9).
    /// iptables-legacy replaces the table with each.
    pub(super) fn in_parts_of(chains: Option<usize>) -> Script {
        Script { part: chains, ..Script::default() }
    }

    /// Creates chains of table nat that nothing in force leads to, with their rules.
    pub(super) fn create(&mut self, chains: &[(String, Vec<Rule>)], owner: Option<Owner>) {
        let section = match self.part {
            None => &mut self.nat,
            Some(part) => {
                if self.ahead.last().is_none_or(|last| last.declared.owners.len() >= part) {
                    self.ahead.push(Section::default());
                }
                self.ahead.last_mut().expect("there is one by now")
            }
        };
        for (chain, rules) in chains {
            section.declared.push(owner, format_args!(":{chain} - [0:0]"));
            for rule in rules {
                section.rules.push(owner, format_args!("-A {chain} {rule}"));
            }
        }
    }

    fn section(&mut self, table: Table) -> &mut Section {
        match table {
            Table::Mangle => &mut self.mangle,
            Table::Filter => &mut self.filter,
            Table::Nat => &mut self.nat,
        }
    }

    /// Creates a chain, or empties it.
    pub(super) fn declare(&mut self, table: Table, chain: &str, owner: Option<Owner>) {
        self.section(table).declared.push(owner, format_args!(":{chain} - [0:0]"));
    }

    /// Writes a rule at the end of a chain.
    pub(super) fn append(&mut self, table: Table, chain: &str, rule: &Rule, owner: Option<Owner>) {
        self.section(table).rules.push(owner, format_args!("-A {chain} {rule}"));
    }

    /// Writes a rule at the top of a chain.
    pub(super) fn insert(&mut self, table: Table, chain: &str, rule: &Rule, owner: Option<Owner>) {
        self.section(table).rules.push(owner, format_args!("-I {chain} {rule}"));
    }

    /// Deletes the first rule of a chain that reads so.
    pub(super) fn delete(
        &mut self,
        table: Table,
        chain: &str,
        rule: &dyn fmt::Display,
        owner: Option<Owner>,
    ) {
        self.section(table).deleted.push(owner, format_args!("-D {chain} {rule}"));
    }

    /// Empties a chain and removes it. No rule may lead there any more.
    pub(super) fn remove(&mut self, table: Table, chain: &str, owner: Option<Owner>) {
        self.declare(table, chain, owner);
        self.section(table).removed.push(owner, format_args!("-X {chain}"));
    }

    /// Nothing is to be changed.
    pub(super) fn is_empty(&self) -> bool {
        self.operations() == 0
    }

    /// How many lines change something.
    pub(super) fn operations(&self) -> usize {
        self.sections().flat_map(|(_, section)| section.parts()).map(|lines| lines.owners.len()).sum()
    }

    /// How many rules are written into each table.
    pub(super) fn written(&self) -> Counts {
        let mut counts = Counts::default();
        for (table, section) in self.sections() {
            counts.add(table, section.rules.owners.len());
        }
        counts
    }

    /// How many transactions it is.
    pub(super) fn commits(&self) -> usize {
        self.sections().count()
    }

    fn sections(&self) -> impl Iterator<Item = (Table, &Section)> {
        // What is to be accepted is, before packets are sent there.
        let ahead = self.ahead.iter().map(|section| (Table::Nat, section));
        [(Table::Mangle, &self.mangle), (Table::Filter, &self.filter)]
            .into_iter()
            .chain(ahead)
            .chain([(Table::Nat, &self.nat)])
            .filter(|(_, section)| !section.is_empty())
    }

    /// The input, without the tables that stay as they are.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (table, section) in self.sections() {
            text.push('*');
            text.push_str(table.name());
            text.push('\n');
            for lines in section.parts() {
                text.push_str(&lines.text);
            }
            text.push_str("COMMIT\n");
        }
        text
    }

    /// The Service that a line of [`Script::text`] is for, by the line's number from 1.
    pub(super) fn owner(&self, line: usize) -> Option<Owner> {
        let mut left = line.checked_sub(1)?;
        for (_, section) in self.sections() {
            left = left.checked_sub(1)?;
            for lines in section.parts() {
                match lines.owners.get(left) {
                    Some(owner) => return *owner,
                    None => left -= lines.owners.len(),
                }
            }
            left = left.checked_sub(1)?;
        }
        None
    }
}

impl Section {
    fn parts(&self) -> [&Lines; 4] {
        [&self.declared, &self.deleted, &self.rules, &self.removed]
    }

    fn is_empty(&self) -> bool {
        self.parts().iter().all(|lines| lines.owners.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_an_order_that_works_and_know_their_service() {
        let mut script = Script::default();
        assert!(script.is_empty());
        assert_eq!(script.text(), "");
        script.remove(Table::Nat, "OLD", Some(7));
        script.declare(Table::Nat, "NEW", Some(8));
        script.insert(Table::Nat, "KUBE-SERVICES", &Rule::new().jump("NEW"), Some(8));
        script.delete(Table::Nat, "KUBE-SERVICES", &"-j OLD", Some(7));
        script.append(Table::Filter, "INPUT", &Rule::new().jump("X"), None);
        let text = script.text();
        assert_eq!(
            text,
            "*filter\n-A INPUT -j X\nCOMMIT\n\
             *nat\n:OLD - [0:0]\n:NEW - [0:0]\n-D KUBE-SERVICES -j OLD\n-I KUBE-SERVICES -j NEW\n-X OLD\nCOMMIT\n"
        );
        let owners: Vec<Option<Owner>> =
            (0..=text.lines().count() + 1).map(|line| script.owner(line)).collect();
        let (old, new) = (Some(7), Some(8));
        assert_eq!(owners, [None, None, None, None, None, old, new, old, new, old, None, None]);
        assert_eq!((script.operations(), script.commits()), (6, 2));
    }

    #[test]
    fn new_chains_go_ahead_in_parts() {
        let chains = |name: &str| [(name.to_owned(), vec![Rule::new().jump("X")])];
        let mut script = Script::in_parts_of(Some(2));
        script.create(&[("X".to_owned(), Vec::new())], None);
        for (owner, name) in (0..).zip(["A", "B"]) {
            script.create(&chains(name), Some(owner));
            script.insert(Table::Nat, "KUBE-SERVICES", &Rule::new().jump(name), Some(owner));
        }
        let text = script.text();
        assert_eq!(
            text,
            "*nat\n:X - [0:0]\n:A - [0:0]\n-A A -j X\nCOMMIT\n*nat\n:B - [0:0]\n-A B -j X\nCOMMIT\n\
             *nat\n-I KUBE-SERVICES -j A\n-I KUBE-SERVICES -j B\nCOMMIT\n"
        );
        assert_eq!(script.owner(8), Some(1), "{text}");
        let mut script = Script::in_parts_of(None);
        script.create(&chains("A"), Some(0));
        assert_eq!(
            (script.text(), script.commits()),
            ("*nat\n:A - [0:0]\n-A A -j X\nCOMMIT\n".to_owned(), 1)
        );
    }
}

//! A table that is being read: declarations and rules in the words of iptables-save.

use std::collections::HashMap;
use std::ops::ControlFlow;

use portolan_service::Family;

use super::hooks::base;
use super::matches::{Lookups, Matches};
use super::targets;
use super::words::Words;
use crate::ipset::{InUse, IpSets};
use crate::ruleset::{Base, Chain, Part, Rule, Table};

/// What is wrong with a line.
pub(super) type Problem = String;

/// What rules are read with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) family: Family,
    pub(super) ipsets: &'a IpSets,
}

/// How many rules a text may insert before others: each moves all of those.
const MOST_INSERTIONS: u32 = 1_000;

/// A table whose COMMIT has not come yet.
pub(super) struct Open {
    insertions: u32,
    pub(super) table: Table,
    pub(super) line: usize,
    pub(super) chains: HashMap<Box<str>, u32>,
    /// Rules may call chains that are left out.
    pub(super) in_part: bool,
    in_use: InUse,
}

impl Open {
    pub(super) fn new(table: Table, line: usize) -> Open {
        Open { insertions: 0, table, line, chains: HashMap::new(), in_part: false, in_use: InUse::default() }
    }

    pub(super) fn declare(&mut self, declaration: &str) -> Result<(), Problem> {
        let mut words = declaration.split_ascii_whitespace();
        let name = words.next().ok_or("a chain without a name")?;
        let policy = words.next().ok_or("a chain without a policy")?;
        let drops = match policy {
            "-" | "ACCEPT" => false,
            "DROP" => true,
            _ => return Err(format!("policy {policy} is not known")),
        };
        let base = if policy == "-" { None } else { base(&self.table.name, name, drops) };
        if let Some(known) = self.chains.get(name) {
            self.table.chains[*known as usize].base = base;
            return Ok(());
        }
        self.add_chain(name, base);
        Ok(())
    }

    pub(super) fn add_chain(&mut self, name: &str, base: Option<Base>) -> u32 {
        let number = u32::try_from(self.table.chains.len()).expect("fewer chains than bytes of a line");
        self.table.chains.push(Chain::new(name, base));
        self.chains.insert(name.into(), number);
        number
    }

    /// Adds the rule of `line`, in the words of iptables-save; `shown` is how the dump itself has
    /// it.
    pub(super) fn append(
        &mut self,
        line: &str,
        shown: Option<&str>,
        given: Given<'_>,
    ) -> Result<(), Problem> {
        let mut words = Words::of(line)?;
        let mut insert = false;
        match words.next().map(|word| word.text.to_string()).as_deref() {
            Some("-A" | "--append") => {}
            // Not saved so, but what a text for iptables-restore may say.
            Some("-I" | "--insert") => insert = true,
            Some("-N" | "--new-chain") => {
                let name = words.next().ok_or("a chain without a name")?.text.to_string();
                if !self.chains.contains_key(name.as_str()) {
                    self.add_chain(&name, None);
                }
                return Ok(());
            }
            Some(other) => return Err(format!("{other} is not what it writes")),
            None => return Err("no command".into()),
        }
        let name = words.next().ok_or("no chain")?.text.to_string();
        let chain = match self.chains.get(name.as_str()) {
            Some(known) => *known,
            None => match base(&self.table.name, &name, false) {
                Some(base) => self.add_chain(&name, Some(base)),
                None if self.in_part => self.add_chain(&name, None),
                None => return Err(format!("chain {name} was not declared")),
            },
        };
        let rules = self.table.chains[chain as usize].rules.len();
        let mut at = rules;
        if insert {
            self.insertions += 1;
            if self.insertions > MOST_INSERTIONS {
                return Err(format!("more than {MOST_INSERTIONS} insertions"));
            }
            let number = words.peek(0).and_then(|word| word.text.parse::<usize>().ok());
            if number.is_some() {
                words.next();
            }
            at = number
                .unwrap_or(1)
                .checked_sub(1)
                .filter(|at| *at <= rules)
                .ok_or("no rule of this number")?;
        }
        let lookups = Lookups { given: given.ipsets, sets: &mut self.table.sets, in_use: &mut self.in_use };
        let mut matches = Matches::new(given.family, lookups);
        let mut action = None;
        while let Some(word) = words.next() {
            match matches.option(&word, &mut words)? {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(target) => {
                    action =
                        Some(targets::action(target, &mut words, &self.chains, self.in_part, given.family)?);
                    break;
                }
            }
        }
        let (tests, comment) = matches.finish()?;
        let parts = tests.into_iter().map(Part::Test).chain(action.map(Part::Action)).collect();
        let text = shown.unwrap_or(line).into();
        self.table.chains[chain as usize].rules.insert(at, Rule { text, comment, parts });
        Ok(())
    }
}

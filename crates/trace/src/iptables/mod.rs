//! Reads what the programs of iptables print, of the legacy and the nft variant: iptables-save and
//! ip6tables-save with and without counters, `iptables -S`, `iptables -L`, and lines that grep has
//! cut out of these.

mod commands;
mod families;
mod fragment;
mod group;
mod incomplete;
mod listing;
mod matches;
mod targets;
mod values;
mod words;

use std::collections::HashMap;
use std::ops::ControlFlow;

use portolan_service::Family;

use crate::Error;
use crate::ipset::{InUse, IpSets};
use crate::printable::{printable, shortened};
use crate::ruleset::{Base, Chain, Hook, Kind, Part, Rule, Ruleset, Table, TableFamily, Tool};
pub(crate) use listing::port_named;
use matches::{Lookups, Matches};
pub(crate) use targets::unsupported_target;
pub(crate) use values::{network_range, prefix_mask};
use words::Words;

/// What is wrong with a line.
type Problem = String;

impl Ruleset {
    /// Reads the output of iptables-save (or, with `family` V6, ip6tables-save), or a text for iptables-restore that fills empty
    /// tables: appends and inserts. Matches and targets that are not known are kept as
    /// such, see [`crate::ruleset::Test::Unknown`].
    ///
    /// # Errors
    /// A line that iptables-save does not write, or a text that was cut off.
    pub fn from_iptables_save(text: &str, family: Family) -> Result<Ruleset, Error> {
        Ruleset::from_iptables_save_with(text, family, &IpSets::default())
    }

    /// The same, for rules that look into `ipsets`.
    ///
    /// # Errors
    /// As [`Ruleset::from_iptables_save`].
    pub fn from_iptables_save_with(text: &str, family: Family, ipsets: &IpSets) -> Result<Ruleset, Error> {
        let mut reader = Reader::new(Given { family, ipsets });
        for (line, raw) in (1..).zip(text.lines()) {
            reader.read(line, raw)?;
        }
        reader.done()
    }

    /// Reads whatever a program of iptables has printed of its rules, and finds out what it is:
    /// iptables-save, `iptables -S` or `iptables -L`, one table or several, of either family or
    /// both, whole or a part (`iptables-save | grep KUBE`). What a part leaves out is named in
    /// [`Ruleset::left_out`], and answers depend on it. `ipsets` are those that rules look into.
    ///
    /// # Errors
    /// As [`Ruleset::from_iptables_save`].
    pub fn from_iptables(text: &str, ipsets: &IpSets) -> Result<Ruleset, Error> {
        match form(text) {
            Form::Saved => families::read(text, ipsets),
            Form::Listed => group::read(listing::groups(text)?, ipsets),
            Form::Commands => group::read(commands::groups(text)?, ipsets),
        }
    }
}

/// What a text was printed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// iptables-save.
    Saved,
    /// `iptables -L`.
    Listed,
    /// `iptables -S`, or lines cut out of what iptables-save has printed.
    Commands,
}

fn form(text: &str) -> Form {
    let any = |holds: fn(&str) -> bool| text.lines().any(|line| holds(line.trim_start()));
    // Whole tables begin with an asterisk and end with COMMIT; a part may have lost either.
    let rules = any(|line| commands::rule(line).is_some());
    let begins = any(|line| line.starts_with('*'));
    let ends = any(|line| line.trim_end() == "COMMIT");
    if any(|line| listing::heading(line).is_some()) && !ends {
        return Form::Listed;
    }
    let declares = any(|line| line.starts_with(':'));
    if rules && !(begins && (ends || declares)) || !begins && any(|line| line.starts_with("-P ")) {
        return Form::Commands;
    }
    Form::Saved
}

/// What rules are read with.
#[derive(Debug, Clone, Copy)]
struct Given<'a> {
    family: Family,
    ipsets: &'a IpSets,
}

struct Reader<'a> {
    given: Given<'a>,
    tables: Vec<Table>,
    current: Option<Open>,
    by_iptables_nft: bool,
    missing: incomplete::Missing,
}

impl<'a> Reader<'a> {
    fn new(given: Given<'a>) -> Reader<'a> {
        Reader {
            given,
            tables: Vec::new(),
            current: None,
            by_iptables_nft: false,
            missing: incomplete::Missing::default(),
        }
    }

    /// Takes line number `line` of the dump.
    fn read(&mut self, line: usize, raw: &str) -> Result<(), Error> {
        self.line(line, &printable(raw)).map_err(|problem| Error::Line {
            line,
            problem,
            text: shortened(raw),
        })
    }

    fn done(self) -> Result<Ruleset, Error> {
        if let Some(open) = self.current {
            return Err(Error::CutOff { table: shortened(&open.table.name), line: open.line });
        }
        let mut tables = self.tables;
        tables.extend(self.missing.tables());
        Ok(Ruleset::of(tables))
    }
}

/// How many rules a text may insert before others: each moves all of those.
const MOST_INSERTIONS: u32 = 1_000;

/// A table whose COMMIT has not come yet.
struct Open {
    insertions: u32,
    table: Table,
    line: usize,
    chains: HashMap<Box<str>, u32>,
    /// Rules may call chains that are left out.
    in_part: bool,
    in_use: InUse,
}

impl Reader<'_> {
    fn line(&mut self, number: usize, line: &str) -> Result<(), Problem> {
        let line = line.trim();
        if line.is_empty() {
            return Ok(());
        }
        if let Some(comment) = line.strip_prefix('#') {
            if comment.contains("tables-save v") {
                self.by_iptables_nft = comment.contains("(nf_tables)");
            }
            self.missing.look_at(comment, self.given.family);
            return Ok(());
        }
        if let Some(name) = line.strip_prefix('*') {
            if let Some(open) = &self.current {
                return Err(format!("table {} has no COMMIT before it", open.table.name));
            }
            let mut table = Table::new(TableFamily::Only(self.given.family), name.trim(), Tool::Iptables);
            table.by_iptables_nft = self.by_iptables_nft;
            self.current = Some(Open::new(table, number));
            return Ok(());
        }
        if line == "COMMIT" {
            let open = self.current.take().ok_or("no table before it")?;
            self.tables.push(open.table);
            return Ok(());
        }
        if self.current.is_none() {
            if commands::is_message(line) {
                self.missing.look_at(line, self.given.family);
                return Ok(());
            }
            if commands::command(line).is_some() || commands::is_noise(line) {
                return Ok(());
            }
        }
        let given = self.given;
        let open = self.current.as_mut().ok_or("no table before it")?;
        if let Some(declaration) = line.strip_prefix(':') {
            return open.declare(declaration);
        }
        let rule = match line.strip_prefix('[') {
            Some(counted) => counted.split_once(']').ok_or("counters without an end")?.1.trim_start(),
            None => line,
        };
        open.append(rule, None, given)
    }
}

impl Open {
    fn new(table: Table, line: usize) -> Open {
        Open { insertions: 0, table, line, chains: HashMap::new(), in_part: false, in_use: InUse::default() }
    }

    fn declare(&mut self, declaration: &str) -> Result<(), Problem> {
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

    fn add_chain(&mut self, name: &str, base: Option<Base>) -> u32 {
        let number = u32::try_from(self.table.chains.len()).expect("fewer chains than bytes of a line");
        self.table.chains.push(Chain::new(name, base));
        self.chains.insert(name.into(), number);
        number
    }

    /// Adds the rule of `line`, in the words of iptables-save; `shown` is how the dump itself has
    /// it.
    fn append(&mut self, line: &str, shown: Option<&str>, given: Given<'_>) -> Result<(), Problem> {
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

/// Where the kernel enters `chain` of `table`, with the priorities of linux/netfilter_ipv4.h.
fn base(table: &str, chain: &str, drops: bool) -> Option<Base> {
    let hook = match chain {
        "PREROUTING" => Hook::Prerouting,
        "INPUT" => Hook::Input,
        "FORWARD" => Hook::Forward,
        "OUTPUT" => Hook::Output,
        "POSTROUTING" => Hook::Postrouting,
        _ => return None,
    };
    let (kind, priority) = match (table, hook) {
        ("raw", Hook::Prerouting | Hook::Output) => (Kind::Filter, -300),
        ("mangle", _) => (Kind::Filter, -150),
        ("nat", Hook::Prerouting | Hook::Output) => (Kind::Nat, -100),
        ("nat", Hook::Input | Hook::Postrouting) => (Kind::Nat, 100),
        ("filter", Hook::Input | Hook::Forward | Hook::Output) => (Kind::Filter, 0),
        ("security", Hook::Input | Hook::Forward | Hook::Output) => (Kind::Filter, 50),
        _ => return None,
    };
    Some(Base { hook, kind, priority, drops })
}

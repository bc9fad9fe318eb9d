//! Tables as texts show them that do not name them.

use portolan_service::Family;

use super::{Given, Open, fragment, incomplete};
use crate::Error;
use crate::ipset::IpSets;
use crate::printable::shortened;
use crate::ruleset::{Ruleset, Table, TableFamily, Tool};

/// A line in the words of iptables-save.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Where the text has it, from 1.
    pub(super) number: usize,
    /// A declaration, `:CHAIN POLICY`, or a rule, `-A CHAIN ...`.
    pub(super) text: String,
    /// How the text has it, if not so.
    pub(super) shown: Option<String>,
}

/// Lines that belong to one table, whole or in part.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// The table, if a command before it names it.
    pub(super) table: Option<String>,
    /// The family that the command names, if that is IPv6.
    pub(super) named: Option<Family>,
    /// The family of the first address in it.
    pub(super) family: Option<Family>,
    /// Whether it shows chains whole, as `iptables -L` does.
    pub(super) whole_chains: bool,
    pub(super) lines: Vec<Line>,
    /// What else stands there: warnings of the program.
    pub(super) messages: Vec<String>,
    bases: Vec<String>,
    rules: usize,
}

impl Group {
    pub(super) fn new(table: Option<String>) -> Group {
        Group { table, ..Group::default() }
    }

    /// Adds a base chain with its policy.
    pub(super) fn base(&mut self, number: usize, name: &str, policy: &str) {
        self.bases.push(name.to_owned());
        self.lines.push(Line { number, text: format!(":{name} {policy} [0:0]"), shown: None });
    }

    /// Adds a chain.
    pub(super) fn chain(&mut self, number: usize, name: &str) {
        self.lines.push(Line { number, text: format!(":{name} - [0:0]"), shown: None });
    }

    /// Adds a rule.
    pub(super) fn rule(&mut self, line: Line) {
        self.rules += 1;
        self.lines.push(line);
    }

    pub(super) fn has_rules(&self) -> bool {
        self.rules > 0
    }

    /// Whether the base chain `name` can only be another table's: each has it once, and PREROUTING
    /// is the first of those that have it.
    pub(super) fn is_another(&self, name: &str) -> bool {
        self.bases.iter().any(|base| base == name) || name == "PREROUTING" && !self.bases.is_empty()
    }

    /// The table that has just these base chains: all of it is there.
    fn whole(&self) -> Option<&'static str> {
        let has = |name: &str| self.bases.iter().any(|base| base == name);
        match (has("PREROUTING"), has("FORWARD"), has("POSTROUTING"), has("OUTPUT")) {
            (true, true, true, true) => Some("mangle"),
            (true, false, true, true) => Some("nat"),
            (true, false, false, true) => Some("raw"),
            (false, true, false, true) if has("INPUT") => Some("filter"),
            _ => None,
        }
    }
}

/// Reads tables, and parts of tables together.
pub(super) fn read(groups: Vec<Group>, ipsets: &IpSets) -> Result<Ruleset, Error> {
    let mut missing = incomplete::Missing::default();
    let mut tables = Vec::new();
    let mut parts: [Vec<Group>; 2] = Default::default();
    let mut last = Family::V4;
    for group in groups {
        let family = group.named.or(group.family).unwrap_or(last);
        last = family;
        for message in &group.messages {
            missing.look_at(message, family);
        }
        if group.lines.is_empty() {
            continue;
        }
        match group.whole() {
            Some(shape) => {
                let name = group.table.clone().unwrap_or_else(|| shape.to_owned());
                tables.push(table(&name, &group.lines, Given { family, ipsets })?);
            }
            None => parts[usize::from(family == Family::V6)].push(group),
        }
    }
    tables.extend(missing.tables());
    let mut ruleset = Ruleset::of(tables);
    for (family, parts) in Family::ALL.into_iter().zip(parts) {
        if !parts.is_empty() {
            ruleset.merge(fragment::read(parts, Given { family, ipsets })?);
        }
    }
    Ok(ruleset)
}

/// A whole table.
fn table(name: &str, lines: &[Line], given: Given<'_>) -> Result<Table, Error> {
    let mut open = Open::new(Table::new(TableFamily::Only(given.family), name, Tool::Iptables), 0);
    open.table.shown_alone = true;
    // Chains first: a listing has each with its rules, which may call chains that come later.
    let declares = |line: &&Line| line.text.starts_with(':');
    for line in lines.iter().filter(declares).chain(lines.iter().filter(|line| !declares(line))) {
        add(&mut open, line, given)?;
    }
    Ok(open.table)
}

/// Adds a line to its table.
pub(super) fn add(open: &mut Open, line: &Line, given: Given<'_>) -> Result<(), Error> {
    let added = match line.text.strip_prefix(':') {
        Some(declaration) => open.declare(declaration),
        None => open.append(&line.text, line.shown.as_deref(), given),
    };
    let shown = line.shown.as_ref().unwrap_or(&line.text);
    added.map_err(|problem| Error::Line { line: line.number, problem, text: shortened(shown) })
}

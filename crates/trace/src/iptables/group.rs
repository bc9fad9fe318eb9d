//! Lines that belong to one table, of texts that may not name it.

use portolan_service::Family;

use super::open::{Given, Open};
use crate::Error;
use crate::printable::shortened;

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
    pub(super) fn whole(&self) -> Option<&'static str> {
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

/// Adds a line to its table.
pub(super) fn add(open: &mut Open, line: &Line, given: Given<'_>) -> Result<(), Error> {
    let added = match line.text.strip_prefix(':') {
        Some(declaration) => open.declare(declaration),
        None => open.append(&line.text, line.shown.as_deref(), given),
    };
    let shown = line.shown.as_ref().unwrap_or(&line.text);
    added.map_err(|problem| Error::Line { line: line.number, problem, text: shortened(shown) })
}

//! Reads tables of texts that do not name them, and parts of tables.

use portolan_service::Family;

use super::group::{Group, Line, add};
use super::open::{Given, Open};
use super::{fragment, incomplete};
use crate::Error;
use crate::ipset::IpSets;
use crate::ruleset::{Ruleset, Table, TableFamily, Tool};

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

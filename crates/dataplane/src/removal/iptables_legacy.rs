//! Chains and rules that iptables-legacy wrote: tables `filter`, `nat` and `mangle` of x_tables.

use std::collections::BTreeSet;

use portolan_netfilter::xtables::{self, Place, Reduced, ReplaceError, Table, Xtables};
use portolan_service::Family;

use super::report::{Failure, Kept, Part, Report};
use super::selection::{self, SeenChain, Selection, TABLES};
use super::xtables_lock::XtablesLock;
use super::{ChainSearch, IsSought};
use crate::chain_names::{MARK, MARKED};
use crate::variant::{Variant, table_family};

/// How often a table is read again because others, who do not take the lock, changed it.
const ATTEMPTS: usize = 10;

/// Names of the chains of hooks, by number (`enum nf_inet_hooks`)
const HOOKS: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

pub(super) fn find(search: &ChainSearch<'_>, report: &mut Report) {
    each_family(search, report, |table| {
        let Some(selection) = select(table) else { return Ok(None) };
        Ok(Some(selection))
    });
}

/// Removes under the lock of iptables.
pub(super) fn remove(search: &ChainSearch<'_>, report: &mut Report) {
    let mut held = None;
    each_family(search, report, |table| {
        let Some(selection) = select(table) else { return Ok(None) };
        if selection.is_empty() {
            return Ok(Some(selection));
        }
        if held.is_none() {
            held = Some(XtablesLock::take(search.xtables_lock)?);
        }
        remove_from(table).map(Some)
    });
}

/// Calls `each` with every table that may have chains that are looked for, and reports what it
/// selects.
fn each_family(
    search: &ChainSearch<'_>,
    report: &mut Report,
    mut each: impl FnMut(&mut OpenTable) -> Result<Option<Selection>, Failure>,
) {
    for family in Family::ALL {
        let is_sought = match search.chains(Variant::Legacy, family, || is_marked(family)) {
            Ok(Some(is_sought)) => is_sought,
            Ok(None) => continue,
            Err(failure) => {
                report.fail(failure);
                continue;
            }
        };
        let mut found = (0, 0);
        if let Err(failure) = each_table(family, is_sought, |table| {
            let name = table.table.name().to_owned();
            let selection = match each(table) {
                Ok(selection) => selection.unwrap_or_default(),
                Err(failure) => {
                    report.fail(failure);
                    return;
                }
            };
            found.0 += selection.chains.len();
            found.1 += selection.rules;
            for (chain, reason) in selection.kept {
                report.keep(Kept::Chain {
                    variant: Variant::Legacy,
                    family,
                    table: name.clone(),
                    chain,
                    reason,
                });
            }
        }) {
            report.fail(failure);
        }
        let (chains, rules) = found;
        report.part(Part::Iptables { variant: Variant::Legacy, family, chains, rules });
    }
}

/// A table, and what it was read with.
struct OpenTable {
    family: Family,
    is_sought: IsSought,
    kernel: Xtables,
    table: Table,
}

fn each_table(
    family: Family,
    is_sought: IsSought,
    mut each: impl FnMut(&mut OpenTable),
) -> Result<(), Failure> {
    for name in TABLES {
        if let Some((kernel, table)) = open(family, name)? {
            each(&mut OpenTable { family, is_sought, kernel, table });
        }
    }
    Ok(())
}

/// A table as it is now, without loading a kernel module; `None` if it is not there.
fn open(family: Family, name: &str) -> Result<Option<(Xtables, Table)>, Failure> {
    let doing = |what: &str| Failure::system(format!("{}, {family}: {what}", Variant::Legacy));
    let present = xtables::tables(table_family(family)).map_err(doing("listing tables"))?;
    if !present.iter().any(|present| present == name) {
        return Ok(None);
    }
    let kernel = Xtables::open(table_family(family)).map_err(doing("opening a socket"))?;
    let table = kernel.read(name).map_err(doing(&format!("reading table {name}")))?;
    Ok(Some((kernel, table)))
}

/// The rules are ours.
pub(super) fn is_marked(family: Family) -> Result<bool, Failure> {
    for (name, chain) in MARKED {
        let Some((_, table)) = open(family, name)? else { continue };
        let chains = table.chains();
        let mut rules = chains
            .iter()
            .filter(|found| matches!(&found.place, Place::User(name) if name == chain))
            .flat_map(|found| found.rules.clone());
        if rules.any(|rule| table.comment(rule) == Some(MARK)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Selects what is looked for; `None` if no such chain is in the table.
fn select(OpenTable { table, is_sought, .. }: &OpenTable) -> Option<Selection> {
    let name = |place| match place {
        &Place::Hook(hook) => HOOKS.get(hook).copied().unwrap_or(""),
        Place::User(name) => name.as_str(),
    };
    let chains = table.chains();
    if !chains.iter().any(|chain| is_sought(table.name(), name(&chain.place))) {
        return None;
    }
    let seen: Vec<SeenChain<'_>> = chains
        .iter()
        .map(|chain| SeenChain {
            name: name(&chain.place),
            is_base: matches!(chain.place, Place::Hook(_)),
            rules: chain.rules.len(),
            jumps: chain
                .rules
                .clone()
                .filter_map(|rule| Some((rule as u64, name(&chains[table.jump(rule)?].place))))
                .collect(),
        })
        .collect();
    Some(selection::select(*is_sought, table.name(), &seen, &BTreeSet::new()))
}

/// The table without what is selected.
fn reduce(OpenTable { table, .. }: &OpenTable, selection: &Selection) -> Result<Reduced, xtables::Refusal> {
    let rules: Vec<usize> =
        selection.jumps.iter().filter_map(|(_, rule)| usize::try_from(*rule).ok()).collect();
    table.without(&selection.chains, &rules)
}

/// Removes what is looked for from a table, as it is now. To be called with the lock held.
fn remove_from(open: &mut OpenTable) -> Result<Selection, Failure> {
    let doing = format!("{}, {}: removing from table {}", Variant::Legacy, open.family, open.table.name());
    let refused = |reason: String| Failure::Refused { doing: doing.clone(), reason };
    for _ in 0..ATTEMPTS {
        // It was read before the lock was held.
        open.table = open.kernel.read(open.table.name()).map_err(Failure::system(&doing))?;
        let selection = select(open).unwrap_or_default();
        if selection.is_empty() {
            return Ok(selection);
        }
        let reduced = reduce(open, &selection).map_err(|error| refused(error.to_string()))?;
        match open.kernel.replace(&open.table, &reduced) {
            Ok(()) => return Ok(selection),
            Err(ReplaceError::Stale) => {}
            Err(error @ ReplaceError::Counters(_)) => return Err(refused(error.to_string())),
            Err(ReplaceError::Io(source)) => return Err(Failure::System { doing, source }),
        }
    }
    Err(refused("others change the table all the time: try again".to_owned()))
}

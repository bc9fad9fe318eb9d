//! Chains and rules that iptables-nft wrote: nftables tables `filter`, `nat` and `mangle` of
//! families `ip` and `ip6`.

use std::collections::{BTreeSet, HashMap};

use portolan_netfilter::nft::{Batch, ChainInfo, ChainJumps, TableRef};
use portolan_netfilter::socket::{CommitError, MessageError, Socket};
use portolan_service::Family;

use super::report::{Failure, Kept, Part, Report};
use super::selection::{self, SeenChain, Selection, TABLES};
use super::{ChainSearch, IsSought};
use crate::chain_names::{MARK, MARKED};
use crate::variant::{Variant, table_family};

/// How often removal starts over because others changed what had been read.
const ATTEMPTS: usize = 10;
/// From which attempt on a chain that is in use is believed to stay so
const PATIENCE: usize = 2;
/// Room that one more message may take in a transaction of limited length: two names and a handle,
/// bytes
const MESSAGE_MAX: usize = 256;

/// What is to be removed from one table.
struct TableSelection {
    name: &'static str,
    chains: Vec<ChainInfo>,
    selection: Selection,
}

pub(super) fn find(socket: &mut Socket, search: &ChainSearch<'_>, report: &mut Report) {
    each_family(socket, search, report, |socket, family, chains| {
        read(socket, family, chains, &BTreeSet::new())
    });
}

pub(super) fn remove(socket: &mut Socket, search: &ChainSearch<'_>, report: &mut Report) {
    each_family(socket, search, report, remove_family);
}

/// Calls `each` with every family in which something is looked for, and reports what it selects.
fn each_family(
    socket: &mut Socket,
    search: &ChainSearch<'_>,
    report: &mut Report,
    each: impl Fn(&mut Socket, Family, IsSought) -> Result<Vec<TableSelection>, Failure>,
) {
    for family in Family::ALL {
        let chains = search.chains(Variant::Nft, family, || is_marked(socket, family));
        match chains.and_then(|chains| chains.map(|chains| each(socket, family, chains)).transpose()) {
            Ok(tables) => add(report, family, &tables.unwrap_or_default()),
            Err(failure) => report.fail(failure),
        }
    }
}

/// The rules are ours.
pub(super) fn is_marked(socket: &mut Socket, family: Family) -> Result<bool, Failure> {
    for (name, chain) in MARKED {
        let table = TableRef { family: table_family(family), name };
        let rules = socket
            .rules(table)
            .map_err(Failure::system(format!("{}: listing rules of table {name}", part(family))))?;
        if rules.iter().any(|rule| rule.chain == chain && rule.comment.as_deref() == Some(MARK)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn add(report: &mut Report, family: Family, tables: &[TableSelection]) {
    report.part(Part::Iptables {
        variant: Variant::Nft,
        family,
        chains: tables.iter().map(|table| table.selection.chains.len()).sum(),
        rules: tables.iter().map(|table| table.selection.rules).sum(),
    });
    for table in tables {
        for (chain, reason) in &table.selection.kept {
            report.keep(Kept::Chain {
                variant: Variant::Nft,
                family,
                table: table.name.to_owned(),
                chain: chain.clone(),
                reason: reason.clone(),
            });
        }
    }
}

fn part(family: Family) -> String {
    format!("{}, {family}", Variant::Nft)
}

/// Reads the rules of the tables that have chains that are looked for.
fn read(
    socket: &mut Socket,
    family: Family,
    is_sought: IsSought,
    pinned: &BTreeSet<(&'static str, String)>,
) -> Result<Vec<TableSelection>, Failure> {
    let doing = |what: &str| Failure::system(format!("{}: listing {what}", part(family)));
    let present = socket.tables(table_family(family)).map_err(doing("tables"))?;
    let mut tables = Vec::new();
    for name in TABLES.into_iter().filter(|name| present.iter().any(|table| table.name == *name)) {
        let table = TableRef { family: table_family(family), name };
        let chains = socket.chains(table).map_err(doing("chains"))?;
        if !chains.iter().any(|chain| is_sought(name, &chain.name)) {
            continue;
        }
        let jumps = socket.jumps(table).map_err(doing("rules"))?;
        let by_chain: HashMap<&str, &ChainJumps> =
            jumps.iter().map(|jumps| (jumps.chain.as_str(), jumps)).collect();
        let seen: Vec<SeenChain<'_>> = chains
            .iter()
            .map(|chain| {
                let jumps = by_chain.get(chain.name.as_str());
                SeenChain {
                    name: &chain.name,
                    is_base: chain.is_base,
                    rules: jumps.map_or(0, |jumps| jumps.rules),
                    jumps: jumps
                        .map(|jumps| {
                            jumps.jumps.iter().map(|(rule, target)| (*rule, target.as_str())).collect()
                        })
                        .unwrap_or_default(),
                }
            })
            .collect();
        let pinned =
            pinned.iter().filter(|(table, _)| *table == name).map(|(_, chain)| chain.clone()).collect();
        let selection = selection::select(is_sought, name, &seen, &pinned);
        tables.push(TableSelection { name, chains, selection });
    }
    Ok(tables)
}

/// The transaction does not insist that nobody committed since the rules were read, because nothing
/// can go wrong: a handle names a rule that is still what it was, and a chain that somebody else
/// has begun to use is refused as busy, and with it the whole transaction. Otherwise a node whose
/// rules change all the time would never be cleaned.
fn remove_family(
    socket: &mut Socket,
    family: Family,
    is_sought: IsSought,
) -> Result<Vec<TableSelection>, Failure> {
    let mut pinned = BTreeSet::new();
    let mut last = None;
    for attempt in 0..ATTEMPTS {
        let tables = read(socket, family, is_sought, &pinned)?;
        if tables.iter().all(|table| table.selection.is_empty()) {
            return Ok(tables);
        }
        let steps = steps(&tables);
        let Err(refused) = commit(socket, family, &steps)? else { return Ok(tables) };
        for error in refused.iter().filter(|error| error.errno == libc::EBUSY && attempt + 1 >= PATIENCE) {
            if let Some(Step::DeleteChain { table, chain }) = steps.get(error.index) {
                pinned.insert((*table, (*chain).to_owned()));
            }
        }
        last = refused.into_iter().next();
    }
    Err(Failure::Refused {
        doing: format!("{}: removing chains and rules", part(family)),
        reason: last.map(|error| error.to_string()).unwrap_or_default(),
    })
}

/// One message of the transaction.
enum Step<'a> {
    DeleteRule { table: &'static str, chain: &'a str, handle: u64 },
    FlushChain { table: &'static str, chain: &'a str },
    DeleteChain { table: &'static str, chain: &'a str },
}

/// Jumps first, then rules, then chains: wherever a transaction of limited length ends, what was
/// done so far leaves no packet half-way.
fn steps(tables: &[TableSelection]) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    for TableSelection { name, chains, selection } in tables {
        steps.extend(selection.jumps.iter().map(|(chain, handle)| Step::DeleteRule {
            table: name,
            chain: &chains[*chain].name,
            handle: *handle,
        }));
    }
    for TableSelection { name, chains, selection } in tables {
        steps.extend(
            selection.chains.iter().map(|at| Step::FlushChain { table: name, chain: &chains[*at].name }),
        );
    }
    for TableSelection { name, chains, selection } in tables {
        steps.extend(
            selection.chains.iter().map(|at| Step::DeleteChain { table: name, chain: &chains[*at].name }),
        );
    }
    steps
}

/// Commits in one transaction, or in as many as the process must. What the kernel refused has the
/// number of its step.
fn commit(
    socket: &mut Socket,
    family: Family,
    steps: &[Step<'_>],
) -> Result<Result<(), Vec<MessageError>>, Failure> {
    let limit = socket.batch_limit().unwrap_or(usize::MAX);
    let mut batch = Batch::new();
    let mut done = 0;
    while done < steps.len() {
        batch.clear();
        for step in &steps[done..] {
            if batch.len() + MESSAGE_MAX > limit && !batch.is_empty() {
                break;
            }
            step.append(&mut batch, family);
        }
        match socket.commit(&batch) {
            Ok(()) => done += batch.messages(),
            Err(CommitError::Refused { mut errors }) => {
                for error in &mut errors {
                    error.index += done;
                }
                return Ok(Err(errors));
            }
            Err(CommitError::Io(source)) => {
                let doing = format!("{}: removing chains and rules", part(family));
                return Err(Failure::System { doing, source });
            }
            Err(error) => {
                let doing = format!("{}: removing chains and rules", part(family));
                return Err(Failure::Refused { doing, reason: error.to_string() });
            }
        }
    }
    Ok(Ok(()))
}

impl Step<'_> {
    fn append(&self, batch: &mut Batch, family: Family) {
        let table = |name| TableRef { family: table_family(family), name };
        match self {
            Step::DeleteRule { table: name, chain, handle } => batch.delete_rule(table(name), chain, *handle),
            Step::FlushChain { table: name, chain } => batch.flush_chain(table(name), chain),
            Step::DeleteChain { table: name, chain } => batch.delete_chain(table(name), chain),
        }
    }
}

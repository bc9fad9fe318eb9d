//! A chain that says to others that Services are forwarded by nftables.
//!
//! Calico's Felix, left to choose (`nftablesMode: Auto`), takes nftables where table `kube-proxy`
//! has a chain, in either family, and iptables elsewhere. Our own tables have another name. On
//! request, an empty chain in a table of that name answers Felix as kube-proxy would. No packet
//! gets to it.

use portolan_netfilter::nft::{Batch, Chain, TableRef};
use portolan_netfilter::socket::{CommitError, Socket};
use portolan_service::Family;

use crate::removal::{self, Failure, RemovalError, Report};
use crate::variant::table_family;

/// The table of kube-proxy's mode nftables (spec §6.2).
pub(super) const TABLE: &str = "kube-proxy";

/// It, in one family.
pub(super) fn in_family(family: Family) -> TableRef<'static> {
    TableRef { family: table_family(family), name: TABLE }
}

/// The chain's name.
pub(super) const CHAIN: &str = "portolan-marker";
const COMMENT: &str =
    "for Calico: Services are forwarded by nftables; written by portolan, no packet gets here";

/// Where the marker is, beside what else there is in table `kube-proxy` of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FoundMarker {
    /// The marker is there.
    pub(super) marker: bool,
    /// Chains or sets are there besides: kube-proxy's.
    pub(super) others: bool,
}

/// Looks into table `kube-proxy`; `None` if there is none.
pub(super) fn find(socket: &mut Socket, family: Family) -> Result<Option<FoundMarker>, Failure> {
    let table = in_family(family);
    let doing = |what: &str| Failure::system(format!("nftables, {family}: listing {what} of table {TABLE}"));
    let tables = socket.tables(table.family).map_err(doing("tables"))?;
    if tables.iter().all(|table| table.name != TABLE) {
        return Ok(None);
    }
    let chains = socket.chains(table).map_err(doing("chains"))?;
    let marker = chains.iter().any(|chain| chain.name == CHAIN);
    let others = chains.len() > usize::from(marker) || !socket.sets(table).map_err(doing("sets"))?.is_empty();
    Ok(Some(FoundMarker { marker, others }))
}

/// Writes the marker, if it is `wanted`, or removes it, and the table with it if nothing else is
/// there. Returns whether there was anything to do.
pub fn mark(wanted: bool) -> Result<bool, RemovalError> {
    let mut report = Report::default();
    let mut changed = false;
    if let Some(mut socket) = removal::open(&mut report) {
        for family in Family::ALL {
            match mark_family(&mut socket, family, wanted) {
                Ok(done) => changed |= done,
                Err(failure) => report.fail(failure),
            }
        }
    }
    report.finish().map(|_| changed)
}

fn mark_family(socket: &mut Socket, family: Family, wanted: bool) -> Result<bool, Failure> {
    let found = find(socket, family)?;
    let is_there = found.is_some_and(|found| found.marker);
    if is_there == wanted {
        return Ok(false);
    }
    let table = in_family(family);
    let mut batch = Batch::new();
    if wanted {
        write(&mut batch, table);
    } else if found.is_some_and(|found| found.others) {
        batch.delete_chain(table, CHAIN);
    } else {
        batch.delete_table(table);
    }
    commit(socket, &batch, table)?;
    Ok(true)
}

/// Appends the marker to a transaction.
pub(super) fn write(batch: &mut Batch, table: TableRef<'_>) {
    batch.add_table(table, "");
    batch.add_chain(table, &Chain { name: CHAIN.into(), kind: None, comment: Some(COMMENT.into()) });
}

fn commit(socket: &mut Socket, batch: &Batch, table: TableRef<'_>) -> Result<(), Failure> {
    let doing = format!("nftables: chain {CHAIN} of table {table}");
    match socket.commit(batch) {
        Ok(()) => Ok(()),
        // Somebody deleted it meanwhile.
        Err(CommitError::Refused { errors }) if errors.iter().all(|error| error.errno == libc::ENOENT) => {
            Ok(())
        }
        Err(CommitError::Io(source)) => Err(Failure::System { doing, source }),
        Err(error) => Err(Failure::Refused { doing, reason: error.to_string() }),
    }
}

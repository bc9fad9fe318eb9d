//! What mode nftables leaves: a table of its own in each family (spec §6.2).

use portolan_netfilter::nft::Batch;
use portolan_netfilter::socket::{CommitError, Socket};
use portolan_service::Family;

use super::marker::{self, TABLE, in_family};
use crate::removal::{Failure, Part, Report};

pub(super) fn find(socket: &mut Socket, report: &mut Report) {
    for family in Family::ALL {
        match is_there(socket, family) {
            Ok(true) => report.part(Part::Table { family, name: TABLE }),
            Ok(false) => {}
            Err(failure) => report.fail(failure),
        }
    }
}

pub(super) fn remove(socket: &mut Socket, report: &mut Report) {
    for family in Family::ALL {
        match remove_from(socket, family) {
            Ok(true) => report.part(Part::Table { family, name: TABLE }),
            Ok(false) => {}
            Err(failure) => report.fail(failure),
        }
    }
}

/// kube-proxy's table is there, which is more than our marker.
fn is_there(socket: &mut Socket, family: Family) -> Result<bool, Failure> {
    Ok(marker::find(socket, family)?.is_some_and(|found| found.others || !found.marker))
}

/// Removes all but our marker. False if there is nothing, or if it is gone meanwhile.
fn remove_from(socket: &mut Socket, family: Family) -> Result<bool, Failure> {
    let Some(found) = marker::find(socket, family)?.filter(|found| found.others || !found.marker) else {
        return Ok(false);
    };
    let table = in_family(family);
    let mut batch = Batch::new();
    batch.delete_table(table);
    if found.marker {
        marker::write(&mut batch, table);
    }
    match socket.commit(&batch) {
        Ok(()) => Ok(true),
        Err(CommitError::Refused { errors }) if errors.iter().all(|error| error.errno == libc::ENOENT) => {
            Ok(false)
        }
        Err(CommitError::Io(source)) => {
            Err(Failure::System { doing: format!("nftables: deleting table {table}"), source })
        }
        Err(error) => Err(Failure::Refused {
            doing: format!("nftables: deleting table {table}"),
            reason: error.to_string(),
        }),
    }
}

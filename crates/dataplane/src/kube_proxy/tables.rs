//! What mode nftables leaves: a table of its own in each family (spec §6.2).

use portolan_netfilter::nft::{Batch, TableRef};
use portolan_netfilter::socket::{CommitError, Socket};
use portolan_service::Family;

use super::iptables_nft::table_family;
use super::report::{Failure, Part, Report};

const TABLE: &str = "kube-proxy";

pub(super) fn find(socket: &mut Socket, report: &mut Report) {
    for family in Family::ALL {
        match is_there(socket, family) {
            Ok(true) => report.part(Part::Table(family)),
            Ok(false) => {}
            Err(failure) => report.fail(failure),
        }
    }
}

pub(super) fn remove(socket: &mut Socket, report: &mut Report) {
    for family in Family::ALL {
        match is_there(socket, family).and_then(|there| Ok(there && delete(socket, family)?)) {
            Ok(true) => report.part(Part::Table(family)),
            Ok(false) => {}
            Err(failure) => report.fail(failure),
        }
    }
}

fn is_there(socket: &mut Socket, family: Family) -> Result<bool, Failure> {
    let tables = socket
        .tables(table_family(family))
        .map_err(Failure::system(format!("nftables, {family}: listing tables")))?;
    Ok(tables.iter().any(|table| table.name == TABLE))
}

/// False if it is gone meanwhile.
fn delete(socket: &mut Socket, family: Family) -> Result<bool, Failure> {
    let table = TableRef { family: table_family(family), name: TABLE };
    let mut batch = Batch::new();
    batch.delete_table(table);
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

//! What this mode leaves in the kernel besides rules, and its removal.

use portolan_netfilter::ipvs::{ServerKey, is_present};

use super::kernel::Kernel;
use super::record::Record;
use super::routing::Routing;
use super::wanted::ROUND_ROBIN;
use crate::dataplane::InUse;
use crate::error::Error;
use crate::nftables::Nftables;
use crate::removal::{Failure, Leftovers, Part, RemovalError, Report};
use crate::settings::Settings;

/// Deletes virtual servers of ours, the record of them, and the way to them.
pub(super) fn remove(
    kernel: &mut Kernel,
    record: &mut Record,
    routing: &mut Routing,
    rules: &mut Nftables,
) -> Result<usize, Error> {
    record.read()?;
    let servers = kernel.servers()?.into_iter().map(|server| server.key);
    let ours: Vec<ServerKey> = servers.filter(|server| record.has(server)).collect();
    kernel.delete(&ours)?;
    record.delete(rules)?;
    routing.remove()?;
    Ok(ours.len())
}

/// See [`crate::ModeDescriptor::find_own`].
pub(super) fn find_own(in_use: InUse) -> Result<Leftovers, RemovalError> {
    let mut report = Report::default();
    if !in_use.virtual_servers {
        match Record::open().and_then(|mut record| record.read().map(|()| record)) {
            Ok(record) if record.is_there() => report.part(Part::VirtualServers(record.known().len())),
            Ok(_) => {}
            Err(error) => report.fail(Failure::Dataplane(error)),
        }
    }
    report.finish()
}

/// See [`crate::ModeDescriptor::remove_own`].
pub(super) fn remove_own(in_use: InUse) -> Result<Leftovers, RemovalError> {
    let mut report = Report::default();
    if !in_use.virtual_servers {
        match remove_all() {
            Ok(Some(deleted)) => report.part(Part::VirtualServers(deleted)),
            Ok(None) => {}
            Err(error) => report.fail(Failure::Dataplane(error)),
        }
    }
    report.finish()
}

/// `None` if there is nothing.
fn remove_all() -> Result<Option<usize>, Error> {
    let mut record = Record::open()?;
    record.read()?;
    // Without a record the mode was never here, and there is no reason to load IPVS.
    if !record.is_there() {
        return Ok(None);
    }
    let mut rules = Nftables::new(Settings::default())?;
    let mut routing = Routing::open(0)?;
    if !is_present() {
        record.delete(&mut rules)?;
        routing.remove()?;
        return Ok(Some(0));
    }
    remove(&mut Kernel::open(ROUND_ROBIN.into())?, &mut record, &mut routing, &mut rules).map(Some)
}

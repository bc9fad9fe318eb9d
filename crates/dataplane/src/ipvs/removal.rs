//! What this mode leaves in the kernel besides rules, and its removal.

use portolan_netfilter::ipvs::{ServerKey, is_present};

use super::kernel::Kernel;
use super::record::Record;
use super::routing::Routing;
use crate::dataplane::InUse;
use crate::error::Error;
use crate::kube_ipvs::Frontends;
use crate::nftables::Nftables;
use crate::removal::{Failure, Kept, Leftovers, Part, RemovalError, Report};
use crate::settings::Settings;

/// Deletes virtual servers of ours but those to be `left`, the record of them, and the way to them.
/// Returns how many it deleted, and how many it left.
pub(super) fn remove(
    kernel: &mut Kernel,
    record: &mut Record,
    routing: &mut Routing,
    rules: &mut Nftables,
    left: &Frontends,
) -> Result<(usize, usize), Error> {
    record.read()?;
    let servers = kernel.servers()?.into_iter().map(|server| server.key);
    let ours = servers.filter(|server| record.has(server));
    let is_left = |server: &ServerKey| server.address().is_some_and(|server| left.has(&server));
    let (theirs, ours): (Vec<ServerKey>, Vec<ServerKey>) = ours.partition(is_left);
    kernel.delete(&ours)?;
    record.delete(rules)?;
    routing.remove()?;
    Ok((ours.len(), theirs.len()))
}

/// See [`crate::ModeDescriptor::ends`]. Only IPVS can forward what it has begun to forward.
pub(super) fn ends(in_use: InUse) -> Option<String> {
    ending(&find_own(in_use))
}

/// What ends when `left` is removed. What cannot be read may be there.
fn ending(left: &Result<Leftovers, RemovalError>) -> Option<String> {
    let left = match left {
        Ok(left) => left,
        Err(error) => {
            return Some(format!(
                "{error}; if our mode ipvs has served here, connections through its virtual servers end now: only \
                 IPVS can forward them"
            ));
        }
    };
    let number = left.parts.iter().find_map(|part| match part {
        Part::VirtualServers(number) => Some(*number),
        _ => None,
    })?;
    let s = if number == 1 { "" } else { "s" };
    Some(format!(
        "taking over from our mode ipvs: connections through its {number} virtual server{s} end now: only IPVS can \
         forward them"
    ))
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
            Ok(Some((deleted, left))) => {
                report.part(Part::VirtualServers(deleted));
                if left > 0 {
                    report.keep(Kept::VirtualServers(left));
                }
            }
            Ok(None) => {}
            Err(failure) => report.fail(failure),
        }
    }
    report.finish()
}

/// What kube-proxy serves, too, stays: it may have taken over. `None` if there is nothing.
fn remove_all() -> Result<Option<(usize, usize)>, Failure> {
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
        return Ok(Some((0, 0)));
    }
    let theirs = Frontends::held()?;
    let mut kernel = Kernel::open()?;
    Ok(Some(remove(&mut kernel, &mut record, &mut routing, &mut rules, &theirs)?))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_ends_is_reported_also_where_it_cannot_be_read() {
        let left = |parts| Ok(Leftovers { parts, kept: Vec::new() });
        let mut failed = Report::default();
        let source = io::ErrorKind::PermissionDenied.into();
        failed.fail(Failure::System { doing: "reading which are ours".to_owned(), source });
        for (name, left, expected) in [
            ("nothing", left(vec![]), None),
            ("one", left(vec![Part::VirtualServers(1)]), Some("through its 1 virtual server end now")),
            ("two", left(vec![Part::VirtualServers(2)]), Some("through its 2 virtual servers end now")),
            ("unknown", failed.finish(), Some("reading which are ours: permission denied")),
        ] {
            let found = ending(&left);
            let fits = match (&found, expected) {
                (Some(found), Some(expected)) => found.contains(expected),
                (found, expected) => found.is_none() && expected.is_none(),
            };
            assert!(fits, "{name}: {found:?}");
        }
    }
}

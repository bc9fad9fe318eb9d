//! What mode IPVS leaves besides rules: virtual servers, a device that holds their addresses,
//! ipsets.
//!
//! Unlike the behaviour described in spec §7.22, virtual servers of others stay (§13.21), and the
//! sets for IPv6 go too.

use std::thread;
use std::time::{Duration, Instant};

use portolan_netfilter::ipset::{DestroyError, IpSet, IpSets};
use portolan_netfilter::ipvs::{self, Ipvs, ServerKey, VirtualServer};

use crate::ipvs::virtual_servers_of_ours;
use crate::kube_ipvs::{DEVICE, Frontends, device, sets};
use crate::removal::{Failure, Kept, Part, Report};

/// How long a set may be in use after the rules that refer to it were removed: nftables lets go of
/// what rules held only when no packet can be among them any more, and reports that to nobody.
const PATIENCE: Duration = Duration::from_secs(5);
const BREATH: Duration = Duration::from_millis(5);

/// To be called when the report says which rules there are.
pub(super) fn find(report: &mut Report) {
    attempt(report, || Ok(Part::VirtualServers(virtual_servers()?.map_or(0, |(_, servers)| servers.len()))));
    match device() {
        Ok(Some(_)) => report.part(Part::Device),
        Ok(None) => {}
        Err(failure) => report.fail(failure),
    }
    match sets() {
        Ok(Some((_, sets))) => {
            // Rules that are to go may be what refers to them.
            let (free, kept): (Vec<_>, Vec<_>) =
                sets.into_iter().partition(|set| set.references == 0 || report.has_rules());
            report.part(Part::IpSets(free.len()));
            for set in kept {
                report.keep(Kept::IpSet(set.name));
            }
        }
        Ok(None) => {}
        Err(failure) => report.fail(failure),
    }
}

/// To be called when the rules that refer to the sets are gone, and the report says which these
/// were.
pub(super) fn remove(report: &mut Report) {
    attempt(report, || Ok(Part::VirtualServers(delete_virtual_servers()?)));
    match delete_device() {
        Ok(true) => report.part(Part::Device),
        Ok(false) => {}
        Err(failure) => report.fail(failure),
    }
    match sets() {
        Ok(Some((kernel, sets))) => destroy_sets(kernel, sets, report),
        Ok(None) => {}
        Err(failure) => report.fail(failure),
    }
}

fn attempt(report: &mut Report, part: impl FnOnce() -> Result<Part, Failure>) {
    match part() {
        Ok(part) => report.part(part),
        Err(failure) => report.fail(failure),
    }
}

fn delete_device() -> Result<bool, Failure> {
    let Some((mut kernel, index)) = device()? else { return Ok(false) };
    kernel.delete_link(index).map_err(Failure::system(format!("ipvs: deleting device {DEVICE}")))
}

fn destroy_sets(mut kernel: IpSets, sets: Vec<IpSet>, report: &mut Report) {
    let patience = if report.has_rules() { PATIENCE } else { Duration::ZERO };
    let patient_until = Instant::now() + patience;
    let mut destroyed = 0;
    for IpSet { name, .. } in sets {
        let result = loop {
            match kernel.destroy(&name) {
                Err(DestroyError::InUse) if Instant::now() < patient_until => thread::sleep(BREATH),
                result => break result,
            }
        };
        match result {
            Ok(gone) => destroyed += usize::from(gone),
            Err(DestroyError::InUse) => report.keep(Kept::IpSet(name)),
            Err(DestroyError::Io(source)) => {
                report.fail(Failure::System { doing: format!("ipsets: destroying {name}"), source });
            }
        }
    }
    report.part(Part::IpSets(destroyed));
}

/// The virtual servers that are kube-proxy's. Those that our record names are ours, whether a proxy
/// runs now or not.
fn virtual_servers() -> Result<Option<(Ipvs, Vec<VirtualServer>)>, Failure> {
    if !ipvs::is_present() {
        return Ok(None);
    }
    let ours = Frontends::held()?;
    // Asking takes privileges over the whole machine, so it is done only where there is a reason.
    if ours.is_empty() {
        return Ok(None);
    }
    let mut ipvs = Ipvs::open().map_err(Failure::system("ipvs: opening a socket"))?;
    let servers = ipvs.servers().map_err(Failure::system("ipvs: listing virtual servers"))?;
    let by_address = servers.into_iter().filter_map(|server| server.key.address());
    let kept = virtual_servers_of_ours()
        .map_err(Failure::system("nftables: reading which virtual servers are ours"))?;
    let unused = by_address.filter(|server| ours.has(server) && !kept.contains(server));
    Ok(Some((ipvs, unused.collect())))
}

fn delete_virtual_servers() -> Result<usize, Failure> {
    let Some((mut ipvs, servers)) = virtual_servers()? else { return Ok(0) };
    let mut deleted = 0;
    for server in servers {
        let failed = || {
            let VirtualServer { protocol, address, port } = server;
            Failure::system(format!(
                "ipvs: deleting the virtual server {address} port {port} protocol {protocol}"
            ))
        };
        deleted += usize::from(ipvs.delete(&ServerKey::Address(server)).map_err(failed())?);
    }
    Ok(deleted)
}

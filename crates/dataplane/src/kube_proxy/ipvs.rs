//! What mode IPVS leaves besides rules: virtual servers, a device that holds their addresses,
//! ipsets.
//!
//! Unlike the behaviour described in spec §7.22, virtual servers of others stay (§13.21), and the
//! sets for IPv6 go too.

use std::collections::HashSet;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use portolan_netfilter::ipset::{self, DestroyError, IpSet, IpSets, Member};
use portolan_netfilter::ipvs::{self, Ipvs, ServerKey, VirtualServer};
use portolan_netlink::rtnetlink::Rtnetlink;

use crate::dataplane::InUse;
use crate::ipvs::virtual_servers_of_ours;
use crate::removal::{Failure, Kept, Part, Report};

/// Spec §7.5
const DEVICE: &str = "kube-ipvs0";

/// The sets of spec §7.16, without `KUBE-`; others have names that begin so too.
const SETS: [&str; 16] = [
    "LOOP-BACK",
    "CLUSTER-IP",
    "EXTERNAL-IP",
    "EXTERNAL-IP-LOCAL",
    "LOAD-BALANCER",
    "LOAD-BALANCER-LOCAL",
    "LOAD-BALANCER-FW",
    "LOAD-BALANCER-SOURCE-CIDR",
    "LOAD-BALANCER-SOURCE-IP",
    "NODE-PORT-TCP",
    "NODE-PORT-LOCAL-TCP",
    "NODE-PORT-UDP",
    "NODE-PORT-LOCAL-UDP",
    "NODE-PORT-SCTP-HASH",
    "NODE-PORT-LOCAL-SCTP-HASH",
    "HEALTH-CHECK-NODE-PORT",
];
/// Of the above, those that hold the address and port of a virtual server each
const FRONTEND_SETS: [&str; 4] = ["CLUSTER-IP", "EXTERNAL-IP", "LOAD-BALANCER", "NODE-PORT-SCTP-HASH"];
/// The longest name of a set
const SET_NAME_MAX: usize = 31;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// How long a set may be in use after the rules that refer to it were removed: nftables lets go of
/// what rules held only when no packet can be among them any more, and reports that to nobody.
const PATIENCE: Duration = Duration::from_secs(5);
const BREATH: Duration = Duration::from_millis(5);

fn is_our_set(name: &str) -> bool {
    SETS.into_iter().chain(["IPVS-IPS"]).any(|set| set_names(set).iter().any(|ours| ours == name))
}

/// The names of a set for IPv4 and IPv6, cut as kube-proxy cuts them.
fn set_names(set: &str) -> [String; 2] {
    ["KUBE-", "KUBE-6-"].map(|prefix| {
        let mut name = format!("{prefix}{set}");
        name.truncate(SET_NAME_MAX);
        name
    })
}

/// To be called when the report says which rules there are.
pub(super) fn find(beside: InUse, report: &mut Report) {
    attempt(report, || {
        Ok(Part::VirtualServers(virtual_servers(beside)?.map_or(0, |(_, servers)| servers.len())))
    });
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
pub(super) fn remove(beside: InUse, report: &mut Report) {
    attempt(report, || Ok(Part::VirtualServers(delete_virtual_servers(beside)?)));
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

fn device() -> Result<Option<(Rtnetlink, u32)>, Failure> {
    let failed = || Failure::system(format!("ipvs: looking for device {DEVICE}"));
    let mut kernel = Rtnetlink::open().map_err(failed())?;
    let link = kernel.link(DEVICE).map_err(failed())?;
    Ok(link.map(|link| (kernel, link.index)))
}

fn delete_device() -> Result<bool, Failure> {
    let Some((mut kernel, index)) = device()? else { return Ok(false) };
    kernel.delete_link(index).map_err(Failure::system(format!("ipvs: deleting device {DEVICE}")))
}

/// The sets that are there.
fn sets() -> Result<Option<(IpSets, Vec<IpSet>)>, Failure> {
    if !ipset::is_present() {
        return Ok(None);
    }
    let mut kernel = IpSets::open().map_err(Failure::system("ipsets: opening a socket"))?;
    let mut sets = kernel.sets().map_err(Failure::system("ipsets: listing sets"))?;
    sets.retain(|set| is_our_set(&set.name));
    Ok(Some((kernel, sets)))
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

/// The virtual servers that are kube-proxy's: those on the addresses of its device, and those on
/// other addresses of the node (NodePorts, and external addresses that the node has anyway, spec
/// §7.5, §7.6) that its sets name.
fn virtual_servers(beside: InUse) -> Result<Option<(Ipvs, Vec<VirtualServer>)>, Failure> {
    if !ipvs::is_present() {
        return Ok(None);
    }
    let mut ours = Frontends::default();
    if let Some((mut kernel, index)) = device()? {
        let failed = Failure::system(format!("ipvs: listing addresses of {DEVICE}"));
        let of_device = kernel.addresses().map_err(failed)?.into_iter().filter(|found| found.index == index);
        ours.addresses.extend(of_device.map(|found| found.network.addr()));
    }
    if let Some((mut kernel, sets)) = sets()? {
        ours.read(&mut kernel, &sets)?;
    }
    // Asking takes privileges over the whole machine, so it is done only where there is a reason.
    if ours.is_empty() {
        return Ok(None);
    }
    let mut ipvs = Ipvs::open().map_err(Failure::system("ipvs: opening a socket"))?;
    let servers = ipvs.servers().map_err(Failure::system("ipvs: listing virtual servers"))?;
    let by_address = servers.into_iter().filter_map(|server| server.key.address());
    let kept = if beside.virtual_servers {
        virtual_servers_of_ours()
            .map_err(Failure::system("nftables: reading which virtual servers are ours"))?
    } else {
        HashSet::new()
    };
    let unused = by_address.filter(|server| ours.has(server) && !kept.contains(server));
    Ok(Some((ipvs, unused.collect())))
}

fn delete_virtual_servers(beside: InUse) -> Result<usize, Failure> {
    let Some((mut ipvs, servers)) = virtual_servers(beside)? else { return Ok(0) };
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

/// Where kube-proxy serves.
#[derive(Debug, Default)]
struct Frontends {
    addresses: HashSet<IpAddr>,
    /// Address, protocol and port
    members: HashSet<(IpAddr, u8, u16)>,
    /// Protocol and port, on any address of the node
    node_ports: HashSet<(u8, u16)>,
}

impl Frontends {
    fn read(&mut self, kernel: &mut IpSets, present: &[IpSet]) -> Result<(), Failure> {
        let mut members = |set: &str| -> Result<Vec<Member>, Failure> {
            let mut members = Vec::new();
            for name in set_names(set).iter().filter(|name| present.iter().any(|set| set.name == **name)) {
                members.extend(
                    kernel.members(name).map_err(Failure::system(format!("ipsets: reading {name}")))?,
                );
            }
            Ok(members)
        };
        for set in FRONTEND_SETS {
            self.members.extend(
                members(set)?
                    .into_iter()
                    .filter_map(|member| Some((member.address?, member.protocol?, member.port?))),
            );
        }
        for (set, protocol) in [("NODE-PORT-TCP", TCP), ("NODE-PORT-UDP", UDP)] {
            self.node_ports
                .extend(members(set)?.into_iter().filter_map(|member| Some((protocol, member.port?))));
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.members.is_empty() && self.node_ports.is_empty()
    }

    fn has(&self, VirtualServer { protocol, address, port }: &VirtualServer) -> bool {
        self.addresses.contains(address)
            || self.members.contains(&(*address, *protocol, *port))
            || self.node_ports.contains(&(*protocol, *port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_by_name() {
        let cases = [
            ("KUBE-CLUSTER-IP", true),
            ("KUBE-6-CLUSTER-IP", true),
            ("KUBE-IPVS-IPS", true),
            ("KUBE-6-IPVS-IPS", true),
            // §7.16: cut at 31 characters
            ("KUBE-6-LOAD-BALANCER-SOURCE-CID", true),
            ("KUBE-6-NODE-PORT-LOCAL-SCTP-HAS", true),
            ("KUBE-6-LOAD-BALANCER-SOURCE-CIDR", false),
            ("KUBE-LOAD-BALANCER-SOURCE-CIDR", true),
            // kube-router's
            ("KUBE-SRC-ABCDEFGHIJKLMNOP", false),
            ("KUBE-DST-ABCDEFGHIJKLMNOP", false),
            ("cali40all-ipam-pools", false),
            ("KUBE-", false),
        ];
        for (name, expected) in cases {
            assert_eq!(is_our_set(name), expected, "{name}");
        }
    }

    #[test]
    fn virtual_servers_by_address_and_port() {
        let ours = Frontends {
            addresses: ["10.96.0.1".parse().expect("address")].into(),
            members: [("192.0.2.1".parse().expect("address"), TCP, 443)].into(),
            node_ports: [(UDP, 30053)].into(),
        };
        let cases = [
            ("§7.5: on the device", "10.96.0.1", TCP, 1, true),
            ("an external address that the node has", "192.0.2.1", TCP, 443, true),
            ("§13.21: somebody else's, on another port", "192.0.2.1", TCP, 80, false),
            ("somebody else's, of another protocol", "192.0.2.1", UDP, 443, false),
            ("§7.6: a NodePort", "10.0.0.5", UDP, 30053, true),
            ("not a NodePort", "10.0.0.5", TCP, 30053, false),
        ];
        for (name, address, protocol, port, expected) in cases {
            let server = VirtualServer { address: address.parse().expect("address"), protocol, port };
            assert_eq!(ours.has(&server), expected, "{name}");
        }
    }
}

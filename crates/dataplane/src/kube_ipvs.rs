//! What kube-proxy's mode ipvs holds in the kernel, by which its virtual servers are known: a
//! device with addresses, and ipsets.

use std::collections::HashSet;
use std::net::IpAddr;

use portolan_netfilter::ipset::{self, IpSet, IpSets, Member};
use portolan_netfilter::ipvs::VirtualServer;
use portolan_netlink::rtnetlink::Rtnetlink;

use crate::removal::Failure;

/// Spec §7.5
pub(crate) const DEVICE: &str = "kube-ipvs0";

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

/// Its device.
pub(crate) fn device() -> Result<Option<(Rtnetlink, u32)>, Failure> {
    let failed = || Failure::system(format!("ipvs: looking for device {DEVICE}"));
    let mut kernel = Rtnetlink::open().map_err(failed())?;
    let link = kernel.link(DEVICE).map_err(failed())?;
    Ok(link.map(|link| (kernel, link.index)))
}

/// The sets that are there.
pub(crate) fn sets() -> Result<Option<(IpSets, Vec<IpSet>)>, Failure> {
    if !ipset::is_present() {
        return Ok(None);
    }
    let mut kernel = IpSets::open().map_err(Failure::system("ipsets: opening a socket"))?;
    let mut sets = kernel.sets().map_err(Failure::system("ipsets: listing sets"))?;
    sets.retain(|set| is_our_set(&set.name));
    Ok(Some((kernel, sets)))
}

/// Where kube-proxy serves: which virtual servers are its own.
#[derive(Debug, Default)]
pub(crate) struct Frontends {
    addresses: HashSet<IpAddr>,
    /// Address, protocol and port
    members: HashSet<(IpAddr, u8, u16)>,
    /// Protocol and port, on any address of the node
    node_ports: HashSet<(u8, u16)>,
}

impl Frontends {
    /// What its device and its sets say: addresses on the device, and others of the node
    /// (NodePorts, and external addresses that the node has anyway, spec §7.5, §7.6) that the sets
    /// name.
    pub(crate) fn held() -> Result<Frontends, Failure> {
        let mut held = Frontends::default();
        if let Some((mut kernel, index)) = device()? {
            let failed = Failure::system(format!("ipvs: listing addresses of {DEVICE}"));
            let all = kernel.addresses().map_err(failed)?;
            let of_device = all.into_iter().filter(|found| found.index == index);
            held.addresses.extend(of_device.map(|found| found.network.addr()));
        }
        if let Some((mut kernel, sets)) = sets()? {
            held.read(&mut kernel, &sets)?;
        }
        Ok(held)
    }

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

    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.members.is_empty() && self.node_ports.is_empty()
    }

    pub(crate) fn has(&self, VirtualServer { protocol, address, port }: &VirtualServer) -> bool {
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

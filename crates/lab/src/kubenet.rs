//! What kubenet does on a node beside the bridge: ports of the node that lead to pods (`hostPort`),
//! and the node's address for what leaves the cluster.
//!
//! - A host port works from outside, from other pods and from the pod itself, and from the node by
//!   its own addresses. In IPv4 it works by 127.0.0.1, too. The kernel lets no packet from ::1
//!   leave the loopback interface, so in IPv6 it does not.
//! - A pod that talks to its own host port sees the node's address on the bridge: only so do
//!   answers come back by the node. No packet mark is used, so it makes no difference whether the
//!   proxy has its chains yet.
//! - Of a flow that is under way, nothing changes when a port goes.

mod iptables;
mod nftables;
mod program;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
pub use portolan_service::Protocol;

use crate::Error;
use crate::netns::Namespace;
use crate::proxy::ProxyMode;
use crate::topology::POD_BRIDGE;

/// A pod's name in the API.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodName {
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
}

/// A port of the node that leads to a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// `hostIP`: the only address of the node that the port is on; all of them without it.
    pub ip: Option<IpAddr>,
    /// `hostPort`
    pub port: u16,
    /// `protocol`
    pub protocol: Protocol,
    /// The pod's address, of the family that this is for.
    pub pod_ip: IpAddr,
    /// `containerPort`
    pub pod_port: u16,
}

impl HostPort {
    /// Whether a packet can ask for it: a `hostIP` must be of the pod's family, and one that is
    /// unspecified means all addresses.
    fn is_of_one_family(&self) -> bool {
        self.ip.is_none_or(|ip| ip.is_ipv4() == self.pod_ip.is_ipv4())
    }

    /// The address that it is bound to, if it is bound to one.
    fn bound_to(&self) -> Option<IpAddr> {
        self.ip.filter(|ip| !ip.is_unspecified())
    }
}

/// All host ports of a node by their pods.
pub type HostPorts = BTreeMap<PodName, Vec<HostPort>>;

/// The rules of a node. They go with its namespace.
#[derive(Debug)]
pub struct Kubenet {
    node: Namespace,
    cluster_networks: Vec<IpNet>,
    rules: Rules,
}

#[derive(Debug)]
enum Rules {
    /// By family.
    Iptables(Vec<iptables::Chains>),
    Nftables,
}

impl Kubenet {
    /// Puts a node's rules in place, without a host port. What is sent to the cluster's networks
    /// keeps its source; there is no rule for a family that has none.
    pub fn new(node: Namespace, mode: ProxyMode, cluster_networks: Vec<IpNet>) -> Result<Kubenet, Error> {
        if cluster_networks.iter().any(|network| network.addr().is_ipv4()) {
            node.sysctl(&format!("net/ipv4/conf/{POD_BRIDGE}/route_localnet"), "1")?;
        }
        let rules = match mode {
            ProxyMode::Iptables => Rules::Iptables(
                cluster_networks.iter().map(|network| iptables::Chains::new(*network)).collect(),
            ),
            ProxyMode::Nftables | ProxyMode::Userspace => Rules::Nftables,
        };
        let mut kubenet = Kubenet { node, cluster_networks, rules };
        match &kubenet.rules {
            Rules::Iptables(families) => {
                families.iter().try_for_each(|family| family.begin(&kubenet.node))?;
            }
            Rules::Nftables => kubenet.set(&HostPorts::new())?,
        }
        Ok(kubenet)
    }

    /// Makes these the node's host ports, in one step for each family. With an error in a family,
    /// that family is as it was.
    pub fn set(&mut self, host_ports: &HostPorts) -> Result<(), Error> {
        match &mut self.rules {
            Rules::Iptables(families) => {
                families.iter_mut().try_for_each(|family| family.set(&self.node, host_ports))
            }
            Rules::Nftables => nftables::set(&self.node, &self.cluster_networks, host_ports),
        }
    }
}

/// The host ports that have a meaning, with their pods, in one family.
fn of_family(host_ports: &HostPorts, ipv4: bool) -> impl Iterator<Item = (&PodName, &HostPort)> {
    host_ports
        .iter()
        .flat_map(|(pod, ports)| ports.iter().map(move |port| (pod, port)))
        .filter(move |(_, port)| port.pod_ip.is_ipv4() == ipv4 && port.is_of_one_family())
}

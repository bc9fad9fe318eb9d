//! Nodes, and what the planner must know of the node it plans for.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::{Family, PerFamily};

/// A Node object, reduced to what a service proxy reads (spec §1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`
    pub name: Arc<str>,
    /// Label `topology.kubernetes.io/zone`; `None` when missing or empty.
    pub zone: Option<Arc<str>>,
    /// `status.addresses` of type InternalIP, in order, then those of type ExternalIP.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`
    pub pod_cidrs: Vec<IpNet>,
    /// It is being deleted, or the cluster autoscaler has marked it for deletion: load balancers should send it
    /// nothing new (spec §11.5, §12.7).
    pub leaving: bool,
}

/// The node a [`crate::Planner`] plans for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalNode {
    /// The name that endpoints and hints use for it (spec §1.25).
    pub name: Arc<str>,
    /// Its zone (spec §2.2).
    pub zone: Option<Arc<str>>,
    /// Its first address of each family, if known (spec §1.33); for self-access through source ranges (§3.18).
    pub ips: PerFamily<Option<IpAddr>>,
    /// The addresses on which NodePorts answer (spec §3.5-3.11): sorted, without duplicates, loopback only of IPv4
    /// and in a mode that serves it.
    pub nodeport_addresses: Vec<IpAddr>,
    /// All addresses on its interfaces that a Service could have: sorted. A Service that asks for
    /// one of them takes connections from the node itself.
    pub addresses: Vec<IpAddr>,
    /// The addresses at which this node reaches the API server, beside those of Service
    /// default/kubernetes: sorted.
    pub api_server: Vec<IpAddr>,
    /// `spec.externalIPs` of Services is not served (spec §0.4).
    pub ignore_external_ips: bool,
}

/// `--nodeport-addresses` (spec §3.6-3.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// The node's first address of each family: the word `primary`.
    Primary,
    /// Addresses of any interface within these networks; a zero prefix, or none for a family, selects all.
    Networks(Vec<IpNet>),
}

impl NodePortAddresses {
    /// The addresses among `local` (all addresses on the node's interfaces) on which NodePorts answer, given the
    /// node's own addresses `ips`. A family whose node address is unknown selects all its addresses under
    /// `primary` (spec §3.7). IPv6 loopback and link-local addresses are never selected, IPv4 loopback addresses
    /// only with `loopback` (spec §3.10).
    pub fn select(&self, ips: &PerFamily<Option<IpAddr>>, local: &[IpAddr], loopback: bool) -> Vec<IpAddr> {
        let mut selected: Vec<IpAddr> = Family::ALL
            .into_iter()
            .flat_map(|family| self.select_family(family, ips, local, loopback))
            .collect();
        selected.sort_unstable();
        selected.dedup();
        selected
    }

    /// Whether every address of `family` is selected, whatever addresses there are.
    pub fn selects_all(&self, family: Family, ips: &PerFamily<Option<IpAddr>>) -> bool {
        match self {
            NodePortAddresses::Primary => ips.get(family).is_none(),
            NodePortAddresses::Networks(networks) => {
                let mut networks =
                    networks.iter().filter(|network| Family::of(network.addr()) == family).peekable();
                networks.peek().is_none() || networks.any(|network| network.prefix_len() == 0)
            }
        }
    }

    /// Whether IPv4 loopback addresses are among the selected (spec §3.10): a network that is all of IPv4, or has
    /// 127.0.0.0, or begins with a loopback address.
    pub fn selects_loopback(&self, ips: &PerFamily<Option<IpAddr>>) -> bool {
        let NodePortAddresses::Networks(networks) = self else {
            return self.selects_all(Family::V4, ips);
        };
        self.selects_all(Family::V4, ips)
            || networks.iter().any(|network| {
                network.addr().is_ipv4()
                    && (network.addr().is_loopback()
                        || network.contains(&IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0))))
            })
    }

    fn select_family(
        &self,
        family: Family,
        ips: &PerFamily<Option<IpAddr>>,
        local: &[IpAddr],
        loopback: bool,
    ) -> Vec<IpAddr> {
        let networks: &[IpNet] = match (self, ips.get(family)) {
            (NodePortAddresses::Primary, Some(ip)) => return vec![*ip],
            (NodePortAddresses::Primary, None) => &[],
            (NodePortAddresses::Networks(networks), _) => networks,
        };
        let all = self.selects_all(family, ips);
        local
            .iter()
            .copied()
            .filter(|address| Family::of(*address) == family && can_answer(*address, loopback))
            .filter(|address| all || networks.iter().any(|network| network.contains(address)))
            .collect()
    }
}

fn can_answer(address: IpAddr, loopback: bool) -> bool {
    match address {
        IpAddr::V4(v4) => loopback || !v4.is_loopback(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}

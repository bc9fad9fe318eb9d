//! Whether a configuration fits the node it is for (spec §10D).

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use portolan_service::{Family, NodePortSelector};

use crate::config::{Config, DetectLocalMode, Mode};
use crate::problem::{ConfigError, Level, Note, Place};

/// What is known of the node when the proxy starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// The family of the node's first address (spec §1.33).
    pub primary: Family,
    /// Both families can be forwarded on this host (spec §1.32).
    pub dual_stack: bool,
    /// The node's addresses, as its Node object has them.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs` of its Node object.
    pub pod_cidrs: Vec<IpNet>,
}

impl Config {
    /// What of this does not fit the node: notes for the log, or reasons not to start (spec §10.19,
    /// §10.20).
    pub fn check_node(&self, node: &NodeFacts) -> Result<Vec<Note>, Vec<ConfigError>> {
        let mut notes = Vec::new();
        let mut errors = Vec::new();
        let place = |field: &str| Place::Default { field: field.to_owned() };
        let mut warn = |field: &str, message: String| {
            notes.push(Note { level: Level::Warning, place: place(field), message });
        };
        let wrong = other(node.primary);
        let family_of_node = if node.dual_stack {
            format!("{wrong} only, but the node's first address is {}", node.primary)
        } else {
            format!("{wrong} only, but the node is {} only", node.primary)
        };

        self.check_nodeport_addresses(node, &mut warn);
        let local = &self.detect_local;
        if local.mode == DetectLocalMode::ClusterCidr && all_of(&local.cluster_cidrs, wrong) {
            if node.dual_stack {
                warn("clusterCIDR", family_of_node.clone());
            } else {
                let message = format!("{family_of_node}; give the pods' network of that family");
                errors.push(ConfigError { place: place("clusterCIDR"), message });
            }
        }
        if local.mode == DetectLocalMode::NodeCidr && all_of(&node.pod_cidrs, wrong) {
            let message = format!("NodeCIDR: the podCIDRs of the Node are {family_of_node}");
            errors.push(ConfigError { place: place("detectLocalMode"), message });
        }
        if self.mode == Mode::Ipvs && all_of(&self.ipvs.exclude_cidrs, wrong) {
            warn("ipvs.excludeCIDRs", family_of_node.clone());
        }
        let servers = [("healthzBindAddress", self.healthz), ("metricsBindAddress", Some(self.metrics))];
        for (field, address) in servers {
            if let Some(address) = address.filter(|address| is_out_of_place(address, wrong)) {
                warn(field, format!("{address} is {family_of_node}"));
            }
        }
        if errors.is_empty() { Ok(notes) } else { Err(errors) }
    }

    fn check_nodeport_addresses(&self, node: &NodeFacts, warn: &mut impl FnMut(&str, String)) {
        let field = "nodePortAddresses";
        let selectors = &self.nodeport_addresses.0;
        let networks = selectors.iter().filter_map(|selector| match selector {
            NodePortSelector::Network(network) => Some(*network),
            // The words are about both families.
            NodePortSelector::Primary | NodePortSelector::Localhost | NodePortSelector::All => None,
        });
        let networks: &[IpNet] = &networks.collect::<Vec<_>>();
        if networks.len() < selectors.len() {
            return;
        }
        let wrong = other(node.primary);
        if networks.is_empty() {
            let message = "not set: NodePorts answer on all addresses of this node; set it to [primary] for the node's \
                           own alone";
            warn(field, message.to_owned());
        } else if all_of(networks, wrong) {
            warn(
                field,
                format!("{wrong} only: NodePorts answer on all {} addresses of this node", node.primary),
            );
        } else if let Some(missing) = self.dual_stack_without(networks, node) {
            let message = format!(
                "no {missing} network, but cluster and node have both families: NodePorts answer on all {missing} \
                 addresses of this node"
            );
            warn(field, message);
        }
    }

    /// The family that is missing in `networks`, if anything else in the configuration has both.
    fn dual_stack_without(&self, networks: &[IpNet], node: &NodeFacts) -> Option<Family> {
        let both = |families: &[Family]| Family::ALL.iter().all(|family| families.contains(family));
        let of_networks = |networks: &[IpNet]| families(networks.iter().map(IpNet::addr));
        let dual = both(&of_networks(&self.detect_local.cluster_cidrs))
            || both(&of_networks(&node.pod_cidrs))
            || both(&families(node.addresses.iter().copied()));
        let given = of_networks(networks);
        dual.then(|| Family::ALL.into_iter().find(|family| !given.contains(family))).flatten()
    }
}

fn families(addresses: impl Iterator<Item = IpAddr>) -> Vec<Family> {
    addresses.map(Family::of).collect()
}

fn other(family: Family) -> Family {
    match family {
        Family::V4 => Family::V6,
        Family::V6 => Family::V4,
    }
}

fn all_of(networks: &[IpNet], family: Family) -> bool {
    !networks.is_empty() && networks.iter().all(|network| Family::of(network.addr()) == family)
}

/// Unspecified and loopback addresses of either family are on every host.
fn is_out_of_place(address: &SocketAddr, wrong: Family) -> bool {
    let ip = address.ip();
    Family::of(ip) == wrong && !ip.is_unspecified() && !ip.is_loopback()
}

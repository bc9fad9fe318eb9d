//! What a lab is made of.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::Error;

/// A whole lab.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    /// The nodes.
    pub nodes: Vec<NodeSpec>,
    /// The pods to begin with.
    pub pods: Vec<PodSpec>,
    /// The machine outside.
    pub client: ClientSpec,
    /// Addresses of the control plane, with the prefix of the underlay; none without one.
    pub control_plane: Vec<IpNet>,
}

/// A node.
#[derive(Debug, Clone)]
pub struct NodeSpec {
    /// Its name.
    pub name: String,
    /// Its addresses with the prefix of the underlay; the first of each family is the one others
    /// route to.
    pub addresses: Vec<IpNet>,
    /// Its pod networks. The first host address of each is the node's own, on the bridge.
    pub pod_networks: Vec<IpNet>,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSpec {
    /// Its name, unique in the lab.
    pub name: String,
    /// Its node's name.
    pub node: String,
    /// Its addresses; on the host network, those of the node that it answers on.
    pub addresses: Vec<IpAddr>,
    /// The ports that its responder answers on, TCP and UDP.
    pub ports: Vec<u16>,
    /// Whether it shares its node's network.
    pub host_network: bool,
}

/// The machine outside of the cluster.
#[derive(Debug, Clone, Default)]
pub struct ClientSpec {
    /// Its addresses with the prefix of the underlay; the first of each family is the nodes'
    /// default gateway.
    pub addresses: Vec<IpNet>,
    /// Further addresses on its loopback interface.
    pub local: Vec<IpAddr>,
    /// The node that its packets to everything but pods and nodes go to; the first if none.
    pub gateway: Option<String>,
}

impl NodeSpec {
    /// The node's own address in each of its pod networks, with the network's prefix.
    pub fn gateways(&self) -> Vec<IpNet> {
        let first = |network: &IpNet| {
            let address = network.hosts().next().unwrap_or_else(|| network.addr());
            // hosts() begins with the network's own address for IPv6, which is the routers' anycast
            // (RFC 4291 §2.6.1).
            let address = match address {
                IpAddr::V6(address)
                    if network.prefix_len() < 127 && IpAddr::V6(address) == network.network() =>
                {
                    IpAddr::V6((u128::from(address) + 1).into())
                }
                address => address,
            };
            IpNet::new(address, network.prefix_len()).unwrap_or(*network)
        };
        self.pod_networks.iter().map(first).collect()
    }

    fn holds(&self, address: IpAddr) -> bool {
        self.addresses.iter().chain(&self.gateways()).any(|own| own.addr() == address)
    }
}

impl PodSpec {
    /// Those of its addresses that are in none of its node's pod networks.
    pub(super) fn foreign_addresses(&self, node: &NodeSpec) -> impl Iterator<Item = IpAddr> {
        self.addresses
            .iter()
            .copied()
            .filter(|address| !node.pod_networks.iter().any(|network| network.contains(address)))
    }
}

/// Names and addresses of nodes and client are unique.
pub(super) fn check_nodes(client: &ClientSpec, nodes: &[&NodeSpec]) -> Result<(), Error> {
    let mut names = vec!["client"];
    let mut holders: BTreeMap<IpAddr, &str> =
        client.addresses.iter().map(|network| (network.addr(), "client")).collect();
    for node in nodes {
        if names.contains(&node.name.as_str()) {
            return Err(Error::Exists { kind: "node", name: node.name.clone() });
        }
        names.push(&node.name);
        for network in node.addresses.iter().chain(&node.gateways()) {
            if let Some(other) = holders.insert(network.addr(), &node.name) {
                let holder = format!("node {}", node.name);
                return Err(Error::AddressTaken { holder, address: network.addr(), other: other.to_owned() });
            }
        }
    }
    Ok(())
}

/// No pod has an address of a new node.
pub(super) fn check_held<'a>(node: &NodeSpec, pods: impl Iterator<Item = &'a PodSpec>) -> Result<(), Error> {
    for pod in pods.filter(|pod| !pod.host_network) {
        if let Some(address) = pod.addresses.iter().find(|address| node.holds(**address)) {
            let holder = format!("node {}", node.name);
            return Err(Error::AddressTaken { holder, address: *address, other: pod.name.clone() });
        }
    }
    Ok(())
}

/// Whether a new pod's addresses are its own.
pub(super) fn check_free<'a>(
    pod: &PodSpec,
    mut others: impl Iterator<Item = &'a PodSpec>,
    nodes: &[&NodeSpec],
) -> Result<(), Error> {
    if pod.host_network {
        return Ok(());
    }
    let taken = |address: IpAddr, other: &str| Error::AddressTaken {
        holder: format!("pod {}", pod.name),
        address,
        other: other.to_owned(),
    };
    for address in &pod.addresses {
        if let Some(node) = nodes.iter().find(|node| node.holds(*address)) {
            return Err(taken(*address, &node.name));
        }
    }
    match others.find_map(|other| {
        Some((other, other.addresses.iter().find(|address| pod.addresses.contains(address))?))
    }) {
        Some((other, address)) => Err(taken(*address, &other.name)),
        None => Ok(()),
    }
}

/// The network that holds this address alone.
pub fn single(address: IpAddr) -> IpNet {
    address.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, address: &str, pods: &str) -> NodeSpec {
        NodeSpec {
            name: name.to_owned(),
            addresses: vec![address.parse().unwrap()],
            pod_networks: vec![pods.parse().unwrap()],
        }
    }

    #[test]
    fn gateway_is_the_first_host_address() {
        for (pods, gateway) in [
            ("10.244.1.0/24", "10.244.1.1/24"),
            ("172.16.166.128/26", "172.16.166.129/26"),
            ("10.0.0.4/31", "10.0.0.4/31"),
            ("fd00:244:1::/64", "fd00:244:1::1/64"),
        ] {
            assert_eq!(
                node("n", "192.168.50.1/24", pods).gateways(),
                [gateway.parse::<IpNet>().unwrap()],
                "{pods}"
            );
        }
    }

    #[test]
    fn collisions_are_refused() {
        let one = || node("one", "192.168.50.1/24", "10.244.1.0/24");
        for (situation, other, message) in [
            (
                "same name",
                node("one", "192.168.50.2/24", "10.244.2.0/24"),
                "node \"one\" exists already; choose another name",
            ),
            (
                "name of the client",
                node("client", "192.168.50.2/24", "10.244.2.0/24"),
                "node \"client\" exists already; choose another name",
            ),
            (
                "same address",
                node("two", "192.168.50.1/24", "10.244.2.0/24"),
                "node two: address 192.168.50.1 is taken by one; give one of them another",
            ),
            (
                "same gateway",
                node("two", "192.168.50.2/24", "10.244.1.0/24"),
                "node two: address 10.244.1.1 is taken by one; give one of them another",
            ),
        ] {
            let refused = check_nodes(&ClientSpec::default(), &[&one(), &other]);
            assert_eq!(refused.unwrap_err().to_string(), message, "{situation}");
        }
    }

    #[test]
    fn addresses_of_pods_are_their_own() {
        let node = node("one", "192.168.50.1/24", "10.244.1.0/24");
        let pod = |name: &str, address: &str, host_network| PodSpec {
            name: name.to_owned(),
            node: "one".to_owned(),
            addresses: vec![address.parse().unwrap()],
            ports: vec![],
            host_network,
        };
        let present = [pod("a", "10.244.1.2", false)];
        for (situation, new, free) in [
            ("another address", pod("b", "10.244.1.3", false), true),
            ("a pod's address", pod("b", "10.244.1.2", false), false),
            ("the gateway", pod("b", "10.244.1.1", false), false),
            ("the node's address", pod("b", "192.168.50.1", false), false),
            ("the node's address, on the host network", pod("b", "192.168.50.1", true), true),
        ] {
            assert_eq!(check_free(&new, present.iter(), &[&node]).is_ok(), free, "{situation}");
        }
    }
}

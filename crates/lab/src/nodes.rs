//! The nodes of a cluster: as Node objects ask for them, or the lab's own, and the client outside.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use crate::proxy::ProxyMode;
use crate::topology::{ClientSpec, NodeSpec};

/// A node that somebody asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Asked {
    name: String,
    addresses: Vec<IpAddr>,
    pod_networks: Vec<IpNet>,
    /// A pod network in place of the chosen one of IPv4.
    around: Option<IpNet>,
    labels: Map<String, Value>,
    taints: Value,
}

/// A node, and what its object has from its owner.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) spec: NodeSpec,
    /// The mode that its proxy starts in, and that its host ports are in.
    pub(crate) proxy_mode: ProxyMode,
    labels: Map<String, Value>,
    taints: Value,
}

impl Asked {
    /// As a Node object asks for it. What it says nothing of is chosen.
    pub(crate) fn of(object: &Value) -> Result<Asked, String> {
        let name = object["metadata"]["name"].as_str().filter(|name| !name.is_empty());
        let name = name.ok_or("Node: metadata.name: is missing; give one")?.to_owned();
        let mut asked = Asked { name, ..Asked::default() };
        let networks = object["spec"]["podCIDRs"].as_array().into_iter().flatten();
        for network in networks.chain([&object["spec"]["podCIDR"]]).filter_map(Value::as_str) {
            let parsed: IpNet = network.parse().map_err(|_| {
                format!(
                    "Node {}: spec.podCIDRs: {network:?} is not a network such as 10.244.1.0/24",
                    asked.name
                )
            })?;
            if !asked.pod_networks.contains(&parsed.trunc()) {
                asked.pod_networks.push(parsed.trunc());
            }
        }
        for address in object["status"]["addresses"].as_array().into_iter().flatten() {
            let (kind, text) = (&address["type"], address["address"].as_str());
            if let Some(text) = text.filter(|_| kind == "InternalIP") {
                let parsed = text.parse().map_err(|_| {
                    format!("Node {}: status.addresses: {text:?} is not an IP address", asked.name)
                })?;
                asked.addresses.push(parsed);
            }
        }
        asked.labels = object["metadata"]["labels"].as_object().cloned().unwrap_or_default();
        asked.taints = object["spec"]["taints"].clone();
        Ok(asked)
    }

    /// One of this name.
    pub(crate) fn named(name: &str) -> Asked {
        Asked { name: name.to_owned(), ..Asked::default() }
    }

    /// One of this name that a pod with this address is on.
    pub(crate) fn of_pod(name: &str, address: Option<IpAddr>) -> Asked {
        let around = address.filter(IpAddr::is_ipv4).and_then(|address| IpNet::new(address, 24).ok());
        Asked { around: around.map(|network| network.trunc()), ..Asked::named(name) }
    }

    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name == name
    }
}

/// The nodes that are asked for.
pub(crate) fn nodes(asked: &[Asked]) -> Vec<Node> {
    let mut nodes = Vec::new();
    for one in asked {
        let next = next(one, &nodes, asked);
        nodes.push(next);
    }
    nodes
}

/// The node that is asked for, beside those that are there and will be.
pub(crate) fn next(asked: &Asked, present: &[Node], to_come: &[Asked]) -> Node {
    let given = to_come.iter().flat_map(|other| other.pod_networks.iter().chain(&other.around));
    let present_networks = present.iter().flat_map(|node| &node.spec.pod_networks);
    let taken: BTreeSet<IpNet> = present_networks.chain(given).copied().collect();
    let given = to_come.iter().flat_map(|other| other.addresses.iter().copied());
    let addresses: BTreeSet<IpAddr> =
        present.iter().flat_map(|node| node.spec.addresses.iter().map(IpNet::addr)).chain(given).collect();
    let number = u16::try_from(present.len() + 1).unwrap_or(u16::MAX);
    let mut pod_networks = asked.pod_networks.clone();
    if pod_networks.is_empty() {
        let [v4, v6] = chosen_networks(number, &taken);
        pod_networks = vec![asked.around.unwrap_or(v4), v6];
    }
    let mut own = asked.addresses.clone();
    for is_v4 in [true, false] {
        let needed = pod_networks.iter().any(|network| network.addr().is_ipv4() == is_v4);
        if needed && !own.iter().any(|address| address.is_ipv4() == is_v4) {
            let near = present.first().and_then(|node| {
                let mut all = node.spec.addresses.iter();
                all.find(|network| network.addr().is_ipv4() == is_v4).copied()
            });
            let network = near.unwrap_or_else(|| on_underlay(usual_address(is_v4)));
            own.extend(free_host(network, number, &addresses));
        }
    }
    let addresses = own.into_iter().map(on_underlay).collect();
    let spec = NodeSpec { name: asked.name.clone(), addresses, pod_networks };
    let (labels, taints) = (asked.labels.clone(), asked.taints.clone());
    Node { spec, proxy_mode: ProxyMode::default(), labels, taints }
}

/// A name like those of the lab's own nodes that no node has.
pub(crate) fn free_name(present: &[Node]) -> String {
    let mut names = (present.len() + 1..).map(|number| format!("host{number}"));
    let is_free = |name: &String| present.iter().all(|node| node.spec.name != *name);
    names.find(is_free).unwrap_or_default()
}

/// So many pod networks are looked at for one that is free: a lab has no more nodes.
const MOST_SUBNETS: usize = 1 << 10;

/// A node of this name beside those that are there: near the first, with pod networks of the same
/// size as its, out of those that hold all pods.
pub(crate) fn joining(name: &str, present: &[Node], cluster_networks: &[IpNet]) -> Result<Node, String> {
    let first = present.first().map(|node| node.spec.pod_networks.as_slice()).unwrap_or_default();
    let taken = || present.iter().flat_map(|node| &node.spec.pod_networks);
    let mut asked = Asked::named(name);
    for cluster in cluster_networks {
        let is_v4 = |network: &IpNet| network.addr().is_ipv4();
        let like = first.iter().find(|network| is_v4(network) == is_v4(cluster));
        let length = like.map_or(cluster.prefix_len(), IpNet::prefix_len);
        let subnets = cluster.subnets(length).map_err(|error| error.to_string())?;
        let overlaps = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
        // The first one is nobody's, as at the start.
        // A taken one that is larger takes some of this size with it.
        let mut subnets = subnets.skip(1).take(MOST_SUBNETS);
        let free = subnets.find(|network| !taken().any(|taken| overlaps(network, taken)));
        asked.pod_networks.push(free.ok_or_else(|| {
            format!("node {name}: no /{length} of {cluster}, which holds all pods, is free; begin a new lab")
        })?);
    }
    Ok(next(&asked, present, &[]))
}

/// Pod networks that nobody has, numbered like the node if that can be.
fn chosen_networks(number: u16, taken: &BTreeSet<IpNet>) -> [IpNet; 2] {
    let v4 = |number: u16| {
        let address = [10, 244, number.to_be_bytes()[1], 0].into();
        IpNet::from(ipnet::Ipv4Net::new(address, 24).unwrap_or_default())
    };
    let v6 = |number: u16| {
        IpNet::from(
            ipnet::Ipv6Net::new([0xfd00, 0x244, number, 0, 0, 0, 0, 0].into(), 64).unwrap_or_default(),
        )
    };
    let numbers = || (number..=255).chain(0..number);
    let free = |network: &IpNet| !taken.contains(network);
    let (v4, v6) = (numbers().map(v4).find(free), numbers().map(v6).find(free));
    // With 256 nodes the kernel is asked for what is taken, and says so.
    [v4.unwrap_or_default(), v6.unwrap_or_default()]
}

/// In the network that the lab takes where nobody says.
fn usual_address(is_v4: bool) -> IpAddr {
    if is_v4 { [192, 168, 50, 0].into() } else { [0xfd00, 0x50, 0, 0, 0, 0, 0, 0].into() }
}

/// The address of this number in the network, or the next that nobody has.
fn free_host(network: IpNet, number: u16, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let host = |number: u16| match network.network() {
        IpAddr::V4(first) => IpAddr::from((u32::from(first) + u32::from(number)).to_be_bytes()),
        IpAddr::V6(first) => IpAddr::from((u128::from(first) + u128::from(number)).to_be_bytes()),
    };
    (number..number.saturating_add(150)).chain(1..number).map(host).find(|address| !taken.contains(address))
}

fn on_underlay(address: IpAddr) -> IpNet {
    IpNet::new(address, if address.is_ipv4() { 24 } else { 64 }).unwrap_or_else(|_| address.into())
}

/// Neighbours of the nodes that are none, in each of their families: addresses with numbers from
/// `first` on.
fn neighbour(nodes: &[Node], first: [u16; 2]) -> Vec<IpNet> {
    let all = || nodes.iter().flat_map(|node| &node.spec.addresses);
    let taken: BTreeSet<IpAddr> = all().map(IpNet::addr).collect();
    let mut addresses: Vec<IpNet> = Vec::new();
    for (is_v4, number) in [true, false].into_iter().zip(first) {
        let network = all().find(|network| network.addr().is_ipv4() == is_v4);
        let free = network.and_then(|network| free_host(*network, number, &taken));
        addresses.extend(free.map(on_underlay));
    }
    addresses
}

/// The machine outside.
pub(crate) fn client(nodes: &[Node]) -> ClientSpec {
    ClientSpec { addresses: neighbour(nodes, [100, 0x100]), local: vec![], gateway: None }
}

/// Where the API server is.
pub(crate) fn control_plane(nodes: &[Node]) -> Vec<IpNet> {
    neighbour(nodes, [250, 0x250])
}

/// The networks that hold all pods, one for each family, at a round prefix length, with room for
/// further nodes if those that there are have small ones.
pub(crate) fn cluster_networks(nodes: &[Node]) -> Vec<IpNet> {
    [true, false]
        .into_iter()
        .filter_map(|is_v4| {
            let networks: Vec<_> = nodes
                .iter()
                .flat_map(|node| &node.spec.pod_networks)
                .filter(|network| network.addr().is_ipv4() == is_v4)
                .collect();
            let first = networks.first()?;
            let (step, roomy) = if is_v4 { (8, 16) } else { (16, 48) };
            (0..=first.prefix_len().min(roomy))
                .rev()
                .filter(|length| *length % step == 0 || *length == first.prefix_len())
                .filter_map(|length| IpNet::new(first.addr(), length).ok())
                .map(|network| network.trunc())
                .find(|network| networks.iter().all(|other| network.contains(*other)))
        })
        .collect()
}

impl Node {
    /// Its object, without a status.
    pub(crate) fn object(&self) -> Value {
        let mut labels = Map::from_iter([
            ("kubernetes.io/arch".to_owned(), json!(architecture())),
            ("kubernetes.io/hostname".to_owned(), json!(self.spec.name)),
            ("kubernetes.io/os".to_owned(), json!("linux")),
        ]);
        labels.extend(self.labels.clone());
        let mut spec = json!({
            "podCIDR": self.spec.pod_networks.first(),
            "podCIDRs": self.spec.pod_networks,
            "providerID": format!("portolan-lab://{}", self.spec.name),
        });
        if self.taints.is_array() {
            spec["taints"] = self.taints.clone();
        }
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": self.spec.name, "labels": labels },
            "spec": spec,
        })
    }

    /// Its addresses, as the status of its object has them.
    pub(crate) fn addresses(&self) -> Value {
        let own = self.spec.addresses.iter().map(IpNet::addr);
        let own = own.map(|address| json!({ "type": "InternalIP", "address": address }));
        json!(own.chain([json!({ "type": "Hostname", "address": self.spec.name })]).collect::<Vec<_>>())
    }
}

/// As Go calls the processor.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str, addresses: &[&str], networks: &[&str]) -> Asked {
        let addresses: Vec<Value> =
            addresses.iter().map(|address| json!({ "type": "InternalIP", "address": address })).collect();
        let object = json!({ "metadata": { "name": name }, "spec": { "podCIDRs": networks },
            "status": { "addresses": addresses } });
        Asked::of(&object).unwrap()
    }

    fn brief(nodes: &[Node]) -> Vec<String> {
        let line = |node: &Node| {
            format!("{} {:?} {:?}", node.spec.name, node.spec.addresses, node.spec.pod_networks)
        };
        nodes.iter().map(line).collect()
    }

    #[test]
    fn own_nodes_have_both_families() {
        let nodes = nodes(&[Asked::named("host1"), Asked::named("host2")]);
        assert_eq!(
            brief(&nodes),
            [
                "host1 [192.168.50.1/24, fd00:50::1/64] [10.244.1.0/24, fd00:244:1::/64]",
                "host2 [192.168.50.2/24, fd00:50::2/64] [10.244.2.0/24, fd00:244:2::/64]",
            ]
        );
        assert_eq!(format!("{:?}", client(&nodes).addresses), "[192.168.50.100/24, fd00:50::100/64]");
        assert_eq!(format!("{:?}", control_plane(&nodes)), "[192.168.50.250/24, fd00:50::250/64]");
        assert_eq!(format!("{:?}", cluster_networks(&nodes)), "[10.244.0.0/16, fd00:244::/32]");
    }

    #[test]
    fn nodes_are_as_they_are_asked_for() {
        for (situation, wanted, expected) in [
            (
                "its network is another's number",
                vec![asked("a", &[], &["10.244.2.0/24"]), asked("b", &[], &[])],
                &[
                    "a [192.168.50.1/24] [10.244.2.0/24]",
                    "b [192.168.50.2/24, fd00:50::2/64] [10.244.3.0/24, fd00:244:2::/64]",
                ][..],
            ),
            (
                "near the others",
                vec![asked("a", &["10.20.30.71"], &["10.100.0.0/24"]), asked("b", &[], &["10.100.1.0/24"])],
                &["a [10.20.30.71/24] [10.100.0.0/24]", "b [10.20.30.2/24] [10.100.1.0/24]"],
            ),
            (
                "around a pod",
                vec![Asked::of_pod("a", "10.244.2.9".parse().ok()), asked("b", &[], &[])],
                &[
                    "a [192.168.50.1/24, fd00:50::1/64] [10.244.2.0/24, fd00:244:1::/64]",
                    "b [192.168.50.2/24, fd00:50::2/64] [10.244.3.0/24, fd00:244:2::/64]",
                ],
            ),
        ] {
            assert_eq!(brief(&nodes(&wanted)), expected, "{situation}");
        }
        let wrong = json!({ "metadata": { "name": "a" }, "spec": { "podCIDR": "x" } });
        assert_eq!(
            Asked::of(&wrong).unwrap_err(),
            "Node a: spec.podCIDRs: \"x\" is not a network such as 10.244.1.0/24"
        );
    }

    #[test]
    fn nodes_join() {
        for (situation, present, expected) in [
            (
                "own nodes",
                vec![Asked::named("host1"), Asked::named("host2")],
                "host3 [192.168.50.3/24, fd00:50::3/64] [10.244.3.0/24, fd00:244:0:1::/64]",
            ),
            (
                "like those that are there",
                vec![asked("a", &["10.20.30.71"], &["10.100.0.0/24"]), asked("b", &[], &["10.100.1.0/24"])],
                "host3 [10.20.30.3/24] [10.100.2.0/24]",
            ),
            (
                "another one has gone",
                vec![Asked::named("host1"), Asked::named("host3")],
                "host4 [192.168.50.3/24, fd00:50::3/64] [10.244.3.0/24, fd00:244:0:1::/64]",
            ),
        ] {
            let present = nodes(&present);
            let joining = joining(&free_name(&present), &present, &cluster_networks(&present)).unwrap();
            assert_eq!(brief(&[joining]), [expected], "{situation}");
        }
        let full = nodes(&[asked("a", &[], &["10.32.0.0/12"])]);
        assert_eq!(
            joining("b", &full, &cluster_networks(&full)).unwrap_err(),
            "node b: no /12 of 10.32.0.0/12, which holds all pods, is free; begin a new lab"
        );
    }

    #[test]
    fn cluster_networks_hold_all_pods() {
        for (networks, expected) in [
            (&["172.16.166.128/26", "172.16.192.64/26"][..], "[172.16.0.0/16]"),
            (&["10.244.1.0/24"], "[10.244.0.0/16]"),
            (&["10.244.0.0/16"], "[10.244.0.0/16]"),
            (&["10.32.0.0/12"], "[10.32.0.0/12]"),
            (&["172.16.166.128/26"], "[172.16.0.0/16]"),
            (&["fd00:244:1::/64"], "[fd00:244:1::/48]"),
            (&["10.0.0.0/24", "172.16.0.0/24"], "[0.0.0.0/0]"),
        ] {
            let wanted: Vec<_> = networks
                .iter()
                .enumerate()
                .map(|(n, network)| asked(&format!("n{n}"), &[], &[network]))
                .collect();
            assert_eq!(format!("{:?}", cluster_networks(&nodes(&wanted))), expected);
        }
    }
}

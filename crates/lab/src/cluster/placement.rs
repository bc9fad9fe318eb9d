//! Which pod runs on which node, and with which addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use portolan_controllers::Naming;
use serde_json::{Value, json};

use super::workload::{Wanted, WantedNode, WantedPods};
use crate::Error;
use crate::topology::{ClientSpec, NodeSpec, PodSpec};

/// A pod in its place, with the object that the proxies know it by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed {
    pub(super) spec: PodSpec,
    pub(super) object: Value,
    pub(super) ready: bool,
    pub(super) namespace: String,
    pub(super) naming: Naming,
    pub(super) runs_dns: bool,
}

impl Placed {
    /// Its name in the API, without its namespace.
    pub(super) fn name(&self) -> &str {
        self.spec.name.rsplit('/').next().unwrap_or_default()
    }
}

/// The nodes that manifests ask for, or `count` of the lab's own, and the client outside.
pub(super) fn nodes(wanted: &[Wanted], count: usize) -> (Vec<NodeSpec>, ClientSpec) {
    let mut asked: Vec<WantedNode> = Vec::new();
    for item in wanted {
        if let Wanted::Node(node) = item
            && !asked.iter().any(|other| other.name == node.name)
        {
            asked.push(node.clone());
        }
    }
    let named_by_pods: BTreeSet<_> = wanted
        .iter()
        .filter_map(|item| match item {
            Wanted::Pods(pods) => pods.node.clone(),
            Wanted::Node(_) => None,
        })
        .collect();
    let bare = |name| WantedNode { name, addresses: vec![], pod_networks: vec![], labels: json!({}) };
    let complete = !asked.is_empty();
    let own = (1..=count).map(|number| format!("host{number}"));
    for (name, needed) in
        named_by_pods.iter().cloned().map(|name| (name, true)).chain(own.map(|name| (name, false)))
    {
        let enough = !needed && (complete || asked.len() >= count);
        if !enough && !asked.iter().any(|node| node.name == name) {
            asked.push(bare(name));
        }
    }

    let networks_are_chosen = asked.iter().all(|node| node.pod_networks.is_empty());
    let mut taken: BTreeSet<IpNet> =
        asked.iter().flat_map(|node| node.pod_networks.iter().copied()).collect();
    taken.extend(asked.iter().filter_map(|node| network_of_pods(wanted, &node.name)));
    let nodes: Vec<NodeSpec> = std::iter::zip(1u16.., &asked)
        .map(|(number, node)| {
            let mut pod_networks = node.pod_networks.clone();
            if pod_networks.is_empty() {
                let [v4, v6] = chosen_networks(number, &taken);
                pod_networks = vec![network_of_pods(wanted, &node.name).unwrap_or(v4)];
                pod_networks.extend(networks_are_chosen.then_some(v6));
                taken.extend(&pod_networks);
            }
            let mut addresses = node.addresses.clone();
            for chosen in underlay(number) {
                let is_v4 = chosen.is_ipv4();
                let needed = pod_networks.iter().any(|network| network.addr().is_ipv4() == is_v4);
                if needed && !addresses.iter().any(|address| address.is_ipv4() == is_v4) {
                    addresses.push(chosen);
                }
            }
            let addresses = addresses.into_iter().map(on_underlay).collect();
            NodeSpec { name: node.name.clone(), addresses, pod_networks }
        })
        .collect();
    let client = client(&nodes);
    (nodes, client)
}

/// The network around a pod on this node that has an address already.
fn network_of_pods(wanted: &[Wanted], node: &str) -> Option<IpNet> {
    wanted.iter().find_map(|item| match item {
        Wanted::Pods(pods) if pods.node.as_deref() == Some(node) && !pods.host_network => {
            let address = pods.addresses.iter().find(|address| address.is_ipv4())?;
            IpNet::new(*address, 24).ok().map(|network| network.trunc())
        }
        _ => None,
    })
}

/// Pod networks that nobody has, numbered like the node if that can be.
fn chosen_networks(number: u16, taken: &BTreeSet<IpNet>) -> [IpNet; 2] {
    let v4 = |number: u16| {
        let address = [10, 244, number.to_be_bytes()[1], 0].into();
        IpNet::from(ipnet::Ipv4Net::new(address, 24).unwrap_or_default())
    };
    let free = (number..=255).chain(0..number).map(v4).find(|network| !taken.contains(network));
    let v6 = ipnet::Ipv6Net::new([0xfd00, 0x244, number, 0, 0, 0, 0, 0].into(), 64);
    [free.unwrap_or_else(|| v4(number)), v6.unwrap_or_default().into()]
}

fn underlay(host: u16) -> [IpAddr; 2] {
    [[192, 168, 50, host.to_be_bytes()[1]].into(), [0xfd00, 0x50, 0, 0, 0, 0, 0, host].into()]
}

fn on_underlay(address: IpAddr) -> IpNet {
    IpNet::new(address, if address.is_ipv4() { 24 } else { 64 }).unwrap_or_else(|_| address.into())
}

/// A neighbour of the nodes, in each of their families.
fn client(nodes: &[NodeSpec]) -> ClientSpec {
    let taken: BTreeSet<IpAddr> = nodes.iter().flat_map(|node| &node.addresses).map(IpNet::addr).collect();
    let mut addresses: Vec<IpNet> = Vec::new();
    for network in nodes.iter().flat_map(|node| &node.addresses) {
        if addresses.iter().any(|own| own.addr().is_ipv4() == network.addr().is_ipv4()) {
            continue;
        }
        let host = |number: u8| match network.network() {
            IpAddr::V4(first) => IpAddr::from((u32::from(first) + u32::from(number)).to_be_bytes()),
            IpAddr::V6(first) => IpAddr::from((u128::from(first) + u128::from(number) + 0x9c).to_be_bytes()),
        };
        addresses.extend((100..=254).map(host).find(|address| !taken.contains(address)).map(on_underlay));
    }
    ClientSpec { addresses, local: vec![], gateway: None }
}

/// The networks that hold all pods, one for each family, at a round prefix length.
pub(super) fn cluster_networks(nodes: &[NodeSpec]) -> Vec<IpNet> {
    [true, false]
        .into_iter()
        .filter_map(|is_v4| {
            let networks: Vec<_> = nodes
                .iter()
                .flat_map(|node| &node.pod_networks)
                .filter(|network| network.addr().is_ipv4() == is_v4)
                .collect();
            let first = networks.first()?;
            let step = if is_v4 { 8 } else { 16 };
            (0..=first.prefix_len())
                .rev()
                .filter(|length| length % step == 0 || *length == first.prefix_len())
                .filter_map(|length| IpNet::new(first.addr(), length).ok())
                .map(|network| network.trunc())
                .find(|network| networks.iter().all(|other| network.contains(*other)))
        })
        .collect()
}

/// The Node objects of the lab's nodes.
pub(super) fn node_objects(nodes: &[NodeSpec], wanted: &[Wanted]) -> Vec<Value> {
    let given = |name: &str| {
        wanted.iter().find_map(|item| match item {
            Wanted::Node(node) if node.name == name => Some(node),
            _ => None,
        })
    };
    let incomplete = nodes.iter().filter(|node| {
        given(&node.name).is_none_or(|given| given.addresses.is_empty() || given.pod_networks.is_empty())
    });
    incomplete
        .map(|node| {
            let addresses =
                node.addresses.iter().map(|address| json!({"type": "InternalIP", "address": address.addr()}));
            json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": node.name,
                    "labels": given(&node.name).map_or_else(|| json!({}), |given| given.labels.clone()),
                },
                "spec": {"podCIDR": node.pod_networks.first(), "podCIDRs": node.pod_networks},
                "status": {"addresses": addresses.collect::<Vec<_>>()},
            })
        })
        .collect()
}

/// Places all pods. Those of `before` that are still wanted stay where they are; the others go
/// round the nodes. `preferred` addresses are given out first.
pub(super) fn pods(
    wanted: &[Wanted],
    nodes: &[NodeSpec],
    before: &BTreeMap<String, Placed>,
    preferred: &[IpAddr],
) -> Result<BTreeMap<String, Placed>, Error> {
    let all: Vec<(&WantedPods, String, Option<&str>)> = wanted
        .iter()
        .filter_map(|item| match item {
            Wanted::Pods(pods) => Some(pods),
            Wanted::Node(_) => None,
        })
        .flat_map(|pods| {
            let of_nodes = nodes.iter().map(|node| node.name.as_str());
            pods.pods(of_nodes).into_iter().map(move |(name, node)| (pods, name, node))
        })
        .collect();
    let names: BTreeSet<&String> = all.iter().map(|(_, name, _)| name).collect();
    let mut taken: BTreeSet<IpAddr> = nodes
        .iter()
        .flat_map(|node| node.addresses.iter().copied().chain(node.gateways()))
        .map(|net| net.addr())
        .collect();
    taken.extend(
        before.iter().filter(|(name, _)| names.contains(name)).flat_map(|(_, pod)| &pod.spec.addresses),
    );
    taken.extend(all.iter().flat_map(|(pods, _, _)| &pods.addresses));

    let mut placed: BTreeMap<String, Placed> = BTreeMap::new();
    for (number, (pods, name, on)) in all.iter().enumerate() {
        let old = before.get(name).map(|old| &old.spec);
        let node_name = on.map(str::to_owned).or_else(|| old.map(|old| old.node.clone()));
        let node = match &node_name {
            Some(node_name) => nodes.iter().find(|node| node.name == *node_name),
            None => nodes.get(number % nodes.len().max(1)),
        };
        let node = node.ok_or_else(|| Error::Unknown {
            kind: "node",
            name: node_name.unwrap_or_default(),
            known: nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", "),
        })?;
        let addresses = if pods.host_network {
            node.addresses.iter().map(IpNet::addr).collect()
        } else if !pods.addresses.is_empty() {
            pods.addresses.clone()
        } else if let Some(old) = old.filter(|old| old.node == node.name && !old.host_network) {
            old.addresses.clone()
        } else {
            choose(node, &mut taken, preferred)?
        };
        let spec = PodSpec {
            name: name.clone(),
            node: node.name.clone(),
            addresses,
            ports: pods.ports.clone(),
            host_network: pods.host_network,
        };
        let naming = pods.naming(name.rsplit('/').next().unwrap_or_default());
        let object = pod_object(pods, name, &spec, &naming);
        let (namespace, ready, runs_dns) = (pods.namespace.clone(), pods.ready, pods.runs_dns);
        let pod = Placed { spec, object, ready, namespace, naming, runs_dns };
        if placed.insert(name.clone(), pod).is_some() {
            return Err(Error::Exists { kind: "pod", name: name.clone() });
        }
    }
    Ok(placed)
}

/// A free address of each of the node's pod networks.
fn choose(node: &NodeSpec, taken: &mut BTreeSet<IpAddr>, preferred: &[IpAddr]) -> Result<Vec<IpAddr>, Error> {
    let full = || Error::NetworkFull {
        node: node.name.clone(),
        networks: node.pod_networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    node.pod_networks
        .iter()
        .map(|network| {
            let preferred = preferred.iter().copied().filter(|address| network.contains(address));
            let hosts = network.hosts().filter(|address| *address != network.network());
            let address = preferred.chain(hosts).find(|address| !taken.contains(address)).ok_or_else(full)?;
            taken.insert(address);
            Ok(address)
        })
        .collect()
}

fn pod_object(pods: &WantedPods, name: &str, spec: &PodSpec, naming: &Naming) -> Value {
    let addresses: Vec<_> = spec.addresses.iter().map(|address| json!({"ip": address})).collect();
    let mut of_spec = pods.naming_fields.clone();
    of_spec["nodeName"] = json!(spec.node);
    of_spec["containers"] = pods.containers.clone();
    if let Some(hostname) = &naming.hostname {
        of_spec["hostname"] = json!(**hostname);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name.rsplit('/').next(),
            "namespace": pods.namespace,
            "labels": pods.labels,
        },
        "spec": of_spec,
        "status": {
            "phase": "Running",
            "podIP": spec.addresses.first(),
            "podIPs": addresses,
            "conditions": [{"type": "Ready", "status": if pods.ready { "True" } else { "False" }}],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::workload::Count;
    use super::*;

    fn replicas(name: &str, replicas: u32) -> Wanted {
        Wanted::Pods(WantedPods {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            count: Count::Replicas(replicas),
            labels: json!({}),
            node: None,
            addresses: vec![],
            host_network: false,
            containers: json!([]),
            ports: vec![8080],
            ready: true,
            naming: Box::default(),
            naming_fields: json!({}),
            runs_dns: false,
        })
    }

    fn node(name: &str, addresses: &[&str], networks: &[&str]) -> Wanted {
        Wanted::Node(WantedNode {
            name: name.to_owned(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            pod_networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
            labels: json!({}),
        })
    }

    fn brief(pods: &BTreeMap<String, Placed>) -> Vec<String> {
        pods.values()
            .map(|pod| format!("{} {} {}", pod.spec.name, pod.spec.node, pod.spec.addresses[0]))
            .collect()
    }

    #[test]
    fn own_nodes_have_both_families() {
        let (nodes, client) = nodes(&[], 2);
        let text: Vec<_> = nodes
            .iter()
            .map(|node| format!("{} {:?} {:?}", node.name, node.addresses, node.pod_networks))
            .collect();
        assert_eq!(
            text,
            [
                "host1 [192.168.50.1/24, fd00:50::1/64] [10.244.1.0/24, fd00:244:1::/64]",
                "host2 [192.168.50.2/24, fd00:50::2/64] [10.244.2.0/24, fd00:244:2::/64]",
            ]
        );
        assert_eq!(format!("{:?}", client.addresses), "[192.168.50.100/24, fd00:50::100/64]");
        assert_eq!(format!("{:?}", cluster_networks(&nodes)), "[10.244.0.0/16, fd00:244::/32]");
    }

    #[test]
    fn nodes_are_those_of_the_manifests() {
        let fixed = |node: &str, address: &str| {
            let Wanted::Pods(mut pods) = replicas("fixed", 1) else { unreachable!() };
            pods.count = Count::One;
            pods.node = Some(node.to_owned());
            pods.addresses = vec![address.parse().unwrap()];
            Wanted::Pods(pods)
        };
        for (situation, wanted, expected) in [
            (
                "a pod names one",
                vec![fixed("cc-sauron", "10.244.0.115")],
                "cc-sauron 10.244.0.0/24, host1 10.244.2.0/24",
            ),
            (
                "its network is another's number",
                vec![fixed("a", "10.244.2.9")],
                "a 10.244.2.0/24, host1 10.244.3.0/24",
            ),
            ("Node objects are all", vec![node("one", &[], &["10.16.0.0/24"])], "one 10.16.0.0/24"),
            (
                "but for what a pod names",
                vec![node("one", &[], &["10.16.0.0/24"]), fixed("two", "10.16.1.8")],
                "one 10.16.0.0/24, two 10.16.1.0/24",
            ),
        ] {
            let nodes: Vec<_> = nodes(&wanted, 2)
                .0
                .iter()
                .map(|node| format!("{} {}", node.name, node.pod_networks[0]))
                .collect();
            assert_eq!(nodes.join(", "), expected, "{situation}");
        }
    }

    #[test]
    fn cluster_networks_hold_all_pods() {
        for (networks, expected) in [
            (&["172.16.166.128/26", "172.16.192.64/26"][..], "[172.16.0.0/16]"),
            (&["10.244.1.0/24"], "[10.244.1.0/24]"),
            (&["172.16.166.128/26"], "[172.16.166.128/26]"),
            (&["10.0.0.0/24", "172.16.0.0/24"], "[0.0.0.0/0]"),
        ] {
            let wanted: Vec<_> = networks
                .iter()
                .enumerate()
                .map(|(n, network)| node(&format!("n{n}"), &[], &[network]))
                .collect();
            assert_eq!(format!("{:?}", cluster_networks(&nodes(&wanted, 2).0)), expected);
        }
    }

    #[test]
    fn pods_go_round_and_stay() {
        let wanted = [node("one", &[], &["172.16.166.128/26"]), node("two", &[], &["172.16.192.64/26"])];
        let (nodes, _) = nodes(&wanted, 2);
        let preferred = ["172.16.192.89".parse().unwrap()];
        let first = pods(&[replicas("web", 2)], &nodes, &BTreeMap::new(), &preferred).unwrap();
        assert_eq!(brief(&first), ["web-1 one 172.16.166.130", "web-2 two 172.16.192.89"]);
        // One less, and others before it in the list.
        let second = pods(&[replicas("a", 1), replicas("web", 1)], &nodes, &first, &preferred).unwrap();
        assert_eq!(brief(&second), ["a-1 one 172.16.166.131", "web-1 one 172.16.166.130"]);
    }

    #[test]
    fn full_networks_are_told() {
        let wanted = [node("one", &[], &["10.0.0.0/30"])];
        let error = pods(&[replicas("web", 2)], &nodes(&wanted, 1).0, &BTreeMap::new(), &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "node one: its pod networks 10.0.0.0/30 have no free address; give it a larger podCIDR"
        );
    }
}

//! Nodes, pods and a client outside, joined as in a cluster with one bridge a node.
//!
//! ```text
//!            underlay (bridge)
//!          /        |         \
//!     client     node 1     node 2      eth0        (the control plane is the underlay itself)
//!                 cbr0       cbr0       gateway: first address of the pod network
//!                /    \        |
//!             pod      pod    pod       eth0, a /32 or /128, everything by way of the node
//! ```
//!
//! Pods hold single addresses, so that packets between two pods of a node cross the node's rules in
//! both directions.

mod host;
mod spec;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

use crate::Error;
use crate::link::Links;
use crate::netns::Namespace;
use crate::responder::{Identity, Responder};
pub use spec::{ClientSpec, NodeSpec, PodSpec, Spec, single};

/// The interface of a host to the rest of the lab.
const UPLINK: &str = "eth0";
/// The bridge of a node's pods.
pub const POD_BRIDGE: &str = "cbr0";
/// The bridge between nodes and client.
const UNDERLAY: &str = "underlay";

/// Nodes, pods and a client. Everything goes when this is dropped.
#[derive(Debug)]
pub struct Lab {
    nodes: Vec<Node>,
    client: Host,
    pods: Mutex<Pods>,
    /// Holds the bridge, and is the control plane's network.
    underlay: Namespace,
}

#[derive(Debug)]
struct Node {
    spec: NodeSpec,
    namespace: Namespace,
}

#[derive(Debug)]
struct Host {
    spec: ClientSpec,
    namespace: Namespace,
}

#[derive(Debug, Default)]
struct Pods {
    by_name: BTreeMap<String, Pod>,
    /// How many there ever were; for names of interfaces.
    count: u32,
}

#[derive(Debug)]
struct Pod {
    spec: PodSpec,
    namespace: Namespace,
    /// The node's end of its link; none on the host network.
    interface: Option<String>,
    responder: Option<Responder>,
}

impl Lab {
    /// Builds what `spec` says, with the responders of its pods running.
    pub fn build(spec: &Spec) -> Result<Lab, Error> {
        spec.check()?;
        let ipv6 = spec.nodes.iter().flat_map(|node| &node.addresses).any(|network| network.addr().is_ipv6());
        let underlay = host::new_namespace("underlay", false, ipv6)?;
        underlay.run(|| {
            let mut links = Links::open("underlay")?;
            links.add_bridge(UNDERLAY)?;
            links.set_up(UNDERLAY)?;
            spec.control_plane.iter().try_for_each(|address| links.add_address(UNDERLAY, *address))
        })??;

        let client =
            Host { namespace: host::new_namespace("client", false, ipv6)?, spec: spec.client.clone() };
        host::plug(&underlay, "client", &client.namespace, &spec.client.addresses)?;
        client.namespace.run(|| {
            let mut links = Links::open("client")?;
            spec.client.local.iter().try_for_each(|address| links.add_address("lo", single(*address)))
        })??;

        let mut nodes = Vec::new();
        for (number, node) in spec.nodes.iter().enumerate() {
            let namespace = host::new_namespace(&node.name, true, ipv6)?;
            host::plug(&underlay, &format!("node{number}"), &namespace, &node.addresses)?;
            host::add_pod_bridge(&namespace, node)?;
            nodes.push(Node { spec: node.clone(), namespace });
        }
        let lab = Lab { nodes, client, pods: Mutex::default(), underlay };
        lab.connect(!spec.control_plane.is_empty())?;
        for pod in &spec.pods {
            lab.add_pod(pod.clone())?;
        }
        Ok(lab)
    }

    /// Routes between the nodes' pod networks, and between them and the client and the control
    /// plane.
    fn connect(&self, control_plane: bool) -> Result<(), Error> {
        for node in &self.nodes {
            for other in self.nodes.iter().filter(|other| other.spec.name != node.spec.name) {
                for network in &other.spec.pod_networks {
                    set_route(&node.namespace, *network, &other.spec)?;
                }
            }
            for default in defaults() {
                if let Some(via) = address_of_family(&self.client.spec.addresses, default) {
                    node.namespace.run(|| {
                        Links::open(node.namespace.name())?.set_route(default, Some(via), UPLINK)
                    })??;
                }
            }
            for network in &node.spec.pod_networks {
                set_route(&self.client.namespace, *network, &node.spec)?;
                if control_plane && let Some(via) = address_of_family(&node.spec.addresses, *network) {
                    self.underlay
                        .run(|| Links::open("underlay")?.set_route(*network, Some(via), UNDERLAY))??;
                }
            }
        }
        let gateway = match &self.client.spec.gateway {
            Some(name) => Some(self.node_of(name)?),
            None => self.nodes.first(),
        };
        if let Some(gateway) = gateway {
            for default in defaults() {
                set_route(&self.client.namespace, default, &gateway.spec)?;
            }
        }
        Ok(())
    }

    /// The names of the nodes, in the order of the spec.
    pub fn node_names(&self) -> Vec<&str> {
        self.nodes.iter().map(|node| node.spec.name.as_str()).collect()
    }

    /// What a node was made from.
    pub fn node_spec(&self, name: &str) -> Result<&NodeSpec, Error> {
        self.node_of(name).map(|node| &node.spec)
    }

    /// A node's namespace.
    pub fn node(&self, name: &str) -> Result<&Namespace, Error> {
        self.node_of(name).map(|node| &node.namespace)
    }

    /// The client's namespace.
    pub fn client(&self) -> &Namespace {
        &self.client.namespace
    }

    /// The namespace of the control plane, if the lab has one.
    pub fn control_plane(&self) -> &Namespace {
        &self.underlay
    }

    /// The addresses of the client.
    pub fn client_spec(&self) -> &ClientSpec {
        &self.client.spec
    }

    /// A pod's namespace; on the host network, its node's.
    pub fn pod(&self, name: &str) -> Result<Namespace, Error> {
        let pods = self.pods();
        pods.by_name.get(name).map(|pod| pod.namespace.clone()).ok_or_else(|| unknown_pod(&pods, name))
    }

    /// All pods, by name.
    pub fn pod_specs(&self) -> Vec<PodSpec> {
        self.pods().by_name.values().map(|pod| pod.spec.clone()).collect()
    }

    /// The namespace of `client`, a node or a pod of this name.
    pub fn namespace(&self, target: &str) -> Result<Namespace, Error> {
        if target == "client" {
            return Ok(self.client.namespace.clone());
        }
        if let Some(node) = self.nodes.iter().find(|node| node.spec.name == target) {
            return Ok(node.namespace.clone());
        }
        let pods = self.pods();
        pods.by_name.get(target).map(|pod| pod.namespace.clone()).ok_or_else(|| Error::Unknown {
            kind: "pod or node",
            name: target.to_owned(),
            known: ["client"]
                .into_iter()
                .chain(self.node_names())
                .chain(pods.by_name.keys().map(String::as_str))
                .collect::<Vec<_>>()
                .join(", "),
        })
    }

    /// Adds a pod and starts its responder.
    pub fn add_pod(&self, spec: PodSpec) -> Result<(), Error> {
        let node = self.node_of(&spec.node)?;
        let mut pods = self.pods();
        if pods.by_name.contains_key(&spec.name) {
            return Err(Error::Exists { kind: "pod", name: spec.name });
        }
        let others = pods.by_name.values().map(|pod| &pod.spec).filter(|other| !other.host_network);
        spec::check_free(&spec, others, &self.nodes.iter().map(|node| &node.spec).collect::<Vec<_>>())?;
        let (namespace, interface) = if spec.host_network {
            (node.namespace.clone(), None)
        } else {
            pods.count += 1;
            let interface = format!("veth{:x}", pods.count);
            (host::add_pod(&node.namespace, &node.spec, &spec, &interface)?, Some(interface))
        };
        if interface.is_some() {
            for address in spec.foreign_addresses(&node.spec) {
                for other in self.nodes.iter().filter(|other| other.spec.name != node.spec.name) {
                    set_route(&other.namespace, single(address), &node.spec)?;
                }
                set_route(&self.client.namespace, single(address), &node.spec)?;
            }
        }
        let mut pod = Pod { spec, namespace, interface, responder: None };
        pod.responder = Some(pod.respond()?);
        pods.by_name.insert(pod.spec.name.clone(), pod);
        Ok(())
    }

    /// Removes a pod: its responder, its processes' network, its link.
    pub fn remove_pod(&self, name: &str) -> Result<(), Error> {
        let mut pods = self.pods();
        let Some(pod) = pods.by_name.remove(name) else { return Err(unknown_pod(&pods, name)) };
        drop(pod.responder);
        let Some(interface) = &pod.interface else { return Ok(()) };
        let node = self.node_of(&pod.spec.node)?;
        node.namespace.run(|| {
            let mut links = Links::open(&pod.spec.node)?;
            links.remove(interface)?;
            // Its address may come back with another pod behind it.
            pod.spec.addresses.iter().try_for_each(|address| links.forget_neighbour(POD_BRIDGE, *address))
        })??;
        for address in pod.spec.foreign_addresses(&node.spec) {
            let others = self.nodes.iter().filter(|other| other.spec.name != node.spec.name);
            for from in others.map(|other| &other.namespace).chain([&self.client.namespace]) {
                let Some(via) = address_of_family(&node.spec.addresses, single(address)) else { continue };
                from.run(|| Links::open(from.name())?.remove_route(single(address), Some(via), UPLINK))??;
            }
        }
        Ok(())
    }

    /// Stops a pod's responder: its ports refuse from when this returns.
    pub fn stop_responder(&self, pod: &str) -> Result<(), Error> {
        let mut pods = self.pods();
        match pods.by_name.get_mut(pod) {
            Some(pod) => {
                pod.responder = None;
                Ok(())
            }
            None => Err(unknown_pod(&pods, pod)),
        }
    }

    /// Starts a pod's responder again: its ports answer from when this returns.
    pub fn start_responder(&self, pod: &str) -> Result<(), Error> {
        let mut pods = self.pods();
        match pods.by_name.get_mut(pod) {
            Some(pod) => {
                if pod.responder.is_none() {
                    pod.responder = Some(pod.respond()?);
                }
                Ok(())
            }
            None => Err(unknown_pod(&pods, pod)),
        }
    }

    /// Sends the client's packets for `network` by way of `node`.
    pub fn route_client(&self, network: IpNet, node: &str) -> Result<(), Error> {
        set_route(&self.client.namespace, network, &self.node_of(node)?.spec)
    }

    /// Takes a node off the network, as if its cable were pulled.
    pub fn unplug(&self, node: &str) -> Result<(), Error> {
        let node = self.node_of(node)?;
        node.namespace.run(|| Links::open(&node.spec.name)?.set_down(UPLINK))?
    }

    /// Gives a node one more address on the network between nodes and client.
    pub fn add_node_address(&self, node: &str, address: IpNet) -> Result<(), Error> {
        let node = self.node_of(node)?;
        node.namespace.run(|| Links::open(&node.spec.name)?.add_address(UPLINK, address))?
    }

    /// Takes an address from a node.
    pub fn remove_node_address(&self, node: &str, address: IpNet) -> Result<(), Error> {
        let node = self.node_of(node)?;
        node.namespace.run(|| Links::open(&node.spec.name)?.remove_address(UPLINK, address))?
    }

    fn node_of(&self, name: &str) -> Result<&Node, Error> {
        self.nodes.iter().find(|node| node.spec.name == name).ok_or_else(|| Error::Unknown {
            kind: "node",
            name: name.to_owned(),
            known: self.node_names().join(", "),
        })
    }

    fn pods(&self) -> MutexGuard<'_, Pods> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pod {
    fn respond(&self) -> Result<Responder, Error> {
        let identity = Identity { pod: self.spec.name.clone(), node: self.spec.node.clone() };
        Responder::start(&self.namespace, &identity, &self.spec.addresses, &self.spec.ports)
    }
}

/// A route on `from` by way of a node; nothing if the node has no address of that family.
fn set_route(from: &Namespace, network: IpNet, node: &NodeSpec) -> Result<(), Error> {
    let Some(via) = address_of_family(&node.addresses, network) else { return Ok(()) };
    from.run(|| Links::open(from.name())?.set_route(network, Some(via), UPLINK))?
}

fn unknown_pod(pods: &Pods, name: &str) -> Error {
    let known = pods.by_name.keys().cloned().collect::<Vec<_>>().join(", ");
    Error::Unknown { kind: "pod", name: name.to_owned(), known }
}

/// All destinations of each family.
fn defaults() -> [IpNet; 2] {
    [ipnet::Ipv4Net::default().into(), ipnet::Ipv6Net::default().into()]
}

/// The first of `addresses` that is of the family of `network`.
fn address_of_family(addresses: &[IpNet], network: IpNet) -> Option<IpAddr> {
    addresses.iter().map(IpNet::addr).find(|address| address.is_ipv4() == network.addr().is_ipv4())
}

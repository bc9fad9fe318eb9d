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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    nodes: Mutex<Nodes>,
    client: Host,
    pods: Mutex<Pods>,
    /// Holds the bridge, and is the control plane's network.
    underlay: Namespace,
    /// Whether the underlay itself has addresses: those of the control plane.
    has_control_plane: bool,
    /// Whether hosts have IPv6 at all.
    ipv6: bool,
}

#[derive(Debug, Default)]
struct Nodes {
    present: Vec<Arc<Node>>,
    /// How many there ever were; for names of interfaces.
    count: u32,
}

#[derive(Debug)]
struct Node {
    spec: NodeSpec,
    namespace: Namespace,
    /// The underlay's end of its link.
    port: String,
}

#[derive(Debug)]
struct Host {
    spec: ClientSpec,
    namespace: Namespace,
}

#[derive(Debug, Default)]
struct Pods {
    by_name: BTreeMap<String, Pod>,
    /// Those that are being made.
    to_come: BTreeMap<String, PodSpec>,
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
        spec::check_nodes(&spec.client, &spec.nodes.iter().collect::<Vec<_>>())?;
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

        let lab = Lab {
            nodes: Mutex::default(),
            client,
            pods: Mutex::default(),
            underlay,
            has_control_plane: !spec.control_plane.is_empty(),
            ipv6,
        };
        for node in &spec.nodes {
            lab.add_node(node.clone())?;
        }
        for pod in &spec.pods {
            lab.add_pod(pod.clone())?;
        }
        Ok(lab)
    }

    /// Adds a node without pods, and the routes that lead there and from there.
    pub fn add_node(&self, spec: NodeSpec) -> Result<(), Error> {
        let pods = self.pods();
        let mut nodes = self.lock_nodes();
        let all: Vec<&NodeSpec> = nodes.present.iter().map(|node| &node.spec).chain([&spec]).collect();
        spec::check_nodes(&self.client.spec, &all)?;
        spec::check_held(&spec, pods.specs())?;
        let port = format!("node{}", nodes.count);
        nodes.count += 1;
        let namespace = host::new_namespace(&spec.name, true, self.ipv6)?;
        host::plug(&self.underlay, &port, &namespace, &spec.addresses)?;
        host::add_pod_bridge(&namespace, &spec)?;
        let node = Arc::new(Node { spec, namespace, port });
        for other in &nodes.present {
            for (from, to) in [(&node, other), (other, &node)] {
                let networks = &to.spec.pod_networks;
                networks.iter().try_for_each(|network| set_route(&from.namespace, *network, &to.spec))?;
            }
        }
        for pod in pods.by_name.values().filter(|pod| pod.interface.is_some()) {
            let Some(other) = nodes.present.iter().find(|other| other.spec.name == pod.spec.node) else {
                continue;
            };
            for address in pod.spec.foreign_addresses(&other.spec) {
                set_route(&node.namespace, single(address), &other.spec)?;
            }
        }
        self.connect(&node)?;
        nodes.present.push(node);
        self.set_gateway(&nodes)
    }

    /// Routes between a node and the client and the control plane.
    fn connect(&self, node: &Node) -> Result<(), Error> {
        for default in defaults() {
            if let Some(via) = address_of_family(&self.client.spec.addresses, default) {
                node.namespace
                    .run(|| Links::open(node.namespace.name())?.set_route(default, Some(via), UPLINK))??;
            }
        }
        for network in &node.spec.pod_networks {
            set_route(&self.client.namespace, *network, &node.spec)?;
            if self.has_control_plane
                && let Some(via) = address_of_family(&node.spec.addresses, *network)
            {
                self.underlay.run(|| Links::open("underlay")?.set_route(*network, Some(via), UNDERLAY))??;
            }
        }
        Ok(())
    }

    /// The client's packets to everything but pods and nodes go to the node that its spec names; if
    /// it names none that is there, to the first.
    fn set_gateway(&self, nodes: &Nodes) -> Result<(), Error> {
        let named = self.client.spec.gateway.as_ref();
        let named = nodes.present.iter().find(|node| Some(&node.spec.name) == named);
        let Some(gateway) = named.or(nodes.present.first()) else { return Ok(()) };
        defaults()
            .into_iter()
            .try_for_each(|default| set_route(&self.client.namespace, default, &gateway.spec))
    }

    /// Removes a node that has no pods, and the routes that lead there. The last one stays.
    pub fn remove_node(&self, name: &str) -> Result<(), Error> {
        let pods = self.pods();
        let mut nodes = self.lock_nodes();
        let node = nodes.find(name)?;
        if let Some(pod) = pods.specs().find(|pod| pod.node == name) {
            return Err(Error::InUse { node: name.to_owned(), pod: pod.name.clone() });
        }
        if nodes.present.len() == 1 {
            return Err(Error::LastNode { node: name.to_owned() });
        }
        nodes.present.retain(|other| other.spec.name != name);
        self.underlay.run(|| Links::open("underlay")?.remove(&node.port))??;
        let others = nodes.present.iter().map(|other| (&other.namespace, UPLINK));
        let control_plane = self.has_control_plane.then_some((&self.underlay, UNDERLAY));
        let client = (&self.client.namespace, UPLINK);
        for (from, interface) in others.chain([client]).chain(control_plane) {
            for network in &node.spec.pod_networks {
                let Some(via) = address_of_family(&node.spec.addresses, *network) else { continue };
                from.run(|| Links::open(from.name())?.remove_route(*network, Some(via), interface))??;
            }
        }
        self.set_gateway(&nodes)
    }

    /// The names of the nodes, in the order in which they came.
    pub fn node_names(&self) -> Vec<String> {
        self.lock_nodes().present.iter().map(|node| node.spec.name.clone()).collect()
    }

    /// What a node was made from.
    pub fn node_spec(&self, name: &str) -> Result<NodeSpec, Error> {
        self.node_of(name).map(|node| node.spec.clone())
    }

    /// A node's namespace.
    pub fn node(&self, name: &str) -> Result<Namespace, Error> {
        self.node_of(name).map(|node| node.namespace.clone())
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
        if let Ok(node) = self.node_of(target) {
            return Ok(node.namespace.clone());
        }
        let pods = self.pods();
        pods.by_name.get(target).map(|pod| pod.namespace.clone()).ok_or_else(|| Error::Unknown {
            kind: "pod or node",
            name: target.to_owned(),
            known: ["client".to_owned()]
                .into_iter()
                .chain(self.node_names())
                .chain(pods.by_name.keys().cloned())
                .collect::<Vec<_>>()
                .join(", "),
        })
    }

    /// Adds a pod and starts its responder, if it is to answer on any port. Several can be added at
    /// the same time.
    pub fn add_pod(&self, spec: PodSpec) -> Result<(), Error> {
        let interface = self.reserve(&spec)?;
        let made = self.make_pod(&spec, interface);
        let mut pods = self.pods();
        pods.to_come.remove(&spec.name);
        let pod = made?;
        if pod.interface.is_some() {
            self.lead_to(&pod.spec)?;
        }
        pods.by_name.insert(spec.name, pod);
        Ok(())
    }

    /// Name and addresses are the pod's from here on. Gives the name of its interface.
    fn reserve(&self, spec: &PodSpec) -> Result<Option<String>, Error> {
        let mut pods = self.pods();
        let nodes = self.nodes();
        self.node_of(&spec.node)?;
        if pods.specs().any(|other| other.name == spec.name) {
            return Err(Error::Exists { kind: "pod", name: spec.name.clone() });
        }
        let others = pods.specs().filter(|other| !other.host_network);
        spec::check_free(spec, others, &nodes.iter().map(|node| &node.spec).collect::<Vec<_>>())?;
        pods.to_come.insert(spec.name.clone(), spec.clone());
        if spec.host_network {
            return Ok(None);
        }
        pods.count += 1;
        Ok(Some(format!("veth{:x}", pods.count)))
    }

    fn make_pod(&self, spec: &PodSpec, interface: Option<String>) -> Result<Pod, Error> {
        let node = self.node_of(&spec.node)?;
        let namespace = match &interface {
            None => node.namespace.clone(),
            Some(interface) => host::add_pod(&node.namespace, &node.spec, spec, interface)?,
        };
        let mut pod = Pod { spec: spec.clone(), namespace, interface, responder: None };
        if !pod.spec.ports.is_empty() {
            pod.responder = Some(pod.respond()?);
        }
        Ok(pod)
    }

    /// Routes to those of a pod's addresses that are in no network of its node.
    fn lead_to(&self, pod: &PodSpec) -> Result<(), Error> {
        let (node, nodes) = (self.node_of(&pod.node)?, self.nodes());
        for address in pod.foreign_addresses(&node.spec) {
            for other in nodes.iter().filter(|other| other.spec.name != node.spec.name) {
                set_route(&other.namespace, single(address), &node.spec)?;
            }
            set_route(&self.client.namespace, single(address), &node.spec)?;
        }
        Ok(())
    }

    /// Removes a pod: its responder, its processes' network, its link.
    pub fn remove_pod(&self, name: &str) -> Result<(), Error> {
        self.remove_pods(&[name])
    }

    /// Removes pods, in hardly more time than one. Fails if one is missing, and removes the others.
    pub fn remove_pods(&self, names: &[&str]) -> Result<(), Error> {
        let mut pods = self.pods();
        let removed: Vec<Pod> = names.iter().filter_map(|name| pods.by_name.remove(*name)).collect();
        let missing = names.iter().find(|name| removed.iter().all(|pod| pod.spec.name != **name));
        let missing = missing.map_or(Ok(()), |name| Err(unknown_pod(&pods, name)));
        let mut by_node: BTreeMap<String, Vec<Pod>> = BTreeMap::new();
        for mut pod in removed {
            drop(pod.responder.take());
            by_node.entry(pod.spec.node.clone()).or_default().push(pod);
        }
        for (node, pods) in by_node {
            let node = self.node_of(&node)?;
            self.unlink(&node, &pods)?;
        }
        missing
    }

    /// Removes the links of pods of a node, and the routes to them.
    fn unlink(&self, node: &Node, pods: &[Pod]) -> Result<(), Error> {
        let interfaces: Vec<&str> = pods.iter().filter_map(|pod| pod.interface.as_deref()).collect();
        if interfaces.is_empty() {
            return Ok(());
        }
        let linked = || pods.iter().filter(|pod| pod.interface.is_some()).map(|pod| &pod.spec);
        node.namespace.run(|| {
            let mut links = Links::open(&node.spec.name)?;
            links.remove_all(&interfaces)?;
            // Their addresses may come back with other pods behind them.
            let mut addresses = linked().flat_map(|pod| &pod.addresses);
            addresses.try_for_each(|address| links.forget_neighbour(POD_BRIDGE, *address))
        })??;
        let nodes = self.nodes();
        for address in linked().flat_map(|pod| pod.foreign_addresses(&node.spec)) {
            let others = nodes.iter().filter(|other| other.spec.name != node.spec.name);
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

    /// Cuts the cable between a node and the others, or mends it.
    pub fn set_connected(&self, node: &str, connected: bool) -> Result<(), Error> {
        let port = self.node_of(node)?.port.clone();
        self.underlay.run(|| {
            let mut links = Links::open("underlay")?;
            if connected { links.set_up(&port) } else { links.set_down(&port) }
        })?
    }

    fn node_of(&self, name: &str) -> Result<Arc<Node>, Error> {
        self.lock_nodes().find(name)
    }

    /// Those that are there now.
    fn nodes(&self) -> Vec<Arc<Node>> {
        self.lock_nodes().present.clone()
    }

    /// Whoever wants the pods as well takes those first.
    fn lock_nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pods(&self) -> MutexGuard<'_, Pods> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nodes {
    fn find(&self, name: &str) -> Result<Arc<Node>, Error> {
        let found = self.present.iter().find(|node| node.spec.name == name);
        found.cloned().ok_or_else(|| Error::Unknown {
            kind: "node",
            name: name.to_owned(),
            known: self.present.iter().map(|node| node.spec.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }
}

impl Pods {
    /// Of those that are there, and of those that are being made.
    fn specs(&self) -> impl Iterator<Item = &PodSpec> {
        self.by_name.values().map(|pod| &pod.spec).chain(self.to_come.values())
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

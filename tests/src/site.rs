//! Nodes, pods and a machine outside, with a proxy on each node that is to have one. All proxies
//! read one folder of manifests, which holds the Nodes and Pods from the start.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, anyhow};
use ipnet::IpNet;
use portolan_lab::netns::Namespace;
use portolan_lab::responder::{Identity, Responder};
use portolan_lab::topology::{ClientSpec, Lab, NodeSpec, PodSpec, Spec};
use tempfile::TempDir;

use crate::manifests::{Folder, PodManifest, node};
use crate::proxy::{Launch, Objects, Proxy};

static BINARY: OnceLock<PathBuf> = OnceLock::new();

/// Builds and finds the program under test, for all sites of this process. Before any sandbox.
pub fn use_binary() -> anyhow::Result<()> {
    let binary = crate::binary::portolan()?;
    BINARY.get_or_init(|| binary);
    Ok(())
}

/// The program under test.
///
/// # Panics
/// If [`use_binary`] was not called.
pub fn binary() -> &'static Path {
    BINARY.get().expect("use_binary was called")
}

/// A node to be.
#[derive(Debug, Clone)]
pub struct PlanNode {
    /// Its name.
    pub name: String,
    /// Its addresses in its Node object; the first of each family is the one that others route to.
    pub addresses: Vec<IpAddr>,
    /// Addresses that its interface has and its Node object has not.
    pub extra: Vec<IpAddr>,
    /// Its pods' networks.
    pub pod_networks: Vec<IpNet>,
    /// Its zone.
    pub zone: Option<String>,
}

impl PlanNode {
    /// A node with one address and one network of pods.
    ///
    /// # Panics
    /// If the texts are no address and no network: they are literals of a test.
    pub fn new(name: &str, address: &str, pod_network: &str) -> PlanNode {
        PlanNode {
            name: name.to_owned(),
            addresses: vec![address.parse().expect("a node's address")],
            extra: Vec::new(),
            pod_networks: vec![pod_network.parse().expect("a network of pods")],
            zone: None,
        }
    }
}

/// A site to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its nodes.
    pub nodes: Vec<PlanNode>,
    /// Its pods to begin with.
    pub pods: Vec<PodManifest>,
    /// The addresses of the machine outside.
    pub outside: Vec<IpAddr>,
    /// The node through which the machine outside sends everything but what is for nodes and pods.
    pub through: String,
    /// Where load balancers on the machine outside answer, under the name `lb`.
    pub load_balancers: Vec<SocketAddr>,
}

/// A site. Everything in it ends when it is dropped.
#[derive(Debug)]
pub struct Site {
    /// Before the lab, so that they end first.
    proxies: BTreeMap<String, (Launch, Proxy)>,
    /// Kept for their answers.
    _load_balancers: Vec<Responder>,
    lab: Lab,
    nodes: BTreeMap<String, Namespace>,
    pods: BTreeMap<String, Namespace>,
    manifests: Folder,
    /// On the private /run of the sandbox: nothing of it is left, however this process ends.
    folder: TempDir,
}

impl Site {
    /// Builds what `plan` says, without proxies.
    pub fn build(plan: &Plan) -> anyhow::Result<Site> {
        let nodes = plan.nodes.iter().map(|node| NodeSpec {
            name: node.name.clone(),
            addresses: node.addresses.iter().chain(&node.extra).map(|address| on_link(*address)).collect(),
            pod_networks: node.pod_networks.clone(),
        });
        let lab = Lab::build(&Spec {
            nodes: nodes.collect(),
            pods: plan.pods.iter().map(pod_spec).collect(),
            client: ClientSpec {
                addresses: plan.outside.iter().map(|address| on_link(*address)).collect(),
                local: plan.load_balancers.iter().map(SocketAddr::ip).collect(),
                gateway: Some(plan.through.clone()),
            },
            ..Spec::default()
        })?;
        let load_balancers = plan
            .load_balancers
            .iter()
            .map(|at| respond(lab.client(), "lb", "outside", *at))
            .collect::<anyhow::Result<_>>()?;
        let folder = TempDir::new_in("/run").context("a folder for manifests and state")?;
        let manifests = Folder::create(folder.path().join("manifests"))?;
        let nodes: Vec<_> = plan
            .nodes
            .iter()
            .map(|plan| node(&plan.name, plan.zone.as_deref(), &plan.addresses, &plan.pod_networks))
            .collect();
        manifests.write("the-nodes", &nodes)?;
        manifests.write("the-pods", &plan.pods.iter().map(PodManifest::object).collect::<Vec<_>>())?;
        let node = |plan: &PlanNode| Ok((plan.name.clone(), lab.node(&plan.name)?));
        let nodes = plan.nodes.iter().map(node).collect::<anyhow::Result<_>>()?;
        let mut site = Site {
            proxies: BTreeMap::new(),
            _load_balancers: load_balancers,
            lab,
            nodes,
            pods: BTreeMap::new(),
            manifests,
            folder,
        };
        for pod in &plan.pods {
            site.pods.insert(pod.name.clone(), site.lab.pod(&pod.name)?);
        }
        Ok(site)
    }

    /// What all proxies read.
    pub fn manifests(&self) -> &Folder {
        &self.manifests
    }

    /// A node's namespace.
    ///
    /// # Panics
    /// If the site has no such node; names are literals of a test.
    pub fn node(&self, name: &str) -> &Namespace {
        self.nodes.get(name).expect("a node of the site")
    }

    /// A pod's namespace.
    ///
    /// # Panics
    /// If the site has no such pod; names are literals of a test.
    pub fn pod(&self, name: &str) -> &Namespace {
        self.pods.get(name).expect("a pod of the site")
    }

    /// The namespace of the machine outside.
    pub fn outside(&self) -> &Namespace {
        self.lab.client()
    }

    /// How to start a proxy for `node` with further flags.
    ///
    /// # Panics
    /// If [`use_binary`] was not called.
    pub fn launch<'a>(&self, node: &str, flags: impl IntoIterator<Item = &'a str>) -> Launch {
        Launch {
            binary: binary().to_owned(),
            node: node.to_owned(),
            objects: Objects::Manifests(self.manifests.path().to_owned()),
            state: self.folder.path().join(format!("state-{node}")),
            flags: flags.into_iter().map(str::to_owned).collect(),
        }
    }

    /// Starts the proxy of `node`; it is ready when this returns.
    pub fn start_proxy<'a>(
        &mut self,
        node: &str,
        flags: impl IntoIterator<Item = &'a str>,
    ) -> anyhow::Result<()> {
        let launch = self.launch(node, flags);
        let proxy = launch.start(self.node(node)).with_context(|| format!("the proxy of {node}"))?;
        self.proxies.insert(node.to_owned(), (launch, proxy));
        Ok(())
    }

    /// Kills the proxy of `node` and starts another like it; it is ready when this returns.
    pub fn restart_proxy(&mut self, node: &str) -> anyhow::Result<()> {
        let (launch, mut proxy) =
            self.proxies.remove(node).with_context(|| format!("{node} has no proxy"))?;
        proxy.kill();
        let proxy = launch.start(self.node(node)).with_context(|| format!("the proxy of {node}"))?;
        self.proxies.insert(node.to_owned(), (launch, proxy));
        Ok(())
    }

    /// Kills the proxy of `node`.
    pub fn stop_proxy(&mut self, node: &str) {
        self.proxies.remove(node);
    }

    /// The proxy of `node`.
    pub fn proxy(&self, node: &str) -> anyhow::Result<&Proxy> {
        self.proxies.get(node).map(|(_, proxy)| proxy).with_context(|| format!("{node} has no proxy"))
    }

    /// The last lines that the proxies have written, for people.
    pub fn logs(&self) -> String {
        self.proxies.values().map(|(_, proxy)| proxy.last_lines()).collect()
    }

    /// Adds a pod, and then its object.
    pub fn add_pod(&mut self, pod: &PodManifest) -> anyhow::Result<()> {
        self.lab.add_pod(pod_spec(pod))?;
        self.pods.insert(pod.name.clone(), self.lab.pod(&pod.name)?);
        self.manifests.write(&format!("pod-{}", pod.name), &[pod.object()])
    }

    /// Gives a node's outer interface an address.
    pub fn add_address(&self, node: &str, address: IpNet) -> anyhow::Result<()> {
        Ok(self.lab.add_node_address(node, address)?)
    }

    /// Takes an address from a node's outer interface.
    pub fn remove_address(&self, node: &str, address: IpNet) -> anyhow::Result<()> {
        Ok(self.lab.remove_node_address(node, address)?)
    }

    /// Cuts the cable between a node and the others, or mends it.
    pub fn set_connected(&self, node: &str, connected: bool) -> anyhow::Result<()> {
        Ok(self.lab.set_connected(node, connected)?)
    }

    /// A process of a node's own, which answers until the result is dropped.
    pub fn respond_on_node(&self, node: &str, name: &str, at: SocketAddr) -> anyhow::Result<Responder> {
        respond(self.node(node), name, node, at)
    }

    /// No socket on the node listens on this TCP port.
    pub fn is_port_free(&self, node: &str, port: u16) -> anyhow::Result<bool> {
        Ok(self.node(node).run(|| TcpListener::bind(("0.0.0.0", port)).is_ok())?)
    }

    /// The status code that an HTTP server answers `from` with.
    pub fn http_status(&self, from: &Namespace, to: SocketAddr, patience: Duration) -> anyhow::Result<u16> {
        from.run(|| crate::ask::http_status(to, patience))?.map_err(|error| anyhow!("{to}: {error}"))
    }
}

fn respond(namespace: &Namespace, pod: &str, node: &str, at: SocketAddr) -> anyhow::Result<Responder> {
    let identity = Identity { pod: pod.to_owned(), node: node.to_owned() };
    Ok(Responder::start(namespace, &identity, &[at.ip()], &[at.port()])?)
}

fn pod_spec(pod: &PodManifest) -> PodSpec {
    PodSpec {
        name: pod.name.clone(),
        node: pod.node.clone(),
        addresses: pod.addresses.clone(),
        ports: pod.ports.iter().map(|(_, port)| *port).collect(),
        host_network: false,
    }
}

/// An address with the prefix of the network between the nodes.
fn on_link(address: IpAddr) -> IpNet {
    let length = if address.is_ipv4() { 24 } else { 64 };
    IpNet::new_assert(address, length)
}

//! A lab that is a cluster: nodes, an API server, controllers, kubelets, a DNS, and a proxy on each
//! node.
//!
//! Everything goes by the objects of the API server: files are applied to it, controllers make pods
//! of what is applied, kubelets run the pods, and proxies follow it as in any cluster.

mod dns;
mod drain;
mod settle;
mod status;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use portolan_apiserver::{
    Authentication, Credentials, DeleteOptions, Objects, Options as ServerOptions, Resource, Server,
};
use serde_json::{Value, json};

use crate::Error;
use crate::applied::Applied;
use crate::finding::Finding;
use crate::kubelet::{Kubelets, ServiceAccount, Setting};
use crate::live::{Live, LivePods};
use crate::load_balancer::{self, LoadBalancer};
use crate::manager::{Facts, Manager};
use crate::nodes::{self, Asked};
use crate::own_files;
use crate::pod::Namespaces;
use crate::proxy::{Follows, Launch, Proxy, ProxyMode};
use crate::streams::Streams;
use crate::topology::{Lab, Spec};
pub use status::{NodeStatus, PodStatus, PortStatus, ServiceStatus, Status};

/// The port of the API server in the lab.
const API_PORT: u16 = 6443;
/// Where ClusterIPs are allocated, unless files ask for others.
const SERVICE_NETWORKS: [&str; 2] = ["10.96.0.0/16", "fd00:10:96::/112"];

/// How a cluster is made.
#[derive(Debug)]
pub struct Options {
    /// Files and folders of manifests.
    pub files: Vec<PathBuf>,
    /// How many nodes there are if the manifests name none.
    pub nodes: usize,
    /// The folder for logs, files of pods and what proxies remember. It is the cluster's alone.
    pub state: PathBuf,
    /// The program that is the proxy when it is called with `run`.
    pub program: PathBuf,
    /// The mode of the proxies.
    pub proxy_mode: ProxyMode,
    /// The mode of the proxies of these nodes, if it is another.
    pub node_proxy_modes: BTreeMap<String, ProxyMode>,
    /// The addresses that NodePorts answer on, as `portolan run --nodeport-addresses` takes them;
    /// none: its default.
    pub nodeport_addresses: Vec<String>,
    /// Pools of load-balancer addresses, as `portolan controller --load-balancer-pool` takes them;
    /// none: nobody allocates any.
    pub load_balancer_pools: Vec<String>,
    /// Whether there is a DNS for the names of Services.
    pub dns: bool,
    /// Where ClusterIPs are allocated; if there is none, it is chosen.
    pub service_networks: Vec<IpNet>,
    /// A socket that listens where clients outside of the lab ask the API server.
    pub listener: TcpListener,
}

/// A running cluster. It ends when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: nobody reports what the end of others looks like.
    _manager: Manager,
    _load_balancer: Option<LoadBalancer>,
    proxies: Mutex<BTreeMap<String, Proxy>>,
    kubelets: Kubelets,
    server: Server,
    lab: Arc<Lab>,
    live: LivePods,
    launch: Launch,
    applied: Mutex<Applied>,
    findings: Mutex<Vec<Finding>>,
    /// Held while a node comes or goes.
    changing_nodes: Mutex<()>,
    /// The URL of the API server for clients outside of the lab.
    url: String,
}

impl Cluster {
    /// Builds the cluster. When this returns, all proxies have their rules in force, and the pods
    /// of the files are ready, if they are within a time.
    pub fn start(options: &Options) -> Result<Cluster, Error> {
        own_files::hide_those_of_the_machine()?;
        let state = options.state.clone();
        fs::create_dir_all(&state).map_err(Error::io(format!("creating {}", state.display())))?;
        let mut applied = Applied::read(options.files.clone())?;
        applied.has_load_balancer = !options.load_balancer_pools.is_empty();
        let nodes = nodes_of(&applied, options)?;
        let control_plane = nodes::control_plane(&nodes);
        let lab = Arc::new(Lab::build(&Spec {
            nodes: nodes.iter().map(|node| node.spec.clone()).collect(),
            pods: Vec::new(),
            client: nodes::client(&nodes),
            control_plane: control_plane.clone(),
        })?);
        options.node_proxy_modes.keys().try_for_each(|name| lab.node(name).map(drop))?;
        let live = LivePods::default();
        let token = token()?;
        let server = serve(options, &applied, &lab, &control_plane, &live, &token)?;
        let objects = server.objects();
        let kubeconfig = state.join("kubeconfig");
        server
            .kubeconfig(&kubeconfig, &Credentials::ClientCertificate)
            .map_err(Error::io(format!("writing {}", kubeconfig.display())))?;
        let facts = Facts { ca_pem: server.ca_pem().to_owned(), api: vec![server.address()] };
        let manager = Manager::start(objects.clone(), facts)?;
        let pools = &options.load_balancer_pools;
        let files = load_balancer::Files { kubeconfig: &kubeconfig, state: &state };
        let load_balancer = LoadBalancer::start(&options.program, pools, files, &token, lab.control_plane())?;
        let launch = Launch {
            program: options.program.clone(),
            follows: Follows::Kubeconfig(kubeconfig.clone()),
            state: state.clone(),
            cluster_networks: nodes::cluster_networks(&nodes),
            mode: options.proxy_mode,
            nodeport_addresses: options.nodeport_addresses.clone(),
            announcement_key: load_balancer.as_ref().map(|balancer| balancer.key.clone()),
        };
        let program = options.program.clone().into_os_string();
        let setting = Setting {
            objects: objects.clone(),
            lab: Arc::clone(&lab),
            cluster_networks: launch.cluster_networks.clone(),
            live: live.clone(),
            folder: state.join("pods"),
            server: vec![program.clone(), "lab".into(), "serve".into()],
            dns: dns::command(&program, &state, &kubeconfig)?,
            account: ServiceAccount { token, ca_pem: server.ca_pem().to_owned() },
        };
        let proxies = nodes
            .iter()
            .map(|node| {
                let (name, launch) = (&node.spec.name, launch.in_mode(node.proxy_mode));
                Ok((name.clone(), launch.start(name, &lab.node(name)?)?))
            })
            .collect::<Result<BTreeMap<_, _>, Error>>()?;
        let kubelets = Kubelets::start(setting, nodes)?;
        if options.dns {
            dns::create(&objects, &applied)?;
        }
        let url = options.listener.local_addr().map_err(Error::io("finding the API server's port"))?;
        let cluster = Cluster {
            _manager: manager,
            _load_balancer: load_balancer,
            proxies: Mutex::new(proxies),
            kubelets,
            server,
            lab,
            live,
            launch,
            applied: Mutex::new(applied),
            findings: Mutex::default(),
            changing_nodes: Mutex::default(),
            url: format!("https://{url}"),
        };
        cluster.apply(|applied, objects| {
            applied.apply(objects);
            Ok(())
        })?;
        cluster.proxies().values().try_for_each(Proxy::wait_ready)?;
        cluster.settle();
        Ok(cluster)
    }

    /// Waits until all pods are ready that can be, and all nodes lead to them; but not for ever.
    pub(crate) fn settle(&self) {
        let objects = self.objects();
        settle::pods_ready(&objects);
        settle::in_force(&self.launch.state, &self.lab.node_names(), &objects);
    }

    fn apply(&self, how: impl FnOnce(&mut Applied, &Objects) -> Result<(), Error>) -> Result<(), Error> {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        how(&mut applied, &self.server.objects())?;
        *self.findings.lock().unwrap_or_else(PoisonError::into_inner) = applied.findings();
        Ok(())
    }

    /// Waits until a file has changed, and applies it. What is wrong with it is reported by
    /// [`Cluster::status`].
    pub fn follow(&self) -> Result<(), Error> {
        self.apply(Applied::follow)
    }

    /// The folder of logs, files of pods and what the proxies remember.
    pub fn state(&self) -> &Path {
        &self.launch.state
    }

    /// The program that is the proxy when it is called with `run`.
    pub fn program(&self) -> &Path {
        &self.launch.program
    }

    /// The topology.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The objects.
    pub fn objects(&self) -> Objects {
        self.server.objects()
    }

    /// A kubeconfig for clients outside of the lab.
    pub fn kubeconfig(&self) -> Result<String, Error> {
        let path = self.launch.state.join("kubeconfig.outside");
        let failed = || Error::io(format!("writing {}", path.display()));
        self.server.kubeconfig_for(&path, &self.url, &Credentials::ClientCertificate).map_err(failed())?;
        fs::read_to_string(&path).map_err(failed())
    }

    /// A pod that lives.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Live>> {
        self.live.get(namespace, name)
    }

    /// The namespaces of the first container of a pod; `None` if `target` is no pod.
    pub(crate) fn inside_pod(&self, target: &str) -> Result<Option<Namespaces>, Error> {
        let (namespace, name) = target.split_once('/').unwrap_or(("default", target));
        let Some(live) = self.live.get(namespace, name) else { return Ok(None) };
        live.pod.namespaces(None).map(Some)
    }

    /// Starts the proxy of a node again, in another mode if one is given. It has ended before the
    /// new one starts.
    pub fn restart_proxy(&self, node: &str, mode: Option<ProxyMode>) -> Result<(), Error> {
        let namespace = self.lab.node(node)?;
        let mut proxies = self.proxies();
        if let Some(proxy) = proxies.get(node) {
            proxy.terminate()?;
        }
        let mode = mode.or_else(|| proxies.get(node).map(Proxy::mode)).unwrap_or(self.launch.mode);
        let proxy = self.launch.in_mode(mode).start(node, &namespace)?;
        proxy.wait_ready()?;
        proxies.insert(node.to_owned(), proxy);
        Ok(())
    }

    /// Keeps new pods from a node, or lets them come again.
    pub fn cordon(&self, node: &str, closed: bool) -> Result<(), Error> {
        self.lab.node(node)?;
        let patch = json!({ "spec": { "unschedulable": closed.then_some(true) } });
        let changed = self.objects().patch(Resource::Nodes, "", node, patch);
        changed.map(drop).map_err(|failure| Error::Api { what: format!("node {node}"), failure })
    }

    /// Adds a node, of this name or one that is free, with its proxy in this mode or that of the
    /// others. Gives its name. When this returns, its proxy has its rules in force.
    pub fn add_node(&self, name: Option<&str>, mode: Option<ProxyMode>) -> Result<String, Error> {
        let _changing = self.changing_nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let present = self.kubelets.nodes();
        let name = name.map_or_else(|| nodes::free_name(&present), str::to_owned);
        let mut node = nodes::joining(&name, &present, &self.launch.cluster_networks)
            .map_err(|what| Error::Node { what })?;
        node.proxy_mode = mode.unwrap_or(self.launch.mode);
        self.lab.add_node(node.spec.clone())?;
        let launch = self.launch.in_mode(node.proxy_mode);
        let joined = self.kubelets.add(node).and_then(|()| {
            let proxy = launch.start(&name, &self.lab.node(&name)?)?;
            proxy.wait_ready()?;
            self.proxies().insert(name.clone(), proxy);
            Ok(())
        });
        if let Err(error) = joined {
            // What failed is the news, not that something of it stays.
            let _ = self.take_out(&name);
            return Err(error);
        }
        Ok(name)
    }

    /// Takes a node out of the cluster: its pods end in their own good time, and whoever owns them
    /// makes others elsewhere. The last one stays.
    pub fn remove_node(&self, node: &str) -> Result<(), Error> {
        let _changing = self.changing_nodes.lock().unwrap_or_else(PoisonError::into_inner);
        self.lab.node(node)?;
        if self.lab.node_names().len() == 1 {
            return Err(Error::LastNode { node: node.to_owned() });
        }
        if self.kubelets.nodes().iter().any(|running| running.spec.name == node) {
            self.cordon(node, true)?;
            drain::drain(&self.objects(), node);
        }
        self.take_out(node)
    }

    /// Ends all that runs on a node, and removes it.
    fn take_out(&self, node: &str) -> Result<(), Error> {
        self.kubelets.stop(node);
        let proxy = self.proxies().remove(node);
        proxy.as_ref().map_or(Ok(()), Proxy::terminate)?;
        for (resource, namespace) in [(Resource::Nodes, ""), (Resource::Leases, "kube-node-lease")] {
            // Somebody may have deleted it already.
            let _ = self.objects().delete(resource, namespace, node, &DeleteOptions::default());
        }
        self.lab.remove_node(node)
    }

    /// Switches a node off: its pods, its proxy and its kubelet end, and nobody reports it.
    pub fn stop_node(&self, node: &str) -> Result<(), Error> {
        self.lab.node(node)?;
        self.kubelets.stop(node);
        drop(self.proxies().remove(node));
        self.lab.unplug(node)
    }

    /// What there is now.
    pub fn status(&self) -> Status {
        let findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let proxies = self.proxies();
        let proxy = |node: &str| {
            let proxy = proxies.get(node);
            (
                proxy.map_or_else(|| "stopped".to_owned(), Proxy::state),
                proxy.map_or(self.launch.mode, Proxy::mode).name().to_owned(),
            )
        };
        status::status(&self.objects(), &self.lab, &proxy, findings, &self.launch.state, &self.url)
    }

    /// Writes what the API server has as manifests, for programs that read those.
    pub(crate) fn snapshot(&self) -> Result<PathBuf, Error> {
        let folder = self.launch.state.join("manifests");
        let failed = || Error::io(format!("writing {}", folder.display()));
        fs::create_dir_all(&folder).map_err(failed())?;
        let objects = self.objects();
        let kinds = [Resource::Services, Resource::EndpointSlices, Resource::Pods, Resource::Nodes];
        let items: Vec<Value> = kinds.into_iter().flat_map(|resource| objects.list(resource)).collect();
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
        fs::write(folder.join("cluster.json"), list.to_string()).map_err(failed())?;
        Ok(folder)
    }

    fn proxies(&self) -> MutexGuard<'_, BTreeMap<String, Proxy>> {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The nodes: those of Node objects, those that pods are given to by name, and if there is no Node
/// object, so many of the lab's own that there are as many as `options` ask for.
fn nodes_of(applied: &Applied, options: &Options) -> Result<Vec<nodes::Node>, Error> {
    let wrong = |what| Error::Node { what };
    let mut asked = applied.nodes().iter().map(Asked::of).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    let is_given = !asked.is_empty();
    for pod in applied.objects().filter(|object| object["kind"] == "Pod") {
        let name = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        if !name.is_empty() && !asked.iter().any(|node| node.is_called(name)) {
            let address = pod["status"]["podIP"].as_str().and_then(|text| text.parse::<IpAddr>().ok());
            asked.push(Asked::of_pod(name, address));
        }
    }
    for number in 1.. {
        if is_given || asked.len() >= options.nodes {
            break;
        }
        let name = format!("host{number}");
        if !asked.iter().any(|node| node.is_called(&name)) {
            asked.push(Asked::named(&name));
        }
    }
    let mut nodes = nodes::nodes(&asked);
    for node in &mut nodes {
        let own = options.node_proxy_modes.get(&node.spec.name);
        node.proxy_mode = own.copied().unwrap_or(options.proxy_mode);
    }
    Ok(nodes)
}

/// Starts the API server on the control plane.
fn serve(
    options: &Options,
    applied: &Applied,
    lab: &Lab,
    control_plane: &[IpNet],
    live: &LivePods,
    token: &str,
) -> Result<Server, Error> {
    let address = control_plane.first().map_or(IpAddr::from([127, 0, 0, 1]), IpNet::addr);
    let listener = options.listener.try_clone().map_err(Error::io("the API server's socket"))?;
    let service_networks = if options.service_networks.is_empty() {
        service_networks(&applied.services())
    } else {
        options.service_networks.clone()
    };
    let server = ServerOptions {
        listen: SocketAddr::new(address, API_PORT),
        more: vec![Arc::new(listener)],
        names: control_plane.iter().map(|network| network.addr().to_string()).collect(),
        service_networks,
        node_side: Some(Arc::new(Streams::new(live.clone()))),
        authentication: Authentication::TokensOrCertificate(vec![token.to_owned()]),
        ..ServerOptions::cluster()
    };
    Ok(lab.control_plane().run(|| Server::start(server))??)
}

/// Networks for ClusterIPs that hold all that files ask for: the usual one of a family, or if one
/// of the addresses is not in it, the smallest that holds those that are not.
fn service_networks(asked: &[IpAddr]) -> Vec<IpNet> {
    let usual = SERVICE_NETWORKS.iter().filter_map(|network| network.parse::<IpNet>().ok());
    let holding = |usual: IpNet| {
        let own = asked.iter().filter(|address| address.is_ipv4() == usual.addr().is_ipv4());
        let others: Vec<IpAddr> = own.copied().filter(|address| !usual.contains(address)).collect();
        let Some(first) = others.first() else { return usual };
        let longest = if first.is_ipv4() { 24 } else { 112 };
        let all = asked.iter().filter(|address| address.is_ipv4() == first.is_ipv4());
        let all: Vec<&IpAddr> = all.collect();
        let networks = (0..=longest).rev().filter_map(|length| IpNet::new(*first, length).ok());
        let mut networks = networks.map(|network| network.trunc());
        networks.find(|network| all.iter().all(|address| network.contains(*address))).unwrap_or(usual)
    };
    usual.map(holding).collect()
}

/// A bearer token that nobody guesses: other users of this machine reach the server's port, too.
fn token() -> Result<String, Error> {
    let mut octets = [0; 16];
    let failed = |error: getrandom::Error| std::io::Error::other(error.to_string());
    getrandom::fill(&mut octets).map_err(failed).map_err(Error::io("asking for random numbers"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(octets)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_networks_hold_what_is_asked_for() {
        for (asked, expected) in [
            (&[][..], "[10.96.0.0/16, fd00:10:96::/112]"),
            (&["10.96.7.7"], "[10.96.0.0/16, fd00:10:96::/112]"),
            (&["10.11.12.125", "10.11.12.254"], "[10.11.12.0/24, fd00:10:96::/112]"),
            (&["10.104.81.240", "10.111.189.177"], "[10.104.0.0/13, fd00:10:96::/112]"),
            (&["10.96.0.5", "10.104.81.240"], "[10.96.0.0/12, fd00:10:96::/112]"),
        ] {
            let asked: Vec<IpAddr> = asked.iter().map(|address| address.parse().unwrap()).collect();
            assert_eq!(format!("{:?}", service_networks(&asked)), expected);
        }
    }
}

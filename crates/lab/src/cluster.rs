//! A lab that does what manifests say: pods for Deployments, ReplicaSets and Pods, and a proxy on
//! each node.
//!
//! Files go one way: manifests → what they want (`workload`) → pods in their places (`placement`) →
//! the topology, and a folder of manifests (`folder`) that the proxies follow by themselves.

mod dns;
mod folder;
mod observed;
mod own_files;
mod placement;
mod pod_files;
mod proxy;
mod workload;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use portolan_watch::Paths;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::probe::{self, Request};
use crate::topology::{Lab, NodeSpec, PodSpec, Spec};
use dns::{DnsLaunch, DnsServer};
use folder::{Folder, Taken};
use observed::Observed;
pub use observed::{Finding, PortStatus, ServiceStatus};
pub(crate) use own_files::own_files;
use placement::Placed;
pub(crate) use pod_files::PodFiles;
pub use proxy::ProxyMode;
use proxy::{Launch, Proxy};
use workload::{Count, Wanted};

/// The Service of the cluster's DNS.
const DNS_NAMESPACE: &str = "kube-system";
const DNS_SERVICE: &str = "kube-dns";

/// How a cluster is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Files and folders of manifests.
    pub files: Vec<PathBuf>,
    /// How many nodes there are if the manifests name none.
    pub nodes: usize,
    /// Addresses that pods get first, on nodes whose network holds them.
    pub pod_addresses: Vec<IpAddr>,
    /// The folder for manifests, logs and what proxies remember. It is the cluster's alone.
    pub state: PathBuf,
    /// The program that is the proxy when it is called with `run`.
    pub program: PathBuf,
    /// The mode of the proxies.
    pub proxy_mode: ProxyMode,
    /// Whether there is a DNS for the names of Services.
    pub dns: bool,
}

/// A running cluster. It ends when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    proxies: Vec<Proxy>,
    dns_launch: DnsLaunch,
    /// By their pods.
    dns_servers: Mutex<BTreeMap<String, DnsServer>>,
    lab: Lab,
    folder: Folder,
    options: Options,
    placed: Mutex<BTreeMap<String, Placed>>,
    watch: Mutex<Paths>,
    observed: Mutex<Observed>,
}

/// What there is, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The nodes.
    pub nodes: Vec<NodeStatus>,
    /// The pods.
    pub pods: Vec<PodStatus>,
    /// The Services, as the proxies have them.
    pub services: Vec<ServiceStatus>,
    /// What is wrong with the manifests, or ignored in them.
    pub problems: Vec<Finding>,
    /// The mode of the proxies.
    pub proxy_mode: String,
    /// The addresses of the client outside.
    pub client: Vec<IpAddr>,
    /// The folder of manifests, logs and what the proxies remember, as `lab exec` sees it.
    pub state: PathBuf,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its pod networks.
    pub pod_networks: Vec<IpNet>,
    /// `running`, or how its proxy ended.
    pub proxy: String,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStatus {
    /// Its name, with its namespace before it unless that is `default`.
    pub name: String,
    /// Its node.
    pub node: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The ports it answers on.
    pub ports: Vec<u16>,
    /// Whether it is ready: only then do Services lead to it.
    pub ready: bool,
    /// What is wrong with the DNS server in it.
    pub dns: Option<DnsTrouble>,
}

/// A DNS server that has ended by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsTrouble {
    /// How it ended, and how often it was started again.
    pub what: String,
    /// It is not started again any more.
    pub gone: bool,
}

impl Cluster {
    /// Builds the cluster. When this returns, all proxies have everything in force and all pods
    /// answer.
    pub fn start(options: Options) -> Result<Cluster, Error> {
        own_files::hide_those_of_the_machine()?;
        let folder = Folder::create(&options.state)?;
        // Before reading: a change in between is seen as a change.
        let watch = Paths::open(&options.files).map_err(Error::io("watching files"))?;
        let mut taken = folder.take_over(&options.files)?;
        let (nodes, client) = placement::nodes(&taken.wanted, options.nodes);
        if options.dns {
            folder.write("lab-dns.json", &dns::complete(&mut taken, has_ipv4(&nodes)))?;
        }
        let wanted = &taken.wanted;
        let placed = placement::pods(wanted, &nodes, &BTreeMap::new(), &options.pod_addresses)?;
        placed.values().try_for_each(pod_files::check_host_name)?;
        folder.write("lab-nodes.json", &placement::node_objects(&nodes, wanted))?;
        folder.write("lab-pods.json", &objects(&placed, wanted))?;
        let pods = placed.values().map(|pod| pod.spec.clone()).collect();
        let cluster_networks = placement::cluster_networks(&nodes);
        let lab = Lab::build(&Spec { nodes, pods, client })?;

        let launch = Launch {
            program: options.program.clone(),
            manifests: folder.manifests().to_owned(),
            state: options.state.clone(),
            cluster_networks,
            mode: options.proxy_mode,
        };
        let proxies = lab
            .node_names()
            .into_iter()
            .map(|node| launch.start(node, lab.node(node)?))
            .collect::<Result<Vec<_>, _>>()?;
        proxies.iter().try_for_each(Proxy::wait_ready)?;
        let observed = Observed::start(folder.manifests(), &proxy::state_dir(&options.state), taken)?;
        let dns_launch = DnsLaunch::new(&options.program, folder.manifests(), &options.state)?;
        let cluster = Cluster {
            proxies,
            dns_launch,
            dns_servers: Mutex::default(),
            lab,
            folder,
            options,
            placed: Mutex::new(placed),
            watch: Mutex::new(watch),
            observed: Mutex::new(observed),
        };
        let in_pods: Vec<PodSpec> =
            cluster.placed().values().filter(|pod| pod.runs_dns).map(|pod| pod.spec.clone()).collect();
        cluster.start_dns(&in_pods)?;
        cluster.ask_pods()?;
        Ok(cluster)
    }

    /// Starts DNS servers in these pods. They answer when this returns.
    fn start_dns(&self, pods: &[PodSpec]) -> Result<(), Error> {
        let mut started = Vec::new();
        for pod in pods {
            let at = self.lab.pod(&pod.name)?;
            started.push((pod.name.clone(), self.dns_launch.start(&pod.name, &pod.addresses, &at)?));
        }
        for (_, server) in &mut started {
            server.wait_ready()?;
        }
        self.dns_servers().extend(started);
        Ok(())
    }

    /// Asks every pod on every port, from its node.
    fn ask_pods(&self) -> Result<(), Error> {
        for pod in self.lab.pod_specs() {
            let targets: Vec<_> = pod
                .addresses
                .iter()
                .flat_map(|address| pod.ports.iter().map(|port| SocketAddr::new(*address, *port)))
                .collect();
            let silent = self.lab.node(&pod.node)?.run(|| {
                targets.into_iter().find_map(|to| {
                    let outcome = probe::http(&Request::to(to).within(Duration::from_secs(5))).outcome;
                    if outcome.answer().is_none() { Some((to, outcome)) } else { None }
                })
            })?;
            if let Some((to, outcome)) = silent {
                return Err(Error::Io {
                    what: format!("asking pod {} at {to} from its node", pod.name),
                    source: std::io::Error::other(outcome.to_string()),
                });
            }
        }
        Ok(())
    }

    /// The folder of manifests, logs and what the proxies remember.
    pub fn state(&self) -> &Path {
        &self.options.state
    }

    /// The program that is the proxy when it is called with `run`.
    pub fn program(&self) -> &Path {
        &self.options.program
    }

    /// The topology.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Waits until a manifest has changed, and brings the pods up to date. What is wrong with a
    /// manifest is an error and changes nothing; call this again.
    pub fn follow(&self) -> Result<(), Error> {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.wait().map_err(Error::io("watching files"))?;
        drop(watch);
        let taken = self.update();
        self.observed().update(taken)
    }

    fn update(&self) -> Result<Taken, Error> {
        let mut taken = self.folder.take_over(&self.options.files)?;
        let nodes: Vec<NodeSpec> = self
            .lab
            .node_names()
            .into_iter()
            .map(|name| self.lab.node_spec(name).cloned())
            .collect::<Result<_, _>>()?;
        let dns = if self.options.dns { dns::complete(&mut taken, has_ipv4(&nodes)) } else { Vec::new() };
        let wanted = &taken.wanted;
        let mut placed = self.placed();
        let new = placement::pods(wanted, &nodes, &placed, &self.options.pod_addresses)?;
        new.values().try_for_each(pod_files::check_host_name)?;
        let changed = |name: &String, pod: &Placed, others: &BTreeMap<String, Placed>| {
            others.get(name).is_none_or(|other| other.spec != pod.spec)
        };
        let gone: Vec<_> = placed
            .iter()
            .filter(|(name, pod)| changed(name, pod, &new))
            .map(|(name, _)| name.clone())
            .collect();
        let come: Vec<_> = new
            .iter()
            .filter(|(name, pod)| changed(name, pod, &placed))
            .map(|(_, pod)| pod.spec.clone())
            .collect();
        // Pods answer before Services name them, and are named no more when they go; only one that
        // changes in place, such as in its ports, is away for a moment.
        let replaced = |name: &String| new.contains_key(name);
        for name in gone.iter().filter(|name| replaced(name)) {
            self.dns_servers().remove(name);
            self.lab.remove_pod(name)?;
        }
        let in_pods: Vec<PodSpec> =
            come.iter().filter(|pod| new.get(&pod.name).is_some_and(|pod| pod.runs_dns)).cloned().collect();
        for pod in come {
            self.lab.add_pod(pod)?;
        }
        self.start_dns(&in_pods)?;
        self.folder.write("lab-dns.json", &dns)?;
        self.folder.write("lab-nodes.json", &placement::node_objects(&nodes, wanted))?;
        self.folder.write("lab-pods.json", &objects(&new, wanted))?;
        for name in gone.iter().filter(|name| !replaced(name)) {
            self.dns_servers().remove(name);
            self.lab.remove_pod(name)?;
        }
        *placed = new;
        Ok(taken)
    }

    /// What there is now.
    pub fn status(&self) -> Status {
        let nodes = std::iter::zip(self.lab.node_names(), &self.proxies).filter_map(|(name, proxy)| {
            let spec = self.lab.node_spec(name).ok()?;
            Some(NodeStatus {
                name: name.to_owned(),
                addresses: spec.addresses.iter().map(IpNet::addr).collect(),
                pod_networks: spec.pod_networks.clone(),
                proxy: proxy.state(),
            })
        });
        let (placed, dns_servers) = (self.placed(), self.dns_servers());
        let pods = self.lab.pod_specs().into_iter().map(|pod| PodStatus {
            ready: placed.get(&pod.name).is_some_and(|placed| placed.ready),
            dns: dns_servers.get(&pod.name).and_then(DnsServer::trouble),
            name: pod.name,
            node: pod.node,
            addresses: pod.addresses,
            ports: pod.ports,
        });
        let (services, problems) = self.observed().look();
        Status {
            nodes: nodes.collect(),
            pods: pods.collect(),
            services,
            problems,
            proxy_mode: self.options.proxy_mode.name().to_owned(),
            client: self.lab.client_spec().addresses.iter().map(IpNet::addr).collect(),
            state: self.options.state.clone(),
        }
    }

    /// The name of the node, the pod or the client whose network namespace `target` is in: a pod on
    /// the host network is in its node's.
    pub fn owner_of_network(&self, target: &str) -> String {
        let pods = self.lab.pod_specs();
        let host = pods.iter().find(|pod| pod.name == target && pod.host_network);
        host.map_or(target, |pod| pod.node.as_str()).to_owned()
    }

    /// What the pod called `target` has in `/etc` now; `None` if that is no pod.
    pub(crate) fn pod_files(&self, target: &str) -> Result<Option<PodFiles>, Error> {
        let dns = self.observed().service(DNS_NAMESPACE, DNS_SERVICE).map(|service| service.cluster_ips);
        // Without one there is nothing to take over.
        let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
        let placed = self.placed();
        let pod = placed.get(target);
        pod.map(|pod| pod_files::pod_files(pod, &dns.unwrap_or_default(), &hosts)).transpose()
    }

    fn dns_servers(&self) -> MutexGuard<'_, BTreeMap<String, DnsServer>> {
        self.dns_servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observed(&self) -> MutexGuard<'_, Observed> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn placed(&self) -> MutexGuard<'_, BTreeMap<String, Placed>> {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.proxies.clear();
        self.dns_servers().clear();
        // The folder is in the sandbox, which ends soon after; what stays is gone then.
        let _ = fs::remove_dir_all(&self.options.state);
    }
}

/// Whether nodes have IPv4 for their pods.
fn has_ipv4(nodes: &[NodeSpec]) -> bool {
    nodes.iter().flat_map(|node| &node.pod_networks).any(|network| network.addr().is_ipv4())
}

/// The objects of the pods that no file has whole.
fn objects(placed: &BTreeMap<String, Placed>, wanted: &[Wanted]) -> Vec<serde_json::Value> {
    let whole = |name: &String| {
        wanted.iter().any(|item| match item {
            Wanted::Pods(pods) => {
                pods.count == Count::One
                    && pods.node.is_some()
                    && !pods.addresses.is_empty()
                    && pods.pods(std::iter::empty()).iter().any(|(own, _)| own == name)
            }
            Wanted::Node(_) => false,
        })
    };
    placed.iter().filter(|(name, _)| !whole(name)).map(|(_, pod)| pod.object.clone()).collect()
}

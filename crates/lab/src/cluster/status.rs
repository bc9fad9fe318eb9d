//! What there is in a cluster, for people and programs.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use portolan_apiserver::{Objects, Resource};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::finding::Finding;
use crate::object::{is_ready, items, place, short_name, text};
use crate::topology::Lab;

/// What there is, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The nodes.
    pub nodes: Vec<NodeStatus>,
    /// The pods.
    pub pods: Vec<PodStatus>,
    /// The Services.
    pub services: Vec<ServiceStatus>,
    /// What is wrong with the manifests, or ignored in them.
    pub problems: Vec<Finding>,
    /// The addresses of the client outside.
    pub client: Vec<IpAddr>,
    /// The folder of logs and what the proxies remember, as `lab exec` sees it.
    pub state: PathBuf,
    /// Where clients outside of the lab find the API server.
    pub api: String,
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
    /// The mode of its proxy.
    pub proxy_mode: String,
    /// Whether it is ready, as its object says.
    pub ready: bool,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStatus {
    /// Its name, with its namespace before it unless that is `default`.
    pub name: String,
    /// Its node; empty if it has none.
    pub node: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its `containerPort`s.
    pub ports: Vec<u16>,
    /// Whether it is ready: only then do Services lead to it.
    pub ready: bool,
    /// What state it is in, as kubectl shows it: `Running`, `CrashLoopBackOff`.
    pub state: String,
    /// Whether it has its node's network.
    pub host_network: bool,
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name, with its namespace before it unless that is `default`.
    pub name: String,
    /// Its ClusterIPs.
    pub cluster_ips: Vec<IpAddr>,
    /// Its external addresses, those of load balancers among them.
    pub external_ips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<PortStatus>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// Its name; empty for none.
    pub name: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Its number.
    pub port: u16,
    /// The port on every node, if it has one.
    pub node_port: Option<u16>,
}

/// What there is now. `proxy` gives the state and the mode of a node's proxy.
pub(super) fn status(
    objects: &Objects,
    lab: &Lab,
    proxy: &dyn Fn(&str) -> (String, String),
    problems: Vec<Finding>,
    state: &Path,
    api: &str,
) -> Status {
    let nodes = lab.node_names().into_iter().filter_map(|name| {
        let spec = lab.node_spec(&name).ok()?;
        let object = objects.get(Resource::Nodes, "", &name).unwrap_or_default();
        let (proxy, proxy_mode) = proxy(&name);
        Some(NodeStatus {
            name,
            addresses: spec.addresses.iter().map(IpNet::addr).collect(),
            pod_networks: spec.pod_networks,
            proxy,
            proxy_mode,
            ready: is_ready(&object),
        })
    });
    Status {
        nodes: nodes.collect(),
        pods: objects.list(Resource::Pods).iter().map(pod).collect(),
        services: objects.list(Resource::Services).iter().map(service).collect(),
        problems,
        client: lab.client_spec().addresses.iter().map(IpNet::addr).collect(),
        state: state.to_owned(),
        api: api.to_owned(),
    }
}

fn name(object: &Value) -> String {
    let (namespace, name) = place(object);
    short_name(namespace, name)
}

fn port(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|number| u16::try_from(number).ok())
}

fn pod(pod: &Value) -> PodStatus {
    let addresses = items(&pod["status"]["podIPs"]).filter_map(|one| text(&one["ip"]).parse().ok());
    let mut ports: Vec<u16> = items(&pod["spec"]["containers"])
        .flat_map(|container| items(&container["ports"]))
        .filter_map(|one| port(&one["containerPort"]))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    PodStatus {
        name: name(pod),
        node: text(&pod["spec"]["nodeName"]).to_owned(),
        addresses: addresses.collect(),
        ports,
        ready: is_ready(pod),
        state: state(pod),
        host_network: pod["spec"]["hostNetwork"] == true,
    }
}

/// As kubectl shows it, as far as people ask the lab and not kubectl.
fn state(pod: &Value) -> String {
    if pod["metadata"]["deletionTimestamp"].is_string() {
        return "Terminating".to_owned();
    }
    let waiting = items(&pod["status"]["containerStatuses"]).find_map(|one| {
        one["state"]["waiting"]["reason"].as_str().or(one["state"]["terminated"]["reason"].as_str())
    });
    waiting.unwrap_or(pod["status"]["phase"].as_str().unwrap_or("Pending")).to_owned()
}

fn service(service: &Value) -> ServiceStatus {
    let spec = &service["spec"];
    let addresses =
        |list: &Value| items(list).filter_map(|one| text(one).parse().ok()).collect::<Vec<IpAddr>>();
    let balanced = items(&service["status"]["loadBalancer"]["ingress"]);
    let balanced = balanced.filter_map(|ingress| text(&ingress["ip"]).parse().ok());
    ServiceStatus {
        name: name(service),
        cluster_ips: addresses(&spec["clusterIPs"]),
        external_ips: addresses(&spec["externalIPs"]).into_iter().chain(balanced).collect(),
        ports: items(&spec["ports"])
            .map(|one| PortStatus {
                name: text(&one["name"]).to_owned(),
                protocol: text(&one["protocol"]).to_owned(),
                port: port(&one["port"]).unwrap_or_default(),
                node_port: port(&one["nodePort"]),
            })
            .collect(),
    }
}

//! What `portolan get` shows, a row each: the form in which the running proxy answers, as JSON.

mod traffic;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use portolan_service::{Backend, Frontend, FrontendKind, List, Masquerade, PortPlan, ServicePlan, Verdict};
use serde::{Deserialize, Serialize};

pub use self::traffic::{CountsRow, DestinationRow, TrafficRow};

/// One Service port in one address family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRow {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// The port's name; may be empty.
    pub port: String,
    /// `IPv4` or `IPv6`
    pub family: String,
    /// `tcp`, `udp` or `sctp`
    pub protocol: String,
    /// Where clients connect to.
    pub frontends: Vec<FrontendRow>,
    /// The policy for clients of the ClusterIP, as far as it shows in what is forwarded: a Service
    /// without any endpoint is refused under each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_policy: Option<String>,
    /// The policy for clients from outside, if the Service has frontends for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_policy: Option<String>,
    /// Distinct endpoints that new connections may go to.
    pub endpoints: usize,
    /// Those of them on this node.
    pub local_endpoints: usize,
    /// The timeout of session affinity in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity_seconds: Option<u32>,
    /// The NodePort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_port: Option<u16>,
    /// What was counted for it, in a mode that has the kernel count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficRow>,
    /// Where the kernel leads connections, in such a mode.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<DestinationRow>,
}

/// A load-balancer address that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressRow {
    /// The address.
    pub address: String,
    /// `NAMESPACE/NAME` of each Service that has it.
    pub services: Vec<String>,
    /// The interface of this node that it is announced on, or would be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The node that announces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Why that one, or why none.
    pub reason: String,
    /// The routing table that has a route for it, because this node may announce it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing_table: Option<u32>,
    /// The hardware addresses of other machines that announce it, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub duplicates: Vec<String>,
}

/// A name that is served, with its records of one type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NameRow {
    /// The whole name, without a dot at the end.
    pub name: String,
    /// The namespace of its Service.
    pub namespace: String,
    /// The name of its Service.
    pub service: String,
    /// What a question for it is answered with: `NOERROR` or `NXDOMAIN`.
    pub rcode: String,
    /// The type of the records: `A`, `AAAA`, `CNAME` or `SRV`; empty if there are none.
    #[serde(rename = "type")]
    pub kind: String,
    /// How long they may be kept, seconds.
    #[serde(rename = "ttl")]
    pub ttl: u32,
    /// Addresses, the target of an alias (of several targets one is drawn), or `TARGET:PORT` for
    /// SRV.
    pub answers: Vec<String>,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One address and port that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrontendRow {
    /// `ClusterIP`, `ExternalIP`, `LoadBalancer` or `NodePort`
    pub kind: String,
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// Where connections from pods of this node and the node itself go: a list (`cluster`,
    /// `local`), `reject` or `drop`.
    pub inside: String,
    /// Where all others go.
    pub outside: String,
    /// The only networks from which connections are let in, if that is restricted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_sources: Vec<String>,
}

/// One endpoint of one Service port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointRow {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub service: String,
    /// The Service port's name; may be empty.
    pub port: String,
    /// `tcp`, `udp` or `sctp`
    pub protocol: String,
    /// The endpoint's address.
    pub address: IpAddr,
    /// The endpoint's port.
    pub target_port: u16,
    /// It runs on this node.
    pub local: bool,
    /// The lists it is in: `cluster` and `local` get new connections; one that is only in `serving`
    /// (UDP) keeps those it has.
    pub lists: Vec<String>,
    /// Its share of new connections, in a mode that has the kernel count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// What was counted for it, in such a mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficRow>,
}

/// A Pod that this process probes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodRow {
    /// The Pod's namespace.
    pub namespace: String,
    /// The Pod's name.
    pub pod: String,
    /// Its address.
    pub address: IpAddr,
    /// Whether it is ready; nothing as long as no probe has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// For how long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_seconds: Option<f64>,
    /// Its probes.
    pub probes: Vec<ProbeRow>,
}

/// A probe, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeRow {
    /// The container.
    pub container: String,
    /// `startup`, `liveness` or `readiness`
    pub kind: String,
    /// What it counts as.
    pub passes: bool,
    /// How often it was carried out.
    pub count: u64,
    /// How long ago the last time was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ago_seconds: Option<f64>,
    /// How long that took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_seconds: Option<f64>,
    /// The last time that it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<ProbeFailureRow>,
}

/// A probe that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeFailureRow {
    /// How long ago.
    pub ago_seconds: f64,
    /// What was wrong.
    pub reason: String,
    /// It has passed since.
    pub over: bool,
}

/// One transaction, or the attempt at one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeRow {
    /// When it was done, RFC 3339.
    pub at: String,
    /// The Services it touched: the first few.
    pub services: Vec<String>,
    /// How many Services it touched.
    pub service_count: usize,
    /// What changed: the first few lines.
    pub lines: Vec<String>,
    /// Everything was written, not only what changed.
    pub full: bool,
    /// From the receipt of the first change to its being in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_to_commit_seconds: Option<f64>,
    /// From the first byte encoded to the kernel's answer.
    pub commit_seconds: f64,
    /// Rules and set elements written or removed.
    pub operations: usize,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The policy for clients from outside, by those of its frontends that rules serve. Where there are
/// none, by the list that the proxy itself takes endpoints from.
fn external_policy(external: &[&Frontend]) -> Option<&'static str> {
    match external.iter().find(|frontend| !frontend.is_relayed()) {
        Some(frontend) if frontend.masquerade == Masquerade::FromNode => Some("Local"),
        Some(_) => Some("Cluster"),
        None => external.first().and_then(|frontend| policy(frontend.inside)),
    }
}

/// The rows of `plan`, one for each port and family, in the order of the plan.
pub fn service_rows(plan: &ServicePlan) -> Vec<ServiceRow> {
    plan.ports.iter().map(|port| service_row(plan, port)).collect()
}

/// The endpoints of `plan`, port by port, in the order of their addresses.
pub fn endpoint_rows(plan: &ServicePlan) -> Vec<EndpointRow> {
    plan.ports.iter().flat_map(|port| endpoints_of_port(plan, port)).collect()
}

fn service_row(plan: &ServicePlan, port: &PortPlan) -> ServiceRow {
    let endpoints = distinct(port.cluster.iter().chain(&*port.local));
    let (internal, external): (Vec<_>, Vec<_>) =
        port.frontends.iter().partition(|frontend| frontend.kind == FrontendKind::ClusterIp);
    ServiceRow {
        namespace: plan.name.namespace().to_owned(),
        name: plan.name.name().to_owned(),
        port: port.name.to_string(),
        family: port.family.to_string(),
        protocol: port.protocol.to_string(),
        frontends: port.frontends.iter().map(frontend_row).collect(),
        internal_policy: internal.first().and_then(|frontend| policy(frontend.inside)).map(str::to_owned),
        external_policy: external_policy(&external).map(str::to_owned),
        endpoints: endpoints.len(),
        local_endpoints: endpoints.iter().filter(|backend| backend.is_local()).count(),
        affinity_seconds: port.affinity,
        node_port: port.node_port,
        traffic: None,
        destinations: Vec::new(),
    }
}

fn frontend_row(frontend: &Frontend) -> FrontendRow {
    FrontendRow {
        kind: match frontend.kind {
            FrontendKind::ClusterIp => "ClusterIP",
            FrontendKind::ExternalIp => "ExternalIP",
            FrontendKind::LoadBalancer => "LoadBalancer",
            FrontendKind::NodePort => "NodePort",
        }
        .to_owned(),
        address: frontend.address,
        port: frontend.port,
        inside: verdict(frontend.inside).to_owned(),
        outside: verdict(frontend.outside).to_owned(),
        allowed_sources: frontend
            .allowed_sources
            .iter()
            .flat_map(|sources| &sources.merged)
            .map(ToString::to_string)
            .collect(),
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Forward(List::Cluster) => "cluster",
        Verdict::Forward(List::Local) => "local",
        Verdict::Reject => "reject",
        Verdict::Drop => "drop",
    }
}

/// The traffic policy that leads to `verdict` (spec §2.10). Both can lead to a rejection.
fn policy(verdict: Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::Forward(List::Cluster) => Some("Cluster"),
        Verdict::Forward(List::Local) | Verdict::Drop => Some("Local"),
        Verdict::Reject => None,
    }
}

fn endpoints_of_port(plan: &ServicePlan, port: &PortPlan) -> Vec<EndpointRow> {
    let lists = [("cluster", &port.cluster), ("local", &port.local), ("serving", &port.serving)];
    let members = lists.map(|(name, list)| (name, list.iter().copied().collect::<HashSet<Backend>>()));
    distinct(lists.iter().flat_map(|(_, list)| list.iter()))
        .into_iter()
        .map(|backend| EndpointRow {
            namespace: plan.name.namespace().to_owned(),
            service: plan.name.name().to_owned(),
            port: port.name.to_string(),
            protocol: port.protocol.to_string(),
            address: backend.address,
            target_port: backend.port,
            local: backend.is_local(),
            lists: members
                .iter()
                .filter(|(_, list)| list.contains(&backend))
                .map(|(name, _)| (*name).to_owned())
                .collect(),
            weight: None,
            traffic: None,
        })
        .collect()
}

fn distinct<'a>(backends: impl Iterator<Item = &'a Backend>) -> Vec<Backend> {
    let mut distinct: Vec<Backend> = backends.copied().collect();
    distinct.sort_unstable_by_key(|backend| (backend.address, backend.port, backend.place));
    distinct.dedup();
    distinct
}

impl FrontendRow {
    /// Address and port, as clients write them.
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

impl EndpointRow {
    /// Address and port, as clients write them.
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.target_port)
    }
}

#[cfg(test)]
mod tests;

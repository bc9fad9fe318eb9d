//! What one node must forward: the planner's answer, in terms that every dataplane understands.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::{Family, ObjectName, PerFamily, Protocol, ProxyProtocol, Scheduler};

/// One address and port that a connection can be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Backend {
    /// The endpoint's address.
    pub address: IpAddr,
    /// The endpoint's port.
    pub port: u16,
    /// Where it runs.
    pub place: Place,
    /// How many of the new connections it gets, next to the weights of the others in its list: 1 to
    /// [`Weights::MAX`](crate::Weights::MAX). In no list of those that get new connections it may
    /// be 0.
    pub weight: u16,
}

impl Backend {
    /// It is known to run on this node.
    pub fn is_local(&self) -> bool {
        self.place == Place::Here
    }

    /// It may be its own client through this node (hairpin, spec §4.7): only an endpoint that is
    /// known to run elsewhere cannot.
    pub fn may_hairpin(&self) -> bool {
        self.place != Place::Elsewhere
    }
}

/// Where an endpoint runs, by the node name in its EndpointSlice (spec §1.25).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// On this node.
    Here,
    /// On another node.
    Elsewhere,
    /// Nobody said: slices written by hand or mirrored from Endpoints may name no node.
    Unknown,
}

/// Which of a port's two endpoint lists (spec §2.3, §2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum List {
    /// The Cluster list: ready endpoints that topology allows, else serving terminating ones.
    Cluster,
    /// The Local list: the same on this node, without topology.
    Local,
}

/// What happens to a new connection (spec §2.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It goes to a member of this list, each with a probability by its weight. The list is not
    /// empty.
    Forward(List),
    /// It is refused with an ICMP error.
    Reject,
    /// It is dropped silently.
    Drop,
}

/// When the source address is replaced by the node's (spec §4). A connection translated to its own
/// source (hairpin, §4.7) is always masqueraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Masquerade {
    /// ClusterIP: sources that are not local pods, or all under `masquerade-all` (spec §4.4).
    NotLocal,
    /// External frontends with policy Cluster (spec §4.5).
    Always,
    /// External frontends with policy Local: the node's own connections (spec §4.6).
    FromNode,
}

/// What kind of address a frontend has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrontendKind {
    /// A ClusterIP.
    ClusterIp,
    /// An entry of `spec.externalIPs`.
    ExternalIp,
    /// A load-balancer address of mode VIP.
    LoadBalancer,
    /// A NodePort on one of the node's selected addresses.
    NodePort,
}

/// One address and port that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontend {
    /// What kind of address it is.
    pub kind: FrontendKind,
    /// The destination address.
    pub address: IpAddr,
    /// The destination port.
    pub port: u16,
    /// For connections from pods of this node and from the node itself. Differs from `outside` only
    /// under `externalTrafficPolicy: Local` (spec §4.6). Where no local detector exists, pods of
    /// this node count as outside (§4.9).
    pub inside: Verdict,
    /// For all other connections.
    pub outside: Verdict,
    /// When the source is masqueraded.
    pub masquerade: Masquerade,
    /// If set, connections from other sources are dropped, before anything else (spec §3.15-3.19).
    pub allowed_sources: Option<Arc<AllowedSources>>,
}

/// The sources that may connect to the load-balancer addresses of a Service (spec §1.14, §3.18), in
/// two forms that allow the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedSources {
    /// Sorted and merged: no two networks overlap or could be one.
    pub merged: Box<[IpNet]>,
    /// As the Service lists them, each at its first place. The load-balancer addresses that the
    /// node may use for itself follow (spec §5.29). Host bits are zero.
    pub listed: Box<[IpNet]>,
}

impl AllowedSources {
    /// Sources in any of `networks`, in this order.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> AllowedSources {
        let mut known = HashSet::new();
        let networks = networks.into_iter().map(|network| network.trunc());
        let listed: Vec<IpNet> = networks.filter(|network| known.insert(*network)).collect();
        AllowedSources { merged: IpNet::aggregate(&listed).into(), listed: listed.into() }
    }

    /// Whether every source of a family is allowed.
    pub fn is_everything(&self) -> bool {
        // Also two halves make a whole.
        self.merged.iter().any(|network| network.prefix_len() == 0)
    }
}

/// One Service port in one family. The address, protocol and port of a frontend is there once in
/// the whole plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortPlan {
    /// The family of all addresses here.
    pub family: Family,
    /// The port's name; may be empty.
    pub name: Arc<str>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The Cluster list, sorted as spec §1.28; empty if no frontend uses it.
    pub cluster: Arc<[Backend]>,
    /// The Local list, sorted alike; empty if no frontend uses it.
    pub local: Arc<[Backend]>,
    /// For UDP: every serving endpoint, whatever policy, topology or readiness (spec §8.2).
    /// Established flows to these are left alone. Empty for other protocols.
    pub serving: Arc<[Backend]>,
    /// For TCP and SCTP, where IPVS chooses endpoints: those of weight 0, which keep their
    /// connections, whatever policy and topology.
    pub resting: Arc<[Backend]>,
    /// Session affinity by client address, with its timeout in seconds (spec §3.20).
    pub affinity: Option<u32>,
    /// Connections to endpoints begin with this version of the PROXY protocol: see
    /// [`LocalNode::writes_proxy_protocol`](crate::LocalNode::writes_proxy_protocol). TCP only.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// The scheduler of IPVS that the Service asks for, if it is another than the mode's: see
    /// [`LocalNode::has_schedulers`](crate::LocalNode::has_schedulers).
    pub scheduler: Option<Scheduler>,
    /// The NodePort, also where no address is selected for it.
    pub node_port: Option<u16>,
    /// Where clients connect to, sorted by kind, address, port.
    pub frontends: Vec<Frontend>,
}

impl PortPlan {
    /// The members of `list`.
    pub fn backends(&self, list: List) -> &Arc<[Backend]> {
        match list {
            List::Cluster => &self.cluster,
            List::Local => &self.local,
        }
    }

    /// Clients of the ClusterIP find no endpoint on this node and may use no other (spec §2.10).
    pub fn lacks_internal_endpoints(&self) -> bool {
        self.frontends.iter().any(|frontend| frontend.is_internal() && frontend.inside == Verdict::Drop)
    }

    /// Clients from outside find no endpoint on this node and may use no other (spec §2.10).
    pub fn lacks_external_endpoints(&self) -> bool {
        self.frontends.iter().any(|frontend| !frontend.is_internal() && frontend.outside == Verdict::Drop)
    }
}

impl Frontend {
    /// The proxy itself takes the connections, all from the node, with sockets and not by rules:
    /// see [`LocalNode::relays_loopback`](crate::LocalNode::relays_loopback).
    pub fn is_relayed(&self) -> bool {
        self.address.is_loopback() && self.masquerade == Masquerade::FromNode && self.inside == self.outside
    }

    fn is_internal(&self) -> bool {
        self.kind == FrontendKind::ClusterIp
    }
}

/// The health-check responder of a Service (spec §3.14, §11.8-11.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthCheck {
    /// The TCP port it answers on.
    pub port: u16,
    /// Distinct addresses of ready endpoints on this node, over all ports.
    pub local_endpoints: PerFamily<usize>,
}

/// What this node must forward for one Service. Two plans are equal exactly if they ask for the
/// same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePlan {
    /// The Service.
    pub name: ObjectName,
    /// Its ports in each family, sorted by family, protocol, name.
    pub ports: Vec<PortPlan>,
    /// Its health-check responder, if it has one.
    pub health_check: Option<HealthCheck>,
}

impl ServicePlan {
    /// The name of `port` as people write it: `namespace/name:port`, or `namespace/name` for a port
    /// without a name (spec §1.19).
    pub fn port_name(&self, port: &PortPlan) -> String {
        if port.name.is_empty() { self.name.to_string() } else { format!("{}:{}", self.name, port.name) }
    }
}

/// The difference between two states of the plan of one Service. `before` and `after` differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceChange {
    /// The Service.
    pub name: ObjectName,
    /// What was forwarded; `None` if nothing was.
    pub before: Option<Arc<ServicePlan>>,
    /// What is to be forwarded; `None` if nothing is.
    pub after: Option<Arc<ServicePlan>>,
}

/// What a batch of object changes means for the plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeSet {
    /// One entry for each Service whose plan changed, sorted by name.
    pub services: Vec<ServiceChange>,
}

impl ChangeSet {
    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }
}

/// Something in a Service that the plan could not honour, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The Service.
    pub service: ObjectName,
    /// What is wrong, naming field and value, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service {}: {}", self.service, self.message)
    }
}

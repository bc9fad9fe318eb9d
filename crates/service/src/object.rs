//! Services and EndpointSlices, reduced to the fields that a service proxy reads (spec §1.8, §1.20-1.27).
//!
//! Sources build these; they have checked ports and parsed addresses, so that every value here is usable.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;

use crate::{Family, Node, ObjectName, Protocol};

/// One step of the observed state: an object as it now is, or its removal.
///
/// Cheap to clone: all who take it share the object.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A Service was created or changed.
    Service(Arc<Service>),
    /// A Service is gone.
    ServiceRemoved(ObjectName),
    /// An EndpointSlice was created or changed.
    Slice(Arc<EndpointSlice>),
    /// An EndpointSlice is gone.
    SliceRemoved(ObjectName),
    /// A Node was created or changed. Its name is not namespaced.
    Node(Node),
    /// A Node is gone.
    NodeRemoved(Arc<str>),
}

/// What a change is about: of two changes with the same subject the later one says everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject<'a> {
    /// The Service of this name.
    Service(&'a ObjectName),
    /// The EndpointSlice of this name.
    Slice(&'a ObjectName),
    /// The Node of this name.
    Node(&'a str),
}

impl From<Service> for Change {
    fn from(service: Service) -> Change {
        Change::Service(Arc::new(service))
    }
}

impl From<EndpointSlice> for Change {
    fn from(slice: EndpointSlice) -> Change {
        Change::Slice(Arc::new(slice))
    }
}

impl Change {
    /// What it is about.
    pub fn subject(&self) -> Subject<'_> {
        match self {
            Change::Service(service) => Subject::Service(&service.name),
            Change::ServiceRemoved(name) => Subject::Service(name),
            Change::Slice(slice) => Subject::Slice(&slice.name),
            Change::SliceRemoved(name) => Subject::Slice(name),
            Change::Node(node) => Subject::Node(&node.name),
            Change::NodeRemoved(name) => Subject::Node(name),
        }
    }

    /// Leaves of all `changes` with the same subject the last one, in their order.
    pub fn keep_last(changes: &mut Vec<Change>) {
        let mut seen = HashSet::with_capacity(changes.len());
        let mut last: Vec<bool> = changes.iter().rev().map(|change| seen.insert(change.subject())).collect();
        changes.retain(|_| last.pop().unwrap_or(true));
    }
}

/// `spec.type` of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceType {
    /// Reached on its ClusterIP (and external IPs) only.
    ClusterIp,
    /// Also on a port of every node.
    NodePort,
    /// Also on load-balancer addresses.
    LoadBalancer,
    /// A DNS alias; never proxied (spec §1.10).
    ExternalName,
}

/// `spec.internalTrafficPolicy`: which endpoints ClusterIP traffic may use (spec §2.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InternalPolicy {
    /// All.
    Cluster,
    /// Those on this node.
    Local,
}

/// `spec.externalTrafficPolicy`: which endpoints traffic from outside may use (spec §1.15, §2.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExternalPolicy {
    /// All; the client's address is hidden by masquerading.
    Cluster,
    /// Those on this node; the client's address is kept.
    Local,
}

/// `status.loadBalancer.ingress[].ipMode` (spec §1.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IngressMode {
    /// Packets arrive with the load balancer's address: the node must translate it.
    Vip,
    /// The load balancer is a proxy of its own: the node must leave its address alone.
    Proxy,
}

/// `spec.healthCheckNodePort` of a Service (spec §1.16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthCheckPort {
    /// 0, or not set.
    Unset,
    /// This port, 1-65535.
    Port(u16),
    /// None could be had. The source that allocates ports has reported why.
    Withheld,
}

impl HealthCheckPort {
    /// The port, if there is one.
    pub fn number(self) -> Option<u16> {
        match self {
            HealthCheckPort::Port(port) => Some(port),
            HealthCheckPort::Unset | HealthCheckPort::Withheld => None,
        }
    }
}

impl From<Option<u16>> for HealthCheckPort {
    /// `None` is [`HealthCheckPort::Unset`].
    fn from(port: Option<u16>) -> HealthCheckPort {
        port.map_or(HealthCheckPort::Unset, HealthCheckPort::Port)
    }
}

/// One address of `status.loadBalancer.ingress`. Entries with only a host name are not represented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadBalancerIngress {
    /// The load balancer's address.
    pub ip: IpAddr,
    /// Whether nodes translate it.
    pub mode: IngressMode,
}

/// One entry of `spec.ports` of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// The port's name; empty when it has none.
    pub name: Arc<str>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port on Service addresses, 1-65535.
    pub port: u16,
    /// The port on nodes, if any, 1-65535.
    pub node_port: Option<u16>,
}

/// A Service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Namespace and name.
    pub name: ObjectName,
    /// `spec.type`
    pub kind: ServiceType,
    /// `spec.clusterIP`; `None` when empty or `None` (headless).
    pub cluster_ip: Option<IpAddr>,
    /// `spec.clusterIPs`, in order.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.ipFamilies`, in order; empty when unset.
    pub ip_families: Vec<Family>,
    /// `spec.ports`
    pub ports: Vec<ServicePort>,
    /// `spec.externalIPs`
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress` entries that have an address.
    pub load_balancer: Vec<LoadBalancerIngress>,
    /// `spec.loadBalancerSourceRanges`, as written (overlaps and zero prefixes included).
    pub source_ranges: Vec<IpNet>,
    /// `sessionAffinity: ClientIP` with its timeout in seconds, 1-86400.
    pub affinity: Option<u32>,
    /// `spec.internalTrafficPolicy`
    pub internal_policy: InternalPolicy,
    /// `spec.externalTrafficPolicy`
    pub external_policy: ExternalPolicy,
    /// `spec.healthCheckNodePort`
    pub health_check_node_port: HealthCheckPort,
    /// The label `service.kubernetes.io/service-proxy-name` is set: another proxy serves it (spec §1.1, §1.5).
    pub other_proxy: bool,
}

/// One entry of `ports` of an EndpointSlice. Entries without name or number are not represented (spec §1.22).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    /// The name it shares with a Service port; may be empty.
    pub name: Arc<str>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port on the endpoints, 1-65535.
    pub port: u16,
}

/// One endpoint of an EndpointSlice: its first address (spec §1.23) with conditions after defaulting (§1.24).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `addresses[0]`
    pub address: IpAddr,
    /// `conditions.ready`; nil is true.
    pub ready: bool,
    /// `conditions.serving`; nil is true.
    pub serving: bool,
    /// `conditions.terminating`; nil is false.
    pub terminating: bool,
    /// `nodeName`
    pub node: Option<Arc<str>>,
    /// `hints.forZones[].name`
    pub zone_hints: Box<[Arc<str>]>,
    /// `hints.forNodes[].name`
    pub node_hints: Box<[Arc<str>]>,
}

/// An EndpointSlice of address type IPv4 or IPv6 that names its Service (spec §1.20, §1.21).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Namespace and name of the slice.
    pub name: ObjectName,
    /// The Service it belongs to (label `kubernetes.io/service-name`).
    pub service: ObjectName,
    /// `addressType`
    pub family: Family,
    /// `ports`
    pub ports: Vec<SlicePort>,
    /// `endpoints` that have an address.
    pub endpoints: Vec<Endpoint>,
}

/// When something happened to the endpoints of a Service in one family, by the cluster's clock
/// (annotation `endpoints.kubernetes.io/last-change-trigger-time`, spec §9.15).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointsTrigger {
    /// The Service.
    pub service: ObjectName,
    /// The family of its endpoints.
    pub family: Family,
    /// When it happened.
    pub at: SystemTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_object_the_last_change_is_kept() {
        let name = |name| ObjectName::new("shop", name);
        let node = |name: &str| Change::NodeRemoved(name.into());
        let (gone, gone_slice) =
            (|text| Change::ServiceRemoved(name(text)), |text| Change::SliceRemoved(name(text)));
        let mut changes = vec![gone("a"), gone_slice("a"), gone("b"), node("a"), gone("a"), node("a")];
        Change::keep_last(&mut changes);
        assert_eq!(changes, [gone_slice("a"), gone("b"), gone("a"), node("a")]);
    }
}

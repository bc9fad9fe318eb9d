//! Services, reduced to the fields that a service proxy (spec §1.8, §1.10-1.18) and names for
//! Services need.
//!
//! Sources build these. They have checked ports and parsed addresses, so that every value is
//! usable.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::{AskedProxyProtocol, AskedScheduler, Family, ObjectName, Protocol, Weights};

/// `spec.type` of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceType {
    /// Reached on its ClusterIP (and external IPs) only.
    ClusterIp,
    /// Also on a port of every node.
    NodePort,
    /// Also on load-balancer addresses.
    LoadBalancer,
    /// An alias in the DNS; never proxied (spec §1.10).
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
    /// `spec.clusterIP`; `None` when it has none (yet), or is headless.
    pub cluster_ip: Option<IpAddr>,
    /// `clusterIP: None`: its name stands for its endpoints, and no proxy serves it.
    pub headless: bool,
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
    /// `spec.loadBalancerClass`
    pub load_balancer_class: Option<Arc<str>>,
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
    /// The label `service.kubernetes.io/service-proxy-name` is set: another proxy serves it
    /// (spec §1.1, §1.5).
    pub other_proxy: bool,
    /// `spec.externalName` as written: what the name of an `ExternalName` Service is an alias of.
    pub external_name: Option<Arc<str>>,
    /// `spec.publishNotReadyAddresses`: endpoints have names before they are ready. Their slices
    /// already say that they are ready.
    pub publish_not_ready: bool,
    /// The annotation `portolan.dev/proxy-protocol`: connections to endpoints begin with it.
    pub proxy_protocol: Option<AskedProxyProtocol>,
    /// The annotation `portolan.dev/ipvs-scheduler`, or kube-router's: how IPVS chooses endpoints.
    pub scheduler: Option<AskedScheduler>,
    /// The annotation `portolan.dev/endpoint-weights`, or what is wrong with it.
    pub weights: Option<Result<Weights, String>>,
}

impl Service {
    /// A Service of type `ClusterIP` with nothing but its name.
    pub fn new(name: ObjectName) -> Service {
        Service {
            name,
            kind: ServiceType::ClusterIp,
            cluster_ip: None,
            headless: false,
            cluster_ips: Vec::new(),
            ip_families: Vec::new(),
            ports: Vec::new(),
            external_ips: Vec::new(),
            load_balancer: Vec::new(),
            load_balancer_class: None,
            source_ranges: Vec::new(),
            affinity: None,
            internal_policy: InternalPolicy::Cluster,
            external_policy: ExternalPolicy::Cluster,
            health_check_node_port: HealthCheckPort::Unset,
            other_proxy: false,
            external_name: None,
            publish_not_ready: false,
            proxy_protocol: None,
            scheduler: None,
            weights: None,
        }
    }
}

//! Services as people declare them, before anything is allocated.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use portolan_service::{
    AskedProxyProtocol, AskedScheduler, ExternalPolicy, Family, InternalPolicy, LoadBalancerIngress,
    Protocol, ServiceType, Weights,
};

use crate::Labels;
use crate::load_balancer::Wishes;

/// A Service as declared. The default is type ClusterIP with nothing else.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "the switches of the API")]
pub struct ServiceSpec {
    /// `type`
    pub kind: ServiceType,
    /// `clusterIP: None`
    pub headless: bool,
    /// The ClusterIPs asked for, at most one of each family.
    pub cluster_ips: Vec<IpAddr>,
    /// The families asked for, in order, those of `cluster_ips` first.
    pub families: Vec<Family>,
    /// `ipFamilyPolicy`
    pub family_policy: FamilyPolicy,
    /// `ports`
    pub ports: Vec<PortSpec>,
    /// `externalIPs`
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress`
    pub load_balancer: Vec<LoadBalancerIngress>,
    /// What it asks for of load-balancer addresses.
    pub wishes: Wishes,
    /// Its labels.
    pub labels: Labels,
    /// `loadBalancerSourceRanges`
    pub source_ranges: Vec<IpNet>,
    /// `sessionAffinity: ClientIP` with its timeout in seconds, 1-86400.
    pub affinity: Option<u32>,
    /// `internalTrafficPolicy`
    pub internal_policy: InternalPolicy,
    /// `externalTrafficPolicy`
    pub external_policy: ExternalPolicy,
    /// `loadBalancerClass`
    pub load_balancer_class: Option<Arc<str>>,
    /// The `healthCheckNodePort` asked for.
    pub health_check_node_port: Option<u16>,
    /// The label `service.kubernetes.io/service-proxy-name` is set.
    pub other_proxy: bool,
    /// `selector`; empty for none: the endpoints are given.
    pub selector: Labels,
    /// `publishNotReadyAddresses`
    pub publish_not_ready: bool,
    /// `trafficDistribution`
    pub distribution: Distribution,
    /// `allocateLoadBalancerNodePorts`
    pub allocate_node_ports: bool,
    /// `externalName`
    pub external_name: Option<Arc<str>>,
    /// The annotation `portolan.dev/proxy-protocol`
    pub proxy_protocol: Option<AskedProxyProtocol>,
    /// The annotation `portolan.dev/ipvs-scheduler`, or kube-router's
    pub scheduler: Option<AskedScheduler>,
    /// The annotation `portolan.dev/endpoint-weights`
    pub weights: Option<Result<Weights, String>>,
}

/// An entry of `spec.ports`.
#[derive(Debug, Clone, PartialEq)]
pub struct PortSpec {
    /// `name`; may be empty.
    pub name: Arc<str>,
    /// `protocol`
    pub protocol: Protocol,
    /// `port`, 1-65535.
    pub port: u16,
    /// `targetPort`
    pub target: TargetPort,
    /// The NodePort asked for.
    pub node_port: Option<u16>,
}

/// `targetPort`
#[derive(Debug, Clone, PartialEq)]
pub enum TargetPort {
    /// A number, 1-65535.
    Number(u16),
    /// The name of a container port, which may have another number in each pod.
    Name(Arc<str>),
}

/// `ipFamilyPolicy`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FamilyPolicy {
    /// `SingleStack`
    Single,
    /// `PreferDualStack`
    Prefer,
    /// `RequireDualStack`
    Require,
}

/// `trafficDistribution`: which hints endpoints get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// None.
    Any,
    /// Their node's zone.
    SameZone,
    /// Their node, and its zone.
    SameNode,
}

impl Default for ServiceSpec {
    fn default() -> ServiceSpec {
        ServiceSpec {
            kind: ServiceType::ClusterIp,
            headless: false,
            cluster_ips: Vec::new(),
            families: Vec::new(),
            family_policy: FamilyPolicy::Single,
            ports: Vec::new(),
            external_ips: Vec::new(),
            load_balancer: Vec::new(),
            wishes: Wishes::default(),
            labels: Labels::new(),
            source_ranges: Vec::new(),
            affinity: None,
            internal_policy: InternalPolicy::Cluster,
            external_policy: ExternalPolicy::Cluster,
            load_balancer_class: None,
            health_check_node_port: None,
            other_proxy: false,
            selector: Labels::new(),
            publish_not_ready: false,
            distribution: Distribution::Any,
            allocate_node_ports: true,
            external_name: None,
            proxy_protocol: None,
            scheduler: None,
            weights: None,
        }
    }
}

impl ServiceSpec {
    /// Whether NodePorts that are not asked for are allocated.
    pub(crate) fn wants_node_ports(&self) -> bool {
        match self.kind {
            ServiceType::NodePort => true,
            ServiceType::LoadBalancer => self.allocate_node_ports,
            ServiceType::ClusterIp | ServiceType::ExternalName => false,
        }
    }

    /// Whether it has a health-check port (spec §1.16).
    pub(crate) fn wants_health_check(&self) -> bool {
        self.kind == ServiceType::LoadBalancer && self.external_policy == ExternalPolicy::Local
    }

    /// Whether it has ClusterIPs, given or allocated.
    pub(crate) fn wants_addresses(&self) -> bool {
        self.kind != ServiceType::ExternalName && !self.headless
    }
}

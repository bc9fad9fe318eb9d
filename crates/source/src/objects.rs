//! Kubernetes objects as they are written, with only the fields that this program reads.
//!
//! Numbers are wider than their valid range, so that a value out of range can be reported as such.
//! Nothing here is checked; that is the work of the conversion into declarations.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, Visitor};

/// `metadata` of any object.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Annotations.
    pub(crate) annotations: BTreeMap<String, String>,
    /// Set while the object is being deleted.
    pub(crate) deletion_timestamp: Option<String>,
}

/// v1 Service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Service {
    /// Metadata.
    pub(crate) metadata: Metadata,
    /// What is asked for.
    pub(crate) spec: ServiceSpec,
    /// What a load balancer has answered.
    pub(crate) status: ServiceStatus,
}

/// `spec` of a Service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceSpec {
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    #[serde(rename = "clusterIP")]
    pub(crate) cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    pub(crate) cluster_ips: Vec<String>,
    pub(crate) ip_families: Vec<String>,
    pub(crate) ip_family_policy: Option<String>,
    pub(crate) ports: Vec<ServicePort>,
    #[serde(rename = "externalIPs")]
    pub(crate) external_ips: Vec<String>,
    pub(crate) session_affinity: Option<String>,
    pub(crate) session_affinity_config: SessionAffinityConfig,
    pub(crate) load_balancer_class: Option<String>,
    pub(crate) load_balancer_source_ranges: Vec<String>,
    #[serde(rename = "loadBalancerIP")]
    pub(crate) load_balancer_ip: Option<String>,
    pub(crate) external_traffic_policy: Option<String>,
    pub(crate) internal_traffic_policy: Option<String>,
    pub(crate) health_check_node_port: Option<i64>,
    pub(crate) selector: BTreeMap<String, String>,
    pub(crate) publish_not_ready_addresses: bool,
    pub(crate) traffic_distribution: Option<String>,
    pub(crate) allocate_load_balancer_node_ports: Option<bool>,
    pub(crate) external_name: Option<String>,
}

/// An entry of `spec.ports` of a Service.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServicePort {
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) protocol: Option<String>,
    pub(crate) port: i64,
    pub(crate) target_port: Option<NumberOrName>,
    pub(crate) node_port: Option<i64>,
}

/// `spec.sessionAffinityConfig` of a Service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SessionAffinityConfig {
    /// For `ClientIP`.
    #[serde(rename = "clientIP")]
    pub(crate) client_ip: ClientIpConfig,
}

/// `spec.sessionAffinityConfig.clientIP` of a Service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClientIpConfig {
    /// Seconds.
    pub(crate) timeout_seconds: Option<i64>,
}

/// `status` of a Service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceStatus {
    /// The load balancer's part.
    pub(crate) load_balancer: LoadBalancerStatus,
}

/// `status.loadBalancer` of a Service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LoadBalancerStatus {
    /// Its addresses.
    pub(crate) ingress: Vec<LoadBalancerIngress>,
}

/// An entry of `status.loadBalancer.ingress` of a Service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LoadBalancerIngress {
    pub(crate) ip: Option<String>,
    pub(crate) ip_mode: Option<String>,
}

/// discovery.k8s.io/v1 EndpointSlice.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointSlice {
    #[serde(default)]
    pub(crate) metadata: Metadata,
    pub(crate) address_type: String,
    #[serde(default)]
    pub(crate) ports: Vec<EndpointPort>,
    #[serde(default)]
    pub(crate) endpoints: Vec<Endpoint>,
}

/// A port of an EndpointSlice or an Endpoints subset.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EndpointPort {
    pub(crate) name: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) port: Option<i64>,
}

/// An endpoint of an EndpointSlice.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Endpoint {
    pub(crate) addresses: Vec<String>,
    pub(crate) conditions: EndpointConditions,
    pub(crate) node_name: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) target_ref: ObjectReference,
    pub(crate) hints: EndpointHints,
}

/// `targetRef` of an endpoint.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ObjectReference {
    pub(crate) kind: Option<String>,
    pub(crate) name: Option<String>,
}

/// `conditions` of an endpoint.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EndpointConditions {
    pub(crate) ready: Option<bool>,
    pub(crate) serving: Option<bool>,
    pub(crate) terminating: Option<bool>,
}

/// `hints` of an endpoint.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EndpointHints {
    pub(crate) for_zones: Vec<Named>,
    pub(crate) for_nodes: Vec<Named>,
}

/// An object with nothing but a name.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Named {
    /// The name.
    pub(crate) name: String,
}

/// v1 Endpoints.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Endpoints {
    pub(crate) metadata: Metadata,
    pub(crate) subsets: Vec<EndpointSubset>,
}

/// An entry of `subsets` of Endpoints.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EndpointSubset {
    pub(crate) addresses: Vec<EndpointAddress>,
    pub(crate) not_ready_addresses: Vec<EndpointAddress>,
    pub(crate) ports: Vec<EndpointPort>,
}

/// An address of Endpoints.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointAddress {
    pub(crate) ip: String,
    pub(crate) node_name: Option<String>,
    pub(crate) hostname: Option<String>,
    #[serde(default)]
    pub(crate) target_ref: ObjectReference,
}

/// v1 Pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    pub(crate) metadata: Metadata,
    pub(crate) spec: PodSpec,
    pub(crate) status: PodStatus,
}

/// `spec` of a Pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    pub(crate) node_name: Option<String>,
    pub(crate) containers: Vec<Container>,
    pub(crate) init_containers: Vec<Container>,
}

/// v1 Pod, or the template of one, by itself: what it says of names.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NamedPod {
    pub(crate) spec: Naming,
}

/// The fields of `spec` of a Pod that are about names.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Naming {
    pub(crate) hostname: Option<String>,
    pub(crate) subdomain: Option<String>,
    pub(crate) hostname_override: Option<String>,
    #[serde(rename = "setHostnameAsFQDN")]
    pub(crate) set_hostname_as_fqdn: bool,
    pub(crate) host_network: bool,
    pub(crate) host_aliases: Vec<HostAlias>,
    pub(crate) dns_policy: Option<String>,
    pub(crate) dns_config: PodDnsConfig,
}

/// An entry of `spec.hostAliases` of a Pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct HostAlias {
    pub(crate) ip: String,
    pub(crate) hostnames: Vec<String>,
}

/// `spec.dnsConfig` of a Pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodDnsConfig {
    pub(crate) nameservers: Vec<String>,
    pub(crate) searches: Vec<String>,
    pub(crate) options: Vec<PodDnsConfigOption>,
}

/// An entry of `spec.dnsConfig.options` of a Pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodDnsConfigOption {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
}

/// A container of a Pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) ports: Vec<ContainerPort>,
    pub(crate) restart_policy: Option<String>,
    pub(crate) startup_probe: Option<Probe>,
    pub(crate) liveness_probe: Option<Probe>,
    pub(crate) readiness_probe: Option<Probe>,
}

/// A probe of a container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Probe {
    pub(crate) http_get: Option<HttpGet>,
    pub(crate) tcp_socket: Option<TcpSocket>,
    pub(crate) grpc: Option<Grpc>,
    pub(crate) exec: Option<IgnoredAny>,
    /// Seconds.
    pub(crate) initial_delay_seconds: Option<i64>,
    /// Seconds.
    pub(crate) period_seconds: Option<i64>,
    /// Seconds.
    pub(crate) timeout_seconds: Option<i64>,
    pub(crate) success_threshold: Option<i64>,
    pub(crate) failure_threshold: Option<i64>,
}

/// `httpGet` of a probe.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HttpGet {
    pub(crate) path: Option<String>,
    pub(crate) port: NumberOrName,
    pub(crate) host: Option<String>,
    pub(crate) scheme: Option<String>,
    #[serde(default)]
    pub(crate) http_headers: Vec<HttpHeader>,
}

/// An entry of `httpHeaders` of a probe.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct HttpHeader {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// `tcpSocket` of a probe.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct TcpSocket {
    pub(crate) port: NumberOrName,
    pub(crate) host: Option<String>,
}

/// `grpc` of a probe.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Grpc {
    pub(crate) port: i64,
    pub(crate) service: Option<String>,
}

/// A port of a container.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
pub(crate) struct ContainerPort {
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) protocol: Option<String>,
    pub(crate) container_port: i64,
}

/// `status` of a Pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodStatus {
    pub(crate) phase: Option<String>,
    #[serde(rename = "podIP")]
    pub(crate) pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pub(crate) pod_ips: Vec<PodIp>,
    #[serde(rename = "hostIP")]
    pub(crate) host_ip: Option<String>,
    pub(crate) conditions: Vec<Condition>,
}

/// An entry of `status.podIPs` of a Pod.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PodIp {
    /// The address.
    pub(crate) ip: String,
}

/// An entry of `status.conditions` of a Pod.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
}

/// v1 Namespace.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Namespace {
    pub(crate) metadata: Metadata,
}

/// v1 Node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    pub(crate) metadata: Metadata,
    pub(crate) spec: NodeSpec,
    pub(crate) status: NodeStatus,
}

/// `spec` of a Node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pub(crate) pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pub(crate) pod_cidrs: Vec<String>,
    pub(crate) taints: Vec<Taint>,
}

/// An entry of `spec.taints` of a Node.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Taint {
    /// What it is called.
    pub(crate) key: String,
}

/// `status` of a Node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeStatus {
    pub(crate) addresses: Vec<NodeAddress>,
    pub(crate) conditions: Vec<NodeCondition>,
}

/// An entry of `status.conditions` of a Node.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct NodeCondition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
}

/// An entry of `status.addresses` of a Node.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct NodeAddress {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) address: String,
}

/// A port number, or the name of a container's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NumberOrName {
    /// A number, unchecked.
    Number(i64),
    /// A name, unchecked.
    Name(String),
}

impl<'de> Deserialize<'de> for NumberOrName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = NumberOrName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port number or the name of a container port")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<NumberOrName, E> {
                Ok(NumberOrName::Number(number))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<NumberOrName, E> {
                Ok(NumberOrName::Number(i64::try_from(number).unwrap_or(i64::MAX)))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<NumberOrName, E> {
                Ok(NumberOrName::Name(name.to_owned()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

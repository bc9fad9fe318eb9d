//! Objects as the API server sends them, with only the fields that a service proxy reads (spec
//! §1.8, §1.20-1.26).
//!
//! They borrow from the text and live no longer than it. `null` stands for a missing value, as Go's
//! decoder has it. What they serialise to is what the snapshot keeps of an object, and decodes to
//! the same.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

/// A string that borrows from the document if it has no escapes.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_unit<E: Error>(self) -> Result<Text<'de>, E> {
                Ok(Text::default())
            }
        }
        deserializer.deserialize_any(Borrow)
    }
}

/// A value, or the default for `null`.
fn nullable<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Declares structs whose fields are all optional, and are left out when they have no value.
macro_rules! objects {
    ($($(#[$doc:meta])* struct $name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
        pub(crate) struct $name<'a> {$(
            $(#[$attribute])*
            #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
            pub(crate) $field: $type,
        )*}
    )*};
}

objects! {
    /// `metadata` of any object.
    struct Metadata {
        namespace: Text<'a>,
        name: Text<'a>,
        uid: Text<'a>,
        resource_version: Text<'a>,
        deletion_timestamp: Option<Text<'a>>,
        labels: Labels<'a>,
        annotations: Annotations<'a>,
    }

    /// The labels that are read.
    struct Labels {
        #[serde(rename = "kubernetes.io/service-name")]
        service_name: Option<Text<'a>>,
        #[serde(rename = "service.kubernetes.io/service-proxy-name")]
        service_proxy_name: Option<Text<'a>>,
        #[serde(rename = "topology.kubernetes.io/zone")]
        zone: Option<Text<'a>>,
        #[serde(rename = "node.kubernetes.io/exclude-from-external-load-balancers")]
        excluded: Option<Text<'a>>,
    }

    /// The annotations that are read.
    struct Annotations {
        #[serde(rename = "endpoints.kubernetes.io/last-change-trigger-time")]
        trigger_time: Option<Text<'a>>,
        #[serde(rename = "k8s.io/initial-events-end")]
        initial_events_end: Option<Text<'a>>,
        #[serde(rename = "portolan.dev/proxy-protocol")]
        proxy_protocol: Option<Text<'a>>,
        #[serde(rename = "portolan.dev/ipvs-scheduler")]
        scheduler: Option<Text<'a>>,
        #[serde(rename = "kube-router.io/service.scheduler")]
        kube_router_scheduler: Option<Text<'a>>,
        #[serde(rename = "portolan.dev/endpoint-weights")]
        endpoint_weights: Option<Text<'a>>,
    }

    /// v1 Service.
    struct Service {
        metadata: Metadata<'a>,
        spec: ServiceSpec<'a>,
        status: ServiceStatus<'a>,
    }

    /// `spec` of a Service.
    struct ServiceSpec {
        #[serde(rename = "type")]
        kind: Text<'a>,
        #[serde(rename = "clusterIP")]
        cluster_ip: Text<'a>,
        #[serde(rename = "clusterIPs")]
        cluster_ips: Vec<Text<'a>>,
        ip_families: Vec<Text<'a>>,
        ports: Vec<ServicePort<'a>>,
        #[serde(rename = "externalIPs")]
        external_ips: Vec<Text<'a>>,
        session_affinity: Text<'a>,
        session_affinity_config: SessionAffinityConfig,
        load_balancer_class: Option<Text<'a>>,
        load_balancer_source_ranges: Vec<Text<'a>>,
        external_traffic_policy: Text<'a>,
        internal_traffic_policy: Text<'a>,
        health_check_node_port: i64,
        external_name: Text<'a>,
        publish_not_ready_addresses: bool,
    }

    /// An entry of `spec.ports` of a Service.
    struct ServicePort {
        name: Text<'a>,
        protocol: Text<'a>,
        port: i64,
        node_port: i64,
    }

    /// `status` of a Service.
    struct ServiceStatus {
        load_balancer: LoadBalancerStatus<'a>,
    }

    /// `status.loadBalancer` of a Service.
    struct LoadBalancerStatus {
        ingress: Vec<LoadBalancerIngress<'a>>,
    }

    /// An entry of `status.loadBalancer.ingress` of a Service.
    struct LoadBalancerIngress {
        ip: Text<'a>,
        ip_mode: Option<Text<'a>>,
    }

    /// discovery.k8s.io/v1 EndpointSlice.
    struct EndpointSlice {
        metadata: Metadata<'a>,
        address_type: Text<'a>,
        ports: Vec<EndpointPort<'a>>,
        endpoints: Vec<Endpoint<'a>>,
    }

    /// A port of an EndpointSlice.
    struct EndpointPort {
        name: Option<Text<'a>>,
        protocol: Text<'a>,
        port: i64,
    }

    /// An endpoint of an EndpointSlice.
    struct Endpoint {
        addresses: Vec<Text<'a>>,
        conditions: EndpointConditions,
        node_name: Text<'a>,
        zone: Text<'a>,
        hostname: Text<'a>,
        target_ref: ObjectReference<'a>,
        hints: EndpointHints<'a>,
    }

    /// `targetRef` of an endpoint.
    struct ObjectReference {
        kind: Text<'a>,
        name: Text<'a>,
    }

    /// `hints` of an endpoint.
    struct EndpointHints {
        for_zones: Vec<Named<'a>>,
        for_nodes: Vec<Named<'a>>,
    }

    /// An object with nothing but a name.
    struct Named {
        name: Text<'a>,
    }

    /// v1 Node.
    struct Node {
        metadata: Metadata<'a>,
        spec: NodeSpec<'a>,
        status: NodeStatus<'a>,
    }

    /// `spec` of a Node.
    struct NodeSpec {
        #[serde(rename = "podCIDR")]
        pod_cidr: Text<'a>,
        #[serde(rename = "podCIDRs")]
        pod_cidrs: Vec<Text<'a>>,
        taints: Vec<Taint<'a>>,
    }

    /// An entry of `spec.taints` of a Node.
    struct Taint {
        key: Text<'a>,
    }

    /// `status` of a Node.
    struct NodeStatus {
        addresses: Vec<NodeAddress<'a>>,
        conditions: Vec<NodeCondition<'a>>,
    }

    /// An entry of `status.conditions` of a Node.
    struct NodeCondition {
        #[serde(rename = "type")]
        kind: Text<'a>,
        status: Text<'a>,
    }

    /// An entry of `status.addresses` of a Node.
    struct NodeAddress {
        #[serde(rename = "type")]
        kind: Text<'a>,
        address: Text<'a>,
    }

    /// networking.k8s.io/v1 ServiceCIDR.
    struct ServiceCidr {
        metadata: Metadata<'a>,
        spec: ServiceCidrSpec<'a>,
    }

    /// `spec` of a ServiceCIDR.
    struct ServiceCidrSpec {
        cidrs: Vec<Text<'a>>,
    }

    /// v1 Namespace.
    struct Namespace {
        metadata: NamespaceMetadata<'a>,
    }

    /// `metadata` of a Namespace: with all labels, since any of them may select it.
    struct NamespaceMetadata {
        name: Text<'a>,
        uid: Text<'a>,
        resource_version: Text<'a>,
        labels: BTreeMap<Text<'a>, Text<'a>>,
        annotations: Annotations<'a>,
    }

    /// v1 Pod.
    struct Pod {
        metadata: PodMetadata<'a>,
        status: PodStatus<'a>,
    }

    /// `metadata` of a Pod: there are many, and their labels are not read.
    struct PodMetadata {
        namespace: Text<'a>,
        name: Text<'a>,
        uid: Text<'a>,
        resource_version: Text<'a>,
        deletion_timestamp: Option<Text<'a>>,
        annotations: Annotations<'a>,
    }

    /// `status` of a Pod.
    struct PodStatus {
        phase: Text<'a>,
        #[serde(rename = "podIP")]
        pod_ip: Text<'a>,
        #[serde(rename = "podIPs")]
        pod_ips: Vec<PodIp<'a>>,
    }

    /// An entry of `status.podIPs` of a Pod.
    struct PodIp {
        ip: Text<'a>,
    }

    /// What an API server answers instead of what was asked for.
    struct Status {
        message: Text<'a>,
        reason: Text<'a>,
        code: i64,
    }

    /// `metadata` of a list.
    struct ListMetadata {
        resource_version: Text<'a>,
        #[serde(rename = "continue")]
        next: Text<'a>,
    }
}

/// `conditions` of an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct EndpointConditions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ready: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) serving: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) terminating: Option<bool>,
}

/// `spec.sessionAffinityConfig` of a Service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SessionAffinityConfig {
    #[serde(rename = "clientIP", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) client_ip: ClientIpConfig,
}

/// `spec.sessionAffinityConfig.clientIP` of a Service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClientIpConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_seconds: Option<i64>,
}

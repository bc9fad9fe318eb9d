//! From what the API server sends to the domain, as leniently as kube-proxy: what cannot be used is
//! left out, the rest is used (spec §1.10-1.26). The API server has validated the objects; what is
//! wrong here was accepted by an older one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use ipnet::IpNet;
use portolan_service::{
    AskedProxyProtocol, AskedScheduler, Endpoint, EndpointNames, EndpointSlice, ExternalPolicy, Family,
    Hints, IngressMode, InternalPolicy, LoadBalancerIngress, Namespace, Node, ObjectName, Pod, PodPhase,
    Protocol, Service, ServicePort, ServiceType, SlicePort, Target, TargetSlice, Weights, further,
    parse_address, parse_network,
};

use crate::wire;

/// The taint by which the cluster autoscaler announces that it will delete the node (spec §12.7).
const REMOVAL: &str = "ToBeDeletedByClusterAutoscaler";
/// The API's default, in seconds (spec §1.17).
const DEFAULT_AFFINITY: i64 = 10_800;

/// One copy of each name of a node, zone or port, however many objects mention it. Names live as
/// long as the objects that have them.
#[derive(Debug, Default)]
pub(crate) struct Names {
    names: HashMap<Box<str>, Weak<str>>,
    /// Names nobody uses any more are dropped when there are this many.
    clean_at: usize,
}

impl Names {
    fn shared(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name).and_then(Weak::upgrade) {
            return known;
        }
        if self.names.len() >= self.clean_at {
            self.names.retain(|_, name| name.strong_count() > 0);
            self.clean_at = (self.names.len() * 2).max(1024);
        }
        let shared: Arc<str> = name.into();
        self.names.insert(name.into(), Arc::downgrade(&shared));
        shared
    }
}

/// A Service.
pub(crate) fn service(name: ObjectName, service: &wire::Service<'_>, names: &mut Names) -> Service {
    let spec = &service.spec;
    let (cluster_ip, cluster_ips, ip_families) = cluster_ips(spec);
    let ports = spec.ports.iter().filter_map(|port| {
        let protocol = protocol(&port.protocol)?;
        let (number, node_port) = (usable_port(port.port)?, usable_port(port.node_port));
        Some(ServicePort { name: names.shared(&port.name), protocol, port: number, node_port })
    });
    let ports = exact(ports);
    let ingress = service.status.load_balancer.ingress.iter().filter_map(|ingress| {
        let mode = match ingress.ip_mode.as_deref() {
            None | Some("VIP") => IngressMode::Vip,
            Some(_) => IngressMode::Proxy,
        };
        Some(LoadBalancerIngress { ip: parse_address(&ingress.ip)?, mode })
    });
    let timeout = spec.session_affinity_config.client_ip.timeout_seconds.unwrap_or(DEFAULT_AFFINITY);
    let local = |policy: &str| policy == "Local";
    let annotations = &service.metadata.annotations;
    Service {
        name,
        kind: match &*spec.kind {
            "NodePort" => ServiceType::NodePort,
            "LoadBalancer" => ServiceType::LoadBalancer,
            "ExternalName" => ServiceType::ExternalName,
            _ => ServiceType::ClusterIp,
        },
        cluster_ip,
        headless: [Some(&spec.cluster_ip), spec.cluster_ips.first()]
            .into_iter()
            .flatten()
            .any(|ip| &**ip == "None"),
        cluster_ips,
        ip_families,
        ports,
        external_ips: exact(spec.external_ips.iter().filter_map(|ip| parse_address(ip))),
        load_balancer: exact(ingress),
        load_balancer_class: spec.load_balancer_class.as_deref().map(Into::into),
        source_ranges: exact(
            spec.load_balancer_source_ranges.iter().filter_map(|range| parse_network(range)),
        ),
        affinity: (&*spec.session_affinity == "ClientIP")
            .then(|| u32::try_from(timeout.clamp(1, 86_400)).unwrap_or(86_400)),
        internal_policy: if local(&spec.internal_traffic_policy) {
            InternalPolicy::Local
        } else {
            InternalPolicy::Cluster
        },
        external_policy: if local(&spec.external_traffic_policy) {
            ExternalPolicy::Local
        } else {
            ExternalPolicy::Cluster
        },
        health_check_node_port: usable_port(spec.health_check_node_port).into(),
        other_proxy: service.metadata.labels.service_proxy_name.is_some(),
        external_name: Some(&*spec.external_name).filter(|name| !name.is_empty()).map(Into::into),
        publish_not_ready: spec.publish_not_ready_addresses,
        proxy_protocol: annotations.proxy_protocol.as_deref().map(AskedProxyProtocol::parse),
        scheduler: AskedScheduler::parse(
            annotations.scheduler.as_deref(),
            annotations.kube_router_scheduler.as_deref(),
        ),
        weights: annotations.endpoint_weights.as_deref().map(Weights::parse),
    }
}

/// `clusterIP`, `clusterIPs` and `ipFamilies`; the latter two belong together by position (spec
/// §1.11), so that an unusable entry takes its counterpart with it.
fn cluster_ips(spec: &wire::ServiceSpec<'_>) -> (Option<IpAddr>, Vec<IpAddr>, Vec<Family>) {
    let cluster_ip = parse_address(&spec.cluster_ip);
    if spec.ip_families.is_empty() {
        let all = spec.cluster_ips.iter().filter_map(|ip| parse_address(ip));
        return (cluster_ip, exact(all), Vec::new());
    }
    let family = |word: &wire::Text<'_>| match &**word {
        "IPv4" => Some(Family::V4),
        "IPv6" => Some(Family::V6),
        _ => None,
    };
    let pairs = spec.ip_families.iter().zip(&spec.cluster_ips);
    let pairs = pairs.filter_map(|(word, ip)| Some((family(word)?, parse_address(ip)?)));
    let (families, ips): (Vec<Family>, Vec<IpAddr>) = exact(pairs).into_iter().unzip();
    // Without families a planner would go by clusterIP alone, which the API server did not mean.
    (cluster_ip.filter(|_| !families.is_empty()), ips, families)
}

/// A slice; `None` if it names no Service or has no IP addresses (spec §1.20, §1.21).
pub(crate) fn slice(
    name: ObjectName,
    slice: &wire::EndpointSlice<'_>,
    names: &mut Names,
) -> Option<EndpointSlice> {
    let family = match &*slice.address_type {
        "IPv4" => Family::V4,
        "IPv6" => Family::V6,
        _ => return None,
    };
    let service = owner(name.namespace(), &slice.metadata)?;
    let ports = slice.ports.iter().filter_map(|port| {
        let (name, protocol) = (port.name.as_deref()?, protocol(&port.protocol)?);
        let number = if port.port == 0 { None } else { Some(usable_port(port.port)?) };
        Some(SlicePort { name: names.shared(name), protocol, port: number })
    });
    let ports = exact(ports);
    let mut endpoints = Vec::with_capacity(slice.endpoints.len());
    for given in &slice.endpoints {
        let address = given.addresses.first().and_then(|text| parse_address(text));
        let address = address.filter(|address| Family::of(*address) == family);
        endpoints.extend(address.map(|address| endpoint(given, address, names)));
    }
    endpoints.shrink_to_fit();
    Some(EndpointSlice { name, service, family, ports, endpoints })
}

/// The addresses of the endpoints of `known`, which `slice` became, after their first: they have
/// names, and nothing else does. `None` if there are none, as almost always.
pub(crate) fn further_addresses(
    known: &EndpointSlice,
    slice: &wire::EndpointSlice<'_>,
    names: &mut Names,
) -> Option<EndpointSlice> {
    let mut endpoints = Vec::new();
    for given in &slice.endpoints {
        let further = given.addresses.iter().skip(1).filter_map(|text| parse_address(text));
        for address in further.filter(|address| Family::of(*address) == known.family) {
            endpoints.push(endpoint(given, address, names));
        }
    }
    (!endpoints.is_empty()).then(|| EndpointSlice {
        name: further(&known.name),
        endpoints: exact(endpoints.into_iter()),
        ..known.clone()
    })
}

/// A slice of type FQDN; `None` if it names no Service or has addresses.
pub(crate) fn targets(name: ObjectName, slice: &wire::EndpointSlice<'_>) -> Option<TargetSlice> {
    let service = owner(name.namespace(), &slice.metadata).filter(|_| &*slice.address_type == "FQDN")?;
    let endpoints = slice.endpoints.iter().filter_map(|given| {
        let target = given.addresses.first()?;
        let ready = given.conditions.ready.unwrap_or(true);
        Some(Target { target: (**target).into(), ready, names: endpoint_names(given) })
    });
    Some(TargetSlice { name, service, endpoints: exact(endpoints) })
}

fn endpoint(given: &wire::Endpoint<'_>, address: IpAddr, names: &mut Names) -> Endpoint {
    let mut shared = |name: &wire::Text<'_>| (!name.is_empty()).then(|| names.shared(name));
    let (node, zone) = (shared(&given.node_name), shared(&given.zone));
    let mut all = |list: &[wire::Named<'_>]| -> Vec<Arc<str>> {
        list.iter().map(|named| names.shared(&named.name)).collect()
    };
    Endpoint {
        address,
        ready: given.conditions.ready.unwrap_or(true),
        serving: given.conditions.serving.unwrap_or(true),
        terminating: given.conditions.terminating.unwrap_or(false),
        node,
        zone,
        names: endpoint_names(given),
        hints: Hints::new(all(&given.hints.for_zones), all(&given.hints.for_nodes)),
    }
}

fn endpoint_names(given: &wire::Endpoint<'_>) -> EndpointNames {
    let pod = Some(&*given.target_ref.name).filter(|_| &*given.target_ref.kind == "Pod");
    EndpointNames::new(Some(&*given.hostname), pod)
}

/// The Service that a slice belongs to (spec §1.20).
pub(crate) fn owner(namespace: &str, slice: &wire::Metadata<'_>) -> Option<ObjectName> {
    let service = slice.labels.service_name.as_deref()?;
    (!service.is_empty() && !service.contains('/')).then(|| ObjectName::new(namespace, service))
}

/// The own Node.
pub(crate) fn node(node: &wire::Node<'_>) -> Node {
    let mut addresses = Vec::new();
    for kind in ["InternalIP", "ExternalIP"] {
        let of_kind = node.status.addresses.iter().filter(|address| &*address.kind == kind);
        addresses.extend(of_kind.filter_map(|address| parse_address(&address.address)));
    }
    let mut pod_cidrs: Vec<IpNet> =
        node.spec.pod_cidrs.iter().filter_map(|text| parse_network(text)).collect();
    if node.spec.pod_cidrs.is_empty() {
        pod_cidrs.extend(parse_network(&node.spec.pod_cidr));
    }
    let zone = node.metadata.labels.zone.as_deref().filter(|zone| !zone.is_empty());
    let readiness = node.status.conditions.iter().find(|condition| &*condition.kind == "Ready");
    Node {
        name: (&*node.metadata.name).into(),
        zone: zone.map(Into::into),
        addresses,
        pod_cidrs,
        leaving: node.metadata.deletion_timestamp.is_some()
            || node.spec.taints.iter().any(|taint| &*taint.key == REMOVAL),
        ready: readiness.is_none_or(|condition| &*condition.status == "True"),
        excluded: node.metadata.labels.excluded.is_some(),
    }
}

/// A Namespace.
pub(crate) fn namespace(namespace: &wire::Namespace<'_>) -> Namespace {
    let labels = namespace.metadata.labels.iter().map(|(key, value)| ((**key).into(), (**value).into()));
    Namespace { name: (&*namespace.metadata.name).into(), labels: labels.collect() }
}

/// A Pod.
pub(crate) fn pod(name: ObjectName, pod: &wire::Pod<'_>) -> Pod {
    let all = pod.status.pod_ips.iter().map(|entry| &entry.ip);
    let first = Some(&pod.status.pod_ip).filter(|_| pod.status.pod_ips.is_empty());
    Pod {
        name,
        addresses: exact(all.chain(first).filter_map(|text| parse_address(text))),
        phase: PodPhase::named(&pod.status.phase),
        leaving: pod.metadata.deletion_timestamp.is_some(),
    }
}

/// The networks of a ServiceCIDR.
pub(crate) fn networks(cidr: &wire::ServiceCidr<'_>) -> Vec<IpNet> {
    cidr.spec.cidrs.iter().filter_map(|text| parse_network(text)).collect()
}

fn usable_port(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|number| *number != 0)
}

/// The protocol called `name`; TCP if it has no name.
fn protocol(name: &str) -> Option<Protocol> {
    match name {
        "" | "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

/// A list that takes no more memory than it needs: there are hundreds of thousands.
fn exact<T>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.shrink_to_fit();
    items
}

#[cfg(test)]
mod tests;

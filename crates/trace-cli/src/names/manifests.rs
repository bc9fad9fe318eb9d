//! Names from manifests: the objects, and the plans made of them.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use portolan_service::{
    Change, EndpointSlice, ExternalPolicy, InternalPolicy, ObjectName, Service, ServicePlan, ServicePort,
    ServiceType,
};
use portolan_trace::explain::{KnownEndpoint, KnownFrontend, KnownNode, KnownService, Services, Unserved};

use crate::names::{Names, Origin};
use crate::program::Plan;

/// The names in a plan and in what it was made of.
pub(crate) fn names(plan: Plan) -> Names {
    let Plan { node, changes, pods, services: plans, unmatched, .. } = plan;
    let pod_at: HashMap<IpAddr, String> = pods
        .iter()
        .flat_map(|(name, addresses)| {
            [addresses.v4, addresses.v6]
                .into_iter()
                .flatten()
                .map(|address| (address, name.as_str().to_owned()))
        })
        .collect();
    let plans: HashMap<&ObjectName, &ServicePlan> = plans.iter().map(|plan| (&plan.name, &**plan)).collect();
    let mut slices: HashMap<&ObjectName, Vec<&EndpointSlice>> = HashMap::new();
    for change in &changes {
        if let Change::Slice(slice) = change {
            slices.entry(&slice.service).or_default().push(slice);
        }
    }
    let services = changes.iter().filter_map(|change| match change {
        Change::Service(service) => Some(service),
        _ => None,
    });
    let services = services
        .map(|service| KnownService {
            namespace: service.name.namespace().to_owned(),
            name: service.name.name().to_owned(),
            frontends: plans.get(&service.name).map_or_else(Vec::new, |plan| frontends(plan)),
            endpoints: all_endpoints(service, slices.get(&service.name), &node, &pod_at),
            affinity: service.affinity.map(|seconds| Duration::from_secs(seconds.into())),
            internal_local: service.internal_policy == InternalPolicy::Local,
            external_local: service.external_policy == ExternalPolicy::Local,
            source_ranges: service.source_ranges.clone(),
            unserved: unserved(service),
            unmatched: unmatched
                .iter()
                .filter(|(name, _)| *name == service.name)
                .map(|(_, what)| what.clone())
                .collect(),
        })
        .collect();
    let nodes = changes.iter().filter_map(|change| match change {
        Change::Node(other) if other.name != node => {
            Some(KnownNode { name: other.name.to_string(), addresses: other.addresses.clone() })
        }
        _ => None,
    });
    let services = Services { services, nodes: nodes.collect(), ..Services::default() };
    Names { services, pods, origin: Origin::Manifests, ..Names::default() }
}

fn unserved(service: &Service) -> Option<Unserved> {
    if service.kind == ServiceType::ExternalName {
        Some(Unserved::ExternalName)
    } else if service.other_proxy {
        Some(Unserved::OtherProxy)
    } else {
        service.cluster_ip.is_none().then_some(Unserved::Headless)
    }
}

fn frontends(plan: &ServicePlan) -> Vec<KnownFrontend> {
    plan.ports
        .iter()
        .flat_map(|port| {
            port.frontends.iter().map(|frontend| KnownFrontend {
                kind: frontend.kind,
                address: Some(frontend.address),
                port: frontend.port,
                protocol: port.protocol,
                port_name: port.name.to_string(),
            })
        })
        .collect()
}

/// The endpoints of a Service. One that is in two slices, as while one slice takes the place of
/// another, is one.
fn all_endpoints(
    service: &Service,
    slices: Option<&Vec<&EndpointSlice>>,
    node: &str,
    pod_at: &HashMap<IpAddr, String>,
) -> Vec<KnownEndpoint> {
    let slices = slices.into_iter().flatten();
    let mut all: Vec<_> = slices.flat_map(|slice| endpoints(service, slice, node, pod_at)).collect();
    let mut seen = HashSet::new();
    all.retain(|endpoint| seen.insert((endpoint.address, endpoint.port_name.clone())));
    all
}

fn endpoints<'a>(
    service: &'a Service,
    slice: &'a EndpointSlice,
    node: &'a str,
    pod_at: &'a HashMap<IpAddr, String>,
) -> impl Iterator<Item = KnownEndpoint> + use<'a> {
    let ports = slice.ports.iter().filter_map(move |port| {
        let same =
            |of_service: &ServicePort| of_service.name == port.name && of_service.protocol == port.protocol;
        Some((port, port.port.filter(|_| service.ports.iter().any(same))?))
    });
    ports.flat_map(move |(port, number)| {
        slice.endpoints.iter().map(move |endpoint| KnownEndpoint {
            address: SocketAddr::new(endpoint.address, number),
            pod: pod_at.get(&endpoint.address).cloned(),
            ready: endpoint.ready,
            serving: endpoint.serving,
            terminating: endpoint.terminating,
            node: endpoint.node.as_deref().map(str::to_owned),
            local: endpoint.node.as_deref() == Some(node),
            port_name: port.name.to_string(),
        })
    })
}

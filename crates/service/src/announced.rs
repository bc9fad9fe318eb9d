//! Load-balancer addresses for nodes to announce, and which nodes may.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::service_plan::{cluster_ip, is_proxied};
use crate::{Endpoint, EndpointSlice, ExternalPolicy, Family, IngressMode, Service, ServiceType, Special};

/// The nodes that may announce an address; `None`: every node.
pub type AllowedNodes = Option<Arc<BTreeSet<Arc<str>>>>;

/// The load-balancer addresses of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// `spec.loadBalancerClass`: whose business the addresses are.
    pub class: Option<Arc<str>>,
    /// Each address, and the nodes that may announce it: those with endpoints for it under
    /// `externalTrafficPolicy: Local`.
    pub addresses: Vec<(IpAddr, AllowedNodes)>,
}

/// The addresses of `service` that packets arrive with. `None` if it has none, or is not served.
pub(crate) fn announced(service: &Service, slices: &[Arc<EndpointSlice>]) -> Option<Announced> {
    if service.kind != ServiceType::LoadBalancer || !is_proxied(service) {
        return None;
    }
    // Those that are planned: of a family that the Service has, and no special ones.
    let arriving = service.load_balancer.iter().filter(|ingress| {
        ingress.mode == IngressMode::Vip
            && Special::of(ingress.ip).is_none()
            && cluster_ip(service, Family::of(ingress.ip)).is_some()
    });
    let addresses: Vec<_> = arriving
        .map(|ingress| {
            let nodes = (service.external_policy == ExternalPolicy::Local)
                .then(|| Arc::new(with_endpoints(slices, Family::of(ingress.ip))));
            (ingress.ip, nodes)
        })
        .collect();
    (!addresses.is_empty()).then(|| Announced { class: service.load_balancer_class.clone(), addresses })
}

/// The nodes with endpoints of `family` that are ready, else those with endpoints that terminate
/// and still serve (spec §2.4).
fn with_endpoints(slices: &[Arc<EndpointSlice>], family: Family) -> BTreeSet<Arc<str>> {
    let endpoints =
        || slices.iter().filter(|slice| slice.family == family).flat_map(|slice| &slice.endpoints);
    let nodes = |usable: fn(&Endpoint) -> bool| -> BTreeSet<Arc<str>> {
        endpoints().filter(|endpoint| usable(endpoint)).filter_map(|endpoint| endpoint.node.clone()).collect()
    };
    let ready = nodes(|endpoint| endpoint.ready);
    if ready.is_empty() { nodes(|endpoint| endpoint.serving && endpoint.terminating) } else { ready }
}

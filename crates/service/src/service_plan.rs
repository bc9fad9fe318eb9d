//! The plan of one Service as if it were alone: a pure function of the Service, its slices and the
//! node.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::select::{self, SlicePorts, candidates};
use crate::{
    AllowedSources, Backend, EndpointSlice, ExternalPolicy, Family, Frontend, FrontendKind, HealthCheck,
    IngressMode, InternalPolicy, List, LocalNode, Masquerade, PerFamily, PortPlan, Protocol, ProxyProtocol,
    Scheduler, Service, ServicePlan, ServicePort, ServiceType, Special, Verdict, Weights,
};

/// What one Service may ask for at most, as `Oversized` counts it.
///
/// Everything that changes at once is one transaction, and one Service cannot be divided: what it
/// asks for is what everybody else waits for. This many elements are in force within a second or
/// two; a Service of 10 ports on 5 addresses may have 5,000 endpoints.
pub const BUDGET: usize = 250_000;

/// A Service asks for more than [`BUDGET`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Oversized {
    /// For each address, family and Service port one, and one for each endpoint in its slices,
    /// ready or not, and for their weights; for each load-balancer address and Service port one for
    /// each source range.
    pub(crate) elements: usize,
}

/// What `service` asks for. `None` if it is not proxied at all (spec §1.1, §1.10).
pub(crate) fn plan(
    service: &Service,
    slices: &[Arc<EndpointSlice>],
    node: &LocalNode,
) -> Result<Option<ServicePlan>, Oversized> {
    if !is_proxied(service) {
        return Ok(None);
    }
    let mut slice_ports = SlicePorts::of(slices);
    let mut asked = elements(service, &slice_ports, node);
    // What weights cost is only looked at where the rest can be afforded.
    if let Some(weights) = weights(service).filter(|_| asked <= BUDGET) {
        slice_ports.weigh(slices, weights);
        asked = elements(service, &slice_ports, node);
    }
    if asked > BUDGET {
        return Err(Oversized { elements: asked });
    }
    let mut ports = Vec::new();
    let mut ready_local = PerFamily::<BTreeSet<IpAddr>>::default();
    for family in Family::ALL {
        let Some(cluster_ip) = cluster_ip(service, family) else {
            continue;
        };
        let addresses = Addresses::of(service, family, cluster_ip, node);
        let allowed_sources = allowed_sources(service, family, &addresses.load_balancer, node);
        for port in distinct_ports(service) {
            let candidates = candidates(&slice_ports, family, &port.name, port.protocol, node);
            ready_local.get_mut(family).extend(select::ready_local(&candidates));
            ports.push(port_plan(service, port, &addresses, allowed_sources.as_ref(), &candidates, node));
        }
    }
    // Kept for as long as the Service is.
    ports.shrink_to_fit();
    ports.sort_by(|one, other| {
        (one.family, one.protocol, &one.name).cmp(&(other.family, other.protocol, &other.name))
    });
    let health_check = health_check_port(service).filter(|_| !ports.is_empty()).map(|port| HealthCheck {
        port,
        local_endpoints: PerFamily { v4: ready_local.v4.len(), v6: ready_local.v6.len() },
    });
    if ports.is_empty() {
        Ok(None)
    } else {
        Ok(Some(ServicePlan { name: service.name.clone(), ports, health_check }))
    }
}

/// It is for a proxy of this kind to serve (spec §1.1, §1.10).
pub(crate) fn is_proxied(service: &Service) -> bool {
    !service.other_proxy && service.kind != ServiceType::ExternalName && service.cluster_ip.is_some()
}

/// The weights of endpoints that `service` gives, if it does so without a mistake.
fn weights(service: &Service) -> Option<&Weights> {
    service.weights.as_ref()?.as_ref().ok()
}

/// What `service` asks for, counted without planning it.
fn elements(service: &Service, slices: &SlicePorts<'_>, node: &LocalNode) -> usize {
    let mut elements: usize = 0;
    for family in Family::ALL {
        let Some(cluster_ip) = cluster_ip(service, family) else { continue };
        let addresses = Addresses::of(service, family, cluster_ip, node);
        let ranges = service.source_ranges.iter().filter(|range| Family::of(range.addr()) == family).count();
        for port in distinct_ports(service) {
            let slots = slices.slots(family, &port.name, port.protocol);
            let endpoints = slices.listed(family, &port.name, port.protocol).saturating_add(slots);
            let frontends = addresses.count(port).saturating_mul(endpoints.saturating_add(1));
            let sources = addresses.load_balancer.len().saturating_mul(ranges);
            elements = elements.saturating_add(frontends).saturating_add(sources);
        }
    }
    elements
}

/// The ports that differ in name or protocol, which are a port's identity (spec §1.22): of several
/// with the same the first counts. The Kubernetes API never lets this happen; other sources may.
fn distinct_ports(service: &Service) -> impl Iterator<Item = &ServicePort> {
    let mut known = HashSet::new();
    service.ports.iter().filter(move |port| known.insert((&*port.name, port.protocol)))
}

/// The ports whose name and protocol an earlier one has.
pub(crate) fn repeated_ports(service: &Service) -> impl Iterator<Item = &ServicePort> {
    let mut known = HashSet::new();
    service.ports.iter().filter(move |port| !known.insert((&*port.name, port.protocol)))
}

/// The ClusterIP of `family` (spec §1.11). A Service without one does not exist for that family.
pub(crate) fn cluster_ip(service: &Service, family: Family) -> Option<IpAddr> {
    let first = service.cluster_ip?;
    if service.ip_families.is_empty() {
        return Some(first).filter(|ip| Family::of(*ip) == family && Special::of(*ip).is_none());
    }
    let place = service.ip_families.iter().position(|listed| *listed == family)?;
    let ip = service.cluster_ips.get(place).copied().or(Some(first).filter(|_| place == 0))?;
    Some(ip).filter(|ip| Family::of(*ip) == family && Special::of(*ip).is_none())
}

/// The addresses of `service` that no Service can have: the field and the address. Nothing is
/// planned for them.
pub(crate) fn special_addresses(service: &Service) -> impl Iterator<Item = (&'static str, IpAddr, Special)> {
    let cluster_ips = service.cluster_ip.iter().filter(|ip| !service.cluster_ips.contains(ip));
    let cluster_ips = cluster_ips.chain(&service.cluster_ips).map(|ip| ("spec.clusterIPs", *ip));
    let external_ips = service.external_ips.iter().map(|ip| ("spec.externalIPs", *ip));
    let load_balancer = load_balancer(service).map(|ip| ("status.loadBalancer.ingress", ip));
    cluster_ips
        .chain(external_ips)
        .chain(load_balancer)
        .filter_map(|(field, address)| Some((field, address, Special::of(address)?)))
}

/// The load-balancer addresses that nodes translate (spec §1.13).
fn load_balancer(service: &Service) -> impl Iterator<Item = IpAddr> {
    service
        .load_balancer
        .iter()
        .filter(|ingress| service.kind == ServiceType::LoadBalancer && ingress.mode == IngressMode::Vip)
        .map(|ingress| ingress.ip)
}

/// `externalTrafficPolicy: Local` is honoured (spec §1.15).
fn external_local(service: &Service) -> bool {
    service.external_policy == ExternalPolicy::Local
        && match service.kind {
            ServiceType::NodePort | ServiceType::LoadBalancer => true,
            ServiceType::ClusterIp => !service.external_ips.is_empty(),
            ServiceType::ExternalName => false,
        }
}

/// A health-check node port belongs to load balancers with policy Local only (spec §1.16).
pub(crate) fn wants_health_check(service: &Service) -> bool {
    service.kind == ServiceType::LoadBalancer && external_local(service)
}

fn health_check_port(service: &Service) -> Option<u16> {
    service.health_check_node_port.number().filter(|_| wants_health_check(service))
}

/// The addresses of a Service in one family.
struct Addresses {
    family: Family,
    cluster_ip: IpAddr,
    external_ips: BTreeSet<IpAddr>,
    load_balancer: BTreeSet<IpAddr>,
    node: Vec<IpAddr>,
}

impl Addresses {
    fn of(service: &Service, family: Family, cluster_ip: IpAddr, node: &LocalNode) -> Addresses {
        let of_family = |ip: &IpAddr| Family::of(*ip) == family;
        let usable = |ip: &IpAddr| of_family(ip) && Special::of(*ip).is_none();
        let external_ips: &[IpAddr] = if node.ignore_external_ips { &[] } else { &service.external_ips };
        Addresses {
            family,
            cluster_ip,
            external_ips: external_ips.iter().copied().filter(usable).collect(),
            load_balancer: load_balancer(service).filter(usable).collect(),
            node: node.nodeport_addresses.iter().copied().filter(of_family).collect(),
        }
    }

    /// Spec §1.18.
    fn externally_accessible(&self, port: &ServicePort) -> bool {
        port.node_port.is_some() || !self.load_balancer.is_empty() || !self.external_ips.is_empty()
    }

    /// How many [`Addresses::frontends`] a port has, or a few more.
    fn count(&self, port: &ServicePort) -> usize {
        let node = if port.node_port.is_some() { self.node.len() } else { 0 };
        1 + self.external_ips.len() + self.load_balancer.len() + node
    }

    /// Each address and port of `port`, once. An address that is both an external IP and a load
    /// balancer's counts as the latter, whose source ranges must hold.
    fn frontends(&self, port: &ServicePort) -> Vec<(FrontendKind, IpAddr, u16)> {
        let external = self.external_ips.difference(&self.load_balancer);
        std::iter::once((FrontendKind::ClusterIp, self.cluster_ip, port.port))
            .chain(external.map(|ip| (FrontendKind::ExternalIp, *ip, port.port)))
            .chain(self.load_balancer.iter().map(|ip| (FrontendKind::LoadBalancer, *ip, port.port)))
            .chain(port.node_port.into_iter().flat_map(|node_port| {
                self.node.iter().map(move |ip| (FrontendKind::NodePort, *ip, node_port))
            }))
            .collect()
    }
}

/// Spec §1.14, §3.18. No restriction if no range is of this family, if one covers everything, or if
/// there is no address to filter.
fn allowed_sources(
    service: &Service,
    family: Family,
    vips: &BTreeSet<IpAddr>,
    node: &LocalNode,
) -> Option<Arc<AllowedSources>> {
    if vips.is_empty() {
        return None;
    }
    let mut ranges: Vec<IpNet> = service
        .source_ranges
        .iter()
        .filter(|range| Family::of(range.addr()) == family)
        .map(IpNet::trunc)
        .collect();
    if ranges.is_empty() {
        return None;
    }
    // The node's own packets to a VIP that is also local to it carry the VIP as their source.
    if node.ips.get(family).is_some_and(|ip| ranges.iter().any(|range| range.contains(&ip))) {
        ranges.extend(vips.iter().map(|vip| IpNet::from(*vip)));
    }
    let sources = AllowedSources::new(ranges);
    (!sources.is_everything()).then(|| Arc::new(sources))
}

fn port_plan(
    service: &Service,
    port: &ServicePort,
    addresses: &Addresses,
    allowed_sources: Option<&Arc<AllowedSources>>,
    candidates: &[select::Candidate<'_>],
    node: &LocalNode,
) -> PortPlan {
    let accessible = addresses.externally_accessible(port);
    let internal_local = service.internal_policy == InternalPolicy::Local;
    let external_local = external_local(service);
    // Spec §2.1.
    let uses_cluster = !internal_local || accessible;
    let uses_local = internal_local || (external_local && accessible);
    let cluster = if uses_cluster { select::cluster(candidates, node) } else { Vec::new() };
    let local = if uses_local { select::local(candidates) } else { Vec::new() };
    let has_any = !cluster.is_empty() || (uses_local && select::has_any(candidates));

    // Spec §2.10.
    let to_cluster = if cluster.is_empty() { Verdict::Reject } else { Verdict::Forward(List::Cluster) };
    let to_local = match (local.is_empty(), has_any) {
        (false, _) => Verdict::Forward(List::Local),
        (true, true) => Verdict::Drop,
        (true, false) => Verdict::Reject,
    };
    // Without a list of endpoints nobody listens (KEP-6032).
    let to_relay = match if external_local { to_local } else { to_cluster } {
        Verdict::Forward(list) if port.protocol != Protocol::Sctp => Verdict::Forward(list),
        _ => Verdict::Reject,
    };
    let mut frontends: Vec<Frontend> = addresses
        .frontends(port)
        .into_iter()
        .map(|(kind, address, port)| {
            let relayed = node.relays_loopback && address.is_loopback();
            let (inside, outside, masquerade) = match kind {
                _ if relayed => (to_relay, to_relay, Masquerade::FromNode),
                FrontendKind::ClusterIp if internal_local => (to_local, to_local, Masquerade::NotLocal),
                FrontendKind::ClusterIp => (to_cluster, to_cluster, Masquerade::NotLocal),
                // Pods of this node and the node itself are short-circuited (spec §4.6).
                _ if external_local => (to_cluster, to_local, Masquerade::FromNode),
                _ => (to_cluster, to_cluster, Masquerade::Always),
            };
            let allowed_sources = allowed_sources.filter(|_| kind == FrontendKind::LoadBalancer).cloned(); // spec §3.15
            Frontend { kind, address, port, inside, outside, masquerade, allowed_sources }
        })
        .collect();

    frontends.shrink_to_fit();
    let serving = if port.protocol == Protocol::Udp { select::serving(candidates) } else { Vec::new() };
    let rests = node.has_schedulers && port.protocol != Protocol::Udp;
    let resting = if rests { select::resting(candidates) } else { Vec::new() };
    let mut shared: Vec<Arc<[Backend]>> = Vec::new();
    let mut share = |list: Vec<Backend>| -> Arc<[Backend]> {
        if let Some(same) = shared.iter().find(|known| ***known == *list) {
            return same.clone();
        }
        shared.push(list.into());
        shared[shared.len() - 1].clone()
    };
    let mut plan = PortPlan {
        family: addresses.family,
        name: port.name.clone(),
        protocol: port.protocol,
        cluster: share(cluster),
        local: share(local),
        serving: share(serving),
        resting: share(resting),
        affinity: service.affinity,
        proxy_protocol: proxy_protocol(service, port, node),
        scheduler: scheduler(service, node),
        node_port: port.node_port,
        frontends,
    };
    drop_unused_lists(&mut plan);
    plan
}

/// The PROXY protocol with which connections to endpoints of `port` begin, if they do.
fn proxy_protocol(service: &Service, port: &ServicePort, node: &LocalNode) -> Option<ProxyProtocol> {
    let asked = service.proxy_protocol.as_ref().filter(|_| node.writes_proxy_protocol)?;
    asked.version().filter(|_| port.protocol == Protocol::Tcp)
}

/// The scheduler of IPVS that `service` asks for, if there is such a one and IPVS.
fn scheduler(service: &Service, node: &LocalNode) -> Option<Scheduler> {
    let asked = service.scheduler.as_ref().filter(|_| node.has_schedulers)?;
    asked.scheduler.as_ref().ok().copied()
}

/// Empties the lists that no frontend of `plan` uses.
pub(crate) fn drop_unused_lists(plan: &mut PortPlan) {
    for list in [List::Cluster, List::Local] {
        let used = plan.frontends.iter().any(|frontend| {
            frontend.inside == Verdict::Forward(list) || frontend.outside == Verdict::Forward(list)
        });
        if !used {
            match list {
                List::Cluster => plan.cluster = Arc::default(),
                List::Local => plan.local = Arc::default(),
            }
        }
    }
}

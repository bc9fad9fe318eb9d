//! Services.

use std::collections::HashSet;
use std::net::IpAddr;

use portolan_controllers::load_balancer::Wishes;
use portolan_controllers::{Distribution, FamilyPolicy, PortSpec, ServiceSpec, TargetPort};
use portolan_service::{
    AskedProxyProtocol, AskedScheduler, ExternalPolicy, Family, IngressMode, InternalPolicy,
    LoadBalancerIngress, ObjectName, Protocol, ProxyProtocol, Scheduler, ServiceType, Weights,
};

use super::{Issue, Issues, given, shared};
use crate::objects::{self, NumberOrName};

/// Addresses of `service` that no Service can have are left out, and go to `left_out`: all but a
/// ClusterIP, without which it is none.
pub(super) fn declare(
    name: &ObjectName,
    service: &objects::Service,
    left_out: &mut Vec<Issue>,
) -> Result<ServiceSpec, Vec<Issue>> {
    let mut issues = Issues::default();
    let mut unusable = Issues::default();
    let spec = &service.spec;
    let kind = kind(&mut issues, spec);
    let (headless, cluster_ips) = cluster_ips(&mut issues, spec);
    if headless && matches!(kind, ServiceType::NodePort | ServiceType::LoadBalancer) {
        issues
            .add("spec.clusterIP", "None is not possible for this type; leave it out to have one allocated");
    }
    let (families, family_policy) = families(&mut issues, spec, &cluster_ips);
    let ports = ports(&mut issues, spec, kind, headless);
    let external_ips = external_ips(&mut issues, &mut unusable, spec);
    let mut source_ranges = Vec::new();
    for (i, text) in spec.load_balancer_source_ranges.iter().enumerate() {
        source_ranges.extend(issues.network(format!("spec.loadBalancerSourceRanges[{i}]"), text));
    }
    let load_balancer = load_balancer(&mut issues, &mut unusable, &service.status);
    left_out.append(&mut unusable.0);
    let affinity = affinity(&mut issues, spec);
    let (internal_policy, external_policy) = policies(&mut issues, spec);
    let distribution = distribution(&mut issues, spec);
    let health_check_node_port = spec
        .health_check_node_port
        .filter(|number| *number != 0)
        .and_then(|number| issues.port("spec.healthCheckNodePort", number));

    let annotation = |key| service.metadata.annotations.get(key).map(String::as_str);
    tracing::trace!(service = %name, "declared");
    issues.or(ServiceSpec {
        kind,
        headless,
        cluster_ips,
        families,
        family_policy,
        ports,
        external_ips,
        load_balancer,
        wishes: Wishes::read(&service.metadata.annotations, spec.load_balancer_ip.as_deref()),
        labels: service.metadata.labels.clone(),
        source_ranges,
        affinity,
        internal_policy,
        external_policy,
        load_balancer_class: given(spec.load_balancer_class.as_deref()),
        health_check_node_port,
        other_proxy: service.metadata.labels.contains_key("service.kubernetes.io/service-proxy-name"),
        selector: spec.selector.clone(),
        publish_not_ready: spec.publish_not_ready_addresses,
        distribution,
        allocate_node_ports: spec.allocate_load_balancer_node_ports.unwrap_or(true),
        external_name: given(spec.external_name.as_deref()),
        proxy_protocol: annotation(ProxyProtocol::ANNOTATION).map(AskedProxyProtocol::parse),
        scheduler: AskedScheduler::parse(
            annotation(Scheduler::ANNOTATION),
            annotation(Scheduler::KUBE_ROUTER_ANNOTATION),
        ),
        weights: annotation(Weights::ANNOTATION).map(Weights::parse),
    })
}

fn kind(issues: &mut Issues, spec: &objects::ServiceSpec) -> ServiceType {
    let kind = spec.kind.as_deref().filter(|kind| !kind.is_empty()).unwrap_or("ClusterIP");
    let kinds = [
        ("ClusterIP", ServiceType::ClusterIp),
        ("NodePort", ServiceType::NodePort),
        ("LoadBalancer", ServiceType::LoadBalancer),
        ("ExternalName", ServiceType::ExternalName),
    ];
    issues.word("spec.type", kind, &kinds).unwrap_or(ServiceType::ClusterIp)
}

fn external_ips(issues: &mut Issues, unusable: &mut Issues, spec: &objects::ServiceSpec) -> Vec<IpAddr> {
    let mut external_ips = Vec::new();
    for (i, text) in spec.external_ips.iter().enumerate() {
        let field = format!("spec.externalIPs[{i}]");
        let address = issues.address(&field, text);
        external_ips.extend(address.and_then(|address| unusable.of_a_service(&field, address)));
    }
    external_ips
}

fn load_balancer(
    issues: &mut Issues,
    unusable: &mut Issues,
    status: &objects::ServiceStatus,
) -> Vec<LoadBalancerIngress> {
    let mut load_balancer = Vec::new();
    for (i, ingress) in status.load_balancer.ingress.iter().enumerate() {
        let field = format!("status.loadBalancer.ingress[{i}]");
        let mode = ingress.ip_mode.as_deref().unwrap_or("VIP");
        let modes = [("VIP", IngressMode::Vip), ("Proxy", IngressMode::Proxy)];
        let mode = issues.word(&format!("{field}.ipMode"), mode, &modes);
        let ip = ingress.ip.as_deref().filter(|ip| !ip.is_empty());
        let field = format!("{field}.ip");
        let Some((ip, mode)) = ip.and_then(|ip| issues.address(&field, ip)).zip(mode) else { continue };
        // Nodes leave the address of a load balancer that is a proxy of its own alone, whatever it
        // is.
        let ip = if mode == IngressMode::Vip { unusable.of_a_service(&field, ip) } else { Some(ip) };
        load_balancer.extend(ip.map(|ip| LoadBalancerIngress { ip, mode }));
    }
    load_balancer
}

fn policies(issues: &mut Issues, spec: &objects::ServiceSpec) -> (InternalPolicy, ExternalPolicy) {
    let internal = spec.internal_traffic_policy.as_deref().unwrap_or("Cluster");
    let policies = [("Cluster", InternalPolicy::Cluster), ("Local", InternalPolicy::Local)];
    let internal = issues.word("spec.internalTrafficPolicy", internal, &policies);
    let external = spec.external_traffic_policy.as_deref().filter(|policy| !policy.is_empty());
    let policies = [("Cluster", ExternalPolicy::Cluster), ("Local", ExternalPolicy::Local)];
    let external = issues.word("spec.externalTrafficPolicy", external.unwrap_or("Cluster"), &policies);
    (internal.unwrap_or(InternalPolicy::Cluster), external.unwrap_or(ExternalPolicy::Cluster))
}

fn distribution(issues: &mut Issues, spec: &objects::ServiceSpec) -> Distribution {
    let distributions = [
        ("PreferClose", Distribution::SameZone),
        ("PreferSameZone", Distribution::SameZone),
        ("PreferSameNode", Distribution::SameNode),
    ];
    let word = spec.traffic_distribution.as_deref().filter(|word| !word.is_empty());
    let distribution = word.and_then(|word| issues.word("spec.trafficDistribution", word, &distributions));
    distribution.unwrap_or(Distribution::Any)
}

fn cluster_ips(issues: &mut Issues, spec: &objects::ServiceSpec) -> (bool, Vec<IpAddr>) {
    let first = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty());
    let list: Vec<&str> = spec.cluster_ips.iter().map(String::as_str).collect();
    if first == Some("None") || list.contains(&"None") {
        if first.is_some_and(|first| first != "None") || list.iter().any(|ip| *ip != "None") || list.len() > 1
        {
            issues.add("spec.clusterIPs", "None cannot stand beside addresses; leave the addresses out");
        }
        return (true, Vec::new());
    }
    let Some(first_of_list) = list.first() else {
        let address = first.and_then(|ip| issues.address("spec.clusterIP", ip));
        let address = address.and_then(|address| issues.of_a_service("spec.clusterIP", address));
        return (false, address.into_iter().collect());
    };
    let mut addresses = Vec::new();
    for (i, text) in list.iter().enumerate() {
        let field = format!("spec.clusterIPs[{i}]");
        let address = issues.address(&field, text);
        addresses.extend(address.and_then(|address| issues.of_a_service(&field, address)));
    }
    let first_address = first.and_then(|ip| issues.address("spec.clusterIP", ip));
    if let Some(address) = first_address
        && addresses.first().is_some_and(|of_list| *of_list != address)
    {
        issues.add(
            "spec.clusterIPs[0]",
            format!("{first_of_list} must be the same as clusterIP, which is {address}"),
        );
    }
    match addresses[..] {
        [a, b] if Family::of(a) == Family::of(b) => {
            issues.add(
                "spec.clusterIPs[1]",
                format!("{b} is {} like {a}; one of each family at most", Family::of(b)),
            );
        }
        [_, _, c, ..] => {
            issues.add("spec.clusterIPs[2]", format!("{c}: two ClusterIPs at most, one of each family"));
        }
        _ => {}
    }
    (false, addresses)
}

fn families(
    issues: &mut Issues,
    spec: &objects::ServiceSpec,
    cluster_ips: &[IpAddr],
) -> (Vec<Family>, FamilyPolicy) {
    let mut families: Vec<Family> = Vec::new();
    for (i, word) in spec.ip_families.iter().enumerate() {
        let field = format!("spec.ipFamilies[{i}]");
        let Some(family) = issues.word(&field, word, &[("IPv4", Family::V4), ("IPv6", Family::V6)]) else {
            continue;
        };
        if families.contains(&family) {
            issues.add(field.clone(), format!("{word} is listed twice"));
            continue;
        }
        families.push(family);
        if let Some(ip) = cluster_ips.get(i)
            && Family::of(*ip) != family
        {
            issues.add(field, format!("{word} does not fit ClusterIP {ip}, which is {}", Family::of(*ip)));
        }
    }
    for ip in cluster_ips {
        if !families.contains(&Family::of(*ip)) {
            families.push(Family::of(*ip));
        }
    }
    let policies = [
        ("SingleStack", FamilyPolicy::Single),
        ("PreferDualStack", FamilyPolicy::Prefer),
        ("RequireDualStack", FamilyPolicy::Require),
    ];
    let asked =
        spec.ip_family_policy.as_deref().and_then(|word| issues.word("spec.ipFamilyPolicy", word, &policies));
    if asked == Some(FamilyPolicy::Single) && families.len() > 1 {
        issues.add(
            "spec.ipFamilyPolicy",
            "SingleStack does not fit two families; use PreferDualStack or RequireDualStack",
        );
    }
    let implied = if families.len() > 1 { FamilyPolicy::Require } else { FamilyPolicy::Single };
    (families, asked.unwrap_or(implied))
}

fn ports(
    issues: &mut Issues,
    spec: &objects::ServiceSpec,
    kind: ServiceType,
    headless: bool,
) -> Vec<PortSpec> {
    let mut ports: Vec<PortSpec> = Vec::with_capacity(spec.ports.len());
    // A Service may have thousands.
    let mut names: HashSet<&str> = HashSet::new();
    let mut numbers: HashSet<(Protocol, u16)> = HashSet::new();
    let mut node_ports: HashSet<(Protocol, u16)> = HashSet::new();
    if spec.ports.is_empty() && !headless && kind != ServiceType::ExternalName {
        issues.add("spec.ports", "missing; a Service needs at least one port");
    }
    for (i, port) in spec.ports.iter().enumerate() {
        let field = |name: &str| format!("spec.ports[{i}].{name}");
        if port.name.is_empty() {
            if spec.ports.len() > 1 {
                issues.add(field("name"), "missing; ports need names when there is more than one");
            }
        } else {
            issues.label(field("name"), &port.name);
            if !names.insert(&port.name) {
                issues.add(field("name"), format!("{} is the name of two ports; rename one", port.name));
            }
        }
        let protocol = issues.protocol(field("protocol"), port.protocol.as_deref());
        let number = issues.port(field("port"), port.port);
        let target = target(issues, field("targetPort"), port);
        let node_port = port.node_port.filter(|number| *number != 0);
        let node_port = node_port.and_then(|number| issues.port(field("nodePort"), number));
        if let (Some(number), ServiceType::ClusterIp | ServiceType::ExternalName) = (node_port, kind) {
            issues.add(
                field("nodePort"),
                format!("{number} is not possible for type ClusterIP or ExternalName; use type NodePort"),
            );
        }
        let (Some(protocol), Some(number), Some(target)) = (protocol, number, target) else { continue };
        if !numbers.insert((protocol, number)) {
            issues.add(field("port"), format!("{number}/{protocol} is used by two ports of this Service"));
        }
        if let Some(node_port) = node_port
            && !node_ports.insert((protocol, node_port))
        {
            issues.add(
                field("nodePort"),
                format!("{node_port}/{protocol} is used by two ports of this Service"),
            );
        }
        ports.push(PortSpec { name: shared(&port.name), protocol, port: number, target, node_port });
    }
    ports
}

fn target(issues: &mut Issues, field: String, port: &objects::ServicePort) -> Option<TargetPort> {
    match &port.target_port {
        None | Some(NumberOrName::Number(0)) => u16::try_from(port.port).ok().map(TargetPort::Number),
        Some(NumberOrName::Number(number)) => issues.port(field, *number).map(TargetPort::Number),
        Some(NumberOrName::Name(name)) => {
            let letter = name.bytes().any(|byte| byte.is_ascii_lowercase());
            if name.len() > 15 || !super::is_label(name) || !letter {
                issues.add(
                    field,
                    format!("{name:?} is not the name of a container port: up to 15 of a-z, 0-9 and -, with a letter"),
                );
            }
            Some(TargetPort::Name(shared(name)))
        }
    }
}

fn affinity(issues: &mut Issues, spec: &objects::ServiceSpec) -> Option<u32> {
    let word = spec.session_affinity.as_deref().filter(|word| !word.is_empty()).unwrap_or("None");
    let by_client = issues.word("spec.sessionAffinity", word, &[("None", false), ("ClientIP", true)])?;
    if !by_client {
        return None;
    }
    let seconds = spec.session_affinity_config.client_ip.timeout_seconds.unwrap_or(10_800);
    let usable = u32::try_from(seconds).ok().filter(|seconds| (1..=86_400).contains(seconds));
    if usable.is_none() {
        issues.add(
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            format!("{seconds} is not in 1-86400 seconds"),
        );
    }
    usable
}

//! What is called what: Services and pods, from manifests, the running proxy or the rules themselves.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{anyhow, bail};
use portolan_observe::rows::{EndpointRow, ServiceRow};
use portolan_service::{
    Change, EndpointSlice, ExternalPolicy, Family, FrontendKind, InternalPolicy, ObjectName, PerFamily,
    Protocol, Service, ServicePlan,
};
use portolan_trace::explain::{KnownEndpoint, KnownFrontend, KnownService, Services};

/// Everything that has a name.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    pub(super) services: Services,
    pub(super) pods: HashMap<ObjectName, PerFamily<Option<IpAddr>>>,
    /// What the rules' own comments and chain names tell, for what is missing from the others.
    pub(super) told_by_rules: Services,
    /// Where the names are from, for error messages.
    pub(super) origin: &'static str,
}

/// A Service port that a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// `None`: any address of the node.
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) protocol: Protocol,
}

impl Names {
    /// The address of a pod in `family`, or else in whichever it has.
    pub(super) fn pod(&self, namespace: &str, name: &str, family: Option<Family>) -> anyhow::Result<IpAddr> {
        if self.pods.is_empty() {
            bail!(
                "pod/{namespace}/{name}: no pod is known by name: give its address, or the pods' manifests with --manifests"
            );
        }
        let addresses = self.pods.get(&ObjectName::new(namespace, name)).ok_or_else(|| {
            let all = self.pods.keys().map(|pod| pod.as_str().to_owned());
            anyhow!("pod/{namespace}/{name}: no such pod{}", nearest(&format!("{namespace}/{name}"), all))
        })?;
        match family {
            Some(family) => addresses
                .get(family)
                .ok_or_else(|| anyhow!("pod/{namespace}/{name} has no {family} address: is another --family meant?")),
            None => addresses.v4.or(addresses.v6).ok_or_else(|| {
                anyhow!("pod/{namespace}/{name} has no address yet: set status.podIP in its manifest, or give its address")
            }),
        }
    }

    /// The frontend that clients in the cluster use for a Service port, by the port's name or number.
    pub(super) fn service(
        &self,
        namespace: &str,
        name: &str,
        port: Option<&str>,
        protocol: Option<Protocol>,
        family: Option<Family>,
    ) -> anyhow::Result<Found> {
        let title = format!("svc/{namespace}/{name}");
        let of = |services: &Services| -> Vec<KnownFrontend> {
            services
                .services
                .iter()
                .filter(|service| service.namespace == namespace && service.name == name)
                .flat_map(|service| service.frontends.clone())
                .collect()
        };
        let mut frontends = of(&self.services);
        if frontends.is_empty() {
            frontends = of(&self.told_by_rules);
        }
        if frontends.is_empty() {
            let exists = self.services.services.iter().any(|it| it.namespace == namespace && it.name == name);
            if exists {
                bail!("{title} has no address that is served: it is headless, or of type ExternalName");
            }
            let all =
                self.services.services.iter().chain(&self.told_by_rules.services).map(KnownService::title);
            bail!(
                "{title}: no such Service in {}{}",
                self.origin,
                nearest(&format!("{namespace}/{name}"), all)
            );
        }
        frontends.retain(|it| protocol.is_none_or(|protocol| it.protocol == protocol));
        if frontends.is_empty() {
            bail!("{title} has no port of this protocol: leave --protocol out to use the one it has");
        }
        let ports = listed(&frontends);
        if let Some(port) = port {
            let number: Option<u16> = port.parse().ok();
            frontends.retain(|it| it.port_name == port || Some(it.port) == number);
            if frontends.is_empty() {
                bail!(
                    "{title} has no port {port:?}: it has {ports}; to ask for another, give its address and the port"
                );
            }
        }
        if let Some(family) = family {
            frontends.retain(|it| it.address.is_none_or(|address| Family::of(address) == family));
            if frontends.is_empty() {
                bail!("{title} has no {family} address: is another --family meant?");
            }
        }
        // What clients in the cluster use comes first, then IPv4.
        let rank = |it: &KnownFrontend| (it.kind as u8, it.address.map(|address| address.is_ipv6()));
        frontends.sort_by_key(rank);
        let first = frontends[0].clone();
        let other = frontends.iter().find(|it| {
            it.kind == first.kind && (it.port, it.protocol) != (first.port, first.protocol) && port.is_none()
        });
        if other.is_some() {
            bail!("{title} has several ports: say which, {title}:PORT with one of {ports}");
        }
        Ok(Found { address: first.address, port: first.port, protocol: first.protocol })
    }
}

/// The ports of a Service, for people.
fn listed(frontends: &[KnownFrontend]) -> String {
    let mut ports: Vec<String> = frontends
        .iter()
        .map(|it| {
            let name = if it.port_name.is_empty() { String::new() } else { format!("{} ", it.port_name) };
            let node = if it.kind == FrontendKind::NodePort { ", a NodePort" } else { "" };
            format!("{name}({}/{}{node})", it.port, it.protocol)
        })
        .collect();
    ports.sort();
    ports.dedup();
    ports.join(", ")
}

/// The names most like `wanted`, for people who slipped.
fn nearest(wanted: &str, all: impl Iterator<Item = String>) -> String {
    let base = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    let (wanted_base, mut near): (String, Vec<String>) = (base(wanted), all.collect());
    near.sort();
    near.dedup();
    let count = near.len();
    if count == 0 {
        return String::new();
    }
    near.retain(|name| {
        let name = base(name);
        name.contains(&wanted_base) || wanted_base.contains(&name)
    });
    near.truncate(5);
    if near.is_empty() {
        format!(" ({count} others are known)")
    } else {
        format!(": is {} meant?", near.join(" or "))
    }
}

/// Services as their objects, and the plans made of them, tell.
pub(super) fn from_objects<'a>(
    changes: &[Change],
    plans: impl Iterator<Item = &'a ServicePlan>,
    pods: HashMap<ObjectName, PerFamily<Option<IpAddr>>>,
    node: &str,
) -> Names {
    let pod_at: HashMap<IpAddr, String> = pods
        .iter()
        .flat_map(|(name, addresses)| {
            [addresses.v4, addresses.v6]
                .into_iter()
                .flatten()
                .map(|address| (address, name.as_str().to_owned()))
        })
        .collect();
    let plans: HashMap<&ObjectName, &ServicePlan> = plans.map(|plan| (&plan.name, plan)).collect();
    let mut slices: HashMap<&ObjectName, Vec<&EndpointSlice>> = HashMap::new();
    for change in changes {
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
            endpoints: slices
                .get(&service.name)
                .map_or(&[][..], |slices| slices)
                .iter()
                .flat_map(|slice| endpoints(service, slice, node, &pod_at))
                .collect(),
            affinity: service.affinity.map(|seconds| Duration::from_secs(seconds.into())),
            internal_local: service.internal_policy == InternalPolicy::Local,
            external_local: service.external_policy == ExternalPolicy::Local,
            source_ranges: service.source_ranges.clone(),
        })
        .collect();
    Names {
        services: Services { services },
        pods,
        told_by_rules: Services::default(),
        origin: "the manifests",
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

fn endpoints<'a>(
    service: &'a Service,
    slice: &'a EndpointSlice,
    node: &'a str,
    pod_at: &'a HashMap<IpAddr, String>,
) -> impl Iterator<Item = KnownEndpoint> + use<'a> {
    let ports = slice.ports.iter().filter(move |port| {
        service
            .ports
            .iter()
            .any(|of_service| of_service.name == port.name && of_service.protocol == port.protocol)
    });
    ports.flat_map(move |port| {
        slice.endpoints.iter().map(move |endpoint| KnownEndpoint {
            address: SocketAddr::new(endpoint.address, port.port),
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

/// Services as the running proxy tells of what it forwards.
pub(super) fn from_rows(services: Vec<ServiceRow>, endpoints: Vec<EndpointRow>) -> Names {
    let mut known: Vec<KnownService> = Vec::new();
    let mut places: HashMap<(String, String), usize> = HashMap::new();
    for row in services {
        let place = *places.entry((row.namespace.clone(), row.name.clone())).or_insert_with(|| {
            known.push(KnownService {
                namespace: row.namespace.clone(),
                name: row.name.clone(),
                affinity: row.affinity_seconds.map(|seconds| Duration::from_secs(seconds.into())),
                ..KnownService::default()
            });
            known.len() - 1
        });
        let service = &mut known[place];
        service.internal_local |= row.internal_policy.as_deref() == Some("Local");
        service.external_local |= row.external_policy.as_deref() == Some("Local");
        let protocol = protocol_named(&row.protocol);
        for frontend in row.frontends {
            let ranges = frontend.allowed_sources.iter().filter_map(|range| range.parse().ok());
            let new: Vec<_> = ranges.filter(|range| !service.source_ranges.contains(range)).collect();
            service.source_ranges.extend(new);
            if let (Some(kind), Some(protocol)) = (kind_named(&frontend.kind), protocol) {
                service.frontends.push(KnownFrontend {
                    kind,
                    address: Some(frontend.address),
                    port: frontend.port,
                    protocol,
                    port_name: row.port.clone(),
                });
            }
        }
    }
    for row in endpoints {
        let Some(place) = places.get(&(row.namespace.clone(), row.service.clone())) else { continue };
        let ready = row.lists.iter().any(|list| list == "cluster" || list == "local");
        known[*place].endpoints.push(KnownEndpoint {
            address: row.socket(),
            pod: None,
            ready,
            serving: true,
            terminating: !ready,
            node: None,
            local: row.local,
            port_name: row.port,
        });
    }
    Names {
        services: Services { services: known },
        pods: HashMap::new(),
        told_by_rules: Services::default(),
        origin: "what the running proxy forwards",
    }
}

fn kind_named(name: &str) -> Option<FrontendKind> {
    Some(match name {
        "ClusterIP" => FrontendKind::ClusterIp,
        "ExternalIP" => FrontendKind::ExternalIp,
        "LoadBalancer" => FrontendKind::LoadBalancer,
        "NodePort" => FrontendKind::NodePort,
        _ => return None,
    })
}

/// The protocol, as rules and rows write it.
pub(super) fn protocol_named(name: &str) -> Option<Protocol> {
    Protocol::ALL.into_iter().find(|protocol| protocol.to_string() == name)
}

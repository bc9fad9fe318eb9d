//! What is called what: Services and pods, from manifests, the running proxy or the rules themselves.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{anyhow, bail};
use portolan_observe::rows::{EndpointRow, ServiceRow};
use portolan_service::{
    Change, EndpointSlice, ExternalPolicy, Family, FrontendKind, InternalPolicy, ObjectName, PerFamily,
    Protocol, Service, ServicePlan, ServiceType,
};
use portolan_trace::explain::{KnownEndpoint, KnownFrontend, KnownService, Services, Unserved};

/// Everything that has a name.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    pub(super) services: Services,
    pub(super) pods: HashMap<ObjectName, PerFamily<Option<IpAddr>>>,
    /// What the rules' own comments and chain names tell, for what is missing from the others.
    pub(super) told_by_rules: Services,
    /// Where the names are from, for error messages.
    pub(super) origin: &'static str,
    /// The rules hold none of a service proxy.
    pub(super) without_proxy: bool,
}

/// Where names of manifests are from.
const MANIFESTS: &str = "the manifests";

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
            let all = self.pods.keys().map(|pod| pod.as_str().to_owned()).collect();
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
            if let Some(known) =
                self.services.services.iter().find(|it| it.namespace == namespace && it.name == name)
            {
                bail!("{title} {}", without_address(known));
            }
            let all: Vec<String> = self
                .services
                .services
                .iter()
                .chain(&self.told_by_rules.services)
                .map(KnownService::title)
                .collect();
            if all.is_empty() && self.without_proxy {
                bail!(
                    "{title}: there are no rules of any service proxy here, and so no Service is known by name: does a proxy run on \
                     this node, and in a mode that writes rules (not IPVS or eBPF)? Give an address and port, or names with --manifests"
                );
            }
            let near = nearest(&format!("{namespace}/{name}"), all);
            // Only manifests have Services without an address.
            let others = if self.origin == MANIFESTS || near.ends_with('?') {
                ""
            } else {
                "; those without an address (headless, or of type ExternalName) are not among them"
            };
            bail!("{title}: no such Service in {}{near}{others}", self.origin);
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

/// Why a Service has no address, and what to ask for instead.
fn without_address(service: &KnownService) -> String {
    let mut pods: Vec<String> = service
        .endpoints
        .iter()
        .map(|endpoint| match &endpoint.pod {
            Some(pod) => format!("pod/{pod}:{}", endpoint.address.port()),
            None => endpoint.address.to_string(),
        })
        .collect();
    pods.truncate(3);
    let example = if pods.is_empty() {
        "it has no endpoints now".to_owned()
    } else {
        format!("ask for one of them: {}", pods.join(", "))
    };
    match service.unserved {
        Some(Unserved::Headless) => format!(
            "is headless (clusterIP: None): its name stands for the addresses of its pods, and no rule of a proxy is for it; {example}"
        ),
        Some(Unserved::ExternalName) => {
            "is of type ExternalName: DNS answers with another name, and no rule of a proxy is for it; ask for the address \
             of that name"
                .to_owned()
        }
        Some(Unserved::OtherProxy) => {
            "has the label service.kubernetes.io/service-proxy-name: another proxy serves it".to_owned()
        }
        None => "has no address that is served yet: is its clusterIP allocated?".to_owned(),
    }
}

/// The names most like `wanted`, as `namespace/name`, for people who slipped: those of another namespace, then those with
/// few other letters.
fn nearest(wanted: &str, mut all: Vec<String>) -> String {
    const SHOWN: usize = 5;
    all.sort();
    all.dedup();
    let split = |name: &str| -> (String, String) {
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        (namespace.to_owned(), name.to_owned())
    };
    let (namespace, name) = split(wanted);
    let few_letters = |word: &str| (word.chars().count() / 3).max(1);
    let mut near: Vec<(usize, &String)> = all
        .iter()
        .filter_map(|candidate| {
            let (other_namespace, other) = split(candidate);
            let slips = edits(&name, &other);
            let alike = slips <= few_letters(&name);
            let part = name.len().min(other.len()) > 2 && (other.contains(&name) || name.contains(&other));
            let elsewhere = edits(&namespace, &other_namespace);
            let rank = match (elsewhere, slips) {
                (_, 0) => elsewhere,
                (0, _) if alike => slips,
                (0, _) if part => few_letters(&name) + 1,
                (1..=2, _) if alike => 5 + slips,
                (_, _) if alike || part => 100 + slips,
                _ => return None,
            };
            Some((rank, candidate))
        })
        .collect();
    near.sort();
    // Those of other namespaces and names are none if there are better ones.
    let best = near.first().map_or(0, |(rank, _)| *rank);
    near.retain(|(rank, _)| *rank < 100 || best >= 100);
    let names: Vec<&str> = near.iter().take(SHOWN).map(|(_, name)| name.as_str()).collect();
    match (names.is_empty(), all.len()) {
        (false, _) => format!(": is {} meant?", names.join(" or ")),
        (true, 0) => String::new(),
        (true, 1..=SHOWN) => format!("; known are {}", all.join(", ")),
        (true, count) => format!(" ({count} others are known)"),
    }
}

/// How many letters must be changed, left out, added or swapped with their neighbour to make one word of the other
/// (optimal string alignment).
fn edits(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut next = vec![row + 1];
        for (column, against) in other.iter().enumerate() {
            let changed = last[column] + usize::from(letter != against);
            let mut least = changed.min(last[column + 1] + 1).min(next[column] + 1);
            let swapped = row > 0 && column > 0 && *letter == other[column - 1] && one[row - 1] == *against;
            if swapped {
                least = least.min(before[column - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut last, next);
    }
    last.last().copied().unwrap_or_default()
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
            unserved: unserved(service),
        })
        .collect();
    Names { services: Services { services }, pods, origin: MANIFESTS, ..Names::default() }
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
        origin: "what the running proxy forwards",
        ..Names::default()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn known(title: &str) -> KnownService {
        let (namespace, name) = title.split_once('/').unwrap();
        KnownService { namespace: namespace.into(), name: name.into(), ..KnownService::default() }
    }

    #[test]
    fn slips_are_recognised() {
        let all = ["shop/web", "shop/cart", "default/kubernetes", "kube-system/kube-dns", "shop/db", "a/b"];
        for (wanted, expected) in [
            ("shop/wbe", ": is shop/web meant?"),
            ("shop/webs", ": is shop/web meant?"),
            ("default/web", ": is shop/web meant?"),
            ("shpo/cart", ": is shop/cart meant?"),
            ("kube-system/coredns", " (6 others are known)"),
            ("kube-system/dns", ": is kube-system/kube-dns meant?"),
            ("shop/zebra", " (6 others are known)"),
        ] {
            let all = all.map(str::to_owned).to_vec();
            assert_eq!(nearest(wanted, all), expected, "{wanted}");
        }
        assert_eq!(nearest("shop/zebra", vec!["a/b".into(), "c/d".into()]), "; known are a/b, c/d");
        assert_eq!(nearest("shop/zebra", Vec::new()), "");
        for (one, other, expected) in
            [("", "", 0), ("web", "", 3), ("web", "wbe", 1), ("web", "wab", 1), ("abc", "ca", 3)]
        {
            assert_eq!(edits(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn services_without_an_address_say_why() {
        let endpoint = KnownEndpoint {
            address: "10.244.1.7:5432".parse().unwrap(),
            pod: Some("shop/db-0".into()),
            ready: true,
            serving: true,
            terminating: false,
            node: None,
            local: false,
            port_name: String::new(),
        };
        let headless = KnownService {
            unserved: Some(Unserved::Headless),
            endpoints: vec![endpoint],
            ..known("shop/db")
        };
        let alias = KnownService { unserved: Some(Unserved::ExternalName), ..known("shop/mail") };
        let names = Names {
            services: Services { services: vec![headless, alias, known("shop/new")] },
            origin: MANIFESTS,
            ..Names::default()
        };
        let bare = Names { origin: "the comments of the rules", without_proxy: true, ..Names::default() };
        for (names, name, part) in [
            (&names, "db", "is headless (clusterIP: None)"),
            (&names, "db", "ask for one of them: pod/shop/db-0:5432"),
            (&names, "mail", "is of type ExternalName"),
            (&names, "new", "is its clusterIP allocated?"),
            (&names, "dbs", "no such Service in the manifests: is shop/db meant?"),
            (&bare, "web", "there are no rules of any service proxy here"),
        ] {
            let refused = names.service("shop", name, None, None, None).unwrap_err().to_string();
            assert!(refused.contains(part), "{name}: {refused}");
        }
    }
}

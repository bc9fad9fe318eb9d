//! The names of Services and pods, from manifests, the running proxy, or the rules themselves.

pub(crate) mod manifests;
pub(crate) mod proxy;
mod similar;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;

use anyhow::{anyhow, bail};
use portolan_service::{Family, FrontendKind, ObjectName, PerFamily, Protocol};
use portolan_trace::explain::{KnownFrontend, KnownService, Services, Unserved};

use self::similar::nearest;

/// Everything that has a name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    pub(crate) services: Services,
    pub(crate) pods: HashMap<ObjectName, PerFamily<Option<IpAddr>>>,
    /// From the rules' own comments and chain names: for what is missing from the others.
    pub(crate) by_rules: Services,
    /// Where the names are from.
    pub(crate) origin: Origin,
    /// The rules hold none of a service proxy.
    pub(crate) without_proxy: bool,
}

/// Where names are from, for error messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Origin {
    #[default]
    Rules,
    Manifests,
    Proxy,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Rules => "the comments of the rules",
            Origin::Manifests => "the manifests",
            Origin::Proxy => "what the running proxy forwards",
        })
    }
}

/// A Service port that a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// `None`: any address of the node.
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    /// The ClusterIP that was passed over for an address for clients outside.
    pub(crate) not_cluster_ip: Option<IpAddr>,
}

/// Who asks for a Service by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    /// A pod or a node: it uses the ClusterIP.
    Inside,
    /// Another machine: it uses an address of a load balancer or an external one, if there is one.
    Outside,
}

impl Names {
    /// The address of a pod in `family`, or else in whichever it has.
    pub(crate) fn pod(&self, namespace: &str, name: &str, family: Option<Family>) -> anyhow::Result<IpAddr> {
        if self.pods.is_empty() {
            bail!(
                "pod/{namespace}/{name}: no pod is known by name: give its address, or the pods' manifests with --manifests"
            );
        }
        let addresses = self.pods.get(&ObjectName::new(namespace, name)).ok_or_else(|| {
            let all = self.pod_titles().collect();
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

    /// Whether there is a Service of this name.
    pub(crate) fn has(&self, namespace: &str, name: &str) -> bool {
        self.services.services.iter().any(|it| it.namespace == namespace && it.name == name)
    }

    /// The ClusterIPs of a Service, each once.
    pub(crate) fn cluster_ips(&self, namespace: &str, name: &str) -> Vec<IpAddr> {
        let named = self.services.services.iter().filter(|it| it.namespace == namespace && it.name == name);
        let frontends = named.flat_map(|service| &service.frontends);
        let own = frontends.filter(|it| it.kind == FrontendKind::ClusterIp).filter_map(|it| it.address);
        own.collect::<BTreeSet<IpAddr>>().into_iter().collect()
    }

    /// The Services, as `namespace/name`.
    pub(crate) fn service_titles(&self) -> impl Iterator<Item = String> {
        self.services.services.iter().chain(&self.by_rules.services).map(KnownService::title)
    }

    /// The pods, as `namespace/name`.
    pub(crate) fn pod_titles(&self) -> impl Iterator<Item = String> {
        self.pods.keys().map(|pod| pod.as_str().to_owned())
    }

    /// The frontend that `client` uses for a Service port. `port` is its name or number.
    pub(crate) fn service(
        &self,
        namespace: &str,
        name: &str,
        port: Option<&str>,
        protocol: Option<Protocol>,
        family: Option<Family>,
        client: Client,
    ) -> anyhow::Result<Found> {
        let title = format!("svc/{namespace}/{name}");
        let mut frontends = self.frontends(namespace, name)?;
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
        // What the client uses comes first, then IPv4.
        let rank = |it: &KnownFrontend| {
            let external = matches!(it.kind, FrontendKind::LoadBalancer | FrontendKind::ExternalIp);
            let passed_over = client == Client::Outside && !external;
            (passed_over, it.kind as u8, it.address.map(|address| address.is_ipv6()))
        };
        frontends.sort_by_key(rank);
        let first = frontends[0].clone();
        let other = frontends.iter().find(|it| {
            it.kind == first.kind && (it.port, it.protocol) != (first.port, first.protocol) && port.is_none()
        });
        if other.is_some() {
            bail!("{title} has several ports: say which, {title}:PORT with one of {ports}");
        }
        let cluster_ip =
            frontends.iter().find(|it| it.kind == FrontendKind::ClusterIp && it.kind != first.kind);
        Ok(Found {
            address: first.address,
            port: first.port,
            protocol: first.protocol,
            not_cluster_ip: cluster_ip.and_then(|it| it.address),
        })
    }

    /// All frontends of a Service: at least one.
    fn frontends(&self, namespace: &str, name: &str) -> anyhow::Result<Vec<KnownFrontend>> {
        for services in [&self.services, &self.by_rules] {
            let named = services.services.iter().filter(|it| it.namespace == namespace && it.name == name);
            let frontends: Vec<KnownFrontend> =
                named.flat_map(|service| service.frontends.iter().cloned()).collect();
            if !frontends.is_empty() {
                return Ok(frontends);
            }
        }
        let title = format!("svc/{namespace}/{name}");
        if let Some(known) =
            self.services.services.iter().find(|it| it.namespace == namespace && it.name == name)
        {
            bail!("{title} {}", without_address(known));
        }
        let all: Vec<String> = self.service_titles().collect();
        if all.is_empty() && self.without_proxy {
            bail!(
                "{title}: there are no rules of any service proxy here, and so no Service is known by name: does a proxy run on \
                 this node, and in a mode that writes rules (not IPVS or eBPF)? Give an address and port, or names with --manifests"
            );
        }
        let near = nearest(&format!("{namespace}/{name}"), all);
        // Only manifests have Services without an address.
        let others = if self.origin == Origin::Manifests || near.ends_with('?') {
            ""
        } else {
            "; those without an address (headless, or of type ExternalName) are not among them"
        };
        bail!("{title}: no such Service in {}{near}{others}", self.origin)
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

/// The protocol, as rules and rows write it.
pub(crate) fn protocol_named(name: &str) -> Option<Protocol> {
    Protocol::ALL.into_iter().find(|protocol| protocol.to_string() == name)
}

#[cfg(test)]
mod tests {
    use portolan_trace::explain::KnownEndpoint;

    use super::*;

    fn known(title: &str) -> KnownService {
        let (namespace, name) = title.split_once('/').unwrap();
        KnownService { namespace: namespace.into(), name: name.into(), ..KnownService::default() }
    }

    #[test]
    fn clients_outside_use_another_address() {
        let service = |title: &str, frontends: &[(FrontendKind, &str)]| KnownService {
            frontends: frontends
                .iter()
                .map(|(kind, address)| KnownFrontend {
                    kind: *kind,
                    address: address.parse().ok(),
                    port: if *kind == FrontendKind::NodePort { 30080 } else { 80 },
                    protocol: Protocol::Tcp,
                    port_name: String::new(),
                })
                .collect(),
            ..known(title)
        };
        let own = (FrontendKind::ClusterIp, "10.96.0.1");
        let node_port = (FrontendKind::NodePort, "192.168.50.1");
        let services = vec![
            service("shop/lb", &[own, (FrontendKind::LoadBalancer, "198.51.100.7"), node_port]),
            service("shop/eip", &[own, (FrontendKind::ExternalIp, "203.0.113.9")]),
            service("shop/np", &[own, node_port]),
        ];
        let names = Names { services: Services { services, ..Services::default() }, ..Names::default() };
        for (name, client, address, not) in [
            ("lb", Client::Inside, "10.96.0.1", None),
            ("lb", Client::Outside, "198.51.100.7", Some("10.96.0.1")),
            ("eip", Client::Outside, "203.0.113.9", Some("10.96.0.1")),
            ("np", Client::Outside, "10.96.0.1", None),
        ] {
            let found = names.service("shop", name, None, None, None, client).unwrap();
            let not = not.map(|address: &str| address.parse::<IpAddr>().unwrap());
            assert_eq!((found.address, found.not_cluster_ip), (address.parse().ok(), not), "{name}");
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
            services: Services { services: vec![headless, alias, known("shop/new")], ..Services::default() },
            origin: Origin::Manifests,
            ..Names::default()
        };
        let bare = Names { without_proxy: true, ..Names::default() };
        for (names, name, part) in [
            (&names, "db", "is headless (clusterIP: None)"),
            (&names, "db", "ask for one of them: pod/shop/db-0:5432"),
            (&names, "mail", "is of type ExternalName"),
            (&names, "new", "is its clusterIP allocated?"),
            (&names, "dbs", "no such Service in the manifests: is shop/db meant?"),
            (&bare, "web", "there are no rules of any service proxy here"),
        ] {
            let refused =
                names.service("shop", name, None, None, None, Client::Inside).unwrap_err().to_string();
            assert!(refused.contains(part), "{name}: {refused}");
        }
    }
}

//! A cluster to ask about, to be changed by a test.

use std::net::IpAddr;
use std::sync::Arc;

use portolan_names::{Fallthrough, Names, PodMode, Settings, Update};
use portolan_service::{
    Change, Endpoint, EndpointNames, EndpointSlice, Family, NamesChange, Namespace, Node, ObjectName, Pod,
    PodPhase, Protocol, Service, ServicePort, ServiceType, SlicePort, Target, TargetSlice,
};

/// When the last change happened: the serial of every answer.
pub(crate) const NOW: u32 = 1_700_000_000;

/// Settings and objects, in the order in which they come.
pub(crate) struct Scene {
    pub(crate) settings: Settings,
    pub(crate) updates: Vec<Update>,
    pub(crate) synced: bool,
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// `NAMESPACE/NAME`
pub(crate) fn named(text: &str) -> ObjectName {
    let (namespace, name) = text.split_once('/').unwrap();
    ObjectName::new(namespace, name)
}

fn protocol(text: &str) -> Protocol {
    match text {
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

/// `NAME:PROTOCOL:NUMBER`; the name may be empty.
fn port(text: &str) -> (Arc<str>, Protocol, u16) {
    let parts: Vec<&str> = text.split(':').collect();
    (parts[0].into(), protocol(parts[1]), parts[2].parse().unwrap())
}

/// A Service with these ClusterIPs (none: headless) and ports.
pub(crate) fn service(name: &str, ips: &str, ports: &str) -> Service {
    let cluster_ips: Vec<IpAddr> = ips.split_whitespace().map(ip).collect();
    let port = |text| {
        let (name, protocol, port) = port(text);
        ServicePort { name, protocol, port, node_port: None }
    };
    Service {
        cluster_ip: cluster_ips.first().copied(),
        headless: cluster_ips.is_empty(),
        ip_families: cluster_ips.iter().map(|ip| Family::of(*ip)).collect(),
        cluster_ips,
        ports: ports.split_whitespace().map(port).collect(),
        ..Service::new(named(name))
    }
}

pub(crate) fn external(name: &str, target: &str) -> Service {
    Service {
        kind: ServiceType::ExternalName,
        headless: false,
        external_name: Some(target.into()),
        ..service(name, "", "")
    }
}

/// `ADDRESS[=HOSTNAME][@ZONE][~POD][!]`; the last means that it is not ready.
fn endpoint(text: &str) -> Endpoint {
    let ready = !text.ends_with('!');
    let (text, pod) = text.trim_end_matches('!').split_once('~').unwrap_or((text.trim_end_matches('!'), ""));
    let (text, zone) = text.split_once('@').map_or((text, None), |(text, zone)| (text, Some(zone)));
    let (address, hostname) = text.split_once('=').unwrap_or((text, ""));
    Endpoint {
        ready,
        serving: ready,
        zone: zone.map(Arc::from),
        names: EndpointNames::new(Some(hostname), Some(pod)),
        ..Endpoint::new(ip(address))
    }
}

/// A slice of a Service in its namespace, `NAMESPACE/SERVICE-SUFFIX`.
pub(crate) fn slice(service: &str, suffix: &str, ports: &str, endpoints: &str) -> EndpointSlice {
    let endpoints: Vec<Endpoint> = endpoints.split_whitespace().map(endpoint).collect();
    let port = |text| {
        // 0 stands for no number.
        let (name, protocol, port) = port(text);
        SlicePort { name, protocol, port: Some(port).filter(|port| *port > 0) }
    };
    EndpointSlice {
        name: named(&format!("{service}-{suffix}")),
        service: named(service),
        family: endpoints.first().map_or(Family::V4, |endpoint| Family::of(endpoint.address)),
        ports: ports.split_whitespace().map(port).collect(),
        endpoints,
    }
}

pub(crate) fn targets(service: &str, suffix: &str, targets: &str) -> Update {
    let target = |text: &str| Target {
        target: text.trim_end_matches('!').into(),
        ready: !text.ends_with('!'),
        names: EndpointNames::default(),
    };
    NamesChange::Targets(Arc::new(TargetSlice {
        name: named(&format!("{service}-{suffix}")),
        service: named(service),
        endpoints: targets.split_whitespace().map(target).collect(),
    }))
    .into()
}

pub(crate) fn namespace(name: &str, labels: &[(&str, &str)]) -> Update {
    let labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    NamesChange::Namespace(Namespace { name: name.into(), labels }).into()
}

pub(crate) fn pod(name: &str, addresses: &str, phase: PodPhase, leaving: bool) -> Update {
    let addresses = addresses.split_whitespace().map(ip).collect();
    NamesChange::Pod(Pod { name: named(name), addresses, phase, leaving }).into()
}

pub(crate) fn node(name: &str, pod_cidr: &str) -> Update {
    Update::Object(Change::Node(Node {
        name: name.into(),
        zone: None,
        addresses: Vec::new(),
        pod_cidrs: vec![pod_cidr.parse().unwrap()],
        leaving: false,
        ready: true,
        excluded: false,
    }))
}

impl Scene {
    /// Namespaces shop, kube-system and empty; Services web, dual, db (headless) and
    /// kube-system/kube-dns; the server is an endpoint of the latter.
    pub(crate) fn new() -> Scene {
        let mut scene = Scene {
            settings: Settings {
                pods: PodMode::Insecure,
                fallthrough: Fallthrough::Nothing,
                zonal: true,
                own_addresses: vec![ip("10.1.0.53")],
                ..Settings::default()
            },
            updates: Vec::new(),
            synced: true,
        };
        for name in ["shop", "kube-system", "empty"] {
            scene.updates.push(namespace(name, &[("tier", name)]));
        }
        scene.service("shop/web", "10.96.0.1", "http:tcp:80 https:tcp:443");
        scene.slice("shop/web", "a", "http:tcp:8080", "10.1.0.1 10.1.0.2=first 10.1.0.3!");
        scene.service("shop/dual", "10.96.0.2 fd00:96::2", "http:tcp:80");
        scene.service("shop/db", "", "sql:tcp:5432");
        scene.slice(
            "shop/db",
            "a",
            "sql:tcp:5432 stats:tcp:9000",
            "10.1.1.1=db-0@a 10.1.1.2=db-1@b.eu 10.1.1.3!",
        );
        scene.slice("shop/db", "b", "sql:tcp:5432", "fd00:1::1=db-0@a");
        scene.service("kube-system/kube-dns", "10.96.0.10", "dns:udp:53 dns-tcp:tcp:53");
        scene.slice("kube-system/kube-dns", "a", "dns:udp:53 dns-tcp:tcp:53", "10.1.0.53");
        scene
    }

    pub(crate) fn service(&mut self, name: &str, ips: &str, ports: &str) {
        self.put(service(name, ips, ports));
    }

    pub(crate) fn slice(&mut self, service: &str, suffix: &str, ports: &str, endpoints: &str) {
        self.updates.push(Change::from(slice(service, suffix, ports, endpoints)).into());
    }

    pub(crate) fn external(&mut self, name: &str, target: &str) {
        self.put(external(name, target));
    }

    pub(crate) fn put(&mut self, service: Service) {
        self.updates.push(Change::from(service).into());
    }

    pub(crate) fn names(self) -> Names {
        let mut names = Names::new(self.settings, 7).unwrap();
        names.apply(self.updates, NOW);
        if self.synced {
            names.set_synced();
        }
        names
    }
}

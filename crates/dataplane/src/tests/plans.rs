//! Plans for tests, as short as the situation allows.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use portolan_service::{
    AllowedSources, Backend, Family, Frontend, FrontendKind, List, Masquerade, ObjectName, PerFamily, Place,
    PortPlan, Protocol, ServicePlan, Verdict,
};

use crate::settings::{LocalDetector, Settings};

pub(crate) const CLUSTER: Verdict = Verdict::Forward(List::Cluster);
pub(crate) const LOCAL: Verdict = Verdict::Forward(List::Local);

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

/// Backends from `address:port`, on this node where followed by `*`, on an unknown one where by
/// `?`. With `=N` before that, of weight N.
pub(crate) fn backends(list: &[&str]) -> Arc<[Backend]> {
    list.iter()
        .map(|text| {
            let plain = text.trim_end_matches(['*', '?']);
            let (socket, weight) = plain.split_once('=').unwrap_or((plain, "1"));
            let socket: std::net::SocketAddr = socket.parse().expect("address:port");
            let weight = weight.parse().expect("a weight");
            let place = match text.as_bytes().last() {
                Some(b'*') => Place::Here,
                Some(b'?') => Place::Unknown,
                _ => Place::Elsewhere,
            };
            Backend { address: socket.ip(), port: socket.port(), place, weight }
        })
        .collect()
}

pub(crate) fn service(name: &str, ports: Vec<PortPlan>) -> ServicePlan {
    ServicePlan { name: ObjectName::new("shop", name), ports, health_check: None }
}

/// A port whose endpoints are all served, those marked local from this node's list too.
pub(crate) fn port(name: &str, protocol: Protocol, endpoints: &[&str]) -> PortPlan {
    let cluster = backends(endpoints);
    let local: Arc<[Backend]> = cluster.iter().copied().filter(Backend::is_local).collect();
    PortPlan {
        family: Family::V4,
        name: name.into(),
        protocol,
        local,
        serving: if protocol == Protocol::Udp { cluster.clone() } else { Arc::from([]) },
        cluster,
        affinity: None,
        proxy_protocol: None,
        scheduler: None,
        resting: Arc::default(),
        node_port: None,
        frontends: Vec::new(),
    }
}

pub(crate) trait PortExt: Sized {
    fn at(self, kind: FrontendKind, address: &str, port: u16, inside: Verdict, outside: Verdict) -> Self;
    fn sticky(self, seconds: u32) -> Self;
    fn allowing(self, networks: &[&str]) -> Self;
    fn cluster_ip(self, address: &str) -> Self {
        self.at(FrontendKind::ClusterIp, address, 80, CLUSTER, CLUSTER)
    }
}

impl PortExt for PortPlan {
    fn at(mut self, kind: FrontendKind, address: &str, port: u16, inside: Verdict, outside: Verdict) -> Self {
        let masquerade = match (kind, inside == outside) {
            (FrontendKind::ClusterIp, _) => Masquerade::NotLocal,
            (_, true) => Masquerade::Always,
            (_, false) => Masquerade::FromNode,
        };
        let address = ip(address);
        self.family = Family::of(address);
        self.frontends.push(Frontend {
            kind,
            address,
            port,
            inside,
            outside,
            masquerade,
            allowed_sources: None,
        });
        self
    }

    fn sticky(mut self, seconds: u32) -> Self {
        self.affinity = Some(seconds);
        self
    }

    fn allowing(mut self, networks: &[&str]) -> Self {
        let allowed = AllowedSources::new(networks.iter().map(|text| net(text)));
        self.frontends.last_mut().expect("a frontend").allowed_sources = Some(Arc::new(allowed));
        self
    }
}

/// Detection by network in both families, one network of ClusterIPs.
pub(crate) fn settings() -> Settings {
    Settings {
        local: PerFamily {
            v4: Some(LocalDetector::SourceNetwork(net("10.244.0.0/16"))),
            v6: Some(LocalDetector::SourceNetwork(net("fd00:10:244::/48"))),
        },
        masquerade_all: false,
        service_networks: vec![net("10.96.0.0/16"), net("fd00:10:96::/112")],
    }
}

/// Endpoints of different weights.
pub(crate) fn weighted() -> Vec<ServicePlan> {
    let two = ["10.244.1.11:8080=30*", "10.244.2.21:8080=10"];
    let canary = port("http", Protocol::Tcp, &two).cluster_ip("10.96.0.1").at(
        FrontendKind::LoadBalancer,
        "203.0.113.2",
        80,
        CLUSTER,
        LOCAL,
    );
    let sticky = port("http", Protocol::Tcp, &two).cluster_ip("10.96.0.2").sticky(60);
    vec![service("canary", vec![canary]), service("sticky", vec![sticky])]
}

/// One of everything.
pub(crate) fn everything() -> Vec<ServicePlan> {
    use FrontendKind::{ClusterIp, ExternalIp, LoadBalancer, NodePort};
    let three = ["10.244.1.11:8080*", "10.244.1.12:8080*", "10.244.2.21:8080"];
    vec![
        service(
            "web",
            vec![
                port("http", Protocol::Tcp, &three)
                    .cluster_ip("10.96.0.1")
                    .at(ExternalIp, "203.0.113.1", 80, CLUSTER, CLUSTER)
                    .at(LoadBalancer, "203.0.113.2", 80, CLUSTER, CLUSTER)
                    .allowing(&["10.244.0.0/16", "192.168.50.64/26"])
                    .at(NodePort, "192.168.50.1", 30080, CLUSTER, CLUSTER),
                port("", Protocol::Tcp, &["[fd00:10:244:1::11]:8080*", "[fd00:10:244:2::21]:8080"]).at(
                    ClusterIp,
                    "fd00:10:96::1",
                    80,
                    CLUSTER,
                    CLUSTER,
                ),
            ],
        ),
        service(
            "near",
            vec![
                port("dns", Protocol::Udp, &["10.244.1.12:5353*", "10.244.2.21:5353"])
                    .at(ClusterIp, "10.96.0.2", 53, CLUSTER, CLUSTER)
                    .at(LoadBalancer, "203.0.113.3", 53, CLUSTER, LOCAL),
            ],
        ),
        service(
            "far",
            vec![
                port("", Protocol::Sctp, &["10.244.2.21:9"])
                    .at(ClusterIp, "10.96.0.3", 9, Verdict::Drop, Verdict::Drop)
                    .at(LoadBalancer, "203.0.113.4", 9, CLUSTER, Verdict::Drop),
            ],
        ),
        service(
            "empty",
            vec![
                port("http", Protocol::Tcp, &[])
                    .at(ClusterIp, "10.96.0.4", 80, Verdict::Reject, Verdict::Reject)
                    .at(NodePort, "192.168.50.1", 30084, Verdict::Reject, Verdict::Reject),
                port("http", Protocol::Tcp, &[]).at(
                    ExternalIp,
                    "fd00:203::4",
                    80,
                    Verdict::Reject,
                    Verdict::Reject,
                ),
            ],
        ),
        service(
            "sticky",
            vec![
                port("http", Protocol::Tcp, &three).sticky(10800).cluster_ip("10.96.0.5").at(
                    NodePort,
                    "192.168.50.1",
                    30085,
                    CLUSTER,
                    LOCAL,
                ),
                port("http", Protocol::Tcp, &["[fd00:10:244:1::11]:8080*"])
                    .sticky(60)
                    .at(LoadBalancer, "fd00:203::5", 80, LOCAL, LOCAL)
                    .allowing(&["fd00::/16"]),
            ],
        ),
    ]
}

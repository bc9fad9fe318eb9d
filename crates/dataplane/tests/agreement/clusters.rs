//! Random Services with endpoints, and who may connect to them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use fastrand::Rng;
use ipnet::IpNet;
use portolan_service::{
    Change, Endpoint, EndpointSlice, ExternalPolicy, Family, IngressMode, InternalPolicy,
    LoadBalancerIngress, LocalNode, ObjectName, PerFamily, Planner, Protocol, Service, ServicePlan,
    ServicePort, ServiceType, SlicePort, Weights,
};

const HERE: &str = "here";

fn pick(family: Family, v4: &str, v6: &str) -> String {
    if family == Family::V4 { v4.to_owned() } else { v6.to_owned() }
}

fn ip(family: Family, v4: &str, v6: &str) -> IpAddr {
    pick(family, v4, v6).parse().expect("an address")
}

fn net(family: Family, v4: &str, v6: &str) -> IpNet {
    pick(family, v4, v6).parse().expect("a network")
}

/// The network of this node's pods.
pub(crate) fn local_pods(family: Family) -> IpNet {
    net(family, "10.244.1.0/24", "fd00:244:1::/64")
}

/// The node's address and its network.
pub(crate) fn node_network(family: Family) -> IpNet {
    net(family, "192.168.50.1/24", "fd00:50::1/64")
}

/// The node's address.
pub(crate) fn node_address(family: Family) -> IpAddr {
    node_network(family).addr()
}

/// The address of the node's bridge, and its network.
pub(crate) fn bridge_network(family: Family) -> IpNet {
    net(family, "10.244.1.1/24", "fd00:244:1::1/64")
}

/// All addresses.
pub(crate) fn everything(family: Family) -> IpNet {
    net(family, "0.0.0.0/0", "::/0")
}

/// Somebody who connects.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    /// Where its packets come in; `None`: it is the node itself.
    pub(crate) interface: Option<&'static str>,
}

/// Entries of the annotation for some pods, 0 among the weights.
fn weights(random: &mut Rng, family: Family) -> String {
    let entry = |random: &mut Rng, pod| {
        let address = ip(family, &format!("10.244.1.{pod}"), &format!("fd00:244:1::{pod}"));
        format!("{address}: {}", random.u16(0..6))
    };
    [entry(random, 10), entry(random, 12), format!("*: {}", random.u16(1..4))].join(", ")
}

/// A few Services, all of one family.
pub(crate) struct Cluster {
    pub(crate) family: Family,
    services: Vec<Service>,
    slices: Vec<EndpointSlice>,
}

impl Cluster {
    pub(crate) fn random(random: &mut Rng, family: Family) -> Cluster {
        let mut cluster = Cluster { family, services: Vec::new(), slices: Vec::new() };
        for number in 1..=random.u16(3..8) {
            cluster.add(random, number);
        }
        cluster
    }

    fn add(&mut self, random: &mut Rng, number: u16) {
        let family = self.family;
        let address = |v4: &str, v6: &str| ip(family, &format!("{v4}{number}"), &format!("{v6}{number}"));
        let kind = random.choice([ServiceType::ClusterIp, ServiceType::NodePort, ServiceType::LoadBalancer]);
        let kind = kind.expect("one of three");
        let cluster_ip = address("10.96.0.", "fd00:96::");
        let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        let ports = (0..random.u16(1..3)).map(|port| ServicePort {
            name: format!("p{port}").into(),
            protocol: random.choice(protocols).expect("one of three"),
            port: 80 + port,
            node_port: (kind != ServiceType::ClusterIp && random.f32() < 0.8)
                .then_some(30_000 + 2 * number + port),
        });
        let ports: Vec<ServicePort> = ports.collect();
        let ranges = [
            net(family, "192.168.50.0/24", "fd00:50::/64"),
            net(family, "10.244.0.0/16", "fd00:244::/32"),
            net(family, "198.51.100.0/24", "fd00:51::/64"),
        ];
        let source_ranges =
            if random.bool() { Vec::new() } else { ranges.into_iter().filter(|_| random.bool()).collect() };
        let service = Service {
            kind,
            cluster_ip: Some(cluster_ip),
            cluster_ips: vec![cluster_ip],
            ip_families: vec![family],
            external_ips: if random.bool() { vec![address("203.0.113.", "fd00:113::")] } else { Vec::new() },
            load_balancer: if kind == ServiceType::LoadBalancer {
                vec![LoadBalancerIngress { ip: address("203.0.114.", "fd00:114::"), mode: IngressMode::Vip }]
            } else {
                Vec::new()
            },
            source_ranges,
            affinity: (random.f32() < 0.25).then_some(600),
            internal_policy: if random.f32() < 0.3 { InternalPolicy::Local } else { InternalPolicy::Cluster },
            external_policy: if random.bool() { ExternalPolicy::Local } else { ExternalPolicy::Cluster },
            weights: (random.f32() < 0.25).then(|| Weights::parse(&weights(random, family))),
            ports,
            ..Service::new(ObjectName::new("shop", &format!("s{number}")))
        };
        self.slices.push(self.slice(random, &service));
        self.services.push(service);
    }

    /// Endpoints are pods here and on another node; pods serve several Services.
    fn slice(&self, random: &mut Rng, service: &Service) -> EndpointSlice {
        let mut endpoints = Vec::new();
        for pod in 10..14_u16 {
            if random.f32() < 0.55 {
                continue;
            }
            let here = pod % 2 == 0;
            let node = if here { 1 } else { 2 };
            let address =
                ip(self.family, &format!("10.244.{node}.{pod}"), &format!("fd00:244:{node}::{pod}"));
            let terminating = random.f32() < 0.2;
            let ready = !terminating && random.f32() < 0.85;
            endpoints.push(Endpoint {
                ready,
                serving: ready || random.bool(),
                terminating,
                // Slices written by hand name no node.
                node: (random.f32() < 0.8).then(|| if here { HERE.into() } else { "there".into() }),
                ..Endpoint::new(address)
            });
        }
        EndpointSlice {
            name: ObjectName::new("shop", &format!("{}-slice", service.name.name())),
            service: service.name.clone(),
            family: self.family,
            ports: service
                .ports
                .iter()
                .map(|port| SlicePort {
                    name: port.name.clone(),
                    protocol: port.protocol,
                    port: Some(8000 + port.port),
                })
                .collect(),
            endpoints,
        }
    }

    /// What this node must forward.
    pub(crate) fn plans(&self) -> Vec<ServicePlan> {
        let mut ips = PerFamily::default();
        *ips.get_mut(self.family) = Some(node_address(self.family));
        let mut planner = Planner::new(LocalNode {
            name: HERE.into(),
            zone: None,
            ips,
            nodeport_addresses: vec![node_address(self.family)],
            ..LocalNode::default()
        });
        let services = self.services.iter().cloned().map(Change::from);
        planner.apply(services.chain(self.slices.iter().cloned().map(Change::from)));
        let mut plans: Vec<ServicePlan> =
            planner.plans().map(|plan| Arc::unwrap_or_clone(plan.clone())).collect();
        plans.sort_by(|one, other| one.name.cmp(&other.name));
        plans
    }

    /// Every frontend, and addresses and ports near them that are none.
    pub(crate) fn destinations(&self, plans: &[ServicePlan]) -> Vec<(SocketAddr, Protocol)> {
        let mut all: Vec<(SocketAddr, Protocol)> = plans
            .iter()
            .flat_map(|plan| &plan.ports)
            .flat_map(|port| {
                port.frontends
                    .iter()
                    .map(|frontend| (SocketAddr::new(frontend.address, frontend.port), port.protocol))
            })
            .collect();
        let others: Vec<(SocketAddr, Protocol)> = all
            .iter()
            .flat_map(|(address, protocol)| {
                let other = if *protocol == Protocol::Tcp { Protocol::Udp } else { Protocol::Tcp };
                let bridge = bridge_network(self.family).addr();
                [
                    (SocketAddr::new(address.ip(), address.port() + 1000), *protocol),
                    (*address, other),
                    (SocketAddr::new(bridge, address.port()), *protocol),
                ]
            })
            .collect();
        all.extend(others);
        all.sort_unstable();
        all.dedup();
        all
    }

    pub(crate) fn clients(&self) -> Vec<Client> {
        let family = self.family;
        let client = |v4, v6, interface| Client { address: ip(family, v4, v6), interface };
        vec![
            client("10.244.1.99", "fd00:244:1::99", Some("cni0")),
            client("10.244.1.10", "fd00:244:1::10", Some("cni0")),
            client("10.244.1.12", "fd00:244:1::12", Some("cni0")),
            client("10.244.2.99", "fd00:244:2::99", Some("eth0")),
            client("192.168.50.1", "fd00:50::1", None),
            client("192.168.50.100", "fd00:50::100", Some("eth0")),
            client("198.51.100.7", "fd00:51::7", Some("eth0")),
            client("172.16.0.1", "fd00:172::1", Some("eth0")),
        ]
    }
}

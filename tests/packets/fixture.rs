//! The Services that the packet table talks about, and the addresses of everything in its lab.
//!
//! host1 (192.168.50.1, zone z1) runs a1, a2 and client-a; host2 (192.168.50.2, zone z2) runs b1
//! and client-b. Pods answer TCP and UDP on port 8080, b1 also on 9090.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use portolan_service::{Family, Protocol};
use portolan_tests::manifests::{EndpointManifest, PodManifest, ServiceManifest, slice};
use portolan_tests::site::{Plan, PlanNode};
use serde_json::{Value, json};

/// The port of every Service on its ClusterIP, external and load-balancer addresses.
pub(crate) const PORT: u16 = 80;
/// The port pods listen on.
pub(crate) const TARGET: u16 = 8080;

/// The health-check port of `local-external`, which has an endpoint on each node.
pub(crate) const HEALTH_CHECK: u16 = 32_001;
/// The health-check port of `local-external-remote`, which has none on host1.
pub(crate) const HEALTH_CHECK_REMOTE: u16 = 32_002;

/// The pods: name, node, last part of the address.
pub(crate) const PODS: &[(&str, &str, u8)] = &[
    ("a1", "host1", 11),
    ("a2", "host1", 12),
    ("client-a", "host1", 13),
    ("b1", "host2", 21),
    ("client-b", "host2", 23),
];

/// The address of a pod.
pub(crate) fn pod_address(pod: &str, family: Family) -> IpAddr {
    let (_, node, host) = PODS.iter().find(|(name, ..)| *name == pod).expect("a pod of the fixture");
    let node = if *node == "host1" { 1 } else { 2 };
    match family {
        Family::V4 => Ipv4Addr::new(10, 244, node, *host).into(),
        // Written alike: fd00:244:1::11
        Family::V6 => Ipv6Addr::new(0xfd00, 0x244, node.into(), 0, 0, 0, 0, as_written(*host)).into(),
    }
}

/// An address on the network between the nodes and the machine outside.
pub(crate) fn underlay(host: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 168, 50, host).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x50, 0, 0, 0, 0, 0, host.into()).into(),
    }
}

/// host1's addresses: primary and second; host2's; the machine outside: its first and its other.
pub(crate) const HOST1: u8 = 1;
pub(crate) const HOST1_SECOND: u8 = 11;
pub(crate) const HOST2: u8 = 2;
pub(crate) const OUTSIDE: u8 = 100;
pub(crate) const OUTSIDE_OTHER: u8 = 200;

fn as_written(decimal: u8) -> u16 {
    u16::from(decimal / 10) * 16 + u16::from(decimal % 10)
}

/// The nodes' addresses on their pods' bridges.
pub(crate) fn gateway(node: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 244, node, 1).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x244, node.into(), 0, 0, 0, 0, 1).into(),
    }
}

/// The nodes and pods, both families, and the machine outside, which sends everything through
/// host1.
pub(crate) fn plan() -> Plan {
    let node = |name: &str, host: u8, zone: &str| {
        let mut node =
            PlanNode::new(name, &underlay(host, Family::V4).to_string(), &format!("10.244.{host}.0/24"));
        node.addresses.push(underlay(host, Family::V6));
        node.pod_networks.push(format!("fd00:244:{host}::/64").parse().expect("a network"));
        if name == "host1" {
            node.extra = Family::ALL.map(|family| underlay(HOST1_SECOND, family)).to_vec();
        }
        node.zone = Some(zone.to_owned());
        node
    };
    let pods = PODS.iter().map(|(name, node, _)| {
        let pod = PodManifest::new(name, node, &pod_address(name, Family::V4).to_string())
            .address(pod_address(name, Family::V6))
            .port("", TARGET);
        if *name == "b1" { pod.port("", 9090) } else { pod }
    });
    let both = |host| Family::ALL.map(|family| underlay(host, family));
    Plan {
        nodes: vec![node("host1", HOST1, "z1"), node("host2", HOST2, "z2")],
        pods: pods.collect(),
        outside: [both(OUTSIDE), both(OUTSIDE_OTHER)].concat(),
        through: "host1".to_owned(),
        load_balancers: Family::ALL
            .map(|family| SocketAddr::new(service("web").proxy_mode_address(family), PORT))
            .to_vec(),
    }
}

/// One endpoint of a Service.
#[derive(Debug, Clone)]
struct At {
    pod: &'static str,
    port: u16,
    /// Endpoints of different numbers are in different slices.
    slice: u8,
    conditions: fn(EndpointManifest) -> EndpointManifest,
}

fn at(pod: &'static str) -> At {
    At { pod, port: TARGET, slice: 0, conditions: |endpoint| endpoint }
}

impl At {
    fn but(mut self, conditions: fn(EndpointManifest) -> EndpointManifest) -> At {
        self.conditions = conditions;
        self
    }

    fn in_slice(mut self, slice: u8) -> At {
        self.slice = slice;
        self
    }

    fn on_port(mut self, port: u16) -> At {
        self.port = port;
        self
    }
}

/// A Service of the table.
pub(crate) struct Fixture {
    pub(crate) name: &'static str,
    /// Its place in the list, from which all its addresses follow.
    number: u8,
    endpoints: Vec<At>,
    protocols: &'static [Protocol],
    change: fn(ServiceManifest) -> ServiceManifest,
}

impl Fixture {
    pub(crate) fn cluster_ip(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(10, 96, 1, self.number).into(),
            Family::V6 => Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, self.number.into()).into(),
        }
    }

    pub(crate) fn external_ip(&self, family: Family) -> IpAddr {
        documentation(Ipv4Addr::new(203, 0, 113, self.number), 0x113, family)
    }

    pub(crate) fn load_balancer(&self, family: Family) -> IpAddr {
        documentation(Ipv4Addr::new(198, 51, 100, self.number), 0x51, family)
    }

    /// The load-balancer address of mode Proxy, which the machine outside has itself.
    pub(crate) fn proxy_mode_address(&self, family: Family) -> IpAddr {
        documentation(Ipv4Addr::new(192, 0, 2, self.number), 0x2, family)
    }

    pub(crate) fn node_port(&self) -> u16 {
        30_000 + u16::from(self.number)
    }

    /// The Service and its slices.
    pub(crate) fn objects(&self) -> Vec<Value> {
        let addresses = Family::ALL.map(|family| self.cluster_ip(family));
        let mut service = ServiceManifest::new(self.name, &addresses)
            .kind("LoadBalancer")
            .external_ips(&Family::ALL.map(|family| self.external_ip(family)));
        for protocol in self.protocols {
            service = service.node_port(&protocol.to_string(), *protocol, PORT, Some(self.node_port()));
        }
        for family in Family::ALL {
            service = service
                .ingress(self.load_balancer(family), "VIP")
                .ingress(self.proxy_mode_address(family), "Proxy");
        }
        let mut objects = vec![(self.change)(service).object()];
        let mut slices: Vec<_> = self.endpoints.iter().map(|at| at.slice).collect();
        slices.sort_unstable();
        slices.dedup();
        for (number, family) in slices.iter().flat_map(|number| Family::ALL.map(|family| (*number, family))) {
            let members: Vec<_> = self.endpoints.iter().filter(|at| at.slice == number).collect();
            let names: Vec<_> = self.protocols.iter().map(ToString::to_string).collect();
            let ports: Vec<_> = std::iter::zip(&names, self.protocols)
                .map(|(name, protocol)| (name.as_str(), *protocol, members[0].port))
                .collect();
            let endpoints: Vec<_> = members
                .iter()
                .map(|at| {
                    let node = PODS.iter().find(|(name, ..)| *name == at.pod).map(|(_, node, _)| *node);
                    (at.conditions)(EndpointManifest::new(pod_address(at.pod, family), node))
                })
                .collect();
            let name = format!("{}-{number}-{}", self.name, family.to_string().to_lowercase());
            objects.push(slice(&name, self.name, family, &ports, &endpoints));
        }
        objects
    }
}

fn documentation(v4: Ipv4Addr, third: u16, family: Family) -> IpAddr {
    match family {
        Family::V4 => v4.into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, third, 0, 0, 0, 0, v4.octets()[3].into()).into(),
    }
}

/// The Service of this name.
pub(crate) fn service(name: &str) -> Fixture {
    services().into_iter().find(|service| service.name == name).expect("a Service of the fixture")
}

/// All Services.
#[expect(clippy::too_many_lines, reason = "one list of Services")]
pub(crate) fn services() -> Vec<Fixture> {
    let mut services: Vec<Fixture> = Vec::new();
    let mut add = |name, endpoints: Vec<At>, change: fn(ServiceManifest) -> ServiceManifest| {
        let number = u8::try_from(services.len() + 1).expect("fewer than 255 Services");
        let protocols: &[Protocol] = match name {
            "tcp-only" => &[Protocol::Tcp],
            "sctp" => &[Protocol::Sctp],
            _ => &[Protocol::Tcp, Protocol::Udp],
        };
        services.push(Fixture { name, number, endpoints, protocols, change });
    };

    add("web", vec![at("a1"), at("a2"), at("b1")], |service| service);
    add("single", vec![at("a1")], |service| service);
    add("none", vec![], |service| service);
    add("unready", vec![at("a1").but(EndpointManifest::unready)], |service| service);
    add("tcp-only", vec![at("a1")], |service| service);
    add("sctp", vec![at("a1")], |service| service);

    // Policies.
    add("local-external", vec![at("a1"), at("b1")], |service| {
        external_local(service).spec("healthCheckNodePort", HEALTH_CHECK)
    });
    add("local-external-single", vec![at("a1")], external_local);
    add("local-external-remote", vec![at("b1")], |service| {
        external_local(service).spec("healthCheckNodePort", HEALTH_CHECK_REMOTE)
    });
    add("local-external-none", vec![], external_local);
    add("local-internal", vec![at("a1"), at("b1")], internal_local);
    add("local-internal-remote", vec![at("b1")], internal_local);
    add("local-both", vec![at("a1"), at("b1")], |service| internal_local(external_local(service)));
    add("local-both-remote", vec![at("b1")], |service| internal_local(external_local(service)));

    // Source ranges; 192.168.50.64/26 holds the first address of the machine outside, not the
    // other.
    add("ranges", vec![at("a1"), at("b1")], |service| {
        ranges(
            service,
            &["192.168.50.64/26", "192.168.50.96/27", "10.244.0.0/16", "fd00:50::64/122", "fd00:244::/32"],
        )
    });
    add("ranges-outside", vec![at("a1"), at("b1")], |service| {
        ranges(service, &[" 192.168.50.64/26 ", "fd00:50::64/122"])
    });
    add("ranges-zero", vec![at("a1")], |service| {
        ranges(service, &["192.168.50.64/26", "0.0.0.0/0", "fd00:50::64/122", "::/0"])
    });
    add("ranges-v4", vec![at("a1")], |service| ranges(service, &["192.168.50.64/26"]));
    add("ranges-none", vec![], |service| ranges(service, &["192.168.50.64/26", "fd00:50::64/122"]));
    add("ranges-node", vec![at("a1"), at("b1")], |service| {
        ranges(service, &["192.168.50.0/28", "fd00:50::/124"])
    });

    // Endpoint conditions.
    add("terminating-all", vec![terminating("a1"), terminating("b1")], |service| service);
    add("terminating-some", vec![terminating("a1"), at("b1")], |service| service);
    add("terminating-local", vec![terminating("a1"), at("b1")], external_local);
    add("terminating-published", vec![at("a1").but(ready_terminating), at("b1")], |service| service);
    add(
        "duplicates",
        vec![terminating("a1"), at("a1").in_slice(1), at("b1").in_slice(2), at("b1").in_slice(3)],
        |s| s,
    );
    add("target-ports", vec![at("a1"), at("b1").on_port(9090).in_slice(1)], |service| service);

    // As slices written by hand are, and those mirrored from Endpoints.
    add("nodes-unknown", vec![at("a1").but(EndpointManifest::without_node)], |service| service);

    // Topology hints; host1 is in zone z1, host2 in z2.
    let in_zone = |pod, hints| at(pod).but(hints);
    add("zones", vec![in_zone("a1", |e| e.zone("z1")), in_zone("b1", |e| e.zone("z2"))], |service| service);
    add("zones-partly", vec![in_zone("a1", |e| e.zone("z1")), at("b1")], |service| service);
    add(
        "zones-unready",
        vec![
            in_zone("a1", |e| e.zone("z1")),
            in_zone("b1", |e| e.zone("z2")),
            at("a2").but(EndpointManifest::unready),
        ],
        |service| service,
    );
    add("zones-foreign", vec![in_zone("a1", |e| e.zone("z9")), in_zone("b1", |e| e.zone("z9"))], |service| {
        service
    });
    add(
        "nodes",
        vec![in_zone("a1", |e| e.for_node("host1")), in_zone("b1", |e| e.for_node("host2"))],
        |service| service,
    );
    add(
        "nodes-to-zones",
        vec![
            in_zone("a1", |e| e.for_node("host2").zone("z1")),
            in_zone("b1", |e| e.for_node("host2").zone("z2")),
        ],
        |service| service,
    );
    add(
        "zones-local-external",
        vec![in_zone("a1", |e| e.zone("z2")), in_zone("b1", |e| e.zone("z1"))],
        external_local,
    );

    // Of the type ClusterIP, with an external address only.
    add("external-only", vec![at("a1"), at("b1")], |service| {
        service.kind("ClusterIP").without_node_ports().without_ingress()
    });
    add("external-only-local", vec![at("a1"), at("b1")], |service| {
        external_local(service.kind("ClusterIP").without_node_ports().without_ingress())
    });
    add("other-proxy", vec![at("a1")], |service| {
        service.label("service.kubernetes.io/service-proxy-name", "other")
    });
    services
}

fn external_local(service: ServiceManifest) -> ServiceManifest {
    service.spec("externalTrafficPolicy", "Local")
}

fn internal_local(service: ServiceManifest) -> ServiceManifest {
    service.spec("internalTrafficPolicy", "Local")
}

fn ranges(service: ServiceManifest, ranges: &[&str]) -> ServiceManifest {
    service.spec("loadBalancerSourceRanges", json!(ranges))
}

fn terminating(pod: &'static str) -> At {
    at(pod).but(EndpointManifest::terminating)
}

/// As `publishNotReadyAddresses` makes it (spec §2.8).
fn ready_terminating(mut endpoint: EndpointManifest) -> EndpointManifest {
    endpoint.conditions = [true, true, true];
    endpoint
}

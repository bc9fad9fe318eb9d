//! The plan of one Service against the clauses of kube-proxy's behaviour, a situation and an
//! expectation a line.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use portolan_service::{
    AskedProxyProtocol, AskedScheduler, Backend, Change, Endpoint, EndpointNames, EndpointSlice,
    ExternalPolicy, Family, Frontend, FrontendKind, HealthCheckPort, Hints, IngressMode, InternalPolicy,
    List, LoadBalancerIngress, LocalNode, Masquerade, ObjectName, PerFamily, Planner, PortPlan, Protocol,
    ProxyProtocol, Scheduler, Service, ServicePort, ServiceType, SlicePort, Verdict, Weights,
};

/// A Service on a node, to be changed by a test.
struct Situation {
    service: Service,
    slices: Vec<EndpointSlice>,
    node: LocalNode,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A ready endpoint.
fn endpoint(address: &str, node: &str) -> Endpoint {
    Endpoint { node: Some(node.into()), ..Endpoint::new(ip(address)) }
}

fn terminating(address: &str, node: &str) -> Endpoint {
    Endpoint { ready: false, terminating: true, ..endpoint(address, node) }
}

fn unready(address: &str, node: &str) -> Endpoint {
    Endpoint { ready: false, serving: false, ..endpoint(address, node) }
}

fn in_zone(endpoint: Endpoint, zone: &str) -> Endpoint {
    let nodes = endpoint.hints.nodes().to_vec();
    Endpoint { hints: Hints::new([Arc::from(zone)], nodes), ..endpoint }
}

fn for_node(endpoint: Endpoint, node: &str) -> Endpoint {
    let zones = endpoint.hints.zones().to_vec();
    Endpoint { hints: Hints::new(zones, [Arc::from(node)]), ..endpoint }
}

fn slice(name: &str, target_port: u16, endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        name: ObjectName::new("shop", name),
        service: ObjectName::new("shop", "web"),
        family: endpoints.first().map_or(Family::V4, |endpoint| Family::of(endpoint.address)),
        ports: vec![SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: Some(target_port) }],
        endpoints,
    }
}

/// shop/web, 10.96.0.1:80, with one endpoint on this node (here) and one elsewhere (there).
fn situation() -> Situation {
    Situation {
        service: Service {
            cluster_ip: Some(ip("10.96.0.1")),
            cluster_ips: vec![ip("10.96.0.1")],
            ip_families: vec![Family::V4],
            ports: vec![ServicePort {
                name: "http".into(),
                protocol: Protocol::Tcp,
                port: 80,
                node_port: None,
            }],
            ..Service::new(ObjectName::new("shop", "web"))
        },
        slices: vec![slice("web-1", 8080, vec![endpoint("10.1.0.1", "here"), endpoint("10.1.1.1", "there")])],
        node: LocalNode {
            name: "here".into(),
            zone: Some("a".into()),
            ips: PerFamily { v4: Some(ip("192.0.2.1")), v6: Some(ip("2001:db8::1")) },
            nodeport_addresses: vec![ip("192.0.2.1"), ip("2001:db8::1")],
            ..LocalNode::default()
        },
    }
}

fn node_port(s: &mut Situation) {
    s.service.kind = ServiceType::NodePort;
    s.service.ports[0].node_port = Some(30080);
}

fn load_balancer(s: &mut Situation) {
    s.service.kind = ServiceType::LoadBalancer;
    s.service.load_balancer = vec![LoadBalancerIngress { ip: ip("203.0.113.9"), mode: IngressMode::Vip }];
}

fn internal_local(s: &mut Situation) {
    s.service.internal_policy = InternalPolicy::Local;
}

fn external_local(s: &mut Situation) {
    s.service.external_policy = ExternalPolicy::Local;
}

fn endpoints(s: &mut Situation, endpoints: Vec<Endpoint>) {
    s.slices = vec![slice("web-1", 8080, endpoints)];
}

/// What is reported, problems first.
fn findings(planner: &Planner) -> Vec<String> {
    let problems = planner.problems().into_iter().map(|problem| format!("problem: {}", problem.message));
    let warnings = planner.warnings().into_iter().map(|problem| format!("warning: {}", problem.message));
    problems.chain(warnings).collect()
}

fn planned(s: &Situation) -> Planner {
    let mut planner = Planner::new(s.node.clone());
    planner.apply(s.slices.iter().cloned().map(Change::from).chain([Change::from(s.service.clone())]));
    planner
}

fn list(backends: &[Backend]) -> String {
    let list: Vec<String> =
        backends.iter().map(|backend| SocketAddr::new(backend.address, backend.port).to_string()).collect();
    format!("[{}]", list.join(" "))
}

fn verdict(port: &PortPlan, verdict: Verdict) -> String {
    match verdict {
        Verdict::Forward(of) => list(port.backends(of)),
        Verdict::Reject => "reject".to_owned(),
        Verdict::Drop => "drop".to_owned(),
    }
}

fn frontend(port: &PortPlan, frontend: &Frontend) -> String {
    let kind = match frontend.kind {
        FrontendKind::ClusterIp => "cluster-ip",
        FrontendKind::ExternalIp => "external-ip",
        FrontendKind::LoadBalancer => "load-balancer",
        FrontendKind::NodePort => "node-port",
    };
    let address = SocketAddr::new(frontend.address, frontend.port);
    let masquerade = match frontend.masquerade {
        Masquerade::NotLocal => "not-local",
        Masquerade::Always => "always",
        Masquerade::FromNode => "from-node",
    };
    let (inside, outside) = (verdict(port, frontend.inside), verdict(port, frontend.outside));
    let verdicts = if frontend.inside == frontend.outside {
        inside
    } else {
        format!("inside {inside} outside {outside}")
    };
    let allowed = frontend.allowed_sources.as_ref().map_or_else(String::new, |networks| {
        let networks: Vec<String> = networks.merged.iter().map(ToString::to_string).collect();
        format!(" from [{}]", networks.join(" "))
    });
    format!("{kind} {address}/{} -> {verdicts}, masquerade {masquerade}{allowed}", port.protocol)
}

fn shown(s: &Situation) -> Vec<String> {
    let planner = planned(s);
    let Some(plan) = planner.plan(&s.service.name) else { return Vec::new() };
    let mut lines: Vec<String> = plan
        .ports
        .iter()
        .flat_map(|port| port.frontends.iter().map(|listed| frontend(port, listed)))
        .collect();
    lines.extend(plan.health_check.map(|check| {
        format!("health-check {}: {} {}", check.port, check.local_endpoints.v4, check.local_endpoints.v6)
    }));
    lines
}

const BOTH: &str = "[10.1.0.1:8080 10.1.1.1:8080]";

/// Clause and name, situation, expected lines.
type Case = (&'static str, fn(&mut Situation), &'static [&'static str]);

fn run(cases: &[Case]) {
    for (name, change, expected) in cases {
        let mut s = situation();
        change(&mut s);
        let expected: Vec<String> = expected.iter().map(|line| line.replace("BOTH", BOTH)).collect();
        assert_eq!(shown(&s), expected, "{name}");
    }
}

/// NodePorts at 127.0.0.1 alone, where the proxy itself listens.
fn relayed(s: &mut Situation) {
    node_port(s);
    s.node.nodeport_addresses = vec![ip("127.0.0.1")];
    s.node.relays_loopback = true;
}

#[test]
fn node_ports_that_the_proxy_relays() {
    run(&[
        (
            "KEP-6032 policy Cluster",
            relayed,
            &[
                "cluster-ip 10.96.0.1:80/tcp -> BOTH, masquerade not-local",
                "node-port 127.0.0.1:30080/tcp -> BOTH, masquerade from-node",
            ],
        ),
        (
            "KEP-6032 the internal policy is not theirs",
            |s| {
                relayed(s);
                internal_local(s);
            },
            &[
                "cluster-ip 10.96.0.1:80/tcp -> [10.1.0.1:8080], masquerade not-local",
                "node-port 127.0.0.1:30080/tcp -> BOTH, masquerade from-node",
            ],
        ),
        (
            "KEP-6032 policy Local holds for the node, too",
            |s| {
                relayed(s);
                external_local(s);
            },
            &[
                "cluster-ip 10.96.0.1:80/tcp -> BOTH, masquerade not-local",
                "node-port 127.0.0.1:30080/tcp -> [10.1.0.1:8080], masquerade from-node",
            ],
        ),
        (
            "KEP-6032 policy Local without endpoints here",
            |s| {
                relayed(s);
                external_local(s);
                endpoints(s, vec![endpoint("10.1.1.1", "there")]);
            },
            &[
                "cluster-ip 10.96.0.1:80/tcp -> [10.1.1.1:8080], masquerade not-local",
                "node-port 127.0.0.1:30080/tcp -> reject, masquerade from-node",
            ],
        ),
        (
            "SCTP is not relayed",
            |s| {
                relayed(s);
                s.service.ports[0].protocol = Protocol::Sctp;
                s.slices[0].ports[0].protocol = Protocol::Sctp;
            },
            &[
                "cluster-ip 10.96.0.1:80/sctp -> BOTH, masquerade not-local",
                "node-port 127.0.0.1:30080/sctp -> reject, masquerade from-node",
            ],
        ),
    ]);
}

#[test]
fn which_services_exist() {
    run(&[
        ("§3.1 a ClusterIP", |_| {}, &["cluster-ip 10.96.0.1:80/tcp -> BOTH, masquerade not-local"]),
        ("§1.10 headless", |s| s.service.cluster_ip = None, &[]),
        ("§1.10 ExternalName, also with a ClusterIP", |s| s.service.kind = ServiceType::ExternalName, &[]),
        ("§1.1, §1.5 another proxy's", |s| s.service.other_proxy = true, &[]),
        (
            "§1.11 no ipFamilies: the ClusterIP's family",
            |s| s.service.ip_families.clear(),
            &["cluster-ip 10.96.0.1:80/tcp -> BOTH, masquerade not-local"],
        ),
        (
            "§1.11 no address for a family: no NodePort in it either",
            |s| {
                node_port(s);
                s.service.ip_families = vec![Family::V6];
                s.service.cluster_ips = vec![ip("fd00::1")];
                s.service.cluster_ip = Some(ip("fd00::1"));
            },
            &[
                "cluster-ip [fd00::1]:80/tcp -> reject, masquerade not-local",
                "node-port [2001:db8::1]:30080/tcp -> reject, masquerade always",
            ],
        ),
        (
            "§1.11, §1.21 dual stack: each family its own endpoints",
            |s| {
                s.service.ip_families = vec![Family::V6, Family::V4];
                s.service.cluster_ips = vec![ip("fd00::1"), ip("10.96.0.1")];
                s.service.cluster_ip = Some(ip("fd00::1"));
                s.slices.push(slice("web-2", 8080, vec![endpoint("fd00:1::1", "there")]));
            },
            &[
                "cluster-ip 10.96.0.1:80/tcp -> BOTH, masquerade not-local",
                "cluster-ip [fd00::1]:80/tcp -> [[fd00:1::1]:8080], masquerade not-local",
            ],
        ),
        (
            "§2.10 no endpoints: reject",
            |s| s.slices.clear(),
            &["cluster-ip 10.96.0.1:80/tcp -> reject, masquerade not-local"],
        ),
    ]);
}

#[test]
fn which_endpoints_belong() {
    const ONE: &[&str] = &["cluster-ip 10.96.0.1:80/tcp -> [10.1.0.1:8080], masquerade not-local"];
    const NONE: &[&str] = &["cluster-ip 10.96.0.1:80/tcp -> reject, masquerade not-local"];
    run(&[
        ("§1.22 ports are joined by name", |s| s.slices[0].ports[0].name = "other".into(), NONE),
        ("§1.22 and by protocol", |s| s.slices[0].ports[0].protocol = Protocol::Udp, NONE),
        (
            "§1.22 slices with different target ports",
            |s| {
                s.slices = vec![
                    slice("web-1", 8080, vec![endpoint("10.1.0.1", "here")]),
                    slice("web-2", 9090, vec![endpoint("10.1.0.2", "here")]),
                ];
            },
            &["cluster-ip 10.96.0.1:80/tcp -> [10.1.0.1:8080 10.1.0.2:9090], masquerade not-local"],
        ),
        (
            "§1.27 duplicates across slices",
            |s| s.slices.push(slice("web-2", 8080, vec![endpoint("10.1.0.1", "here")])),
            &["cluster-ip 10.96.0.1:80/tcp -> BOTH, masquerade not-local"],
        ),
        (
            "§1.27 a running one replaces a terminating one",
            |s| {
                s.slices = vec![
                    slice("web-1", 8080, vec![terminating("10.1.0.1", "here")]),
                    slice("web-2", 8080, vec![endpoint("10.1.0.1", "here")]),
                ];
            },
            ONE,
        ),
        (
            "§1.27 a terminating one never replaces",
            |s| {
                s.slices = vec![
                    slice("web-1", 8080, vec![endpoint("10.1.0.1", "here")]),
                    slice("web-2", 8080, vec![terminating("10.1.0.1", "here")]),
                ];
            },
            ONE,
        ),
        (
            "§1.28 sorted as text",
            |s| {
                let list = ["10.1.0.9", "10.1.0.10", "10.1.0.2"];
                endpoints(s, list.iter().map(|address| endpoint(address, "there")).collect());
            },
            &[
                "cluster-ip 10.96.0.1:80/tcp -> [10.1.0.10:8080 10.1.0.2:8080 10.1.0.9:8080], masquerade not-local",
            ],
        ),
        ("§2.8 unready ones are never used", |s| endpoints(s, vec![unready("10.1.0.1", "here")]), NONE),
        (
            "§2.8 publishNotReadyAddresses: ready wins over terminating",
            |s| endpoints(s, vec![Endpoint { ready: true, ..terminating("10.1.0.1", "here") }]),
            ONE,
        ),
        (
            "§2.3 nothing ready: serving terminating ones",
            |s| endpoints(s, vec![terminating("10.1.0.1", "there"), unready("10.1.0.2", "here")]),
            ONE,
        ),
        (
            "§2.3 something ready: no terminating ones",
            |s| endpoints(s, vec![endpoint("10.1.0.1", "there"), terminating("10.1.0.2", "here")]),
            ONE,
        ),
    ]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn topology() {
    const HERE: &[&str] = &["cluster-ip 10.96.0.1:80/tcp -> [10.1.0.1:8080], masquerade not-local"];
    const ALL: &[&str] = &["cluster-ip 10.96.0.1:80/tcp -> BOTH, masquerade not-local"];
    run(&[
        (
            "§2.2 same zone",
            |s| {
                endpoints(
                    s,
                    vec![in_zone(endpoint("10.1.0.1", "x"), "a"), in_zone(endpoint("10.1.1.1", "y"), "b")],
                );
            },
            HERE,
        ),
        (
            "§2.2 one ready endpoint without hint disables the mode",
            |s| endpoints(s, vec![in_zone(endpoint("10.1.0.1", "x"), "a"), endpoint("10.1.1.1", "y")]),
            ALL,
        ),
        (
            "§14.5 an unready one without hint does not",
            |s| {
                endpoints(
                    s,
                    vec![
                        in_zone(endpoint("10.1.0.1", "x"), "a"),
                        in_zone(endpoint("10.1.1.1", "y"), "b"),
                        unready("10.1.1.2", "y"),
                    ],
                );
            },
            HERE,
        ),
        (
            "§2.2 no hint for this zone",
            |s| {
                endpoints(
                    s,
                    vec![in_zone(endpoint("10.1.0.1", "x"), "b"), in_zone(endpoint("10.1.1.1", "y"), "c")],
                );
            },
            ALL,
        ),
        (
            "§2.2 a node without zone",
            |s| {
                s.node.zone = None;
                endpoints(
                    s,
                    vec![in_zone(endpoint("10.1.0.1", "x"), "a"), in_zone(endpoint("10.1.1.1", "y"), "b")],
                );
            },
            ALL,
        ),
        (
            "§2.2 same node comes before same zone",
            |s| {
                let both = |address, node, zone| for_node(in_zone(endpoint(address, node), zone), node);
                endpoints(s, vec![both("10.1.0.1", "here", "a"), both("10.1.1.1", "there", "a")]);
            },
            HERE,
        ),
        (
            "§14.5 same node falls back to same zone",
            |s| {
                let both = |address, node, zone| for_node(in_zone(endpoint(address, node), zone), node);
                endpoints(s, vec![both("10.1.0.1", "x", "a"), both("10.1.1.1", "y", "b")]);
            },
            HERE,
        ),
        (
            "§2.4 topology never filters the Local list",
            |s| {
                node_port(s);
                external_local(s);
                endpoints(
                    s,
                    vec![in_zone(endpoint("10.1.0.1", "here"), "b"), in_zone(endpoint("10.1.1.1", "y"), "a")],
                );
            },
            &[
                "cluster-ip 10.96.0.1:80/tcp -> [10.1.1.1:8080], masquerade not-local",
                "node-port 192.0.2.1:30080/tcp -> inside [10.1.1.1:8080] outside [10.1.0.1:8080], masquerade from-node",
            ],
        ),
    ]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn traffic_policies() {
    run(&[
        (
            "§2.10 internal Local",
            internal_local,
            &["cluster-ip 10.96.0.1:80/tcp -> [10.1.0.1:8080], masquerade not-local"],
        ),
        (
            "§2.10 internal Local, only remote endpoints: drop",
            |s| {
                internal_local(s);
                endpoints(s, vec![endpoint("10.1.1.1", "there")]);
            },
            &["cluster-ip 10.96.0.1:80/tcp -> drop, masquerade not-local"],
        ),
        (
            "§2.10 internal Local, no endpoints at all: reject",
            |s| {
                internal_local(s);
                s.slices.clear();
            },
            &["cluster-ip 10.96.0.1:80/tcp -> reject, masquerade not-local"],
        ),
        (
            "§2.4, §2.5 Local falls back to terminating ones on its own",
            |s| {
                internal_local(s);
                endpoints(s, vec![terminating("10.1.0.1", "here"), endpoint("10.1.1.1", "there")]);
            },
            &["cluster-ip 10.96.0.1:80/tcp -> [10.1.0.1:8080], masquerade not-local"],
        ),
        (
            "§2.11 internal Local does not touch external frontends",
            |s| {
                node_port(s);
                internal_local(s);
            },
            &[
                "cluster-ip 10.96.0.1:80/tcp -> [10.1.0.1:8080], masquerade not-local",
                "node-port 192.0.2.1:30080/tcp -> BOTH, masquerade always",
            ],
        ),
        (
            "§4.6 external Local",
            |s| {
                node_port(s);
                external_local(s);
            },
            &[
                "cluster-ip 10.96.0.1:80/tcp -> BOTH, masquerade not-local",
                "node-port 192.0.2.1:30080/tcp -> inside BOTH outside [10.1.0.1:8080], masquerade from-node",
            ],
        ),
        (
            "§2.10 external Local, only remote endpoints: drop from outside",
            |s| {
                node_port(s);
                external_local(s);
                endpoints(s, vec![endpoint("10.1.1.1", "there")]);
            },
            &[
                "cluster-ip 10.96.0.1:80/tcp -> [10.1.1.1:8080], masquerade not-local",
                "node-port 192.0.2.1:30080/tcp -> inside [10.1.1.1:8080] outside drop, masquerade from-node",
            ],
        ),
        (
            "§2.10 external Local, no endpoints at all: reject",
            |s| {
                node_port(s);
                external_local(s);
                s.slices.clear();
            },
            &[
                "cluster-ip 10.96.0.1:80/tcp -> reject, masquerade not-local",
                "node-port 192.0.2.1:30080/tcp -> reject, masquerade from-node",
            ],
        ),
        (
            "§14.5 all endpoints terminating: each list falls back",
            |s| {
                node_port(s);
                external_local(s);
                endpoints(s, vec![terminating("10.1.0.1", "here"), terminating("10.1.1.1", "there")]);
            },
            &[
                "cluster-ip 10.96.0.1:80/tcp -> BOTH, masquerade not-local",
                "node-port 192.0.2.1:30080/tcp -> inside BOTH outside [10.1.0.1:8080], masquerade from-node",
            ],
        ),
        (
            "§1.25 an endpoint without node, on a node without name, is not local",
            |s| {
                internal_local(s);
                s.node.name = "".into();
                endpoints(
                    s,
                    vec![endpoint("10.1.0.1", ""), Endpoint { node: None, ..endpoint("10.1.0.2", "") }],
                );
            },
            &["cluster-ip 10.96.0.1:80/tcp -> drop, masquerade not-local"],
        ),
        (
            "§1.15 external Local counts for a ClusterIP with external IPs",
            |s| {
                external_local(s);
                s.service.external_ips = vec![ip("198.51.100.1")];
            },
            &[
                "cluster-ip 10.96.0.1:80/tcp -> BOTH, masquerade not-local",
                "external-ip 198.51.100.1:80/tcp -> inside BOTH outside [10.1.0.1:8080], masquerade from-node",
            ],
        ),
        (
            "§1.15 and not for one without",
            external_local,
            &["cluster-ip 10.96.0.1:80/tcp -> BOTH, masquerade not-local"],
        ),
    ]);
}

#[test]
fn frontends() {
    run(&[
        (
            "§3.1 external IPs and load-balancer addresses use the Service port",
            |s| {
                load_balancer(s);
                s.service.external_ips = vec![ip("198.51.100.1"), ip("2001:db8::9")];
            },
            &[
                "cluster-ip 10.96.0.1:80/tcp -> BOTH, masquerade not-local",
                "external-ip 198.51.100.1:80/tcp -> BOTH, masquerade always",
                "load-balancer 203.0.113.9:80/tcp -> BOTH, masquerade always",
            ],
        ),
        (
            "§1.13 ipMode Proxy gets no rules",
            |s| {
                load_balancer(s);
                s.service.load_balancer[0].mode = IngressMode::Proxy;
            },
            &["cluster-ip 10.96.0.1:80/tcp -> BOTH, masquerade not-local"],
        ),
        (
            "§3.8 a NodePort answers on each selected address",
            |s| {
                node_port(s);
                s.node.nodeport_addresses = vec![ip("192.0.2.1"), ip("192.0.2.2")];
            },
            &[
                "cluster-ip 10.96.0.1:80/tcp -> BOTH, masquerade not-local",
                "node-port 192.0.2.1:30080/tcp -> BOTH, masquerade always",
                "node-port 192.0.2.2:30080/tcp -> BOTH, masquerade always",
            ],
        ),
        (
            "§3.5 nodePort 0: none",
            |s| s.service.kind = ServiceType::NodePort,
            &["cluster-ip 10.96.0.1:80/tcp -> BOTH, masquerade not-local"],
        ),
        (
            "§14.5 TCP and UDP on one port number",
            |s| {
                let udp =
                    ServicePort { name: "dns".into(), protocol: Protocol::Udp, port: 80, node_port: None };
                s.service.ports.push(udp);
                s.slices[0].ports.push(SlicePort {
                    name: "dns".into(),
                    protocol: Protocol::Udp,
                    port: Some(53),
                });
            },
            &[
                "cluster-ip 10.96.0.1:80/tcp -> BOTH, masquerade not-local",
                "cluster-ip 10.96.0.1:80/udp -> [10.1.0.1:53 10.1.1.1:53], masquerade not-local",
            ],
        ),
    ]);
}

#[test]
fn source_ranges_as_listed() {
    // spec §5.29
    let mut s = situation();
    load_balancer(&mut s);
    let listed = ["198.51.100.9/24", "192.0.2.0/25", "198.51.100.0/24", "192.0.2.0/24", "2001:db8::/32"];
    s.service.source_ranges = listed.map(|range| range.parse().unwrap()).to_vec();
    let planner = planned(&s);
    let plan = planner.plan(&s.service.name).unwrap();
    let allowed =
        plan.ports[0].frontends.iter().find_map(|frontend| frontend.allowed_sources.as_ref()).unwrap();
    let shown = |networks: &[IpNet]| networks.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown(&allowed.listed), ["198.51.100.0/24", "192.0.2.0/25", "192.0.2.0/24", "203.0.113.9/32"]);
    assert_eq!(shown(&allowed.merged), ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.9/32"]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn source_ranges() {
    fn ranges(s: &mut Situation, list: &[&str]) {
        load_balancer(s);
        s.service.source_ranges = list.iter().map(|range| range.parse().unwrap()).collect();
    }
    const CLUSTER_IP: &str = "cluster-ip 10.96.0.1:80/tcp -> BOTH, masquerade not-local";
    run(&[
        (
            "§3.15 for load-balancer addresses",
            |s| ranges(s, &["198.51.100.0/24"]),
            &[
                CLUSTER_IP,
                "load-balancer 203.0.113.9:80/tcp -> BOTH, masquerade always from [198.51.100.0/24]",
            ],
        ),
        (
            "§3.13, §3.15 not for NodePorts and external IPs",
            |s| {
                ranges(s, &["198.51.100.0/24"]);
                s.service.ports[0].node_port = Some(30080);
                s.service.external_ips = vec![ip("198.51.100.1")];
            },
            &[
                CLUSTER_IP,
                "external-ip 198.51.100.1:80/tcp -> BOTH, masquerade always",
                "load-balancer 203.0.113.9:80/tcp -> BOTH, masquerade always from [198.51.100.0/24]",
                "node-port 192.0.2.1:30080/tcp -> BOTH, masquerade always",
            ],
        ),
        (
            "§1.14 a zero prefix lifts the restriction",
            |s| ranges(s, &["198.51.100.0/24", "0.0.0.0/0"]),
            &[CLUSTER_IP, "load-balancer 203.0.113.9:80/tcp -> BOTH, masquerade always"],
        ),
        (
            "§1.14 and so do two halves of everything",
            |s| ranges(s, &["0.0.0.0/1", "128.0.0.0/1"]),
            &[CLUSTER_IP, "load-balancer 203.0.113.9:80/tcp -> BOTH, masquerade always"],
        ),
        (
            "§3.18 each load-balancer address of the Service, for all of them",
            |s| {
                ranges(s, &["192.0.2.0/24"]);
                let second = LoadBalancerIngress { ip: ip("203.0.113.20"), mode: IngressMode::Vip };
                s.service.load_balancer.push(second);
            },
            &[
                CLUSTER_IP,
                "load-balancer 203.0.113.9:80/tcp -> BOTH, masquerade always from [192.0.2.0/24 203.0.113.9/32 \
                 203.0.113.20/32]",
                "load-balancer 203.0.113.20:80/tcp -> BOTH, masquerade always from [192.0.2.0/24 203.0.113.9/32 \
                 203.0.113.20/32]",
            ],
        ),
        (
            "§3.18 not where the node's address is unknown",
            |s| {
                ranges(s, &["192.0.2.0/24"]);
                s.node.ips = PerFamily::default();
            },
            &[CLUSTER_IP, "load-balancer 203.0.113.9:80/tcp -> BOTH, masquerade always from [192.0.2.0/24]"],
        ),
        (
            "§1.14 ranges of the other family only: no restriction",
            |s| ranges(s, &["2001:db8::/32"]),
            &[CLUSTER_IP, "load-balancer 203.0.113.9:80/tcp -> BOTH, masquerade always"],
        ),
        (
            "§3.18 a range with the node's address admits the load balancer's",
            |s| ranges(s, &["192.0.2.0/24"]),
            &[
                CLUSTER_IP,
                "load-balancer 203.0.113.9:80/tcp -> BOTH, masquerade always from [192.0.2.0/24 203.0.113.9/32]",
            ],
        ),
        (
            "overlapping and adjacent ranges are merged",
            |s| ranges(s, &["10.1.0.0/16", "10.0.0.0/8", "198.51.100.128/25", "198.51.100.0/25"]),
            &[
                CLUSTER_IP,
                "load-balancer 203.0.113.9:80/tcp -> BOTH, masquerade always from [10.0.0.0/8 198.51.100.0/24]",
            ],
        ),
        (
            "§3.19 also without endpoints",
            |s| {
                ranges(s, &["198.51.100.0/24"]);
                s.slices.clear();
            },
            &[
                "cluster-ip 10.96.0.1:80/tcp -> reject, masquerade not-local",
                "load-balancer 203.0.113.9:80/tcp -> reject, masquerade always from [198.51.100.0/24]",
            ],
        ),
    ]);
}

#[test]
fn health_checks() {
    fn checked(s: &mut Situation) {
        load_balancer(s);
        external_local(s);
        s.service.health_check_node_port = Some(31000).into();
        s.service.load_balancer.clear();
    }
    const CLUSTER_IP: &str = "cluster-ip 10.96.0.1:80/tcp -> BOTH, masquerade not-local";
    run(&[
        ("§1.16, §11.11 ready endpoints on this node", checked, &[CLUSTER_IP, "health-check 31000: 1 0"]),
        (
            "§1.16 only for policy Local",
            |s| {
                checked(s);
                s.service.external_policy = ExternalPolicy::Cluster;
            },
            &[CLUSTER_IP],
        ),
        (
            "§1.16 only for load balancers",
            |s| {
                checked(s);
                s.service.kind = ServiceType::NodePort;
            },
            &[CLUSTER_IP],
        ),
        (
            "§11.11 terminating ones do not count",
            |s| {
                checked(s);
                endpoints(s, vec![terminating("10.1.0.1", "here")]);
            },
            &[
                "cluster-ip 10.96.0.1:80/tcp -> [10.1.0.1:8080], masquerade not-local",
                "health-check 31000: 0 0",
            ],
        ),
    ]);
    let mut s = situation();
    checked(&mut s);
    s.service.health_check_node_port = None.into();
    assert!(planned(&s).problems()[0].message.contains("healthCheckNodePort"), "§1.16");
}

#[test]
fn udp_flows_follow_serving_endpoints() {
    // §8.2: readiness, policy and topology do not matter for flows that are under way.
    let mut s = situation();
    s.service.ports[0].protocol = Protocol::Udp;
    internal_local(&mut s);
    endpoints(
        &mut s,
        vec![endpoint("10.1.0.1", "here"), terminating("10.1.1.1", "there"), unready("10.1.1.2", "there")],
    );
    s.slices[0].ports[0].protocol = Protocol::Udp;
    let planner = planned(&s);
    assert_eq!(
        list(&planner.plan(&s.service.name).unwrap().ports[0].serving),
        "[10.1.0.1:8080 10.1.1.1:8080]"
    );
}

#[test]
fn contested_addresses_have_one_owner() {
    let mut s = situation();
    node_port(&mut s);
    let mut planner = planned(&s);
    let mut rival = s.service.clone();
    rival.name = ObjectName::new("shop", "rival");
    rival.cluster_ip = Some(ip("10.96.0.2"));
    rival.cluster_ips = vec![ip("10.96.0.2")];
    rival.external_ips = vec![ip("10.96.0.1")];
    let changes = planner.apply([Change::from(rival.clone())]);
    // Named before web, it takes the NodePort; a ClusterIP wins against an external IP.
    let changed: Vec<&str> = changes.services.iter().map(|change| change.name.as_str()).collect();
    assert_eq!(changed, ["shop/rival", "shop/web"]);
    let problems: Vec<String> = planner.problems().iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "Service shop/rival: port \"http\": spec.externalIPs: 10.96.0.1:80/tcp is already used by Service \
         shop/web:http; choose another address or port",
            "Service shop/web: port \"http\": spec.ports[].nodePort: 192.0.2.1:30080/tcp is already used by Service \
         shop/rival:http; choose another port",
        ]
    );
    let changes = planner.apply([Change::ServiceRemoved(rival.name)]);
    assert_eq!(changes.services.len(), 2);
    assert_eq!(planner.problems(), []);
    let plan = planner.plan(&s.service.name).unwrap();
    assert_eq!(plan.ports[0].frontends.len(), 2);
}

#[test]
fn objects_may_arrive_in_any_order() {
    // §1.30
    let s = situation();
    let mut planner = Planner::new(s.node.clone());
    assert!(planner.apply([Change::from(s.slices[0].clone())]).is_empty());
    assert_eq!(planner.apply([Change::from(s.service.clone())]).services.len(), 1);
    assert!(planner.apply([Change::from(s.service.clone())]).is_empty(), "the same again");
    let gone = planner.apply([Change::SliceRemoved(s.slices[0].name.clone())]);
    assert_eq!(gone.services[0].after.as_ref().unwrap().ports[0].frontends[0].inside, Verdict::Reject);
    assert_eq!(planner.apply([Change::ServiceRemoved(s.service.name)]).services[0].after, None);
    assert_eq!(planner.plans().len(), 0);
}

#[test]
fn lists_that_nobody_uses_are_empty() {
    // §2.1, §14.5
    let mut s = situation();
    internal_local(&mut s);
    let planner = planned(&s);
    let port = &planner.plan(&s.service.name).unwrap().ports[0];
    assert_eq!((list(&port.cluster), list(&port.local)), ("[]".into(), "[10.1.0.1:8080]".into()));
    let s = situation();
    let planner = planned(&s);
    let port = &planner.plan(&s.service.name).unwrap().ports[0];
    assert_eq!((list(&port.cluster), list(&port.local)), (BOTH.into(), "[]".into()));
}

#[test]
fn affinity_is_that_of_the_service() {
    // §3.20
    let mut s = situation();
    s.service.affinity = Some(600);
    assert_eq!(planned(&s).plan(&s.service.name).unwrap().ports[0].affinity, Some(600));
}

#[test]
fn a_repeated_port_name_counts_once() {
    // §1.22: the name and protocol are all that joins a port with its endpoints.
    let mut s = situation();
    s.service.ports.push(ServicePort { port: 81, ..s.service.ports[0].clone() });
    assert_eq!(shown(&s), [format!("cluster-ip 10.96.0.1:80/tcp -> {BOTH}, masquerade not-local")]);
    let problems = planned(&s).problems();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].message.contains("port 81 is not served"), "{}", problems[0]);
}

/// Services of these names that all want the same ClusterIP and health-check port.
fn rivals(names: &[&str]) -> Vec<Change> {
    names
        .iter()
        .map(|name| {
            let mut s = situation();
            load_balancer(&mut s);
            external_local(&mut s);
            s.service.load_balancer.clear();
            s.service.health_check_node_port = Some(31000).into();
            s.service.name = ObjectName::new("shop", name);
            Change::from(s.service)
        })
        .collect()
}

#[test]
fn a_cluster_ip_and_a_health_check_port_go_to_the_first_by_name() {
    for order in [["a", "b", "c"], ["b", "c", "a"], ["c", "b", "a"]] {
        let mut planner = Planner::new(situation().node);
        for change in rivals(&order) {
            planner.apply([change]);
        }
        for (winner, losers) in [("a", 2), ("b", 1), ("c", 0)] {
            let name = ObjectName::new("shop", winner);
            let planned: Vec<&str> = planner.plans().map(|plan| plan.name.name()).collect();
            assert_eq!(planned, [winner], "arrival {order:?}");
            assert!(planner.plan(&name).unwrap().health_check.is_some(), "arrival {order:?}");
            let problems = planner.problems();
            assert_eq!(problems.len(), 2 * losers, "{problems:?}");
            assert!(problems.iter().all(|problem| problem.message.contains(name.as_str())), "{problems:?}");
            let changes = planner.apply([Change::ServiceRemoved(name)]);
            assert_eq!(changes.services.len(), 1 + usize::from(losers > 0), "the next takes over at once");
        }
    }
}

#[test]
fn a_batch_says_only_where_it_ends() {
    let s = situation();
    let mut planner = planned(&s);
    let mut other = s.service.clone();
    other.affinity = Some(10);
    let there_and_back = [
        Change::from(other),
        Change::SliceRemoved(s.slices[0].name.clone()),
        Change::ServiceRemoved(s.service.name.clone()),
        Change::from(s.slices[0].clone()),
        Change::from(s.service.clone()),
    ];
    assert!(planner.apply(there_and_back).is_empty());
    let mut moved = s.slices[0].clone();
    moved.service = ObjectName::new("shop", "rival");
    let changes = planner.apply([Change::from(moved)]);
    assert_eq!(
        changes.services[0].after.as_ref().unwrap().ports[0].frontends[0].inside,
        Verdict::Reject,
        "§1.30"
    );
}

#[test]
fn a_changed_node_changes_what_depends_on_it() {
    type NodeChange = fn(&mut LocalNode);
    let cases: &[(&str, NodeChange, &[&str])] = &[
        (
            "§1.25 name: other endpoints are local",
            |node| node.name = "there".into(),
            &["shop/local", "shop/ranges"],
        ),
        ("§2.2 zone", |node| node.zone = Some("b".into()), &["shop/zones"]),
        ("§3.8 addresses", |node| node.nodeport_addresses.clear(), &["shop/local"]),
        ("§3.18 node address", |node| node.ips.v4 = Some(ip("192.0.2.9")), &[]),
        ("§3.18 node address in a range", |node| node.ips.v4 = Some(ip("198.51.100.1")), &["shop/ranges"]),
    ];
    let named = |name: &str, address: &str, change: fn(&mut Situation)| {
        let mut s = situation();
        change(&mut s);
        s.service.name = ObjectName::new("shop", name);
        (s.service.cluster_ip, s.service.cluster_ips) = (Some(ip(address)), vec![ip(address)]);
        s.slices[0].name = ObjectName::new("shop", name);
        s.slices[0].service = s.service.name.clone();
        [Change::from(s.service), Change::from(s.slices.remove(0))]
    };
    for (name, change, expected) in cases {
        let mut node = situation().node;
        let mut planner = Planner::new(node.clone());
        planner.apply(named("local", "10.96.0.1", |s| {
            node_port(s);
            external_local(s);
        }));
        planner.apply(named("ranges", "10.96.0.2", |s| {
            load_balancer(s);
            s.service.source_ranges = vec!["198.51.100.0/24".parse().unwrap()];
        }));
        planner.apply(named("zones", "10.96.0.3", |s| {
            endpoints(
                s,
                vec![in_zone(endpoint("10.1.0.1", "x"), "a"), in_zone(endpoint("10.1.1.1", "y"), "b")],
            );
        }));
        change(&mut node);
        let changes = planner.set_node(node);
        let changed: Vec<&str> = changes.services.iter().map(|change| change.name.as_str()).collect();
        assert_eq!(changed, *expected, "{name}");
    }
}

#[test]
fn what_only_names_need_changes_no_plan() {
    type Case = (&'static str, fn(&mut Situation));
    let cases: [Case; 5] = [
        ("a hostname", |s| s.slices[0].endpoints[0].names = EndpointNames::new(Some("web-0"), None)),
        ("a pod's name", |s| s.slices[0].endpoints[0].names = EndpointNames::new(None, Some("web-0"))),
        ("a zone", |s| s.slices[0].endpoints[0].zone = Some("z".into())),
        ("publishNotReadyAddresses", |s| s.service.publish_not_ready = true),
        ("externalName", |s| s.service.external_name = Some("a.example".into())),
    ];
    for (situation_of, change) in cases {
        let before = situation();
        let mut planner = planned(&before);
        let mut after = situation();
        change(&mut after);
        let slices = after.slices.into_iter().map(Change::from);
        let changes = planner.apply(slices.chain([Change::from(after.service)]));
        assert!(changes.services.is_empty(), "{situation_of}: {changes:?}");
    }
}

#[test]
fn the_proxy_protocol_of_endpoints() {
    type Case = (&'static str, fn(&mut Situation), &'static [Option<ProxyProtocol>], &'static [&'static str]);
    fn asked(s: &mut Situation, value: &str) {
        s.node.writes_proxy_protocol = true;
        s.service.proxy_protocol = Some(AskedProxyProtocol::parse(value));
    }
    // What is planned for each port, and what is reported.
    let cases: [Case; 6] = [
        ("not asked for", |s| s.node.writes_proxy_protocol = true, &[None], &[]),
        ("v1", |s| asked(s, "v1"), &[Some(ProxyProtocol::V1)], &[]),
        ("v2", |s| asked(s, "v2"), &[Some(ProxyProtocol::V2)], &[]),
        (
            "no version",
            |s| asked(s, "v3"),
            &[None],
            &["problem: metadata.annotations: portolan.dev/proxy-protocol: \"v3\" is not one of v1, v2, so \
               connections to endpoints begin without the PROXY protocol: correct it, or remove it"],
        ),
        (
            "a mode that cannot",
            |s| {
                asked(s, "v1");
                s.node.writes_proxy_protocol = false;
            },
            &[None],
            &[
                "problem: metadata.annotations: portolan.dev/proxy-protocol: the mode of this proxy translates \
               connections and cannot begin them with the PROXY protocol, so they begin without it: use mode \
               userspace, or remove it",
            ],
        ),
        (
            "UDP beside TCP",
            |s| {
                asked(s, "v1");
                let dns =
                    ServicePort { name: "dns".into(), protocol: Protocol::Udp, port: 53, node_port: None };
                s.service.ports.push(dns);
            },
            &[Some(ProxyProtocol::V1), None],
            &[
                "warning: metadata.annotations: portolan.dev/proxy-protocol: is for TCP alone; port 53/udp is served \
               without it",
            ],
        ),
    ];
    for (name, change, expected, reported) in cases {
        let mut s = situation();
        change(&mut s);
        let mut planner = planned(&s);
        let plan = planner.plan(&s.service.name).unwrap();
        let found: Vec<_> = plan.ports.iter().map(|port| port.proxy_protocol).collect();
        assert_eq!(found, expected, "{name}");
        assert_eq!(findings(&planner), reported, "{name}");

        planner.take_changed_findings();
        planner.apply([Change::from(s.service.clone())]);
        assert_eq!(planner.take_changed_findings(), [], "{name}: reported once");
        s.service.proxy_protocol = None;
        planner.apply([Change::from(s.service)]);
        let solved = planner.take_changed_findings();
        assert_eq!(solved.len(), reported.len().min(1), "{name}: solved");
    }
}

/// `10.1.0.1=3` for each endpoint of a list.
fn weighed(list: &[Backend]) -> Vec<String> {
    list.iter().map(|backend| format!("{}={}", backend.address, backend.weight)).collect()
}

#[test]
fn the_weights_of_endpoints() {
    type Case = (&'static str, &'static str, fn(&mut Situation), [&'static [&'static str]; 3], Verdict);
    const CLUSTER: Verdict = Verdict::Forward(List::Cluster);
    // By 10.1.0.1 here and 10.1.1.1 there: the Cluster list, the Local list, those that rest, and
    // what becomes of clients from outside.
    let cases: [Case; 9] = [
        ("none", "other: 3", |_| {}, [&["10.1.0.1=1", "10.1.1.1=1"], &[], &[]], CLUSTER),
        ("some", "10.1.0.1: 3", |_| {}, [&["10.1.0.1=3", "10.1.1.1=1"], &[], &[]], CLUSTER),
        ("one rests", "10.1.0.1: 0, *: 2", |_| {}, [&["10.1.1.1=2"], &[], &["10.1.0.1=0"]], CLUSTER),
        ("all rest", "*: 0", |_| {}, [&[], &[], &["10.1.0.1=0", "10.1.1.1=0"]], Verdict::Reject),
        (
            "policy Local",
            "10.1.0.1: 3",
            external_local,
            [&["10.1.0.1=3", "10.1.1.1=1"], &["10.1.0.1=3"], &[]],
            Verdict::Forward(List::Local),
        ),
        (
            "policy Local, the one here rests",
            "10.1.0.1: 0",
            external_local,
            [&["10.1.1.1=1"], &[], &["10.1.0.1=0"]],
            Verdict::Drop,
        ),
        (
            "one that terminates does not stand in for those that rest",
            "10.1.0.1: 0",
            |s| {
                s.slices[0].endpoints[1].ready = false;
                s.slices[0].endpoints[1].terminating = true;
            },
            [&[], &[], &["10.1.0.1=0"]],
            // It could be used if the other one were not there.
            Verdict::Reject,
        ),
        (
            "one that rests does not stand in for those that are ready",
            "10.1.0.1: 0",
            |s| {
                s.slices[0].endpoints[0].ready = false;
                s.slices[0].endpoints[0].terminating = true;
            },
            [&["10.1.1.1=1"], &[], &["10.1.0.1=0"]],
            CLUSTER,
        ),
        ("a mistake", "10.1.0.1: many", |_| {}, [&["10.1.0.1=1", "10.1.1.1=1"], &[], &[]], CLUSTER),
    ];
    for (name, weights, change, expected, outside) in cases {
        let mut s = situation();
        s.node.has_schedulers = true;
        node_port(&mut s);
        s.service.weights = Some(Weights::parse(weights));
        change(&mut s);
        let planner = planned(&s);
        let port = &planner.plan(&s.service.name).unwrap().ports[0];
        let found = [&port.cluster, &port.local, &port.resting].map(|list| weighed(list));
        assert_eq!(found, expected.map(<[&str]>::to_vec), "{name}");
        assert_eq!(port.frontends.last().unwrap().outside, outside, "{name}");
        assert_eq!(findings(&planner).len(), usize::from(name == "a mistake"), "{name}");
    }
}

/// Weights are of new connections: flows of UDP stay (§8.2), load balancers learn that nobody here
/// takes new ones (§11.11), and without IPVS nobody needs to know who rests.
#[test]
fn what_rests_keeps_what_it_has() {
    let mut s = situation();
    load_balancer(&mut s);
    external_local(&mut s);
    s.service.health_check_node_port = HealthCheckPort::Port(31000);
    s.service.weights = Some(Weights::parse("10.1.0.1: 0"));
    s.service.ports[0].protocol = Protocol::Udp;
    s.slices[0].ports[0].protocol = Protocol::Udp;
    let planner = planned(&s);
    let plan = planner.plan(&s.service.name).unwrap();
    assert_eq!(weighed(&plan.ports[0].serving), ["10.1.0.1=0", "10.1.1.1=1"]);
    assert_eq!(plan.health_check.unwrap().local_endpoints.v4, 0);
    assert!(plan.ports[0].resting.is_empty());
}

#[test]
fn the_scheduler_of_endpoints() {
    type Case = (&'static str, fn(&mut Situation), Option<&'static str>, &'static [&'static str]);
    fn asked(s: &mut Situation, own: Option<&str>, kube_router: Option<&str>) {
        s.node.has_schedulers = true;
        s.service.scheduler = AskedScheduler::parse(own, kube_router);
    }
    // What is planned, and what is reported.
    let cases: [Case; 7] = [
        ("not asked for", |s| s.node.has_schedulers = true, None, &[]),
        ("ours", |s| asked(s, Some("lc"), None), Some("lc"), &[]),
        ("kube-router's", |s| asked(s, None, Some("sh")), Some("sh"), &[]),
        (
            "unknown",
            |s| asked(s, Some("fastest"), Some("lc")),
            None,
            &[
                "problem: metadata.annotations: portolan.dev/ipvs-scheduler: \"fastest\" is not one of rr, wrr, lc, \
               wlc, sed, nq, mh, sh, twos, dh, lblc, lblcr, fo, ovf, so endpoints are chosen as for other Services: \
               correct it, or remove it",
            ],
        ),
        (
            "one that does not spread",
            |s| asked(s, None, Some("dh")),
            Some("dh"),
            &[
                "warning: metadata.annotations: kube-router.io/service.scheduler: dh sends the clients of an address \
               to one endpoint and not to all of them: choose sh or mh to keep clients where they are, or another",
            ],
        ),
        (
            "a mode without schedulers",
            |s| {
                asked(s, None, Some("lc"));
                s.node.has_schedulers = false;
            },
            None,
            &[
                "warning: metadata.annotations: kube-router.io/service.scheduler: lc is a scheduler of IPVS, which \
               this proxy does not use, so it has no effect: use mode ipvs, or remove it",
            ],
        ),
        (
            "no Service of ours",
            |s| {
                asked(s, Some("fastest"), None);
                s.service.other_proxy = true;
            },
            None,
            &[],
        ),
    ];
    for (name, change, expected, reported) in cases {
        let mut s = situation();
        change(&mut s);
        let mut planner = planned(&s);
        let plan = planner.plan(&s.service.name);
        let found = plan.and_then(|plan| plan.ports[0].scheduler).map(Scheduler::name);
        assert_eq!(found, expected, "{name}");
        assert_eq!(findings(&planner), reported, "{name}");

        planner.take_changed_findings();
        planner.apply([Change::from(s.service.clone())]);
        assert_eq!(planner.take_changed_findings(), [], "{name}: reported once");
        s.service.scheduler = None;
        planner.apply([Change::from(s.service)]);
        let solved = planner.take_changed_findings();
        assert_eq!(solved.len(), reported.len().min(1), "{name}: solved");
    }
}

#[test]
fn equal_lists_are_held_once() {
    let mut s = situation();
    node_port(&mut s);
    external_local(&mut s);
    s.service.ports[0].protocol = Protocol::Udp;
    endpoints(&mut s, vec![endpoint("10.1.0.1", "here"), endpoint("10.1.0.2", "here")]);
    s.slices[0].ports[0].protocol = Protocol::Udp;
    let planner = planned(&s);
    let port = &planner.plan(&s.service.name).unwrap().ports[0];
    assert_eq!(port.cluster.len(), 2);
    assert!(Arc::ptr_eq(&port.cluster, &port.local) && Arc::ptr_eq(&port.cluster, &port.serving));
}

#[test]
fn policies_without_local_endpoints_are_told() {
    // §11.16, no_local_endpoints_total: which of the two policies finds no endpoint here.
    for (case, change, only_there, expected) in [
        ("both Cluster", (|_| {}) as fn(&mut Situation), true, (false, false)),
        ("internal Local", internal_local, true, (true, false)),
        ("external Local", external_local, true, (false, true)),
        ("internal Local with one here", internal_local, false, (false, false)),
        ("external Local with one here", external_local, false, (false, false)),
    ] {
        let mut s = situation();
        node_port(&mut s);
        if only_there {
            endpoints(&mut s, vec![endpoint("10.1.1.1", "there")]);
        }
        change(&mut s);
        let planner = planned(&s);
        let port = &planner.plan(&s.service.name).unwrap().ports[0];
        assert_eq!((port.lacks_internal_endpoints(), port.lacks_external_endpoints()), expected, "{case}");
    }
}

//! Which load-balancer addresses nodes announce, and which nodes may.

use std::net::IpAddr;

use portolan_service::{
    AllowedNodes, Announced, Change, Endpoint, EndpointSlice, ExternalPolicy, Family, IngressMode,
    LoadBalancerIngress, LocalNode, ObjectName, Planner, Service, ServiceType,
};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ingress(address: &str) -> LoadBalancerIngress {
    LoadBalancerIngress { ip: ip(address), mode: IngressMode::Vip }
}

fn service() -> Service {
    Service {
        kind: ServiceType::LoadBalancer,
        cluster_ip: Some(ip("10.96.0.1")),
        cluster_ips: vec![ip("10.96.0.1"), ip("fd00::1")],
        ip_families: vec![Family::V4, Family::V6],
        load_balancer: vec![ingress("192.0.2.240"), ingress("2001:db8::240")],
        ..Service::new(ObjectName::new("shop", "web"))
    }
}

fn local() -> Service {
    Service { external_policy: ExternalPolicy::Local, ..service() }
}

fn on(address: &str, node: &str) -> Endpoint {
    Endpoint { node: Some(node.into()), ..Endpoint::new(ip(address)) }
}

fn slice(name: &str, family: Family, endpoints: Vec<Endpoint>) -> Change {
    Change::from(EndpointSlice {
        name: ObjectName::new("shop", name),
        service: ObjectName::new("shop", "web"),
        family,
        ports: Vec::new(),
        endpoints,
    })
}

fn announced(changes: Vec<Change>) -> Option<Announced> {
    let mut planner = Planner::new(LocalNode { name: "a".into(), ..LocalNode::default() });
    planner.apply(changes);
    planner.take_changed_announced().pop().and_then(|(_, now)| now)
}

/// The nodes that may announce each address: `*` for all.
fn shown(announced: Option<Announced>) -> Vec<String> {
    let addresses = announced.map(|announced| announced.addresses).unwrap_or_default();
    let nodes = |nodes: AllowedNodes| match nodes {
        None => "*".to_owned(),
        Some(nodes) => nodes.iter().map(|node| &**node).collect::<Vec<_>>().join(","),
    };
    addresses.into_iter().map(|(address, may)| format!("{address} {}", nodes(may))).collect()
}

#[test]
fn who_may_announce_what() {
    let terminating = |endpoint| Endpoint { ready: false, terminating: true, ..endpoint };
    let unready = |endpoint| Endpoint { ready: false, serving: false, ..endpoint };
    let v4 = |endpoints| slice("v4", Family::V4, endpoints);
    let both = ["192.0.2.240 *", "2001:db8::240 *"];
    let cases: [(&str, Vec<Change>, &[&str]); 11] = [
        ("policy Cluster", vec![service().into(), v4(vec![])], &both),
        (
            "policy Local",
            vec![local().into(), v4(vec![on("10.0.0.1", "a"), on("10.0.0.2", "b")])],
            &["192.0.2.240 a,b", "2001:db8::240 "],
        ),
        (
            "ready ones come first",
            vec![local().into(), v4(vec![terminating(on("10.0.0.1", "a")), on("10.0.0.2", "b")])],
            &["192.0.2.240 b", "2001:db8::240 "],
        ),
        (
            "those that still serve, if none is ready",
            vec![local().into(), v4(vec![terminating(on("10.0.0.1", "a")), unready(on("10.0.0.2", "b"))])],
            &["192.0.2.240 a", "2001:db8::240 "],
        ),
        (
            "each family has its own",
            vec![
                local().into(),
                v4(vec![on("10.0.0.1", "a")]),
                slice("v6", Family::V6, vec![on("fd01::1", "b"), on("fd01::2", "b")]),
            ],
            &["192.0.2.240 a", "2001:db8::240 b"],
        ),
        (
            "a load balancer that is a proxy has its address itself",
            vec![
                Service {
                    load_balancer: vec![LoadBalancerIngress {
                        mode: IngressMode::Proxy,
                        ..ingress("192.0.2.240")
                    }],
                    ..service()
                }
                .into(),
            ],
            &[],
        ),
        (
            "a family that the Service has not",
            vec![Service { ip_families: vec![Family::V4], ..service() }.into()],
            &["192.0.2.240 *"],
        ),
        (
            "an address that none can have",
            vec![
                Service { load_balancer: vec![ingress("0.0.0.0"), ingress("169.254.1.1")], ..service() }
                    .into(),
            ],
            &[],
        ),
        ("another type", vec![Service { kind: ServiceType::NodePort, ..service() }.into()], &[]),
        ("another proxy", vec![Service { other_proxy: true, ..service() }.into()], &[]),
        ("no address yet", vec![Service { load_balancer: vec![], ..service() }.into()], &[]),
    ];
    for (situation, changes, expected) in cases {
        assert_eq!(shown(announced(changes)), expected, "{situation}");
    }
}

#[test]
fn only_changes_are_reported() {
    let mut planner = Planner::new(LocalNode { name: "a".into(), ..LocalNode::default() });
    let slice = |endpoints| slice("v4", Family::V4, endpoints);
    planner.apply([local().into(), slice(vec![on("10.0.0.1", "b")])]);
    assert_eq!(planner.take_changed_announced().len(), 1);
    assert_eq!(planner.take_changed_announced(), []);
    // Another endpoint on the same node.
    planner.apply([slice(vec![on("10.0.0.1", "b"), on("10.0.0.2", "b")])]);
    assert_eq!(planner.take_changed_announced(), []);
    // The plan of this node does not change by it.
    planner.apply([slice(vec![on("10.0.0.1", "b"), on("10.0.0.2", "c")])]);
    let (name, now) = planner.take_changed_announced().pop().unwrap();
    assert_eq!(
        (name, shown(now)),
        (ObjectName::new("shop", "web"), vec!["192.0.2.240 b,c".to_owned(), "2001:db8::240 ".to_owned(),])
    );
    planner.apply([Change::ServiceRemoved(ObjectName::new("shop", "web"))]);
    assert_eq!(planner.take_changed_announced(), [(ObjectName::new("shop", "web"), None)]);
}

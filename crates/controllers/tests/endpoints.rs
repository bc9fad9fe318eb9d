//! Endpoints of the pods that a Service selects.

use std::sync::Arc;

use portolan_controllers::{
    ContainerPort, Controllers, Distribution, Endpoints, InMemory, Labels, Naming, Pod, PortSpec, Ranges,
    ServiceSpec, Subset, TargetPort,
};
use portolan_service::{Change, Endpoint, EndpointSlice, Node, ObjectName, Protocol};

fn controllers() -> Controllers<InMemory> {
    let services = vec!["10.96.0.0/24".parse().unwrap(), "fd00:96::/112".parse().unwrap()];
    Controllers::new(Ranges { services, node_ports: 30_000..=30_009 }, InMemory::default())
}

fn name(name: &str) -> ObjectName {
    ObjectName::new("shop", name)
}

fn labels() -> Labels {
    Labels::from([("app".to_owned(), "web".to_owned())])
}

fn port(target: TargetPort) -> PortSpec {
    PortSpec { name: "http".into(), protocol: Protocol::Tcp, port: 80, target, node_port: None }
}

fn service() -> ServiceSpec {
    ServiceSpec { selector: labels(), ports: vec![port(TargetPort::Number(8080))], ..ServiceSpec::default() }
}

fn pod(address: &str) -> Pod {
    let mut pod = Pod { labels: labels(), ready: true, node: Some("n1".into()), ..Pod::default() };
    pod.addresses.v4 = Some(address.parse().unwrap());
    pod
}

#[expect(clippy::unnecessary_wraps, reason = "as a pod has it")]
fn named(hostname: &str, subdomain: &str) -> Option<Arc<Naming>> {
    let (hostname, subdomain) = (Some(hostname.into()), Some(subdomain.into()));
    Some(Naming { hostname, subdomain, ..Naming::default() }.into())
}

fn node(zone: &str) -> Node {
    Node {
        name: "n1".into(),
        zone: Some(zone.into()),
        addresses: Vec::new(),
        pod_cidrs: Vec::new(),
        leaving: false,
        ready: true,
        excluded: false,
    }
}

fn slices(controllers: &mut Controllers<InMemory>) -> Vec<EndpointSlice> {
    let changes = controllers.reconcile().changes.into_iter();
    changes
        .filter_map(|change| match change {
            Change::Slice(slice) => Some(Arc::unwrap_or_clone(slice)),
            _ => None,
        })
        .collect()
}

/// The only endpoint of the only slice.
fn endpoint(controllers: &mut Controllers<InMemory>) -> Endpoint {
    let slices = slices(controllers);
    let [EndpointSlice { endpoints, .. }] = &slices[..] else { panic!("{slices:?}") };
    let [endpoint] = &endpoints[..] else { panic!("{endpoints:?}") };
    endpoint.clone()
}

#[test]
fn an_endpoint_has_what_its_pod_has() {
    type Case = (&'static str, fn(&mut Pod, &mut ServiceSpec), fn(&Endpoint) -> bool);
    let cases: &[Case] = &[
        ("its name", |_, _| {}, |endpoint| endpoint.names.pod() == Some("web-1")),
        ("no hostname", |_, _| {}, |endpoint| endpoint.names.hostname().is_none()),
        (
            "its hostname, in the Service that its subdomain names",
            |pod, _| pod.naming = named("h", "web"),
            |endpoint| endpoint.names.hostname() == Some("h"),
        ),
        (
            "not in another",
            |pod, _| pod.naming = named("h", "other"),
            |endpoint| endpoint.names.hostname().is_none(),
        ),
        ("its node's zone", |_, _| {}, |endpoint| endpoint.zone.as_deref() == Some("z1")),
        (
            "no zone elsewhere",
            |pod, _| pod.node = Some("n2".into()),
            |endpoint| endpoint.zone.is_none() && endpoint.node.as_deref() == Some("n2"),
        ),
        (
            "not ready",
            |pod, _| pod.ready = false,
            |endpoint| !endpoint.ready && !endpoint.serving && !endpoint.terminating,
        ),
        (
            "published before it is ready",
            |pod, service| (pod.ready, service.publish_not_ready) = (false, true),
            |endpoint| endpoint.ready && !endpoint.serving,
        ),
        (
            "terminating",
            |pod, _| pod.terminating = true,
            |endpoint| !endpoint.ready && endpoint.serving && endpoint.terminating,
        ),
        ("headless", |_, service| service.headless = true, |endpoint| endpoint.ready),
        (
            "hints",
            |_, service| service.distribution = Distribution::SameNode,
            |endpoint| &*endpoint.hints.zones()[0] == "z1" && &*endpoint.hints.nodes()[0] == "n1",
        ),
    ];
    for (situation, prepare, holds) in cases {
        let mut controllers = controllers();
        let (mut pod, mut service) = (pod("10.1.0.1"), service());
        prepare(&mut pod, &mut service);
        controllers.set_node("n1", Some(&node("z1")));
        controllers.set_service(&name("web"), Some(service.into()));
        controllers.set_pod(&name("web-1"), Some(pod.into()));
        let endpoint = endpoint(&mut controllers);
        assert!(holds(&endpoint), "{situation}: {endpoint:?}");
    }
}

#[test]
fn endpoints_follow_their_pods_and_nodes() {
    let mut controllers = controllers();
    controllers.set_service(&name("web"), Some(service().into()));
    assert_eq!(slices(&mut controllers), []);
    controllers.set_pod(&name("web-1"), Some(pod("10.1.0.1").into()));
    assert_eq!(endpoint(&mut controllers).zone, None);
    controllers.set_node("n1", Some(&node("z1")));
    assert_eq!(endpoint(&mut controllers).zone.as_deref(), Some("z1"));
    controllers.set_node("n1", Some(&node("z1")));
    assert_eq!(controllers.reconcile().changes, [], "the same again");
    controllers.set_node("n1", None);
    assert_eq!(endpoint(&mut controllers).zone, None);
    let mut other = pod("10.1.0.1");
    other.labels.clear();
    controllers.set_pod(&name("web-1"), Some(other.into()));
    let gone = controllers.reconcile().changes;
    assert_eq!(gone, [Change::SliceRemoved(name("web-portolan-ipv4-1"))], "it is selected no more");
}

#[test]
fn a_named_port_has_the_number_that_each_pod_gives_it() {
    let mut controllers = controllers();
    let mut service = service();
    service.ports = vec![port(TargetPort::Name("web".into()))];
    controllers.set_service(&name("web"), Some(service.into()));
    for (i, number) in [8080, 9090, 8080].into_iter().enumerate() {
        let mut pod = pod(&format!("10.1.0.{i}"));
        pod.ports.push(ContainerPort { name: "web".into(), protocol: Protocol::Tcp, port: number });
        controllers.set_pod(&name(&format!("web-{i}")), Some(pod.into()));
    }
    let found: Vec<(Option<u16>, usize)> =
        slices(&mut controllers).iter().map(|slice| (slice.ports[0].port, slice.endpoints.len())).collect();
    assert_eq!(found, [(Some(8080), 2), (Some(9090), 1)]);
}

#[test]
fn given_endpoints_are_used_without_a_selector() {
    let mut controllers = controllers();
    let given = Endpoints {
        skip_mirror: false,
        subsets: vec![Subset {
            ports: Vec::new(),
            endpoints: ["10.1.0.1", "fd00::1"].map(|ip| Endpoint::new(ip.parse().unwrap())).to_vec(),
        }],
    };
    controllers.set_endpoints(&name("web"), Some(Arc::new(given.clone())));
    controllers.set_service(&name("web"), Some(ServiceSpec::default().into()));
    assert_eq!(slices(&mut controllers).len(), 2, "one of each family");
    controllers.set_service(&name("web"), Some(service().into()));
    let outcome = controllers.reconcile();
    let [(service, issues)] = &outcome.issues[..] else { panic!("{outcome:?}") };
    assert_eq!((service, issues[0].field.as_str()), (&name("web"), "spec.selector"));
    let skipped = Endpoints { skip_mirror: true, ..given };
    controllers.set_endpoints(&name("web"), Some(Arc::new(skipped)));
    controllers.set_service(&name("web"), Some(ServiceSpec::default().into()));
    assert_eq!(slices(&mut controllers), [], "somebody else makes them");
}

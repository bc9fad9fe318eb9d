//! What one Service asks for must not harm the others: addresses that are not its own, and lists
//! without end.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use portolan_service::{
    AllowedSources, BUDGET, Change, ChangeSet, Endpoint, EndpointSlice, Family, FrontendKind, IngressMode,
    LoadBalancerIngress, LocalNode, ObjectName, Place, Planner, Protocol, Service, ServicePort, ServiceType,
    SlicePort,
};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A load balancer on 10.96.0.`number`, ports 80 and up, one of each.
fn service(name: &str, number: u8, ports: u16) -> Service {
    let cluster_ip = IpAddr::from([10, 96, 0, number]);
    let port = |i: u16| ServicePort {
        name: format!("p{i}").into(),
        protocol: Protocol::Tcp,
        port: 80 + i,
        node_port: None,
    };
    Service {
        kind: ServiceType::LoadBalancer,
        cluster_ip: Some(cluster_ip),
        cluster_ips: vec![cluster_ip],
        ip_families: vec![Family::V4],
        ports: (0..ports).map(port).collect(),
        ..Service::new(ObjectName::new("shop", name))
    }
}

/// A slice of `service` with so many endpoints on every port.
fn slice(service: &Service, endpoints: u32) -> EndpointSlice {
    let endpoint =
        |i: u32| Endpoint { node: None, ..Endpoint::new(IpAddr::from((0x0af4_0000 + i).to_be_bytes())) };
    let ports = service.ports.iter();
    EndpointSlice {
        name: ObjectName::new("shop", &format!("{}-1", service.name.name())),
        service: service.name.clone(),
        family: Family::V4,
        ports: ports
            .map(|port| SlicePort { name: port.name.clone(), protocol: port.protocol, port: Some(port.port) })
            .collect(),
        endpoints: (0..endpoints).map(endpoint).collect(),
    }
}

fn planner(services: &[Service]) -> Planner {
    let mut planner = Planner::new(LocalNode { name: "here".into(), ..LocalNode::default() });
    planner.apply(services.iter().cloned().map(Change::from));
    planner
}

fn messages(planner: &Planner) -> Vec<String> {
    planner.problems().iter().map(ToString::to_string).collect()
}

fn addresses(planner: &Planner, name: &str) -> Vec<String> {
    let plan = planner.plan(&ObjectName::new("shop", name));
    let frontends = plan.iter().flat_map(|plan| &plan.ports).flat_map(|port| &port.frontends);
    frontends.map(|frontend| frontend.address.to_string()).collect()
}

fn vip(address: &str) -> LoadBalancerIngress {
    LoadBalancerIngress { ip: ip(address), mode: IngressMode::Vip }
}

#[test]
fn special_addresses_are_left_out_and_named() {
    for address in ["127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.5", "127.8.8.8"] {
        let mut web = service("web", 1, 1);
        web.external_ips = vec![ip(address), ip("203.0.113.1")];
        web.load_balancer = vec![vip(address), vip("203.0.113.2")];
        let planner = planner(std::slice::from_ref(&web));
        assert_eq!(addresses(&planner, "web"), ["10.96.0.1", "203.0.113.1", "203.0.113.2"], "{address}");
        let said = messages(&planner);
        assert_eq!(said.len(), 2, "{address}: {said:?}");
        for field in ["spec.externalIPs", "status.loadBalancer.ingress"] {
            assert!(said.iter().any(|line| line.contains(&format!("{field}: {address} is"))), "{said:?}");
        }
        web.external_ips.clear();
        web.load_balancer[0].mode = IngressMode::Proxy;
        assert_eq!(messages(&self::planner(&[web])), [""; 0], "{address}: the node leaves it alone anyway");
    }
    let mut web = service("web", 1, 1);
    (web.cluster_ip, web.cluster_ips) = (Some(ip("127.0.0.5")), vec![ip("127.0.0.5")]);
    let planner = planner(&[web]);
    assert_eq!(planner.plans().len(), 0);
    assert!(messages(&planner)[0].contains("spec.clusterIPs: 127.0.0.5 is a loopback address"));
}

#[test]
fn what_the_cluster_gave_beats_what_somebody_wrote() {
    for (balancer, claimer) in [("a", "b"), ("b", "a")] {
        let mut of_cluster = service(balancer, 1, 1);
        of_cluster.load_balancer = vec![vip("203.0.113.1")];
        let mut of_tenant = service(claimer, 2, 1);
        of_tenant.external_ips = vec![ip("203.0.113.1")];
        for services in [[of_cluster.clone(), of_tenant.clone()], [of_tenant, of_cluster]] {
            let planner = planner(&services);
            let plan = planner.plan(&ObjectName::new("shop", balancer)).expect("a plan");
            let kinds: Vec<FrontendKind> =
                plan.ports[0].frontends.iter().map(|frontend| frontend.kind).collect();
            assert_eq!(kinds, [FrontendKind::ClusterIp, FrontendKind::LoadBalancer], "{balancer}");
            assert_eq!(
                messages(&planner),
                [format!(
                    "Service shop/{claimer}: port \"p0\": spec.externalIPs: 203.0.113.1:80/tcp is already used by \
                     Service shop/{balancer}:p0; choose another address or port"
                )]
            );
        }
    }
}

#[test]
fn an_external_ip_of_the_node_or_the_api_server_is_reported() {
    let mut web = service("web", 1, 1);
    web.external_ips = vec![ip("192.0.2.1"), ip("192.0.2.6"), ip("192.0.2.7"), ip("203.0.113.1")];
    let mut planner = planner(&[web]);
    let warned = |planner: &Planner| -> Vec<String> {
        let word = |text: &str| text.split("spec.externalIPs: ").nth(1).map(str::to_owned);
        let short = |text: String| text.split(':').next().unwrap_or_default().to_owned();
        planner.warnings().iter().filter_map(|warning| word(&warning.message)).map(short).collect()
    };
    assert_eq!(warned(&planner), [""; 0]);
    let node = LocalNode {
        name: "here".into(),
        addresses: vec![ip("192.0.2.1")],
        api_server: vec![ip("192.0.2.6")],
        ..LocalNode::default()
    };
    assert!(planner.set_node(node).is_empty(), "it is served all the same");
    let expected = ["192.0.2.1 is an address of this node", "192.0.2.6 is an address of the API server"]
        .map(String::from);
    assert_eq!(warned(&planner), expected);
    // Where Service default/kubernetes leads to.
    let mut kubernetes = slice(&service("kubernetes", 9, 1), 1);
    kubernetes.service = ObjectName::new("default", "kubernetes");
    kubernetes.endpoints[0].address = ip("192.0.2.7");
    planner.apply([Change::from(kubernetes.clone())]);
    assert_eq!(warned(&planner).len(), 3);
    planner.apply([Change::SliceRemoved(kubernetes.name)]);
    assert_eq!(warned(&planner), expected);
    assert_eq!(planner.problem_count(), 0);
    assert_eq!(addresses(&planner, "web").len(), 5);
}

#[test]
fn external_ips_that_are_switched_off_are_reported() {
    let mut web = service("web", 1, 1);
    web.external_ips = vec![ip("203.0.113.1")];
    let mut planner = planner(&[web]);
    assert_eq!(addresses(&planner, "web").len(), 2);
    let node = LocalNode { name: "here".into(), ignore_external_ips: true, ..LocalNode::default() };
    assert_eq!(planner.set_node(node).services.len(), 1);
    assert_eq!(addresses(&planner, "web"), ["10.96.0.1"]);
    assert!(planner.warnings()[0].message.contains("AllowServiceExternalIPs"));
}

/// External addresses in great number.
fn many_addresses(count: u32) -> Vec<IpAddr> {
    (0..count).map(|i| IpAddr::from((0xcb00_0000 + i).to_be_bytes())).collect()
}

#[test]
fn a_service_beyond_the_budget_is_refused_alone() {
    let (good, mut greedy) = (service("good", 1, 1), service("greedy", 2, 10));
    greedy.external_ips = many_addresses(99);
    // 100 addresses, 10 ports, an element for each and one for each endpoint.
    let fitting = u32::try_from(BUDGET).expect("a small number") / 1000 - 1;
    let mut planner = planner(&[good.clone(), greedy.clone()]);
    planner.apply([Change::from(slice(&good, 2)), Change::from(slice(&greedy, fitting))]);
    assert_eq!((planner.plans().len(), planner.oversized()), (2, 0), "{:?}", messages(&planner));

    let changes = planner.apply([Change::from(slice(&greedy, fitting + 1))]);
    let changed: Vec<&str> = changes.services.iter().map(|change| change.name.name()).collect();
    assert_eq!(changed, ["greedy"]);
    assert_eq!((planner.plans().len(), planner.oversized(), planner.problem_count()), (1, 1, 1));
    assert_eq!(
        messages(&planner),
        [format!(
            "Service shop/greedy: asks for {} kernel elements, more than the {BUDGET} that one Service may have, so \
             it is not served: give it fewer addresses, ports, endpoints or source ranges, or divide it",
            BUDGET + 1000
        )]
    );
    planner.apply([Change::from(slice(&greedy, fitting))]);
    assert_eq!((planner.plans().len(), planner.oversized(), planner.problem_count()), (2, 0, 0));
    planner.apply([Change::from(slice(&greedy, fitting + 1)), Change::ServiceRemoved(greedy.name)]);
    assert_eq!((planner.plans().len(), planner.oversized(), planner.problem_count()), (1, 0, 0));
}

#[test]
fn what_is_beyond_the_budget_is_refused_without_being_made() {
    let started = Instant::now();
    // An object of the API may have a million and a half bytes: so many addresses and ports in it.
    let mut greedy = service("greedy", 1, 10_000);
    greedy.external_ips = many_addresses(50_000);
    let mut planner = planner(&[greedy.clone()]);
    planner.apply([Change::from(slice(&greedy, 1000))]);
    assert_eq!((planner.plans().len(), planner.oversized()), (0, 1));
    let mut ranges = service("ranges", 2, 1000);
    ranges.load_balancer = vec![vip("203.0.113.1")];
    ranges.source_ranges = networks(1000);
    planner.apply([Change::from(ranges)]);
    assert_eq!((planner.plans().len(), planner.oversized()), (0, 2));
    // 500 million frontends, and five hundred thousand million endpoints of them, would take
    // minutes and all memory.
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

/// Distinct networks that cannot be merged.
fn networks(count: u32) -> Vec<IpNet> {
    let network = |i: u32| IpNet::new(IpAddr::from((0x1400_0000 + 2 * i).to_be_bytes()), 32);
    (0..count).map(|i| network(i).expect("a network")).collect()
}

#[test]
fn lists_take_a_time_in_proportion_to_their_length() {
    // A debug build takes about a second for each of these; what grows with the square would take
    // hours.
    let started = Instant::now();
    let mut web = service("web", 1, 1);
    web.source_ranges = networks(200_000);
    let mut planner = planner(std::slice::from_ref(&web));
    assert!(planner.plan(&web.name).is_some(), "without an address to filter");
    web.load_balancer = vec![vip("203.0.113.1")];
    planner.apply([Change::from(web.clone())]);
    let plan = planner.plan(&web.name).expect("a plan");
    let sources = plan.ports[0].frontends[1].allowed_sources.as_ref().expect("source ranges");
    assert_eq!((sources.listed.len(), sources.merged.len()), (200_000, 200_000));
    let twice = networks(200_000).into_iter().chain(networks(200_000));
    assert_eq!(AllowedSources::new(twice).listed.len(), 200_000);

    let many_ports = service("ports", 2, 20_000);
    planner.apply([Change::from(many_ports.clone()), Change::from(slice(&many_ports, 2))]);
    assert_eq!(planner.plan(&many_ports.name).expect("a plan").ports.len(), 20_000);
    assert!(started.elapsed() < Duration::from_mins(1), "{:?}", started.elapsed());
}

#[test]
fn one_service_has_a_few_problems_and_the_number_of_the_others() {
    let first = service("a", 1, 5000);
    let mut second = service("b", 2, 5000);
    second.external_ips = vec![ip("10.96.0.1")];
    let mut planner = planner(&[first, second.clone()]);
    assert_eq!(planner.problem_count(), 5000);
    let said = messages(&planner);
    assert_eq!(said.len(), 21);
    assert_eq!(said[20], "Service shop/b: 4980 more problems, which are not listed");
    let changed = planner.take_changed_findings();
    assert_eq!(changed.iter().map(|(name, now)| (name.name(), now.len())).collect::<Vec<_>>(), [("b", 21)]);
    assert!(planner.take_changed_findings().is_empty());
    planner.apply([Change::ServiceRemoved(second.name)]);
    assert_eq!(planner.take_changed_findings(), [(ObjectName::new("shop", "b"), Vec::new())]);
    assert_eq!(planner.problem_count(), 0);
}

#[test]
fn however_many_ask_for_an_address_a_claim_concerns_two() {
    let rival = |number: u16| {
        let mut rival = service(&format!("s{number:04}"), 0, 1);
        let [high, low] = number.to_be_bytes();
        (rival.cluster_ip, rival.cluster_ips) = (Some([10, 97, high, low].into()), Vec::new());
        rival.external_ips = vec![ip("203.0.113.1")];
        rival
    };
    let mut planner = planner(&[]);
    let two = |changes: &ChangeSet| assert!(changes.services.len() <= 2, "{}", changes.services.len());
    // Each is first by name when it comes, and takes the address from the one before.
    for number in (0..3000).rev() {
        two(&planner.apply([Change::from(rival(number))]));
        assert!(planner.take_changed_findings().len() <= 2);
    }
    assert_eq!(planner.problem_count(), 2999);
    assert!(messages(&planner).iter().all(|line| line.contains("already used by Service shop/s0000:p0")));
    for number in 0..2999 {
        two(&planner.apply([Change::ServiceRemoved(rival(number).name)]));
    }
    assert_eq!(addresses(&planner, "s2999").len(), 2);
    assert_eq!(planner.problem_count(), 0);
}

#[test]
fn an_endpoint_without_a_node_may_be_its_own_client() {
    let web = service("web", 1, 1);
    let mut slice = slice(&web, 3);
    slice.endpoints[1].node = Some("here".into());
    slice.endpoints[2].node = Some("there".into());
    let mut planner = planner(std::slice::from_ref(&web));
    planner.apply([Change::from(slice)]);
    let backends = &planner.plan(&web.name).expect("a plan").ports[0].cluster;
    let found: Vec<_> =
        backends.iter().map(|backend| (backend.place, backend.is_local(), backend.may_hairpin())).collect();
    let expected =
        [(Place::Unknown, false, true), (Place::Here, true, true), (Place::Elsewhere, false, false)];
    assert_eq!(found, expected);
}

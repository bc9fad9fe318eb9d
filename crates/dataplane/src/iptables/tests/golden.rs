//! What is written for each kind of frontend under each policy, as documents to be read:
//! `tests/golden/iptables/*.txt`. With `PORTOLAN_BLESS=1` in the environment they are written
//! instead of compared.

use std::collections::BTreeSet;

use portolan_service::FrontendKind::{ClusterIp, ExternalIp, LoadBalancer, NodePort};
use portolan_service::{
    Family, HealthCheck, ObjectName, PerFamily, PortPlan, Protocol, ServicePlan, Verdict,
};

use super::super::chains::{Style, style};
use super::super::compare::{Tables, Wanted, compare};
use super::super::options::{Layout, Options};
use crate::settings::{LocalDetector, NodePorts, Settings};
use crate::tests::plans::{CLUSTER, LOCAL, PortExt, backends, everything, ip, net, port, service, settings};

/// All that is written on a host without any of it.
pub(super) fn script(style: &Style, plans: &[ServicePlan]) -> String {
    let plans: Vec<&ServicePlan> = plans.iter().collect();
    let wanted = Wanted {
        style,
        plans: &plans,
        left_out: &BTreeSet::new(),
        whole: false,
        ahead: false,
        differences: true,
    };
    compare(&wanted, &Tables::default()).script.text()
}

const TWO: [&str; 2] = ["10.244.1.11:8080*", "10.244.2.21:8080"];
const ELSEWHERE: [&str; 1] = ["10.244.2.21:8080"];

fn web(endpoints: &[&str]) -> PortPlan {
    port("http", Protocol::Tcp, endpoints)
}

/// A Service with all kinds of external frontends, and its ClusterIP.
fn external(endpoints: &[&str], inside: Verdict, outside: Verdict) -> PortPlan {
    web(endpoints)
        .at(ClusterIp, "10.96.0.1", 80, inside, inside)
        .at(ExternalIp, "203.0.113.1", 80, inside, outside)
        .at(LoadBalancer, "203.0.113.2", 80, inside, outside)
        .at(NodePort, "192.168.50.1", 30080, inside, outside)
}

fn without_local(mut port: PortPlan) -> PortPlan {
    port.local = [].into();
    port
}

fn without_cluster(mut port: PortPlan) -> PortPlan {
    port.cluster = [].into();
    port
}

fn without_endpoints(mut port: PortPlan) -> PortPlan {
    port.cluster = [].into();
    without_local(port)
}

/// A Service of a published walkthrough.
fn walkthrough(namespace: &str, name: &str, port: PortPlan) -> Vec<ServicePlan> {
    vec![ServicePlan { name: ObjectName::new(namespace, name), ports: vec![port], health_check: None }]
}

/// Each kind of frontend under each policy: name, style, plans.
#[expect(clippy::too_many_lines, reason = "one table of cases")]
pub(super) fn cases() -> Vec<(&'static str, Style, Vec<ServicePlan>)> {
    let (v4, v6) = (Family::V4, Family::V6);
    let usual = || style(v4, settings());
    let set = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        style(v4, settings)
    };
    let own = |change: &dyn Fn(&mut Options)| {
        let mut style = usual();
        change(&mut style.options);
        style
    };
    let one = |port: PortPlan| vec![service("web", vec![port])];
    let reject = Verdict::Reject;
    let detected = |detector: LocalDetector| {
        set(&|settings| settings.local = PerFamily { v4: Some(detector.clone()), v6: None })
    };
    let mut checked = service("web", vec![external(&TWO, CLUSTER, LOCAL)]);
    checked.health_check = Some(HealthCheck { port: 32000, local_endpoints: PerFamily { v4: 1, v6: 0 } });
    let cluster_ip = || one(without_local(web(&TWO).cluster_ip("10.96.0.1")));
    let pods = |network: &str| {
        let network = Some(LocalDetector::SourceNetwork(net(network)));
        set(&|settings| settings.local = PerFamily { v4: network.clone(), v6: None })
    };
    let tcp = |name, endpoints: &[&str]| without_local(port(name, Protocol::Tcp, endpoints));
    let karmaweb = tcp("http", &["10.244.5.241:3000"])
        .at(ClusterIp, "10.110.199.177", 80, CLUSTER, CLUSTER)
        .at(NodePort, "192.168.50.1", 32264, CLUSTER, CLUSTER);
    let hello = tcp("", &["172.16.166.130:8080*", "172.16.192.89:8080"])
        .at(ClusterIp, "10.104.81.240", 80, CLUSTER, CLUSTER)
        .at(NodePort, "192.168.50.1", 30811, CLUSTER, CLUSTER);
    let world = tcp("", &["10.16.0.11:8080*", "10.16.1.8:8080"])
        .at(ClusterIp, "10.19.240.20", 80, CLUSTER, CLUSTER)
        .at(LoadBalancer, "203.0.113.9", 80, CLUSTER, CLUSTER)
        .at(NodePort, "10.138.15.2", 30510, CLUSTER, CLUSTER);
    let grafana = tcp("", &["10.244.0.115:3000*"])
        .at(ClusterIp, "10.111.189.177", 3000, CLUSTER, CLUSTER)
        .at(NodePort, "192.168.50.1", 31577, CLUSTER, CLUSTER);
    let kubernetes =
        tcp("https", &["10.20.30.71:6443"]).sticky(10800).at(ClusterIp, "10.11.12.1", 443, CLUSTER, CLUSTER);
    let svc_test = tcp("", &["10.100.1.5:8080*", "10.100.2.8:8080", "10.100.3.7:8080"]).at(
        ClusterIp,
        "10.11.12.125",
        80,
        CLUSTER,
        CLUSTER,
    );
    let node_port = || one(without_local(external(&ELSEWHERE, CLUSTER, CLUSTER)));

    vec![
        ("nothing-ip", usual(), Vec::new()),
        ("nothing-ip6", style(v6, settings()), Vec::new()),
        ("cluster-ip", usual(), cluster_ip()),
        (
            "cluster-ip-internal-local",
            usual(),
            one(without_cluster(web(&TWO).at(ClusterIp, "10.96.0.1", 80, LOCAL, LOCAL))),
        ),
        (
            "cluster-ip-internal-local-none",
            usual(),
            one(without_endpoints(web(&ELSEWHERE).at(
                ClusterIp,
                "10.96.0.1",
                80,
                Verdict::Drop,
                Verdict::Drop,
            ))),
        ),
        ("cluster-ip-no-endpoints", usual(), one(web(&[]).at(ClusterIp, "10.96.0.1", 80, reject, reject))),
        ("cluster-ip-affinity", usual(), one(without_local(web(&TWO).sticky(10800).cluster_ip("10.96.0.1")))),
        ("cluster-ip-masquerade-all", set(&|settings| settings.masquerade_all = true), cluster_ip()),
        ("cluster-ip-by-interface", detected(LocalDetector::Interface("cni0".into())), cluster_ip()),
        ("cluster-ip-by-prefix", detected(LocalDetector::InterfacePrefix("veth".into())), cluster_ip()),
        ("cluster-ip-no-detector", set(&|settings| settings.local = PerFamily::default()), cluster_ip()),
        ("cluster-ip-other-mark", own(&|options| options.masquerade_mark = 1 << 20), cluster_ip()),
        ("cluster-ip-large-cluster", Style { large: true, ..usual() }, cluster_ip()),
        ("external-cluster", usual(), one(without_local(external(&TWO, CLUSTER, CLUSTER)))),
        ("external-local", usual(), vec![checked]),
        ("external-local-none", usual(), one(without_local(external(&ELSEWHERE, CLUSTER, Verdict::Drop)))),
        (
            "external-local-no-detector",
            set(&|settings| settings.local = PerFamily::default()),
            one(external(&TWO, CLUSTER, LOCAL)),
        ),
        ("external-no-endpoints", usual(), one(external(&[], reject, reject))),
        ("external-local-affinity", usual(), one(external(&TWO, CLUSTER, LOCAL).sticky(60))),
        (
            "load-balancer-source-ranges",
            usual(),
            one(without_local(
                web(&TWO)
                    .cluster_ip("10.96.0.1")
                    .at(LoadBalancer, "203.0.113.2", 80, CLUSTER, CLUSTER)
                    .allowing(&["192.168.50.0/24", "198.51.100.7/32", "192.168.50.64/26", "203.0.113.2/32"]),
            )),
        ),
        (
            "load-balancer-source-ranges-local-none",
            usual(),
            one(without_local(
                web(&ELSEWHERE)
                    .cluster_ip("10.96.0.1")
                    .at(LoadBalancer, "203.0.113.2", 80, CLUSTER, Verdict::Drop)
                    .allowing(&["192.168.50.0/24"]),
            )),
        ),
        (
            "load-balancer-source-ranges-no-endpoints",
            usual(),
            one(web(&[]).at(LoadBalancer, "203.0.113.2", 80, reject, reject).allowing(&["192.168.50.0/24"])),
        ),
        (
            "node-port-addresses",
            own(&|options| {
                options.node_ports.v4 = NodePorts::Addresses(vec![ip("192.168.50.1"), ip("192.168.60.1")]);
            }),
            node_port(),
        ),
        ("node-port-localhost", own(&|options| options.localhost_node_ports = true), node_port()),
        (
            "node-port-localhost-counters",
            Style { counters: true, ..own(&|options| options.localhost_node_ports = true) },
            node_port(),
        ),
        ("walkthrough-1", pods("10.244.0.0/16"), walkthrough("default", "karmaweb", karmaweb)),
        ("walkthrough-2", pods("172.16.0.0/16"), walkthrough("default", "hello-app-service", hello)),
        ("walkthrough-3", pods("10.16.0.0/16"), walkthrough("default", "hello-world", world)),
        (
            "walkthrough-4",
            pods("10.244.0.0/16"),
            walkthrough("monitoring", "grafana-example-service", grafana),
        ),
        (
            "walkthrough-5",
            pods("10.100.0.0/16"),
            [
                walkthrough("default", "kubernetes", kubernetes),
                walkthrough("default", "svc-test-1", svc_test),
            ]
            .concat(),
        ),
        ("liberal", own(&|options| options.drop_invalid = false), Vec::new()),
        ("old-iptables", Style { random_fully: false, ..usual() }, Vec::new()),
        ("everything-ip", usual(), everything()),
        ("everything-ip6", style(v6, settings()), everything()),
    ]
}

/// The same for sockets in place of endpoints: name, style, plans.
pub(super) fn portals() -> Vec<(&'static str, Style, Vec<ServicePlan>)> {
    let usual = |family| {
        let mut style = style(family, settings());
        style.options.layout = Layout::Portals;
        style
    };
    let v4 = || usual(Family::V4);
    let one = |port: PortPlan| vec![service("web", vec![port])];
    // The socket of one list, and that of the other.
    let (socket, both) = (["192.168.50.1:41001"], ["192.168.50.1:41001", "192.168.50.1:41002*"]);
    let two = || {
        let mut port = web(&both);
        port.cluster = backends(&socket);
        port
    };
    let with_frontends = |mut port: PortPlan, inside, outside| {
        port.frontends = external(&[], inside, outside).frontends;
        port
    };
    let (reject, drop) = (Verdict::Reject, Verdict::Drop);
    let mut addresses = v4();
    addresses.options.node_ports.v4 =
        NodePorts::Addresses(vec![ip("127.0.0.1"), ip("192.168.50.1"), ip("192.168.60.1")]);
    let mut no_detector = v4();
    no_detector.settings.local = PerFamily::default();
    let six = port("http", Protocol::Udp, &["[fd00:50::1]:41001"])
        .at(ClusterIp, "fd00:10:96::1", 53, CLUSTER, CLUSTER)
        .at(NodePort, "fd00:50::1", 30053, CLUSTER, CLUSTER);
    vec![
        ("portals-nothing-ip", v4(), Vec::new()),
        ("portals-nothing-ip6", usual(Family::V6), Vec::new()),
        ("portals-cluster-ip", v4(), one(web(&socket).cluster_ip("10.96.0.1"))),
        (
            "portals-cluster-ip-no-endpoints",
            v4(),
            one(web(&[]).at(ClusterIp, "10.96.0.1", 80, reject, reject)),
        ),
        ("portals-external-cluster", v4(), one(external(&socket, CLUSTER, CLUSTER))),
        ("portals-external-local", v4(), one(with_frontends(two(), CLUSTER, LOCAL))),
        ("portals-external-local-no-detector", no_detector, one(with_frontends(two(), CLUSTER, LOCAL))),
        ("portals-external-local-none", v4(), one(external(&socket, CLUSTER, drop))),
        ("portals-external-no-endpoints", v4(), one(external(&[], reject, reject))),
        (
            "portals-source-ranges",
            v4(),
            one(web(&socket)
                .at(LoadBalancer, "203.0.113.2", 80, CLUSTER, CLUSTER)
                .allowing(&["192.168.50.0/24", "198.51.100.7/32"])),
        ),
        (
            "portals-source-ranges-local",
            v4(),
            one(two().at(LoadBalancer, "203.0.113.2", 80, CLUSTER, LOCAL).allowing(&["192.168.50.0/24"]).at(
                NodePort,
                "192.168.50.1",
                30080,
                CLUSTER,
                LOCAL,
            )),
        ),
        (
            "portals-source-ranges-no-endpoints",
            v4(),
            one(web(&[]).at(LoadBalancer, "203.0.113.2", 80, reject, reject).allowing(&["192.168.50.0/24"])),
        ),
        ("portals-node-port-addresses", addresses, one(external(&socket, CLUSTER, CLUSTER))),
        ("portals-ip6", usual(Family::V6), one(six)),
    ]
}

/// `struct xt_comment_info` has 256 bytes, one of them the NUL.
const COMMENT_MAX: usize = 255;

#[test]
fn names_of_full_length_fit_comments_whole() {
    let (namespace, name, port_name) = ("n".repeat(63), "s".repeat(63), "p".repeat(15));
    let mut port =
        external(&["[fd00:1111:2222:3333:4444:5555:6666:7777]:65535*", "[fd00::1]:65535"], CLUSTER, LOCAL);
    port.frontends.clear();
    let mut port = port.sticky(60);
    for (number, kind) in (1..).zip([ClusterIp, ExternalIp, LoadBalancer, NodePort]) {
        port = port.at(kind, &format!("fd00:203::{number}"), 80, CLUSTER, LOCAL);
    }
    port = port.allowing(&["fd00::/16"]);
    port.name = port_name.as_str().into();
    let whole = format!("{namespace}/{name}:{port_name}");
    let plans =
        [ServicePlan { name: ObjectName::new(&namespace, &name), ports: vec![port], health_check: None }];
    let text = script(&style(Family::V6, settings()), &plans);
    let mut named = 0;
    for (_, rest) in text.lines().filter_map(|line| line.split_once("--comment ")) {
        let comment = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next(),
            None => rest.split(' ').next(),
        };
        let comment = comment.expect("a comment");
        assert!(comment.len() <= COMMENT_MAX, "{comment}");
        if comment.contains(&namespace) {
            assert!(comment.contains(&whole), "{comment}");
            named += 1;
        }
    }
    assert!(named > 8, "rules of every kind name their port: {named}\n{text}");
}

#[test]
fn rules_are_as_written_down() {
    let fixed = script(&style(Family::V4, settings()), &[]);
    for (name, style, plans) in cases().into_iter().chain(portals()) {
        let whole = script(&style, &plans);
        // What every node has is written down once.
        let of_layout = name.starts_with("node-port") || name.starts_with("portals");
        let tells_all = plans.is_empty() || of_layout || name.ends_with("mark");
        let fixed: BTreeSet<&str> =
            if tells_all { BTreeSet::new() } else { fixed.lines().filter(|line| line.len() > 6).collect() };
        let actual: String =
            whole.lines().filter(|line| !fixed.contains(line)).flat_map(|line| [line, "\n"]).collect();
        let path = format!("{}/tests/golden/iptables/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("PORTOLAN_BLESS").is_some() {
            std::fs::write(&path, &actual).expect("the golden folder can be written");
        }
        let expected = std::fs::read_to_string(&path).expect("a golden file for each case");
        assert!(actual == expected, "{name}: {path} says\n{expected}\nbut it is\n{actual}");
    }
}

//! Explanations as people get them: each golden file is a document to be read.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use portolan_service::{FrontendKind, PerFamily};
use portolan_trace::explain::{
    Explanation, KnownEndpoint, KnownFrontend, KnownNode, KnownService, Next, ReasonCode, Services,
    ShownVerdict, Style, explain,
};
use portolan_trace::ipvs::VirtualServers;
use portolan_trace::{
    Family, Host, Interface, IpSets, Node, Protocol, Record, ReversePath, Ruleset, evaluate,
};
use serde_json::{Value, json};

use crate::notation::{node, packet};

const SPEC: &str = include_str!("../dumps/spec.iptables-save");
const NODE_OF_2017: &str = include_str!("../dumps/node-of-2017.iptables-save");
const PORTOLAN: &str = include_str!("../dumps/portolan.nft.json");
const KUBE_PROXY: &str = include_str!("../dumps/kube-proxy.nft.json");

pub(crate) fn iptables(text: &str) -> Ruleset {
    Ruleset::from_iptables_save(text, Family::V4).expect("a dump")
}

pub(crate) fn spec() -> Ruleset {
    iptables(SPEC)
}

pub(crate) fn flat() -> Ruleset {
    nft(PORTOLAN)
}

fn nft(text: &str) -> Ruleset {
    Ruleset::from_nft_json(text).expect("a listing")
}

pub(crate) fn explained(ruleset: &Ruleset, node: &Node, line: &str, services: &Services) -> Explanation {
    let packet = packet(line);
    let answer = evaluate(ruleset, node, &packet, Record::Steps);
    explain(ruleset, node, &packet, &answer, services)
}

/// Compares with the golden file; `UPDATE_GOLDEN=1` writes it, to be read before it is committed.
pub(crate) fn check(file: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/explain/golden").join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).expect("the golden file is written");
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{file}: see UPDATE_GOLDEN in tests/explain/golden.rs");
}

const PLAIN: Style = Style { colour: false, verbose: false, width: 120 };

type Case<'a> = (&'a str, &'a str, ShownVerdict, Option<ReasonCode>);

fn check_all(mode: &str, rules: &Ruleset, node: &Node, services: &Services, cases: &[Case<'_>]) {
    for (name, line, verdict, reason) in cases {
        let answer = explained(rules, node, line, services);
        assert_eq!(answer.verdict, *verdict, "{mode}, {name}: {line}");
        assert_eq!(answer.reason.as_ref().map(|reason| reason.code), *reason, "{mode}, {name}: {line}");
        check(&format!("{mode}-{name}.txt"), &answer.text(PLAIN));
    }
}

use ReasonCode as Why;
use ShownVerdict::{Accept, Depends, Drop, Forward, None as Nothing, Reject};

#[test]
fn iptables_of_today() {
    let bare = Services::default();
    check_all(
        "iptables",
        &spec(),
        &node(),
        &bare,
        &[
            ("cluster-ip-from-pod", "pod tcp 10.244.1.5 10.96.0.1:80", Forward, None),
            ("cluster-ip-from-node", "node tcp 192.168.50.1 10.96.0.1:80", Forward, None),
            ("hairpin", "pod tcp 10.244.1.11 10.96.0.1:80", Forward, None),
            ("node-port-from-outside", "outside tcp 192.0.2.1 192.168.50.1:30080", Forward, None),
            (
                "node-port-on-loopback",
                "node tcp 127.0.0.1 127.0.0.1:30080",
                Nothing,
                Some(Why::NodePortAddress),
            ),
            ("source-range-outside", "outside tcp 192.0.2.1 203.0.113.2:80", Drop, Some(Why::SourceRanges)),
            (
                "local-policy-without-endpoint",
                "outside tcp 192.0.2.1 203.0.113.4:80",
                Drop,
                Some(Why::NoLocalEndpoints),
            ),
            ("local-policy-from-outside", "outside udp 192.0.2.1 203.0.113.3:53", Forward, None),
            ("no-endpoints", "pod tcp 10.244.1.5 10.96.0.4:80", Reject, Some(Why::NoReadyEndpoints)),
            ("another-protocol", "pod udp 10.244.1.5 10.96.0.1:80", Nothing, Some(Why::WrongProtocol)),
            ("unknown-port", "pod tcp 10.244.1.5 10.96.0.1:81", Nothing, Some(Why::WrongPort)),
            ("no-such-service", "pod tcp 10.244.1.5 10.96.9.9:80", Nothing, Some(Why::NoSuchService)),
            ("affinity", "pod tcp 10.244.1.5 10.96.0.5:80", Forward, None),
            ("established", "established pod tcp 10.244.1.5 10.96.0.1:80", Accept, Some(Why::NotNew)),
            ("health-check-port", "outside tcp 192.0.2.1 192.168.50.1:32100", Accept, None),
            ("policy-of-forward", "outside tcp 192.0.2.1 198.51.100.1:80", Drop, Some(Why::OtherRule)),
            ("no-node-port", "outside tcp 192.0.2.1 192.168.50.1:31999", Nothing, Some(Why::NoSuchService)),
        ],
    );
}

/// kube-proxy's mode ipvs: chains, sets and virtual servers.
#[test]
fn virtual_servers_of_kube_proxy() {
    let sets = IpSets::from_text(include_str!("../dumps/kube-proxy-ipvs/ipset-save")).expect("sets");
    let saved = include_str!("../dumps/kube-proxy-ipvs/iptables-save");
    let mut rules = Ruleset::from_iptables(saved, &sets).expect("a dump");
    let listed = include_str!("../dumps/kube-proxy-ipvs/ipvsadm-save");
    rules.add_virtual_servers(&VirtualServers::from_text(listed).expect("virtual servers"));
    let mut node = node();
    let bound = sets.addresses(["KUBE-IPVS-IPS", "KUBE-6-IPVS-IPS"]);
    node.addresses.extend(bound.into_iter().map(|address| (address.into(), "kube-ipvs0".to_owned())));
    check_all(
        "ipvs",
        &rules,
        &node,
        &Services::default(),
        &[
            ("cluster-ip-from-pod", "pod tcp 10.244.1.5 10.96.0.1:80", Forward, None),
            ("hairpin", "pod tcp 10.244.1.11 10.96.0.1:80", Forward, None),
            ("affinity", "outside tcp 192.0.2.1 10.96.0.5:80", Forward, None),
            ("node-port-from-outside", "outside tcp 192.0.2.1 192.168.50.1:30080", Forward, None),
            ("no-destinations", "pod tcp 10.244.1.5 10.96.0.4:80", Reject, Some(Why::NoReadyEndpoints)),
            ("unknown-port", "pod tcp 10.244.1.5 10.96.0.1:81", Reject, Some(Why::WrongPort)),
        ],
    );
}

#[test]
fn the_node_of_2017() {
    let network = |text: &str| text.parse().expect("a network");
    let ubuntu_3 = Node {
        addresses: vec![
            (network("10.20.30.73/24"), "eth0".into()),
            (network("10.100.2.1/24"), "cni0".into()),
        ],
        routes: vec![(network("0.0.0.0/0"), "eth0".into())],
        ..Node::default()
    };
    check_all(
        "2017",
        &iptables(NODE_OF_2017),
        &ubuntu_3,
        &Services::default(),
        &[
            ("service-from-pod", "pod tcp 10.100.2.9 10.11.12.125:80", Forward, None),
            ("dns-from-itself", "pod tcp 10.100.1.7 10.11.12.254:53", Forward, None),
            ("affinity", "pod tcp 10.100.2.9 10.11.12.1:443", Forward, None),
            ("wrong-port", "pod tcp 10.100.2.9 10.11.12.125:81", Nothing, Some(Why::WrongPort)),
            ("to-the-world", "pod tcp 10.100.2.9 192.0.2.80:80", Nothing, Some(Why::NoSuchService)),
        ],
    );
}

#[test]
fn our_flat_table() {
    check_all(
        "portolan",
        &flat(),
        &node(),
        &Services::default(),
        &[
            ("cluster-ip-from-pod", "pod tcp 10.244.1.5 10.96.0.1:80", Forward, None),
            ("hairpin", "pod tcp 10.244.1.11 10.96.0.1:80", Forward, None),
            ("node-port-from-outside", "outside tcp 192.0.2.1 192.168.50.1:30080", Forward, None),
            ("affinity-remembered", "pod tcp 10.244.1.7 10.96.0.5:80", Forward, None),
            ("source-range-outside", "outside tcp 192.0.2.1 203.0.113.2:80", Drop, Some(Why::SourceRanges)),
            (
                "local-policy-without-endpoint",
                "outside tcp 192.0.2.1 203.0.113.4:80",
                Drop,
                Some(Why::NoLocalEndpoints),
            ),
            ("another-protocol", "pod udp 10.244.1.5 10.96.0.1:80", Reject, Some(Why::WrongProtocol)),
            ("no-endpoints", "pod tcp 10.244.1.5 10.96.0.4:80", Reject, Some(Why::NoReadyEndpoints)),
            ("unallocated", "pod tcp 10.244.1.5 10.96.9.9:80", Drop, Some(Why::NoSuchService)),
            (
                "node-port-on-loopback",
                "node tcp 127.0.0.1 127.0.0.1:30080",
                Nothing,
                Some(Why::NodePortAddress),
            ),
        ],
    );
}

#[test]
fn kube_proxys_nftables() {
    check_all(
        "kube-proxy",
        &nft(KUBE_PROXY),
        &node(),
        &Services::default(),
        &[
            ("cluster-ip-from-pod", "pod tcp 10.244.1.5 10.96.0.1:80", Forward, None),
            ("cluster-ip-from-node", "node tcp 192.168.50.1 10.96.0.1:80", Forward, None),
            ("affinity-remembered", "pod tcp 10.244.1.7 10.96.0.5:80", Forward, None),
            ("source-range-outside", "outside tcp 192.0.2.1 203.0.113.2:80", Drop, Some(Why::SourceRanges)),
            ("unknown-port", "pod tcp 10.244.1.5 10.96.0.1:81", Reject, Some(Why::WrongPort)),
            ("no-endpoints", "pod tcp 10.244.1.5 10.96.0.4:80", Reject, Some(Why::NoReadyEndpoints)),
        ],
    );
}

/// A process of the node answers in place of a Service, and nothing translates what it is sent.
#[test]
fn what_the_node_answers_itself() {
    let mut listing: Value = serde_json::from_str(PORTOLAN).expect("a listing");
    let is = |protocol: &str, field: &str, value: Value| {
        json!({"match": {
            "op": "==",
            "left": {"payload": {"protocol": protocol, "field": field}},
            "right": value,
        }})
    };
    let table = "portolan-dns";
    listing["nftables"].as_array_mut().expect("a list").extend([
        json!({"table": {"family": "ip", "name": table, "handle": 900}}),
        json!({"chain": {
            "family": "ip", "table": table, "name": "raw-prerouting", "handle": 1,
            "type": "filter", "hook": "prerouting", "prio": -300, "policy": "accept",
        }}),
        json!({"rule": {
            "family": "ip", "table": table, "chain": "raw-prerouting", "handle": 2,
            "expr": [
                is("ip", "daddr", json!("10.96.0.1")), is("tcp", "dport", json!(80)), {"notrack": null},
            ],
        }}),
    ]);
    let mut here = node();
    here.addresses.push(("10.96.0.1/32".parse().expect("a network"), "lo".to_owned()));
    check_all(
        "flat",
        &nft(&listing.to_string()),
        &here,
        &shop(),
        &[("answered-on-the-node", "pod tcp 10.244.1.5 10.96.0.1:80", Nothing, Some(Why::AnsweredOnNode))],
    );
}

/// KEP-6032: no rule leads to a NodePort on a loopback address.
#[test]
fn node_ports_that_the_proxy_listens_on() {
    let mut services = shop();
    services.services[0].frontends.push(KnownFrontend {
        kind: FrontendKind::NodePort,
        address: Some("127.0.0.1".parse().expect("an address")),
        port: 30080,
        protocol: Protocol::Tcp,
        port_name: "http".into(),
    });
    let from_node = "node tcp 127.0.0.1 127.0.0.1:30080";
    check_all(
        "flat",
        &flat(),
        &node(),
        &services,
        &[("relayed-on-loopback", from_node, Nothing, Some(Why::AnsweredOnNode))],
    );
    services.services[0].external_local = true;
    services.services[0].endpoints.retain(|endpoint| !endpoint.local);
    check_all(
        "flat",
        &flat(),
        &node(),
        &services,
        &[("relayed-without-local-endpoints", from_node, Nothing, Some(Why::NoLocalEndpoints))],
    );
}

/// What the manifests behind the dumps say.
pub(crate) fn shop() -> Services {
    let frontend = |kind, address: Option<&str>, port, port_name: &str| KnownFrontend {
        kind,
        address: address.map(|address| address.parse().expect("an address")),
        port,
        protocol: Protocol::Tcp,
        port_name: port_name.into(),
    };
    let endpoint = |address: &str, pod: &str, ready, terminating, local| KnownEndpoint {
        address: address.parse::<SocketAddr>().expect("address and port"),
        pod: Some(pod.into()),
        ready,
        serving: ready,
        terminating,
        node: Some(if local { "worker-1" } else { "worker-2" }.into()),
        local,
        port_name: "http".into(),
    };
    let service =
        |name: &str| KnownService { namespace: "shop".into(), name: name.into(), ..KnownService::default() };
    Services {
        services: vec![
            KnownService {
                frontends: vec![
                    frontend(FrontendKind::ClusterIp, Some("10.96.0.1"), 80, "http"),
                    frontend(FrontendKind::LoadBalancer, Some("203.0.113.2"), 80, "http"),
                    frontend(FrontendKind::NodePort, None, 30080, "http"),
                ],
                endpoints: vec![
                    endpoint("10.244.1.11:8080", "shop/web-0", true, false, true),
                    endpoint("10.244.1.12:8080", "shop/web-1", true, false, true),
                    endpoint("10.244.2.21:8080", "shop/web-2", true, false, false),
                ],
                source_ranges: vec!["192.168.50.64/26".parse().expect("a network")],
                ..service("web")
            },
            KnownService {
                frontends: vec![frontend(FrontendKind::ClusterIp, Some("10.96.0.4"), 80, "http")],
                endpoints: vec![
                    endpoint("10.244.1.31:8080", "shop/empty-0", false, false, true),
                    endpoint("10.244.2.31:8080", "shop/empty-1", false, true, false),
                ],
                ..service("empty")
            },
            KnownService {
                frontends: vec![frontend(FrontendKind::LoadBalancer, Some("203.0.113.4"), 80, "http")],
                endpoints: vec![endpoint("10.244.2.21:8080", "shop/web-2", true, false, false)],
                external_local: true,
                ..service("far")
            },
            KnownService {
                frontends: vec![frontend(FrontendKind::ClusterIp, Some("10.96.0.77"), 80, "http")],
                endpoints: vec![endpoint("10.244.2.77:8080", "shop/new-0", true, false, false)],
                affinity: Some(Duration::from_mins(10)),
                ..service("new")
            },
            KnownService {
                frontends: vec![frontend(FrontendKind::ClusterIp, Some("10.96.0.78"), 80, "http")],
                ..service("none")
            },
            KnownService {
                frontends: vec![frontend(FrontendKind::ClusterIp, Some("10.96.0.79"), 80, "http")],
                unmatched: vec![
                    "spec.ports[0].targetPort: no selected pod has a TCP port called \"htpp\"; they have \"http\""
                        .to_owned(),
                ],
                ..service("typo")
            },
        ],
        nodes: vec![KnownNode {
            name: "worker-2".into(),
            addresses: vec!["192.168.50.2".parse().expect("an address")],
        }],
        next: Next::Nothing,
    }
}

#[test]
fn with_what_is_known_of_services() {
    check_all(
        "known",
        &spec(),
        &node(),
        &shop(),
        &[
            ("pods-by-name", "pod tcp 10.244.1.5 10.96.0.1:80", Forward, None),
            ("which-are-not-ready", "pod tcp 10.244.1.5 10.96.0.4:80", Reject, Some(Why::NoReadyEndpoints)),
            ("source-ranges", "outside tcp 192.0.2.1 203.0.113.2:80", Drop, Some(Why::SourceRanges)),
            (
                "endpoints-elsewhere",
                "outside tcp 192.0.2.1 203.0.113.4:80",
                Drop,
                Some(Why::NoLocalEndpoints),
            ),
            ("not-in-the-rules", "pod tcp 10.244.1.5 10.96.0.77:80", Nothing, Some(Why::Unknown)),
            ("no-endpoint-at-all", "pod tcp 10.244.1.5 10.96.0.78:80", Nothing, Some(Why::NoReadyEndpoints)),
            ("no-such-target-port", "pod tcp 10.244.1.5 10.96.0.79:80", Nothing, Some(Why::NoReadyEndpoints)),
            ("another-node", "pod tcp 10.244.1.5 192.168.50.2:30080", Nothing, Some(Why::AnotherNode)),
            ("a-pod-itself", "pod tcp 10.244.1.5 10.244.2.21:8080", Nothing, Some(Why::NoSuchService)),
        ],
    );
}

#[test]
fn endpoints_on_the_node_itself() {
    let rules =
        iptables(&SPEC.replace(
            "-j DNAT --to-destination 10.244.2.21:8080",
            "-j DNAT --to-destination 192.168.50.1:8080",
        ));
    let bare = Services::default();
    check_all(
        "host",
        &rules,
        &node(),
        &bare,
        &[("network", "pod tcp 10.244.1.5 10.96.0.1:80", Forward, None)],
    );
}

#[test]
fn node_ports_at_chosen_addresses() {
    let rules = iptables(&SPEC.replace(
        "! -d 127.0.0.0/8 -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
        "-d 192.168.50.1/32 -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -j KUBE-NODEPORTS",
    ));
    let bare = Services::default();
    let to_cni0 =
        ("at-another-address", "pod tcp 10.244.1.5 10.244.1.1:30080", Nothing, Some(Why::NodePortAddress));
    check_all("node-port", &rules, &node(), &bare, &[to_cni0]);
}

#[test]
fn the_way_of_loadbalancers_before_2022() {
    // KUBE-XLB and KUBE-MARK-DROP (spec §5.41, §5.44).
    let rules = iptables(
        "*filter\n:FORWARD ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:KUBE-FIREWALL - [0:0]\n-A INPUT -j KUBE-FIREWALL\n\
         -A KUBE-FIREWALL -m comment --comment \"kubernetes firewall for dropping marked packets\" -m mark --mark 0x8000/0x8000 -j DROP\n\
         COMMIT\n*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]\n:KUBE-MARK-DROP - [0:0]\n\
         :KUBE-XLB-AAAAAAAAAAAAAAAA - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n\
         -A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n\
         -A KUBE-NODEPORTS -p tcp -m comment --comment \"shop/far:http\" -m tcp --dport 30080 -j KUBE-XLB-AAAAAAAAAAAAAAAA\n\
         -A KUBE-XLB-AAAAAAAAAAAAAAAA -m comment --comment \"shop/far:http has no local endpoints\" -j KUBE-MARK-DROP\n\
         -A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000\nCOMMIT\n",
    );
    let bare = Services::default();
    let node_port =
        ("no-local-endpoint", "outside tcp 192.0.2.1 192.168.50.1:30080", Drop, Some(Why::NoLocalEndpoints));
    check_all("xlb", &rules, &node(), &bare, &[node_port]);
}

#[test]
fn what_cannot_be_evaluated() {
    let rules = iptables(&SPEC.replace(
        "-A FORWARD -s 10.244.0.0/16 -j ACCEPT",
        "-A FORWARD -m bpf --bytecode \"1,6 0 0 65535\" -j DROP\n-A FORWARD -s 10.244.0.0/16 -j ACCEPT",
    ));
    check_all(
        "depends",
        &rules,
        &node(),
        &Services::default(),
        &[("unknown-match", "pod tcp 10.244.1.5 10.96.0.5:80", Depends, Some(Why::OtherRule))],
    );
}

#[test]
fn rules_of_other_programs() {
    // Another program's rule comes first, and its set with timeouts is asked on the way.
    let other = r#"{"nftables": [
        {"table": {"family": "ip", "name": "guard", "handle": 1}},
        {"set": {"family": "ip", "name": "blocked", "table": "guard", "type": "ipv4_addr", "handle": 2, "flags": ["timeout"],
            "elem": [{"elem": {"val": "203.0.113.99", "timeout": 14400, "expires": 14399}}]}},
        {"chain": {"family": "ip", "table": "guard", "name": "early", "handle": 1, "type": "nat", "hook": "prerouting", "prio": -110,
            "policy": "accept"}},
        {"chain": {"family": "ip", "table": "guard", "name": "forward", "handle": 2, "type": "filter", "hook": "forward", "prio": -10,
            "policy": "accept"}},
        {"rule": {"family": "ip", "table": "guard", "chain": "early", "handle": 4, "expr": [
            {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": "10.96.0.4"}},
            {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "tcp"}},
            {"dnat": {"addr": "10.244.7.7", "port": 8080}}]}},
        {"rule": {"family": "ip", "table": "guard", "chain": "forward", "handle": 3, "expr": [
            {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@blocked"}}, {"drop": null}]}}
        ]}"#;
    let mut rules = nft(other);
    rules.merge(spec());
    check_all(
        "other",
        &rules,
        &node(),
        &shop(),
        &[
            ("translation", "pod tcp 10.244.1.5 10.96.0.4:80", Forward, Some(Why::OtherRule)),
            ("blocklist", "outside tcp 203.0.113.99 10.96.0.1:80", Drop, Some(Why::OtherRule)),
            ("blocklist-passed", "outside tcp 198.51.100.20 10.96.0.1:80", Forward, None),
        ],
    );
}

#[test]
fn a_kernel_without_rules() {
    let rules = iptables("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\nCOMMIT\n");
    let none = ("rules", "pod tcp 10.244.1.5 10.96.0.1:80", Nothing, Some(Why::NoProxyRules));
    check_all("no", &rules, &node(), &shop(), &[none]);
    let manifests = Services { next: Next::ComputeRules, ..shop() };
    let none = ("rules-but-manifests", "pod tcp 10.244.1.5 10.96.0.1:80", Nothing, Some(Why::NoProxyRules));
    check_all("no", &rules, &node(), &manifests, &[none]);
}

#[test]
fn redirected_to_the_node_itself() {
    // kube-proxy's mode userspace, until 1.25.
    let rules = iptables(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:KUBE-PORTALS-CONTAINER - [0:0]\n\
         -A PREROUTING -m comment --comment \"handle ClusterIPs\" -j KUBE-PORTALS-CONTAINER\n\
         -A KUBE-PORTALS-CONTAINER -d 10.96.0.80/32 -p tcp -m comment --comment \"shop/web:http\" -m tcp --dport 80 -j REDIRECT --to-ports 41234\n\
         COMMIT\n*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp --dport 41234 -j ACCEPT\nCOMMIT\n",
    );
    let bare = Services::default();
    let host = iptables(
        "*nat\n:OUTPUT ACCEPT [0:0]\n:KUBE-PORTALS-HOST - [0:0]\n\
         -A OUTPUT -m comment --comment \"handle ClusterIPs\" -j KUBE-PORTALS-HOST\n\
         -A KUBE-PORTALS-HOST -d 10.96.0.80/32 -p tcp -m comment --comment \"shop/web:http\" -m tcp --dport 80 -j DNAT --to-destination 192.168.50.1:41234\n\
         COMMIT\n",
    );
    let from_host = ("to-the-proxy", "node tcp 192.168.50.1 10.96.0.80:80", Forward, None);
    check_all("redirected", &host, &node(), &bare, &[from_host]);
    let case = ("to-the-node", "pod tcp 10.244.1.5 10.96.0.80:80", Forward, None);
    check_all("redirected", &rules, &Node::default(), &bare, &[case]);
}

#[test]
fn sockets_behind_rules_of_iptables() {
    let socket = "--to-destination 192.168.50.1";
    let web = "-p tcp -m comment --comment \"shop/web:http\" -m tcp";
    let rules = iptables(&format!(
        "*mangle\n:PREROUTING ACCEPT [0:0]\n:KUBE-PROXY-FIREWALL - [0:0]\n\
         -A PREROUTING -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL\n\
         -A KUBE-PROXY-FIREWALL -d 192.168.50.1/32 {web} --dport 41001 -m conntrack ! --ctstate DNAT -j DROP\n\
         COMMIT\n*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-PORTALS-CONTAINER - [0:0]\n\
         :KUBE-NODEPORT-CONTAINER - [0:0]\n:KUBE-EXT-A - [0:0]\n\
         -A PREROUTING -j KUBE-PORTALS-CONTAINER\n\
         -A PREROUTING -m addrtype --dst-type LOCAL -j KUBE-NODEPORT-CONTAINER\n\
         -A KUBE-PORTALS-CONTAINER -d 10.96.0.80/32 {web} --dport 80 -j DNAT {socket}:41001\n\
         -A KUBE-NODEPORT-CONTAINER {web} --dport 30080 -j KUBE-EXT-A\n\
         -A KUBE-EXT-A -s 10.244.0.0/16 -p tcp -j DNAT {socket}:41001\n\
         -A KUBE-EXT-A -p tcp -m comment --comment \"shop/web:http\" -j DNAT {socket}:41002\n\
         COMMIT\n"
    ));
    check_all(
        "sockets",
        &rules,
        &node(),
        &Services::default(),
        &[
            ("of-a-cluster-ip", "pod tcp 10.244.1.5 10.96.0.80:80", Forward, None),
            ("of-the-local-list", "outside tcp 198.51.100.20 192.168.50.1:30080", Forward, None),
            ("directly", "outside tcp 198.51.100.20 192.168.50.1:41001", Drop, Some(Why::NoSuchService)),
        ],
    );
}

/// A node whose kernel was asked.
fn live() -> Node {
    let interface = |reverse_path| Interface {
        up: true,
        carrier: true,
        forwards_v4: true,
        reverse_path,
        route_localnet: false,
    };
    let mut node = node();
    node.routes = vec![
        ("192.168.50.0/24".parse().expect("a network"), "eth0".into()),
        ("10.244.1.0/24".parse().expect("a network"), "cni0".into()),
    ];
    node.host = Some(Host {
        forwarding: PerFamily { v4: true, v6: false },
        interfaces: [("eth0", ReversePath::Strict), ("cni0", ReversePath::Off), ("lo", ReversePath::Off)]
            .map(|(name, reverse_path)| (name.to_owned(), interface(reverse_path)))
            .into(),
        refused: Vec::new(),
        policy_routing: false,
    });
    node
}

#[test]
fn questions_in_a_lab() {
    let mut node = live();
    node.routes.push(("0.0.0.0/0".parse().expect("a network"), "eth0".into()));
    let in_lab = |flag: &str, from: &str, to: &str| Services {
        next: Next::InLab { flag: flag.into(), from: from.into(), to: to.into() },
        ..shop()
    };
    let one = in_lab("--name x ", "cart-0", "worker-2:30080");
    let case = ("another-node", "pod tcp 10.244.1.5 192.168.50.2:30080", Nothing, Some(Why::AnotherNode));
    check_all("lab", &spec(), &node, &one, &[case]);
    let service = in_lab("", "cart-0", "svc/shop/web");
    let case = ("one-of-several-endpoints", "pod tcp 10.244.1.5 10.96.0.1:80", Forward, None);
    check_all("lab", &spec(), &node, &service, &[case]);
}

#[test]
fn stopped_by_the_kernel() {
    let mut node = live();
    let bare = Services::default();
    check_all(
        "kernel",
        &spec(),
        &node,
        &bare,
        &[
            ("one-endpoint-without-route", "pod tcp 10.244.1.5 10.96.0.1:80", Depends, Some(Why::NoRoute)),
            ("reverse-path", "outside tcp 10.244.1.5 10.96.0.1:80", Drop, Some(Why::ReversePath)),
            ("no-route-from-the-node", "node tcp 192.168.50.1 10.96.0.1:80", Reject, Some(Why::NoRoute)),
        ],
    );
    node.host.as_mut().expect("known").forwarding.v4 = false;
    node.host.as_mut().expect("known").interfaces.values_mut().for_each(|it| it.forwards_v4 = false);
    let not = ("not-forwarding", "pod tcp 10.244.1.5 10.96.0.1:80", Drop, Some(Why::NotForwarding));
    check_all("kernel", &spec(), &node, &bare, &[not]);
}

#[test]
fn as_json() {
    for (name, line) in [
        ("cluster-ip", "node tcp 192.168.50.1 10.96.0.1:80"),
        ("affinity", "pod tcp 10.244.1.5 10.96.0.5:80"),
        ("rejected", "pod tcp 10.244.1.5 10.96.0.4:80"),
    ] {
        let answer = explained(&spec(), &node(), line, &shop());
        let json = serde_json::to_string_pretty(&answer).expect("it has no maps with other keys than text");
        check(&format!("{name}.json"), &format!("{json}\n"));
    }
}

#[test]
fn as_pictures() {
    for (name, rules, line) in [
        ("iptables-affinity", spec(), "pod tcp 10.244.1.5 10.96.0.5:80"),
        ("iptables-rejected", spec(), "pod tcp 10.244.1.5 10.96.0.4:80"),
        ("portolan-hairpin", flat(), "pod tcp 10.244.1.11 10.96.0.1:80"),
    ] {
        let answer = explained(&rules, &node(), line, &shop());
        check(&format!("{name}.dot"), &answer.dot());
        check(&format!("{name}.svg"), &answer.svg());
    }
}

#[test]
fn in_full() {
    let answer = explained(&spec(), &node(), "pod tcp 10.244.1.5 10.96.0.5:80", &Services::default());
    check("verbose.txt", &answer.text(Style { colour: false, verbose: true, width: 0 }));
    let answer = explained(&spec(), &node(), "pod tcp 10.244.1.5 10.96.0.4:80", &shop());
    check("coloured.txt", &answer.text(Style { colour: true, verbose: false, width: 80 }));
}

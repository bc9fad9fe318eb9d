//! Server-side search: what a pod's search list leads to.

use portolan_names::wire::Query;
use portolan_names::{Names, Next, PodMode, Reply, Search, Sought};
use portolan_service::PodPhase;

use crate::notation::{Question, short, show};
use crate::scene::{Scene, external, ip, pod};

/// The pod of the namespace shop.
const POD: &str = "10.1.9.1";

/// What is answered to `client`; names that others are asked for and do not know come before it.
fn ask(names: &Names, question: &str, client: &str) -> String {
    let question = Question::parse(question);
    let query = Query::parse(&question.message).unwrap();
    let mut reply = Reply::new();
    match names.answer_query(&query, question.transport, 1, &mut reply) {
        Next::Reply => {}
        next => return format!("{next:?}"),
    }
    if !show(reply.message()).starts_with("NXDOMAIN") {
        return show(reply.message());
    }
    let mut asked = String::new();
    let mut sought = names.search(&query, ip(client), question.transport, 1, &mut reply);
    loop {
        sought = match sought {
            Sought::Reply => return asked + &show(reply.message()),
            Sought::Outside(outside) => return format!("{asked}outside: {}", short(outside.name())),
            Sought::Others(searching) => {
                asked.push_str(&short(&searching.name()));
                asked.push_str(", ");
                names.search_on(searching, 1, &mut reply)
            }
        };
    }
}

fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.settings.search = Some(Search { domains: Vec::new(), list: vec!["corp.example".to_owned()] });
    scene.updates.push(pod("shop/client", "10.1.9.1 fd00:9::1", PodPhase::Running, false));
    scene.updates.push(pod("empty/other", "10.1.9.2", PodPhase::Running, false));
    scene.updates.push(pod("shop/gone", "10.1.9.3", PodPhase::Failed, false));
    scene.put(external("kube-system/away", "outside.example"));
    scene.put(external("kube-system/near", "web.shop.svc.cluster.local"));
    scene
}

#[test]
fn the_first_name_that_exists_is_the_answer() {
    let names = scene().names();
    let outside = |base: &str| format!("{base}.corp.example, {base}, NXDOMAIN ; soa Z");
    for (name, question, client, expected) in [
        (
            "a name in the first domain",
            "web.shop.svc.Z A",
            POD,
            "NOERROR | web.shop.svc.Z A 10.96.0.1".to_owned(),
        ),
        (
            "in the second",
            "kube-dns.kube-system.shop.svc.Z A",
            POD,
            "NOERROR | kube-dns.kube-system.shop.svc.Z CNAME kube-dns.kube-system.svc.Z \
             | kube-dns.kube-system.svc.Z A 10.96.0.10"
                .to_owned(),
        ),
        (
            "the same without such a record: no alias",
            "kube-dns.kube-system.shop.svc.Z AAAA",
            POD,
            "NODATA ; soa Z".to_owned(),
        ),
        (
            "of any type",
            "_dns._udp.kube-dns.kube-system.shop.svc.Z SRV",
            POD,
            "NOERROR | _dns._udp.kube-dns.kube-system.shop.svc.Z CNAME _dns._udp.kube-dns.kube-system.svc.Z \
             | _dns._udp.kube-dns.kube-system.svc.Z SRV 0 100 53 kube-dns.kube-system.svc.Z \
             + kube-dns.kube-system.svc.Z A 10.96.0.10"
                .to_owned(),
        ),
        (
            "in the third, as it is spelled",
            "KUBE-dns.kube-system.svc.shop.svc.Z A",
            POD,
            "NOERROR | KUBE-dns.kube-system.svc.shop.svc.Z CNAME KUBE-dns.kube-system.svc.Z \
             | KUBE-dns.kube-system.svc.Z A 10.96.0.10"
                .to_owned(),
        ),
        ("outside", "www.example.shop.svc.Z A", POD, outside("www.example")),
        ("IPv6", "www.example.shop.svc.Z AAAA", "fd00:9::1", outside("www.example")),
        ("IPv4 in IPv6", "www.example.shop.svc.Z A", "::ffff:10.1.9.1", outside("www.example")),
        (
            "the whole name",
            "web.shop.svc.Z.shop.svc.Z A",
            POD,
            "web.shop.svc.cluster.local.corp.example, NOERROR | web.shop.svc.cluster.local.shop.svc.Z CNAME web.shop.svc.Z \
             | web.shop.svc.Z A 10.96.0.1"
                .to_owned(),
        ),
        ("a namespace", "empty.shop.svc.Z A", POD, "NODATA ; soa Z".to_owned()),
        (
            "an alias to the outside",
            "away.kube-system.shop.svc.Z A",
            POD,
            "outside: outside.example".to_owned(),
        ),
        (
            "an alias inside",
            "near.kube-system.shop.svc.Z A",
            POD,
            "NOERROR | near.kube-system.shop.svc.Z CNAME near.kube-system.svc.Z \
             | near.kube-system.svc.Z CNAME web.shop.svc.Z | web.shop.svc.Z A 10.96.0.1"
                .to_owned(),
        ),
        ("a zone", "Z.shop.svc.Z A", POD, "cluster.local.corp.example, NODATA ; soa Z".to_owned()),
        ("a zone's own records", "Z.shop.svc.Z SOA", POD, "cluster.local.corp.example, NXDOMAIN ; soa Z".to_owned()),
    ] {
        assert_eq!(ask(&names, question, client), expected, "{name}: {question}");
    }
}

#[test]
fn only_the_first_domain_of_the_clients_own_namespace() {
    let names = scene().names();
    let absent = "NXDOMAIN ; soa Z";
    for (name, question, client) in [
        ("a pod of another namespace", "www.example.shop.svc.Z A", "10.1.9.2"),
        ("no pod", "www.example.shop.svc.Z A", "10.1.9.9"),
        ("a pod that has ended", "www.example.shop.svc.Z A", "10.1.9.3"),
        ("the second domain", "www.example.svc.Z A", POD),
        ("the third domain", "www.example.Z A", POD),
        ("names of pods", "www.shop.pod.Z A", POD),
    ] {
        assert_eq!(ask(&names, question, client), absent, "{name}");
    }
    let mut other = scene();
    other.settings.search = Some(Search { domains: vec!["other.example".to_owned()], list: Vec::new() });
    assert_eq!(ask(&other.names(), "www.example.shop.svc.Z A", POD), absent, "another domain");
    let mut without = scene();
    (without.settings.search, without.settings.pods) = (None, PodMode::Verified);
    let without = without.names();
    assert!(!without.searches());
    assert_eq!(ask(&without, "www.example.shop.svc.Z A", POD), absent, "no search");
}

#[test]
fn a_name_that_would_be_too_long_is_left_out() {
    let mut scene = scene();
    let (label, domain) = ("x".repeat(58), ["y"; 60].join("."));
    scene.settings.search =
        Some(Search { domains: Vec::new(), list: vec![domain, "corp.example".to_owned()] });
    let base = [&*label; 3].join(".");
    let found = ask(&scene.names(), &format!("{base}.shop.svc.Z A tcp"), POD);
    assert_eq!(found, format!("{base}.corp.example, {base}, NXDOMAIN ; soa Z"));
}

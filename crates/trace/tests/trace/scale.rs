//! Clusters of ten thousand Services: how many rules are visited does not depend on how many there
//! are.

use std::fmt::Write;
use std::time::{Duration, Instant};

use portolan_trace::{Family, Probability, Record, Ruleset, Verdict, evaluate};

use crate::notation::{node, packet};

/// The cluster IP of a Service, by its number.
fn cluster_ip(service: u32) -> String {
    format!("10.{}.{}.{}", 96 + service / 65536, service / 256 % 256, service % 256)
}

/// kube-proxy's rules for so many Services (spec §5D), two endpoints each.
fn iptables(services: u32) -> String {
    let mut text = String::from(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n",
    );
    for service in 0..services {
        writeln!(text, ":KUBE-SVC-{service:016} - [0:0]\n:KUBE-SEP-{service:016} - [0:0]\n:KUBE-SEP-{service:015}B - [0:0]")
            .expect("room");
    }
    text.push_str("-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n");
    for service in 0..services {
        let ip = cluster_ip(service);
        let comment = format!("-m comment --comment \"shop/s{service}:http cluster IP\"");
        let svc = format!("KUBE-SVC-{service:016}");
        writeln!(text, "-A KUBE-SERVICES -d {ip}/32 -p tcp {comment} -m tcp --dport 80 -j {svc}")
            .expect("room");
        writeln!(
            text,
            "-A {svc} ! -s 10.244.0.0/16 -d {ip}/32 -p tcp {comment} -m tcp --dport 80 -j KUBE-MARK-MASQ"
        )
        .expect("room");
        writeln!(
            text,
            "-A {svc} -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-{service:016}"
        )
        .expect("room");
        writeln!(text, "-A {svc} -j KUBE-SEP-{service:015}B").expect("room");
        for (suffix, last) in [(format!("{service:016}"), 1), (format!("{service:015}B"), 2)] {
            let endpoint = format!("10.244.{}.{last}", service % 256);
            writeln!(text, "-A KUBE-SEP-{suffix} -s {endpoint}/32 {comment} -j KUBE-MARK-MASQ")
                .expect("room");
            writeln!(
                text,
                "-A KUBE-SEP-{suffix} -p tcp {comment} -m tcp -j DNAT --to-destination {endpoint}:8080"
            )
            .expect("room");
        }
    }
    text.push_str("COMMIT\n");
    text
}

/// Our own table for this many Services, two endpoints each: the listing of the dumps folder with
/// other elements.
fn flat(services: u32) -> String {
    let mut listing: serde_json::Value =
        serde_json::from_str(include_str!("../dumps/portolan.nft.json")).expect("a listing");
    let objects = listing["nftables"].as_array_mut().expect("objects");
    for object in objects {
        let Some(map) = object.get_mut("map") else { continue };
        let elements: Vec<serde_json::Value> = match map["name"].as_str() {
            Some("services") => (0..services)
                .map(|service| {
                    serde_json::json!([{"concat": [cluster_ip(service), "tcp", 80]}, {"jump": {"target": "pick-2"}}])
                })
                .collect(),
            Some("endpoints") => (0..services)
                .flat_map(|service| [(service, 0), (service, 1)])
                .map(|(service, number)| {
                    let endpoint = format!("10.244.{}.{}", service % 256, number + 1);
                    serde_json::json!([{"concat": [number, cluster_ip(service), "tcp", 80]}, {"concat": [endpoint, 8080]}])
                })
                .collect(),
            _ => continue,
        };
        map["elem"] = elements.into();
    }
    listing.to_string()
}

/// Asks for `services` Services in turn and returns how long one packet took.
fn ask(rules: &Ruleset, services: u32, packets: u32) -> Duration {
    let begin = Instant::now();
    for number in 0..packets {
        let service = number * 7919 % services;
        let line = format!("pod tcp 10.244.1.5 {}:80", cluster_ip(service));
        let answer = evaluate(rules, &node(), &packet(&line), Record::Nothing);
        let endpoints = answer.endpoints();
        let expected =
            [1, 2].map(|last| format!("10.244.{}.{last}:8080", service % 256).parse().expect("an endpoint"));
        assert!(endpoints.into_iter().eq(expected), "{line}");
        for outcome in &answer.outcomes {
            assert_eq!(outcome.probability, Probability::ratio(1, 2), "{line}");
        }
    }
    begin.elapsed() / packets
}

#[test]
fn the_way_is_as_long_in_a_large_cluster() {
    type Read = fn(u32) -> Ruleset;
    let readers: [(&str, Read); 2] = [
        ("iptables", |services| {
            Ruleset::from_iptables_save(&iptables(services), Family::V4).expect("a dump")
        }),
        ("flat", |services| Ruleset::from_nft_json(&flat(services)).expect("a listing")),
    ];
    for (name, read) in readers {
        let (small, large) = (read(100), read(10_000));
        // Walked rule by rule it would be a hundred times.
        let (few, many) = (ask(&small, 100, 2_000), ask(&large, 10_000, 2_000));
        println!("{name}: {few:?} a packet with 100 Services, {many:?} with 10000");
        assert!(many < few * 20, "{name}: {few:?} a packet with 100 Services, {many:?} with 10000");
    }
}

#[test]
fn a_dump_of_many_rules_is_read_at_the_speed_of_a_short_one() {
    let mut per_line = Vec::new();
    for services in [1_000, 70_000] {
        let text = iptables(services);
        let lines = u32::try_from(text.lines().count()).expect("some");
        let begin = Instant::now();
        let rules = Ruleset::from_iptables_save(&text, Family::V4).expect("a dump");
        let took = begin.elapsed();
        println!("{lines} lines in {took:?}");
        assert_eq!(rules.rule_count(), services as usize * 8 + 1);
        per_line.push(took / lines);
        let answer = evaluate(&rules, &node(), &packet("pod tcp 10.244.1.5 10.96.0.77:80"), Record::Nothing);
        assert!(matches!(answer.outcomes[0].verdict, Verdict::Forward(_)));
    }
    assert!(per_line[1] < per_line[0] * 20, "per line of a short and a long dump: {per_line:?}");
}

//! Whatever a dump says, its explanation ends, and does nothing to a terminal or a browser.

use std::fmt::Write;

use portolan_trace::explain::{Services, Style};
use portolan_trace::{Family, Ruleset};
use proptest::prelude::*;

use crate::golden::{explained, iptables, shop};
use crate::notation::node;

const PACKETS: [&str; 6] = [
    "pod tcp 10.244.1.5 10.96.0.1:80",
    "pod tcp 10.244.1.11 10.96.0.5:80",
    "outside udp 192.0.2.1 203.0.113.3:53",
    "outside tcp 192.0.2.1 203.0.113.2:80",
    "outside tcp 192.0.2.1 192.168.50.1:30080",
    "established pod tcp 10.244.1.5 10.96.0.1:80",
];

/// Elements are closed in order, and nothing but text and known elements is there.
fn is_well_formed(svg: &str) {
    let mut open: Vec<&str> = Vec::new();
    for tag in svg.split('<').skip(1) {
        let (inside, text) = tag.split_once('>').expect("a tag ends");
        assert!(!text.contains('>'), "text is escaped: {text}");
        assert_eq!(inside.matches('"').count() % 2, 0, "attributes are quoted: {inside}");
        let name = inside.trim_start_matches('/').split([' ', '/']).next().unwrap_or("");
        assert!(
            ["svg", "g", "title", "defs", "marker", "path", "rect", "line", "text"].contains(&name),
            "no other elements: {inside}"
        );
        if inside.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closed in order");
        } else if !inside.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "all is closed");
}

fn is_harmless(text: &str) {
    let bad = text.chars().find(|c| c.is_control() && *c != '\n' || ('\u{202a}'..='\u{202e}').contains(c));
    assert_eq!(bad, None, "no control characters");
}

fn explain_all(rules: &Ruleset, services: &Services) {
    for line in PACKETS {
        let answer = explained(rules, &node(), line, services);
        for verbose in [false, true] {
            is_harmless(&answer.text(Style { colour: false, verbose, width: 80 }));
        }
        is_harmless(&answer.dot());
        is_harmless(&answer.svg());
        is_well_formed(&answer.svg());
        let json = serde_json::to_string(&answer).expect("JSON");
        is_harmless(&json);
    }
}

/// A dump with some of its words replaced by others of it.
fn mutated(text: &'static str) -> impl Strategy<Value = String> {
    let lines: Vec<&str> = text.lines().collect();
    let count = lines.len();
    prop::collection::vec(
        (0..count, 0..count, any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        0..10,
    )
    .prop_map(move |changes| {
        let mut lines: Vec<Vec<&str>> = lines.iter().map(|line| line.split(' ').collect()).collect();
        for (a, b, to, from) in changes {
            let word = lines[b][from.index(lines[b].len())];
            let place = to.index(lines[a].len());
            lines[a][place] = word;
        }
        lines.iter().map(|words| words.join(" ")).collect::<Vec<_>>().join("\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn of_mutated_iptables_dumps(text in mutated(include_str!("../dumps/spec.iptables-save"))) {
        if let Ok(rules) = Ruleset::from_iptables_save(&text, Family::V4) {
            explain_all(&rules, &Services::default());
        }
    }

    #[test]
    fn of_mutated_listings(text in mutated(include_str!("../dumps/portolan.nft.json"))) {
        if let Ok(rules) = Ruleset::from_nft_json(&text) {
            explain_all(&rules, &shop());
        }
    }
}

#[test]
fn hostile_names_are_shown_and_not_obeyed() {
    let rules = iptables(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n\
         -A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment \"a\u{1b}[2J<script>&\u{202e}\" -m tcp --dport 80 \
         -j DNAT --to-destination 10.244.1.11:8080\nCOMMIT\n",
    );
    let mut services = shop();
    for service in &mut services.services {
        service.name = "web\u{1b}]0;owned\u{7}".into();
        for endpoint in &mut service.endpoints {
            endpoint.pod = Some("pod\u{9b}2J<b>".into());
            endpoint.node = Some("node\u{1b}[2J".into());
        }
        for frontend in &mut service.frontends {
            frontend.port_name = "p\u{1b}c".into();
        }
    }
    explain_all(&rules, &services);
    explain_all(&iptables(include_str!("../dumps/spec.iptables-save")), &services);
}

#[test]
fn services_of_many_endpoints() {
    // From about 1,400 endpoints on, steps are shown without the rules that did not match.
    for endpoints in [1000u32, 3000] {
        let mut rules = String::new();
        for left in (1..=endpoints).rev() {
            let probability = 1.0 / f64::from(left);
            let to = format!("10.0.{}.{}:80", left / 250, left % 250);
            let draw = format!("-m statistic --mode random --probability {probability:.11}");
            writeln!(rules, "-A KUBE-SVC-A {draw} -j DNAT --to-destination {to}").expect("room");
        }
        let rules = iptables(&format!(
            "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SVC-A - [0:0]\n-A PREROUTING -d 10.96.0.1/32 -j KUBE-SVC-A\n{rules}COMMIT\n"
        ));
        let answer = explained(&rules, &node(), "pod tcp 10.244.1.5 10.96.0.1:80", &Services::default());
        assert_eq!(answer.endpoints.len(), endpoints as usize);
        let sum: f64 = answer.endpoints.iter().map(|endpoint| endpoint.chance.probability).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{endpoints}: {sum}");
        let short = answer.text(Style { colour: false, verbose: false, width: 100 });
        assert!(short.lines().count() < 100, "{endpoints}: {short}");
        assert!(short.contains("more ways"), "{endpoints}: {short}");
        // Exact fractions of thousands of draws would have tens of thousands of digits each.
        let json = serde_json::to_string(&answer).expect("JSON");
        assert!(json.len() < 2_000 * endpoints as usize, "{endpoints}: {} bytes", json.len());
        let long = answer.text(Style { colour: false, verbose: true, width: 100 });
        assert!(answer.endpoints.iter().all(|endpoint| long.contains(&format!("{}:80: ", endpoint.ip))));
    }
}

#[test]
fn circles_end() {
    let rules = iptables(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:A - [0:0]\n:B - [0:0]\n-A PREROUTING -g A\n-A A -g B\n-A B -g A\nCOMMIT\n",
    );
    let answer = explained(&rules, &node(), PACKETS[0], &Services::default());
    assert_eq!(answer.verdict.name(), "depends");
    assert!(answer.svg().len() < 100_000);
}

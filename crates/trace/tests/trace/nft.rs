//! Listings of nftables: our own flat table, kube-proxy's (spec §6), and expressions of all sorts.

use portolan_trace::ruleset::{Action, Part, Test};
use portolan_trace::{Error, Family, Record, Ruleset, StepKind, evaluate};

use crate::notation::{self, node, packet};

const PORTOLAN: &str = include_str!("../dumps/portolan.nft.json");
const KUBE_PROXY: &str = include_str!("../dumps/kube-proxy.nft.json");
const EXPRESSIONS: &str = include_str!("../dumps/expressions.nft.json");

fn read(text: &str) -> Ruleset {
    Ruleset::from_nft_json(text).expect("a listing")
}

const THIRDS: &str = "1/3 10.244.1.11:8080; 1/3 10.244.1.12:8080; 1/3 10.244.2.21:8080";
const MASQUERADED: &str = "1/3 10.244.1.11:8080 masq; 1/3 10.244.1.12:8080 masq; 1/3 10.244.2.21:8080 masq";
const HAIRPIN: &str = "1/3 10.244.1.11:8080 masq; 1/3 10.244.1.12:8080; 1/3 10.244.2.21:8080";

/// What ours and kube-proxy's rules answer alike.
const BOTH: [(&str, &str, &str); 21] = [
    ("ClusterIP from a pod (§4.12)", "pod tcp 10.244.1.5 10.96.0.1:80", THIRDS),
    ("ClusterIP from the node", "node tcp 192.168.50.1 10.96.0.1:80", MASQUERADED),
    ("ClusterIP from outside", "outside tcp 192.0.2.1 10.96.0.1:80", MASQUERADED),
    ("an endpoint that reaches itself (§4.7)", "pod tcp 10.244.1.11 10.96.0.1:80", HAIRPIN),
    ("external IP (§4.5)", "pod tcp 10.244.1.5 203.0.113.1:80", MASQUERADED),
    ("NodePort from outside", "outside tcp 192.0.2.1 192.168.50.1:30080", MASQUERADED),
    ("NodePort at the node itself", "node tcp 192.168.50.1 192.168.50.1:30080", MASQUERADED),
    ("no NodePort on loopback (§6.21)", "node tcp 127.0.0.1 127.0.0.1:30080", "1 accept"),
    ("source range, inside", "outside tcp 192.168.50.70 203.0.113.2:80", MASQUERADED),
    ("source range, outside (§6.11)", "outside tcp 192.0.2.1 203.0.113.2:80", "1 drop"),
    ("internalTrafficPolicy Local", "pod udp 10.244.1.5 10.96.0.2:53", "1 10.244.1.12:5353"),
    ("Local from outside (§4.6c)", "outside udp 192.0.2.1 203.0.113.3:53", "1 10.244.1.12:5353"),
    (
        "Local from a pod (§4.6a)",
        "pod udp 10.244.1.5 203.0.113.3:53",
        "1/2 10.244.1.12:5353; 1/2 10.244.2.21:5353",
    ),
    (
        "Local from the node (§4.6b)",
        "node udp 192.168.50.1 203.0.113.3:53",
        "1/2 10.244.1.12:5353 masq; 1/2 10.244.2.21:5353 masq",
    ),
    ("Local without a local endpoint", "outside tcp 192.0.2.1 203.0.113.4:80", "1 drop"),
    ("no endpoints (§6.6)", "pod tcp 10.244.1.5 10.96.0.4:80", "1 reject"),
    ("no endpoints, NodePort", "outside tcp 192.0.2.1 192.168.50.1:30084", "1 reject"),
    ("another protocol (§6.7)", "pod udp 10.244.1.5 10.96.0.1:80", "1 reject"),
    ("an unallocated ClusterIP (§6.7)", "pod tcp 10.244.1.5 10.96.9.9:80", "1 drop"),
    ("no Service", "pod tcp 10.244.1.5 192.0.2.80:80", "1 accept"),
    (
        "session affinity, a new client",
        "pod tcp 10.244.1.8 10.96.0.5:80",
        "1/2 10.244.1.11:8080; 1/2 10.244.1.12:8080",
    ),
];

fn check(rules: &Ruleset, cases: &[(&str, &str, &str)]) {
    notation::check(rules, &node(), cases);
}

#[test]
fn the_flat_table() {
    let rules = read(PORTOLAN);
    check(&rules, &BOTH);
    check(
        &rules,
        &[
            (
                "Local without a local endpoint, from a pod",
                "pod tcp 10.244.1.5 203.0.113.4:80",
                "1 10.244.2.21:8080",
            ),
            (
                "session affinity, a client that came before",
                "pod tcp 10.244.1.7 10.96.0.5:80",
                "1 10.244.1.12:8080 if the entry in @affinity/shop/sticky/tcp/http/10.244.1.12/8080 has not expired; \
             1/2 10.244.1.11:8080 unless the entry in @affinity/shop/sticky/tcp/http/10.244.1.12/8080 has not expired; \
             1/2 10.244.1.12:8080 unless the entry in @affinity/shop/sticky/tcp/http/10.244.1.12/8080 has not expired",
            ),
            ("it is remembered for one Service port", "pod tcp 10.244.1.7 10.96.0.1:80", THIRDS),
            ("a later packet meets no nat rule", "established pod tcp 10.244.1.5 10.96.0.1:80", "1 accept"),
        ],
    );
}

#[test]
fn kube_proxys_table() {
    let rules = read(KUBE_PROXY);
    check(&rules, &BOTH);
    check(
        &rules,
        &[(
            "session affinity, a client that came before",
            "pod tcp 10.244.1.7 10.96.0.5:80",
            "1 10.244.1.12:8080 if the entry in @affinity-STI2 has not expired; \
         1/2 10.244.1.11:8080 unless the entry in @affinity-STI2 has not expired; \
         1/2 10.244.1.12:8080 unless the entry in @affinity-STI2 has not expired",
        )],
    );
}

#[test]
fn many_expressions_are_known() {
    let rules = read(EXPRESSIONS);
    let unknown: Vec<&str> = rules
        .tables()
        .iter()
        .flat_map(|table| &table.chains)
        .flat_map(|chain| &chain.rules)
        .flat_map(|rule| &rule.parts)
        .filter_map(|part| match part {
            Part::Test(Test::Unknown(text)) | Part::Action(Action::Unknown(text)) => Some(&**text),
            _ => None,
        })
        .collect();
    assert_eq!(
        unknown,
        [
            "limit {\"burst\":5,\"per\":\"second\",\"rate\":3}",
            "fib daddr,iif type local",
            "fib saddr,iif oif false",
            "{\"jhash\":{\"expr\":{\"payload\":{\"field\":\"saddr\",\"protocol\":\"ip\"}},\"mod\":3}} vmap { 0 : drop, 1 : accept }",
            "quota {\"val\":5,\"val_unit\":\"mbytes\"}",
            "ip ttl 3",
            "ip length 20 - 30",
            "meta iifgroup 3",
            "meta skuid 5",
            "ip dscp 3",
            "icmp type echo-request",
        ]
    );
}

/// A chain at hook forward with one rule.
fn rule(expressions: &str) -> Ruleset {
    read(&format!(
        r#"{{"nftables": [
            {{"table": {{"family": "inet", "name": "t"}}}},
            {{"chain": {{"family": "inet", "table": "t", "name": "sub"}}}},
            {{"chain": {{"family": "inet", "table": "t", "name": "f", "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}}}},
            {{"set": {{"family": "inet", "table": "t", "name": "nets", "type": ["ipv4_addr", "inet_service"], "flags": ["interval"],
                "elem": [{{"concat": [{{"range": ["10.244.1.4", "10.244.1.6"]}}, {{"range": [70, 80]}}]}}]}}}},
            {{"set": {{"family": "inet", "table": "t", "name": "typed", "type": {{"typeof": {{"payload": {{"protocol": "ip", "field": "saddr"}}}}}},
                "elem": ["10.244.1.5"]}}}},
            {{"set": {{"family": "inet", "table": "t", "name": "odd", "type": "ether_addr", "elem": ["02:00:00:00:00:01"]}}}},
            {{"rule": {{"family": "inet", "table": "t", "chain": "sub", "expr": [{{"drop": null}}]}}}},
            {{"rule": {{"family": "inet", "table": "t", "chain": "f", "expr": {expressions}}}}}
        ]}}"#
    ))
}

#[test]
fn expressions() {
    let of = |left: &str, op: &str, right: &str| {
        format!(r#"[{{"match": {{"op": "{op}", "left": {left}, "right": {right}}}}}, {{"drop": null}}]"#)
    };
    let source = r#"{"payload": {"protocol": "ip", "field": "saddr"}}"#;
    let six = r#"{"payload": {"protocol": "ip6", "field": "saddr"}}"#;
    let port = r#"{"payload": {"protocol": "tcp", "field": "dport"}}"#;
    let udp_port = r#"{"payload": {"protocol": "udp", "field": "dport"}}"#;
    let state = r#"{"ct": {"key": "state"}}"#;
    let iif = r#"{"meta": {"key": "iifname"}}"#;
    let draw = r#"{"numgen": {"mode": "random", "mod": 10, "offset": 5}}"#;
    let both = format!(r#"{{"concat": [{source}, {port}]}}"#);
    let masked = format!(r#"{{"&": [{source}, "255.0.0.255"]}}"#);
    let cases = [
        ("an address", of(source, "==", r#""10.244.1.5""#), "1 drop"),
        ("not an address", of(source, "!=", r#""10.244.1.5""#), "1 accept"),
        ("an IPv6 address has no match", of(six, "!=", r#""fd00::1""#), "1 accept"),
        ("a mask with holes", of(&masked, "==", r#""10.0.0.5""#), "1 drop"),
        ("less", of(port, "<", "80"), "1 accept"),
        ("not less", of(port, ">=", "80"), "1 drop"),
        ("nothing is less than 0", of(port, "<", "0"), "1 accept"),
        ("a port of another protocol", of(udp_port, "!=", "81"), "1 accept"),
        ("state, one of", of(state, "in", r#"["established", "new"]"#), "1 drop"),
        ("state, a set", of(state, "!=", r#"{"set": ["established", "related"]}"#), "1 drop"),
        ("an interface by prefix", of(iif, "==", r#""cn*""#), "1 drop"),
        ("interfaces, one of", of(iif, "==", r#"{"set": ["eth0", "veth*"]}"#), "1 accept"),
        ("a draw", of(draw, "<", "8"), "3/10 drop; 7/10 accept"),
        ("an interval of two", of(&both, "==", r#""@nets""#), "1 drop"),
        ("not in it", of(&both, "!=", r#""@nets""#), "1 accept"),
        ("a set by typeof", of(source, "==", r#""@typed""#), "1 drop"),
        ("a set within the rule", of(&both, "==", r#"{"set": [{"concat": [{"prefix": {"addr": "10.0.0.0", "len": 8}}, 80]}]}"#), "1 drop"),
        (
            "a set that is not understood: both ways",
            of(source, "==", r#""@odd""#),
            "1 accept unless `ip saddr @odd` holds; 1 drop if `ip saddr @odd` holds",
        ),
        (
            "an unknown statement",
            r#"[{"tproxy": {"port": 5}}]"#.to_owned(),
            "1 UnknownTarget if tproxy {\"port\":5} takes the packet; 1 accept unless tproxy {\"port\":5} takes the packet",
        ),
        ("a jump", r#"[{"jump": {"target": "sub"}}, {"accept": null}]"#.to_owned(), "1 drop"),
        (
            "a verdict map with ranges",
            format!(r#"[{{"vmap": {{"key": {port}, "data": {{"set": [[{{"range": [1, 79]}}, {{"accept": null}}], ["*", {{"goto": {{"target": "sub"}}}}]]}}}}}}]"#),
            "1 drop",
        ),
        (
            "a drawn verdict with a gap",
            r#"[{"vmap": {"key": {"numgen": {"mode": "random", "mod": 4, "offset": 0}}, "data": {"set": [[0, {"drop": null}]]}}}, {"reject": null}]"#.to_owned(),
            "1/4 drop; 3/4 accept",
        ),
        ("text in place of a statement, as nft 1.0.6 writes", r#"["update @m { ip saddr : 1 }", {"drop": null}]"#.to_owned(), "1 drop"),
    ];
    for (name, expressions, expected) in &cases {
        check(&rule(expressions), &[(name, "pod tcp 10.244.1.5 192.0.2.80:80", expected)]);
    }
}

#[test]
fn marks() {
    let mark = r#"{"meta": {"key": "mark"}}"#;
    let cases = [
        ("set", "7".to_owned(), 7, "1 drop"),
        ("or", format!(r#"{{"|": [{mark}, 4]}}"#), 4, "1 drop"),
        ("and, then or", format!(r#"{{"|": [{{"&": [{mark}, 4294901760]}}, 5]}}"#), 5, "1 drop"),
        ("xor", format!(r#"{{"^": [{mark}, 6]}}"#), 4, "1 accept"),
        (
            "something else",
            r#"{"jhash": {"mod": 3}}"#.to_owned(),
            1,
            "1 accept unless mark is 0x1; 1 drop if mark is 0x1",
        ),
        ("the connection's", r#"{"ct": {"key": "mark"}}"#.to_owned(), 0, "1 drop"),
    ];
    for (name, value, asked, expected) in &cases {
        let expressions = format!(
            r#"[{{"mangle": {{"key": {mark}, "value": {value}}}}}, {{"match": {{"op": "==", "left": {mark}, "right": {asked}}}}}, {{"drop": null}}]"#
        );
        check(&rule(&expressions), &[(name, "pod tcp 10.244.1.5 192.0.2.80:80", expected)]);
    }
}

#[test]
fn steps_say_what_was_found() {
    let rules = read(PORTOLAN);
    let answer = evaluate(&rules, &node(), &packet("pod udp 10.244.1.5 10.96.0.2:53"), Record::Steps);
    let hits: Vec<String> = answer.outcomes[0].paths[0]
        .steps
        .iter()
        .filter(|step| step.kind == StepKind::Hit)
        .map(|step| {
            let chain = &rules.tables()[step.table as usize].chains[step.chain as usize];
            format!("{}: {}", chain.name, step.why)
        })
        .collect();
    assert_eq!(
        hits,
        [
            "firewall-prerouting: connection state is new, jump to firewall",
            "nat-prerouting: 10.96.0.2 . udp . 53 is in @services, jump to pick-1",
            "pick-1: one of 1, drawn . 10.96.0.2 . udp . 53 is in @endpoints, destination becomes 10.244.1.12:5353",
            "filter-forward: connection state is new, jump to undeliverable",
            "filter-forward: connection state is new, jump to unallocated",
            "nat-postrouting: connection status is dnat, jump to masq",
            "masq: original destination 10.96.0.2 is in @cluster-ips, go to masq-cluster",
        ]
    );
}

#[test]
fn tables_of_iptables_are_told_by_iptables() {
    let iptables = "# Generated by iptables-save v1.8.9 (nf_tables) on Sat Nov 21 12:00:00 2026\n*filter\n:FORWARD ACCEPT [0:0]\n\
                    -A FORWARD -m addrtype --dst-type LOCAL -j DROP\nCOMMIT\n";
    let mut rules = read(
        r#"{"nftables": [{"table": {"family": "ip", "name": "filter"}},
            {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},
            {"rule": {"family": "ip", "table": "filter", "chain": "FORWARD", "expr": [{"xt": {"type": "match", "name": "addrtype"}}, {"drop": null}]}}]}"#,
    );
    rules.merge(Ruleset::from_iptables_save(iptables, Family::V4).expect("a dump"));
    assert_eq!(rules.tables().len(), 1);
    check(&rules, &[("nothing is unknown", "pod tcp 10.244.1.5 192.0.2.80:80", "1 accept")]);
}

/// Two base chains of a table in the order in which they were made, each with one rule.
fn two_chains(kinds: [(&str, i32, &str); 2]) -> Ruleset {
    let chains: Vec<String> = (0..)
        .zip(kinds)
        .map(|(number, (kind, priority, rule))| {
            format!(
                r#"{{"chain": {{"family": "ip", "table": "t", "name": "c{number}", "type": "{kind}", "hook": "prerouting", "prio": {priority}, "policy": "accept"}}}},
                   {{"rule": {{"family": "ip", "table": "t", "chain": "c{number}", "expr": [{rule}]}}}}"#
            )
        })
        .collect();
    read(&format!(r#"{{"nftables": [{{"table": {{"family": "ip", "name": "t"}}}}, {}]}}"#, chains.join(",")))
}

const TO_A_POD: &str = r#"{"dnat": {"addr": "10.244.1.5"}}"#;
const TO_ANOTHER: &str = r#"{"dnat": {"addr": "10.244.1.6"}}"#;
const NOT_TRACKED: &str = r#"{"notrack": null}"#;
const MARK_CONNECTION: &str = r#"{"mangle": {"key": {"ct": {"key": "mark"}}, "value": 1}}"#;
const IF_MARKED: &str =
    r#"{"match": {"op": "==", "left": {"ct": {"key": "mark"}}, "right": 1}}, {"drop": null}"#;
const UNLESS_TRANSLATED: &str = r#"{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": "192.0.2.80"}}, {"drop": null}"#;

#[test]
fn the_order_of_base_chains() {
    for (name, chains, expected) in [
        ("by priority", [("nat", -100, TO_A_POD), ("nat", -99, TO_ANOTHER)], "1 10.244.1.5:80"),
        ("the latest of the same", [("nat", -100, TO_A_POD), ("nat", -100, TO_ANOTHER)], "1 10.244.1.6:80"),
        ("a filter made after nat", [("nat", -110, TO_A_POD), ("filter", -100, UNLESS_TRANSLATED)], "1 drop"),
        (
            "a filter made before nat",
            [("filter", -100, UNLESS_TRANSLATED), ("nat", -90, TO_A_POD)],
            "1 10.244.1.5:80",
        ),
        (
            "notrack before connection tracking",
            [("filter", -300, NOT_TRACKED), ("nat", -100, TO_A_POD)],
            "1 accept",
        ),
        (
            "no connection to mark yet",
            [("filter", -300, MARK_CONNECTION), ("filter", 0, IF_MARKED)],
            "1 accept",
        ),
        ("a connection to mark", [("filter", -150, MARK_CONNECTION), ("filter", 0, IF_MARKED)], "1 drop"),
        ("notrack too late", [("filter", -150, NOT_TRACKED), ("nat", -100, TO_A_POD)], "1 10.244.1.5:80"),
    ] {
        check(&two_chains(chains), &[(name, "outside tcp 192.0.2.1 192.0.2.80:80", expected)]);
    }
}

#[test]
fn errors_name_the_object() {
    let cases = [
        ("no JSON", "nftables", "not JSON: "),
        ("something else", "[]", "the document: it has no list `nftables`"),
        (
            "a chain without a table",
            r#"{"nftables": [{"chain": {"family": "ip", "table": "t", "name": "c"}}]}"#,
            "chain ip t c: table t is not listed before it",
        ),
        (
            "a rule without a chain",
            r#"{"nftables": [{"table": {"family": "ip", "name": "t"}}, {"rule": {"family": "ip", "table": "t", "chain": "c", "handle": 7}}]}"#,
            "rule ip t c (handle 7): chain c is not listed",
        ),
        (
            "a jump to nowhere",
            r#"{"nftables": [{"table": {"family": "ip", "name": "t"}}, {"chain": {"family": "ip", "table": "t", "name": "c"}},
                {"rule": {"family": "ip", "table": "t", "chain": "c", "expr": [{"jump": {"target": "d"}}]}}]}"#,
            "rule ip t c: chain d is not listed",
        ),
    ];
    for (name, text, expected) in cases {
        let error: Error = Ruleset::from_nft_json(text).expect_err(name);
        assert!(error.to_string().starts_with(expected), "{name}: {error}");
    }
}

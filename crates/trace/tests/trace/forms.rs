//! The same rules in every form that people post them in get the same answers. The forms in
//! `dumps/forms` were printed by iptables 1.8.9 and nft 1.0.6 of rules that were loaded in a
//! network namespace.

use std::collections::BTreeSet;

use portolan_trace::ruleset::{Action, Part, Test};
use portolan_trace::{Error, Family, IpSets, Node, Record, Ruleset, evaluate};

use crate::notation::{check, node, packet, written};

const SAVED: &str = include_str!("../dumps/forms/spec.iptables-save");
const COMMANDS: &str = include_str!("../dumps/forms/spec.iptables-S");
const LISTED: &str = include_str!("../dumps/forms/spec.iptables-L");

/// Packets of all kinds to what the rules of `spec` have.
fn packets() -> Vec<String> {
    let destinations = [
        "10.96.0.1:80",
        "10.96.0.1:81",
        "10.96.0.2:53",
        "10.96.0.3:80",
        "10.96.0.4:80",
        "10.96.0.5:80",
        "10.96.9.9:80",
        "203.0.113.1:80",
        "203.0.113.2:80",
        "203.0.113.3:53",
        "203.0.113.4:80",
        "192.168.50.1:30080",
        "192.168.50.1:30084",
        "192.168.50.1:32100",
        "127.0.0.1:30080",
        "10.244.1.11:8080",
        "198.51.100.1:80",
        "10.96.0.10:80",
        "10.96.0.11:80",
    ];
    let sources = [
        "pod PROTOCOL 10.244.1.5",
        "pod PROTOCOL 10.244.1.11",
        "outside PROTOCOL 192.0.2.1",
        "outside PROTOCOL 192.168.50.70",
        "node PROTOCOL 192.168.50.1",
        "established pod PROTOCOL 10.244.1.5",
        "invalid outside PROTOCOL 192.0.2.1",
    ];
    let mut packets = Vec::new();
    for protocol in ["tcp", "udp", "sctp"] {
        for source in sources {
            for destination in destinations {
                packets.push(format!("{} {destination}", source.replace("PROTOCOL", protocol)));
            }
        }
    }
    packets
}

/// Every packet has the same answer by both.
fn alike(name: &str, one: &Ruleset, other: &Ruleset, differs: impl Fn(&str) -> bool) {
    let mut answers = BTreeSet::new();
    for line in packets().iter().filter(|line| !differs(line)) {
        let first = written(&evaluate(one, &node(), &packet(line), Record::Nothing));
        let second = written(&evaluate(other, &node(), &packet(line), Record::Nothing));
        assert_eq!(second, first, "{name}: {line}");
        answers.insert(first);
    }
    assert!(answers.len() > 5, "{name}: rules that distinguish packets: {answers:?}");
}

fn iptables(text: &str) -> Ruleset {
    Ruleset::from_iptables(text, &IpSets::default()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn iptables_in_every_form() {
    let saved = iptables(SAVED);
    for (name, text) in [("iptables -S", COMMANDS), ("iptables -L -n -v", LISTED)] {
        let read = iptables(text);
        assert_eq!(read.rule_count(), saved.rule_count(), "{name}");
        alike(name, &saved, &read, |_| false);
        assert_eq!(read.left_out(Family::V4), Vec::<String>::new(), "{name}");
    }
    let comments = |rules: &Ruleset| -> BTreeSet<String> {
        let rules = rules.tables().iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
        rules.filter_map(|rule| rule.comment.as_deref().map(str::to_owned)).collect()
    };
    assert_eq!(comments(&iptables(LISTED)), comments(&saved), "Services have their names");
}

/// Lists that remember clients are no expressions of nftables, so that Services with session
/// affinity are left out.
#[test]
fn iptables_nft_as_text_of_nft() {
    let text = include_str!("../dumps/forms/spec.nft");
    let read = Ruleset::from_nft_text(text).expect("a listing");
    alike("nft list ruleset", &iptables(SAVED), &read, |line| {
        line.contains("10.96.0.5:80") || line.contains("127.0.0.1")
    });
    let asked = packet("outside tcp 192.0.2.1 127.0.0.1:80");
    let answer = evaluate(&read, &node(), &asked, Record::Nothing);
    assert!(answer.conditions.iter().any(|it| it.text.contains("match conntrack")), "{answer:?}");
}

#[test]
fn nft_as_text_and_as_json() {
    for (name, text, json) in [
        (
            "kube-proxy",
            include_str!("../dumps/forms/kube-proxy.nft"),
            include_str!("../dumps/forms/kube-proxy.nft.json"),
        ),
        ("portolan", include_str!("../dumps/forms/own.nft"), include_str!("../dumps/forms/own.nft.json")),
    ] {
        let read = Ruleset::from_nft_text(text).expect("a listing");
        let expected = Ruleset::from_nft_json(json).expect("a listing");
        assert_eq!(read.rule_count(), expected.rule_count(), "{name}");
        alike(name, &expected, &read, |_| false);
    }
}

/// The tests and actions of every rule, but for those that are not known: these are named as each
/// form has them.
fn parts(rules: &Ruleset) -> Vec<String> {
    let rules = rules.tables().iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
    let known = |part: &Part| match part {
        Part::Test(Test::Unknown(_)) => "a test that is not known".to_owned(),
        Part::Action(Action::Unknown(_)) => "an action that is not known".to_owned(),
        part => format!("{part:?}"),
    };
    rules.map(|rule| rule.parts.iter().map(known).collect::<Vec<_>>().join("; ")).collect()
}

#[test]
fn expressions_as_text_and_as_json() {
    let text = include_str!("../dumps/forms/expressions.nft");
    let json = include_str!("../dumps/forms/expressions.nft.json");
    let (read, expected) = (
        parts(&Ruleset::from_nft_text(text).expect("a listing")),
        parts(&Ruleset::from_nft_json(json).expect("a listing")),
    );
    assert_eq!(read.len(), expected.len());
    for (read, expected) in read.iter().zip(&expected) {
        assert_eq!(read, expected);
    }
}

#[test]
fn both_families_in_one_dump() {
    let v6 = "# Generated by ip6tables-save v1.8.7 on X\n*nat\n:PREROUTING ACCEPT [0:0]\n\
              -A PREROUTING -d fd00:96::1/128 -p tcp -j DNAT --to-destination [fd00:10::5]:80\nCOMMIT\n";
    let v4 = "# Generated by iptables-save v1.8.7 on X\n*nat\n:PREROUTING ACCEPT [0:0]\n\
              -A PREROUTING -d 10.96.0.1/32 -p tcp -j DNAT --to-destination 10.244.1.5:80\nCOMMIT\n";
    for text in [format!("{v6}{v4}"), format!("{v4}{v6}")] {
        check(&iptables(&text), &node(), &[("IPv4", "pod tcp 10.244.1.9 10.96.0.1:80", "1 10.244.1.5:80")]);
        assert_eq!(iptables(&text).only_family(), None);
    }
    assert_eq!(iptables(v6).only_family(), Some(Family::V6));
    assert_eq!(iptables(v4).only_family(), Some(Family::V4));
}

/// A table with one rule in FORWARD.
pub(crate) fn forward(rule: &str) -> String {
    format!("*filter\n:FORWARD ACCEPT [0:0]\n:C - [0:0]\n-A FORWARD {rule}\nCOMMIT\n")
}

#[test]
fn revisions_that_cannot_be_printed() {
    for (name, rule, expected) in [
        (
            "a match",
            "-m statistic [unsupported revision] -j DROP",
            "1 accept unless `-m statistic [unsupported revision]` holds; 1 drop if `-m statistic [unsupported revision]` holds",
        ),
        ("one among others", "-p tcp -m set [unsupported revision] -m tcp --dport 81 -j DROP", "1 accept"),
        (
            "a target",
            "-j DNAT [unsupported revision]",
            "1 UnknownTarget if DNAT [unsupported revision] takes the packet; \
             1 accept unless DNAT [unsupported revision] takes the packet",
        ),
        ("a comment decides nothing", "-m comment [unsupported revision] -j DROP", "1 drop"),
        ("a log takes no packet", "-j LOG [unsupported revision]", "1 accept"),
        ("a mark takes no packet", "-j MARK [unsupported revision]", "1 accept"),
        ("a rule that does not match", "-p udp -j DNAT [unsupported revision]", "1 accept"),
    ] {
        check(&iptables(&forward(rule)), &node(), &[(name, "pod tcp 10.244.1.9 192.0.2.80:80", expected)]);
    }
}

#[test]
fn tables_that_a_dump_says_are_missing() {
    let dump = "# Generated by iptables-save v1.8.10 (nf_tables) on X\n*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n\
                # Table `nat' is incompatible, use 'nft' tool.\n\
                # Warning: iptables-legacy tables present, use iptables-legacy-save to see them\n";
    let mut rules = iptables(dump);
    let line = "pod tcp 10.244.1.9 10.96.0.1:80";
    let undecided = written(&evaluate(&rules, &node(), &packet(line), Record::Nothing));
    assert!(undecided.contains("table nat of IPv4, which the dump leaves out"), "{undecided}");
    assert!(undecided.contains("iptables-legacy-save"), "{undecided}");
    let said = rules.left_out(Family::V4);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("nft -j list ruleset") && said[1].contains("iptables-legacy-save"), "{said:?}");
    assert_eq!(rules.left_out(Family::V6), Vec::<String>::new());

    let legacy = "# Generated by iptables-save v1.8.10 on X\n*raw\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n";
    rules.merge(iptables(legacy));
    let nat = "table ip nat {\n\tchain PREROUTING {\n\t\ttype nat hook prerouting priority dstnat; policy accept;\n\
               \t\tip daddr 10.96.0.1 tcp dport 80 dnat to 10.244.1.5:8080\n\t}\n}\n";
    rules.merge(Ruleset::from_nft_text(nat).expect("a listing"));
    check(&rules, &node(), &[("what was missing is given", line, "1 10.244.1.5:8080")]);
    assert_eq!(rules.left_out(Family::V4), Vec::<String>::new());
}

#[test]
fn tables_of_iptables_in_json_of_nft() {
    let rule = |target: &str| {
        let text = format!(
            r#"{{"nftables": [
                {{"table": {{"family": "ip", "name": "filter"}}}},
                {{"chain": {{"family": "ip", "table": "filter", "name": "FORWARD", "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}}}},
                {{"rule": {{"family": "ip", "table": "filter", "chain": "FORWARD", "expr": [{{"xt": {{"type": "match", "name": "comment"}}}}, {{"xt": {{"type": "target", "name": "{target}"}}}}]}}}}
            ]}}"#
        );
        Ruleset::from_nft_json(&text).expect("a listing")
    };
    for (target, expected) in [
        ("LOG", "1 accept"),
        ("MARK", "1 accept"),
        ("NFLOG", "1 accept"),
        (
            "DNAT",
            "1 UnknownTarget if xt {\"name\":\"DNAT\",\"type\":\"target\"} takes the packet; \
             1 accept unless xt {\"name\":\"DNAT\",\"type\":\"target\"} takes the packet",
        ),
    ] {
        let rules = rule(target);
        check(&rules, &node(), &[(target, "pod tcp 10.244.1.9 192.0.2.80:80", expected)]);
        let said = rules.left_out(Family::V4);
        assert!(said[0].contains("iptables-save") && said[0].contains("ip filter"), "{said:?}");
    }
}

/// Lines of a dump that hold `word`.
fn found(text: &str, word: &str) -> String {
    text.lines().filter(|line| line.contains(word)).collect::<Vec<_>>().join("\n")
}

#[test]
fn parts_that_grep_has_found() {
    let thirds =
        "0.33333333326 10.244.1.12:8080; 0.33333333326 10.244.2.21:8080; 0.33333333349 10.244.1.11:8080";
    for (name, text) in [
        ("of iptables-save", found(SAVED, "shop/web")),
        ("of iptables -S", found(COMMANDS, "shop/web")),
        (
            "of grep -n",
            SAVED
                .lines()
                .zip(1..)
                .filter(|(line, _)| line.contains("shop/web"))
                .fold(String::new(), |text, (line, number)| text + &format!("{number}:{line}\n")),
        ),
    ] {
        let rules = iptables(&text);
        let line = "pod tcp 10.244.1.5 10.96.0.1:80";
        let answer = written(&evaluate(&rules, &node(), &packet(line), Record::Nothing));
        assert_eq!(answer, thirds, "{name}");
        let said = rules.left_out(Family::V4).join(" ");
        for part in ["a part of the rules", "PREROUTING", "KUBE-MARK-MASQ"] {
            assert!(said.contains(part), "{name}: {said}");
        }
    }
    let whole = iptables(&found(SAVED, "KUBE"));
    // Policies and rules of others were not found.
    let services = [
        "tcp 10.96.0.1:80",
        "udp 10.96.0.2:53",
        "tcp 10.96.0.4:80",
        "tcp 10.96.0.5:80",
        "tcp 203.0.113.1:80",
        "tcp 203.0.113.2:80",
        "udp 203.0.113.3:53",
        "tcp 203.0.113.4:80",
        "tcp 192.168.50.1:30080",
    ];
    alike("grep KUBE", &iptables(SAVED), &whole, |line| {
        let ends = |service: &str| {
            let (protocol, address) = service.split_once(' ').expect("two words");
            line.contains(protocol) && line.ends_with(&format!(" {address}"))
        };
        !services.iter().any(|service| ends(service))
    });
}

#[test]
fn single_chains_are_followed_as_far_as_they_go() {
    let services = "Chain KUBE-SERVICES (2 references)\n\
                    target     prot opt source               destination\n\
                    KUBE-SVC-A  tcp  --  0.0.0.0/0            10.96.0.80           /* shop/web:http cluster IP */ tcp dpt:80\n";
    let svc = "Chain KUBE-SVC-A (1 references)\n\
               target     prot opt source               destination\n\
               KUBE-SEP-A  all  --  0.0.0.0/0            0.0.0.0/0            /* shop/web:http -> 10.244.1.5:8080 */ statistic mode random probability 0.50000000000\n\
               KUBE-SEP-B  all  --  0.0.0.0/0            0.0.0.0/0            /* shop/web:http -> 10.244.1.6:8080 */\n";
    let sep = "Chain KUBE-SEP-A (1 references)\n\
               target     prot opt source               destination\n\
               DNAT       tcp  --  0.0.0.0/0            0.0.0.0/0            /* shop/web:http */ tcp to:10.244.1.5:8080\n";
    let line = "pod tcp 10.244.1.9 10.96.0.80:80";
    check(
        &iptables(services),
        &node(),
        &[(
            "the chain that comes next is missing",
            line,
            "1 UnknownTarget if chain KUBE-SVC-A, which the dump leaves out, takes the packet; \
             1 accept unless chain KUBE-SVC-A, which the dump leaves out, takes the packet",
        )],
    );
    check(
        &iptables(&format!("{services}\n{svc}\n{sep}")),
        &node(),
        &[(
            "one endpoint of two",
            line,
            "1/2 10.244.1.5:8080; 1/2 UnknownTarget if chain KUBE-SEP-B, which the dump leaves out, takes the packet; \
             1/2 accept unless chain KUBE-SEP-B, which the dump leaves out, takes the packet",
        )],
    );
    check(
        &iptables(&format!("$ sudo iptables -t nat -L KUBE-SVC-A -n\n{svc}{sep}")),
        &node(),
        &[(
            "what leads there is missing",
            line,
            "1 accept unless `a rule that the dump leaves out leads to KUBE-SVC-A` holds; \
             1/2 10.244.1.5:8080 if `a rule that the dump leaves out leads to KUBE-SVC-A` holds; \
             1/2 UnknownTarget if `a rule that the dump leaves out leads to KUBE-SVC-A` holds \
             if chain KUBE-SEP-B, which the dump leaves out, takes the packet; \
             1/2 accept if `a rule that the dump leaves out leads to KUBE-SVC-A` holds \
             unless chain KUBE-SEP-B, which the dump leaves out, takes the packet",
        )],
    );
}

#[test]
fn without_v_a_listing_hides_interfaces() {
    let text = "Chain INPUT (policy DROP)\ntarget     prot opt source               destination         \n\
                ACCEPT     all  --  anywhere             anywhere            \n\
                \nChain FORWARD (policy ACCEPT)\ntarget     prot opt source               destination         \n\
                \nChain OUTPUT (policy ACCEPT)\ntarget     prot opt source               destination         \n";
    check(
        &iptables(text),
        &Node { addresses: node().addresses, ..Node::default() },
        &[(
            "it may be that of loopback",
            "outside tcp 192.0.2.1 192.168.50.1:80",
            "1 accept if `interfaces that `iptables -L` shows only with -v` holds; \
             1 drop unless `interfaces that `iptables -L` shows only with -v` holds",
        )],
    );
}

#[test]
fn what_is_no_dump_is_refused_with_a_remedy() {
    for (name, text, part) in [
        ("prose", "hello\nworld\n", "iptables-save"),
        (
            "rows without their chain",
            "KUBE-SVC-A  tcp  --  0.0.0.0/0  10.96.0.80  tcp dpt:80\n-A X -j Y\n",
            "`Chain` line",
        ),
        (
            "rows that were edited",
            "Chain X (1 references)\ntarget     prot opt source               destination\nsomething else\n",
            "columns",
        ),
        ("cut off", "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j ACCEPT\n", "cut off"),
    ] {
        let error = Ruleset::from_iptables(text, &IpSets::default()).expect_err(name).to_string();
        assert!(error.contains(part), "{name}: {error}");
    }
    let error = Ruleset::from_nft_text("table ip t {\n\tchain c {\n").expect_err("cut off");
    assert!(matches!(error, Error::CutOffListing { line: 1, .. }), "{error}");
    assert!(Ruleset::from_nft_text("nothing here\n").is_err());
}

#[test]
fn statements_of_nft_that_are_not_known_are_named() {
    let text = "table inet t {\n\tchain f {\n\t\ttype filter hook forward priority filter; policy accept;\n\t\tRULE\n\t}\n\tchain sub {\n\t}\n}\n";
    for (name, rule, expected) in [
        ("a field", "meta cpu 3 drop", "1 accept unless `meta cpu 3` holds; 1 drop if `meta cpu 3` holds"),
        (
            "a new word",
            "frobnicate 3 counter drop",
            "1 accept unless `frobnicate 3` holds; 1 drop if `frobnicate 3` holds",
        ),
        (
            "a map by a hash",
            "jhash ip saddr mod 2 vmap { 0 : drop, 1 : accept }",
            "1 UnknownTarget if jhash ip saddr mod 2 vmap { 0 : drop , 1 : accept } takes the packet; \
             1 accept unless jhash ip saddr mod 2 vmap { 0 : drop , 1 : accept } takes the packet",
        ),
        (
            "a chain that is missing",
            "jump gone",
            "1 UnknownTarget if chain gone, which the listing leaves out, takes the packet; \
             1 accept unless chain gone, which the listing leaves out, takes the packet",
        ),
        (
            "connections are counted",
            "tcp dport 80 ct count over 20 reject",
            "1 accept unless `ct count over 20` holds; 1 reject if `ct count over 20` holds",
        ),
        ("what is set changes nothing", "tcp option maxseg size set rt mtu drop", "1 drop"),
        ("logging takes no packet", "log prefix \"drop \" flags ip options group 2", "1 accept"),
        ("ports by name", "tcp dport { ssh, http } drop", "1 drop"),
        (
            "a table of iptables",
            "xt match \"recent\" drop",
            "1 accept unless `xt {\"name\":\"recent\",\"type\":\"match\"}` holds; 1 drop if `xt {\"name\":\"recent\",\"type\":\"match\"}` holds",
        ),
        ("flags that are not set", "ct state != established,related drop", "1 drop"),
    ] {
        let rules = Ruleset::from_nft_text(&text.replace("RULE", rule)).expect(name);
        check(&rules, &node(), &[(name, "pod tcp 10.244.1.9 192.0.2.80:80", expected)]);
    }
}

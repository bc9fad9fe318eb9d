//! What is not known: asked twice it is one fact, and what a rule made known is known.

use portolan_trace::{Entry, Family, Node, Packet, Protocol, Record, Ruleset, evaluate};

use crate::notation::{check, node, packet, written};

fn forward(policy: &str, rules: &[&str]) -> Ruleset {
    let rules: String = rules.iter().flat_map(|rule| ["-A ", rule, "\n"]).collect();
    let text = format!("*filter\n:FORWARD {policy} [0:0]\n:SUB - [0:0]\n{rules}COMMIT\n");
    Ruleset::from_iptables_save(&text, Family::V4).expect("a dump")
}

/// Nothing is known of the node: every out-interface is open.
#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn one_unknown_fact_asked_twice_is_one_fact() {
    let cases: [(&str, &str, &[&str], &str); 15] = [
        (
            "an interface, and not that interface",
            "DROP",
            &["FORWARD -i cni0 ! -o cni0 -j ACCEPT", "FORWARD -i cni0 -o cni0 -j ACCEPT"],
            "1 accept",
        ),
        (
            "the same interface in two chains",
            "ACCEPT",
            &["FORWARD -o eth9 -j SUB", "SUB ! -o eth9 -j DROP"],
            "1 accept",
        ),
        (
            "twice the same",
            "DROP",
            &["FORWARD -o eth9 -j ACCEPT", "FORWARD -o eth9 -j REJECT"],
            "1 accept if out-interface is eth9; 1 drop unless out-interface is eth9",
        ),
        (
            "a name, then names that begin so",
            "DROP",
            &["FORWARD -o cali40 -j ACCEPT", "FORWARD -o cali+ -j ACCEPT"],
            "1 accept if out-interface is cali40; 1 accept unless out-interface is cali40 if out-interface is cali+; 1 drop unless out-interface is cali40 unless out-interface is cali+",
        ),
        (
            "names that begin so, then one of them",
            "DROP",
            &["FORWARD ! -o cali+ -j ACCEPT", "FORWARD -o eth0 -j ACCEPT", "FORWARD -o cali+ -j ACCEPT"],
            "1 accept",
        ),
        ("any name, by what it begins with", "DROP", &["FORWARD -o + -j ACCEPT"], "1 accept"),
        (
            "two facts are two",
            "ACCEPT",
            &["FORWARD -o a -m set --match-set x src -j DROP"],
            "1 accept if out-interface is a unless `-m set --match-set x src` holds; 1 accept unless out-interface is a; 1 drop if out-interface is a if `-m set --match-set x src` holds",
        ),
        (
            "the same text of a match that is not known",
            "DROP",
            &["FORWARD -m set --match-set x src -j ACCEPT", "FORWARD -m set ! --match-set x src -j ACCEPT"],
            "1 accept",
        ),
        (
            "the same text, the other way round",
            "ACCEPT",
            &["FORWARD -m set ! --match-set x src -j SUB", "SUB -m set --match-set x src -j DROP"],
            "1 accept",
        ),
        (
            "a limit counts each time it is asked",
            "DROP",
            &["FORWARD -m limit --limit 3/min -j ACCEPT", "FORWARD -m limit --limit 3/min -j ACCEPT"],
            "1 accept if `-m limit --limit 3/min` holds; 1 accept unless `-m limit --limit 3/min` holds if `-m limit --limit 3/min` holds; 1 drop unless `-m limit --limit 3/min` holds unless `-m limit --limit 3/min` holds",
        ),
        (
            "seen within a minute is seen within an hour",
            "DROP",
            &[
                "FORWARD -m recent --rcheck --seconds 3600 --name x --rsource -j SUB",
                "FORWARD -m recent --rcheck --seconds 60 --name x --rsource -j REJECT",
                "SUB -m recent ! --rcheck --seconds 60 --name x --rsource -j ACCEPT",
                "SUB -j REJECT",
            ],
            "1 accept if the client was seen in list x in the last 3600 s unless the client was seen in list x in the last 60 s; 1 drop unless the client was seen in list x in the last 3600 s; 1 reject if the client was seen in list x in the last 3600 s if the client was seen in list x in the last 60 s",
        ),
        (
            "a list that other rules keep is no session affinity",
            "ACCEPT",
            &["FORWARD -m recent --rcheck --seconds 60 --name bad --rsource -j DROP"],
            "1 accept unless the client was seen in list bad in the last 60 s; 1 drop if the client was seen in list bad in the last 60 s",
        ),
        (
            "either of two ports, neither of which is unknown",
            "ACCEPT",
            &["FORWARD -p tcp -m multiport --ports 80 -j DROP"],
            "1 drop",
        ),
        (
            "a mark that a rule set is known",
            "ACCEPT",
            &[
                "FORWARD -j CONNMARK --restore-mark",
                "FORWARD -j MARK --set-xmark 0x1/0xffffffff",
                "FORWARD -m mark --mark 0x1 -j DROP",
            ],
            "1 drop",
        ),
        (
            "what is asked in vain is no condition, however many ask",
            "DROP",
            &[
                "FORWARD -o a -j ACCEPT",
                "FORWARD -o b -j ACCEPT",
                "FORWARD -o c -j ACCEPT",
                "FORWARD -j ACCEPT",
            ],
            "1 accept",
        ),
    ];
    for (name, policy, rules, expected) in cases {
        let rules = forward(policy, rules);
        check(&rules, &Node::default(), &[(name, "pod tcp 10.244.1.5 192.0.2.80:80", expected)]);
    }
}

#[test]
fn marks_of_known_connections_are_facts_bit_by_bit() {
    let cases: [(&str, &[&str], &str); 4] = [
        (
            "asked of the connection, then of the packet that took it",
            &[
                "FORWARD -m connmark ! --mark 0x80/0x80 -j REJECT",
                "FORWARD -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80",
                "FORWARD -m mark --mark 0x80/0x80 -j ACCEPT",
            ],
            "1 accept if connection mark is 0x80/0x80; 1 reject unless connection mark is 0x80/0x80",
        ),
        (
            "a bit that a rule set, whatever the others are",
            &[
                "FORWARD -j CONNMARK --restore-mark",
                "FORWARD -j MARK --set-xmark 0x4000/0x4000",
                "FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT",
            ],
            "1 accept",
        ),
        (
            "all of two bits, then one of them",
            &[
                "FORWARD -m connmark ! --mark 0x3/0x3 -j ACCEPT",
                "FORWARD -m connmark --mark 0x1/0x1 -j ACCEPT",
            ],
            "1 accept",
        ),
        (
            "none of two bits, then one of them",
            &["FORWARD -m connmark --mark 0x0/0x3 -j ACCEPT", "FORWARD -m connmark --mark 0x1/0x1 -j ACCEPT"],
            "1 accept if connection mark is 0x0/0x3; 1 accept unless connection mark is 0x0/0x3 if connection mark is 0x1/0x1; 1 drop unless connection mark is 0x0/0x3 unless connection mark is 0x1/0x1",
        ),
    ];
    for (name, rules, expected) in cases {
        let line = "established pod tcp 10.244.1.5 192.0.2.80:80";
        check(&forward("DROP", rules), &node(), &[(name, line, expected)]);
    }
}

/// Each endpoint has an interface of its own.
#[test]
fn interfaces_to_different_endpoints_are_different_facts() {
    let text = "*nat\n:PREROUTING ACCEPT [0:0]\n\
                -A PREROUTING -d 10.96.0.1/32 -j DNAT --to-destination 10.244.1.8-10.244.1.9\nCOMMIT\n\
                *filter\n:FORWARD DROP [0:0]\n-A FORWARD -o cni0 -j ACCEPT\nCOMMIT\n";
    let rules = Ruleset::from_iptables_save(text, Family::V4).expect("a dump");
    let expected = "1/2 10.244.1.8:80 if out-interface to 10.244.1.8 is cni0; \
                    1/2 10.244.1.9:80 if out-interface to 10.244.1.9 is cni0; \
                    1/2 drop unless out-interface to 10.244.1.8 is cni0; \
                    1/2 drop unless out-interface to 10.244.1.9 is cni0";
    check(&rules, &Node::default(), &[("two endpoints", "pod tcp 10.244.1.5 10.96.0.1:80", expected)]);
}

#[test]
fn sets_and_comparisons_ask_for_the_same_interface() {
    let rule = |expressions: &str| {
        format!(
            r#"{{"rule": {{"family": "ip", "table": "t", "chain": "f", "handle": 1, "expr": [{expressions}]}}}}"#
        )
    };
    let asks = |operator: &str, right: &str| {
        format!(
            r#"{{"match": {{"op": "{operator}", "left": {{"meta": {{"key": "oifname"}}}}, "right": {right}}}}}"#
        )
    };
    let listing = |first: String, second: String| {
        format!(
            r#"{{"nftables": [{{"table": {{"family": "ip", "name": "t", "handle": 1}}}},
            {{"set": {{"family": "ip", "name": "pods", "table": "t", "type": "ifname", "handle": 2, "elem": ["a", "b"]}}}},
            {{"chain": {{"family": "ip", "table": "t", "name": "f", "handle": 1, "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}}}},
            {}, {}]}}"#,
            rule(&format!("{first}, {{\"accept\": null}}")),
            rule(&format!("{second}, {{\"accept\": null}}"))
        )
    };
    for (name, first, second, expected) in [
        ("in a set, or not in it", asks("==", "\"@pods\""), asks("!=", "\"@pods\""), "1 accept"),
        (
            "not in a set, or one of its names",
            asks("!=", "\"@pods\""),
            asks("==", r#"{"set": ["a", "b"]}"#),
            "1 accept",
        ),
        (
            "one of its names, or another",
            asks("==", "\"a\""),
            asks("==", "\"@pods\""),
            "1 accept if out-interface is a; 1 accept unless out-interface is a if out-interface is in @pods; 1 drop unless out-interface is a unless out-interface is in @pods",
        ),
        ("not a name of it, or in the set", asks("!=", "\"a\""), asks("==", "\"@pods\""), "1 accept"),
    ] {
        let rules = Ruleset::from_nft_json(&listing(first, second)).expect("a listing");
        check(&rules, &Node::default(), &[(name, "pod tcp 10.244.1.5 192.0.2.80:80", expected)]);
    }
}

#[test]
fn redirection_leads_to_the_input_of_the_node() {
    let text = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 41234\nCOMMIT\n\
                *filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n\
                -A INPUT -d 127.0.0.0/8 -j REJECT\n-A INPUT -p tcp -m tcp --dport 41234 -m addrtype --dst-type LOCAL -j ACCEPT\nCOMMIT\n";
    let strict = text.replace("-m addrtype --dst-type LOCAL", "-d 192.168.50.1/32");
    let cases = [
        ("its interface has no address that is known", text, Some("veth9"), "1 own port 41234"),
        ("its interface is not known", text, None, "1 own port 41234"),
        ("its interface has one", text, Some("eth0"), "1 192.168.50.1:41234"),
        (
            "what input asks of the address is open",
            &strict,
            None,
            "1 drop unless destination is 192.168.50.1; 1 own port 41234 if destination is 192.168.50.1",
        ),
    ];
    for (name, text, interface, expected) in cases {
        let rules = Ruleset::from_iptables_save(text, Family::V4).expect("a dump");
        let packet = Packet {
            entry: Entry::Prerouting { interface: interface.map(str::to_owned) },
            ..packet("pod tcp 10.244.1.9 10.96.0.80:80")
        };
        assert_eq!(packet.protocol, Protocol::Tcp);
        for record in [Record::Nothing, Record::Steps] {
            assert_eq!(written(&evaluate(&rules, &node(), &packet, record)), expected, "{name}");
        }
    }
}

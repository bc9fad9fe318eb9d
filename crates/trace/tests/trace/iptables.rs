//! iptables-save dumps: today's rules (spec §5), those of a node of 2017, and other software's.

use portolan_trace::{Error, Family, Hook, Node, Record, Ruleset, StepKind, evaluate};

use crate::notation::{check, node, packet, written};

const SPEC: &str = include_str!("../dumps/spec.iptables-save");
const NODE_OF_2017: &str = include_str!("../dumps/node-of-2017.iptables-save");

fn read(text: &str) -> Ruleset {
    Ruleset::from_iptables_save(text, Family::V4).expect("a dump")
}

#[test]
fn services_of_each_kind() {
    // A third as iptables draws it, of 2^31 (spec §14.3).
    const THIRDS: &str =
        "0.33333333326 10.244.1.12:8080; 0.33333333326 10.244.2.21:8080; 0.33333333349 10.244.1.11:8080";
    const MASQUERADED: &str = "0.33333333326 10.244.1.12:8080 masq; 0.33333333326 10.244.2.21:8080 masq; 0.33333333349 10.244.1.11:8080 masq";
    const HAIRPIN: &str =
        "0.33333333326 10.244.1.12:8080; 0.33333333326 10.244.2.21:8080; 0.33333333349 10.244.1.11:8080 masq";
    check(
        &read(SPEC),
        &node(),
        &[
            ("ClusterIP from a pod (§4.12)", "pod tcp 10.244.1.5 10.96.0.1:80", THIRDS),
            ("ClusterIP from the node", "node tcp 192.168.50.1 10.96.0.1:80", MASQUERADED),
            ("ClusterIP from outside", "outside tcp 192.0.2.1 10.96.0.1:80", MASQUERADED),
            ("an endpoint that reaches itself (§4.7)", "pod tcp 10.244.1.11 10.96.0.1:80", HAIRPIN),
            ("external IP (§4.5)", "pod tcp 10.244.1.5 203.0.113.1:80", MASQUERADED),
            ("NodePort from outside", "outside tcp 192.0.2.1 192.168.50.1:30080", MASQUERADED),
            ("NodePort at the node itself", "node tcp 192.168.50.1 192.168.50.1:30080", MASQUERADED),
            ("no NodePort on loopback (§5.17)", "node tcp 127.0.0.1 127.0.0.1:30080", "1 accept"),
            ("source range, inside (§5.29)", "outside tcp 192.168.50.70 203.0.113.2:80", MASQUERADED),
            ("source range, outside (§5.24)", "outside tcp 192.0.2.1 203.0.113.2:80", "1 drop"),
            ("internalTrafficPolicy Local (§5.21)", "pod udp 10.244.1.5 10.96.0.2:53", "1 10.244.1.12:5353"),
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
            ("the same from a pod", "pod tcp 10.244.1.5 203.0.113.4:80", "1 10.244.2.21:8080"),
            ("no endpoints (§5.22)", "pod tcp 10.244.1.5 10.96.0.4:80", "1 reject"),
            ("no endpoints, NodePort (§5.25)", "outside tcp 192.0.2.1 192.168.50.1:30084", "1 reject"),
            ("another protocol", "pod udp 10.244.1.5 10.96.0.1:80", "1 accept"),
            ("an unknown port", "pod tcp 10.244.1.5 10.96.0.1:81", "1 accept"),
            ("a health-check port (§5.18)", "outside tcp 192.0.2.1 192.168.50.1:32100", "1 accept"),
            ("loopback from outside (§5.20)", "outside tcp 192.0.2.1 127.0.0.1:80", "1 drop"),
            ("invalid, to a pod (§5.14)", "invalid outside tcp 192.0.2.1 10.244.1.11:80", "1 drop"),
            ("policy of FORWARD", "outside tcp 192.0.2.1 198.51.100.1:80", "1 drop"),
            ("a later packet meets no nat rule", "established pod tcp 10.244.1.5 10.96.0.1:80", "1 accept"),
            (
                "session affinity (§5.30)",
                "pod tcp 10.244.1.5 10.96.0.5:80",
                "1 10.244.1.11:8080 if the client was seen in list KUBE-SEP-S1SSSSSSSSSSSSSS in the last 10800 s; \
             1 10.244.1.12:8080 unless the client was seen in list KUBE-SEP-S1SSSSSSSSSSSSSS in the last 10800 s \
             if the client was seen in list KUBE-SEP-S2SSSSSSSSSSSSSS in the last 10800 s; \
             1/2 10.244.1.11:8080 unless the client was seen in list KUBE-SEP-S1SSSSSSSSSSSSSS in the last 10800 s \
             unless the client was seen in list KUBE-SEP-S2SSSSSSSSSSSSSS in the last 10800 s; \
             1/2 10.244.1.12:8080 unless the client was seen in list KUBE-SEP-S1SSSSSSSSSSSSSS in the last 10800 s \
             unless the client was seen in list KUBE-SEP-S2SSSSSSSSSSSSSS in the last 10800 s",
            ),
        ],
    );
}

#[test]
fn a_new_client_is_not_remembered() {
    let answer = evaluate(&read(SPEC), &node(), &packet("pod tcp 10.244.1.5 10.96.0.5:80"), Record::Nothing);
    let new: Vec<String> =
        answer.given(|_| false).iter().map(|outcome| outcome.probability.to_string()).collect();
    assert_eq!(new, ["1/2", "1/2"], "drawn anew");
    assert!(answer.conditions.iter().all(|condition| condition.remembers));
    assert_eq!(answer.endpoints().len(), 2);
}

#[test]
fn established_connections_follow_their_first_packet() {
    let mut later = packet("established pod tcp 10.244.1.5 10.96.0.1:80");
    later.translated = Some("10.244.1.12:8080".parse().expect("an endpoint"));
    let answer = evaluate(&read(SPEC), &node(), &later, Record::Nothing);
    assert_eq!(written(&answer), "1 10.244.1.12:8080");
}

#[test]
fn the_node_of_2017() {
    // W5: node ubuntu-3, pods behind cbr0.
    let network = |text: &str| text.parse().expect("a network");
    let ubuntu_3 = Node {
        addresses: vec![
            (network("10.20.30.73/24"), "eth0".into()),
            (network("10.100.2.1/24"), "cni0".into()),
        ],
        routes: vec![(network("0.0.0.0/0"), "eth0".into())],
        ..Node::default()
    };
    let rules = read(NODE_OF_2017);
    assert_eq!(rules.rule_count(), NODE_OF_2017.lines().filter(|line| line.starts_with("-A")).count());
    check(
        &rules,
        &ubuntu_3,
        &[
            ("the Service from pod net-test", "pod tcp 10.100.2.9 10.11.12.125:80", "1 10.100.3.7:8080"),
            (
                "the Service from the node: by kubenet's rule, the pod network is in 10/8",
                "node tcp 10.20.30.73 10.11.12.125:80",
                "1 10.100.3.7:8080",
            ),
            (
                "DNS: two pods, half each",
                "pod udp 10.100.2.9 10.11.12.254:53",
                "1/2 10.100.0.9:53; 1/2 10.100.1.7:53",
            ),
            (
                "a DNS pod that reaches itself is masqueraded",
                "pod tcp 10.100.1.7 10.11.12.254:53",
                "1/2 10.100.0.9:53; 1/2 10.100.1.7:53 masq",
            ),
            ("one endpoint, remembered or not", "pod tcp 10.100.2.9 10.11.12.1:443", "1 10.20.30.71:6443"),
            ("a pod to the world: kubenet masquerades", "pod tcp 10.100.2.9 192.0.2.80:80", "1 accept masq"),
            ("no such port", "pod tcp 10.100.2.9 10.11.12.125:81", "1 accept"),
        ],
    );
}

#[test]
fn a_text_for_restore_inserts() {
    let text = |command: &str| {
        format!(
            "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j DROP\n{command} -j ACCEPT\n-I FORWARD -j LOG\nCOMMIT\n"
        )
    };
    let order = |command: &str| -> Vec<String> {
        let rules = read(&text(command));
        rules.tables()[0].chains[0]
            .rules
            .iter()
            .map(|rule| rule.text.split(' ').next_back().unwrap_or("").to_owned())
            .collect()
    };
    assert_eq!(order("-I FORWARD"), ["LOG", "ACCEPT", "DROP"], "at the top");
    assert_eq!(order("-I FORWARD 2"), ["LOG", "DROP", "ACCEPT"], "at a number");
    let error = Ruleset::from_iptables_save(&text("-I FORWARD 3"), Family::V4).expect_err("beyond the end");
    assert!(error.to_string().starts_with("line 4: no rule of this number"), "{error}");
}

/// A rule set with one chain of one base chain's rules.
fn filter(rules: &[&str]) -> Ruleset {
    let rules: String = rules.iter().flat_map(|rule| ["-A FORWARD ", rule, "\n"]).collect();
    read(&format!("*filter\n:FORWARD ACCEPT [0:0]\n:SUB - [0:0]\n-A SUB -j DROP\n{rules}COMMIT\n"))
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn matches_and_targets() {
    let cases: [(&str, &[&str], &str); 33] = [
        ("source network", &["-s 10.244.0.0/16 -j DROP"], "1 drop"),
        ("not that source", &["! -s 10.244.0.0/16 -j DROP"], "1 accept"),
        ("negation as it was written once", &["-s ! 10.244.0.0/16 -j DROP"], "1 accept"),
        ("a mask with holes", &["-s 10.0.1.0/255.0.255.0 -j DROP"], "1 drop"),
        ("in-interface by prefix", &["-i cni+ -j DROP"], "1 drop"),
        ("any interface", &["-i + -j DROP"], "1 drop"),
        ("another in-interface", &["! -i cni0 -j DROP"], "1 accept"),
        ("out-interface", &["-o eth0 -j DROP"], "1 drop"),
        ("port range", &["-p tcp -m tcp --dport 79:81 -j DROP"], "1 drop"),
        ("open port range", &["-p tcp -m tcp --sport :39999 -j DROP"], "1 accept"),
        ("multiport", &["-p tcp -m multiport --dports 22,79:80 -j DROP"], "1 drop"),
        ("multiport, either", &["-p tcp -m multiport --ports 40000 -j DROP"], "1 drop"),
        ("multiport, none", &["-p tcp -m multiport ! --dports 22,80 -j DROP"], "1 accept"),
        ("state", &["-m state --state NEW -j DROP"], "1 drop"),
        ("mark", &["-m mark --mark 0x1/0x1 -j DROP"], "1 accept"),
        ("mark that was set", &["-j MARK --set-xmark 0x3/0xff", "-m mark --mark 0x1/0x1 -j DROP"], "1 drop"),
        (
            "set-mark keeps other bits",
            &["-j MARK --or-mark 0x30", "-j MARK --set-mark 0x1/0xf", "-m mark --mark 0x31 -j DROP"],
            "1 drop",
        ),
        (
            "and-mark, xor-mark",
            &[
                "-j MARK --or-mark 7",
                "-j MARK --and-mark 6",
                "-j MARK --xor-mark 2",
                "-m mark --mark 4 -j DROP",
            ],
            "1 drop",
        ),
        (
            "mark through the connection",
            &[
                "-j MARK --or-mark 5",
                "-j CONNMARK --save-mark",
                "-j MARK --and-mark 0",
                "-j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0x4",
                "-m mark --mark 4 -j DROP",
            ],
            "1 drop",
        ),
        ("SYN", &["-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP"], "1 drop"),
        ("address range", &["-m iprange --src-range 10.244.1.1-10.244.1.9 -j DROP"], "1 drop"),
        ("destination type", &["-m addrtype --dst-type LOCAL -j DROP"], "1 accept"),
        ("every third", &["-m statistic --mode nth --every 3 --packet 0 -j DROP"], "1/3 drop; 2/3 accept"),
        ("not drawn", &["-m statistic --mode random ! --probability 0.25 -j DROP"], "1/4 accept; 3/4 drop"),
        (
            "logging goes on",
            &[
                "-j LOG --log-prefix \"a -j DROP\"",
                "-j NFLOG --nflog-group 1",
                "-j REJECT --reject-with tcp-reset",
            ],
            "1 reject",
        ),
        ("goto does not come back", &["-g SUB", "-j ACCEPT"], "1 drop"),
        ("return from a base chain: policy", &["-j RETURN", "-j DROP"], "1 accept"),
        (
            "original destination",
            &["-m conntrack --ctorigdst 192.0.2.0/24 --ctorigdstport 80 -j DROP"],
            "1 drop",
        ),
        (
            "an unknown match: both ways",
            &["-m set --match-set blocked src -j DROP"],
            "1 accept unless `-m set --match-set blocked src` holds; 1 drop if `-m set --match-set blocked src` holds",
        ),
        (
            "an unknown match that comes to nothing",
            &["-m limit --limit 3/min -j LOG --log-prefix x", "-j DROP"],
            "1 drop",
        ),
        (
            "an unknown target: it takes the packet, or not",
            &["-j NFQUEUE --queue-num 3", "-j DROP"],
            "1 UnknownTarget if NFQUEUE --queue-num 3 takes the packet; 1 drop unless NFQUEUE --queue-num 3 takes the packet",
        ),
        (
            "nothing of an unknown match is asked behind one that fails",
            &["-p udp -m set --match-set blocked src -j DROP"],
            "1 accept",
        ),
        ("all protocols", &["-p all -j DROP"], "1 drop"),
    ];
    for (name, rules, expected) in cases {
        check(&filter(rules), &node(), &[(name, "pod tcp 10.244.1.5 192.0.2.80:80", expected)]);
    }
}

#[test]
fn translations() {
    let cases: [(&str, &str, &str, &str); 7] = [
        (
            "an address keeps the port",
            "-j DNAT --to-destination 10.0.0.9",
            "pod tcp 10.244.1.5 192.0.2.80:80",
            "1 10.0.0.9:80",
        ),
        (
            "a range: each as likely",
            "-j DNAT --to-destination 10.0.0.8-10.0.0.9:81",
            "pod tcp 10.244.1.5 192.0.2.80:80",
            "1/2 10.0.0.8:81; 1/2 10.0.0.9:81",
        ),
        (
            "a port of the range stays",
            "-p tcp -j DNAT --to-destination 10.0.0.9:79-90",
            "pod tcp 10.244.1.5 192.0.2.80:80",
            "1 10.0.0.9:80",
        ),
        (
            "redirection from outside",
            "-p tcp -j REDIRECT --to-ports 8080",
            "outside tcp 192.0.2.7 192.168.50.1:80",
            "1 192.168.50.1:8080",
        ),
        (
            "redirection of the node's own (W1)",
            "-p tcp -j REDIRECT --to-ports 8765",
            "node tcp 127.0.0.1 127.0.0.1:8909",
            "1 127.0.0.1:8765",
        ),
        (
            "to one of too many",
            "-j DNAT --to-destination 10.0.0.0-10.9.0.0",
            "pod tcp 10.244.1.5 192.0.2.80:80",
            "1 UnknownAddress",
        ),
        (
            "the first translation counts",
            "-j DNAT --to-destination 10.0.0.9:1\n-A PREROUTING -j DROP",
            "pod tcp 10.244.1.5 192.0.2.80:80",
            "1 10.0.0.9:1",
        ),
    ];
    for (name, rule, line, expected) in cases {
        let text = format!(
            "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A PREROUTING {rule}\n-A OUTPUT {rule}\nCOMMIT\n"
        );
        check(&read(&text), &node(), &[(name, line, expected)]);
    }
}

#[test]
fn source_translation_by_address_or_interface() {
    let text = "*nat\n:POSTROUTING ACCEPT [0:0]\n\
                -A POSTROUTING -s 10.244.1.5/32 -j SNAT --to-source 192.168.50.77\n\
                -A POSTROUTING -o eth0 -j MASQUERADE\nCOMMIT\n";
    for (source, expected) in [("10.244.1.5", "192.168.50.77"), ("10.244.1.6", "192.168.50.1")] {
        let line = format!("pod tcp {source} 192.0.2.80:80");
        let answer = evaluate(&read(text), &node(), &packet(&line), Record::Nothing);
        assert!(answer.outcomes[0].masquerade);
        assert_eq!(answer.outcomes[0].source, expected.parse().ok(), "{line}");
    }
}

#[test]
fn ipv6() {
    let text = "*nat\n:PREROUTING ACCEPT [0:0]\n\
                -A PREROUTING -d fd00:10:96::1/128 -p tcp -m tcp --dport 80 -j DNAT --to-destination [fd00:244::7]:8080\n\
                -A PREROUTING ! -d ::1/128 -m addrtype --dst-type LOCAL -j DNAT --to-destination fd00:244::8\nCOMMIT\n";
    let rules = Ruleset::from_iptables_save(text, Family::V6).expect("a dump");
    let cases = [
        ("[fd00:10:96::1]:80", "1 [fd00:244::7]:8080"),
        ("[fd00:50::1]:443", "1 [fd00:244::8]:443"),
        ("[2001:db8::1]:80", "1 accept"),
    ];
    for (destination, expected) in cases {
        let mut asked = packet("pod tcp 10.0.0.1 10.0.0.2:1");
        asked.source = "[fd00:244::5]:40000".parse().expect("a source");
        asked.destination = destination.parse().expect("a destination");
        assert_eq!(written(&evaluate(&rules, &node(), &asked, Record::Nothing)), expected, "{destination}");
    }
}

#[test]
fn steps_say_why() {
    let answer = evaluate(&read(SPEC), &node(), &packet("pod udp 10.244.1.5 10.96.0.2:53"), Record::Steps);
    let rules = read(SPEC);
    let hits: Vec<String> = answer.outcomes[0].paths[0]
        .steps
        .iter()
        .filter(|step| step.kind == StepKind::Hit && step.hook == Hook::Prerouting)
        .map(|step| {
            let chain = &rules.tables()[step.table as usize].chains[step.chain as usize];
            format!("{}{}: {}", " ".repeat(step.depth as usize), chain.name, step.why)
        })
        .collect();
    assert_eq!(
        hits,
        [
            "PREROUTING: jump to KUBE-SERVICES",
            " KUBE-SERVICES: destination is 10.96.0.2, protocol is udp, destination port is 53, jump to KUBE-SVL-LLLLLLLLLLLLLLLL",
            "  KUBE-SVL-LLLLLLLLLLLLLLLL: jump to KUBE-SEP-L1LLLLLLLLLLLLLL",
            "   KUBE-SEP-L1LLLLLLLLLLLLLL: protocol is udp, destination becomes 10.244.1.12:5353",
        ]
    );
    let misses: Vec<&str> = answer.outcomes[0].paths[0]
        .steps
        .iter()
        .filter(|step| step.kind == StepKind::Miss && step.hook == Hook::Postrouting)
        .map(|step| step.why.as_str())
        .collect();
    assert!(misses.is_empty(), "the unmarked packet returns at once: {misses:?}");
}

#[test]
fn errors_name_the_line() {
    let cases = [
        ("no table", "-A INPUT -j DROP\n", "line 1: no table before it: `-A INPUT -j DROP`"),
        ("an undeclared chain", "*nat\n-A KUBE-X -j DROP\nCOMMIT\n", "line 2: chain KUBE-X was not declared"),
        ("a command", "*nat\n-X KUBE-X\nCOMMIT\n", "line 2: -X is not what it writes"),
        (
            "a quotation",
            "*nat\n-A PREROUTING -m comment --comment \"x\nCOMMIT\n",
            "line 2: a quotation without an end",
        ),
        (
            "an address",
            "*nat\n-A PREROUTING -s 10.0.0.300\nCOMMIT\n",
            "line 2: 10.0.0.300 is not an address or network",
        ),
        (
            "another family's address",
            "*nat\n-A PREROUTING -s fd00::1\nCOMMIT\n",
            "line 2: fd00::1 is not an IPv4 network",
        ),
        (
            "a probability",
            "*nat\n-A PREROUTING -m statistic --mode random --probability 2\nCOMMIT\n",
            "line 2: 2 is not a probability",
        ),
        ("a table in a table", "*nat\n*filter\nCOMMIT\n", "line 2: table nat has no COMMIT before it"),
        ("cut off", "*nat\n:PREROUTING ACCEPT [0:0]\n", "the text ends within table nat"),
        ("an escape sequence", "\u{1b}[2J\n", "line 1: no table before it: `\\u{1b}[2J`"),
    ];
    for (name, text, expected) in cases {
        let error: Error = Ruleset::from_iptables_save(text, Family::V4).expect_err(name);
        assert!(error.to_string().starts_with(expected), "{name}: {error}");
    }
}

#[test]
fn masquerading_takes_no_loopback_address() {
    let rules = read(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n",
    );
    let mut node = node();
    node.addresses.insert(0, ("127.0.0.1/8".parse().expect("a network"), "lo".into()));
    for (name, line, expected) in [
        ("the node to itself, by loopback", "node tcp 192.168.50.1 127.0.0.1:80", "192.168.50.1"),
        ("the node to its own address", "node tcp 10.244.1.1 10.244.1.1:80", "192.168.50.1"),
        ("the node to the world", "node tcp 10.244.1.1 192.0.2.80:80", "192.168.50.1"),
        ("the node to a pod", "node tcp 192.168.50.1 10.244.1.5:80", "10.244.1.1"),
    ] {
        let answer = evaluate(&rules, &node, &packet(line), Record::Nothing);
        let sources: Vec<_> = answer.outcomes.iter().map(|outcome| outcome.source).collect();
        assert_eq!(sources, [Some(expected.parse().expect("an address"))], "{name}: {line}");
    }
}

#[test]
fn translating_to_what_was_there_is_no_translation_to_connection_tracking() {
    let rules = read(
        "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j DNAT --to-destination 10.244.1.5:80\n\
         -A PREROUTING -j DNAT --to-destination 10.244.1.6\nCOMMIT\n\
         *filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m conntrack --ctstate DNAT -j DROP\nCOMMIT\n",
    );
    check(
        &rules,
        &node(),
        &[
            ("another address", "outside tcp 192.0.2.1 10.244.1.9:80", "1 drop"),
            ("another port", "outside tcp 192.0.2.1 10.244.1.5:81", "1 drop"),
            ("the same, and no later rule decides", "outside tcp 192.0.2.1 10.244.1.5:80", "1 10.244.1.5:80"),
        ],
    );
}

#[test]
fn what_the_raw_table_does_not_track() {
    let rules = read(
        "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp -j NOTRACK\n-A PREROUTING -p sctp -j CT --notrack\nCOMMIT\n\
         *filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m conntrack --ctstate UNTRACKED -j DROP\nCOMMIT\n",
    );
    check(
        &rules,
        &node(),
        &[
            ("NOTRACK", "pod udp 10.244.1.5 192.0.2.80:80", "1 drop"),
            ("CT --notrack", "pod sctp 10.244.1.5 192.0.2.80:80", "1 drop"),
            ("tracked", "pod tcp 10.244.1.5 192.0.2.80:80", "1 accept"),
        ],
    );
}

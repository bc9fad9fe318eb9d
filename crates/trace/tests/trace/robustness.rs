//! Whatever a dump says, it is read or refused, and every packet gets an answer.

use std::fmt::Write;

use portolan_trace::{
    Error, Family, IpSets, Node, Probability, Record, Ruleset, Undecided, Verdict, evaluate, printable,
};
use proptest::prelude::*;

use crate::notation::{node, packet};

const PACKETS: [&str; 5] = [
    "pod tcp 10.244.1.5 10.96.0.1:80",
    "outside udp 192.0.2.1 203.0.113.3:53",
    "node tcp 192.168.50.1 10.96.0.5:80",
    "outside tcp 192.0.2.1 192.168.50.1:30080",
    "established pod tcp 10.244.1.5 10.96.0.1:80",
];

/// Asks `rules` for every packet; under any circumstances the probabilities add up to one.
fn ask(rules: &Ruleset, holds: u64) {
    for line in PACKETS {
        let answer = evaluate(rules, &node(), &packet(line), Record::Nothing);
        let mut number = 0;
        let possible = answer.given(|_| {
            number += 1;
            holds >> (number % 64) & 1 == 1
        });
        let sum = possible.iter().fold(Probability::zero(), |sum, outcome| sum.or(&outcome.probability));
        assert!(sum.is_one(), "{line}: {sum} of {possible:?}");
    }
}

/// Whether a terminal would only print it.
fn harmless(text: &str) -> bool {
    printable(text) == text
}

/// What is read is asked, and shows nothing that a terminal would act upon; nor does what is said
/// of the rest.
fn judge(read: Result<Ruleset, Error>, holds: u64) {
    let rules = match read {
        Ok(rules) => rules,
        Err(error) => return assert!(harmless(&error.to_string()), "{error:?}"),
    };
    ask(&rules, holds);
    for table in rules.tables() {
        assert!(harmless(&table.name), "{:?}", table.name);
        for chain in &table.chains {
            assert!(harmless(&chain.name), "{:?}", chain.name);
            for rule in &chain.rules {
                assert!(harmless(&rule.text) && rule.comment.as_deref().is_none_or(harmless), "{rule:?}");
            }
        }
    }
    for said in Family::ALL.iter().flat_map(|family| rules.left_out(*family)) {
        assert!(harmless(&said), "{said:?}");
    }
}

fn lines_with(text: &str, word: &str) -> String {
    text.lines().filter(|line| line.contains(word)).collect::<Vec<_>>().join("\n")
}

const SETS: &str = "create hosts hash:ip family inet\nadd hosts 192.0.2.1\nadd hosts 192.0.2.8/30\n\
                    create frontends hash:ip,port family inet\nadd frontends 10.96.0.1,tcp:80\n\
                    create all list:set size 8\nadd all hosts\nadd all all\nName: x\nType: hash:net\nMembers:\n10.0.0.0/8";
const ADDRESSES: &str = "1: lo: <LOOPBACK,UP> mtu 65536\n    inet 127.0.0.1/8 scope host lo\n2: eth0@if5: <UP> mtu 1500\n\
                         inet 10.0.0.5/24 brd 10.0.0.255 scope global eth0\ncni0 UP 10.244.1.1/24 fd00::1/64";
const ROUTES: &str = "default via 10.0.0.1 dev eth0 proto dhcp metric 100\n10.244.1.0/24 dev cni0 proto kernel\n\
                      unreachable 10.9.0.0/16\ndefault proto static\n\tnexthop via 10.0.0.1 dev eth0 weight 1";

/// Text with some lines cut, doubled, swapped or with some bytes changed.
fn mutated(text: &'static str) -> impl Strategy<Value = String> {
    let lines: Vec<&str> = text.lines().collect();
    let count = lines.len();
    prop::collection::vec((0..count, 0..count, 0..6u8, any::<prop::sample::Index>(), "[ -~]{0,6}"), 0..8)
        .prop_map(move |changes| {
            let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            for (a, b, how, at, word) in changes {
                match how {
                    0 => lines.swap(a, b),
                    1 => {
                        let line = lines[b].clone();
                        lines[a] = line;
                    }
                    2 => lines[a].clear(),
                    _ => {
                        let mut words: Vec<String> = lines[a].split(' ').map(str::to_owned).collect();
                        let place = at.index(words.len());
                        match how {
                            3 => words[place] = word,
                            4 => {
                                let other = lines[b].split(' ').next_back().unwrap_or("").to_owned();
                                words[place] = other;
                            }
                            _ => {
                                words.remove(place);
                            }
                        }
                        lines[a] = words.join(" ");
                    }
                }
            }
            lines.join("\n")
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn mutated_iptables_dumps(text in mutated(include_str!("../dumps/spec.iptables-save")), holds: u64) {
        if let Ok(rules) = Ruleset::from_iptables_save(&text, Family::V4) {
            ask(&rules, holds);
        }
    }

    #[test]
    fn mutated_nft_listings(text in mutated(include_str!("../dumps/kube-proxy.nft.json")), holds: u64) {
        if let Ok(rules) = Ruleset::from_nft_json(&text) {
            ask(&rules, holds);
        }
    }

    #[test]
    fn mutated_listings_of_many_expressions(text in mutated(include_str!("../dumps/expressions.nft.json")), holds: u64) {
        if let Ok(rules) = Ruleset::from_nft_json(&text) {
            ask(&rules, holds);
        }
    }

    #[test]
    fn mutated_output_of_iptables_in_every_form(
        commands in mutated(include_str!("../dumps/forms/spec.iptables-S")),
        listed in mutated(include_str!("../dumps/forms/spec.iptables-L")),
        saved in mutated(include_str!("../dumps/forms/spec.iptables-save")),
        holds: u64,
    ) {
        for text in [commands, listed, saved] {
            for part in [text.clone(), lines_with(&text, "KUBE"), lines_with(&text, "shop")] {
                judge(Ruleset::from_iptables(&part, &IpSets::default()), holds);
            }
        }
    }

    #[test]
    fn mutated_text_of_nft(
        one in mutated(include_str!("../dumps/forms/kube-proxy.nft")),
        other in mutated(include_str!("../dumps/forms/expressions.nft")),
        third in mutated(include_str!("../dumps/forms/spec.nft")),
        holds: u64,
    ) {
        for text in [one, other, third] {
            judge(Ruleset::from_nft_text(&text), holds);
        }
    }

    #[test]
    fn mutated_output_about_the_node(
        sets in mutated(SETS),
        addresses in mutated(ADDRESSES),
        routes in mutated(ROUTES),
        control in "[\u{1b}\u{202e}\t a-z0-9.:/]{0,12}",
        holds: u64,
    ) {
        let found = Node::addresses_from(&(addresses + &control)).into_iter().chain(Node::routes_from(&(routes + &control)));
        for (_, interface) in found.flatten() {
            prop_assert!(harmless(&interface), "{interface:?}");
        }
        if let Ok(sets) = IpSets::from_text(&(sets + &control)) {
            let rules = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m set --match-set hosts src -j DROP\n\
                         -A FORWARD -m set ! --match-set frontends dst,dst -j DROP\n-A FORWARD -m set --match-set all src -j DROP\nCOMMIT\n";
            judge(Ruleset::from_iptables(rules, &sets), holds);
        }
    }

    #[test]
    fn any_text_in_every_form(text in "\\PC{0,80}[\u{1b}\u{9b}\u{202e}]\\PC{0,80}", holds: u64) {
        for frame in [
            format!("Chain INPUT (policy ACCEPT)\ntarget     prot opt source               destination\n{text}\n"),
            format!("Chain INPUT (policy ACCEPT)\ntarget     prot opt source               destination\nDROP all -- 0.0.0.0/0 0.0.0.0/0 {text}\n"),
            format!("-P INPUT ACCEPT\n-A INPUT {text}\n"),
            format!("-A KUBE-SERVICES {text}\n{text}\n"),
        ] {
            judge(Ruleset::from_iptables(&frame, &IpSets::default()), holds);
        }
        for frame in [
            format!("table ip t {{\n\tchain c {{\n\t\ttype filter hook forward priority 0; policy accept;\n\t\t{text}\n\t}}\n}}\n"),
            format!("table inet t {{\n\tset s {{\n\t\ttype ipv4_addr\n\t\telements = {{ {text} }}\n\t}}\n}}\n"),
            format!("table {text} {{\n}}\n"),
        ] {
            judge(Ruleset::from_nft_text(&frame), holds);
        }
    }

    #[test]
    fn any_text(text in "\\PC{0,200}", holds: u64) {
        if let Ok(rules) = Ruleset::from_iptables_save(&format!("*nat\n-A OUTPUT {text}\nCOMMIT"), Family::V4) {
            ask(&rules, holds);
        }
    }
}

#[test]
fn circles_end() {
    let text = "*nat\n:OUTPUT ACCEPT [0:0]\n:A - [0:0]\n:B - [0:0]\n:C - [0:0]\n-A OUTPUT -p tcp -j A\n-A OUTPUT -p udp -g C\n\
                -A A -j B\n-A B -j A\n-A C -g C\nCOMMIT\n";
    let rules = Ruleset::from_iptables_save(text, Family::V4).expect("a dump");
    let cases = [("calls", "tcp", Undecided::TooDeep), ("gotos", "udp", Undecided::TooMany)];
    for (name, protocol, why) in cases {
        let line = format!("node {protocol} 192.168.50.1 192.0.2.1:80");
        let answer = evaluate(&rules, &node(), &packet(&line), Record::Nothing);
        assert_eq!(answer.outcomes.len(), 1, "{name}");
        assert_eq!(answer.outcomes[0].verdict, Verdict::Undecided(why), "{name}");
    }
}

#[test]
fn a_flood_of_conditions_ends() {
    let mut rules = String::new();
    for set in 0..200 {
        writeln!(rules, "-A FORWARD -m set --match-set s{set} src -j MARK --xor-mark {set}").expect("room");
    }
    let text = format!("*filter\n:FORWARD ACCEPT [0:0]\n{rules}COMMIT\n");
    let rules = Ruleset::from_iptables_save(&text, Family::V4).expect("a dump");
    ask(&rules, 0x5555_5555_5555_5555);
}

#[test]
fn a_flood_of_draws_is_exact() {
    let mut rules = String::new();
    for left in (1..=1000).rev() {
        let probability = 1.0 / f64::from(left);
        let to = format!("10.0.{}.{}:80", left / 250, left % 250);
        let draw = format!("-m statistic --mode random --probability {probability:.11}");
        writeln!(rules, "-A PREROUTING {draw} -j DNAT --to-destination {to}").expect("room");
    }
    let text = format!("*nat\n:PREROUTING ACCEPT [0:0]\n{rules}COMMIT\n");
    let rules = Ruleset::from_iptables_save(&text, Family::V4).expect("a dump");
    let answer = evaluate(&rules, &node(), &packet("pod tcp 10.244.1.5 10.96.0.1:80"), Record::Nothing);
    assert_eq!(answer.outcomes.len(), 1000);
    let sum = answer.outcomes.iter().fold(Probability::zero(), |sum, outcome| sum.or(&outcome.probability));
    assert!(sum.is_one());
}

//! Whatever a dump says, it is read or refused, and every packet gets an answer.

use std::fmt::Write;

use portolan_trace::{Family, Probability, Record, Ruleset, Undecided, Verdict, evaluate};
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

//! JSON of nft: whatever it is, it is read or refused, and packets get answers that add up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_trace::{Entry, Node, Packet, Probability, Protocol, Record, Ruleset, evaluate};

fuzz_target!(|text: &str| {
    let rules = match Ruleset::from_nft_json(text) {
        Ok(rules) => rules,
        Err(error) => return assert!(!error.to_string().contains(char::is_control), "{error}"),
    };
    let node = Node {
        addresses: vec![("192.168.50.1/24".parse().unwrap(), "eth0".into())],
        routes: vec![("0.0.0.0/0".parse().unwrap(), "eth0".into())],
    };
    for (source, destination, protocol, entry, record) in [
        (
            "10.244.1.5:40000",
            "10.96.0.1:80",
            Protocol::Tcp,
            Entry::Prerouting { interface: Some("cni0".into()) },
            Record::Nothing,
        ),
        ("192.168.50.1:40000", "203.0.113.3:53", Protocol::Udp, Entry::Output, Record::Steps),
    ] {
        let packet = Packet::new(source.parse().unwrap(), destination.parse().unwrap(), protocol, entry);
        let answer = evaluate(&rules, &node, &packet, record);
        for holds in [false, true] {
            let possible = answer.given(|_| holds);
            let sum = possible.iter().fold(Probability::zero(), |sum, outcome| sum.or(&outcome.probability));
            assert!(sum.is_one(), "{sum}");
        }
        for step in answer.outcomes.iter().flat_map(|outcome| &outcome.paths).flat_map(|path| &path.steps) {
            assert!(!step.why.contains(char::is_control), "{}", step.why);
        }
        for condition in &answer.conditions {
            assert!(!condition.text.contains(char::is_control), "{}", condition.text);
        }
    }
});

//! What the answers about a rule set must be like, whoever wrote the rules.

use portolan_trace::{Entry, Error, Node, Packet, Probability, Protocol, Record, Ruleset, evaluate};

/// Packets through what was read get answers that add up and can be printed; so can the reason why
/// nothing was read.
pub fn check_rules(read: Result<Ruleset, Error>) {
    let rules = match read {
        Ok(rules) => rules,
        Err(error) => return assert!(!error.to_string().contains(char::is_control), "{error}"),
    };
    let node = Node {
        addresses: vec![("192.168.50.1/24".parse().unwrap(), "eth0".into())],
        routes: vec![("0.0.0.0/0".parse().unwrap(), "eth0".into())],
        ..Node::default()
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
}

//! Packets and answers in a line.

use std::collections::BTreeSet;

use portolan_trace::{
    Answer, Entry, Node, Outcome, Packet, Protocol, Record, Ruleset, State, Verdict, evaluate,
};

/// `[established|invalid] FROM PROTOCOL SOURCE DESTINATION`: from `pod` (through cni0), `outside`
/// (through eth0), or `node`.
pub(crate) fn packet(line: &str) -> Packet {
    let mut words = line.split(' ');
    let mut word = || words.next().unwrap_or_else(|| panic!("`{line}` has five words"));
    let mut from = word();
    let state = match from {
        "established" => State::Established,
        "invalid" => State::Invalid,
        _ => State::New,
    };
    if state != State::New {
        from = word();
    }
    let entry = match from {
        "pod" => Entry::Prerouting { interface: Some("cni0".into()) },
        "outside" => Entry::Prerouting { interface: Some("eth0".into()) },
        "node" => Entry::Output,
        other => panic!("{other} is no place"),
    };
    let protocol = match word() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => panic!("{other} is no protocol"),
    };
    let source = format!("{}:40000", word()).parse().expect("a source");
    let destination = word().parse().expect("a destination");
    Packet { state, ..Packet::new(source, destination, protocol, entry) }
}

/// A node with one outer address, and pods of its own behind cni0.
pub(crate) fn node() -> Node {
    let network = |text: &str| text.parse().expect("a network");
    Node {
        addresses: vec![
            (network("192.168.50.1/24"), "eth0".into()),
            (network("10.244.1.1/24"), "cni0".into()),
            (network("fd00:50::1/64"), "eth0".into()),
        ],
        routes: vec![(network("0.0.0.0/0"), "eth0".into()), (network("::/0"), "eth0".into())],
        ..Node::default()
    }
}

/// `1/2 VERDICT [masq]` for each outcome, in order, then `if ...` for its conditions.
pub(crate) fn written(answer: &Answer) -> String {
    let lines: BTreeSet<String> = answer.outcomes.iter().map(|outcome| line(answer, outcome)).collect();
    lines.into_iter().collect::<Vec<_>>().join("; ")
}

fn line(answer: &Answer, outcome: &Outcome) -> String {
    let verdict = match outcome.verdict {
        Verdict::Forward(endpoint) => endpoint.to_string(),
        Verdict::ToNode { port } => format!("own port {port}"),
        Verdict::Accept => "accept".to_owned(),
        Verdict::Stopped { by, towards } => format!("{by:?} towards {}", towards.ip()),
        Verdict::Reject => "reject".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Undecided(why) => format!("{why:?}"),
    };
    let masquerade = if outcome.masquerade { " masq" } else { "" };
    let mut text = format!("{} {verdict}{masquerade}", outcome.probability);
    for assumed in &outcome.conditions {
        let condition = &answer.conditions[assumed.condition as usize];
        text.push_str(if assumed.holds { " if " } else { " unless " });
        text.push_str(&condition.text);
    }
    text
}

/// Each case is a name, a packet, and what becomes of it. That is the same whether the way is
/// recorded or not.
pub(crate) fn check(rules: &Ruleset, node: &Node, cases: &[(&str, &str, &str)]) {
    for (name, line, expected) in cases {
        let actual = written(&evaluate(rules, node, &packet(line), Record::Nothing));
        assert_eq!(actual, *expected, "{name}: {line}");
        let recorded = written(&evaluate(rules, node, &packet(line), Record::Steps));
        assert_eq!(recorded, *expected, "{name}, recorded: {line}");
    }
}

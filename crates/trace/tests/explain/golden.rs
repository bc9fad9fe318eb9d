//! Explanations as people get them: each golden file is a document to be read.

use std::path::Path;

use portolan_trace::explain::{Explanation, Services, Style, explain};
use portolan_trace::{Family, Node, Record, Ruleset, evaluate};

use crate::notation::{node, packet};

const SPEC: &str = include_str!("../dumps/spec.iptables-save");
const NODE_OF_2017: &str = include_str!("../dumps/node-of-2017.iptables-save");
const PORTOLAN: &str = include_str!("../dumps/portolan.nft.json");
const KUBE_PROXY: &str = include_str!("../dumps/kube-proxy.nft.json");

fn iptables(text: &str) -> Ruleset {
    Ruleset::from_iptables_save(text, Family::V4).expect("a dump")
}

fn nft(text: &str) -> Ruleset {
    Ruleset::from_nft_json(text).expect("a listing")
}

fn explained(ruleset: &Ruleset, node: &Node, line: &str, services: &Services) -> Explanation {
    let packet = packet(line);
    let answer = evaluate(ruleset, node, &packet, Record::Steps);
    explain(ruleset, node, &packet, &answer, services)
}

/// Compares with the golden file; `UPDATE_GOLDEN=1` writes it, to be read before it is committed.
fn check(file: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/explain/golden").join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).expect("the golden file is written");
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{file}: see UPDATE_GOLDEN in tests/explain/golden.rs");
}

const PLAIN: Style = Style { colour: false, verbose: false, width: 120 };

#[test]
fn iptables_of_today() {
    let rules = iptables(SPEC);
    let cases = [
        ("cluster-ip-from-pod", "pod tcp 10.244.1.5 10.96.0.1:80"),
        ("cluster-ip-from-node", "node tcp 192.168.50.1 10.96.0.1:80"),
        ("hairpin", "pod tcp 10.244.1.11 10.96.0.1:80"),
        ("node-port-from-outside", "outside tcp 192.0.2.1 192.168.50.1:30080"),
        ("node-port-on-loopback", "node tcp 127.0.0.1 127.0.0.1:30080"),
        ("source-range-outside", "outside tcp 192.0.2.1 203.0.113.2:80"),
        ("local-policy-without-endpoint", "outside tcp 192.0.2.1 203.0.113.4:80"),
        ("no-endpoints", "pod tcp 10.244.1.5 10.96.0.4:80"),
        ("another-protocol", "pod udp 10.244.1.5 10.96.0.1:80"),
        ("unknown-port", "pod tcp 10.244.1.5 10.96.0.1:81"),
        ("affinity", "pod tcp 10.244.1.5 10.96.0.5:80"),
        ("established", "established pod tcp 10.244.1.5 10.96.0.1:80"),
        ("health-check-port", "outside tcp 192.0.2.1 192.168.50.1:32100"),
        ("policy-of-forward", "outside tcp 192.0.2.1 198.51.100.1:80"),
        ("no-node-port", "outside tcp 192.0.2.1 192.168.50.1:31999"),
    ];
    for (name, line) in cases {
        let told = explained(&rules, &node(), line, &Services::default());
        check(&format!("iptables-{name}.txt"), &told.text(PLAIN));
    }
}

//! Tables of iptables-nft: what iptables-save prints of them is held against the kernel's own
//! rules. The tool passes over conditions that only nft can have written (a set of ports, a field
//! that it has no option for) without a word.

use std::collections::HashMap;

use portolan_trace::Ruleset;
use portolan_trace::ruleset::{Part as RulePart, Table, Test};
use serde_json::{Value, json};

/// A rule of which iptables-save has printed a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) chain: String,
    /// Counted from 0.
    pub(crate) rule: usize,
    /// What is missing, in words.
    pub(crate) missing: String,
    /// What is missing, as nft lists it.
    statements: Vec<Value>,
}

impl Part {
    /// What the rule asks besides what was printed. What a named set holds is not known here.
    pub(crate) fn tests(&self) -> Vec<Test> {
        let listing = json!({"nftables": [
            {"table": {"family": "inet", "name": "t"}},
            {"chain": {"family": "inet", "table": "t", "name": "c"}},
            {"rule": {"family": "inet", "table": "t", "chain": "c", "expr": self.statements}},
        ]});
        let read = Ruleset::from_nft_listing(&listing).ok();
        let parts =
            read.as_ref().and_then(|read| read.tables()[0].chains[0].rules.first()).map(|rule| &rule.parts);
        let tests = parts.into_iter().flatten().map(|part| match part {
            RulePart::Test(test @ Test::Compare { .. }) => Some(test.clone()),
            _ => None,
        });
        match tests.collect::<Option<Vec<Test>>>() {
            Some(tests) if !tests.is_empty() => tests,
            _ => vec![Test::Unknown(format!("{}, which iptables-save does not print", self.missing).into())],
        }
    }
}

/// The rules of `saved` that have fewer conditions than those of `listing`, which `nft -j list
/// table` has printed of the same table. `None` if these are not the same rules at all.
pub(crate) fn parts(listing: &Value, saved: &Table) -> Option<Vec<Part>> {
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut parts = Vec::new();
    let objects = listing.get("nftables").and_then(Value::as_array)?;
    for rule in objects.iter().filter_map(|object| object.get("rule")) {
        let chain = rule.get("chain").and_then(Value::as_str)?;
        let number = numbers.entry(chain).or_default();
        let of_saved = saved.chains.iter().find(|it| &*it.name == chain)?.rules.get(*number)?;
        let options: Vec<&str> = of_saved.text.split_ascii_whitespace().collect();
        let statements = rule.get("expr").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let found: Vec<(String, &Value)> = statements
            .iter()
            .filter_map(|statement| Some((missing(statement, &options)?, statement)))
            .collect();
        if !found.is_empty() {
            let missing: Vec<&str> = found.iter().map(|(words, _)| words.as_str()).collect();
            parts.push(Part {
                chain: chain.to_owned(),
                rule: *number,
                missing: missing.join(", "),
                statements: found.iter().map(|(_, statement)| (*statement).clone()).collect(),
            });
        }
        *number += 1;
    }
    let same =
        saved.chains.iter().all(|chain| numbers.get(&*chain.name).copied().unwrap_or(0) == chain.rules.len());
    same.then_some(parts)
}

/// What `statement` asks, if no option of iptables asks for it.
fn missing(statement: &Value, options: &[&str]) -> Option<String> {
    let (kind, body) = statement.as_object()?.iter().next()?;
    match kind.as_str() {
        "match" => {
            let (left, right) = (body.get("left")?, body.get("right")?);
            let (name, asked_by) = field(left);
            let looks_up =
                right.get("set").is_some() || right.as_str().is_some_and(|name| name.starts_with('@'));
            let has = |names: &[&str]| options.iter().any(|option| names.contains(option));
            // Several ports are a match of their own in iptables, which nft does not show as a set.
            let asked = if looks_up { has(&["--dports", "--sports", "--ports"]) } else { has(asked_by) };
            (!asked).then(|| {
                if looks_up { format!("{name} is in a set of nft") } else { format!("{name} is as nft says") }
            })
        }
        "vmap" | "dnat" | "snat" | "redirect" | "masquerade" | "quota" | "ct count" | "numgen" => {
            Some(kind.clone())
        }
        _ => None,
    }
}

/// A field, in words, and the options of iptables that ask for it.
fn field(left: &Value) -> (String, &'static [&'static str]) {
    let left = left.get("&").and_then(|masked| masked.get(0)).unwrap_or(left);
    let text = |pointer: &str| left.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (protocol, payload, meta, ct) =
        (text("/payload/protocol"), text("/payload/field"), text("/meta/key"), text("/ct/key"));
    let options: &[&str] = match (payload, meta, ct) {
        ("saddr", "", "") => &["-s"],
        ("daddr", "", "") => &["-d"],
        ("protocol" | "nexthdr", "", "") | ("", "l4proto", "") => &["-p"],
        ("", "iifname" | "iif", "") => &["-i"],
        ("", "oifname" | "oif", "") => &["-o"],
        ("sport", "", "") => &["--sport", "--sports", "--ports"],
        ("dport", "", "") => &["--dport", "--dports", "--ports"],
        ("flags", "", "") => &["--tcp-flags", "--syn"],
        ("type", "", "") => &["--icmp-type", "--icmpv6-type"],
        ("ttl" | "hoplimit", "", "") => &["--ttl-eq", "--hl-eq"],
        ("", "mark", "") => &["--mark"],
        ("", "pkttype", "") => &["--pkt-type"],
        ("", "", "state") => &["--ctstate", "--state"],
        _ => &[],
    };
    let words: Vec<&str> =
        [protocol, payload, meta, ct].into_iter().filter(|word| !word.is_empty()).collect();
    let name = if words.is_empty() { "something".to_owned() } else { words.join(" ") };
    (name, options)
}

#[cfg(test)]
mod tests {
    use portolan_trace::Family;

    use super::*;

    fn listing(rules: &[Value]) -> Value {
        let rules: Vec<Value> =
            rules.iter().map(|rule| json!({"rule": {"chain": "INPUT", "expr": rule}})).collect();
        json!({"nftables": rules})
    }

    #[test]
    fn conditions_that_iptables_save_passes_over() {
        let payload =
            |protocol: &str, field: &str| json!({"payload": {"protocol": protocol, "field": field}});
        let is = |left: Value, right: Value| json!({"match": {"op": "==", "left": left, "right": right}});
        let drop = json!({"drop": null});
        let of = |rule: &str, expressions: Value| {
            let text = format!("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT {rule}\nCOMMIT\n");
            let saved = Ruleset::from_iptables_save(&text, Family::V4).unwrap();
            let found = parts(&listing(&[expressions]), &saved.tables()[0])?;
            Some(found.iter().map(|part| (part.missing.clone(), part.tests())).collect::<Vec<_>>())
        };
        for (situation, rule, expressions, expected) in [
            (
                "all is printed",
                "-p tcp -m tcp --dport 80 -j DROP",
                json!([is(payload("tcp", "dport"), json!(80)), drop]),
                None,
            ),
            (
                "a set of ports",
                "-p tcp -j DROP",
                json!([is(payload("tcp", "dport"), json!({"set": [80, 443]})), drop]),
                Some(("tcp dport is in a set of nft", true)),
            ),
            (
                "a named set",
                "-j DROP",
                json!([is(payload("ip", "saddr"), json!("@blocked")), drop]),
                Some(("ip saddr is in a set of nft", false)),
            ),
            (
                "a field without option",
                "-j DROP",
                json!([is(payload("ip", "length"), json!(3)), drop]),
                Some(("ip length is as nft says", false)),
            ),
            (
                "the matches of iptables have names only",
                "-m multiport --dports 80,443 -j DROP",
                json!([{"xt": {"type": "match", "name": "multiport"}}, drop]),
                None,
            ),
        ] {
            let found = of(rule, expressions).expect(situation);
            let missing = found.first().map(|(words, tests)| {
                (words.as_str(), !tests.iter().any(|test| matches!(test, Test::Unknown(_))))
            });
            assert_eq!(missing, expected, "{situation}");
        }
        let two = listing(&[json!([drop]), json!([drop])]);
        let saved = Ruleset::from_iptables_save(
            "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j DROP\nCOMMIT\n",
            Family::V4,
        )
        .unwrap();
        assert!(parts(&two, &saved.tables()[0]).is_none(), "a rule that is not printed at all");
    }
}

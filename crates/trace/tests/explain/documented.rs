//! docs/trace.md describes the JSON: every field that it names exists, and it names every field
//! that exists.

use std::collections::BTreeSet;

use portolan_trace::explain::Services;
use serde_json::Value;

use crate::golden::{explained, flat, shop, spec};
use crate::notation::node;

const MANUAL: &str = include_str!("../../../../docs/trace.md");

/// The names in backquotes at the beginning of the table rows of section JSON.
fn documented() -> BTreeSet<String> {
    let (_, section) = MANUAL.split_once("\n## JSON\n").expect("docs/trace.md has a section JSON");
    let section = section.split("\n## ").next().unwrap_or(section);
    section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

fn names(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                // Steps are within steps: their fields are described once.
                let inner = if path == "steps[].steps[].arms[].steps[]" { "steps[].steps[]" } else { path };
                let path = if inner.is_empty() { name.clone() } else { format!("{inner}.{name}") };
                found.insert(path.clone());
                names(value, &path, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| names(value, &format!("{path}[]"), found)),
        _ => {}
    }
}

#[test]
fn fields_are_those_that_the_manual_names() {
    let mut found = BTreeSet::new();
    for (rules, line) in [
        (spec(), "node tcp 192.168.50.1 10.96.0.1:80"),
        (spec(), "pod tcp 10.244.1.5 10.96.0.4:80"),
        (spec(), "pod tcp 10.244.1.5 10.96.0.5:80"),
        (spec(), "outside tcp 192.0.2.1 198.51.100.1:80"),
        (flat(), "pod tcp 10.244.1.7 10.96.0.5:80"),
    ] {
        for services in [Services::default(), shop()] {
            let answer = explained(&rules, &node(), line, &services);
            names(&serde_json::to_value(&answer).expect("JSON"), "", &mut found);
        }
    }
    let documented = documented();
    let unknown: Vec<&String> = documented.difference(&found).collect();
    let untold: Vec<&String> = found.difference(&documented).collect();
    // These are empty or absent in all the examples, but part of the interface.
    let rare =
        ["endpoints[].conditions[].condition", "endpoints[].conditions[].holds", "endpoints[].is_proxy"];
    let unknown: Vec<_> = unknown.into_iter().filter(|name| !rare.contains(&name.as_str())).collect();
    assert!(unknown.is_empty(), "in the manual, not in the JSON: {unknown:?}");
    assert!(untold.is_empty(), "in the JSON, not in the manual: {untold:?}");
}

//! The end of a namespace, and what every one has.

use serde::Deserialize;
use serde_json::{Map, json};

use super::circumstances::Circumstances;
use super::object::{Anything, Condition, Object, set_condition};
use super::write::{Propagation, Step, Write};

/// A Namespace.
pub type Namespace = Object<NamespaceSpec, NamespaceStatus>;

/// `spec` of a Namespace.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NamespaceSpec {
    finalizers: Vec<String>,
}

/// `status` of a Namespace.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NamespaceStatus {
    phase: String,
    conditions: Vec<Condition>,
}

/// What keeps a namespace until it is empty.
const FINALIZER: &str = "kubernetes";

/// Empties a namespace that has been deleted, and lets it go when it is empty. A living one gets
/// the ServiceAccount `default`.
///
/// `content` is everything that is in it, of whatever kind.
pub fn namespace<'a>(
    namespace: &Namespace,
    content: impl IntoIterator<Item = &'a Anything>,
    circumstances: &Circumstances<'_>,
) -> Step {
    let mut step = Step::default();
    let content: Vec<&Anything> =
        content.into_iter().filter(|object| object.namespace() == namespace.name()).collect();
    if !namespace.is_deleting() {
        let is_account = |object: &&&Anything| object.kind == "ServiceAccount" && object.name() == "default";
        if !content.iter().any(|object| is_account(&object)) {
            step.writes.push(Write::Create(json!({
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": { "name": "default", "namespace": namespace.name() },
            })));
        }
        return step;
    }
    for object in content.iter().filter(|object| !object.is_deleting()) {
        step.delete(object.target(), Propagation::Background);
    }
    if content.is_empty() {
        let others = namespace.spec.finalizers.iter().filter(|finalizer| *finalizer != FINALIZER);
        let others: Vec<&String> = others.collect();
        if others.len() < namespace.spec.finalizers.len() {
            step.update(namespace.target(), json!({ "spec": { "finalizers": others } }));
        }
        return step;
    }
    let mut conditions = namespace.status.conditions.clone();
    for condition in remaining(&content, circumstances) {
        set_condition(&mut conditions, condition);
    }
    if conditions != namespace.status.conditions || namespace.status.phase != "Terminating" {
        let status = json!({ "phase": "Terminating", "conditions": conditions });
        step.status(namespace.target(), Some(status));
    }
    step
}

/// What is still there, and what for.
fn remaining(content: &[&Anything], circumstances: &Circumstances<'_>) -> [Condition; 2] {
    let list = |named: Vec<&str>| {
        let mut counts: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
        for name in named {
            *counts.entry(name).or_default() += 1;
        }
        let listed = counts.into_iter().map(|(name, count)| format!("{name} has {count} resource instances"));
        listed.collect::<Vec<_>>().join(", ")
    };
    let kinds = list(content.iter().map(|object| object.kind.as_str()).collect());
    let held = content.iter().flat_map(|object| &object.metadata.finalizers);
    let held = list(held.map(String::as_str).collect()).replace(" has ", " in ");
    let condition =
        |kind: &str, reasons: (&str, &str), (is_there, message): (bool, String), none: &str| Condition {
            kind: kind.to_owned(),
            status: if is_there { "True" } else { "False" }.to_owned(),
            last_update_time: None,
            last_transition_time: Some(circumstances.now),
            reason: if is_there { reasons.0 } else { reasons.1 }.to_owned(),
            message: if is_there { message } else { none.to_owned() },
            more: Map::new(),
        };
    [
        condition(
            "NamespaceContentRemaining",
            ("SomeResourcesRemain", "ContentRemoved"),
            (true, format!("Some resources are remaining: {kinds}")),
            "All content successfully removed",
        ),
        condition(
            "NamespaceFinalizersRemaining",
            ("SomeFinalizersRemain", "ContentHasNoFinalizers"),
            (!held.is_empty(), format!("Some content in the namespace has finalizers remaining: {held}")),
            "All content-preserving finalizers finished",
        ),
    ]
}

//! What a server fills in.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Value, json};

use crate::clock::uuid;
use crate::resource::Resource;

/// An object with the namespace, identity and time of creation that it lacks.
pub(crate) fn filled(resource: Resource, mut object: Value) -> Value {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return object };
    if resource.namespaced() {
        metadata.entry("namespace").or_insert_with(|| json!("default"));
    } else {
        metadata.remove("namespace");
    }
    let text = |field: &str| metadata.get(field).and_then(Value::as_str).unwrap_or_default();
    let identity = uid(resource, text("namespace"), text("name"));
    metadata.entry("uid").or_insert_with(|| json!(identity));
    metadata.entry("creationTimestamp").or_insert_with(|| json!("2026-05-04T09:17:31Z"));
    object
}

/// An identity that stays the same for the same name.
fn uid(resource: Resource, namespace: &str, name: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (resource, namespace, name).hash(&mut hasher);
    let high = hasher.finish();
    high.hash(&mut hasher);
    uuid(high, hasher.finish())
}

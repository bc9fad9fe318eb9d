//! What every object has.

use serde_json::Value;

/// Namespace and name.
pub(crate) type Key = (String, String);

/// A text; empty if it is none.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Its namespace, empty for none, and its name.
pub(crate) fn place(object: &Value) -> (&str, &str) {
    (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]))
}

/// What it is called in the lab: the namespace is left out where it is `default`.
pub(crate) fn short_name(namespace: &str, name: &str) -> String {
    match namespace {
        "" | "default" => name.to_owned(),
        namespace => format!("{namespace}/{name}"),
    }
}

//! What every object has.

use serde_json::Value;

/// Namespace and name.
pub(crate) type Key = (String, String);

/// A text; empty if it is none.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The entries of a list; none if it is none.
pub(crate) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Whether the condition `Ready` of a pod or node holds.
pub(crate) fn is_ready(object: &Value) -> bool {
    items(&object["status"]["conditions"]).any(|one| one["type"] == "Ready" && one["status"] == "True")
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

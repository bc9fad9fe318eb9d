//! `scale`: how many pods there are and shall be.

use serde_json::{Value, json};

use crate::labels::selector_text;
use crate::value::number;

/// The Scale of an object.
pub(crate) fn scale_of(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut own = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        own[field] = metadata[field].clone();
    }
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": own,
        "spec": { "replicas": number(object, "/spec/replicas").unwrap_or(0) },
        "status": {
            "replicas": number(object, "/status/replicas").unwrap_or(0),
            "selector": selector_text(&object["spec"]["selector"]),
        },
    })
}

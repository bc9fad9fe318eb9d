//! Pod templates: whether two are the same, and the hash that names what is made of one.

use serde_json::Value;

use super::object::without_nulls;

/// The label by which the pods of a Deployment's ReplicaSets differ.
pub(crate) const TEMPLATE_HASH: &str = "pod-template-hash";

/// Whether two templates describe the same pods, but for the label with the hash.
pub(crate) fn is_same(a: &Value, b: &Value) -> bool {
    plain(a) == plain(b)
}

/// The template without its hash, and without what is only another way to leave something out.
fn plain(template: &Value) -> Value {
    let mut template = without_nulls(template);
    if let Some(Value::Object(metadata)) = template.get_mut("metadata") {
        if let Some(Value::Object(labels)) = metadata.get_mut("labels") {
            labels.remove(TEMPLATE_HASH);
        }
        metadata.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
    }
    template
}

/// The hash of a template, as digits: so the names of ReplicaSets and pods looked until Kubernetes
/// 1.10, and nothing else distinguishes them from those of today. It is FNV-1a over the JSON, and
/// not what Kubernetes hashes, which is how Go prints its structures.
///
/// `collisions` counts the times that the name was taken.
pub(crate) fn hash(template: &Value, collisions: i64) -> String {
    let mut text = plain(template).to_string();
    if collisions > 0 {
        text.push_str(&collisions.to_string());
    }
    let hash =
        text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.to_string()
}

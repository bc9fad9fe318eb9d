//! Patches: JSON patches, merge patches and strategic merge patches.

mod json;
mod merge;
mod strategic;

use portolan_store::Failure;
use serde_json::Value;

use crate::fields::MOST_ITEMS;
use crate::schema::Struct;

/// The kinds of patch that say what is to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7396.
    Merge,
    /// A merge patch that knows keys of lists.
    Strategic,
}

/// Whether a list in a patch has more items than any list may have.
fn is_too_long(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.len() > MOST_ITEMS || list.iter().any(is_too_long),
        Value::Object(map) => map.values().any(is_too_long),
        _ => false,
    }
}

/// Changes an object.
pub(crate) fn patch(
    kind: PatchKind,
    schema: &'static Struct,
    object: &mut Value,
    patch: Value,
) -> Result<(), Failure> {
    if kind != PatchKind::Json && is_too_long(&patch) {
        return Err(Failure::new(413, format!("a list in the patch has more than {MOST_ITEMS} items")));
    }
    match kind {
        PatchKind::Json => json::patch(object, patch),
        PatchKind::Merge if patch.is_object() => {
            merge::merge(object, patch);
            Ok(())
        }
        PatchKind::Strategic if patch.is_object() => {
            strategic::merge(schema, object, patch).map_err(|message| Failure::new(400, message))
        }
        PatchKind::Merge | PatchKind::Strategic => {
            Err(Failure::new(400, "error decoding patch: a merge patch is an object"))
        }
    }
}

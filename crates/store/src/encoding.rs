//! Lists and the lines of watches as JSON.

use bytes::Bytes;
use serde_json::json;

use crate::definition::Definition;
use crate::failure::Failure;
use crate::object::Object;
use crate::store::Page;

/// A list up to its first object; objects with commas between them and `]}` follow. `left` says
/// whether the number of objects on later pages is written, which servers do only for lists that
/// select everything.
pub fn list_head(definition: &Definition, page: &Page, left: bool) -> Vec<u8> {
    let mut metadata = json!({ "resourceVersion": page.version.to_string() });
    if let Some((token, remaining)) = &page.next {
        metadata["continue"] = json!(token);
        if left {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    format!(
        "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
        definition.kind,
        definition.api_version(),
    )
    .into_bytes()
}

/// An event about an object; `kind` is `ADDED`, `MODIFIED` or `DELETED`.
pub(crate) fn event_line(kind: &str, object: &Object) -> Bytes {
    let mut line = Vec::with_capacity(object.json().len() + 96);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(kind.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    object.write(&mut line);
    line.extend_from_slice(b"}\n");
    line.into()
}

/// A bookmark: everything up to `version` has been sent. The one that ends the initial events of a
/// streaming list says so.
pub(crate) fn bookmark_line(definition: &Definition, version: u64, ends_initial_events: bool) -> Bytes {
    let mut metadata = json!({ "resourceVersion": version.to_string() });
    if ends_initial_events {
        metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
    }
    // Kind first, as real servers write it.
    line(
        "BOOKMARK",
        &format!(
            "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{metadata},{}",
            definition.kind,
            definition.api_version(),
            definition.zero.trim_start_matches('{'),
        ),
    )
}

/// An `ERROR` event, after which a watch ends.
pub fn error_line(failure: &Failure) -> Bytes {
    line("ERROR", &failure.to_json().to_string())
}

fn line(kind: &str, object: &str) -> Bytes {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n").into()
}

//! Lists and the lines of watches as JSON.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::bookmark::Bookmark;
use crate::definition::Definition;
use crate::failure::Failure;
use crate::object::Object;
use crate::store::Page;

/// `metadata` of a list. `left` says whether the number of objects on later pages is written, which
/// servers do only for lists that select everything.
pub fn list_metadata(page: &Page, left: bool) -> Value {
    let mut metadata = json!({ "resourceVersion": page.version.to_string() });
    if let Some((token, remaining)) = &page.next {
        metadata["continue"] = json!(token);
        if left {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    metadata
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

/// A bookmark: everything up to its version has been sent. `api_version` is that of the objects
/// that the client asked for.
pub fn bookmark_line(definition: &Definition, api_version: &str, bookmark: Bookmark) -> Bytes {
    let metadata = bookmark.metadata();
    // Kind first, as real servers write it.
    line(
        "BOOKMARK",
        &format!(
            "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{metadata},{}",
            definition.kind,
            api_version,
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

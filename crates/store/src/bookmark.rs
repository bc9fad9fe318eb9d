//! Bookmarks of watches.

use serde_json::{Value, json};

/// Everything up to a version has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bookmark {
    /// That version.
    pub version: u64,
    /// Whether it ends the initial events of a streaming list.
    pub ends_initial_events: bool,
}

impl Bookmark {
    /// `metadata` of the object that a bookmark carries.
    pub fn metadata(self) -> Value {
        let mut metadata = json!({ "resourceVersion": self.version.to_string() });
        if self.ends_initial_events {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        metadata
    }
}

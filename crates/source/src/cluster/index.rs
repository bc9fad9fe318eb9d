//! Objects of a namespace by label.

use std::collections::{BTreeSet, HashMap};

use portolan_service::ObjectName;

use crate::declared::Labels;

/// Namespaced objects by pairs of a label key and value.
#[derive(Debug, Default)]
pub(super) struct LabelIndex(HashMap<String, BTreeSet<ObjectName>>);

static NONE: BTreeSet<ObjectName> = BTreeSet::new();

/// Neither namespaces nor label keys contain `=`, and namespaces no `/`, so that this is unique.
fn entry(namespace: &str, key: &str, value: &str) -> String {
    format!("{namespace}/{key}={value}")
}

impl LabelIndex {
    pub(super) fn insert(&mut self, name: &ObjectName, key: &str, value: &str) {
        self.0.entry(entry(name.namespace(), key, value)).or_default().insert(name.clone());
    }

    pub(super) fn remove(&mut self, name: &ObjectName, key: &str, value: &str) {
        let entry = entry(name.namespace(), key, value);
        if let Some(names) = self.0.get_mut(&entry) {
            names.remove(name);
            if names.is_empty() {
                self.0.remove(&entry);
            }
        }
    }

    pub(super) fn get(&self, namespace: &str, key: &str, value: &str) -> &BTreeSet<ObjectName> {
        self.0.get(&entry(namespace, key, value)).unwrap_or(&NONE)
    }

    /// The fewest objects among which all are that `selector` selects.
    pub(super) fn smallest(&self, namespace: &str, selector: &Labels) -> &BTreeSet<ObjectName> {
        let sets = selector.iter().map(|(key, value)| self.get(namespace, key, value));
        sets.min_by_key(|names| names.len()).unwrap_or(&NONE)
    }
}

//! Labels, and objects of a namespace by label.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use portolan_service::ObjectName;

/// Labels of an object, or a selector: the labels that an object must have.
pub type Labels = BTreeMap<String, String>;

/// Whether an object with `labels` is selected.
pub(crate) fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Namespaced objects by pairs of a label key and value.
#[derive(Debug, Default)]
pub(crate) struct LabelIndex(HashMap<String, BTreeSet<ObjectName>>);

static NONE: BTreeSet<ObjectName> = BTreeSet::new();

/// Neither namespaces nor label keys contain `=`, and namespaces no `/`, so that this is unique.
fn entry(namespace: &str, key: &str, value: &str) -> String {
    format!("{namespace}/{key}={value}")
}

impl LabelIndex {
    pub(crate) fn insert(&mut self, name: &ObjectName, key: &str, value: &str) {
        self.0.entry(entry(name.namespace(), key, value)).or_default().insert(name.clone());
    }

    pub(crate) fn remove(&mut self, name: &ObjectName, key: &str, value: &str) {
        let entry = entry(name.namespace(), key, value);
        if let Some(names) = self.0.get_mut(&entry) {
            names.remove(name);
            if names.is_empty() {
                self.0.remove(&entry);
            }
        }
    }

    pub(crate) fn get(&self, namespace: &str, key: &str, value: &str) -> &BTreeSet<ObjectName> {
        self.0.get(&entry(namespace, key, value)).unwrap_or(&NONE)
    }

    /// The objects with one of the labels of `selector`, the one that the fewest have: all that are
    /// selected are among them.
    pub(crate) fn smallest(&self, namespace: &str, selector: &Labels) -> &BTreeSet<ObjectName> {
        let sets = selector.iter().map(|(key, value)| self.get(namespace, key, value));
        sets.min_by_key(|names| names.len()).unwrap_or(&NONE)
    }
}

//! Namespaces: those that have an object, and those that Services are in.

use std::sync::Arc;

use portolan_service::Namespace;

use crate::index::{Hasher, Index, Slab};
use crate::settings::Options;
use crate::wire::LABEL_MAX;

#[derive(Debug, Clone)]
struct Entry {
    name: Arc<str>,
    object: Option<Namespace>,
    /// Services in it.
    services: u32,
    /// The settings let it exist.
    shown: bool,
}

/// All namespaces.
#[derive(Debug, Clone)]
pub(crate) struct Namespaces {
    hasher: Hasher,
    entries: Slab<Entry>,
    by_name: Index<u32>,
}

impl Namespaces {
    pub(crate) fn new(hasher: Hasher) -> Namespaces {
        Namespaces { hasher, entries: Slab::new(), by_name: Index::new() }
    }

    /// Whether the namespace of this label, in lower case, exists.
    pub(crate) fn exists(&self, label: &[u8]) -> bool {
        let entries = self.by_name.find(self.hasher.of(label)).filter_map(|at| self.entries.get(at));
        let mut same = entries.filter(|entry| entry.name.as_bytes().eq_ignore_ascii_case(label));
        same.any(|entry| entry.shown)
    }

    /// Takes a Namespace. Returns whether anything is different.
    pub(crate) fn set(&mut self, namespace: Namespace, options: &Options) -> bool {
        let at = self.entry_of(&namespace.name.clone());
        let Some(entry) = self.entries.get_mut(at) else { return false };
        if entry.object.as_ref() == Some(&namespace) {
            return false;
        }
        entry.object = Some(namespace);
        self.refresh(at, options);
        true
    }

    /// Removes a Namespace. Returns whether it was there.
    pub(crate) fn remove(&mut self, name: &str, options: &Options) -> bool {
        let Some(at) = self.entry_at(name) else { return false };
        let was = self.entries.get_mut(at).and_then(|entry| entry.object.take()).is_some();
        self.refresh(at, options);
        was
    }

    /// A Service has come into a namespace.
    pub(crate) fn add_service(&mut self, namespace: &str, options: &Options) {
        let at = self.entry_of(namespace);
        if let Some(entry) = self.entries.get_mut(at) {
            entry.services += 1;
            if entry.services == 1 {
                self.refresh(at, options);
            }
        }
    }

    /// A Service has gone from a namespace.
    pub(crate) fn remove_service(&mut self, namespace: &str, options: &Options) {
        let Some(at) = self.entry_at(namespace) else { return };
        if let Some(entry) = self.entries.get_mut(at) {
            entry.services = entry.services.saturating_sub(1);
            self.refresh(at, options);
        }
    }

    fn refresh(&mut self, at: u32, options: &Options) {
        let Some(entry) = self.entries.get_mut(at) else { return };
        if entry.object.is_none() && entry.services == 0 {
            let hash = hash(self.hasher, &entry.name);
            self.by_name.remove(hash, at);
            self.entries.remove(at);
            return;
        }
        let labels = entry.object.as_ref().map(|object| &*object.labels);
        entry.shown = options.shows_namespace(&entry.name, labels);
    }

    fn entry_of(&mut self, name: &str) -> u32 {
        if let Some(at) = self.entry_at(name) {
            return at;
        }
        let at = self.entries.insert(Entry { name: name.into(), object: None, services: 0, shown: false });
        self.by_name.insert(hash(self.hasher, name), at);
        at
    }

    fn entry_at(&self, name: &str) -> Option<u32> {
        let mut found = self.by_name.find(hash(self.hasher, name));
        found.find(|at| self.entries.get(*at).is_some_and(|entry| *entry.name == *name))
    }
}

/// The hash of a label in lower case.
fn hash(hasher: Hasher, name: &str) -> u32 {
    let mut label = [0; LABEL_MAX];
    let length = name.len().min(LABEL_MAX);
    label[..length].copy_from_slice(&name.as_bytes()[..length]);
    label.make_ascii_lowercase();
    hasher.of(&label[..length])
}

//! Keeps the last good state on disk, if that is wanted.

use std::path::Path;

use portolan_service::ObjectName;

use crate::decode::Object;
use crate::resource::Resource;
use crate::snapshot::{Journal, Loaded};

/// Writes what is known to the snapshot, if there is one. What cannot be written is logged by it,
/// and stops nothing.
#[derive(Debug)]
pub(crate) struct Recorder(Option<Journal>);

impl Recorder {
    /// Keeps the state at `path`; without a path, nowhere.
    pub(crate) fn open(path: Option<&Path>) -> Recorder {
        Recorder(path.map(Journal::open))
    }

    /// `object` is now like this.
    pub(crate) fn put(&self, resource: Resource, name: &ObjectName, object: &Object<'_>) {
        if let Some(journal) = &self.0 {
            journal.put(resource.kind(), name.namespace(), name.name(), &object.to_json());
        }
    }

    /// `name` is gone.
    pub(crate) fn remove(&self, resource: Resource, name: &ObjectName) {
        if let Some(journal) = &self.0 {
            journal.delete(resource.kind(), name.namespace(), name.name());
        }
    }

    /// The first lists are complete: what was put replaces the state that was there before.
    pub(crate) fn finish_base(&self) {
        if let Some(journal) = &self.0 {
            journal.finish_base();
        }
    }

    /// Reads the state that was there before, object by object: `keep` says whether an object,
    /// given by the text that [`Object::to_json`] made of it, is still what is known. `None` if
    /// there is none.
    pub(crate) fn load(&self, mut keep: impl FnMut(Resource, &[u8]) -> bool) -> Option<Loaded> {
        self.0.as_ref()?.load(|entry| {
            // A kind that is unknown was written by a later release.
            Resource::of_kind(entry.kind).is_some_and(|resource| keep(resource, entry.json))
        })
    }
}

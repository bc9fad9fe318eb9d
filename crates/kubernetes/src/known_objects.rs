//! What is known of the objects of one resource: which there are, and in which version. From it
//! follows what a complete list changes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use portolan_service::ObjectName;

/// The objects of one resource, by name.
#[derive(Debug, Default)]
pub(crate) struct KnownObjects {
    objects: HashMap<ObjectName, Known>,
    /// Counts the lists begun; an object carries the number of the last one it was seen in.
    list: u32,
    undecodable: u64,
    /// Something came in whose name could not be read: what a list does not mention may be just
    /// that.
    nameless: bool,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    version: u64,
    list: u32,
    state: State,
}

/// What was last received of an object, and what is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// The last version could not be decoded; an earlier one is in force.
    BadAfterGood,
    /// No version could be decoded.
    Bad,
}

/// What an object is, compared with what was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// The version is known.
    Unchanged,
    /// It was unknown.
    New,
    /// It was known in another version.
    Changed,
}

impl KnownObjects {
    /// A complete list begins.
    pub(crate) fn begin_list(&mut self) {
        self.list = self.list.wrapping_add(1);
        self.nameless = false;
    }

    /// `name` exists in `version`.
    pub(crate) fn put(&mut self, name: &ObjectName, version: u64) -> News {
        let known = Known { version, list: self.list, state: State::Good };
        let Some(old) = self.objects.get_mut(name) else {
            self.objects.insert(name.clone(), known);
            return News::New;
        };
        let before = std::mem::replace(old, known);
        self.undecodable -= u64::from(before.state != State::Good);
        match before.state {
            State::Bad => News::New,
            State::Good if before.version == version => News::Unchanged,
            State::Good | State::BadAfterGood => News::Changed,
        }
    }

    /// `name` existed in `version` before the list that began last.
    pub(crate) fn put_earlier(&mut self, name: &ObjectName, version: u64) {
        let list = self.list.wrapping_sub(1);
        self.objects.insert(name.clone(), Known { version, list, state: State::Good });
    }

    /// `name` exists, but its last version cannot be decoded. Without a name, something does.
    pub(crate) fn undecodable(&mut self, name: Option<&ObjectName>) {
        let Some(name) = name else {
            self.nameless = true;
            return;
        };
        let list = self.list;
        let unknown = Known { version: UNKNOWN, list, state: State::Bad };
        let Some(known) = self.objects.get_mut(name) else {
            self.undecodable += 1;
            self.objects.insert(name.clone(), unknown);
            return;
        };
        self.undecodable += u64::from(known.state == State::Good);
        let state = if known.state == State::Bad { State::Bad } else { State::BadAfterGood };
        *known = Known { version: known.version, list, state };
    }

    /// `name` is gone; returns whether any version of it was in force.
    pub(crate) fn remove(&mut self, name: &ObjectName) -> bool {
        let Some(known) = self.objects.remove(name) else { return false };
        self.undecodable -= u64::from(known.state != State::Good);
        known.state != State::Bad
    }

    /// The list that began last is complete: what it did not mention is gone. Returns what of that
    /// was in force.
    ///
    /// If something in it had no readable name, nothing is gone: it may have been any of them.
    pub(crate) fn finish_list(&mut self) -> Vec<ObjectName> {
        if self.nameless {
            return Vec::new();
        }
        let gone: Vec<ObjectName> = self
            .objects
            .iter()
            .filter(|(_, known)| known.list != self.list)
            .map(|(name, _)| name.clone())
            .collect();
        gone.into_iter().filter(|name| self.remove(name)).collect()
    }

    /// Whether something came in since the last list began whose name could not be read: only
    /// another list can show what is there.
    pub(crate) fn uncertain(&self) -> bool {
        self.nameless
    }

    /// Forgets all versions: the next list's objects are all [`News::Changed`] or new.
    pub(crate) fn distrust_versions(&mut self) {
        for known in self.objects.values_mut() {
            known.version = UNKNOWN;
        }
    }

    /// Whether `name` is known.
    pub(crate) fn contains(&self, name: &ObjectName) -> bool {
        self.objects.contains_key(name)
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    /// How many of them could not be decoded in their last version.
    pub(crate) fn undecodable_now(&self) -> u64 {
        self.undecodable
    }
}

/// No object's version.
const UNKNOWN: u64 = 0;

/// A version in a word: the same for the same `uid` and `resourceVersion`.
pub(crate) fn version(uid: &str, resource_version: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (uid, resource_version).hash(&mut hasher);
    hasher.finish().max(UNKNOWN + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> ObjectName {
        ObjectName::new("default", name)
    }

    fn names(list: &[&str]) -> Vec<ObjectName> {
        list.iter().map(|text| name(text)).collect()
    }

    #[test]
    fn a_list_yields_the_difference() {
        let mut known = KnownObjects::default();
        known.begin_list();
        for text in ["a", "b", "c"] {
            assert_eq!(known.put(&name(text), 1), News::New);
        }
        assert_eq!(known.finish_list(), []);
        known.begin_list();
        assert_eq!(known.put(&name("a"), 1), News::Unchanged);
        assert_eq!(known.put(&name("b"), 2), News::Changed);
        assert_eq!(known.put(&name("d"), 1), News::New);
        assert_eq!(known.finish_list(), names(&["c"]));
        assert_eq!(known.len(), 3);
    }

    #[test]
    fn a_list_that_failed_midway_removes_nothing() {
        let mut known = KnownObjects::default();
        known.begin_list();
        known.put(&name("a"), 1);
        known.put(&name("b"), 1);
        known.finish_list();
        known.begin_list();
        known.put(&name("a"), 1);
        known.begin_list();
        known.put(&name("a"), 1);
        known.put(&name("b"), 1);
        assert_eq!(known.finish_list(), []);
    }

    #[test]
    fn undecodable_objects_stay_as_they_were() {
        let mut known = KnownObjects::default();
        known.begin_list();
        known.put(&name("good"), 1);
        known.undecodable(Some(&name("bad")));
        assert_eq!(known.undecodable_now(), 1);
        known.undecodable(Some(&name("good")));
        known.undecodable(Some(&name("good")));
        assert_eq!(known.undecodable_now(), 2);
        assert_eq!(known.finish_list(), []);
        assert_eq!(known.put(&name("good"), 1), News::Changed, "again as it was");
        assert_eq!(known.put(&name("bad"), 1), News::New, "good at last");
        assert_eq!(known.undecodable_now(), 0);
        known.undecodable(Some(&name("other")));
        assert!(!known.remove(&name("other")), "was never in force");
        known.undecodable(Some(&name("good")));
        assert!(known.remove(&name("good")), "was in force");
        assert_eq!(known.undecodable_now(), 0);
    }

    #[test]
    fn what_may_be_the_nameless_one_is_not_gone() {
        let mut known = KnownObjects::default();
        known.begin_list();
        known.put(&name("a"), 1);
        known.finish_list();
        known.begin_list();
        known.undecodable(None);
        assert_eq!(known.finish_list(), []);
        assert!(known.uncertain());
        known.begin_list();
        assert_eq!(known.finish_list(), names(&["a"]));
        assert!(!known.uncertain());
    }

    #[test]
    fn distrusted_versions_are_changes() {
        let mut known = KnownObjects::default();
        known.put(&name("a"), 1);
        known.put(&name("b"), 1);
        known.distrust_versions();
        assert_eq!(known.put(&name("a"), 1), News::Changed);
        // The list broke off, and begins again.
        known.distrust_versions();
        assert_eq!(known.put(&name("b"), 1), News::Changed);
    }
}

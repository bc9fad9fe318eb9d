//! Which file declares which object.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::path::Path;
use std::sync::Arc;

use super::contents::{Contents, Lines};
use super::problem::{Problem, Severity};
use crate::declared::{Key, Object};

/// The objects in force and the files they come from. Of several files that declare an object, the
/// first by name has it.
#[derive(Debug, Default)]
pub(super) struct Sources {
    files: HashMap<Arc<Path>, Vec<Key>>,
    /// Sorted by file.
    objects: HashMap<Key, Vec<Candidate>>,
}

/// An object as one file declares it.
#[derive(Debug)]
struct Candidate {
    file: Arc<Path>,
    /// The last valid version.
    object: Object,
    lines: Lines,
}

/// What a file's new contents mean.
#[derive(Debug, Default)]
pub(super) struct Effect {
    /// Objects that are now different, or gone.
    pub(super) objects: Vec<(Key, Option<Object>)>,
    /// Objects that may now be declared at another place.
    pub(super) moved: BTreeSet<Key>,
    /// What now is to be said about objects that several files declare.
    pub(super) duplicates: BTreeMap<Key, Vec<Problem>>,
}

impl Sources {
    /// `file` now holds `contents`; what is invalid there stays as it was.
    pub(super) fn replace(&mut self, file: &Path, contents: Contents) -> Effect {
        let mut effect = Effect::default();
        let (file, old) = match self.files.remove_entry(file) {
            Some((file, keys)) => (file, keys),
            None => (Arc::from(file), Vec::new()),
        };
        let mut keys = Vec::with_capacity(contents.items.len());
        let mut unseen: BTreeSet<Key> = old.into_iter().collect();
        for item in contents.items {
            let known = unseen.remove(&item.key);
            match item.object {
                Some(object) => {
                    self.put(&file, &item.key, object, item.lines, &mut effect);
                    keys.push(item.key);
                }
                None if known => keys.push(item.key),
                None => {}
            }
        }
        for key in unseen {
            if contents.partial {
                keys.push(key);
            } else {
                self.remove(&file, &key, &mut effect);
            }
        }
        if !keys.is_empty() {
            self.files.insert(file, keys);
        }
        effect
    }

    fn put(&mut self, file: &Arc<Path>, key: &Key, object: Object, lines: Lines, effect: &mut Effect) {
        let candidates = self.objects.entry(key.clone()).or_default();
        effect.moved.insert(key.clone());
        let new = Candidate { file: file.clone(), object, lines };
        let (place, old) = match candidates.binary_search_by(|candidate| candidate.file.cmp(file)) {
            Ok(place) => {
                let old = mem::replace(&mut candidates[place], new);
                (place, Some(old.object))
            }
            Err(place) => {
                candidates.insert(place, new);
                (place, None)
            }
        };
        let in_force = &candidates[0].object;
        if place == 0 && old.is_none_or(|old| old != *in_force) {
            effect.objects.push((key.clone(), Some(in_force.clone())));
        }
        if candidates.len() > 1 {
            effect.duplicates.insert(key.clone(), duplicates(key, candidates));
        }
    }

    fn remove(&mut self, file: &Arc<Path>, key: &Key, effect: &mut Effect) {
        let Some(candidates) = self.objects.get_mut(key) else { return };
        let Some(place) = candidates.iter().position(|candidate| candidate.file == *file) else { return };
        let several = candidates.len() > 1;
        effect.moved.insert(key.clone());
        candidates.remove(place);
        if place == 0 {
            effect.objects.push((key.clone(), candidates.first().map(|candidate| candidate.object.clone())));
        }
        if several {
            effect.duplicates.insert(key.clone(), duplicates(key, candidates));
        }
        if candidates.is_empty() {
            self.objects.remove(key);
        }
    }

    /// Where `field` of the object in force is.
    pub(super) fn place(&self, key: &Key, field: &str) -> Option<(&Path, Option<usize>)> {
        let candidate = self.objects.get(key)?.first()?;
        Some((&candidate.file, candidate.lines.get(field)))
    }

    /// Whether any object comes from `file`.
    pub(super) fn knows(&self, file: &Path) -> bool {
        self.files.contains_key(file)
    }
}

fn duplicates(key: &Key, candidates: &[Candidate]) -> Vec<Problem> {
    let Some((first, others)) = candidates.split_first() else { return Vec::new() };
    let declared = match first.lines.get("") {
        Some(line) => format!("{}:{line}", first.file.display()),
        None => first.file.display().to_string(),
    };
    others
        .iter()
        .map(|other| Problem {
            file: other.file.to_path_buf(),
            line: other.lines.get(""),
            object: Some(key.to_string()),
            field: None,
            message: format!("also declared at {declared}, which counts; remove one of the two"),
            severity: Severity::Error,
        })
        .collect()
}

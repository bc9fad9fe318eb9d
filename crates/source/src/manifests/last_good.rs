//! The last good objects of each manifest, kept on disk. They stand in for what cannot be read when
//! the program starts.
//!
//! There is one file for each manifest, so that a change costs what that manifest holds. Each is a
//! manifest itself: a list, in JSON, which says of what it is a copy.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use portolan_yaml::Tree;
use serde_json::json;

use super::contents::{self, Contents, Item};

/// The copies, and those that are still to be written.
#[derive(Debug)]
pub(super) struct LastGood {
    /// Where they are. Without a place, nothing is kept.
    place: Option<PathBuf>,
    /// The folder of manifests: copies of another folder's are nothing to us.
    folder: String,
    read_only: bool,
    /// The text of each copy that is to be written; `None` if it is to be removed.
    pending: BTreeMap<PathBuf, Option<String>>,
    failed: Option<String>,
}

impl LastGood {
    /// Copies in `place` of the manifests in `folder`.
    pub(super) fn open(place: Option<PathBuf>, folder: &Path, read_only: bool) -> LastGood {
        let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        let folder = folder.to_string_lossy().into_owned();
        LastGood { place, folder, read_only, pending: BTreeMap::new(), failed: None }
    }

    /// Where the copies are.
    pub(super) fn place(&self) -> Option<&Path> {
        self.place.as_deref()
    }

    /// Why copies cannot be written at present.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// The last good objects of `file`; nothing if none are known.
    pub(super) fn of(&self, file: &Path) -> Vec<Item> {
        let Some(place) = &self.place else { return Vec::new() };
        let path = place.join(name_of(file));
        let Ok(text) = fs::read_to_string(&path) else { return Vec::new() };
        let is_ours = contents::trees(&path, &text).into_iter().flatten().flatten().any(|tree| {
            let says = |key| tree.get(key).and_then(Tree::text);
            says("folder") == Some(&self.folder) && says("file") == Some(&file.to_string_lossy())
        });
        let mut items = if is_ours { contents::read(&path, &text).items } else { Vec::new() };
        items.retain(|item| item.object.is_some());
        // The lines are those of the copy.
        for item in &mut items {
            item.lines = contents::Lines::default();
        }
        items
    }

    /// Has a copy made of what is good in `contents`, which `file` holds now. What is not, and what
    /// could not be read, stays as it is in the copy.
    pub(super) fn note(&mut self, file: &Path, contents: &Contents) {
        if self.place.is_none() || self.read_only {
            return;
        }
        let kept = if contents.is_whole() { Vec::new() } else { self.of(file) };
        let kept = kept.iter().filter(|kept| match contents.items.iter().find(|item| item.key == kept.key) {
            Some(item) => item.object.is_none(),
            None => contents.partial,
        });
        let good = contents.items.iter().filter(|item| item.object.is_some());
        let texts: Vec<&str> = good.chain(kept).map(|item| &*item.text).collect();
        let text = (!texts.is_empty()).then(|| {
            let (folder, file) = (json!(self.folder), json!(file.to_string_lossy()));
            let items = texts.join(",\n");
            format!("{{\"kind\":\"List\",\"apiVersion\":\"v1\",\"folder\":{folder},\"file\":{file},\"items\":[\n{items}\n]}}\n")
        });
        self.pending.insert(file.to_owned(), text);
    }

    /// Removes the copies of files that are not among `files`.
    pub(super) fn keep_only<'a>(&mut self, files: impl Iterator<Item = &'a Path>) {
        let Some(place) = self.place.as_ref().filter(|_| !self.read_only) else { return };
        let names: BTreeSet<String> = files.map(name_of).collect();
        let Ok(copies) = fs::read_dir(place) else { return };
        for copy in copies.flatten() {
            let name = copy.file_name().to_string_lossy().into_owned();
            // Another proxy may be writing one whose name begins with a dot.
            if !name.starts_with('.') && !names.contains(&name) {
                let _ = fs::remove_file(copy.path());
            }
        }
    }

    /// Writes what is to be written. Whether [`LastGood::failure`] has changed.
    pub(super) fn write(&mut self) -> bool {
        let Some(place) = &self.place else { return false };
        let mut failed = None;
        if self.pending.is_empty() {
            return false;
        }
        for (file, text) in std::mem::take(&mut self.pending) {
            let path = place.join(name_of(&file));
            let written = match text {
                Some(text) => write(place, &path, &text),
                None => fs::remove_file(&path).or_else(|error| match error.kind() {
                    io::ErrorKind::NotFound => Ok(()),
                    _ => Err(error),
                }),
            };
            if let Err(error) = written {
                failed = Some(format!(
                    "cannot keep the last good objects of manifests: {error}; after a restart, what cannot be read is missing"
                ));
            }
        }
        let changed = self.failed != failed;
        self.failed = failed;
        changed
    }
}

/// Writes one copy in one step, unless it is there already.
fn write(place: &Path, path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    fs::create_dir_all(place)?;
    // Another proxy may be writing the same one.
    let draft = place.join(format!(".{:016x}", RandomState::new().build_hasher().finish()));
    fs::write(&draft, text).and_then(|()| fs::rename(&draft, path)).inspect_err(|_| {
        let _ = fs::remove_file(&draft);
    })
}

/// The name of the copy of `file`. Paths can be longer than names, and the same must come out in
/// every version of the program: FNV-1a (draft-eastlake-fnv), which is enough for a name, since the
/// copy says of what it is one.
fn name_of(file: &Path) -> String {
    let bytes = file.as_os_str().as_bytes();
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}.json")
}

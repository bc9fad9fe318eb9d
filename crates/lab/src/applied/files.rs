//! Files and folders of manifests, and the objects in them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use portolan_source::manifests::{Problem, Severity, Tree};

use super::declared::Declared;
use crate::Error;

/// What ends the name of a manifest in a folder.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// All manifests in the files and folders, each once. Folders inside of folders are passed over.
pub(super) fn expand(files: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut all = Vec::new();
    for file in files {
        if !file.is_dir() {
            all.push(file.clone());
            continue;
        }
        let failed = || Error::io(format!("reading folder {}", file.display()));
        let mut inner = Vec::new();
        for entry in fs::read_dir(file).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            if is_manifest(&path) && !path.is_dir() {
                inner.push(path);
            }
        }
        inner.sort();
        all.extend(inner);
    }
    let mut seen = BTreeSet::new();
    all.retain(|path| seen.insert(path.clone()));
    Ok(all)
}

fn is_manifest(path: &Path) -> bool {
    let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let extension = path.extension().unwrap_or_default();
    !is_hidden && EXTENSIONS.iter().any(|known| extension == *known)
}

/// The objects that a file declares. If one of them cannot be read, nobody knows what the file is
/// to say, and it counts as a whole.
pub(super) fn read(file: &Path) -> Result<Vec<Declared>, Error> {
    let text =
        fs::read_to_string(file).map_err(|error| of_file(file, None, format!("cannot be read: {error}")))?;
    let documents = portolan_source::manifests::documents(&text)
        .map_err(|(line, message)| of_file(file, Some(line), message))?;
    let trees = documents.iter().flat_map(objects);
    trees.map(|tree| Declared::read(file, tree.clone()).map_err(Error::Manifest)).collect()
}

fn of_file(file: &Path, line: Option<usize>, message: String) -> Error {
    Error::Manifest(Box::new(Problem {
        file: file.to_owned(),
        line,
        object: None,
        field: None,
        message,
        severity: Severity::Error,
    }))
}

/// The objects in a document: those of a list are each its own.
fn objects(document: &Tree) -> &[Tree] {
    let is_list = document.get("kind").and_then(Tree::text).is_some_and(|kind| kind.ends_with("List"));
    let items = document.get("items").and_then(Tree::items).filter(|_| is_list);
    items.unwrap_or(std::slice::from_ref(document))
}

//! The folder of manifests that the proxies follow, made from the user's files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use portolan_source::manifests::Problem;
use serde_json::{Value, json};

use super::workload::{self, Declared, Selecting, Wanted};
use crate::Error;

/// What ends the name of a manifest.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The folder that the proxies read.
#[derive(Debug)]
pub(super) struct Folder {
    manifests: PathBuf,
}

/// The user's files, as they were taken over.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) wanted: Vec<Wanted>,
    /// All Services.
    pub(super) services: Vec<Declared>,
    /// What the lab does not do.
    pub(super) warnings: Vec<Problem>,
    /// The user's file behind each name in the folder.
    pub(super) files: BTreeMap<PathBuf, PathBuf>,
}

impl Folder {
    pub(super) fn create(state: &Path) -> Result<Folder, Error> {
        let manifests = state.join("manifests");
        fs::create_dir_all(&manifests).map_err(Error::io(format!("creating {}", manifests.display())))?;
        Ok(Folder { manifests })
    }

    pub(super) fn manifests(&self) -> &Path {
        &self.manifests
    }

    /// Reads the user's files, and makes the folder lead to each of them: by a link, through which
    /// the proxies see changes at once, or by a copy without what the lab completes. With an error,
    /// nothing has changed.
    pub(super) fn take_over(&self, files: &[PathBuf]) -> Result<Taken, Error> {
        let mut taken = Taken::default();
        let mut services = Vec::new();
        let mut entries: BTreeMap<String, (PathBuf, Option<String>)> = BTreeMap::new();
        for (number, file) in expand(files)?.into_iter().enumerate() {
            let text = fs::read_to_string(&file).map_err(Error::io(format!("reading {}", file.display())))?;
            let contents = workload::read(&file, &text)?;
            taken.wanted.extend(contents.wanted);
            services.extend(contents.services);
            taken.services.extend(contents.declared);
            taken.warnings.extend(contents.warnings);
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{number:03}-{name}");
            taken.files.insert(PathBuf::from(&name), file.clone());
            entries.insert(name, (file, contents.text));
        }
        for item in &mut taken.wanted {
            if let Wanted::Pods(pods) = item {
                Selecting::open(&services, pods);
            }
        }
        for (name, (file, text)) in &entries {
            match text {
                Some(text) => self.put(name, text)?,
                None => self.link(name, file)?,
            }
        }
        let failed = || Error::io(format!("tidying {}", self.manifests.display()));
        for entry in fs::read_dir(&self.manifests).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with("lab-") && !entries.contains_key(&name) {
                fs::remove_file(entry.path()).map_err(failed())?;
            }
        }
        Ok(taken)
    }

    /// Writes objects of the lab's own.
    pub(super) fn write(&self, name: &str, objects: &[Value]) -> Result<(), Error> {
        self.put(name, &json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())
    }

    fn put(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.manifests.join(name);
        let same = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file())
            && fs::read_to_string(&path).is_ok_and(|old| old == text);
        if same {
            return Ok(());
        }
        self.replace(name, |draft| fs::write(draft, text))
    }

    fn link(&self, name: &str, target: &Path) -> Result<(), Error> {
        if fs::read_link(self.manifests.join(name)).is_ok_and(|old| old == target) {
            return Ok(());
        }
        self.replace(name, |draft| symlink(target, draft))
    }

    /// In one step for readers, who pass over names with a dot before them.
    fn replace(&self, name: &str, make: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), Error> {
        let (draft, path) = (self.manifests.join(format!(".{name}")), self.manifests.join(name));
        let made = match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => make(&draft).and_then(|()| fs::rename(&draft, &path)),
        };
        made.map_err(Error::io(format!("writing {}", path.display())))
    }
}

/// All manifests in the files and folders, each once.
fn expand(files: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
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
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            let known =
                path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known));
            if !hidden && known && !path.is_dir() {
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

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "kind: Pod\nmetadata: {name: p}\n";

    fn names(folder: &Folder) -> Vec<String> {
        let entries = fs::read_dir(folder.manifests()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_folder_follows_the_files() {
        let user = tempfile::tempdir().unwrap();
        let state = tempfile::tempdir().unwrap();
        let folder = Folder::create(state.path()).unwrap();
        let files = [user.path().to_owned()];
        let write = |name: &str, text: &str| fs::write(user.path().join(name), text).unwrap();

        write("service.yaml", "kind: Service\nmetadata: {name: s}\n");
        write("pod.yaml", POD);
        write("notes.txt", "nothing");
        folder.write("lab-pods.json", &[]).unwrap();
        assert_eq!(folder.take_over(&files).unwrap().wanted.len(), 1);
        assert_eq!(names(&folder), ["000-pod.yaml", "001-service.yaml", "lab-pods.json"]);
        assert!(folder.manifests().join("001-service.yaml").is_symlink());
        assert!(!folder.manifests().join("000-pod.yaml").is_symlink(), "the Pod is the lab's to complete");

        write("pod.yaml", "kind: Pod\nmetadata: {name: ''}\n");
        assert!(folder.take_over(&files).is_err());
        assert_eq!(names(&folder), ["000-pod.yaml", "001-service.yaml", "lab-pods.json"]);

        fs::remove_file(user.path().join("pod.yaml")).unwrap();
        assert!(folder.take_over(&files).unwrap().wanted.is_empty());
        assert_eq!(names(&folder), ["000-service.yaml", "lab-pods.json"]);
    }
}

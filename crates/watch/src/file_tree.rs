//! Following all files below one folder.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::debug;

use crate::Error;
use crate::inotify::{self, Event, Inotify, Watch};
use crate::links::{self, End};
use crate::waker::Waker;

/// How deep folders may lie inside of each other.
const MAX_DEPTH: usize = 32;

/// Paths by the name that decides what they are.
type Dependents = HashMap<OsString, BTreeSet<PathBuf>>;

/// A folder and all files below it, but for names that begin with a dot.
///
/// Every folder of the tree is watched. A symbolic link is followed step by step, and wherever a
/// step leads, the folder there is watched for the name of the next: so a change of any link on the
/// way and of the file at its end is seen.
///
/// All paths are relative to the root.
#[derive(Debug)]
pub struct FileTree {
    root: PathBuf,
    wanted: fn(&Path) -> bool,
    inotify: Inotify,
    waker: Waker,
    watched: HashMap<Watch, Watched>,
    /// The folders of the tree, and what watches them.
    folders: BTreeMap<PathBuf, Watch>,
    files: BTreeSet<PathBuf>,
    /// For each path that leads through links, the root among them, where it is looked up.
    steps: HashMap<PathBuf, Vec<(Watch, OsString)>>,
    failed: BTreeMap<PathBuf, Error>,
}

/// Why [`FileTree::wait`] has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// Something may have changed.
    Changed,
    /// Somebody wanted it to return.
    Woken,
    /// The time is over.
    InVain,
}

/// Why one folder of the system is watched.
#[derive(Debug, Default)]
struct Watched {
    /// Paths of the tree at which this folder is.
    tree: BTreeSet<PathBuf>,
    /// Paths of the tree that depend on a name in this folder.
    names: Dependents,
}

impl Watched {
    fn is_unused(&self) -> bool {
        self.tree.is_empty() && self.names.is_empty()
    }

    /// The paths of the tree that this folder is about.
    fn paths(&self) -> BTreeSet<PathBuf> {
        self.names.values().flatten().chain(&self.tree).cloned().collect()
    }
}

impl FileTree {
    /// Begins to follow the folder at `root`, and in it the files that are `wanted` by their path.
    /// Nothing is looked at before [`FileTree::rescan`].
    pub fn open(root: &Path, wanted: fn(&Path) -> bool) -> Result<FileTree, Error> {
        Ok(FileTree {
            root: std::path::absolute(root)?,
            wanted,
            inotify: Inotify::new()?,
            waker: Waker::new()?,
            watched: HashMap::new(),
            folders: BTreeMap::new(),
            files: BTreeSet::new(),
            steps: HashMap::new(),
            failed: BTreeMap::new(),
        })
    }

    /// The path in the system of `path`.
    pub fn full(&self, path: &Path) -> PathBuf {
        if path.as_os_str().is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    /// What cannot be followed, and why: the root, and folders and links below it.
    pub fn failed(&self) -> &BTreeMap<PathBuf, Error> {
        &self.failed
    }

    /// Whether `path` is a file of the tree, as far as is known.
    pub fn has(&self, path: &Path) -> bool {
        self.files.contains(path)
    }

    /// The files of the tree, as far as is known.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path)
    }

    /// Looks at everything anew. Returns the files that are there or were.
    pub fn rescan(&mut self) -> BTreeSet<PathBuf> {
        let mut changed = std::mem::take(&mut self.files);
        self.failed.clear();
        let stale: Vec<PathBuf> = self.steps.keys().cloned().collect();
        let folders: Vec<PathBuf> = self.folders.keys().cloned().collect();
        // The old watches stay until the new ones are there: no event may fall between.
        let old: Vec<Watch> = self.watched.keys().copied().collect();
        for path in &stale {
            self.forget_steps(path);
        }
        for path in &folders {
            self.forget_folder(path);
        }
        self.follow_steps(Path::new(""), End::Counts);
        self.scan(Path::new(""), &mut changed);
        for watch in old {
            self.drop_if_unused(watch);
        }
        changed
    }

    /// Waits until something may have changed, at most for `timeout`, or until somebody wakes this
    /// up.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Waited> {
        let [changed, woken] = inotify::wait([self.inotify.as_fd(), self.waker.as_fd()], timeout)?;
        Ok(if changed {
            Waited::Changed
        } else if woken {
            self.waker.reset();
            Waited::Woken
        } else {
            Waited::InVain
        })
    }

    /// What wakes up [`FileTree::wait`].
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// The files that may have changed since the last call. Does not wait.
    pub fn changed(&mut self) -> io::Result<BTreeSet<PathBuf>> {
        let mut changed = BTreeSet::new();
        for event in self.inotify.events()? {
            match event {
                Event::Name(watch, name) => self.named(watch, &name, &mut changed),
                Event::Moved(watch) => {
                    let paths = self.watched.get(&watch).map(Watched::paths);
                    self.look_at(paths, &mut changed);
                }
                Event::Ended(watch) => {
                    let paths = self.watched.remove(&watch).map(|watched| watched.paths());
                    self.look_at(paths, &mut changed);
                }
                Event::Lost => {
                    debug!("{}: events were lost; looking at all files", self.root.display());
                    changed.extend(self.rescan());
                }
            }
        }
        Ok(changed)
    }

    /// Something happened to `name` in a watched folder.
    fn named(&mut self, watch: Watch, name: &OsStr, changed: &mut BTreeSet<PathBuf>) {
        let Some(watched) = self.watched.get(&watch) else { return };
        let mut paths: BTreeSet<PathBuf> = watched.names.get(name).cloned().unwrap_or_default();
        if is_visible(name) {
            paths.extend(watched.tree.iter().map(|folder| folder.join(name)));
        }
        self.look_at(Some(paths), changed);
    }

    fn look_at(&mut self, paths: Option<BTreeSet<PathBuf>>, changed: &mut BTreeSet<PathBuf>) {
        for path in paths.into_iter().flatten() {
            self.look(&path, changed);
        }
    }

    /// Finds out what is at `path` now.
    fn look(&mut self, path: &Path, changed: &mut BTreeSet<PathBuf>) {
        if path.as_os_str().is_empty() {
            changed.extend(self.rescan());
            return;
        }
        if self.folders.contains_key(path) {
            self.forget_tree(path, changed);
        }
        self.failed.remove(path);
        let full = self.full(path);
        let is_link = fs::symlink_metadata(&full).is_ok_and(|metadata| metadata.is_symlink());
        let old_steps = self.forget_steps(path);
        if is_link {
            self.follow_steps(path, End::CountsBehindLinks);
        }
        for (watch, _) in old_steps {
            self.drop_if_unused(watch);
        }
        match fs::metadata(&full) {
            Ok(metadata) if metadata.is_dir() => self.scan(path, changed),
            Ok(_) if (self.wanted)(path) => {
                self.files.insert(path.to_owned());
                changed.insert(path.to_owned());
            }
            Ok(_) => {}
            Err(_) => {
                if self.files.remove(path) {
                    changed.insert(path.to_owned());
                }
            }
        }
    }

    /// Watches the folder at `path` and looks at what is in it.
    fn scan(&mut self, path: &Path, changed: &mut BTreeSet<PathBuf>) {
        if let Err(error) = self.try_scan(path, changed) {
            // A folder that is gone already is the subject of an event. The root is missed.
            if !error.is_gone() || path.as_os_str().is_empty() {
                self.failed.insert(path.to_owned(), error);
            }
        }
    }

    fn try_scan(&mut self, path: &Path, changed: &mut BTreeSet<PathBuf>) -> Result<(), Error> {
        let full = self.full(path);
        if path.components().count() > MAX_DEPTH {
            return Err(Error::Depth { most: MAX_DEPTH });
        }
        let real = fs::canonicalize(&full)?;
        let is_real = |above: &Path| fs::canonicalize(self.full(above)).is_ok_and(|it| it == real);
        if !path.as_os_str().is_empty() && path.ancestors().skip(1).any(is_real) {
            return Err(Error::Loop);
        }
        let watch = self.inotify.watch(&full)?;
        self.watched.entry(watch).or_default().tree.insert(path.to_owned());
        self.folders.insert(path.to_owned(), watch);
        for entry in fs::read_dir(&full)? {
            let entry = entry?;
            let name = entry.file_name();
            if !is_visible(&name) {
                continue;
            }
            let below = path.join(&name);
            match entry.file_type() {
                // The common case, without another look at the file.
                Ok(kind) if kind.is_file() => {
                    if (self.wanted)(&below) {
                        changed.insert(below.clone());
                        self.files.insert(below);
                    }
                }
                _ => self.look(&below, changed),
            }
        }
        Ok(())
    }

    /// The folder at `path` is no longer a folder of the tree.
    fn forget_tree(&mut self, path: &Path, changed: &mut BTreeSet<PathBuf>) {
        let below = |paths: &mut dyn Iterator<Item = &PathBuf>| -> Vec<PathBuf> {
            paths.take_while(|it| it.starts_with(path)).cloned().collect()
        };
        let folders = below(&mut self.folders.range(path.to_owned()..).map(|(path, _)| path));
        let files = below(&mut self.files.range(path.to_owned()..));
        let mut unused: Vec<Watch> = Vec::new();
        for file in files {
            self.files.remove(&file);
            changed.insert(file);
        }
        for folder in folders {
            unused.extend(self.forget_folder(&folder));
            self.failed.remove(&folder);
        }
        let linked: Vec<PathBuf> = self.steps.keys().filter(|it| it.starts_with(path)).cloned().collect();
        for link in linked {
            unused.extend(self.forget_steps(&link).into_iter().map(|(watch, _)| watch));
        }
        for watch in unused {
            self.drop_if_unused(watch);
        }
    }

    fn forget_folder(&mut self, path: &Path) -> Option<Watch> {
        let watch = self.folders.remove(path)?;
        if let Some(watched) = self.watched.get_mut(&watch) {
            watched.tree.remove(path);
        }
        Some(watch)
    }

    fn drop_if_unused(&mut self, watch: Watch) {
        if self.watched.get(&watch).is_some_and(Watched::is_unused) {
            self.watched.remove(&watch);
            self.inotify.unwatch(watch);
        }
    }

    /// Returns what the steps were; the watches behind them stay.
    fn forget_steps(&mut self, path: &Path) -> Vec<(Watch, OsString)> {
        let steps = self.steps.remove(path).unwrap_or_default();
        for (watch, name) in &steps {
            if let Some(watched) = self.watched.get_mut(watch)
                && let Some(paths) = watched.names.get_mut(name)
            {
                paths.remove(path);
                if paths.is_empty() {
                    watched.names.remove(name);
                }
            }
        }
        steps
    }

    /// Watches each name through which `path` leads to what it stands for.
    fn follow_steps(&mut self, path: &Path, end: End) {
        let mut steps = Vec::new();
        links::follow(&self.full(path), end, |folder, name| match self.inotify.watch(folder) {
            Ok(watch) => {
                let names = &mut self.watched.entry(watch).or_default().names;
                names.entry(name.to_owned()).or_default().insert(path.to_owned());
                steps.push((watch, name.to_owned()));
            }
            Err(error @ Error::Watches) => drop(self.failed.insert(path.to_owned(), error)),
            Err(error) => debug!("{}: cannot be watched: {error}", folder.display()),
        });
        self.steps.insert(path.to_owned(), steps);
    }
}

impl AsFd for FileTree {
    /// Readable when [`FileTree::changed`] has something to look at.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

fn is_visible(name: &OsStr) -> bool {
    !name.as_bytes().starts_with(b".")
}

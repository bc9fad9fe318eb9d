//! Following a folder: which of its files may have changed.
//!
//! Every folder of the tree is watched. A symbolic link is followed step by step, and wherever a step leads, the
//! folder there is watched for the name of the next: so a change of any link on the way and of the file at its end
//! is seen, as when a mounted ConfigMap is replaced by swapping `..data`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tracing::debug;

/// How deep folders may lie inside of each other.
const MAX_DEPTH: usize = 32;

/// How many links one name may lead through (Linux: 40).
const MAX_LINKS: usize = 40;

/// What a path means by way of other names.
type Dependents = HashMap<OsString, BTreeSet<PathBuf>>;

/// A followed folder.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    inotify: OwnedFd,
    watches: HashMap<i32, Watch>,
    /// The folders of the tree, by path below the root, and what watches them.
    folders: BTreeMap<PathBuf, i32>,
    files: BTreeSet<PathBuf>,
    /// For each path that leads through links, the root among them, where it is looked up.
    steps: HashMap<PathBuf, Vec<(i32, OsString)>>,
    failed: BTreeMap<PathBuf, String>,
}

/// Why one folder of the system is watched.
#[derive(Debug, Default)]
struct Watch {
    /// Paths of the tree at which this folder is.
    tree: BTreeSet<PathBuf>,
    /// Paths of the tree that depend on a name in this folder.
    names: Dependents,
}

impl Watch {
    fn is_unused(&self) -> bool {
        self.tree.is_empty() && self.names.is_empty()
    }
}

impl Folder {
    /// Begins to follow the folder at `root`.
    pub(super) fn open(root: &Path) -> io::Result<Folder> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Folder {
            root: std::path::absolute(root)?,
            inotify,
            watches: HashMap::new(),
            folders: BTreeMap::new(),
            files: BTreeSet::new(),
            steps: HashMap::new(),
            failed: BTreeMap::new(),
        })
    }

    /// The path in the system of `path` below the root.
    pub(super) fn full(&self, path: &Path) -> PathBuf {
        if path.as_os_str().is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// What could not be followed, and why.
    pub(super) fn failed(&self) -> &BTreeMap<PathBuf, String> {
        &self.failed
    }

    /// Whether `path` is a file of the folder, as far as is known.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.files.contains(path)
    }

    /// The files of the folder, as far as is known, by path below the root.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path)
    }

    /// Looks at everything anew. Returns the files that are there or were.
    pub(super) fn rescan(&mut self) -> BTreeSet<PathBuf> {
        let mut changed = std::mem::take(&mut self.files);
        self.failed.clear();
        let stale: Vec<PathBuf> = self.steps.keys().cloned().collect();
        let folders: Vec<PathBuf> = self.folders.keys().cloned().collect();
        // What is watched stays watched until the new watches are there: no event may fall between.
        let old: Vec<i32> = self.watches.keys().copied().collect();
        for path in &stale {
            self.forget_steps(path);
        }
        for path in &folders {
            self.forget_folder(path);
        }
        self.follow_steps(Path::new(""), true);
        self.scan(Path::new(""), &mut changed);
        for wd in old {
            self.drop_if_unused(wd);
        }
        changed
    }

    /// Takes the events that have come, without waiting. Returns the files that may have changed.
    pub(super) fn take_events(&mut self) -> io::Result<BTreeSet<PathBuf>> {
        let mut changed = BTreeSet::new();
        let mut events = Vec::new();
        {
            let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
            let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
            loop {
                match reader.next() {
                    Ok(event) => events.push((
                        event.wd(),
                        event.events(),
                        event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned()),
                    )),
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        for (wd, flags, name) in events {
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                debug!("events were lost; looking at all manifests");
                changed.extend(self.rescan());
            } else if flags.contains(ReadFlags::IGNORED) {
                self.ended(wd, &mut changed);
            } else if let Some(name) = name {
                self.named(wd, &name, flags, &mut changed);
            }
        }
        Ok(changed)
    }

    /// The watched folder is gone.
    fn ended(&mut self, wd: i32, changed: &mut BTreeSet<PathBuf>) {
        let Some(watch) = self.watches.remove(&wd) else { return };
        for path in watch.names.into_values().flatten() {
            self.look(&path, changed);
        }
        for path in watch.tree {
            self.look(&path, changed);
        }
    }

    /// Something happened to `name` in a watched folder.
    fn named(&mut self, wd: i32, name: &OsStr, flags: ReadFlags, changed: &mut BTreeSet<PathBuf>) {
        let Some(watch) = self.watches.get(&wd) else { return };
        let mut paths: BTreeSet<PathBuf> = watch.names.get(name).cloned().unwrap_or_default();
        if is_visible(name) {
            paths.extend(watch.tree.iter().map(|folder| folder.join(name)));
        }
        for path in paths {
            debug!("{}: {flags:?}", path.display());
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
        let full = self.full(path);
        let is_link = fs::symlink_metadata(&full).is_ok_and(|metadata| metadata.is_symlink());
        let old_steps = self.forget_steps(path);
        if is_link {
            self.follow_steps(path, false);
        }
        for (wd, _) in old_steps {
            self.drop_if_unused(wd);
        }
        match fs::metadata(&full) {
            Ok(metadata) if metadata.is_dir() => self.scan(path, changed),
            Ok(_) if is_manifest(path) => {
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
        self.failed.remove(path);
        if let Err(error) = self.try_scan(path, changed) {
            // Gone already: there will be an event, or was.
            if error.kind() != io::ErrorKind::NotFound || path.as_os_str().is_empty() {
                self.failed.insert(path.to_owned(), format!("the folder cannot be followed: {error}"));
            }
        }
    }

    fn try_scan(&mut self, path: &Path, changed: &mut BTreeSet<PathBuf>) -> io::Result<()> {
        let full = self.full(path);
        if path.components().count() > MAX_DEPTH {
            return Err(io::Error::other(format!("more than {MAX_DEPTH} folders inside of each other")));
        }
        let real = fs::canonicalize(&full)?;
        // A link to a folder around it would never end.
        if !path.as_os_str().is_empty()
            && path
                .ancestors()
                .skip(1)
                .any(|above| fs::canonicalize(self.full(above)).is_ok_and(|it| it == real))
        {
            return Err(io::Error::other("it is a link to a folder around it"));
        }
        let wd = self.watch(&full)?;
        self.watches.entry(wd).or_default().tree.insert(path.to_owned());
        self.folders.insert(path.to_owned(), wd);
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
                    if is_manifest(&below) {
                        changed.insert(below.clone());
                        self.files.insert(below);
                    }
                }
                _ => self.look(&below, changed),
            }
        }
        Ok(())
    }

    fn watch(&self, folder: &Path) -> io::Result<i32> {
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&self.inotify, folder, flags).map_err(|error| {
            if error == Errno::NOSPC {
                io::Error::other(
                    "the limit of watches is reached; raise the sysctl fs.inotify.max_user_watches",
                )
            } else {
                error.into()
            }
        })
    }

    /// The folder at `path` is no more a folder of the tree.
    fn forget_tree(&mut self, path: &Path, changed: &mut BTreeSet<PathBuf>) {
        let below = |set: &mut dyn Iterator<Item = &PathBuf>| -> Vec<PathBuf> {
            set.take_while(|it| it.starts_with(path)).cloned().collect()
        };
        let folders = below(&mut self.folders.range(path.to_owned()..).map(|(path, _)| path));
        let files = below(&mut self.files.range(path.to_owned()..));
        let mut unused: Vec<i32> = Vec::new();
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
            unused.extend(self.forget_steps(&link).into_iter().map(|(wd, _)| wd));
        }
        for wd in unused {
            self.drop_if_unused(wd);
        }
    }

    fn forget_folder(&mut self, path: &Path) -> Option<i32> {
        let wd = self.folders.remove(path)?;
        if let Some(watch) = self.watches.get_mut(&wd) {
            watch.tree.remove(path);
        }
        Some(wd)
    }

    fn drop_if_unused(&mut self, wd: i32) {
        if self.watches.get(&wd).is_some_and(Watch::is_unused) {
            self.watches.remove(&wd);
            // An error says that the watch ended by itself, with its folder.
            let _ = inotify::remove_watch(&self.inotify, wd);
        }
    }

    /// Returns what the steps were; the watches behind them stay.
    fn forget_steps(&mut self, path: &Path) -> Vec<(i32, OsString)> {
        let steps = self.steps.remove(path).unwrap_or_default();
        for (wd, name) in &steps {
            if let Some(watch) = self.watches.get_mut(wd)
                && let Some(paths) = watch.names.get_mut(name)
            {
                paths.remove(path);
                if paths.is_empty() {
                    watch.names.remove(name);
                }
            }
        }
        steps
    }

    /// Watches each name through which `path` leads to what it stands for.
    fn follow_steps(&mut self, path: &Path, is_root: bool) {
        let mut steps = Vec::new();
        for (folder, name) in steps_of(&self.full(path), is_root) {
            match self.watch(&folder) {
                Ok(wd) => {
                    let names = &mut self.watches.entry(wd).or_default().names;
                    names.entry(name.clone()).or_default().insert(path.to_owned());
                    steps.push((wd, name));
                }
                Err(error) => debug!("{}: cannot be watched: {error}", folder.display()),
            }
        }
        self.steps.insert(path.to_owned(), steps);
    }
}

fn is_visible(name: &OsStr) -> bool {
    !name.as_bytes().starts_with(b".")
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}

/// The folders and names that decide what the absolute path `full` is: each link on the way, and its end. If it
/// does not exist, the first name that is missing is the end.
fn steps_of(full: &Path, with_end: bool) -> Vec<(PathBuf, OsString)> {
    let mut steps = Vec::new();
    let mut todo: Vec<OsString> = names_reversed(full);
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = todo.pop() {
        if name == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&name);
        let metadata = fs::symlink_metadata(&next);
        let is_link = metadata.as_ref().is_ok_and(fs::Metadata::is_symlink);
        let is_end = todo.is_empty() && (with_end || links > 0);
        if is_link || is_end || metadata.is_err() {
            steps.push((here.clone(), name));
        }
        if metadata.is_err() {
            break;
        }
        if is_link {
            links += 1;
            let Ok(target) = fs::read_link(&next) else { break };
            if links > MAX_LINKS {
                break;
            }
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            todo.extend(names_reversed(&target));
        } else {
            here = next;
        }
    }
    steps
}

fn names_reversed(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut names: Vec<OsString> = names.collect();
    names.reverse();
    names
}

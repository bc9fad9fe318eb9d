//! Following some files or folders.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::inotify::{Event, Inotify, Watch};
use crate::links::{self, End};

/// Some files or folders, each perhaps behind symbolic links, and perhaps not there for a while.
#[derive(Debug)]
pub struct Paths {
    followed: Vec<PathBuf>,
    inotify: Inotify,
    watches: HashMap<Watch, Names>,
}

/// The names that matter in one watched folder.
#[derive(Debug, Default)]
struct Names {
    /// All of them: the folder itself is followed.
    all: bool,
    some: HashSet<OsString>,
}

impl Paths {
    /// Begins to follow `paths`. No change after this call is missed.
    ///
    /// Of a folder, the names directly in it are followed.
    pub fn open<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Paths, Error> {
        let followed: Result<_, _> = paths.into_iter().map(std::path::absolute).collect();
        let mut paths = Paths { followed: followed?, inotify: Inotify::new()?, watches: HashMap::new() };
        paths.follow()?;
        Ok(paths)
    }

    /// Waits until one of the paths may be something else than at the end of the last call.
    pub fn wait(&mut self) -> Result<(), Error> {
        loop {
            if self.inotify.wait(None)? && self.changed()? {
                return Ok(());
            }
        }
    }

    /// Whether one of the paths may be something else than at the end of the last call. It does not
    /// wait: for programs that wait for [`Paths::as_fd`] themselves.
    pub fn changed(&mut self) -> Result<bool, Error> {
        let events = self.inotify.events()?;
        let changed = events.iter().any(|event| self.concerns(event));
        if changed {
            // Links may lead elsewhere now.
            self.follow()?;
        }
        Ok(changed)
    }

    fn concerns(&self, event: &Event) -> bool {
        match event {
            Event::Name(watch, name) => {
                self.watches.get(watch).is_some_and(|names| names.all || names.some.contains(name))
            }
            Event::Moved(watch) | Event::Ended(watch) => self.watches.contains_key(watch),
            Event::Lost => true,
        }
    }

    /// Watches the folders that the names on the way to the paths are in, and no others.
    fn follow(&mut self) -> Result<(), Error> {
        let mut watches: HashMap<Watch, Names> = HashMap::new();
        let mut failed = Ok(());
        let mut watch = |folder: &Path, name: Option<&OsStr>| match self.inotify.watch(folder) {
            Ok(watch) => {
                let names = watches.entry(watch).or_default();
                match name {
                    Some(name) => drop(names.some.insert(name.to_owned())),
                    None => names.all = true,
                }
            }
            // It went away since we looked: the folder around it is watched.
            Err(error) if error.is_gone() => {}
            Err(error) => failed = Err(error),
        };
        for path in &self.followed {
            links::follow(path, End::Counts, |folder, name| watch(folder, Some(name)));
            if fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
                watch(path, None);
            }
        }
        for old in self.watches.keys().filter(|old| !watches.contains_key(old)) {
            self.inotify.unwatch(*old);
        }
        self.watches = watches;
        failed
    }
}

impl AsFd for Paths {
    /// Readable when [`Paths::wait`] and [`Paths::changed`] have something to look at.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

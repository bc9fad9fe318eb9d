//! Noticing that a configuration file says something else than what was read.
//!
//! Every name on the way to the file is watched in its folder, through all symbolic links, so that the swap of
//! `..data` by which a ConfigMap is replaced is seen as well as an edit. What counts is the content: a file that is
//! written anew with the same text has not changed (unlike spec §10.3).

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// How many links one name may lead through (Linux: 40).
const MAX_LINKS: usize = 40;

/// Longer files are no configuration.
const MAX_SIZE: u64 = 16 << 20;

/// Why a configuration file cannot be read or watched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be watched.
    #[error("{}: cannot be watched for changes: {source}", path.display())]
    Watch {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A configuration file, and what it said when it was last looked at.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    text: String,
    inotify: OwnedFd,
    /// What is watched at present.
    watches: HashSet<i32>,
}

impl ConfigFile {
    /// Reads the file at `path` and begins to watch it. No change after this call is missed.
    pub fn open(path: impl AsRef<Path>) -> Result<ConfigFile, Error> {
        let path = path.as_ref().to_owned();
        let unwatched = |source: io::Error| Error::Watch { path: path.clone(), source };
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|error| unwatched(error.into()))?;
        let mut file =
            ConfigFile { path: path.clone(), text: String::new(), inotify, watches: HashSet::new() };
        file.follow().map_err(unwatched)?;
        file.text = read(&path).map_err(|source| Error::Read { path, source })?;
        Ok(file)
    }

    /// The path as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it said when it was last looked at: at the end of [`ConfigFile::open`] or [`ConfigFile::wait`].
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Waits until the file can be read and says something else than [`ConfigFile::text`]; returns that.
    ///
    /// A file that is gone for a while, or that cannot be read, has not changed. Of a file that is written in place,
    /// this may return a part first, and then the whole.
    pub fn wait(&mut self) -> Result<&str, Error> {
        loop {
            // First the watches, then a look: what changes in between is an event.
            self.follow().map_err(|source| Error::Watch { path: self.path.clone(), source })?;
            // An empty file is one that is being written.
            if let Ok(text) = read(&self.path)
                && text != self.text
                && !text.is_empty()
            {
                self.text = text;
                return Ok(&self.text);
            }
            self.events().map_err(|source| Error::Watch { path: self.path.clone(), source })?;
        }
    }

    /// Watches the folders in which the names on the way to the file are, and no others.
    fn follow(&mut self) -> io::Result<()> {
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let mut watches = HashSet::new();
        for folder in folders(&std::path::absolute(&self.path)?) {
            match inotify::add_watch(&self.inotify, &folder, flags) {
                Ok(watch) => drop(watches.insert(watch)),
                // It went away since we looked: the folder around it will tell.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(Errno::NOSPC) => {
                    return Err(io::Error::other(
                        "the limit of watches is reached; raise the sysctl fs.inotify.max_user_watches",
                    ));
                }
                Err(error) => return Err(error.into()),
            }
        }
        for old in self.watches.difference(&watches) {
            // An error says that the watch ended by itself, with its folder.
            let _ = inotify::remove_watch(&self.inotify, *old);
        }
        self.watches = watches;
        Ok(())
    }

    /// Waits for events, and takes them all.
    fn events(&mut self) -> io::Result<()> {
        loop {
            match poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], None) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    if event.events().contains(ReadFlags::IGNORED) {
                        self.watches.remove(&event.wd());
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for ConfigFile {
    /// Readable when [`ConfigFile::wait`] has something to look at.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

// A program watches its file on a thread of its own.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<ConfigFile>();
};

fn read(path: &Path) -> io::Result<String> {
    let size = fs::metadata(path)?.len();
    if size > MAX_SIZE {
        return Err(io::Error::other(format!("it has {size} bytes, more than {MAX_SIZE}")));
    }
    fs::read_to_string(path)
}

/// The folders in which the names are that decide what the absolute path `full` is: each name on the way that
/// leads elsewhere or may come to, and the end. Up to the first name that is missing.
fn folders(full: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let mut todo = names_reversed(full);
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
        if is_link || todo.is_empty() || metadata.is_err() {
            folders.push(here.clone());
        }
        if metadata.is_err() {
            break;
        }
        if !is_link {
            here = next;
            continue;
        }
        links += 1;
        let Ok(target) = fs::read_link(&next) else { break };
        if links > MAX_LINKS {
            break;
        }
        if target.is_absolute() {
            here = PathBuf::from("/");
        }
        todo.extend(names_reversed(&target));
    }
    folders
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

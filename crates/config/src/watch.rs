//! Noticing that a configuration file says something else than what was read.
//!
//! What counts is the content: a file that is written anew with the same text has not changed
//! (unlike spec §10.3).

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use portolan_watch::Paths;

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
        source: portolan_watch::Error,
    },
}

/// A configuration file, and what it said when it was last looked at.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    text: String,
    watch: Paths,
}

impl ConfigFile {
    /// Reads the file at `path` and begins to watch it. No change after this call is missed.
    pub fn open(path: impl AsRef<Path>) -> Result<ConfigFile, Error> {
        let path = path.as_ref().to_owned();
        let watch = Paths::open([&path]).map_err(|source| Error::Watch { path: path.clone(), source })?;
        let text = read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        Ok(ConfigFile { path, text, watch })
    }

    /// The path as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it said when [`ConfigFile::open`] or [`ConfigFile::wait`] last looked at it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Waits until the file can be read and says something else than [`ConfigFile::text`]; returns
    /// that.
    ///
    /// A file that is gone for a while, or that cannot be read, has not changed. Of a file that is
    /// written in place, this may return a part first, and then the whole.
    pub fn wait(&mut self) -> Result<&str, Error> {
        loop {
            // An empty file is one that is being written.
            if let Ok(text) = read(&self.path)
                && text != self.text
                && !text.is_empty()
            {
                self.text = text;
                return Ok(&self.text);
            }
            self.watch.wait().map_err(|source| Error::Watch { path: self.path.clone(), source })?;
        }
    }
}

impl AsFd for ConfigFile {
    /// Readable when [`ConfigFile::wait`] has something to look at.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
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

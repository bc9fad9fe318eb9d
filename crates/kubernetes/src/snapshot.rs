//! The last good state on disk, so that a node that boots while the API server is away programs
//! what it last knew.
//!
//! One file, a journal: whatever changes is appended, so that the cost follows the change and not
//! the size of the cluster. The last record of an object is what is known of it. Records carry
//! checksums; what a crash left behind half written is cut off. A new journal is written beside the
//! old one while the first lists stream in, and takes its place in one step when they are complete.
//! When most of a journal is history, it is rewritten without. There are Services, EndpointSlices,
//! the own Node and ServiceCIDRs in it, reduced to the fields that are used: no credentials.
//!
//! A thread of low priority writes. What it is given is in the file within a second and on the disk
//! within six: that much a crash of the program or of the machine can lose. A disk that is full,
//! read-only or too slow ends the keeping of snapshots with one warning, and nothing else.

mod read;
mod record;
mod write;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use read::{Damage, Loaded, read, read_from};
pub use record::Entry;

use record::Operation;
use write::Writer;

/// A snapshot that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read: {0}")]
    Read(#[from] io::Error),
    /// Something else wrote the file.
    #[error("this is not a snapshot of portolan")]
    Foreign,
    /// Another version of portolan wrote the file.
    #[error("its format is {found}, this program reads {} to {}", record::OLDEST, record::VERSION)]
    Version {
        /// The number of its format.
        found: u32,
    },
}

/// Keeps the last good state in a file.
pub struct Journal {
    path: PathBuf,
    /// None once it cannot be written.
    writer: Option<Writer>,
}

impl Journal {
    /// Starts a new journal beside the one at `path`, which stays as it is until
    /// [`Self::finish_base`]. Creates the folder if it is missing. What cannot be written is logged
    /// once.
    pub fn open(path: &Path) -> Self {
        let writer = Writer::start(path)
            .inspect_err(|error| {
                tracing::warn!(path = %path.display(), %error,
                    "the last good state cannot be kept: a start without the API server would know nothing");
            })
            .ok();
        Self { path: path.to_owned(), writer }
    }

    /// An object is now `json`.
    pub fn put(&self, kind: &str, namespace: &str, name: &str, json: &[u8]) {
        self.append(Operation::Put, &Entry { kind, namespace, name, json });
    }

    /// An object is gone.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) {
        self.append(Operation::Delete, &Entry { kind, namespace, name, json: b"" });
    }

    /// What has been put is a complete state: it replaces the journal that was there, and what
    /// follows are changes to it.
    pub fn finish_base(&self) {
        if let Some(writer) = &self.writer {
            writer.finish_base();
        }
    }

    /// Reads the journal that was there, object by object. Those that `keep` returns true for
    /// become part of the new one, too. Call it before [`Self::finish_base`]. Damage is logged;
    /// what comes before it is used.
    pub fn load(&self, mut keep: impl FnMut(&Entry<'_>) -> bool) -> Option<Loaded> {
        let result = read(&self.path, |entry| {
            if keep(entry) {
                self.append(Operation::Put, entry);
            }
        });
        let path = self.path.display();
        match result {
            Ok(loaded) => {
                if let Some(Damage { at, lost, reason }) = loaded.as_ref().and_then(|loaded| loaded.damage) {
                    tracing::warn!(%path, at, lost, reason, "the end of the last good state is damaged and not used");
                }
                loaded
            }
            Err(error) => {
                tracing::warn!(%path, %error, "there is no last good state to start from; the file will be replaced");
                None
            }
        }
    }

    /// Waits until all that was given before is in the file and on the disk.
    pub fn sync(&self) {
        if let Some(writer) = &self.writer {
            writer.sync();
        }
    }

    fn append(&self, operation: Operation, entry: &Entry<'_>) {
        if let Some(writer) = &self.writer {
            writer.append(operation, entry, SystemTime::now());
        }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Journal").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

//! Files that were being written when they were looked at, and when they are looked at again.
//!
//! The event that a writer has closed a file comes before the kernel counts the writer as gone
//! (`fsnotify_close` and `put_file_access` in fs/file_table.c). Who looks at once may still find
//! the file being written, and no other event follows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The pause before the second look. Each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// The longest pause between two looks at a file that somebody keeps open.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Such files, each with its pause and the time of the next look.
#[derive(Debug, Default)]
pub(super) struct Unfinished(BTreeMap<PathBuf, (Duration, Instant)>);

impl Unfinished {
    /// The file at `path` is being written.
    pub(super) fn note(&mut self, path: &Path, now: Instant) {
        let pause = match self.0.get(path) {
            Some((pause, _)) => (*pause * 2).min(LONGEST_PAUSE),
            None => FIRST_PAUSE,
        };
        self.0.insert(path.to_owned(), (pause, now + pause));
    }

    /// The file at `path` is complete, or gone.
    pub(super) fn forget(&mut self, path: &Path) {
        self.0.remove(path);
    }

    /// How long to wait for events, when nobody would wait for longer than `timeout`.
    pub(super) fn shorten(&self, timeout: Option<Duration>) -> Option<Duration> {
        let next = self.0.values().map(|(_, at)| at.saturating_duration_since(Instant::now())).min();
        next.into_iter().chain(timeout).min()
    }

    /// The files to look at again by now.
    pub(super) fn due(&self, now: Instant) -> BTreeSet<PathBuf> {
        self.0.iter().filter(|(_, (_, at))| *at <= now).map(|(path, _)| path.clone()).collect()
    }
}

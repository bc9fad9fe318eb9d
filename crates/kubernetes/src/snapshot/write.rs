//! Writing a journal: a thread that takes what has gathered, once a second at most.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::read::read;
use super::record::{self, Entry, HEADER, Operation};

/// How long records gather before they are written.
const GATHER: Duration = Duration::from_secs(1);
/// How long they may then be in the kernel's memory only.
const SYNC: Duration = Duration::from_secs(5);
/// This many bytes are written without waiting for more.
const ENOUGH: usize = 256 << 10;
/// With more bytes than these waiting, whoever brings more waits too.
const FULL: usize = 8 << 20;
/// A disk that takes longer than this to take what is waiting is as good as none.
const TOO_SLOW: Duration = Duration::from_secs(3);
/// History is not worth removing below this many bytes.
const HISTORY_AT_LEAST: u64 = 4 << 20;

/// Hands records to the thread that writes them. Dropping it writes what is left.
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Something is in the queue, or has been taken out.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    /// Since when there has been something in `bytes`.
    since: Option<Instant>,
    finish_base: bool,
    /// How often everything was asked to be on disk, and how often it was.
    syncs_wanted: u64,
    syncs_done: u64,
    ended: bool,
    /// Nothing is taken any more.
    failed: bool,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Every change of the queue is whole in itself.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&'a self, queue: MutexGuard<'a, Queue>, timeout: Option<Duration>) -> MutexGuard<'a, Queue> {
        match timeout {
            None => self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                self.changed.wait_timeout(queue, timeout).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }
}

impl Writer {
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        }
        let (file, beside) = create_beside(path)?;
        let shared = Arc::new(Shared::default());
        let thread = Thread {
            shared: Arc::clone(&shared),
            path: path.to_owned(),
            beside,
            file,
            is_base: true,
            size: HEADER as u64,
            base: 0,
            unsynced: None,
        };
        let thread = std::thread::Builder::new().name("snapshot".to_owned()).spawn(move || thread.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(super) fn append(&self, operation: Operation, entry: &Entry<'_>, time: SystemTime) {
        let mut queue = self.shared.queue();
        let began = Instant::now();
        while queue.bytes.len() >= FULL && !queue.failed {
            let Some(left) = TOO_SLOW.checked_sub(began.elapsed()) else {
                queue.failed = true;
                queue.bytes = Vec::new();
                warn(&"the disk is too slow");
                break;
            };
            queue = self.shared.wait(queue, Some(left));
        }
        if queue.failed {
            return;
        }
        if !record::write(&mut queue.bytes, operation, time, entry) {
            tracing::warn!(
                kind = entry.kind,
                namespace = entry.namespace,
                name = entry.name,
                "the object is too large for the last good state"
            );
            return;
        }
        let length = queue.bytes.len();
        // The thread sleeps until the first record, then until there are enough.
        let wake = queue.since.is_none() || length >= ENOUGH;
        queue.since.get_or_insert_with(Instant::now);
        drop(queue);
        if wake {
            self.shared.changed.notify_all();
        }
    }

    pub(super) fn finish_base(&self) {
        self.shared.queue().finish_base = true;
        self.shared.changed.notify_all();
    }

    pub(super) fn sync(&self) {
        let mut queue = self.shared.queue();
        queue.syncs_wanted += 1;
        let wanted = queue.syncs_wanted;
        self.shared.changed.notify_all();
        while queue.syncs_done < wanted && !queue.failed {
            queue = self.shared.wait(queue, None);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.queue().ended = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn warn(error: &dyn std::fmt::Display) {
    tracing::warn!(%error, "the last good state can no longer be kept; a start without the API server will use what is on disk");
}

/// Opens an empty journal beside `path`, ours alone.
fn create_beside(path: &Path) -> io::Result<(File, PathBuf)> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&beside)?;
    file.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => {
            io::Error::new(io::ErrorKind::ResourceBusy, "another process is writing a snapshot here")
        }
        fs::TryLockError::Error(error) => error,
    })?;
    file.set_len(0)?;
    (&file).write_all(&record::header())?;
    Ok((file, beside))
}

/// What the thread works on.
struct Thread {
    shared: Arc<Shared>,
    path: PathBuf,
    /// Where new journals are written.
    beside: PathBuf,
    file: File,
    /// Whether `file` is a journal beside the one in force.
    is_base: bool,
    size: u64,
    /// The size of the journal when it was last without history.
    base: u64,
    /// Since when something has been written that is not on the disk.
    unsynced: Option<Instant>,
}

/// What is to be done next.
struct Work {
    bytes: Vec<u8>,
    finish_base: bool,
    syncs: u64,
    ended: bool,
}

impl Thread {
    fn run(mut self) {
        // Rules matter more. Where it cannot be had, the thread runs like any other.
        let _priority = rustix::process::nice(10);
        let mut spare = Vec::new();
        loop {
            let work = self.next(std::mem::take(&mut spare));
            let ended = work.ended;
            if let Err(error) = self.work(&work) {
                warn(&format_args!("{}: {error}", self.path.display()));
                self.shared.queue().failed = true;
                self.shared.changed.notify_all();
                return;
            }
            self.shared.queue().syncs_done = work.syncs;
            self.shared.changed.notify_all();
            if ended {
                return;
            }
            spare = work.bytes;
            spare.clear();
            // What the first lists needed is not needed again.
            spare.shrink_to(ENOUGH);
        }
    }

    /// Waits until there is something to do.
    fn next(&self, spare: Vec<u8>) -> Work {
        let mut queue = self.shared.queue();
        loop {
            let now = Instant::now();
            let wait = queue.since.map(|since| (since + GATHER).saturating_duration_since(now));
            let wait_sync = self.unsynced.map(|since| (since + SYNC).saturating_duration_since(now));
            let wait = [wait, wait_sync].into_iter().flatten().min();
            let asked = queue.syncs_wanted > queue.syncs_done || queue.finish_base || queue.ended;
            if asked || queue.failed || queue.bytes.len() >= ENOUGH || wait == Some(Duration::ZERO) {
                let work = Work {
                    bytes: std::mem::replace(&mut queue.bytes, spare),
                    finish_base: std::mem::take(&mut queue.finish_base),
                    syncs: queue.syncs_wanted,
                    ended: queue.ended || queue.failed,
                };
                queue.since = None;
                return work;
            }
            queue = self.shared.wait(queue, wait);
        }
    }

    fn work(&mut self, work: &Work) -> io::Result<()> {
        if !work.bytes.is_empty() {
            self.file.write_all(&work.bytes)?;
            self.size += work.bytes.len() as u64;
            self.unsynced.get_or_insert_with(Instant::now);
        }
        if work.finish_base && self.is_base {
            self.replace(self.size)?;
        }
        let asked = work.syncs > self.shared.queue().syncs_done || work.ended;
        // A journal that is not in force yet is synchronised when it gets there.
        if self.unsynced.is_some_and(|since| asked || since.elapsed() >= SYNC) {
            if !self.is_base || asked {
                self.file.sync_data()?;
            }
            self.unsynced = None;
        }
        if !self.is_base && self.size > 2 * self.base + HISTORY_AT_LEAST {
            self.compact()?;
        }
        Ok(())
    }

    /// Puts the journal that was written beside in the place of the one in force.
    fn replace(&mut self, base: u64) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.beside, &self.path)?;
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            // The name is on disk as well.
            File::open(folder)?.sync_all()?;
        }
        self.is_base = false;
        self.base = base;
        self.unsynced = None;
        Ok(())
    }

    /// Writes a journal without history.
    fn compact(&mut self) -> io::Result<()> {
        let ours = self.file.metadata()?;
        let there = fs::metadata(&self.path)?;
        if (ours.dev(), ours.ino()) != (there.dev(), there.ino()) {
            return Err(io::Error::other("another process has written its own snapshot here"));
        }
        let (file, beside) = create_beside(&self.path)?;
        let mut out = io::BufWriter::with_capacity(ENOUGH, &file);
        let (mut size, mut bytes, mut failure) = (HEADER as u64, Vec::new(), None);
        let time = SystemTime::now();
        read(&self.path, |entry| {
            bytes.clear();
            record::write(&mut bytes, Operation::Put, time, entry);
            size += bytes.len() as u64;
            if failure.is_none() {
                failure = out.write_all(&bytes).err();
            }
        })
        .map_err(io::Error::other)?;
        failure.map_or(Ok(()), Err)?;
        out.flush()?;
        drop(out);
        (self.file, self.beside, self.size, self.is_base) = (file, beside, size, true);
        self.replace(size)
    }
}

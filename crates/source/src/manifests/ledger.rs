//! The ledger: a file that remembers which addresses and ports were allocated, so that they stay
//! the same over restarts and are the same for all proxies that read the same folder.
//!
//! Each line is a JSON object for one Service; a later line replaces an earlier one. Lines are
//! appended under a lock, after those that others have appended were read, so that an allocation
//! costs what it holds.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use portolan_controllers::{Allocations, InMemory, Record};
use portolan_service::ObjectName;
use serde::{Deserialize, Serialize};

/// What is wrong with the ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LedgerError {
    /// A line is no entry.
    #[error(
        "is not an entry of the ledger of allocations ({reason}); the line is dropped, and what it held \
         may be allocated anew"
    )]
    Damaged {
        /// From 1.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// The file cannot be read or written.
    #[error("cannot {action} the ledger of allocations: {reason}; addresses may differ after a restart")]
    Unusable {
        /// What was tried.
        action: &'static str,
        /// What the system says.
        reason: String,
    },
}

impl LedgerError {
    fn unusable(action: &'static str, error: &io::Error) -> LedgerError {
        LedgerError::Unusable { action, reason: error.to_string() }
    }

    /// The line in the ledger, from 1.
    pub(crate) fn line(&self) -> Option<usize> {
        match self {
            LedgerError::Damaged { line, .. } => Some(*line),
            LedgerError::Unusable { .. } => None,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Entry {
    service: String,
    allocated: Allocations,
}

/// The allocations remembered, and the file they are in.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    path: Option<PathBuf>,
    read_only: bool,
    known: InMemory,
    /// The file, locked while we allocate.
    locked: Option<File>,
    /// How much of the file has been read: which file, bytes and lines.
    read: Option<(u64, u64, usize)>,
    damaged: Vec<LedgerError>,
    failed: Option<LedgerError>,
}

/// More lines than this for each entry, and the file is written anew at the start.
const LINES_PER_ENTRY: usize = 3;

impl Ledger {
    /// The ledger in the file at `path`, or one that remembers only as long as the process.
    pub(crate) fn open(path: Option<PathBuf>, read_only: bool) -> Ledger {
        let mut ledger = Ledger { path, read_only, ..Ledger::default() };
        let Some(path) = ledger.path.clone() else { return ledger };
        if read_only {
            match File::open(&path) {
                Ok(file) => ledger.read_new(&file, "read"),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => ledger.failed = Some(LedgerError::unusable("read", &error)),
            }
            return ledger;
        }
        match lock(&path) {
            Ok(file) => {
                ledger.read_new(&file, "read");
                let lines = ledger.read.map_or(0, |(_, _, lines)| lines);
                let grown = lines > 1000 + LINES_PER_ENTRY * ledger.known.iter().len();
                if ledger.failed.is_none() && (grown || !ledger.damaged.is_empty()) {
                    ledger.rebuild(&path);
                }
            }
            Err(error) => ledger.failed = Some(LedgerError::unusable("open", &error)),
        }
        ledger
    }

    /// What is wrong at present.
    pub(crate) fn errors(&self) -> Vec<LedgerError> {
        self.damaged.iter().chain(&self.failed).cloned().collect()
    }

    /// Reads what was added since the last time, all of it if the file is another one.
    fn read_new(&mut self, file: &File, action: &'static str) {
        if let Err(error) = self.try_read_new(file) {
            self.failed = Some(LedgerError::unusable(action, &error));
        }
    }

    fn try_read_new(&mut self, file: &File) -> io::Result<()> {
        let metadata = file.metadata()?;
        let (mut bytes, mut line) = match self.read {
            Some((inode, bytes, lines)) if inode == metadata.ino() && bytes <= metadata.len() => {
                (bytes, lines)
            }
            _ => {
                self.damaged.clear();
                (0, 0)
            }
        };
        let mut reader = BufReader::new(file);
        reader.seek(SeekFrom::Start(bytes))?;
        let mut text = Vec::new();
        while reader.by_ref().take(1 << 20).read_until(b'\n', &mut text)? > 0 {
            bytes += text.len() as u64;
            line += 1;
            match parse(&text) {
                Ok(Some((service, allocated))) => {
                    self.known.remember(service, allocated);
                }
                Ok(None) => {}
                Err(reason) => self.damaged.push(LedgerError::Damaged { line, reason }),
            }
            text.clear();
        }
        self.read = Some((metadata.ino(), bytes, line));
        Ok(())
    }

    /// Writes the file anew with what could be read of it. The caller holds the lock.
    fn rebuild(&mut self, path: &Path) {
        let mut entries: Vec<_> = self.known.iter().collect();
        entries.sort();
        let mut text = String::new();
        for (service, allocated) in &entries {
            push_line(&mut text, service, allocated);
        }
        let lines = entries.len();
        let temporary = path.with_extension("new");
        let written = fs::write(&temporary, &text)
            .and_then(|()| fs::rename(&temporary, path))
            .and_then(|()| fs::metadata(path));
        match written {
            Ok(metadata) => self.read = Some((metadata.ino(), text.len() as u64, lines)),
            Err(error) => self.failed = Some(LedgerError::unusable("rebuild", &error)),
        }
    }
}

impl Record for Ledger {
    fn known(&self) -> &InMemory {
        &self.known
    }

    fn begin(&mut self) {
        let Some(path) = self.path.clone().filter(|_| !self.read_only) else { return };
        self.failed = None;
        match lock(&path) {
            Ok(file) => {
                self.read_new(&file, "read");
                self.locked = Some(file);
            }
            Err(error) => self.failed = Some(LedgerError::unusable("open", &error)),
        }
    }

    fn commit(&mut self, allocated: Vec<(ObjectName, Allocations)>) {
        if let Some(mut file) = self.locked.take()
            && !allocated.is_empty()
        {
            let mut text = String::new();
            for (service, allocated) in &allocated {
                push_line(&mut text, service, allocated);
            }
            match append(&mut file, &text) {
                // Nobody else appends while we hold the lock: what was added is what we know.
                Ok(bytes) => {
                    if let Some(read) = &mut self.read {
                        (read.1, read.2) = (bytes, read.2 + allocated.len());
                    }
                }
                Err(error) => self.failed = Some(LedgerError::unusable("write", &error)),
            }
        }
        self.known.commit(allocated);
    }
}

fn parse(line: &[u8]) -> Result<Option<(ObjectName, Allocations)>, String> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let entry: Entry = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let names = entry.service.split_once('/').filter(|(_, name)| !name.contains('/'));
    let (namespace, name) =
        names.ok_or_else(|| format!("service {:?} is not namespace/name", entry.service))?;
    Ok(Some((ObjectName::new(namespace, name), entry.allocated)))
}

fn push_line(text: &mut String, service: &ObjectName, allocated: &Allocations) {
    let line = serde_json::json!({"service": service.as_str(), "allocated": allocated});
    text.push_str(&line.to_string());
    text.push('\n');
}

/// Appends `text` and returns the file's new length.
fn append(file: &mut File, text: &str) -> io::Result<u64> {
    // A line cut off by a crash must not swallow the next.
    let length = file.seek(SeekFrom::End(0))?;
    let mut last = [b'\n'];
    if length > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last != [b'\n'] {
        file.write_all(b"\n")?;
    }
    file.write_all(text.as_bytes())?;
    file.seek(SeekFrom::End(0))
}

/// The file at `path`, created if need be, locked until it is dropped.
fn lock(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    loop {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        file.lock()?;
        // Another proxy may have replaced the file while we waited for its lock.
        if fs::metadata(path).is_ok_and(|now| file.metadata().is_ok_and(|ours| ours.ino() == now.ino())) {
            return Ok(file);
        }
    }
}

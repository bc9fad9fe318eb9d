//! The last changes that were brought into the kernel, or could not be.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::rows::ChangeRow;
use crate::timestamp::rfc3339;

/// At most this many changes are kept.
const KEPT: usize = 1000;
/// The text of all changes together has at most this many bytes.
const KEPT_BYTES: usize = 1 << 20;
/// At most this many Services of one change are named, and this many of its lines are kept.
const NAMED: usize = 10;
const LINES: usize = 20;

/// One transaction, or the attempt at one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// When it was done.
    pub at: SystemTime,
    /// The Services it touched. Only the first few are kept by name.
    pub services: Vec<String>,
    /// A line for each thing that changed, for people. Only the first few are kept.
    pub lines: Vec<String>,
    /// Everything was written, not only what changed.
    pub full: bool,
    /// From the receipt of the first change to its being in force; `None` if no change asked for
    /// it.
    pub event_to_commit: Option<Duration>,
    /// From the first byte encoded to the kernel's answer.
    pub commit: Duration,
    /// Rules and set elements written or removed.
    pub operations: usize,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// The last changes, in bounded memory: at most 1000, at most 1 MiB of text.
#[derive(Debug, Default)]
pub struct ChangeLog {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    rows: VecDeque<ChangeRow>,
    bytes: usize,
}

impl ChangeLog {
    /// A log of nothing.
    pub fn new() -> ChangeLog {
        ChangeLog::default()
    }

    /// Keeps `change`, and forgets the oldest if there is no room.
    pub fn push(&self, change: Transaction) {
        let row = row(change);
        let mut kept = self.kept();
        kept.bytes += size(&row);
        kept.rows.push_back(row);
        while kept.rows.len() > KEPT || (kept.bytes > KEPT_BYTES && kept.rows.len() > 1) {
            if let Some(oldest) = kept.rows.pop_front() {
                kept.bytes -= size(&oldest);
            }
        }
    }

    /// What is kept, oldest first.
    pub fn rows(&self) -> Vec<ChangeRow> {
        self.kept().rows.iter().cloned().collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // No code panics while it holds the lock; and if it did, the rows would still be good.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn row(change: Transaction) -> ChangeRow {
    let Transaction { at, mut services, mut lines, full, event_to_commit, commit, operations, error } =
        change;
    let (service_count, line_count) = (services.len(), lines.len());
    services.truncate(NAMED);
    lines.truncate(LINES);
    if line_count > LINES {
        lines.push(format!("and {} more", line_count - LINES));
    }
    ChangeRow {
        at: rfc3339(at),
        services: services.into_iter().map(short).collect(),
        service_count,
        lines: lines.into_iter().map(short).collect(),
        full,
        event_to_commit_seconds: event_to_commit.map(|took| took.as_secs_f64()),
        commit_seconds: commit.as_secs_f64(),
        operations,
        error: error.map(short),
    }
}

/// No text of one change is longer than this many bytes.
const TEXT: usize = 1000;

fn short(mut text: String) -> String {
    if text.len() > TEXT {
        text.truncate(text.floor_char_boundary(TEXT));
        text.push('…');
    }
    text.shrink_to_fit();
    text
}

fn size(row: &ChangeRow) -> usize {
    let texts = row.services.iter().chain(&row.lines).chain(&row.error);
    size_of::<ChangeRow>() + row.at.len() + texts.map(|text| size_of::<String>() + text.len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(services: usize, text: &str) -> Transaction {
        Transaction {
            at: SystemTime::UNIX_EPOCH,
            services: (0..services).map(|number| format!("shop/s{number}")).collect(),
            lines: vec![text.to_owned(); services],
            full: false,
            event_to_commit: Some(Duration::from_micros(1500)),
            commit: Duration::from_micros(700),
            operations: 3,
            error: None,
        }
    }

    #[test]
    fn the_oldest_is_forgotten_when_there_are_many() {
        let log = ChangeLog::new();
        for number in 0..KEPT + 5 {
            log.push(Transaction { operations: number, ..change(1, "changed") });
        }
        let rows = log.rows();
        assert_eq!(rows.len(), KEPT);
        assert_eq!((rows[0].operations, rows[KEPT - 1].operations), (5, KEPT + 4));
    }

    #[test]
    fn memory_is_bounded_whatever_is_pushed() {
        let log = ChangeLog::new();
        for _ in 0..KEPT {
            log.push(change(50, &"ü".repeat(2000)));
        }
        let rows = log.rows();
        assert!(rows.iter().map(size).sum::<usize>() <= KEPT_BYTES);
        assert!(rows.len() > 10, "{}", rows.len());
        let last = rows.last().unwrap();
        assert_eq!((last.services.len(), last.service_count), (NAMED, 50));
        assert_eq!(last.lines.last().unwrap(), "and 30 more");
    }
}

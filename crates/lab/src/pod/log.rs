//! What a container has written: the last of it, for whoever asks and whoever follows.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, SystemTime};

/// So much is kept, in bytes.
const KEPT: usize = 1 << 20;

/// So many lines are kept: when each began takes more room than a short one.
const KEPT_LINES: usize = 1 << 16;

/// A follower gets so much at once, in bytes.
const PIECE: u64 = 1 << 15;

/// The log of one run of a container. Clones are the same log.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    text: Mutex<Text>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct Text {
    bytes: VecDeque<u8>,
    /// How many bytes are no longer kept.
    dropped: u64,
    /// Where the lines that are kept begin, and when they were begun.
    lines: VecDeque<(u64, SystemTime)>,
    /// Whether the last line is unfinished.
    is_within_line: bool,
    is_complete: bool,
    /// Those who wait, by their numbers.
    waiting: BTreeMap<u64, Waker>,
    /// The number of the next one who follows.
    next: u64,
}

/// Reads a log from some place on, as it grows.
#[derive(Debug)]
pub struct Follower {
    log: Log,
    number: u64,
    place: u64,
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// What was written.
    pub bytes: Vec<u8>,
    /// Where lines begin in it, and when they were begun.
    pub lines: Vec<(usize, SystemTime)>,
    /// Whether nothing will follow.
    pub is_last: bool,
}

impl Log {
    /// All that is kept from `place` on, where the beginning is 0; the place after it; and whether
    /// nothing will follow. Waits for so long while there is nothing.
    pub fn read(&self, place: u64, wait: Duration) -> (Vec<u8>, u64, bool) {
        let is_waiting = |text: &mut Text| text.end() <= place && !text.is_complete;
        let locked = self.text();
        let (text, _) =
            self.0.grown.wait_timeout_while(locked, wait, is_waiting).unwrap_or_else(PoisonError::into_inner);
        (text.between(place, u64::MAX), text.end(), text.is_complete)
    }

    /// The place after all that has been written.
    pub fn end(&self) -> u64 {
        self.text().end()
    }

    /// Whether nothing will follow.
    pub fn is_complete(&self) -> bool {
        self.text().is_complete
    }

    /// The place where the last `tail` lines begin, without those that were begun before `since`.
    pub fn place(&self, tail: Option<u64>, since: Option<SystemTime>) -> u64 {
        let text = self.text();
        let tail = tail.and_then(|tail| usize::try_from(tail).ok()).unwrap_or(usize::MAX);
        let mut lines = text.lines.iter().skip(text.lines.len().saturating_sub(tail));
        let first = lines.find(|(_, time)| since.is_none_or(|since| *time >= since));
        first.map_or(text.end(), |(place, _)| *place)
    }

    /// Follows the log from `place` on.
    pub fn follow(&self, place: u64) -> Follower {
        let mut text = self.text();
        let number = text.next;
        text.next += 1;
        Follower { log: self.clone(), number, place }
    }

    pub(super) fn write(&self, bytes: &[u8]) {
        self.write_at(SystemTime::now(), bytes);
    }

    fn write_at(&self, now: SystemTime, bytes: &[u8]) {
        let mut text = self.text();
        text.write(now, bytes);
        self.wake(text);
    }

    /// Nothing will follow.
    pub(super) fn complete(&self) {
        let mut text = self.text();
        text.is_complete = true;
        self.wake(text);
    }

    /// Wakes whoever waits.
    fn wake(&self, mut text: MutexGuard<'_, Text>) {
        let waiting = std::mem::take(&mut text.waiting);
        drop(text);
        self.0.grown.notify_all();
        waiting.into_values().for_each(Waker::wake);
    }

    fn text(&self) -> MutexGuard<'_, Text> {
        self.0.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Text {
    fn end(&self) -> u64 {
        self.dropped + self.bytes.len() as u64
    }

    fn write(&mut self, now: SystemTime, bytes: &[u8]) {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !self.is_within_line {
                self.lines.push_back((self.end(), now));
            }
            self.bytes.extend(line);
            self.is_within_line = !line.ends_with(b"\n");
        }
        let surplus = self.end().saturating_sub(KEPT as u64);
        let line = self.lines.len().checked_sub(KEPT_LINES).and_then(|surplus| self.lines.get(surplus));
        let from = line.map_or(surplus, |(place, _)| surplus.max(*place));
        if from > self.dropped {
            self.drop_before(from);
        }
    }

    /// Drops whole lines, unless there is only one.
    fn drop_before(&mut self, mut place: u64) {
        let first = self.lines.partition_point(|(begin, _)| *begin < place);
        if let Some((begin, _)) = self.lines.get(first) {
            place = *begin;
            self.lines.drain(..first);
        } else {
            self.lines.drain(..first.saturating_sub(1));
            if let Some((begin, _)) = self.lines.front_mut() {
                *begin = place;
            }
        }
        let surplus = self.index(place);
        self.bytes.drain(..surplus);
        self.dropped = place;
    }

    /// Where the byte of this place is now, or the next one that is kept.
    fn index(&self, place: u64) -> usize {
        let place = place.saturating_sub(self.dropped).min(self.bytes.len() as u64);
        usize::try_from(place).unwrap_or(self.bytes.len())
    }

    fn between(&self, from: u64, to: u64) -> Vec<u8> {
        self.bytes.range(self.index(from)..self.index(to)).copied().collect()
    }
}

impl Follower {
    /// The place after what was read.
    pub fn place(&self) -> u64 {
        self.place
    }

    /// The next piece of what is there by now. It may be empty.
    pub fn now(&mut self) -> Piece {
        let log = self.log.clone();
        self.piece(&log.text())
    }

    /// The next piece. Waits while there is none.
    pub async fn next(&mut self) -> Piece {
        let log = self.log.clone();
        poll_fn(|context| {
            let mut text = log.text();
            if text.end() <= self.place && !text.is_complete {
                text.waiting.insert(self.number, context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(self.piece(&text))
        })
        .await
    }

    fn piece(&mut self, text: &Text) -> Piece {
        let from = self.place.clamp(text.dropped, text.end());
        let to = from.saturating_add(PIECE).min(text.end());
        self.place = to;
        let first = text.lines.partition_point(|(begin, _)| *begin < from);
        let lines = text.lines.range(first..).take_while(|(begin, _)| *begin < to);
        let offset = |place: &u64| usize::try_from(place - from).unwrap_or_default();
        Piece {
            bytes: text.between(from, to),
            lines: lines.map(|(begin, time)| (offset(begin), *time)).collect(),
            is_last: text.is_complete && to == text.end(),
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.log.text().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last() {
        let log = Log::default();
        let none = Duration::ZERO;
        assert_eq!(log.read(0, none), (vec![], 0, false));
        log.write(b"one");
        log.write(b"two");
        assert_eq!(log.read(0, none), (b"onetwo".to_vec(), 6, false));
        assert_eq!(log.read(3, none), (b"two".to_vec(), 6, false));
        log.write(&vec![b'x'; KEPT]);
        let (bytes, end, _) = log.read(0, none);
        assert_eq!((bytes.len(), end), (KEPT, KEPT as u64 + 6));
        log.complete();
        assert_eq!(log.read(end, Duration::from_mins(1)), (vec![], end, true));
    }

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    /// Three lines, the last of them unfinished.
    fn three_lines() -> Log {
        let log = Log::default();
        log.write_at(at(1), b"one\ntw");
        log.write_at(at(2), b"o\n");
        log.write_at(at(3), b"three");
        log
    }

    #[test]
    fn finds_lines() {
        let log = three_lines();
        for (tail, since, place) in [
            (None, None, 0),
            (Some(1), None, 8),
            (Some(2), None, 4),
            (Some(9), None, 0),
            (Some(0), None, 13),
            (None, Some(1), 0),
            (None, Some(2), 8),
            (Some(2), Some(1), 4),
            (Some(2), Some(4), 13),
        ] {
            assert_eq!(log.place(tail, since.map(at)), place, "{tail:?} {since:?}");
        }
    }

    #[test]
    fn knows_when_lines_were_begun() {
        let log = three_lines();
        let piece = |bytes: &[u8], lines: &[(usize, u64)], is_last| Piece {
            bytes: bytes.to_vec(),
            lines: lines.iter().map(|(place, time)| (*place, at(*time))).collect(),
            is_last,
        };
        let mut follower = log.follow(2);
        assert_eq!(follower.now(), piece(b"e\ntwo\nthree", &[(2, 1), (6, 3)], false));
        assert_eq!(follower.now(), piece(b"", &[], false));
        log.write_at(at(4), b"!\n");
        log.complete();
        assert_eq!(follower.now(), piece(b"!\n", &[], true));
        let long = vec![b'x'; 2 << 15];
        let log = Log::default();
        log.write_at(at(5), &long);
        log.complete();
        let mut follower = log.follow(0);
        assert_eq!(follower.now(), piece(&long[..1 << 15], &[(0, 5)], false));
        assert_eq!(follower.now(), piece(&long[1 << 15..], &[], true));
    }

    #[test]
    fn drops_whole_lines() {
        let log = Log::default();
        log.write_at(at(1), b"first\n");
        log.write_at(at(2), &vec![b'x'; KEPT - 10]);
        log.write_at(at(3), b"\nthird\n");
        let first = log.follow(0).now();
        assert_eq!((first.bytes[0], &first.lines[..]), (b'x', &[(0, at(2))][..]));
        log.write_at(at(4), &vec![b'\n'; KEPT_LINES + 2]);
        let first = log.follow(0).now();
        assert_eq!((first.bytes[0], first.lines[0], first.lines.len()), (b'\n', (0, at(4)), 1 << 15));
        assert_eq!(log.read(0, Duration::ZERO).0.len(), KEPT_LINES);
        assert_eq!(log.place(Some(2), None), log.end() - 2);
    }

    #[test]
    fn wakes_who_waits() {
        use std::pin::pin;
        use std::sync::atomic::{AtomicU32, Ordering};
        use std::task::{Context, Wake};

        #[derive(Default)]
        struct Woken(AtomicU32);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let log = three_lines();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut follower = log.follow(log.end());
        let mut next = pin!(follower.next());
        assert!(next.as_mut().poll(&mut context).is_pending());
        log.write_at(at(4), b"!\n");
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        let Poll::Ready(piece) = next.as_mut().poll(&mut context) else { panic!("there is something") };
        assert_eq!((&piece.bytes[..], piece.is_last), (&b"!\n"[..], false));
        // Whoever goes away is forgotten.
        let mut gone = log.follow(log.end());
        assert!(pin!(gone.next()).poll(&mut context).is_pending());
        assert_eq!(log.text().waiting.len(), 1);
        drop(gone);
        assert!(log.text().waiting.is_empty());
        log.complete();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }
}

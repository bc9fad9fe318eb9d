//! What a container has written: the last of it, for whoever asks and whoever follows.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// So much is kept, in bytes.
const KEPT: usize = 1 << 20;

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
    is_complete: bool,
}

impl Log {
    /// All that is kept from `place` on, where the beginning is 0; the place after it; and whether
    /// nothing will follow. Waits for so long while there is nothing.
    pub fn read(&self, place: u64, wait: Duration) -> (Vec<u8>, u64, bool) {
        let is_waiting =
            |text: &mut Text| text.dropped + text.bytes.len() as u64 <= place && !text.is_complete;
        let locked = self.text();
        let (text, _) =
            self.0.grown.wait_timeout_while(locked, wait, is_waiting).unwrap_or_else(PoisonError::into_inner);
        let skipped = usize::try_from(place.saturating_sub(text.dropped)).unwrap_or(usize::MAX);
        let bytes: Vec<u8> = text.bytes.iter().skip(skipped).copied().collect();
        let end = text.dropped + text.bytes.len() as u64;
        (bytes, end, text.is_complete)
    }

    pub(super) fn write(&self, bytes: &[u8]) {
        let mut text = self.text();
        text.bytes.extend(bytes);
        let surplus = text.bytes.len().saturating_sub(KEPT);
        text.bytes.drain(..surplus);
        text.dropped += surplus as u64;
        self.0.grown.notify_all();
    }

    /// Nothing will follow.
    pub(super) fn complete(&self) {
        self.text().is_complete = true;
        self.0.grown.notify_all();
    }

    fn text(&self) -> MutexGuard<'_, Text> {
        self.0.text.lock().unwrap_or_else(PoisonError::into_inner)
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
}

//! Events that wait to be sent. One that repeats before it is sent waits once; of different ones
//! only the first few wait, since they are for people, and the first ones say most.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::Event;

/// At most this many different Events wait.
const AT_MOST: usize = 64;

/// Events that wait, from whoever has something to report to the task that sends them.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Each with how often it has happened.
    waiting: VecDeque<(Event, u32)>,
    closed: bool,
}

impl Outbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `event` in, and returns whether there was room.
    pub(crate) fn put(&self, event: Event) -> bool {
        let mut state = self.state();
        if let Some((_, count)) = state.waiting.iter_mut().find(|(known, _)| *known == event) {
            *count = count.saturating_add(1);
            return true;
        }
        if state.waiting.len() >= AT_MOST {
            return false;
        }
        state.waiting.push_back((event, 1));
        self.changed.notify_one();
        true
    }

    /// Nothing comes any more.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }

    /// Takes the next Event and how often it has happened, once there is one; `None` when nothing
    /// comes any more.
    pub(crate) async fn next(&self) -> Option<(Event, u32)> {
        loop {
            {
                let mut state = self.state();
                if let Some(next) = state.waiting.pop_front() {
                    return Some(next);
                }
                if state.closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Regarding;

    fn event(note: usize) -> Event {
        Event { regarding: Regarding::Node, warning: false, reason: "A", action: "B", note: note.to_string() }
    }

    #[tokio::test]
    async fn what_repeats_waits_once_and_little_waits() {
        let outbox = Outbox::default();
        assert!(outbox.put(event(0)) && outbox.put(event(1)) && outbox.put(event(0)));
        assert!((2..AT_MOST).all(|note| outbox.put(event(note))));
        assert!(!outbox.put(event(AT_MOST)), "no room");
        assert!(outbox.put(event(1)), "room for what waits already");
        outbox.close();
        assert_eq!(outbox.next().await, Some((event(0), 2)));
        assert_eq!(outbox.next().await, Some((event(1), 2)));
        for note in 2..AT_MOST {
            assert_eq!(outbox.next().await, Some((event(note), 1)));
        }
        assert_eq!(outbox.next().await, None);
    }
}

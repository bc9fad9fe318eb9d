//! What waits for the main thread. What was observed becomes one batch, however much of it comes
//! while a transaction is under way, so that a kernel that is slow makes nothing grow.

use std::collections::VecDeque;
use std::fmt;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::run::Event;

/// Nobody receives any more.
#[derive(Debug)]
pub(crate) struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the main thread has ended")
    }
}

impl std::error::Error for Closed {}

#[derive(Default)]
struct State {
    observed: Batch,
    others: VecDeque<Event>,
    senders: usize,
    receiver_is_gone: bool,
}

impl State {
    /// What was observed comes first: a question about what is in force is answered as of all that
    /// was known when it is received.
    fn take(&mut self) -> Option<Event> {
        if !self.observed.is_empty() {
            return Some(Event::Observed(std::mem::take(&mut self.observed)));
        }
        self.others.pop_front()
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; and if it did, what waits would still be good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts events in.
pub(crate) struct Sender(Arc<Shared>);

/// Takes events out.
pub(crate) struct Receiver(Arc<Shared>);

/// An empty mailbox.
pub(crate) fn mailbox() -> (Sender, Receiver) {
    let shared = Arc::new(Shared::default());
    shared.state().senders = 1;
    (Sender(shared.clone()), Receiver(shared))
}

impl Sender {
    /// Puts `event` in. Never waits for the receiver.
    pub(crate) fn send(&self, event: Event) -> Result<(), Closed> {
        let mut state = self.0.state();
        if state.receiver_is_gone {
            return Err(Closed);
        }
        match event {
            Event::Observed(batch) => state.observed.extend(batch),
            other => state.others.push_back(other),
        }
        self.0.changed.notify_one();
        Ok(())
    }
}

impl Clone for Sender {
    fn clone(&self) -> Sender {
        self.0.state().senders += 1;
        Sender(self.0.clone())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.state().senders -= 1;
        self.0.changed.notify_one();
    }
}

impl Receiver {
    /// The next event, once there is one. Fails when there are neither events nor senders.
    pub(crate) fn recv(&self) -> Result<Event, RecvTimeoutError> {
        self.until(None)
    }

    /// The next event, if it comes within `patience`.
    pub(crate) fn recv_timeout(&self, patience: Duration) -> Result<Event, RecvTimeoutError> {
        self.until(Instant::now().checked_add(patience))
    }

    /// The events that are there.
    pub(crate) fn try_iter(&self) -> impl Iterator<Item = Event> {
        std::iter::from_fn(|| self.0.state().take())
    }

    fn until(&self, deadline: Option<Instant>) -> Result<Event, RecvTimeoutError> {
        let mut state = self.0.state();
        loop {
            if let Some(event) = state.take() {
                return Ok(event);
            }
            if state.senders == 0 {
                return Err(RecvTimeoutError::Disconnected);
            }
            let Some(deadline) = deadline else {
                state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(RecvTimeoutError::Timeout);
            }
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.receiver_is_gone = true;
        state.observed = Batch::default();
        state.others.clear();
    }
}

#[cfg(test)]
mod tests {
    use portolan_service::{Change, ObjectName};

    use super::*;

    fn removed(name: &str) -> Event {
        let change = Change::ServiceRemoved(ObjectName::new("shop", name));
        Event::Observed(Batch::of_changes(vec![change], Instant::now()))
    }

    fn changes(event: Result<Event, RecvTimeoutError>) -> usize {
        match event {
            Ok(Event::Observed(batch)) => batch.changes.len(),
            _ => panic!("not what was observed"),
        }
    }

    #[test]
    fn what_was_observed_is_one_batch() {
        let (sender, receiver) = mailbox();
        sender.send(removed("a")).unwrap();
        sender.send(Event::Lost(anyhow::anyhow!("ended"))).unwrap();
        sender.clone().send(removed("b")).unwrap();
        assert_eq!(changes(receiver.recv()), 2);
        assert!(matches!(receiver.recv(), Ok(Event::Lost(_))));
        assert!(matches!(receiver.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout)));
        assert_eq!(receiver.try_iter().count(), 0);
    }

    #[test]
    fn it_ends_with_its_last_sender_or_its_receiver() {
        let (sender, receiver) = mailbox();
        let waiting = std::thread::spawn(move || receiver.recv().map(|_| ()));
        let other = sender.clone();
        drop(sender);
        drop(other);
        assert!(matches!(waiting.join().unwrap(), Err(RecvTimeoutError::Disconnected)));
        let (sender, receiver) = mailbox();
        drop(receiver);
        assert!(sender.send(removed("a")).is_err());
    }

    #[test]
    fn who_waits_is_woken() {
        let (sender, receiver) = mailbox();
        let waiting = std::thread::spawn(move || changes(receiver.recv_timeout(Duration::from_mins(1))));
        sender.send(removed("a")).unwrap();
        assert_eq!(waiting.join().unwrap(), 1);
    }
}

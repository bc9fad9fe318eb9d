//! What waits for a thread. What was observed becomes one batch, however much of it comes while the
//! thread is busy, so that a consumer that is slow makes nothing grow and lets nobody wait.

use std::collections::VecDeque;
use std::fmt;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::feed::Consumer;

/// Nobody receives any more.
#[derive(Debug)]
pub(crate) struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the thread that receives has ended")
    }
}

impl std::error::Error for Closed {}

/// What is received.
pub(crate) enum Mail<E> {
    /// Everything that was observed since the last time.
    Observed(Batch),
    /// Something else.
    Event(E),
}

struct State<E> {
    observed: Batch,
    events: VecDeque<E>,
    senders: usize,
    receiver_is_gone: bool,
}

impl<E> State<E> {
    /// What was observed comes first: a question about what is in force is answered as of all that
    /// was known when it is received.
    fn take(&mut self) -> Option<Mail<E>> {
        if !self.observed.is_empty() {
            return Some(Mail::Observed(std::mem::take(&mut self.observed)));
        }
        self.events.pop_front().map(Mail::Event)
    }
}

struct Shared<E> {
    state: Mutex<State<E>>,
    changed: Condvar,
}

impl<E> Shared<E> {
    fn state(&self) -> MutexGuard<'_, State<E>> {
        // Nothing panics while it is held; and if it did, what waits would still be good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts mail in.
pub(crate) struct Sender<E>(Arc<Shared<E>>);

/// Takes mail out.
pub(crate) struct Receiver<E>(Arc<Shared<E>>);

/// An empty mailbox.
pub(crate) fn mailbox<E>() -> (Sender<E>, Receiver<E>) {
    let state =
        State { observed: Batch::default(), events: VecDeque::new(), senders: 1, receiver_is_gone: false };
    let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
    (Sender(shared.clone()), Receiver(shared))
}

impl<E> Sender<E> {
    /// Puts `event` in. Never waits for the receiver.
    pub(crate) fn send(&self, event: E) -> Result<(), Closed> {
        self.put(|state| state.events.push_back(event))
    }

    fn put(&self, put: impl FnOnce(&mut State<E>)) -> Result<(), Closed> {
        let mut state = self.0.state();
        if state.receiver_is_gone {
            return Err(Closed);
        }
        put(&mut state);
        self.0.changed.notify_one();
        Ok(())
    }
}

impl<E: Send> Consumer for Sender<E> {
    fn take(&self, batch: &Batch) {
        // Whoever received may have ended.
        let _ = self.put(|state| state.observed.extend(batch.clone()));
    }
}

impl<E> Clone for Sender<E> {
    fn clone(&self) -> Sender<E> {
        self.0.state().senders += 1;
        Sender(self.0.clone())
    }
}

impl<E> Drop for Sender<E> {
    fn drop(&mut self) {
        self.0.state().senders -= 1;
        self.0.changed.notify_one();
    }
}

impl<E> Receiver<E> {
    /// The next mail, once there is some. Fails when there is neither mail nor a sender.
    pub(crate) fn recv(&self) -> Result<Mail<E>, RecvTimeoutError> {
        self.until(None)
    }

    /// The next mail, if it comes within `patience`.
    pub(crate) fn recv_timeout(&self, patience: Duration) -> Result<Mail<E>, RecvTimeoutError> {
        self.until(Instant::now().checked_add(patience))
    }

    /// The mail that is there.
    pub(crate) fn try_iter(&self) -> impl Iterator<Item = Mail<E>> {
        std::iter::from_fn(|| self.0.state().take())
    }

    fn until(&self, deadline: Option<Instant>) -> Result<Mail<E>, RecvTimeoutError> {
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

impl<E> Drop for Receiver<E> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.receiver_is_gone = true;
        state.observed = Batch::default();
        state.events.clear();
    }
}

#[cfg(test)]
mod tests {
    use portolan_service::{Change, ObjectName};

    use super::*;

    fn removed(name: &str) -> Batch {
        let change = Change::ServiceRemoved(ObjectName::new("shop", name));
        Batch::of_changes(vec![change], Instant::now())
    }

    fn changes<E>(mail: Result<Mail<E>, RecvTimeoutError>) -> usize {
        match mail {
            Ok(Mail::Observed(batch)) => batch.changes.len(),
            _ => panic!("not what was observed"),
        }
    }

    #[test]
    fn what_was_observed_is_one_batch() {
        let (sender, receiver) = mailbox();
        sender.take(&removed("a"));
        sender.send("ended").unwrap();
        sender.clone().take(&removed("b"));
        assert_eq!(changes(receiver.recv()), 2);
        assert!(matches!(receiver.recv(), Ok(Mail::Event("ended"))));
        assert!(matches!(receiver.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout)));
        assert_eq!(receiver.try_iter().count(), 0);
    }

    #[test]
    fn it_ends_with_its_last_sender_or_its_receiver() {
        let (sender, receiver) = mailbox::<()>();
        let waiting = std::thread::spawn(move || receiver.recv().map(|_| ()));
        let other = sender.clone();
        drop(sender);
        drop(other);
        assert!(matches!(waiting.join().unwrap(), Err(RecvTimeoutError::Disconnected)));
        let (sender, receiver) = mailbox();
        drop(receiver);
        assert!(sender.send(()).is_err());
    }

    #[test]
    fn who_waits_is_woken() {
        let (sender, receiver) = mailbox::<()>();
        let waiting = std::thread::spawn(move || changes(receiver.recv_timeout(Duration::from_mins(1))));
        sender.take(&removed("a"));
        assert_eq!(waiting.join().unwrap(), 1);
    }
}

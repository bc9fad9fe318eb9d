//! Answers of others, on their way to the thread that has the connections.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use crate::later::Way;

/// Answers for connections.
#[derive(Debug)]
pub(crate) struct Mailbox {
    answers: Mutex<Vec<(u64, Option<Vec<u8>>)>>,
    wake: OwnedFd,
}

impl Mailbox {
    pub(crate) fn new() -> rustix::io::Result<Mailbox> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Mailbox { answers: Mutex::new(Vec::new()), wake })
    }

    /// Takes what has come: the connections' numbers with the answers.
    pub(super) fn take(&self) -> Vec<(u64, Option<Vec<u8>>)> {
        let mut number = [0; 8];
        // It fails if nothing has come.
        let _ = rustix::io::read(&self.wake, &mut number);
        std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has the thread look after what it was given otherwise.
    pub(crate) fn wake(&self) {
        // It fails only if it was written to often before, and so is readable.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn put(&self, connection: u64, answer: Option<Vec<u8>>) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push((connection, answer));
        if answers.len() == 1 {
            self.wake();
        }
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// The way back to a connection.
pub(super) struct Back {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) connection: u64,
}

impl Way for Back {
    fn send(&self, message: Vec<u8>) -> bool {
        self.mailbox.put(self.connection, Some(message));
        true
    }

    fn give_up(&self) {
        self.mailbox.put(self.connection, None);
    }
}

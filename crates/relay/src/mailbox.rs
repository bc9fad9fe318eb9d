//! Commands for a thread.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};

use crate::listener::Sockets;
use crate::served::Served;

/// What a thread is to do.
pub(crate) enum Command {
    /// Take clients from these sockets.
    Serve { number: u32, served: Arc<Served>, sockets: Arc<Sockets> },
    /// Take no more clients of this listener. Connections end at `until`, if not before. Nobody
    /// holds the sockets any more when `done` is dropped.
    Remove { number: u32, until: Option<Instant>, done: Sender<()> },
    /// The clients of an endpoint of this listener: connections end at `until`, if not before; UDP
    /// clients get another one.
    Leave { number: u32, endpoint: SocketAddr, until: Option<Instant> },
    /// Take no more clients at all, and end with the last one.
    Finish,
}

/// Commands for a thread.
pub(crate) struct Mailbox {
    commands: Mutex<Vec<Command>>,
    wake: OwnedFd,
}

impl Mailbox {
    pub(crate) fn new() -> rustix::io::Result<Mailbox> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Mailbox { commands: Mutex::new(Vec::new()), wake })
    }

    pub(crate) fn put(&self, command: Command) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        self.wake();
    }

    /// Has the thread look after what it was given otherwise.
    pub(crate) fn wake(&self) {
        // It fails only if it was written to often before, and so is readable.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Takes what has come.
    pub(crate) fn take(&self) -> Vec<Command> {
        let mut number = [0; 8];
        // It fails if nothing has come.
        let _ = rustix::io::read(&self.wake, &mut number);
        std::mem::take(&mut *self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

//! What a thread waits with.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::event::epoll::{self, EventData, EventFlags};

use crate::counters::ThreadCounters;
use crate::deadlines::Deadlines;
use crate::served::Served;
use crate::shared::Shared;
use crate::token::Token;

/// What a thread waits with.
pub(crate) struct Reactor {
    pub(crate) epoll: OwnedFd,
    pub(crate) deadlines: Deadlines,
    /// When the thread has woken up.
    pub(crate) now: Instant,
    /// The thread's number.
    pub(crate) thread: usize,
    pub(crate) shared: Arc<Shared>,
}

impl Reactor {
    pub(crate) fn new(thread: usize, shared: Arc<Shared>) -> rustix::io::Result<Reactor> {
        let now = Instant::now();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Reactor { epoll, deadlines: Deadlines::new(now), now, thread, shared })
    }

    /// Has events of `what` come as `token`.
    pub(crate) fn watch(&self, what: impl AsFd, token: Token, flags: EventFlags) -> rustix::io::Result<()> {
        epoll::add(&self.epoll, what, EventData::new_u64(token.pack()), flags)
    }

    /// No more events of `what`.
    pub(crate) fn unwatch(&self, what: impl AsFd) {
        // It fails only if it is not watched.
        let _ = epoll::delete(&self.epoll, what);
    }

    /// Has `token` looked after at `at`.
    pub(crate) fn wake_at(&mut self, at: Instant, token: Token) {
        self.deadlines.note(self.now, at, token.pack());
    }

    /// This thread's counters of a listener.
    pub(crate) fn counters<'s>(&self, served: &'s Served) -> &'s ThreadCounters {
        &served.counters[self.thread]
    }
}

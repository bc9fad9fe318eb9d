//! How it goes, for metrics and health.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portolan_service::Family;

/// How it goes. Shared between threads; asking is cheap.
#[derive(Debug)]
pub struct Status(Mutex<Report>);

/// How it goes at one moment.
#[derive(Debug, Clone)]
pub struct Report {
    /// Whether this controller has the Lease, and writes.
    pub leads: bool,
    /// When the API server last answered about the Lease.
    pub heard: Option<Instant>,
    /// When the thread last showed that it still works, which it does every few seconds.
    pub turn: Instant,
    /// The pools; none, while another controller has the Lease.
    pub pools: Vec<PoolUse>,
    /// Services that ask for an address and have none, or not all that they must have.
    pub waiting: usize,
    /// Writes that were accepted.
    pub written: u64,
    /// Writes that were refused because the Service had changed.
    pub conflicts: u64,
    /// Writes that failed otherwise.
    pub failures: u64,
}

/// How much of a pool is in use, of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolUse {
    /// The pool.
    pub name: Arc<str>,
    /// The family.
    pub family: Family,
    /// Addresses that it can give.
    pub size: u128,
    /// Addresses that Services have.
    pub used: usize,
}

impl Status {
    pub(crate) fn new() -> Status {
        Status(Mutex::new(Report {
            leads: false,
            heard: None,
            turn: Instant::now(),
            pools: Vec::new(),
            waiting: 0,
            written: 0,
            conflicts: 0,
            failures: 0,
        }))
    }

    /// How it goes now.
    pub fn report(&self) -> Report {
        self.state().clone()
    }

    /// Whether the thread has come by within `patience`.
    pub fn is_alive(&self, patience: Duration) -> bool {
        self.state().turn.elapsed() < patience
    }

    /// Whether the API server has answered about the Lease within `patience`.
    pub fn is_ready(&self, patience: Duration) -> bool {
        self.state().heard.is_some_and(|heard| heard.elapsed() < patience)
    }

    pub(crate) fn heard(&self) {
        self.state().heard = Some(Instant::now());
    }

    pub(crate) fn turn(&self) {
        self.state().turn = Instant::now();
    }

    /// Whether the Lease is ours; nothing is known of pools then.
    pub(crate) fn leads(&self, leads: bool) {
        let mut state = self.state();
        (state.leads, state.pools, state.waiting) = (leads, Vec::new(), 0);
    }

    pub(crate) fn allocated(&self, pools: Vec<PoolUse>, waiting: usize) {
        let mut state = self.state();
        (state.pools, state.waiting) = (pools, waiting);
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut Report)) {
        count(&mut self.state());
    }

    fn state(&self) -> MutexGuard<'_, Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

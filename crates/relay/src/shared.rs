//! What a relay is started with, and what its threads share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::counters::Count;
use crate::limits::Limits;

/// What a relay is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Threads. `None`: as many as there are processors for this process. At least one.
    pub threads: Option<usize>,
    /// What clients may take together.
    pub limits: Limits,
    /// How long each attempt to reach an endpoint may take; as many attempts as there are times.
    pub dial: Vec<Duration>,
    /// How connections notice that the other side is gone. `None`: not at all.
    pub keepalive: Option<Keepalive>,
    /// How much a pipe holds, octets. The kernel rounds up, and may grant less.
    pub pipe: usize,
}

impl Default for Settings {
    /// Dial times are those of kube-proxy 1.25 in mode userspace; keepalive is that of Go's
    /// connections.
    fn default() -> Settings {
        let seconds = Duration::from_secs;
        Settings {
            threads: None,
            limits: Limits::default(),
            dial: [250, 500, 1000, 2000].map(Duration::from_millis).to_vec(),
            keepalive: Some(Keepalive { idle: seconds(15), interval: seconds(15), probes: 9 }),
            pipe: 64 << 10,
        }
    }
}

/// TCP keepalive (tcp(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// From the last segment to the first probe.
    pub idle: Duration,
    /// Between probes.
    pub interval: Duration,
    /// So many without an answer end the connection.
    pub probes: u32,
}

/// What the threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// How many threads there are.
    pub(crate) threads: usize,
    pub(crate) limits: Limits,
    pub(crate) dial: Vec<Duration>,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) pipe: usize,
    pub(crate) connections: Room,
    pub(crate) clients: Room,
    /// How often each thread has woken up.
    pub(crate) wakeups: Vec<Count>,
    /// All threads are to end.
    pub(crate) stopping: AtomicBool,
}

/// How many more there may be of something.
#[derive(Debug)]
pub(crate) struct Room {
    taken: AtomicUsize,
    most: usize,
}

impl Room {
    pub(crate) fn new(most: usize) -> Room {
        Room { taken: AtomicUsize::new(0), most }
    }

    /// Takes one. False if there is none.
    pub(crate) fn take(&self) -> bool {
        let fits = self.taken.fetch_add(1, Ordering::Relaxed) < self.most;
        if !fits {
            self.give_back();
        }
        fits
    }

    pub(crate) fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

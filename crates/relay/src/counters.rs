//! Counters that every thread has for itself, so that none waits for another. They are added up
//! when they are read.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::listener::Protocol;

/// The counters of one listener.
#[derive(Debug, Clone)]
pub struct ListenerCounts {
    /// Its key.
    pub key: String,
    /// Its transport.
    pub protocol: Protocol,
    /// Where it listens, or listened.
    pub address: SocketAddr,
    /// It takes no new clients any more; some are still there.
    pub removed: bool,
    /// What has happened.
    pub counts: Counts,
}

/// What has happened at a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Connections, or UDP clients, that are there now.
    pub open: u64,
    /// All of them so far, without those that were refused at once.
    pub total: u64,
    /// Refused because of [`Limits`](crate::Limits), or because descriptors or memory ran out:
    /// connections, or datagrams of new clients.
    pub refused_by_limits: u64,
    /// Refused because there is no endpoint, or none of those tried could be reached: connections,
    /// or datagrams.
    pub refused_without_endpoint: u64,
    /// Endpoints that could not be reached.
    pub failed_dials: u64,
    /// Further endpoints that were tried after that.
    pub retries: u64,
    /// Connections that ended with a reset or another error, and those that were cut.
    pub broken: u64,
    /// Octets from clients that were passed on.
    pub octets_in: u64,
    /// Octets from endpoints that were passed on.
    pub octets_out: u64,
    /// Datagrams from clients that were passed on.
    pub datagrams_in: u64,
    /// Datagrams from endpoints that were passed on.
    pub datagrams_out: u64,
    /// Datagrams that the kernel did not take.
    pub unsent: u64,
}

/// A number that one thread adds to.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds. No two threads do so at once: then it costs no more than a plain number.
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one thread has counted at a listener.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ThreadCounters {
    pub(crate) opened: Count,
    pub(crate) closed: Count,
    pub(crate) refused_by_limits: Count,
    pub(crate) refused_without_endpoint: Count,
    pub(crate) failed_dials: Count,
    pub(crate) retries: Count,
    pub(crate) broken: Count,
    pub(crate) octets_in: Count,
    pub(crate) octets_out: Count,
    pub(crate) datagrams_in: Count,
    pub(crate) datagrams_out: Count,
    pub(crate) unsent: Count,
}

/// Adds up what all threads have counted.
pub(crate) fn sum(threads: &[ThreadCounters]) -> Counts {
    let read =
        |of: fn(&ThreadCounters) -> &Count| threads.iter().map(|thread| of(thread).read()).sum::<u64>();
    // What was closed first: whatever is closed meanwhile was opened before.
    let closed = read(|thread| &thread.closed);
    let total = read(|thread| &thread.opened);
    Counts {
        open: total.saturating_sub(closed),
        total,
        refused_by_limits: read(|thread| &thread.refused_by_limits),
        refused_without_endpoint: read(|thread| &thread.refused_without_endpoint),
        failed_dials: read(|thread| &thread.failed_dials),
        retries: read(|thread| &thread.retries),
        broken: read(|thread| &thread.broken),
        octets_in: read(|thread| &thread.octets_in),
        octets_out: read(|thread| &thread.octets_out),
        datagrams_in: read(|thread| &thread.datagrams_in),
        datagrams_out: read(|thread| &thread.datagrams_out),
        unsent: read(|thread| &thread.unsent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_counted_is_added_up() {
        let threads = [ThreadCounters::default(), ThreadCounters::default()];
        for thread in &threads {
            thread.opened.add(3);
            thread.octets_in.add(10);
        }
        threads[1].closed.add(2);
        let expected = Counts { open: 4, total: 6, octets_in: 20, ..Counts::default() };
        assert_eq!(sum(&threads), expected);
    }
}

//! A listener as the threads have it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::counters::ThreadCounters;
use crate::listener::{Destination, Listener, Protocol, Upstream};
use crate::picker::Picker;

/// A listener as the threads have it. Each connection holds it.
pub(crate) struct Served {
    pub(crate) key: String,
    pub(crate) protocol: Protocol,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    pub(crate) picker: Arc<dyn Picker>,
    pub(crate) destination: Destination,
    /// It may change.
    upstream: Mutex<Upstream>,
    pub(crate) idle: Duration,
    /// One for each thread.
    pub(crate) counters: Vec<ThreadCounters>,
}

impl Served {
    pub(crate) fn new(listener: &Listener, address: SocketAddr, threads: usize) -> Served {
        Served {
            key: listener.key.clone(),
            protocol: listener.protocol,
            address,
            picker: listener.picker.clone(),
            destination: listener.destination,
            upstream: Mutex::new(listener.upstream),
            idle: listener.idle,
            counters: (0..threads).map(|_| ThreadCounters::default()).collect(),
        }
    }

    /// How endpoints are reached from now on.
    pub(crate) fn upstream(&self) -> Upstream {
        *self.upstream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_upstream(&self, upstream: Upstream) {
        *self.upstream.lock().unwrap_or_else(PoisonError::into_inner) = upstream;
    }
}

//! What other threads may ask about sockets, and the relay that they share.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portolan_relay::{Counts, Error, Protocol, Relay};
use portolan_service::{Family, PerFamily};

use super::DRAIN;
use super::handed_over::HandedOver;
use super::wish::{SocketName, Wish, service_port_of};

/// The relay, from the first socket on, and what it does not count itself.
#[derive(Default)]
pub(super) struct Shared {
    relay: Mutex<Option<Relay>>,
    failures: PerFamily<AtomicU64>,
}

/// What happens at sockets, for whoever asks in another thread.
#[derive(Clone)]
pub struct ListenerCounters(pub(super) Arc<Shared>);

/// What has happened at one socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketCounts {
    /// The Service port: `namespace/name:port`, or `namespace/name`.
    pub service_port: String,
    /// The transport.
    pub protocol: Protocol,
    /// Where clients come, or came.
    pub address: SocketAddr,
    /// It is listened on. If not, clients of before are still there.
    pub listening: bool,
    /// What has happened. Begins at 0 when a socket is opened again.
    pub counts: Counts,
}

impl ListenerCounters {
    /// The counters of each socket that is listened on, and of those that still have clients.
    pub fn read(&self) -> Vec<SocketCounts> {
        let all = self.0.relay().as_ref().map(Relay::counts).unwrap_or_default();
        let of_socket = |found: portolan_relay::ListenerCounts| SocketCounts {
            service_port: service_port_of(&found.key).to_owned(),
            protocol: found.protocol,
            address: found.address,
            listening: !found.removed,
            counts: found.counts,
        };
        all.into_iter().map(of_socket).collect()
    }

    /// How often a socket of each family could not be opened.
    pub fn failures(&self) -> PerFamily<u64> {
        let read = |family| self.0.failures.get(family).load(Ordering::Relaxed);
        PerFamily { v4: read(Family::V4), v6: read(Family::V6) }
    }
}

impl Shared {
    fn relay(&self) -> MutexGuard<'_, Option<Relay>> {
        self.relay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn handed_over(&self) -> HandedOver {
        self.relay().as_ref().map(HandedOver::of).unwrap_or_default()
    }

    pub(super) fn take_relay(&self) -> Option<Relay> {
        self.relay().take()
    }

    /// Does something with the relay, which is started if there is none.
    pub(super) fn with_relay<T>(
        &self,
        start: impl FnOnce() -> Result<Relay, Error>,
        what: impl FnOnce(&Relay) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut relay = self.relay();
        if relay.is_none() {
            *relay = Some(start()?);
        }
        relay.as_ref().map(what).expect("it was put there")
    }

    pub(super) fn failed(&self, socket: &SocketName) {
        self.failures.get(Family::of(socket.address.ip())).fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, socket: &SocketName) {
        if let Some(relay) = &*self.relay() {
            // There is nothing to be done about one that is not there.
            let _ = relay.remove(&socket.key(), Some(DRAIN));
        }
    }

    /// New clients are served as the wish has it.
    pub(super) fn set_upstream(&self, wish: &Wish) {
        if let Some(relay) = &*self.relay() {
            relay.set_upstream(&wish.socket.key(), wish.way.upstream);
        }
    }

    /// Has the endpoints leave that `before` had and `now` has not.
    pub(super) fn leave(&self, before: &Wish, now: &Wish) {
        let leaving = before.leaving(now);
        if let (false, Some(relay)) = (leaving.is_empty(), &*self.relay()) {
            let key = now.socket.key();
            for endpoint in leaving {
                relay.leave(&key, endpoint, Some(DRAIN));
            }
        }
    }
}

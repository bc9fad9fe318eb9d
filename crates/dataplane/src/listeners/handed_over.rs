//! Sockets that pass from one process to the next: clients that come in between wait in them and
//! are not refused.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use portolan_relay::{Error, Relay, Sockets, hand_over};

use super::wish::SocketName;

/// Sockets of Service ports that are listened on. They stay open for as long as this lives.
#[derive(Debug, Default)]
pub struct HandedOver(HashMap<String, Arc<Sockets>>);

impl HandedOver {
    /// Those of a relay.
    pub(super) fn of(relay: &Relay) -> HandedOver {
        HandedOver(relay.sockets().into_iter().collect())
    }

    /// How many Service ports they are for.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends them to the next process, which [receives](HandedOver::receive) them. A write timeout
    /// of `to` bounds the time.
    pub fn send(&self, to: &UnixStream) -> Result<(), Error> {
        let all: Vec<_> = self.0.iter().map(|(key, sockets)| (key.clone(), sockets.clone())).collect();
        hand_over::send(to, &all)
    }

    /// Waits until the process before sends its sockets. There is an error if it ends without that,
    /// or if not all could be received: those that could are here.
    pub fn receive(from: &mut UnixStream) -> (HandedOver, Result<(), Error>) {
        let mut all = Vec::new();
        let received = hand_over::receive(from, &mut all);
        (HandedOver(all.into_iter().collect()), received)
    }

    /// Takes those of one Service port out.
    pub(super) fn take(&mut self, socket: &SocketName) -> Option<Arc<Sockets>> {
        if self.0.is_empty() { None } else { self.0.remove(&socket.key()) }
    }

    /// Whose they are.
    pub(super) fn names(&self) -> impl Iterator<Item = SocketName> {
        self.0.keys().filter_map(|key| SocketName::of_key(key))
    }
}

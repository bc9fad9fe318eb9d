//! Questions that others are asked, from the threads that answer.

use std::net::SocketAddr;
use std::sync::Arc;

use portolan_dns::{Answered, Known, LookedUp, Others};
use portolan_names::Transport;
use portolan_names::wire::{Name, Query};
use portolan_upstream::Forwarder;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::failures::Failures;

/// As many questions wait for the answers of others; what is one too many is answered with
/// SERVFAIL.
const WAITING_MAX: usize = 10_000;

/// The other servers that a server block asks, its cache and its static names.
pub(super) struct Servers {
    forwarder: Forwarder,
    runtime: Handle,
    waiting: Arc<Semaphore>,
    /// Where failures are noted, if they are.
    failures: Option<Arc<Failures>>,
}

impl Servers {
    pub(super) fn new(forwarder: Forwarder, runtime: Handle, failures: Option<Arc<Failures>>) -> Servers {
        Servers { forwarder, runtime, waiting: Arc::new(Semaphore::new(WAITING_MAX)), failures }
    }
}

impl Others for Servers {
    fn ask(&self, message: Box<[u8]>, _client: SocketAddr, transport: Transport, done: Answered) {
        let Ok(permit) = self.waiting.clone().try_acquire_owned() else { return };
        let (forwarder, failures) = (self.forwarder.clone(), self.failures.clone());
        self.runtime.spawn(async move {
            let answer = forwarder.answer(&message, transport).await;
            drop(permit);
            if let Some(failures) = failures
                && answer.as_ref().is_none_or(|answer| has_failed(answer))
            {
                failures.note(&message);
            }
            if let Some(answer) = answer {
                done(answer);
            }
        });
    }

    fn look_up(&self, name: &Name, kind: u16, done: LookedUp) {
        let Ok(permit) = self.waiting.clone().try_acquire_owned() else { return };
        let (forwarder, name) = (self.forwarder.clone(), name.clone());
        self.runtime.spawn(async move {
            let answer = forwarder.look_up(&name, kind).await;
            drop(permit);
            done(Some(answer));
        });
    }

    fn at_hand(&self, query: &Query<'_>, _message: &[u8], transport: Transport, reply: &mut Vec<u8>) -> bool {
        self.forwarder.at_once(query, transport, reply)
    }
}

/// SERVFAIL
fn has_failed(answer: &[u8]) -> bool {
    answer.get(3).is_some_and(|flags| flags & 0xf == 2)
}

/// Static names of a server block.
pub(super) struct StaticNames(pub(super) Forwarder);

impl Known for StaticNames {
    fn answer(&self, query: &Query<'_>, transport: Transport, reply: &mut Vec<u8>) -> bool {
        self.0.fixed(query, transport, reply)
    }
}

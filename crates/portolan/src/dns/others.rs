//! Questions that others are asked, from the threads that answer.

use std::net::SocketAddr;
use std::sync::Arc;

use portolan_dns::{Answered, LookedUp, Others};
use portolan_names::Transport;
use portolan_names::wire::{Name, Query};
use portolan_upstream::Forwarder;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::failures::Failures;
use super::fixed::Codes;

/// As many questions wait for the answers of others; what is one too many is answered with
/// SERVFAIL.
const WAITING_MAX: usize = 10_000;

/// The other servers that a server block asks, and its cache.
pub(super) struct Servers {
    forwarder: Forwarder,
    /// Where names are looked up that aliases lead to.
    places: Places,
    runtime: Handle,
    waiting: Arc<Semaphore>,
    /// Where failures are noted, if they are.
    failures: Option<Arc<Failures>>,
}

impl Servers {
    pub(super) fn new(
        forwarder: Forwarder,
        places: Places,
        runtime: Handle,
        failures: Option<Arc<Failures>>,
    ) -> Servers {
        Servers { forwarder, places, runtime, waiting: Arc::new(Semaphore::new(WAITING_MAX)), failures }
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
        let place = self.places.of(name);
        if let Some(answer) = place.and_then(|place| place.codes.answer(name, kind)) {
            return done(Some(answer));
        }
        let Ok(permit) = self.waiting.clone().try_acquire_owned() else { return };
        let forwarder = place.map_or(&self.forwarder, |place| &place.forwarder).clone();
        let name = name.clone();
        self.runtime.spawn(async move {
            let answer = forwarder.look_up(&name, kind).await;
            drop(permit);
            done(Some(answer));
        });
    }

    fn search(&self, message: Box<[u8]>, name: &Name, transport: Transport, done: LookedUp) {
        let Ok(permit) = self.waiting.clone().try_acquire_owned() else { return };
        let (forwarder, name) = (self.forwarder.clone(), name.clone());
        self.runtime.spawn(async move {
            let answer = forwarder.search(&message, &name, transport).await;
            drop(permit);
            done(answer);
        });
    }

    fn at_hand(&self, query: &Query<'_>, _message: &[u8], transport: Transport, reply: &mut Vec<u8>) -> bool {
        self.forwarder.at_once(query, transport, reply)
    }
}

/// The server blocks of a listener, by their zones: an alias leads from one to another.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<[Place]>);

/// A zone, and how names in it are looked up.
pub(super) struct Place {
    /// In lower case.
    pub(super) zone: Name,
    pub(super) codes: Codes,
    pub(super) forwarder: Forwarder,
}

impl Places {
    pub(super) fn new(mut places: Vec<Place>) -> Places {
        // The longest first.
        places.sort_by_key(|place| std::cmp::Reverse(place.zone.labels()));
        Places(places.into())
    }

    /// The place of `name`.
    fn of(&self, name: &Name) -> Option<&Place> {
        let mut name = name.clone();
        name.make_lowercase();
        self.0.iter().find(|place| name.is_within(&place.zone))
    }
}

/// SERVFAIL
fn has_failed(answer: &[u8]) -> bool {
    answer.get(3).is_some_and(|flags| flags & 0xf == 2)
}

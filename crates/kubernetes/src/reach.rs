//! Whether the API server answers at all, as the followers of all resources see it together.
//!
//! While it does not, one follower asks for all of them, often enough to notice within two seconds
//! that it is back; the others wait for that. So a node costs a server that starts one small
//! request at a time, however many resources are followed.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::resource::Resource;

/// What the followers of all resources know of the API server together. All of it lives on one
/// thread.
#[derive(Debug)]
pub(crate) struct Reach {
    /// Since when it has answered requests with success, without one since that found it absent or
    /// overloaded.
    answers_since: Cell<Option<Instant>>,
    /// Who asks while it does not answer.
    scout: Cell<Option<Resource>>,
    /// Notified when it answers again.
    back: Notify,
}

impl Reach {
    /// Nothing is known of it.
    pub(crate) fn new() -> Reach {
        Reach { answers_since: Cell::new(None), scout: Cell::new(None), back: Notify::new() }
    }

    /// A request has been answered with success.
    pub(crate) fn answered(&self, now: Instant) {
        if self.answers_since.get().is_none() {
            self.answers_since.set(Some(now));
            self.scout.set(None);
            self.back.notify_waiters();
        }
    }

    /// A request found nobody, or a server that can do nothing at the moment.
    pub(crate) fn absent(&self) {
        self.answers_since.set(None);
    }

    /// For how long it has been answering; `None` while it does not.
    pub(crate) fn answering_for(&self, now: Instant) -> Option<Duration> {
        self.answers_since.get().map(|since| now.saturating_duration_since(since))
    }

    /// Whether the follower of `resource`, whose request failed, shall ask again by itself: always
    /// while the server answers others, else only one of all. Resources that a cluster may lack, or
    /// not show us, ask for nobody else.
    pub(crate) fn asks(&self, resource: Resource) -> bool {
        if self.answers_since.get().is_some() {
            return true;
        }
        if let Some(scout) = self.scout.get() {
            return scout == resource;
        }
        if resource.required() {
            self.scout.set(Some(resource));
        }
        true
    }

    /// Waits until it answers again, at most for `patience`.
    pub(crate) async fn back(&self, patience: Duration) {
        // That nobody said so in time is no failure.
        let _ = tokio::time::timeout(patience, self.back.notified()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_asks_while_nobody_is_answered() {
        let reach = Reach::new();
        assert!(reach.asks(Resource::Nodes), "nobody else does");
        assert!(reach.asks(Resource::Services), "asks from now on");
        assert!(!reach.asks(Resource::EndpointSlices));
        assert!(!reach.asks(Resource::Nodes));
        assert!(reach.asks(Resource::Services), "still");
    }

    #[test]
    fn who_fails_alone_asks_by_itself() {
        let reach = Reach::new();
        let now = Instant::now();
        assert!(reach.asks(Resource::Services));
        reach.answered(now);
        reach.answered(now + Duration::from_secs(1));
        assert!(Resource::ALL.into_iter().all(|resource| reach.asks(resource)));
        assert_eq!(reach.answering_for(now + Duration::from_secs(3)), Some(Duration::from_secs(3)));
        reach.absent();
        assert_eq!(reach.answering_for(now), None);
        assert!(reach.asks(Resource::EndpointSlices), "the first that fails");
        assert!(!reach.asks(Resource::Services));
    }
}

//! What follows from a failure, and when to ask again.
//!
//! A list that must replace a watch is made at once. A server that is absent, or is starting, is
//! asked again within two seconds, by one follower for all of them ([`crate::reach`]). One that
//! goes on refusing is asked ever more rarely, and one that says when to come back is asked then.

use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use crate::Observation;
use crate::client::Failure;
use crate::pace::random;
use crate::resource::Resource;

use super::Follower;

/// A follower that leaves it to another to find the server asks by itself after this time: the
/// other one's resource may have troubles of its own.
const WAIT_AT_MOST: Duration = Duration::from_secs(10);

/// When to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// After this time.
    After(Duration),
    /// When the server answers somebody again, at the latest after this time.
    WhenBack(Duration),
}

impl Follower {
    /// Takes note of a failure, and returns when to ask again.
    pub(super) fn failed(&mut self, failure: &Failure, streaming: bool) -> Next {
        let listing = self.version.is_none();
        // What ends a watch before its time may be a server that gives way to another one.
        self.doubt = true;
        match failure {
            Failure::Refused { code: 400 | 405 | 422, message, .. } if listing && streaming => {
                debug!(resource = %self.resource, message, "the API server offers no streaming list; reading pages");
                self.paged_until = Some(Instant::now() + self.timing.streaming_again);
                return Next::After(Duration::ZERO);
            }
            // Whatever the reason: perhaps pages fare better.
            Failure::Quiet(_) if listing && streaming => {
                self.paged_until = Some(Instant::now() + self.timing.streaming_again);
            }
            // One is a connection that is half open. Two are a server that says nothing of our
            // version, not even a bookmark.
            Failure::Quiet(_) => {
                self.quiet_watches += 1;
                if self.quiet_watches > 1 {
                    self.quiet_watches = 0;
                    self.version = None;
                }
            }
            Failure::Expired(_) => {
                self.whole = listing && !streaming;
                self.version = None;
            }
            Failure::WentBack { .. } => {
                self.version = None;
                self.distrust = true;
            }
            // Our version is from the future: that of a server restored from a backup, unless the
            // server is just behind others.
            Failure::Refused { message, .. } if message.contains("Too large resource version") => {
                self.version = None;
                self.distrust = true;
            }
            _ => {}
        }
        self.shared.settle(self.resource);
        let was_connected = self.status.lost(self.resource, failure.reason());
        let first = self.backoff.attempts() == 0;
        let next = self.next(failure);
        self.report(failure, was_connected || first, next);
        next
    }

    /// When to ask again after `failure`.
    fn next(&mut self, failure: &Failure) -> Next {
        let now = Instant::now();
        match failure {
            // Once at once; what then fails again is paced.
            Failure::Expired(_) | Failure::WentBack { .. } => {
                let again = self.due_lists.attempts() > 0;
                let pause = self.due_lists.pause(random());
                return Next::After(if again { pause } else { Duration::ZERO });
            }
            // The request was answered; what became of the answer says nothing of the next one.
            Failure::Cut(_) | Failure::Quiet(_) => return Next::After(self.backoff.pause(random())),
            _ => {}
        }
        if self.lacks(failure) {
            let starting = self.is_starting(failure, now);
            let pause = if starting { self.timing.pause_at_most } else { self.lacking.pause(random()) };
            return Next::WhenBack(pause.mul_f64(0.5 + random() / 2.0));
        }
        let pause = self.backoff.pause(random());
        if let Failure::Refused { code, retry_after: Some(after), .. } = failure {
            self.status.observe(&Observation::Retried { method: "GET", code: *code });
            let after = (*after).max(self.timing.pause).mul_f64(1.0 + random() / 10.0);
            return Next::After(after.max(pause));
        }
        if !self.client.reach().asks(self.resource) {
            return Next::WhenBack(WAIT_AT_MOST.mul_f64(0.5 + random() / 2.0));
        }
        if matches!(
            failure,
            Failure::Refused { code: ..500, .. } | Failure::Unintelligible(_) | Failure::Credentials(_)
        ) {
            let since = *self.refused_since.get_or_insert(now);
            if now.duration_since(since) > self.timing.starting {
                return Next::After(self.lacking.pause(random()).min(self.timing.refused_at_most));
            }
        } else {
            self.refused_since = None;
        }
        Next::After(pause)
    }

    /// The cluster does not have this resource, or does not show it to us, and the proxy can do
    /// without.
    fn lacks(&self, failure: &Failure) -> bool {
        self.resource == Resource::ServiceCidrs && matches!(failure, Failure::Refused { code: 403 | 404, .. })
    }

    /// The refusal may be that of a server that has not read yet what it allows to whom. What it
    /// does not serve it does not serve later either.
    fn is_starting(&self, failure: &Failure, now: Instant) -> bool {
        let answering = self.client.reach().answering_for(now);
        matches!(failure, Failure::Refused { code: 403, .. })
            && answering.is_none_or(|span| span < self.timing.starting)
    }

    /// Reports `failure`: each in a row half as often as the one before.
    fn report(&mut self, failure: &Failure, first: bool, next: Next) {
        let (resource, attempts) = (self.resource, self.backoff.attempts());
        match (failure, next) {
            (Failure::Expired(_) | Failure::WentBack { .. }, _) => {
                info!(%resource, reason = %failure, "listing again");
            }
            _ if self.lacks(failure) => {
                if self.lacking.attempts() == 1 {
                    info!(%resource, reason = %failure, "this resource is not served here; asking again now and then");
                }
            }
            (_, Next::After(pause)) if first || attempts.is_power_of_two() => {
                self.down = true;
                warn!(%resource, reason = %failure, attempts, retry_in = ?pause,
                    "the API server cannot be followed; what is known stays in force");
            }
            _ => debug!(%resource, reason = %failure, attempts, ?next, "failed again"),
        }
    }
}

/// What an ERROR event means.
pub(super) fn failure(code: i64, message: String) -> Failure {
    match u16::try_from(code) {
        Ok(410) => Failure::Expired(message),
        Ok(code) => Failure::Refused { code, message, retry_after: None },
        Err(_) => Failure::Unintelligible(message),
    }
}

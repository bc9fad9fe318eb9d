//! Failures of other servers in the log: together, so that many do not fill it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use portolan_names::wire::{Query, kind};
use tracing::error;

/// After one failure was logged, others are counted for this long.
const TOGETHER: Duration = Duration::from_secs(10);

/// What has failed and was not logged yet.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    logged: Option<Instant>,
    others: u64,
}

impl Failures {
    /// There was no answer to `message`.
    pub(super) fn note(&self, message: &[u8]) {
        let Some(others) = self.count(Instant::now()) else { return };
        let Ok(query) = Query::parse(message) else { return };
        let kind = kind::name(query.kind);
        if others == 0 {
            error!("{} {kind}: other servers have failed", query.name);
        } else {
            error!("{} {kind}: other servers have failed, as with {others} questions before", query.name);
        }
    }

    /// How many others there were since the last one that was logged; `None` if this one is not.
    fn count(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.logged.is_some_and(|logged| now.saturating_duration_since(logged) < TOGETHER) {
            state.others += 1;
            return None;
        }
        state.logged = Some(now);
        Some(std::mem::take(&mut state.others))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_failures_are_one_line() {
        let (failures, now) = (Failures::default(), Instant::now());
        assert_eq!(failures.count(now), Some(0));
        assert_eq!(failures.count(now + TOGETHER / 2), None);
        assert_eq!(failures.count(now + TOGETHER / 2), None);
        assert_eq!(failures.count(now + TOGETHER), Some(2));
        assert_eq!(failures.count(now + TOGETHER * 2), Some(0));
    }
}

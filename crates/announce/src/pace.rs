//! How fast addresses are announced: everybody on the link hears each of them.

use std::time::{Duration, Instant};

/// So many at once, and so many a second after that: a node that takes a thousand addresses has
/// announced each of them once within a second, and no more come whatever happens.
const AT_ONCE: f64 = 200.0;
const A_SECOND: f64 = 1_000.0;

/// A token bucket.
#[derive(Debug)]
pub(crate) struct Pace {
    left: f64,
    as_of: Instant,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Pace {
        Pace { left: AT_ONCE, as_of: now }
    }

    fn left(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.as_of).as_secs_f64();
        (self.left + passed * A_SECOND).min(AT_ONCE)
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let left = self.left(now);
        if left < 1.0 {
            return false;
        }
        (self.left, self.as_of) = (left - 1.0, now);
        true
    }

    /// When there is one.
    pub(crate) fn ready_at(&self, now: Instant) -> Instant {
        let lacking = 1.0 - self.left(now);
        if lacking <= 0.0 { now } else { now + Duration::from_secs_f64(lacking / A_SECOND + 1e-6) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_that() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let at_once = (0..10_000).take_while(|_| pace.take(start)).count();
        assert_eq!(at_once, 200);
        // Over a second of asking each millisecond.
        let mut taken = 0;
        for millisecond in 1..=1_000 {
            let now = start + Duration::from_millis(millisecond);
            taken += (0..10).take_while(|_| pace.take(now)).count();
        }
        assert!((990..=1_000).contains(&taken), "{taken}");
        let now = start + Duration::from_secs(1);
        assert!(pace.take(pace.ready_at(now)));
    }
}

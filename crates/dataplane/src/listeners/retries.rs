//! When it is time to try again.

use std::time::{Duration, Instant};

/// The first pause, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(15)];

/// When it is time to try again: pauses double for as long as nothing comes of it.
#[derive(Debug)]
pub(super) struct Retries {
    at: Option<Instant>,
    pause: Duration,
}

impl Default for Retries {
    fn default() -> Retries {
        Retries { at: None, pause: PAUSES[0] }
    }
}

impl Retries {
    /// Something has failed for the first time.
    pub(super) fn begin(&mut self, now: Instant) {
        self.pause = PAUSES[0];
        self.at = Some(now + self.pause);
    }

    pub(super) fn are_due(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| at <= now)
    }

    /// It was tried, and `some` of it has succeeded.
    pub(super) fn tried(&mut self, some: bool, now: Instant) {
        self.pause = if some { PAUSES[0] } else { (2 * self.pause).min(PAUSES[1]) };
        self.at = Some(now + self.pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut retries = Retries::default();
        let start = Instant::now();
        let mut now = start;
        retries.begin(now);
        let mut waited = Vec::new();
        for some in [false, false, false, false, false, true, false] {
            let before = now;
            while !retries.are_due(now) {
                now += Duration::from_secs(1);
            }
            waited.push((now - before).as_secs());
            retries.tried(some, now);
        }
        assert_eq!(waited, [1, 2, 4, 8, 15, 15, 1]);
        retries.begin(now);
        assert!(!retries.are_due(now) && retries.are_due(now + PAUSES[0]));
    }
}

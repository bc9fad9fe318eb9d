//! How often requests are sent: no more than configured, and ever more rarely while they fail.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

/// A token bucket: `qps` requests a second on average, `burst` at once.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// `None`: no limit.
    interval: Option<Duration>,
    burst: u32,
    /// When the bucket would be full, had nobody asked since.
    full_at: Option<Instant>,
}

impl Throttle {
    pub(crate) fn new(qps: f32, burst: u32) -> Throttle {
        let interval = (qps > 0.0).then(|| Duration::try_from_secs_f32(1.0 / qps).unwrap_or(Duration::MAX));
        Throttle { interval, burst: burst.max(1), full_at: None }
    }

    /// Takes a token; returns when the request may be sent.
    pub(crate) fn take(&mut self, now: Instant) -> Instant {
        let Some(interval) = self.interval else { return now };
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        let next = full_at.checked_add(interval).unwrap_or(full_at);
        self.full_at = Some(next);
        let allowance = interval.checked_mul(self.burst).unwrap_or(Duration::MAX);
        next.checked_sub(allowance).map_or(now, |at| at.max(now))
    }
}

/// Pauses between attempts that fail: twice as long each time, up to a bound, and never in step
/// with other nodes.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    attempts: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Backoff {
        Backoff { first, most, attempts: 0 }
    }

    /// The last attempt went well.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The last attempt failed. Returns the pause before the next one, for `random` in 0-1.
    pub(crate) fn pause(&mut self, random: f64) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.attempts.min(16));
        self.attempts = self.attempts.saturating_add(1);
        doubled.min(self.most).mul_f64(0.5 + random / 2.0)
    }

    /// How many attempts have failed in a row.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }
}

/// A number in 0-1, good enough to keep nodes from acting in step.
pub(crate) fn random() -> f64 {
    let word = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(word >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let mut throttle = Throttle::new(5.0, 3);
        let now = Instant::now();
        let waits: Vec<u128> = (0..6).map(|_| (throttle.take(now) - now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 200, 400, 600]);
        let later = now + Duration::from_mins(1);
        assert_eq!(throttle.take(later), later, "the bucket is full again");
    }

    #[test]
    fn no_rate_means_no_limit() {
        for qps in [0.0, -1.0, f32::NAN] {
            let mut throttle = Throttle::new(qps, 0);
            let now = Instant::now();
            assert!((0..100).all(|_| throttle.take(now) == now), "{qps}");
        }
        let now = Instant::now();
        assert_eq!(Throttle::new(f32::MIN_POSITIVE, u32::MAX).take(now), now, "absurd rates do no harm");
    }

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));
        let pauses: Vec<u128> = (0..4).map(|_| backoff.pause(1.0).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1000]);
        assert_eq!(backoff.pause(0.0).as_millis(), 500, "jitter");
        backoff.reset();
        assert_eq!(backoff.pause(1.0).as_millis(), 200);
        assert!((0..100).map(|_| random()).all(|random| (0.0..=1.0).contains(&random)));
    }
}

//! Deadlines of many things, without a search through them: timer wheels.
//!
//! A deadline is noted under a number and never withdrawn. Whoever notes it looks again when it is
//! due, and notes a later one if something has happened meanwhile.

use std::time::{Duration, Instant};

const SLOTS: usize = 512;
const SLOTS_AS_NUMBER: u64 = SLOTS as u64;
/// How exact deadlines within [`NEAR_END`] are.
const NEAR: Duration = Duration::from_millis(8);
/// How exact others are.
const FAR: Duration = Duration::from_secs(1);
const NEAR_END: Duration = Duration::from_secs(4);

/// Deadlines, each with a number.
#[derive(Debug)]
pub(crate) struct Deadlines {
    near: Wheel,
    far: Wheel,
}

#[derive(Debug)]
struct Wheel {
    start: Instant,
    tick: Duration,
    /// Everything up to this tick has been taken.
    current: u64,
    slots: Vec<Vec<u64>>,
    len: usize,
}

impl Deadlines {
    pub(crate) fn new(now: Instant) -> Deadlines {
        Deadlines { near: Wheel::new(now, NEAR), far: Wheel::new(now, FAR) }
    }

    /// Notes that `number` is due at `at`.
    pub(crate) fn note(&mut self, now: Instant, at: Instant, number: u64) {
        let wheel = if at.saturating_duration_since(now) < NEAR_END { &mut self.near } else { &mut self.far };
        wheel.note(at, number);
    }

    /// Adds the numbers that are due to `due`. Some may come early, because they are far away.
    pub(crate) fn take(&mut self, now: Instant, due: &mut Vec<u64>) {
        self.near.take(now, due);
        self.far.take(now, due);
    }

    /// How long nothing is due. `None`: for ever.
    pub(crate) fn next(&self, now: Instant) -> Option<Duration> {
        let next = [self.near.next(), self.far.next()].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(now))
    }
}

impl Wheel {
    fn new(start: Instant, tick: Duration) -> Wheel {
        Wheel { start, tick, current: 0, slots: vec![Vec::new(); SLOTS], len: 0 }
    }

    fn ticks(&self, at: Instant) -> u64 {
        let passed = at.saturating_duration_since(self.start).as_millis() / self.tick.as_millis();
        u64::try_from(passed).unwrap_or(u64::MAX)
    }

    fn note(&mut self, at: Instant, number: u64) {
        let wanted = self.ticks(at).saturating_add(1);
        let tick = wanted.clamp(self.current + 1, self.current + SLOTS_AS_NUMBER - 1);
        self.slots[slot(tick)].push(number);
        self.len += 1;
    }

    fn take(&mut self, now: Instant, due: &mut Vec<u64>) {
        let end = self.ticks(now);
        if self.len > 0 {
            for tick in (self.current + 1..=end).take(SLOTS) {
                let slot = &mut self.slots[slot(tick)];
                self.len -= slot.len();
                due.append(slot);
            }
        }
        self.current = self.current.max(end);
    }

    fn next(&self) -> Option<Instant> {
        if self.len == 0 {
            return None;
        }
        let ticks = self.current + 1..self.current + SLOTS_AS_NUMBER;
        let mut filled = ticks.filter(|tick| !self.slots[slot(*tick)].is_empty());
        let ticks = u32::try_from(filled.next()?).unwrap_or(u32::MAX);
        Some(self.start + self.tick * ticks)
    }
}

fn slot(tick: u64) -> usize {
    usize::try_from(tick % SLOTS_AS_NUMBER).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_due_in_time() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start);
        let times = [0, 1, 250, 251, 3_999, 4_000, 60_000, 400_000];
        for (number, after) in (0..).zip(times) {
            deadlines.note(start, start + Duration::from_millis(after), number);
        }
        let (mut now, mut due) = (start, Vec::new());
        for (number, after) in (0u64..).zip(times) {
            let exact = if after < 4_000 { NEAR } else { FAR };
            while !due.contains(&number) {
                now += deadlines.next(now).expect("something is left").max(Duration::from_millis(1));
                deadlines.take(now, &mut due);
            }
            let after = Duration::from_millis(after);
            assert!(now >= start + after, "{number} too early");
            assert!(now <= start + after + exact + Duration::from_millis(1), "{number} too late");
        }
        assert_eq!((deadlines.next(now), due.len()), (None, times.len()));
    }

    #[test]
    fn far_deadlines_come_early_and_none_is_lost_in_a_long_pause() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start);
        let hours = |hours| start + Duration::from_hours(hours);
        deadlines.note(start, hours(5), 1);
        assert!(deadlines.next(start) <= Some(Duration::from_secs(SLOTS_AS_NUMBER)));
        let mut due = Vec::new();
        deadlines.take(hours(1), &mut due);
        assert_eq!((&due[..], deadlines.next(hours(1))), (&[1][..], None));
        // Noted again after the pause, it is found.
        deadlines.note(hours(1), hours(1), 2);
        deadlines.take(hours(1) + NEAR * 2, &mut due);
        assert_eq!(due, [1, 2]);
    }
}

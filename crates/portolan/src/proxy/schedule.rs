//! What is due next, and when: a sync, a look at what others did, another attempt.
//!
//! A state machine without a clock: whoever drives it says what time it is.

use std::time::{Duration, Instant};

/// How often to look whether someone else changed the rules: one small request to the kernel each
/// time.
const VERIFY_EVERY: Duration = Duration::from_millis(400);
/// After a failed attempt the next follows after this long, twice as long each time, up to
/// `syncPeriod` (spec §9.3).
const RETRY_FIRST: Duration = Duration::from_millis(250);

/// Whether the kernel holds the plan.
#[derive(Debug, Clone, Copy)]
enum State {
    /// Nothing is known yet of what it should hold: what it holds serves on (spec §5.37, §9.6).
    Unplanned,
    /// It does, in the families that are served; what the others lack is tried again.
    InForce { verify_at: Instant, catch_up: Option<Retry> },
    /// It does not, or nobody knows: everything is to be synced.
    Behind(Retry),
}

/// When what failed is tried again.
#[derive(Debug, Clone, Copy)]
struct Retry {
    at: Instant,
    /// Until the attempt after that one, if it fails too.
    pause: Duration,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Write everything.
    Sync,
    /// Look whether someone else changed the rules.
    Verify,
    /// Try again to serve the families that are not served.
    CatchUp,
}

/// Why a family that is not served is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lacking {
    /// Nothing is lacking.
    Nothing,
    /// A family that this host may get: rarely.
    Absent,
    /// A family whose rules are not as planned: soon.
    Behind,
}

/// The state of the kernel, as far as is known, and what follows from it.
#[derive(Debug)]
pub(super) struct Schedule {
    state: State,
    retry_at_most: Duration,
}

impl Schedule {
    /// Nothing is planned yet. The longest pause between attempts is `retry_at_most`.
    pub(super) fn new(retry_at_most: Duration) -> Schedule {
        Schedule { state: State::Unplanned, retry_at_most }
    }

    /// The kernel holds the plan, in one family at least: changes can be applied as they come.
    pub(super) fn is_in_force(&self) -> bool {
        matches!(self.state, State::InForce { .. })
    }

    /// When something is next due, if ever.
    pub(super) fn next(&self) -> Option<Instant> {
        match self.state {
            State::Unplanned => None,
            State::InForce { verify_at, catch_up } => {
                catch_up.map(|retry| retry.at).into_iter().chain([verify_at]).min()
            }
            State::Behind(retry) => Some(retry.at),
        }
    }

    /// What is due at `now`.
    pub(super) fn due(&self, now: Instant) -> Option<Due> {
        match self.state {
            State::Behind(retry) if retry.at <= now => Some(Due::Sync),
            State::InForce { verify_at, .. } if verify_at <= now => Some(Due::Verify),
            State::InForce { catch_up: Some(retry), .. } if retry.at <= now => Some(Due::CatchUp),
            _ => None,
        }
    }

    /// All that there is is known: the first sync is due.
    pub(super) fn planned(&mut self, now: Instant) {
        if matches!(self.state, State::Unplanned) {
            self.sync_at(now);
        }
    }

    /// The kernel does not hold what it should: a sync is due.
    pub(super) fn sync_at(&mut self, now: Instant) {
        self.state = State::Behind(Retry { at: now, pause: RETRY_FIRST });
    }

    /// An attempt failed. Returns how long it is until the next.
    pub(super) fn failed(&mut self, now: Instant) -> Duration {
        let pause = match self.state {
            State::Behind(retry) => retry.pause,
            State::Unplanned | State::InForce { .. } => RETRY_FIRST,
        };
        self.state = State::Behind(self.retry_after(now, pause));
        pause
    }

    /// A commit succeeded. Changes must not put off the look at what others did, nor the next
    /// attempt for a family that is behind.
    pub(super) fn committed(&mut self, now: Instant) {
        let (verify_at, catch_up) = match self.state {
            State::InForce { verify_at, catch_up } if verify_at > now => (verify_at, catch_up),
            State::InForce { catch_up, .. } => (now + VERIFY_EVERY, catch_up),
            State::Unplanned | State::Behind(_) => (now + VERIFY_EVERY, None),
        };
        self.state = State::InForce { verify_at, catch_up };
    }

    /// Nobody else has changed the rules.
    pub(super) fn verified(&mut self, now: Instant) {
        if let State::InForce { verify_at, .. } = &mut self.state {
            *verify_at = now + VERIFY_EVERY;
        }
    }

    /// An attempt for the families that are not served was made: the next one follows later.
    pub(super) fn tried_to_catch_up(&mut self, now: Instant) {
        let State::InForce { catch_up: Some(last), .. } = self.state else { return };
        let next = self.retry_after(now, last.pause);
        if let State::InForce { catch_up, .. } = &mut self.state {
            *catch_up = Some(next);
        }
    }

    /// Sees to another attempt for what is lacking. One that is planned already stays.
    pub(super) fn lacking(&mut self, lacking: Lacking, now: Instant) {
        let first = match lacking {
            Lacking::Nothing => None,
            Lacking::Absent => Some(self.retry_after(now, self.retry_at_most)),
            Lacking::Behind => Some(self.retry_after(now, RETRY_FIRST)),
        };
        if let State::InForce { catch_up, .. } = &mut self.state {
            *catch_up = first.map(|first| catch_up.unwrap_or(first));
        }
    }

    /// The next attempt in `pause`, and the one after that later.
    fn retry_after(&self, now: Instant, pause: Duration) -> Retry {
        let next = (pause * 2).min(self.retry_at_most.max(RETRY_FIRST));
        Retry { at: now + pause, pause: next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_MOST: Duration = Duration::from_secs(1);

    /// The pauses until the next `count` attempts, each of which fails.
    fn pauses(schedule: &mut Schedule, now: Instant, count: usize) -> Vec<u128> {
        (0..count).map(|_| schedule.failed(now).as_millis()).collect()
    }

    #[test]
    fn attempts_become_rarer_up_to_a_limit() {
        let now = Instant::now();
        let mut schedule = Schedule::new(AT_MOST);
        assert_eq!((schedule.next(), schedule.due(now)), (None, None), "nothing is planned");
        schedule.planned(now);
        assert_eq!(schedule.due(now), Some(Due::Sync));
        assert_eq!(pauses(&mut schedule, now, 4), [250, 500, 1000, 1000]);
        schedule.committed(now);
        assert_eq!(pauses(&mut schedule, now, 1), [250], "begins anew after success");
    }

    #[test]
    fn commits_do_not_put_off_the_next_look() {
        let now = Instant::now();
        let mut schedule = Schedule::new(AT_MOST);
        schedule.planned(now);
        schedule.committed(now);
        let due = schedule.next().unwrap();
        schedule.committed(now + Duration::from_millis(1));
        assert_eq!(schedule.next(), Some(due));
        assert_eq!(schedule.due(due), Some(Due::Verify));
        schedule.verified(due);
        assert_eq!(schedule.due(due), None);
    }

    #[test]
    fn families_that_lack_something_are_tried_again() {
        let now = Instant::now();
        let mut schedule = Schedule::new(AT_MOST);
        schedule.planned(now);
        schedule.committed(now);
        let soon = now + RETRY_FIRST;
        schedule.lacking(Lacking::Behind, now);
        schedule.lacking(Lacking::Behind, now + Duration::from_millis(100));
        assert_eq!(schedule.next(), Some(soon), "the attempt that is planned stays");
        assert_eq!(schedule.due(soon), Some(Due::CatchUp));
        schedule.tried_to_catch_up(soon);
        schedule.verified(soon + Duration::from_secs(1));
        assert_eq!(schedule.next(), Some(soon + 2 * RETRY_FIRST), "later each time");
        schedule.lacking(Lacking::Nothing, soon);
        assert_eq!(schedule.due(soon + Duration::from_secs(1)), None);
    }
}

//! What the outcomes of probes mean for a container.

use std::time::Duration;

use crate::spec::{ProbeKind, Timing};

/// A moment: the time since one that the caller chooses.
pub type Moment = Duration;

/// The longest time to the next probe after the first failure of what has run before.
const SOON: Duration = Duration::from_secs(1);

/// Where the caller differs from kubelet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// After a readiness probe that fails before any has passed: the time to the next one, which
    /// becomes twice as long each time, up to the period. Without it, that is the period.
    pub impatience: Option<Duration>,
    /// The container has run before: there is no delay, and the first outcome counts.
    pub has_run: bool,
    /// Spreads probes that begin together: the second follows the first after a part of the period
    /// that depends on this number.
    pub spread: Option<u64>,
}

/// The probes of a container that runs, and what they said.
#[derive(Debug)]
pub struct Health {
    probes: Vec<Watch>,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "none follows from the others")]
struct Watch {
    kind: ProbeKind,
    timing: Timing,
    /// What it counts as at present.
    passes: bool,
    /// Whether an outcome has said so.
    is_decided: bool,
    /// The first outcome counts, whatever it is.
    has_run: bool,
    /// How often in a row it has said so, and whether it passed.
    run: (bool, u32),
    next: Option<Moment>,
    is_under_way: bool,
    /// The time to the next readiness probe as long as none has passed.
    impatience: Duration,
    /// The time to the second probe, if that is another one.
    spread: Option<Duration>,
}

impl Watch {
    fn new(kind: ProbeKind, timing: Timing, pace: Pace) -> Watch {
        let passes = kind == ProbeKind::Liveness;
        let spread =
            |number: u64| timing.period * (u32::try_from(number % 1000).unwrap_or_default() + 1) / 1000;
        Watch {
            kind,
            timing,
            passes,
            // What works is not asked before it is known to have begun to fail.
            is_decided: passes && !pace.has_run,
            has_run: pace.has_run,
            run: (passes, 0),
            next: None,
            is_under_way: false,
            impatience: pace.impatience.unwrap_or(timing.period),
            spread: pace.spread.map(|number| spread(number.wrapping_add(kind as u64 * 333))),
        }
    }

    /// Takes note of an outcome. Gives whether the probe has failed often enough to count as
    /// failing.
    fn note(&mut self, passed: bool, now: Moment) -> bool {
        self.is_under_way = false;
        let is_new = self.kind == ProbeKind::Readiness && !passed && self.impatience < self.timing.period;
        let usual = if is_new { self.impatience } else { self.timing.period };
        // Such a failure counts at once, so it is soon looked at again.
        let usual = if self.has_run && !passed { usual.min(SOON) } else { usual };
        let pause = if passed { self.spread.take() } else { None }.unwrap_or(usual);
        // Once it has passed, it is no beginner any more.
        let longer = self.impatience.saturating_mul(2).min(self.timing.period);
        self.impatience = if passed { self.timing.period } else { longer };
        self.next = Some(now + pause);
        let length = if self.run.0 == passed { self.run.1.saturating_add(1) } else { 1 };
        self.run = (passed, length);
        let needed = match passed {
            _ if self.has_run => 1,
            true => self.timing.successes,
            false => self.timing.failures,
        };
        self.has_run = false;
        // What has not passed yet counts as failing from the first failure on.
        self.is_decided |= length >= needed || !passed;
        if length < needed {
            return false;
        }
        self.passes = passed;
        !passed
    }

    fn due(&self, since: Moment) -> Moment {
        let delay = if self.has_run { Duration::ZERO } else { self.timing.initial_delay };
        self.next.unwrap_or_else(|| since + delay)
    }
}

impl Health {
    /// Of a container with these probes, at most one of a kind.
    pub fn new(probes: impl IntoIterator<Item = (ProbeKind, Timing)>, pace: Pace) -> Health {
        let watches = probes.into_iter().map(|(kind, timing)| Watch::new(kind, timing, pace));
        Health { probes: watches.collect() }
    }

    /// Goes on from what was known of the container when its probes were others.
    pub fn go_on_from(&mut self, before: &Health) {
        for watch in &mut self.probes {
            if let Some(before) = before.probes.iter().find(|before| before.kind == watch.kind) {
                watch.passes = before.passes;
                watch.is_decided = before.is_decided;
                watch.run = (before.passes, 0);
            }
        }
    }

    /// Whether the probe of this kind counts as passing. One that is not there does.
    pub fn passes(&self, kind: ProbeKind) -> bool {
        self.probes.iter().find(|watch| watch.kind == kind).is_none_or(|watch| watch.passes)
    }

    /// Whether the container has begun.
    pub fn has_started(&self) -> bool {
        self.passes(ProbeKind::Startup)
    }

    /// Whether the container can be given work, as kubelet has it: it starts again what does not
    /// live.
    pub fn is_ready(&self) -> bool {
        self.has_started() && self.passes(ProbeKind::Readiness)
    }

    /// Whether all probes pass; `None` as long as no outcome has said so.
    pub fn verdict(&self) -> Option<bool> {
        if self.probes.iter().any(|watch| watch.is_decided && !watch.passes) {
            return Some(false);
        }
        self.probes.iter().all(|watch| watch.is_decided).then_some(true)
    }

    /// Takes note of an outcome. Gives whether the probe has now failed often enough for the
    /// container to be started again, if it is one for which that is done.
    pub fn note(&mut self, kind: ProbeKind, passed: bool, now: Moment) -> bool {
        let Some(watch) = self.probes.iter_mut().find(|watch| watch.kind == kind) else { return false };
        watch.note(passed, now) && kind != ProbeKind::Readiness
    }

    /// Whether a probe is carried out at all at present; `only` is the only one that can be.
    fn is_on(&self, watch: &Watch, only: Option<ProbeKind>) -> bool {
        let is_its_turn = match watch.kind {
            ProbeKind::Startup => !watch.passes,
            _ => self.has_started(),
        };
        is_its_turn && !watch.is_under_way && only.is_none_or(|only| only == watch.kind)
    }

    /// The probes that are due, which count as under way from now on. The container runs `since`.
    pub fn take_due(&mut self, since: Moment, now: Moment, only: Option<ProbeKind>) -> Vec<ProbeKind> {
        let is_due = |watch: &&Watch| self.is_on(watch, only) && watch.due(since) <= now;
        let due: Vec<ProbeKind> = self.probes.iter().filter(is_due).map(|watch| watch.kind).collect();
        for watch in self.probes.iter_mut().filter(|watch| due.contains(&watch.kind)) {
            watch.is_under_way = true;
        }
        due
    }

    /// When the next probe is due.
    pub fn due(&self, since: Moment, only: Option<ProbeKind>) -> Option<Moment> {
        self.probes.iter().filter(|watch| self.is_on(watch, only)).map(|watch| watch.due(since)).min()
    }
}

#[cfg(test)]
mod tests;

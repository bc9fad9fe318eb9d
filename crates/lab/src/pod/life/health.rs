//! What probes say of a container.

use std::fmt;
use std::time::Duration;

use super::Moment;
use crate::pod::spec::{Container, Probe};

/// Which probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pod) enum ProbeKind {
    /// Whether it has begun; before, nothing else is asked.
    Startup,
    /// Whether it works; if not, it is started again.
    Liveness,
    /// Whether it can be given work.
    Readiness,
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        })
    }
}

/// The probes of a container that runs, and what they said.
#[derive(Debug)]
pub(super) struct Health {
    probes: Vec<Watch>,
    is_given_up: bool,
}

#[derive(Debug)]
struct Watch {
    kind: ProbeKind,
    probe: Probe,
    /// What it counts as at present.
    passes: bool,
    /// How often in a row it has said so, and whether it passed.
    run: (bool, u32),
    next: Option<Moment>,
    is_under_way: bool,
    /// The time to the next readiness probe as long as none has passed.
    impatience: Duration,
}

/// After the first readiness probe that fails; then twice as long each time, up to the period.
/// kubelet's shortest period is a second, which is long for a server that takes 50 ms to begin.
const IMPATIENCE: Duration = Duration::from_millis(25);

impl Health {
    pub(super) fn new(container: &Container) -> Self {
        let probes = [
            (ProbeKind::Startup, &container.startup_probe),
            (ProbeKind::Liveness, &container.liveness_probe),
            (ProbeKind::Readiness, &container.readiness_probe),
        ];
        let watch = |(kind, probe): (ProbeKind, &Option<Probe>)| {
            let probe = probe.clone()?;
            let passes = kind == ProbeKind::Liveness;
            Some(Watch {
                kind,
                probe,
                passes,
                run: (passes, 0),
                next: None,
                is_under_way: false,
                impatience: IMPATIENCE,
            })
        };
        Self { probes: probes.into_iter().filter_map(watch).collect(), is_given_up: false }
    }

    fn passes(&self, kind: ProbeKind) -> bool {
        self.probes.iter().find(|watch| watch.kind == kind).is_none_or(|watch| watch.passes)
    }

    /// Whether the container can be given work.
    pub(super) fn is_ready(&self) -> bool {
        self.has_started() && self.passes(ProbeKind::Readiness)
    }

    /// Whether the container has begun.
    pub(super) fn has_started(&self) -> bool {
        self.passes(ProbeKind::Startup)
    }

    /// Whether its end has been asked for.
    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up
    }

    pub(super) fn give_up(&mut self) {
        self.is_given_up = true;
    }

    /// How long the container has to end when this probe has failed, if the probe says so.
    pub(super) fn grace(&self, kind: ProbeKind) -> Option<Duration> {
        let watch = self.probes.iter().find(|watch| watch.kind == kind)?;
        watch.probe.termination_grace_period_seconds.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// Takes note of an outcome. Gives whether the container is to be started again for it.
    pub(super) fn note(&mut self, kind: ProbeKind, passed: bool, now: Moment) -> bool {
        let Some(watch) = self.probes.iter_mut().find(|watch| watch.kind == kind) else { return false };
        watch.is_under_way = false;
        let is_new = kind == ProbeKind::Readiness && !passed && watch.impatience < watch.probe.period();
        let pause = if is_new { watch.impatience } else { watch.probe.period() };
        // Once it has passed, it is no beginner any more.
        watch.impatience = if passed { watch.probe.period() } else { watch.impatience * 2 };
        watch.next = Some(now + pause);
        let length = if watch.run.0 == passed { watch.run.1.saturating_add(1) } else { 1 };
        watch.run = (passed, length);
        let needed = if passed { watch.probe.successes() } else { watch.probe.failures() };
        if length < needed {
            return false;
        }
        watch.passes = passed;
        !passed && kind != ProbeKind::Readiness
    }

    /// Whether a probe is carried out at all at present; `only` is the only one that can be.
    fn is_on(&self, watch: &Watch, only: Option<ProbeKind>) -> bool {
        let is_its_turn = match watch.kind {
            ProbeKind::Startup => !watch.passes,
            _ => self.has_started(),
        };
        is_its_turn && !self.is_given_up && only.is_none_or(|only| only == watch.kind)
    }

    /// The probes that are due, which count as under way from now on.
    pub(super) fn take_due(&mut self, since: Moment, now: Moment, only: Option<ProbeKind>) -> Vec<ProbeKind> {
        let is_due =
            |watch: &Watch| self.is_on(watch, only) && !watch.is_under_way && next(watch, since) <= now;
        let due: Vec<ProbeKind> =
            self.probes.iter().filter(|watch| is_due(watch)).map(|watch| watch.kind).collect();
        for watch in self.probes.iter_mut().filter(|watch| due.contains(&watch.kind)) {
            watch.is_under_way = true;
        }
        due
    }

    /// When the next probe is due.
    pub(super) fn due(&self, since: Moment, only: Option<ProbeKind>) -> Option<Moment> {
        let waiting = self.probes.iter().filter(|watch| self.is_on(watch, only) && !watch.is_under_way);
        waiting.map(|watch| next(watch, since)).min()
    }
}

fn next(watch: &Watch, since: Moment) -> Moment {
    watch.next.unwrap_or_else(|| since + watch.probe.initial_delay())
}

//! What probes say of a container, and what kubelet does about it.

use std::time::Duration;

pub(in crate::pod) use portolan_probe::ProbeKind;
use portolan_probe::{Health as Probes, Pace};

use super::Moment;
use crate::pod::spec::Container;

/// The probes of a container that runs, and what they said.
#[derive(Debug)]
pub(super) struct Health {
    probes: Probes,
    is_given_up: bool,
}

/// After the first readiness probe that fails; then twice as long each time, up to the period.
/// kubelet's shortest period is a second, which is long for a server that takes 50 ms to begin.
const IMPATIENCE: Duration = Duration::from_millis(25);

impl Health {
    pub(super) fn new(container: &Container) -> Self {
        let probes =
            ProbeKind::ALL.into_iter().filter_map(|kind| Some((kind, container.probe(kind)?.timing())));
        let pace = Pace { impatience: Some(IMPATIENCE), ..Pace::default() };
        Self { probes: Probes::new(probes, pace), is_given_up: false }
    }

    /// Whether the container can be given work.
    pub(super) fn is_ready(&self) -> bool {
        self.probes.is_ready()
    }

    /// Whether the container has begun.
    pub(super) fn has_started(&self) -> bool {
        self.probes.has_started()
    }

    /// Whether its end has been asked for.
    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up
    }

    pub(super) fn give_up(&mut self) {
        self.is_given_up = true;
    }

    /// Takes note of an outcome. Gives whether the container is to be started again for it.
    pub(super) fn note(&mut self, kind: ProbeKind, passed: bool, now: Moment) -> bool {
        self.probes.note(kind, passed, now)
    }

    /// The probes that are due, which count as under way from now on.
    pub(super) fn take_due(&mut self, since: Moment, now: Moment, only: Option<ProbeKind>) -> Vec<ProbeKind> {
        if self.is_given_up { Vec::new() } else { self.probes.take_due(since, now, only) }
    }

    /// When the next probe is due.
    pub(super) fn due(&self, since: Moment, only: Option<ProbeKind>) -> Option<Moment> {
        if self.is_given_up { None } else { self.probes.due(since, only) }
    }
}

//! One container of a pod.

use std::time::Duration;

use super::health::{Health, ProbeKind};
use super::{Action, Moment, Policy};
use crate::pod::spec;

/// The first back-off between an end and the next start, and the longest.
const FIRST_BACK_OFF: Duration = Duration::from_secs(10);
const LONGEST_BACK_OFF: Duration = Duration::from_mins(5);
/// What has run for so long is no longer held back.
const GOOD_RUN: Duration = Duration::from_mins(10);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pod) struct Exit {
    /// Its exit code; 128 and the signal that ended it.
    pub(in crate::pod) code: i32,
    /// The signal that ended it; 0 for none.
    pub(in crate::pod) signal: i32,
}

/// What a container is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pod) enum State {
    /// It is not running; `reason` and `message` say why.
    Waiting {
        /// A word, such as `CrashLoopBackOff`.
        reason: &'static str,
        /// A sentence, where there is one.
        message: String,
    },
    /// It is being started.
    Starting,
    /// It runs.
    Running {
        /// Since when.
        since: Moment,
    },
    /// It has ended, and is not started again, or not yet.
    Terminated(End),
}

/// The end of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pod) struct End {
    pub(super) exit: Exit,
    pub(super) message: String,
    pub(super) started: Moment,
    pub(super) finished: Moment,
}

/// A container.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) spec: spec::Container,
    pub(super) is_init: bool,
    pub(super) state: State,
    /// How it ended before.
    pub(super) last: Option<End>,
    pub(super) restarts: u32,
    pub(super) health: Health,
    back_off: Option<Duration>,
    /// When it is killed, if it has been asked to end for its bad health.
    killed_at: Option<Moment>,
    is_killed: bool,
    is_begun: bool,
}

impl Container {
    pub(super) fn new(spec: spec::Container, is_init: bool, reason: &'static str) -> Self {
        Self {
            health: Health::new(&spec),
            spec,
            is_init,
            state: State::Waiting { reason, message: String::new() },
            last: None,
            restarts: 0,
            back_off: None,
            killed_at: None,
            is_killed: false,
            is_begun: false,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. } | State::Starting)
    }

    pub(super) fn is_ready(&self) -> bool {
        match &self.state {
            State::Running { .. } => self.health.is_ready(),
            State::Terminated(end) => self.is_init && end.exit.code == 0,
            _ => false,
        }
    }

    /// Whether it is one that runs beside the others, though it is started before them.
    fn is_sidecar(&self) -> bool {
        self.is_init && self.spec.restart_policy == "Always"
    }

    /// Whether what comes after this init container can start.
    pub(super) fn lets_others_start(&self) -> bool {
        match &self.state {
            State::Running { .. } => self.is_sidecar() && self.health.has_started(),
            State::Terminated(end) => end.exit.code == 0 || self.is_sidecar(),
            State::Waiting { .. } => self.is_sidecar() && self.last.is_some(),
            State::Starting => false,
        }
    }

    /// Whether it is to be started now. If it is held back, its state says so.
    pub(super) fn is_due(
        &mut self,
        policy: Policy,
        now: Moment,
        pod: &str,
        actions: &mut Vec<Action>,
    ) -> bool {
        let end = match &self.state {
            State::Waiting { .. } if !self.is_begun => {
                self.is_begun = true;
                self.state = State::Starting;
                return true;
            }
            State::Waiting { .. } => self.last.clone(),
            State::Terminated(end) => Some(end.clone()),
            _ => None,
        };
        let Some(end) = end else { return false };
        match policy {
            Policy::Never => return false,
            Policy::OnFailure if end.exit.code == 0 => return false,
            _ => {}
        }
        if end.finished.saturating_sub(end.started) >= GOOD_RUN {
            self.back_off = None;
        }
        let delay = self.back_off.unwrap_or_default();
        if end.finished + delay > now {
            let name = &self.spec.name;
            let message = format!("back-off {} restarting failed container={name} pod={pod}", short(delay));
            if !matches!(self.state, State::Waiting { .. }) {
                let event = format!("Back-off restarting failed container {name} in pod {pod}");
                actions.push(Action::warning("BackOff", event));
            }
            self.last = Some(end);
            self.state = State::Waiting { reason: "CrashLoopBackOff", message };
            return false;
        }
        let next = if delay.is_zero() { FIRST_BACK_OFF } else { delay * 2 };
        self.back_off = Some(next.min(LONGEST_BACK_OFF));
        self.last = Some(end);
        self.restarts = self.restarts.saturating_add(1);
        self.state = State::Starting;
        true
    }

    pub(super) fn run(&mut self, now: Moment, actions: &mut Vec<Action>) {
        self.state = State::Running { since: now };
        self.health = Health::new(&self.spec);
        self.killed_at = None;
        self.is_killed = false;
        actions.push(Action::event("Created", format!("Created container: {}", self.spec.name)));
        actions.push(Action::event("Started", format!("Started container {}", self.spec.name)));
    }

    pub(super) fn fail_to_start(&mut self, why: String, now: Moment, actions: &mut Vec<Action>) {
        actions.push(Action::warning("Failed", format!("Error: {why}")));
        let exit = Exit { code: 128, signal: 0 };
        self.state = State::Terminated(End { exit, message: why, started: now, finished: now });
    }

    pub(super) fn end(&mut self, exit: Exit, now: Moment) {
        let started = match self.state {
            State::Running { since } => since,
            _ => now,
        };
        self.state = State::Terminated(End { exit, message: String::new(), started, finished: now });
    }

    /// What waits for its next start, or its first, waits no longer.
    pub(super) fn give_up_waiting(&mut self) {
        if let (State::Waiting { .. }, Some(last)) = (&self.state, self.last.take()) {
            self.state = State::Terminated(last);
        }
    }

    pub(super) fn probed(
        &mut self,
        kind: ProbeKind,
        outcome: &Result<(), String>,
        grace: Duration,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let State::Running { .. } = self.state else { return };
        if let Err(why) = outcome {
            actions.push(Action::warning("Unhealthy", format!("{kind} probe failed: {why}")));
        }
        let is_bad = self.health.note(kind, outcome.is_ok(), now);
        if is_bad && self.killed_at.is_none() {
            let name = &self.spec.name;
            let probe = kind.to_string().to_lowercase();
            let message = format!("Container {name} failed {probe} probe, will be restarted");
            actions.push(Action::event("Killing", message));
            self.killed_at = Some(now + self.spec.probe(kind).and_then(spec::Probe::grace).unwrap_or(grace));
        }
    }

    /// Asks for what is due by now.
    pub(super) fn pass_time(
        &mut self,
        index: usize,
        pod_killed_at: Option<Moment>,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let State::Running { since } = self.state else { return };
        let asked = self.killed_at.filter(|_| !self.health.is_given_up());
        if asked.is_some() {
            self.health.give_up();
            if pod_killed_at.is_none() {
                actions.push(Action::Terminate(index));
            }
        }
        let killed_at = self.killed_at.into_iter().chain(pod_killed_at).min();
        if killed_at.is_some_and(|at| at <= now) && !self.is_killed {
            self.is_killed = true;
            actions.push(Action::Kill(index));
        }
        let only = pod_killed_at.is_some().then_some(ProbeKind::Readiness);
        for kind in self.health.take_due(since, now, only) {
            actions.push(Action::Probe(index, kind));
        }
    }

    /// When something is due.
    pub(super) fn due(&self, pod_killed_at: Option<Moment>) -> Option<Moment> {
        match &self.state {
            State::Running { since } => {
                let kill = self.killed_at.into_iter().chain(pod_killed_at).min();
                let only = pod_killed_at.is_some().then_some(ProbeKind::Readiness);
                kill.filter(|_| !self.is_killed).into_iter().chain(self.health.due(*since, only)).min()
            }
            State::Waiting { .. } if pod_killed_at.is_none() => {
                self.last.as_ref().map(|end| end.finished + self.back_off.unwrap_or_default())
            }
            _ => None,
        }
    }
}

/// A duration as Go writes it, in minutes and seconds.
fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

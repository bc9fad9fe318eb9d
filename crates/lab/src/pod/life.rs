//! The life of a pod, without processes and without a clock: what happened goes in, what is to be
//! done comes out. It is what kubelet 1.36 does with a pod.

mod container;
mod health;
mod status;

use std::time::Duration;

use serde_json::Value;

use super::spec::Object;
use container::Container;
pub(super) use container::Exit;
pub(super) use health::ProbeKind;

/// A moment: the time since 1970.
pub(super) type Moment = Duration;

/// A pod.
#[derive(Debug)]
pub(super) struct Life {
    object: Object,
    addresses: Vec<String>,
    host_addresses: Vec<String>,
    /// Those of `initContainers`, then the others.
    containers: Vec<Container>,
    started: Moment,
    /// When what is still running is killed, once the pod is to end.
    killed_at: Option<Moment>,
    conditions: status::Conditions,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Happening {
    /// A container's process runs.
    Started(usize),
    /// It could not be started; why.
    NotStarted(usize, String),
    /// It has ended.
    Exited(usize, Exit),
    /// A probe of a container was carried out. What it said, if it failed.
    Probed(usize, ProbeKind, Result<(), String>),
    /// The pod is to end within this time, or within its own.
    Deleted(Option<Duration>),
    /// Nothing but time has passed.
    Later,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Start a container.
    Start(usize),
    /// Ask a container to end.
    Terminate(usize),
    /// End a container.
    Kill(usize),
    /// Carry out a probe.
    Probe(usize, ProbeKind),
    /// Record an event.
    Event {
        /// Whether it is a warning.
        warning: bool,
        /// Its reason.
        reason: &'static str,
        /// What it says.
        message: String,
    },
}

impl Action {
    fn event(reason: &'static str, message: String) -> Self {
        Self::Event { warning: false, reason, message }
    }

    fn warning(reason: &'static str, message: String) -> Self {
        Self::Event { warning: true, reason, message }
    }
}

impl Life {
    /// A pod that is about to be started.
    pub(super) fn new(
        object: Object,
        addresses: Vec<String>,
        host_addresses: Vec<String>,
        now: Moment,
    ) -> Self {
        let spec = &object.spec;
        let reason = if spec.init_containers.is_empty() { "ContainerCreating" } else { "PodInitializing" };
        let init = spec.init_containers.iter().map(|spec| Container::new(spec.clone(), true, reason));
        let main = spec.containers.iter().map(|spec| Container::new(spec.clone(), false, reason));
        let containers = init.chain(main);
        Self {
            containers: containers.collect(),
            addresses,
            host_addresses,
            started: now,
            killed_at: None,
            conditions: status::Conditions::default(),
            object,
        }
    }

    pub(super) fn object(&self) -> &Object {
        &self.object
    }

    /// The spec of a container.
    pub(super) fn container(&self, index: usize) -> &super::spec::Container {
        &self.containers[index].spec
    }

    /// How often a container has been started before.
    pub(super) fn restarts(&self, index: usize) -> u32 {
        self.containers[index].restarts
    }

    /// The container of a name; the first that is no init container without one.
    pub(super) fn find(&self, name: Option<&str>) -> Option<usize> {
        self.containers.iter().position(|container| match name {
            Some(name) => container.spec.name == name,
            None => !container.is_init,
        })
    }

    /// Takes note of what happened, and says what is to be done.
    pub(super) fn handle(&mut self, happening: Happening, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        let is_ending = self.killed_at.is_some();
        let grace = self.object.spec.grace();
        match happening {
            Happening::Started(index) => self.containers[index].run(now, &mut actions),
            Happening::NotStarted(index, why) => self.containers[index].fail_to_start(why, now, &mut actions),
            Happening::Exited(index, exit) => self.containers[index].end(exit, now),
            Happening::Probed(index, kind, outcome) => {
                self.containers[index].probed(kind, &outcome, grace, now, &mut actions);
            }
            Happening::Deleted(within) => self.delete(within.unwrap_or(grace), now, &mut actions),
            Happening::Later => {}
        }
        if !is_ending && self.killed_at.is_none() {
            self.start(now, &mut actions);
        }
        for (index, container) in self.containers.iter_mut().enumerate() {
            container.pass_time(index, self.killed_at, now, &mut actions);
        }
        actions
    }

    fn delete(&mut self, within: Duration, now: Moment, actions: &mut Vec<Action>) {
        let at = now + within;
        let first = self.killed_at.is_none();
        self.killed_at = Some(self.killed_at.map_or(at, |before| before.min(at)));
        for (index, container) in self.containers.iter_mut().enumerate() {
            if first && container.is_running() {
                let message = format!("Stopping container {}", container.spec.name);
                actions.push(Action::event("Killing", message));
                actions.push(Action::Terminate(index));
            }
            container.give_up_waiting();
        }
    }

    /// Starts what is due: init containers one after another, then all others.
    fn start(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let pod = &self.object.metadata;
        let pod = format!("{}_{}({})", pod.name, pod.namespace, pod.uid);
        for index in 0..self.containers.len() {
            let policy = self.policy(index);
            let container = &mut self.containers[index];
            if container.is_due(policy, now, &pod, actions) {
                actions.push(Action::Start(index));
            }
            if container.is_init && !container.lets_others_start() {
                return;
            }
        }
    }

    /// When a container is started again.
    fn policy(&self, index: usize) -> Policy {
        let container = &self.containers[index];
        match (container.spec.restart_policy.as_str(), self.object.spec.restart_policy.as_str()) {
            ("Always", _) => Policy::Always,
            (_, "Never") => Policy::Never,
            (_, "OnFailure") => Policy::OnFailure,
            _ if container.is_init => Policy::OnFailure,
            _ => Policy::Always,
        }
    }

    /// When to look again though nothing has happened.
    pub(super) fn due(&self) -> Option<Moment> {
        self.containers.iter().filter_map(|container| container.due(self.killed_at)).min()
    }

    /// Whether nothing runs and nothing will.
    pub(super) fn is_over(&self) -> bool {
        let is_still = self.containers.iter().all(|container| !container.is_running());
        let phase = self.phase();
        is_still && (self.killed_at.is_some() || matches!(phase, "Succeeded" | "Failed"))
    }

    /// `status` of the Pod.
    pub(super) fn status(&mut self, now: Moment) -> Value {
        let mut conditions = std::mem::take(&mut self.conditions);
        conditions.update(self, now);
        self.conditions = conditions;
        status::status(self)
    }
}

/// When a container that has ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Always,
    OnFailure,
    Never,
}

#[cfg(test)]
mod tests;

//! Which probes are due, and what is known of pods: no I/O, no clock.
//!
//! What one outcome or one pod costs does not depend on how many pods there are, but for the order
//! of what is due, which is a tree.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use portolan_service::ObjectName;

use crate::health::{Health, Moment, Pace};
use crate::spec::{Action, ProbeKind, Target, Timing};

/// One probe that is to be carried out now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) id: Id,
    pub(crate) action: Action,
    pub(crate) timeout: Duration,
}

/// Which probe, of which state of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id {
    pod: u64,
    container: usize,
    kind: ProbeKind,
}

/// Whether a pod is ready is different now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The pod.
    pub pod: ObjectName,
    /// What it is now.
    pub ready: bool,
    /// Why it is not: the probe, and what it said.
    pub reason: Option<String>,
}

/// A pod that is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodReport {
    /// Its name.
    pub pod: ObjectName,
    /// Its address, and its probes as they are.
    pub target: Arc<Target>,
    /// Whether it is ready; `None` as long as no outcome has said so.
    pub ready: Option<bool>,
    /// How long ago that began.
    pub since: Option<Duration>,
    /// Its probes, container by container.
    pub probes: Vec<ProbeReport>,
}

/// A probe, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeReport {
    /// The container's name.
    pub container: Arc<str>,
    /// Which probe.
    pub kind: ProbeKind,
    /// What it counts as.
    pub passes: bool,
    /// How often it was carried out.
    pub count: u64,
    /// How long it took the last time.
    pub took: Option<Duration>,
    /// How long ago the last time was.
    pub age: Option<Duration>,
    /// The last time that it failed.
    pub last_failure: Option<Failure>,
}

/// An outcome that is none to be glad of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How long ago.
    pub age: Duration,
    /// What was wrong, in the words of kubelet.
    pub reason: String,
    /// Whether the probe has passed since.
    pub is_over: bool,
}

/// What has been done, and how many pods there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Outcomes of each kind of probe, in the order of [`ProbeKind::ALL`].
    pub outcomes: [Outcomes; 3],
    /// Pods that are probed.
    pub pods: usize,
    /// Those of them that probes have found not to be ready.
    pub not_ready: usize,
}

/// How probes of a kind went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// How many passed.
    pub passed: u64,
    /// How many failed.
    pub failed: u64,
    /// How long all of them took.
    pub took: Duration,
}

/// All pods.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    pods: HashMap<u64, Pod>,
    names: HashMap<ObjectName, u64>,
    due: BTreeSet<(Moment, u64)>,
    next: u64,
    under_way: usize,
    undecided: usize,
    not_ready: usize,
    verdicts: Vec<Verdict>,
    outcomes: [Outcomes; 3],
}

#[derive(Debug)]
struct Pod {
    name: ObjectName,
    target: Arc<Target>,
    healths: Vec<Health>,
    since: Moment,
    due: Option<Moment>,
    ready: Option<bool>,
    changed: Moment,
    records: BTreeMap<(usize, ProbeKind), Record>,
}

/// What came of a probe.
#[derive(Debug, Clone, Default)]
struct Record {
    count: u64,
    took: Duration,
    at: Moment,
    failed: Option<(Moment, String)>,
}

impl Pod {
    fn new(name: &ObjectName, target: Arc<Target>, has_run: bool, now: Moment) -> Pod {
        let timings = |container: &crate::ContainerProbes| -> Vec<(ProbeKind, Timing)> {
            container.probes.iter().map(|(kind, probe)| (*kind, probe.timing)).collect()
        };
        let spread = |container: &Arc<str>| {
            let mut hasher = DefaultHasher::new();
            (name, container).hash(&mut hasher);
            hasher.finish()
        };
        let health = |container: &crate::ContainerProbes| {
            let pace = Pace { impatience: None, has_run, spread: Some(spread(&container.name)) };
            Health::new(timings(container), pace)
        };
        Pod {
            name: name.clone(),
            healths: target.containers.iter().map(health).collect(),
            target,
            since: now,
            due: None,
            ready: None,
            changed: now,
            records: BTreeMap::new(),
        }
    }

    /// The same server as before, with other probes or the same.
    fn go_on_from(&mut self, before: &mut Pod) {
        (self.since, self.ready, self.changed) = (before.since, before.ready, before.changed);
        for (index, container) in self.target.containers.iter().enumerate() {
            let named = |other: &crate::ContainerProbes| other.name == container.name;
            let Some(old) = before.target.containers.iter().position(named) else { continue };
            self.healths[index].go_on_from(&before.healths[old]);
            for (kind, _) in &container.probes {
                if let Some(record) = before.records.remove(&(old, *kind)) {
                    self.records.insert((index, *kind), record);
                }
            }
        }
    }

    /// Whether all probes pass. What was not ready does not become so because another probe has no
    /// outcome yet.
    fn verdict(&self) -> Option<bool> {
        let verdicts = || self.healths.iter().map(Health::verdict);
        if verdicts().any(|verdict| verdict == Some(false)) {
            return Some(false);
        }
        if verdicts().all(|verdict| verdict == Some(true)) { Some(true) } else { self.ready }
    }

    fn next_due(&self) -> Option<Moment> {
        self.healths.iter().filter_map(|health| health.due(self.since, None)).min()
    }

    /// The first probe that counts as failing, and what it said.
    fn reason(&self) -> Option<String> {
        self.target.containers.iter().enumerate().find_map(|(index, container)| {
            container.probes.iter().find_map(|(kind, _)| {
                let (_, said) = self.records.get(&(index, *kind))?.failed.as_ref()?;
                let fails = !self.healths[index].passes(*kind);
                fails.then(|| format!("{} probe of container {}: {said}", kind.name(), container.name))
            })
        })
    }
}

impl Schedule {
    /// A pod is to be probed like this from now on, or no longer. If it `has_run`, there is no
    /// delay before its first probes, and their outcomes count at once.
    pub(crate) fn set(&mut self, name: &ObjectName, target: Option<Arc<Target>>, has_run: bool, now: Moment) {
        let before = self.names.remove(name).and_then(|id| self.remove(id));
        let Some(target) = target else {
            self.verdicts.retain(|verdict| verdict.pod != *name);
            return;
        };
        let mut pod = Pod::new(name, target, has_run, now);
        match before {
            Some(mut before) if before.target.address == pod.target.address => pod.go_on_from(&mut before),
            _ => self.verdicts.retain(|verdict| verdict.pod != *name),
        }
        self.next += 1;
        let id = self.next;
        self.names.insert(name.clone(), id);
        self.undecided += usize::from(pod.ready.is_none());
        self.not_ready += usize::from(pod.ready == Some(false));
        self.pods.insert(id, pod);
        self.settle(id, now);
    }

    fn remove(&mut self, id: u64) -> Option<Pod> {
        let pod = self.pods.remove(&id)?;
        if let Some(due) = pod.due {
            self.due.remove(&(due, id));
        }
        self.undecided -= usize::from(pod.ready.is_none());
        self.not_ready -= usize::from(pod.ready == Some(false));
        Some(pod)
    }

    /// Works out what follows from the state of a pod.
    fn settle(&mut self, id: u64, now: Moment) {
        let Some(pod) = self.pods.get_mut(&id) else { return };
        let due = pod.next_due();
        if due != pod.due {
            if let Some(before) = pod.due {
                self.due.remove(&(before, id));
            }
            self.due.extend(due.map(|due| (due, id)));
            pod.due = due;
        }
        let verdict = pod.verdict();
        let Some(ready) = verdict.filter(|_| verdict != pod.ready) else { return };
        self.undecided -= usize::from(pod.ready.is_none());
        if ready {
            self.not_ready -= usize::from(pod.ready == Some(false));
        } else {
            self.not_ready += 1;
        }
        (pod.ready, pod.changed) = (verdict, now);
        let reason = if ready { None } else { pod.reason() };
        self.verdicts.push(Verdict { pod: pod.name.clone(), ready, reason });
    }

    /// Probes that are due, which count as under way from now on, as long as fewer than `most` are;
    /// and when to look again.
    pub(crate) fn take_due(&mut self, most: usize, now: Moment) -> (Vec<Due>, Option<Moment>) {
        let mut taken = Vec::new();
        while self.under_way < most
            && let Some(&(at, id)) = self.due.first().filter(|(at, _)| *at <= now)
        {
            self.due.remove(&(at, id));
            let Some(pod) = self.pods.get_mut(&id) else { continue };
            pod.due = None;
            for (index, health) in pod.healths.iter_mut().enumerate() {
                for kind in health.take_due(pod.since, now, None) {
                    let probes = &pod.target.containers[index].probes;
                    let Some((_, probe)) = probes.iter().find(|(own, _)| *own == kind) else { continue };
                    taken.push(Due {
                        id: Id { pod: id, container: index, kind },
                        action: probe.action.clone(),
                        timeout: probe.timing.timeout,
                    });
                    self.under_way += 1;
                }
            }
            self.settle(id, now);
        }
        // An outcome makes room.
        let next = self.due.first().map(|(at, _)| *at).filter(|_| self.under_way < most);
        (taken, next)
    }

    /// Takes note of what came of a probe, however late.
    pub(crate) fn note(&mut self, id: Id, outcome: Result<(), String>, took: Duration, now: Moment) {
        self.under_way -= 1;
        let counted = &mut self.outcomes[id.kind as usize];
        counted.took += took;
        *(if outcome.is_ok() { &mut counted.passed } else { &mut counted.failed }) += 1;
        let Some(pod) = self.pods.get_mut(&id.pod) else { return };
        let record = pod.records.entry((id.container, id.kind)).or_default();
        (record.count, record.took, record.at) = (record.count + 1, took, now);
        let passed = outcome.is_ok();
        if let Err(reason) = outcome {
            record.failed = Some((now, reason));
        }
        // Nobody starts the container again: it counts as not ready until the probe passes.
        let _ = pod.healths[id.container].note(id.kind, passed, now);
        self.settle(id.pod, now);
    }

    /// The pods of which something else is to be said than before, since the last call: each once.
    pub(crate) fn take_verdicts(&mut self) -> Vec<Verdict> {
        let mut last = HashMap::new();
        for verdict in std::mem::take(&mut self.verdicts) {
            last.insert(verdict.pod.clone(), verdict);
        }
        last.into_values().collect()
    }

    /// Whether there are verdicts.
    pub(crate) fn has_verdicts(&self) -> bool {
        !self.verdicts.is_empty()
    }

    /// How many pods there are of which no outcome has said anything yet.
    pub(crate) fn undecided(&self) -> usize {
        self.undecided
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters { outcomes: self.outcomes, pods: self.pods.len(), not_ready: self.not_ready }
    }

    /// All pods, by their names.
    pub(crate) fn reports(&self, now: Moment) -> Vec<PodReport> {
        let mut reports: Vec<PodReport> = self.pods.values().map(|pod| report(pod, now)).collect();
        reports.sort_unstable_by(|one, other| one.pod.cmp(&other.pod));
        reports
    }
}

fn report(pod: &Pod, now: Moment) -> PodReport {
    let mut probes = Vec::new();
    for (index, container) in pod.target.containers.iter().enumerate() {
        for (kind, _) in &container.probes {
            let record = pod.records.get(&(index, *kind));
            let age = |at: Moment| now.saturating_sub(at);
            probes.push(ProbeReport {
                container: container.name.clone(),
                kind: *kind,
                passes: pod.healths[index].passes(*kind),
                count: record.map_or(0, |record| record.count),
                took: record.map(|record| record.took),
                age: record.map(|record| age(record.at)),
                last_failure: record.and_then(|record| {
                    let (at, reason) = record.failed.as_ref()?;
                    Some(Failure { age: age(*at), reason: reason.clone(), is_over: record.at > *at })
                }),
            });
        }
    }
    PodReport {
        pod: pod.name.clone(),
        target: pod.target.clone(),
        ready: pod.ready,
        since: pod.ready.map(|_| now.saturating_sub(pod.changed)),
        probes,
    }
}

#[cfg(test)]
mod tests;

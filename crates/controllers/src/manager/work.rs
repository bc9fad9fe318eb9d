//! Which controller is due: work that follows the changes of objects.

mod held;
mod job;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::batch_job::batch_job;
use super::circumstances::Circumstances;
use super::daemon_set::daemon_set;
use super::deployment::deployment;
use super::endpoint_slices::{end_of_endpoints, endpoint_slices, endpoints, mirror};
use super::garbage::garbage;
use super::namespace::namespace;
use super::node_lifecycle::{Patience, lost_pods, node_lifecycle};
use super::object::{Object, Unreadable};
use super::pod::Pod;
use super::replica_set::{replica_set, replication_controller};
use super::scheduler::schedule;
use super::stateful_set::stateful_set;
use super::time::Timestamp;
use super::write::Step;
use held::Held;
pub use job::Job;

/// All objects, and the controllers that are due for them.
///
/// All objects of all kinds go in before the first step: what has an owner that is not there is
/// garbage, and is deleted. Then they go in as they change ([`Work::set`], [`Work::remove`]).
/// [`Work::next`] runs one controller that is due. Whoever carries out its step puts in what has
/// become of the objects before the next call, because a controller must see its own writes.
#[derive(Debug, Default)]
pub struct Work {
    held: Held,
    due: BTreeSet<Job>,
    later: BTreeMap<Timestamp, BTreeSet<Job>>,
    patience: Patience,
}

impl Work {
    /// No objects yet.
    pub fn new(patience: Patience) -> Self {
        Self { patience, ..Self::default() }
    }

    /// An object is now like this. One that cannot be read counts as gone.
    pub fn set(&mut self, object: &Value) -> Result<(), Unreadable> {
        self.held.set(object, &mut self.due)
    }

    /// The object of this kind, namespace (empty for none) and name is gone.
    pub fn remove(&mut self, kind: &str, namespace: &str, name: &str) {
        self.held.remove(&(kind.to_owned(), namespace.to_owned(), name.to_owned()), &mut self.due);
    }

    /// When something is due though no object changes; `None` if nothing is.
    pub fn wakes_at(&self) -> Option<Timestamp> {
        self.later.keys().next().copied()
    }

    /// Runs a controller that is due. Gives what it wants, and which one it was, so that it can be
    /// made due again; `None` if none is due.
    pub fn next(&mut self, circumstances: &mut Circumstances<'_>) -> Option<(Job, Step)> {
        while let Some(entry) = self.later.first_entry().filter(|entry| *entry.key() <= circumstances.now) {
            self.due.extend(entry.remove());
        }
        let job = self.due.pop_first()?;
        let step = self.run(&job, circumstances);
        if let Some(time) = step.again {
            // What is due in this very second is due in the next: a step never waits for itself.
            let time = time.max(circumstances.now.plus(1));
            self.later.entry(time).or_default().insert(job.clone());
        }
        Some((job, step))
    }

    /// Makes a controller due again, after one of its writes has failed.
    pub fn again(&mut self, job: Job, at: Timestamp) {
        self.later.entry(at).or_default().insert(job);
    }

    fn run(&self, job: &Job, circumstances: &mut Circumstances<'_>) -> Step {
        let held = &self.held;
        let step = match job {
            Job::Garbage(key) => held.anything.get(key).map(|object| {
                let owned = held.owned_by(object.uid());
                garbage(object, |owner| held.owner(object, owner), owned)
            }),
            Job::Deployment(key) => held.deployments.get(key).map(|found| {
                let sets = held.candidates(found.uid(), "ReplicaSet", &key.0);
                let sets: Vec<_> = sets.filter_map(|name| held.replica_sets.get(&name)).collect();
                let pods: Vec<&Pod> = sets.iter().flat_map(|set| held.pods_of(set.uid())).collect();
                deployment(found, sets, pods, circumstances)
            }),
            Job::ReplicaSet(key) => held.replica_sets.get(key).map(|found| {
                let siblings = found.controller().map(|owner| held.owned_by(&owner.uid));
                let siblings = siblings.into_iter().flatten().map(Object::uid);
                let related: Vec<&Pod> = siblings.flat_map(|uid| held.pods_of(uid)).collect();
                let pods = held.candidate_pods(found.uid(), &key.0);
                if found.controller().is_some() {
                    replica_set(found, pods, related, circumstances)
                } else {
                    replica_set(found, pods, held.pods_of(found.uid()), circumstances)
                }
            }),
            Job::ReplicationController(key) => held.replication_controllers.get(key).map(|found| {
                replication_controller(found, held.candidate_pods(found.uid(), &key.0), circumstances)
            }),
            Job::StatefulSet(key) => held.stateful_sets.get(key).map(|found| {
                let pods = held.candidate_pods(found.uid(), &key.0);
                stateful_set(found, pods, held.candidate_revisions(found.uid(), &key.0), circumstances)
            }),
            Job::DaemonSet(key) => held.daemon_sets.get(key).map(|found| {
                let pods = held.candidate_pods(found.uid(), &key.0);
                let revisions = held.candidate_revisions(found.uid(), &key.0);
                daemon_set(found, held.nodes.values(), pods, revisions, circumstances)
            }),
            Job::BatchJob(key) => held
                .batch_jobs
                .get(key)
                .map(|found| batch_job(found, held.candidate_pods(found.uid(), &key.0), circumstances)),
            Job::Endpoints(key) => Some(self.endpoints(key, circumstances)),
            Job::Schedule => {
                Some(schedule(held.pods.values(), held.nodes.values(), held.pods.values(), circumstances))
            }
            Job::LostPods => Some(lost_pods(held.pods.values(), held.nodes.values())),
            Job::NodeLifecycle(name) => held.nodes.get(&(String::new(), name.clone())).map(|node| {
                let lease = held.leases.get(&("kube-node-lease".to_owned(), name.clone()));
                let pods = held.pods.values();
                node_lifecycle(node, lease, pods, self.patience, circumstances)
            }),
            Job::Namespace(name) => held
                .namespaces
                .get(&(String::new(), name.clone()))
                .map(|found| namespace(found, held.anything.values(), circumstances)),
        };
        step.unwrap_or_default()
    }

    /// What a Service makes of pods, and of Endpoints that somebody has made.
    fn endpoints(&self, key: &(String, String), circumstances: &mut Circumstances<'_>) -> Step {
        let (held, (namespace, name)) = (&self.held, key);
        let (service, present) = (held.services.get(key), held.endpoints.get(key));
        let pods = || held::within(&held.pods, namespace);
        let slices = || held::within(&held.slices, namespace).filter(|slice| slice.service() == Some(name));
        let mut step = mirror(service, present, slices(), circumstances);
        let more = match service {
            Some(service) => {
                let own = endpoint_slices(service, pods(), held.nodes.values(), slices(), circumstances);
                step.writes.extend(own.writes);
                // One that cannot be read is in the way until somebody corrects it.
                endpoints(service, pods(), present).ok()
            }
            None => present.map(end_of_endpoints),
        };
        step.writes.extend(more.unwrap_or_default().writes);
        step
    }
}

//! ReplicaSets and ReplicationControllers: so many pods of a template.

mod victims;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::circumstances::Circumstances;
use super::claim::claim;
use super::count::bounded;
use super::object::{Condition, Object, difference, is_default};
use super::pod::{Pod, from_template};
use super::selector::{LabelSelector, Selects};
use super::write::{Propagation, Step};
use crate::Labels;

/// A ReplicaSet.
pub type ReplicaSet = Object<ReplicaSetSpec<LabelSelector>, ReplicaSetStatus>;

/// A ReplicationController.
pub type ReplicationController = Object<ReplicaSetSpec<Labels>, ReplicaSetStatus>;

/// `spec` of either.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaSetSpec<S> {
    pub(crate) replicas: Option<i64>,
    pub(crate) min_ready_seconds: i64,
    pub(crate) selector: S,
    pub(crate) template: Value,
}

/// `status` of either.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaSetStatus {
    pub(crate) replicas: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) fully_labeled_replicas: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) ready_replicas: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) available_replicas: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) observed_generation: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) conditions: Vec<Condition>,
}

/// At most so many pods come or go at once (`BurstReplicas`).
const AT_ONCE: usize = 500;

impl<S> ReplicaSetSpec<S> {
    pub(crate) fn wanted(&self) -> i64 {
        bounded(self.replicas.unwrap_or(1))
    }
}

/// What a ReplicaSet makes of its pods.
///
/// `pods` are those that it manages and those of its namespace that nobody does; others do no
/// harm. `related` are the pods of all ReplicaSets under the same Deployment: when some must go,
/// those that share their node with most of these are the first. Its own alone are enough for one
/// that has no Deployment.
pub fn replica_set<'a>(
    set: &ReplicaSet,
    pods: impl IntoIterator<Item = &'a Pod>,
    related: impl IntoIterator<Item = &'a Pod>,
    circumstances: &mut Circumstances<'_>,
) -> Step {
    replicas(set, "replicaset-controller", pods, related, circumstances)
}

/// What a ReplicationController makes of its pods, which are as in [`replica_set`].
pub fn replication_controller<'a>(
    controller: &ReplicationController,
    pods: impl IntoIterator<Item = &'a Pod>,
    circumstances: &mut Circumstances<'_>,
) -> Step {
    let pods: Vec<&Pod> = pods.into_iter().collect();
    let related = pods.iter().copied().filter(|pod| controller.controls(pod));
    replicas(controller, "replication-controller", pods.iter().copied(), related, circumstances)
}

fn replicas<'a, S: Selects>(
    set: &Object<ReplicaSetSpec<S>, ReplicaSetStatus>,
    component: &'static str,
    pods: impl IntoIterator<Item = &'a Pod>,
    related: impl IntoIterator<Item = &'a Pod>,
    circumstances: &mut Circumstances<'_>,
) -> Step {
    let mut step = Step::default();
    let active = pods.into_iter().filter(|pod| pod.is_active());
    let owned = claim(set, &set.spec.selector, active, &mut step);
    step.status(set.target(), difference(&set.status, &status(set, &owned, circumstances)));
    if set.is_deleting() {
        return step;
    }
    let wanted = usize::try_from(set.spec.wanted()).unwrap_or_default();
    if owned.len() < wanted {
        create((wanted - owned.len()).min(AT_ONCE), set, component, circumstances, &mut step);
    } else if owned.len() > wanted {
        let count = (owned.len() - wanted).min(AT_ONCE);
        for victim in victims::choose(&owned, related, count, circumstances.now) {
            step.delete(victim.target(), Propagation::Background);
            let message = format!("Deleted pod: {}", victim.name());
            step.event(component, set.target(), "SuccessfulDelete", message);
        }
    }
    let waits =
        owned.iter().filter_map(|pod| pod.available_at(set.spec.min_ready_seconds, circumstances.now));
    if let Some(time) = waits.min() {
        step.again_at(time);
    }
    step
}

fn create<S>(
    count: usize,
    set: &Object<ReplicaSetSpec<S>, ReplicaSetStatus>,
    component: &'static str,
    circumstances: &mut Circumstances<'_>,
    step: &mut Step,
) {
    let base = format!("{}-", set.name());
    for _ in 0..count {
        let name = circumstances.name(&base);
        let owner = set.as_controller();
        let pod = from_template(&set.spec.template, &owner, set.namespace(), &name, Some(&base));
        step.writes.push(super::write::Write::Create(pod));
        step.event(component, set.target(), "SuccessfulCreate", format!("Created pod: {name}"));
    }
}

fn status<S>(
    set: &Object<ReplicaSetSpec<S>, ReplicaSetStatus>,
    owned: &[&Pod],
    circumstances: &Circumstances<'_>,
) -> ReplicaSetStatus {
    let count = |test: &dyn Fn(&Pod) -> bool| {
        i64::try_from(owned.iter().filter(|pod| test(pod)).count()).unwrap_or(i64::MAX)
    };
    let labels = set.spec.template["metadata"]["labels"].as_object();
    let is_labelled = |pod: &Pod| {
        labels.into_iter().flatten().all(|(key, value)| {
            pod.labels().get(key).map(String::as_str) == Some(value.as_str().unwrap_or_default())
        })
    };
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: count(&is_labelled),
        ready_replicas: count(&Pod::is_ready),
        available_replicas: count(&|pod| pod.is_available(set.spec.min_ready_seconds, circumstances.now)),
        observed_generation: set.metadata.generation,
        conditions: set.status.conditions.clone(),
    }
}

//! StatefulSets: pods with names of their own, one after another.

mod member;
mod turn;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::circumstances::Circumstances;
use super::claim::claim;
use super::count::Count;
use super::history::{ControllerRevision, History};
use super::object::{Condition, Object, difference, is_default};
use super::pod::{Pod, map_at};
use super::selector::{LabelSelector, Selects as _};
use super::template::hash;
use super::write::Step;
use crate::Labels;
use member::{Members, revision_of};
use turn::Turn;

/// A StatefulSet.
pub type StatefulSet = Object<StatefulSetSpec, StatefulSetStatus>;

/// `spec` of a StatefulSet.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatefulSetSpec {
    replicas: Option<i64>,
    selector: LabelSelector,
    template: Value,
    service_name: String,
    pod_management_policy: String,
    update_strategy: Strategy,
    revision_history_limit: Option<i64>,
    min_ready_seconds: i64,
    ordinals: Ordinals,
}

/// `spec.updateStrategy`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Strategy {
    #[serde(rename = "type")]
    kind: String,
    rolling_update: RollingUpdate,
}

/// `spec.updateStrategy.rollingUpdate`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RollingUpdate {
    partition: i64,
    max_unavailable: Option<Count>,
}

/// `spec.ordinals`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Ordinals {
    start: i64,
}

/// `status` of a StatefulSet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatefulSetStatus {
    #[serde(skip_serializing_if = "is_default")]
    observed_generation: i64,
    replicas: i64,
    #[serde(skip_serializing_if = "is_default")]
    ready_replicas: i64,
    #[serde(skip_serializing_if = "is_default")]
    current_replicas: i64,
    #[serde(skip_serializing_if = "is_default")]
    updated_replicas: i64,
    #[serde(skip_serializing_if = "is_default")]
    current_revision: String,
    #[serde(skip_serializing_if = "is_default")]
    update_revision: String,
    collision_count: i64,
    #[serde(skip_serializing_if = "is_default")]
    conditions: Vec<Condition>,
    available_replicas: i64,
}

/// At most so many pods are looked after at once: names follow from numbers, so that there may be
/// no more of them than anybody could want.
const MOST: i64 = 10_000;

/// The label by which pods say of which record they are.
pub(crate) const REVISION: &str = "controller-revision-hash";

impl StatefulSetSpec {
    fn wanted(&self) -> i64 {
        self.replicas.unwrap_or(1).clamp(0, MOST)
    }

    /// Whether pods wait for those before them.
    fn is_ordered(&self) -> bool {
        self.pod_management_policy != "Parallel"
    }

    fn is_rolling(&self) -> bool {
        self.update_strategy.kind != "OnDelete"
    }
}

impl StatefulSet {
    /// Whether it selects what has these labels.
    pub(crate) fn selects(&self, labels: &Labels) -> bool {
        self.spec.selector.selects(labels)
    }
}

/// What a StatefulSet makes of its pods.
///
/// `pods` and `revisions` are those that it manages and those of its namespace that nobody does;
/// others do no harm. Claims of volumes (`volumeClaimTemplates`) are left to who has volumes.
pub fn stateful_set<'a>(
    set: &StatefulSet,
    pods: impl IntoIterator<Item = &'a Pod>,
    revisions: impl IntoIterator<Item = &'a ControllerRevision>,
    circumstances: &Circumstances<'_>,
) -> Step {
    let mut step = Step::default();
    // Only what is named after the set is its own.
    let named = pods.into_iter().filter(|pod| member::ordinal(set, pod.name()).is_some());
    let pods = claim(set, &set.spec.selector, named, &mut step);
    let history = History::of(set, &set.spec.selector, revisions, &mut step);
    let mut status = StatefulSetStatus {
        observed_generation: set.metadata.generation,
        conditions: set.status.conditions.clone(),
        collision_count: set.status.collision_count,
        ..StatefulSetStatus::default()
    };
    let hash = hash(&set.spec.template, set.status.collision_count);
    let labels = record_labels(set, &hash);
    let record = (&set.spec.template, hash.as_str(), &labels);
    let collisions = set.status.collision_count;
    let Some(update) = history.record(set, record, collisions, circumstances.now, &mut step) else {
        return step;
    };
    let held = history.revisions.iter().find(|revision| revision.name() == set.status.current_revision);
    let (current, template) = match held {
        Some(revision) => (revision.name().to_owned(), revision.template()),
        None => (update.clone(), &set.spec.template),
    };
    let members = Members::of(set, &pods);
    members.count(set, &mut status, (&current, &update), circumstances.now);
    status.current_revision.clone_from(&current);
    status.update_revision.clone_from(&update);
    if !set.is_deleting() {
        let mut turn = Turn {
            set,
            members: &members,
            current: &current,
            template,
            update: &update,
            now: circumstances.now,
            step: &mut step,
        };
        status.current_replicas -= turn.take();
    }
    let used = [&current, &update];
    let is_used =
        |name: &str| used.iter().any(|used| *used == name) || pods.iter().any(|pod| revision_of(pod) == name);
    history.forget(set.spec.revision_history_limit, is_used, &mut step);
    complete(set, &mut status);
    step.status(set.target(), difference(&set.status, &status));
    step
}

/// When all pods are of the newest record, it is the current one.
fn complete(set: &StatefulSet, status: &mut StatefulSetStatus) {
    let wanted = set.spec.wanted();
    if set.spec.is_rolling()
        && [status.updated_replicas, status.ready_replicas, status.replicas] == [wanted; 3]
    {
        status.current_replicas = status.updated_replicas;
        status.current_revision.clone_from(&status.update_revision);
    }
}

fn record_labels(set: &StatefulSet, hash: &str) -> Value {
    let mut metadata = set.spec.template["metadata"].clone();
    let labels = map_at(&mut metadata, &["labels"]);
    labels.insert("controller.kubernetes.io/hash".to_owned(), json!(hash));
    json!(labels)
}

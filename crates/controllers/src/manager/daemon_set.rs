//! DaemonSets: a pod on every node that may have one.

mod fleet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::circumstances::Circumstances;
use super::claim::claim;
use super::count::Count;
use super::history::{ControllerRevision, History};
use super::object::{Condition, Object, difference, is_default, without_nulls};
use super::placement::Node;
use super::pod::{Pod, PodSpec, map_at};
use super::selector::{LabelSelector, Selects as _};
use super::template::hash;
use super::write::Step;
use crate::Labels;
use fleet::Fleet;

/// A DaemonSet.
pub type DaemonSet = Object<DaemonSetSpec, DaemonSetStatus>;

/// `spec` of a DaemonSet.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DaemonSetSpec {
    selector: LabelSelector,
    template: Value,
    update_strategy: Strategy,
    revision_history_limit: Option<i64>,
    min_ready_seconds: i64,
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
    max_unavailable: Option<Count>,
}

/// `status` of a DaemonSet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DaemonSetStatus {
    current_number_scheduled: i64,
    number_misscheduled: i64,
    desired_number_scheduled: i64,
    number_ready: i64,
    #[serde(skip_serializing_if = "is_default")]
    observed_generation: i64,
    #[serde(skip_serializing_if = "is_default")]
    updated_number_scheduled: i64,
    #[serde(skip_serializing_if = "is_default")]
    number_available: i64,
    #[serde(skip_serializing_if = "is_default")]
    number_unavailable: i64,
    #[serde(skip_serializing_if = "is_default")]
    collision_count: i64,
    #[serde(skip_serializing_if = "is_default")]
    conditions: Vec<Condition>,
}

impl DaemonSet {
    /// Whether it selects what has these labels.
    pub(crate) fn selects(&self, labels: &Labels) -> bool {
        self.spec.selector.selects(labels)
    }
}

/// What a DaemonSet makes of its pods on these nodes, which are all there are.
///
/// `pods` and `revisions` are those that it manages and those of its namespace that nobody does;
/// others do no harm. `maxSurge` is not known: an update first deletes.
pub fn daemon_set<'a>(
    set: &DaemonSet,
    nodes: impl IntoIterator<Item = &'a Node>,
    pods: impl IntoIterator<Item = &'a Pod>,
    revisions: impl IntoIterator<Item = &'a ControllerRevision>,
    circumstances: &mut Circumstances<'_>,
) -> Step {
    let mut step = Step::default();
    let pods = claim(set, &set.spec.selector, pods, &mut step);
    let history = History::of(set, &set.spec.selector, revisions, &mut step);
    let suffix = hash(&set.spec.template, set.status.collision_count);
    let mut metadata = set.spec.template["metadata"].clone();
    let labels = map_at(&mut metadata, &["labels"]);
    labels.insert(super::stateful_set::REVISION.to_owned(), json!(suffix));
    let labels = json!(labels);
    let record = (&set.spec.template, suffix.as_str(), &labels);
    let collisions = set.status.collision_count;
    let Some(current) = history.record(set, record, collisions, circumstances.now, &mut step) else {
        return step;
    };
    // Pods have the end of the record's name for a label, which is not today's hash after a
    // collision.
    let current = current.strip_prefix(&format!("{}-", set.name())).unwrap_or_default().to_owned();
    let template = PodSpec::deserialize(without_nulls(&set.spec.template["spec"])).unwrap_or_default();
    let nodes: Vec<&Node> = nodes.into_iter().collect();
    let fleet = Fleet::new(set, &template, &current, &nodes, &pods, circumstances.now);
    let status = fleet.status(&set.status);
    if !set.is_deleting() {
        fleet.man(&mut step, circumstances);
        fleet.update(&mut step);
    }
    let is_used = |name: &str| {
        let suffix = name.strip_prefix(set.name()).and_then(|rest| rest.strip_prefix('-'));
        suffix == Some(&current) || pods.iter().any(|pod| Some(fleet::revision_of(pod)) == suffix)
    };
    history.forget(set.spec.revision_history_limit, is_used, &mut step);
    step.status(set.target(), difference(&set.status, &status));
    step
}

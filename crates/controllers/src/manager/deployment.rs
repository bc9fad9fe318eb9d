//! Deployments: ReplicaSets for one template after another.

mod plan;
mod revision;
mod rollout;
mod scale;
mod status;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::circumstances::Circumstances;
use super::claim::claim;
use super::count::{Count, bounded};
use super::object::{Condition, Object, difference, is_default};
use super::pod::Pod;
use super::replica_set::ReplicaSet;
use super::selector::{LabelSelector, Selects as _};
use super::write::Step;
use crate::Labels;
use plan::Plan;

/// A Deployment.
pub type Deployment = Object<DeploymentSpec, DeploymentStatus>;

/// `spec` of a Deployment.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentSpec {
    replicas: Option<i64>,
    selector: LabelSelector,
    template: Value,
    strategy: Strategy,
    min_ready_seconds: i64,
    revision_history_limit: Option<i64>,
    paused: bool,
    progress_deadline_seconds: Option<i64>,
}

/// `spec.strategy`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Strategy {
    #[serde(rename = "type")]
    kind: String,
    rolling_update: RollingUpdate,
}

/// `spec.strategy.rollingUpdate`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RollingUpdate {
    max_surge: Option<Count>,
    max_unavailable: Option<Count>,
}

/// `status` of a Deployment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentStatus {
    #[serde(skip_serializing_if = "is_default")]
    observed_generation: i64,
    #[serde(skip_serializing_if = "is_default")]
    replicas: i64,
    #[serde(skip_serializing_if = "is_default")]
    updated_replicas: i64,
    #[serde(skip_serializing_if = "is_default")]
    ready_replicas: i64,
    #[serde(skip_serializing_if = "is_default")]
    available_replicas: i64,
    #[serde(skip_serializing_if = "is_default")]
    unavailable_replicas: i64,
    #[serde(skip_serializing_if = "is_default")]
    conditions: Vec<Condition>,
    #[serde(skip_serializing_if = "is_default")]
    collision_count: i64,
}

/// Who writes the events.
const COMPONENT: &str = "deployment-controller";

impl DeploymentSpec {
    fn wanted(&self) -> i64 {
        bounded(self.replicas.unwrap_or(1))
    }

    fn is_recreate(&self) -> bool {
        self.strategy.kind == "Recreate"
    }

    /// How many pods there may be beyond those wanted, and how many of those wanted may be missing
    /// (`ResolveFenceposts`). Not both are 0, or nothing could ever be exchanged.
    fn fence(&self) -> (i64, i64) {
        if self.is_recreate() {
            return (0, 0);
        }
        let quarter = Count::Text("25%".to_owned());
        let update = &self.strategy.rolling_update;
        let surge = update.max_surge.as_ref().unwrap_or(&quarter).rounded_up(self.wanted());
        let unavailable = update.max_unavailable.as_ref().unwrap_or(&quarter).rounded_down(self.wanted());
        if (surge, unavailable) == (0, 0) { (0, 1) } else { (surge, unavailable) }
    }

    fn max_surge(&self) -> i64 {
        self.fence().0
    }

    fn max_unavailable(&self) -> i64 {
        if self.wanted() == 0 { 0 } else { self.fence().1.min(self.wanted()) }
    }

    fn deadline(&self) -> Option<i64> {
        self.progress_deadline_seconds.filter(|seconds| *seconds != i64::from(i32::MAX))
    }
}

impl Deployment {
    /// Whether it selects what has these labels.
    pub(crate) fn selects(&self, labels: &Labels) -> bool {
        self.spec.selector.selects(labels)
    }
}

/// What a Deployment makes of its ReplicaSets.
///
/// `sets` are those that it manages and those of its namespace that nobody does, `pods` those of
/// its ReplicaSets; others do no harm.
pub fn deployment<'a>(
    deployment: &Deployment,
    sets: impl IntoIterator<Item = &'a ReplicaSet>,
    pods: impl IntoIterator<Item = &'a Pod>,
    circumstances: &Circumstances<'_>,
) -> Step {
    let mut step = Step::default();
    if deployment.spec.selector.is_empty() {
        if deployment.status.observed_generation < deployment.metadata.generation {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            step.warning(COMPONENT, deployment.target(), "SelectingAll", message.to_owned());
            let generation = deployment.metadata.generation;
            step.status(deployment.target(), Some(json!({ "observedGeneration": generation })));
        }
        return step;
    }
    let sets: Vec<&ReplicaSet> = sets.into_iter().collect();
    let owned = claim(deployment, &deployment.spec.selector, sets.iter().copied(), &mut step);
    let mut plan = Plan::new(deployment, &owned, circumstances.now);
    plan.taken = sets.iter().map(|set| set.name()).collect();
    let running = pods.into_iter().filter(|pod| !pod.is_finished());
    plan.running = running.filter_map(|pod| Some(pod.controller()?.uid.as_str())).collect();
    let status = if deployment.is_deleting() {
        plan.status()
    } else {
        plan.note_pause();
        if deployment.spec.paused || plan.is_being_scaled() {
            plan.scale();
            if deployment.spec.paused {
                plan.forget_old_sets();
            }
            plan.status()
        } else if deployment.spec.is_recreate() {
            plan.recreate()
        } else {
            plan.roll()
        }
    };
    plan.write(&mut step);
    step.status(deployment.target(), difference(&deployment.status, &status));
    step
}

/// What to do when the name of the next ReplicaSet is taken by one that is not the Deployment's:
/// the next try gets another name.
pub fn name_taken(deployment: &Deployment) -> Step {
    let mut step = Step::default();
    let collisions = deployment.status.collision_count.saturating_add(1);
    step.status(deployment.target(), Some(json!({ "collisionCount": collisions })));
    step
}

//! The status of a Deployment, and whether it makes progress.

use serde_json::Map;

use super::plan::Plan;
use super::{Deployment, DeploymentStatus};
use crate::manager::object::{Condition, condition, set_condition};
use crate::manager::time::Timestamp;

const PROGRESSING: &str = "Progressing";
const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

fn new_condition(kind: &str, status: &str, reason: &str, message: String, now: Timestamp) -> Condition {
    Condition {
        kind: kind.to_owned(),
        status: status.to_owned(),
        last_update_time: Some(now),
        last_transition_time: Some(now),
        reason: reason.to_owned(),
        message,
        more: Map::new(),
    }
}

impl Plan<'_> {
    /// Notes that something has been done, if anybody is to be warned when nothing is.
    pub(super) fn note_progress(&mut self, reason: &str, message: String) {
        if self.deployment.spec.deadline().is_some() {
            let new = new_condition(PROGRESSING, "True", reason, message, self.now);
            set_condition(&mut self.conditions, new);
        }
    }

    /// Notes that the Deployment pauses or goes on, so that the pause counts for no lack of
    /// progress.
    pub(super) fn note_pause(&mut self) {
        let current = condition(&self.conditions, PROGRESSING).map(|current| current.reason.as_str());
        if self.deployment.spec.deadline().is_none() || current == Some(TIMED_OUT) {
            return;
        }
        let (reason, message) = match (self.deployment.spec.paused, current == Some(PAUSED)) {
            (true, false) => (PAUSED, "Deployment is paused"),
            (false, true) => ("DeploymentResumed", "Deployment is resumed"),
            _ => return,
        };
        let new = new_condition(PROGRESSING, "Unknown", reason, message.to_owned(), self.now);
        set_condition(&mut self.conditions, new);
    }

    /// The status, without a look at the progress.
    pub(super) fn status(&self) -> DeploymentStatus {
        let spec = &self.deployment.spec;
        let statuses: Vec<_> = self.sets.iter().map(super::plan::Set::status).collect();
        let available = self.available();
        let mut conditions = self.conditions.clone();
        let (status, reason, message) = if available >= spec.wanted() - spec.max_unavailable() {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
        let new = new_condition("Available", status, reason, message.to_owned(), self.now);
        set_condition(&mut conditions, new);
        DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: statuses.iter().map(|status| status.replicas).sum(),
            updated_replicas: self.current().map(|index| statuses[index].replicas).unwrap_or_default(),
            ready_replicas: statuses.iter().map(|status| status.ready_replicas).sum(),
            available_replicas: available,
            unavailable_replicas: (self.total() - available).max(0),
            conditions,
            collision_count: self.collisions,
        }
    }

    /// Whether nothing is left to be done.
    pub(super) fn is_complete(&self, status: &DeploymentStatus) -> bool {
        let wanted = self.deployment.spec.wanted();
        status.updated_replicas == wanted
            && status.replicas == wanted
            && status.available_replicas == wanted
            && status.observed_generation >= self.deployment.metadata.generation
    }

    /// The status, with the condition Progressing: whether anything has changed for the better
    /// since the last look, or nothing has for too long.
    pub(super) fn progress(&mut self, current: Option<usize>) -> DeploymentStatus {
        let mut status = self.status();
        match self.deployment.spec.deadline() {
            None => status.conditions.retain(|condition| condition.kind != PROGRESSING),
            Some(deadline) => self.judge(&mut status, current, deadline),
        }
        let sets = current.into_iter().chain(0..self.sets.len()).map(|index| self.sets[index].status());
        let mut failures = sets.flat_map(|set| set.conditions).filter(|set| set.kind == "ReplicaFailure");
        match failures.next() {
            Some(failure) => {
                let more = Condition { last_update_time: Some(self.now), ..failure };
                set_condition(&mut status.conditions, more);
            }
            None => status.conditions.retain(|condition| condition.kind != "ReplicaFailure"),
        }
        status
    }

    fn judge(&mut self, status: &mut DeploymentStatus, current: Option<usize>, deadline: i64) {
        let before = condition(&status.conditions, PROGRESSING).cloned();
        let was_complete = before.as_ref().is_some_and(|before| before.reason == COMPLETE);
        if was_complete && status.replicas == status.updated_replicas {
            return;
        }
        let what = match current {
            Some(index) => format!("ReplicaSet {:?}", self.sets[index].name),
            None => format!("Deployment {:?}", self.deployment.name()),
        };
        if self.is_complete(status) {
            let message = format!("{what} has successfully progressed.");
            let new = new_condition(PROGRESSING, "True", COMPLETE, message, self.now);
            set_condition(&mut status.conditions, new);
        } else if is_better(self.deployment, status) {
            let message = format!("{what} is progressing.");
            let mut new = new_condition(PROGRESSING, "True", "ReplicaSetUpdated", message, self.now);
            if let Some(before) = before.filter(|before| before.status == "True") {
                new.last_transition_time = before.last_transition_time;
            }
            // The time of the last update must move on though the reason may be the same.
            status.conditions.retain(|condition| condition.kind != PROGRESSING);
            status.conditions.push(new);
            self.again_at(self.now.plus(deadline).plus(1));
        } else if let Some(before) = before.filter(|before| before.reason != TIMED_OUT) {
            let late = before.last_update_time.unwrap_or(self.now).plus(deadline);
            if was_complete {
                return;
            }
            if late >= self.now {
                self.again_at(late.plus(1));
                return;
            }
            let message = format!("{what} has timed out progressing.");
            let new = new_condition(PROGRESSING, "False", TIMED_OUT, message, self.now);
            set_condition(&mut status.conditions, new);
        }
    }
}

/// Whether more pods are as they should be than at the last look.
fn is_better(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let before = &deployment.status;
    let old = |status: &DeploymentStatus| status.replicas.saturating_sub(status.updated_replicas);
    status.updated_replicas > before.updated_replicas
        || old(status) < old(before)
        || status.ready_replicas > before.ready_replicas
        || status.available_replicas > before.available_replicas
}

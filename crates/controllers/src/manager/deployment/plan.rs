//! What shall become of a Deployment's ReplicaSets, worked out step by step and written once.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value, json};

use super::{COMPONENT, Deployment};
use crate::manager::count::bounded;
use crate::manager::object::{Condition, Object, difference};
use crate::manager::replica_set::{ReplicaSet, ReplicaSetStatus};
use crate::manager::time::Timestamp;
use crate::manager::write::{Propagation, Step, Write};

/// A ReplicaSet as it shall be.
pub(super) struct Set<'a> {
    /// As it is; none if it is to be created.
    held: Option<&'a ReplicaSet>,
    pub(super) name: String,
    pub(super) replicas: i64,
    pub(super) min_ready_seconds: i64,
    pub(super) annotations: BTreeMap<String, String>,
    /// The object, if it is to be created.
    create: Value,
    is_deleted: bool,
}

/// The work on a Deployment.
pub(super) struct Plan<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) now: Timestamp,
    /// By age, the oldest first.
    pub(super) sets: Vec<Set<'a>>,
    /// Annotations of the Deployment, as they shall be.
    pub(super) annotations: BTreeMap<String, String>,
    /// Conditions of the Deployment, as they shall be.
    pub(super) conditions: Vec<Condition>,
    pub(super) collisions: i64,
    /// Names of ReplicaSets of the namespace.
    pub(super) taken: HashSet<&'a str>,
    /// The owners of pods that have not finished, by uid.
    pub(super) running: HashSet<&'a str>,
    events: Vec<String>,
    again: Option<Timestamp>,
}

impl<'a> Set<'a> {
    pub(super) fn new(name: String, object: Value, replicas: i64, min_ready_seconds: i64) -> Self {
        Self {
            held: None,
            name,
            replicas,
            min_ready_seconds,
            annotations: BTreeMap::new(),
            create: object,
            is_deleted: false,
        }
    }

    fn of(set: &'a ReplicaSet) -> Self {
        Self {
            held: Some(set),
            name: set.name().to_owned(),
            replicas: set.spec.wanted(),
            min_ready_seconds: set.spec.min_ready_seconds,
            annotations: set.metadata.annotations.clone(),
            create: Value::Null,
            is_deleted: false,
        }
    }

    pub(super) fn template(&self) -> &Value {
        self.held.map_or(&self.create["spec"]["template"], |set| &set.spec.template)
    }

    pub(super) fn status(&self) -> ReplicaSetStatus {
        let Some(held) = self.held else { return ReplicaSetStatus::default() };
        let status = held.status.clone();
        ReplicaSetStatus {
            replicas: bounded(status.replicas),
            ready_replicas: bounded(status.ready_replicas),
            available_replicas: bounded(status.available_replicas),
            ..status
        }
    }

    pub(super) fn available(&self) -> i64 {
        bounded(self.held.map(|set| set.status.available_replicas).unwrap_or_default())
    }

    pub(super) fn uid(&self) -> &str {
        self.held.map(Object::uid).unwrap_or_default()
    }

    /// A number that an annotation has.
    pub(super) fn number(&self, annotation: &str) -> Option<i64> {
        self.annotations.get(annotation)?.parse().ok().filter(|number| *number == bounded(*number))
    }

    /// Whether it has nothing left to do, so that it can go.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_some_and(|set| {
            self.replicas == 0
                && set.spec.wanted() == 0
                && set.status.replicas == 0
                && set.metadata.generation <= set.status.observed_generation
                && !set.is_deleting()
        })
    }

    pub(super) fn delete(&mut self) {
        self.is_deleted = true;
    }

    fn write(self, step: &mut Step) {
        let Some(held) = self.held else {
            let mut object = self.create;
            object["metadata"]["annotations"] = json!(self.annotations);
            object["spec"]["replicas"] = json!(self.replicas);
            step.writes.push(Write::Create(object));
            return;
        };
        if self.is_deleted {
            step.delete(held.target(), Propagation::Background);
            return;
        }
        let mut patch = Map::new();
        if let Some(annotations) = difference(&held.metadata.annotations, &self.annotations) {
            patch.insert("metadata".to_owned(), json!({ "annotations": annotations }));
        }
        let mut spec = Map::new();
        if self.replicas != held.spec.wanted() {
            spec.insert("replicas".to_owned(), json!(self.replicas));
        }
        if self.min_ready_seconds != held.spec.min_ready_seconds {
            spec.insert("minReadySeconds".to_owned(), json!(self.min_ready_seconds));
        }
        if !spec.is_empty() {
            patch.insert("spec".to_owned(), Value::Object(spec));
        }
        if !patch.is_empty() {
            step.update(held.target(), Value::Object(patch));
        }
    }
}

impl<'a> Plan<'a> {
    pub(super) fn new(deployment: &'a Deployment, sets: &[&'a ReplicaSet], now: Timestamp) -> Self {
        let mut sets = sets.to_vec();
        sets.sort_by_key(|set| (set.metadata.creation_timestamp, set.name()));
        Self {
            deployment,
            now,
            sets: sets.into_iter().map(Set::of).collect(),
            annotations: deployment.metadata.annotations.clone(),
            conditions: deployment.status.conditions.clone(),
            collisions: deployment.status.collision_count,
            taken: HashSet::new(),
            running: HashSet::new(),
            events: Vec::new(),
            again: None,
        }
    }

    /// The pods that all ReplicaSets are to have.
    pub(super) fn total(&self) -> i64 {
        self.sets.iter().map(|set| set.replicas).sum()
    }

    /// The pods that all ReplicaSets have and that are available.
    pub(super) fn available(&self) -> i64 {
        self.sets.iter().map(Set::available).sum()
    }

    pub(super) fn event(&mut self, message: String) {
        self.events.push(message);
    }

    pub(super) fn again_at(&mut self, time: Timestamp) {
        self.again = Some(time);
    }

    /// Writes what is different now, but for the status.
    pub(super) fn write(self, step: &mut Step) {
        for set in self.sets {
            set.write(step);
        }
        if let Some(annotations) = difference(&self.deployment.metadata.annotations, &self.annotations) {
            step.update(self.deployment.target(), json!({ "metadata": { "annotations": annotations } }));
        }
        for message in self.events {
            step.event(COMPONENT, self.deployment.target(), "ScalingReplicaSet", message);
        }
        if let Some(time) = self.again {
            step.again_at(time);
        }
    }
}

//! Which ReplicaSet is for the template of today, and the history of those before.

use serde_json::json;

use super::plan::{Plan, Set};
use super::scale::{DESIRED, MAXIMUM};
use crate::manager::object::condition;
use crate::manager::template::{TEMPLATE_HASH, hash, is_same};

/// The number of a template: kubectl's `rollout history` and `undo` go by it.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// The numbers that it had before.
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// `HISTORY` is no longer than this; the oldest numbers are left out.
const LONGEST_HISTORY: usize = 2_000;

/// Annotations that ReplicaSets have of their own, and do not get from their Deployment.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAXIMUM,
    "deprecated.deployment.rollback.to",
];

impl Plan<'_> {
    /// The ReplicaSet for the template of today, the oldest if there are several.
    pub(super) fn current(&self) -> Option<usize> {
        let template = &self.deployment.spec.template;
        self.sets.iter().position(|set| is_same(set.template(), template))
    }

    /// The other ones.
    pub(super) fn others(&self, current: Option<usize>) -> impl Iterator<Item = usize> + use<> {
        (0..self.sets.len()).filter(move |index| Some(*index) != current)
    }

    fn revision(set: &Set<'_>) -> i64 {
        set.number(REVISION).unwrap_or_default()
    }

    /// The ReplicaSet for the template of today, with the newest revision. It is made if it is
    /// wanted and not there; one from before is used again, which is how a rollback comes about.
    pub(super) fn sync_revision(&mut self, is_wanted: bool) -> Option<usize> {
        let current = self.current();
        let newest = self.others(current).map(|index| Self::revision(&self.sets[index])).max();
        let revision = newest.unwrap_or_default().max(0) + 1;
        let index = match current {
            Some(index) => {
                self.annotate(index, revision);
                self.sets[index].min_ready_seconds = self.deployment.spec.min_ready_seconds;
                if condition(&self.conditions, "Progressing").is_none() {
                    let message = format!("Found new replica set {:?}", self.sets[index].name);
                    self.note_progress("FoundNewReplicaSet", message);
                }
                index
            }
            None if is_wanted => self.create(revision)?,
            None => return None,
        };
        let revision = Self::revision(&self.sets[index]).to_string();
        self.annotations.insert(REVISION.to_owned(), revision);
        Some(index)
    }

    /// Passes the Deployment's annotations on to a ReplicaSet, and gives it a revision that is not
    /// below `revision`.
    fn annotate(&mut self, index: usize, revision: i64) {
        let passed = self.deployment.metadata.annotations.iter();
        let passed: Vec<_> = passed.filter(|(key, _)| !OWN.contains(&key.as_str())).collect();
        let set = &mut self.sets[index];
        for (key, value) in passed {
            set.annotations.insert(key.clone(), value.clone());
        }
        let before = Self::revision(set);
        if before >= revision {
            return;
        }
        let old = set.annotations.insert(REVISION.to_owned(), revision.to_string());
        let Some(old) = old.filter(|old| !old.is_empty()) else { return };
        let history = set.annotations.get(HISTORY).filter(|history| !history.is_empty());
        let history = history.map_or_else(|| old.clone(), |history| format!("{history},{old}"));
        let mut kept = history.as_str();
        while kept.len() > LONGEST_HISTORY {
            let Some((_, rest)) = kept.split_once(',') else { return };
            kept = rest;
        }
        set.annotations.insert(HISTORY.to_owned(), kept.to_owned());
    }

    /// Makes the ReplicaSet for the template of today. If its name is taken, it gets one with the
    /// next look.
    fn create(&mut self, revision: i64) -> Option<usize> {
        let deployment = self.deployment;
        let hash = hash(&deployment.spec.template, self.collisions);
        let name = format!("{}-{hash}", deployment.name());
        if self.taken.contains(name.as_str()) {
            self.collisions = self.collisions.saturating_add(1);
            self.again_at(self.now);
            return None;
        }
        let mut template = deployment.spec.template.clone();
        let labels = crate::manager::pod::map_at(&mut template, &["metadata", "labels"]);
        labels.insert(TEMPLATE_HASH.to_owned(), json!(hash));
        let labels = json!(labels);
        let mut selector = json!(deployment.spec.selector);
        crate::manager::pod::map_at(&mut selector, &["matchLabels"])
            .insert(TEMPLATE_HASH.to_owned(), json!(hash));
        let object = json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": name,
                "namespace": deployment.namespace(),
                "labels": labels,
                "ownerReferences": [deployment.as_controller()],
            },
            "spec": {
                "minReadySeconds": deployment.spec.min_ready_seconds,
                "selector": selector,
                "template": template,
            },
        });
        self.sets.push(Set::new(name.clone(), object, 0, deployment.spec.min_ready_seconds));
        let index = self.sets.len() - 1;
        self.sets[index].replicas = self.size_of_new(index);
        self.annotate(index, revision);
        self.annotate_size(index);
        let replicas = self.sets[index].replicas;
        if replicas > 0 {
            self.event(format!("Scaled up replica set {name} from 0 to {replicas}"));
        }
        self.note_progress("NewReplicaSetCreated", format!("Created new replica set {name:?}"));
        Some(index)
    }

    /// Deletes the ReplicaSets before the last few (`spec.revisionHistoryLimit`).
    pub(super) fn forget_old_sets(&mut self) {
        let Some(limit) = self.deployment.spec.revision_history_limit else { return };
        if limit == i64::from(i32::MAX) {
            return;
        }
        let mut old: Vec<usize> = self.others(self.current()).collect();
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
        old.sort_by_key(|index| Self::revision(&self.sets[*index]));
        for index in old.into_iter().take(surplus) {
            if self.sets[index].is_idle() {
                self.sets[index].delete();
            }
        }
    }
}

//! The templates that a StatefulSet or DaemonSet had: ControllerRevisions.

use serde::Deserialize;
use serde_json::{Value, json};

use super::claim::claim;
use super::object::{Meta, Nothing, Object};
use super::pod::map_at;
use super::selector::LabelSelector;
use super::template::is_same;
use super::time::Timestamp;
use super::write::{Propagation, Step, Write};

/// A ControllerRevision.
#[derive(Debug, Clone)]
pub struct ControllerRevision {
    /// Its metadata.
    object: Object<Nothing, Nothing>,
    revision: i64,
    template: Value,
}

#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    revision: i64,
    #[serde(default)]
    data: Value,
}

impl ControllerRevision {
    /// Reads one.
    pub fn read(object: &Value) -> Result<Self, super::Unreadable> {
        let content = Content::deserialize(object).unwrap_or(Content { revision: 0, data: Value::Null });
        let mut template = content.data["spec"]["template"].clone();
        if let Value::Object(template) = &mut template {
            template.remove("$patch");
        }
        Ok(Self { object: Object::read(object)?, revision: content.revision, template })
    }

    pub(crate) fn name(&self) -> &str {
        self.object.name()
    }

    pub(crate) fn metadata(&self) -> &Meta {
        &self.object.metadata
    }

    pub(crate) fn template(&self) -> &Value {
        &self.template
    }
}

/// The templates that `owner` had, the oldest first.
pub(crate) struct History<'a> {
    pub(crate) revisions: Vec<&'a ControllerRevision>,
}

impl<'a> History<'a> {
    /// Those of `revisions` that are of `owner`.
    pub(crate) fn of<S, T>(
        owner: &Object<S, T>,
        selector: &LabelSelector,
        revisions: impl IntoIterator<Item = &'a ControllerRevision>,
        step: &mut Step,
    ) -> Self {
        let all: Vec<&ControllerRevision> = revisions.into_iter().collect();
        let claimed = claim(owner, selector, all.iter().map(|revision| &revision.object), step);
        let is_claimed = |revision: &&&ControllerRevision| {
            claimed.iter().any(|claimed| claimed.uid() == revision.object.uid())
        };
        let mut revisions: Vec<&ControllerRevision> = all.iter().filter(is_claimed).copied().collect();
        revisions.sort_by_key(|revision| {
            (revision.revision, revision.metadata().creation_timestamp, revision.name())
        });
        Self { revisions }
    }

    /// Records the template of today as the newest, unless it is. `labels` are those of the
    /// record, `hash` is the end of its name.
    ///
    /// Returns the name of the record. `None`: somebody has the name, and `step` has one more than
    /// these `collisions` as the owner's number of them, from which another name follows at `now`.
    pub(crate) fn record<S, T>(
        &self,
        owner: &Object<S, T>,
        (template, hash, labels): (&Value, &str, &Value),
        collisions: i64,
        now: Timestamp,
        step: &mut Step,
    ) -> Option<String> {
        let next = self.revisions.last().map_or(0, |revision| revision.revision).saturating_add(1);
        let same = self.revisions.iter().rposition(|revision| is_same(&revision.template, template));
        if let Some(index) = same {
            if index + 1 < self.revisions.len() {
                step.update(self.revisions[index].object.target(), json!({ "revision": next }));
            }
            return Some(self.revisions[index].name().to_owned());
        }
        let name = format!("{}-{hash}", owner.name());
        if self.revisions.iter().any(|revision| revision.name() == name) {
            let collisions = collisions.saturating_add(1);
            step.status(owner.target(), Some(json!({ "collisionCount": collisions })));
            step.again_at(now);
            return None;
        }
        let mut data = template.clone();
        map_at(&mut data, &[]).insert("$patch".to_owned(), json!("replace"));
        step.writes.push(Write::Create(json!({
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {
                "name": name,
                "namespace": owner.namespace(),
                "labels": labels,
                "annotations": owner.metadata.annotations,
                "ownerReferences": [owner.as_controller()],
            },
            "data": { "spec": { "template": data } },
            "revision": next,
        })));
        Some(name)
    }

    /// Deletes the oldest of those that are not in use, until `limit` of them are left.
    pub(crate) fn forget(&self, limit: Option<i64>, is_used: impl Fn(&str) -> bool, step: &mut Step) {
        let limit = usize::try_from(limit.unwrap_or(10)).unwrap_or_default();
        let unused: Vec<_> = self.revisions.iter().filter(|revision| !is_used(revision.name())).collect();
        for revision in &unused[..unused.len().saturating_sub(limit)] {
            step.delete(revision.object.target(), Propagation::Background);
        }
    }
}

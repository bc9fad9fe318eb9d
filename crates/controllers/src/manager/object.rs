//! API objects: the fields that controllers decide by. What else an object has stays JSON where it
//! is passed on, as pod templates are.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::time::Timestamp;
use crate::Labels;

/// An API object: its metadata, and of `spec` and `status` what is of use.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", bound = "S: DeserializeOwned + Default, T: DeserializeOwned + Default")]
pub struct Object<S, T> {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) metadata: Meta,
    #[serde(default)]
    pub(crate) spec: S,
    #[serde(default)]
    pub(crate) status: T,
}

/// An object that is only looked at for its metadata.
pub type Anything = Object<Nothing, Nothing>;

/// No field of a spec or status.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Nothing {}

/// `metadata`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Meta {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    pub(crate) generation: i64,
    pub(crate) labels: Labels,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) owner_references: Vec<OwnerReference>,
    pub(crate) finalizers: Vec<String>,
    pub(crate) creation_timestamp: Option<Timestamp>,
    pub(crate) deletion_timestamp: Option<Timestamp>,
}

/// An entry of `metadata.ownerReferences`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// `apiVersion` of the owner
    pub api_version: String,
    /// `kind` of the owner
    pub kind: String,
    /// Name of the owner, which has no namespace, or is in the same one.
    pub name: String,
    /// `uid` of the owner
    pub uid: String,
    /// Whether this owner manages the object. At most one does.
    #[serde(skip_serializing_if = "is_default")]
    pub controller: bool,
    /// Whether a deletion of the owner in the foreground waits for this object.
    #[serde(skip_serializing_if = "is_default")]
    pub block_owner_deletion: bool,
}

/// An entry of `status.conditions`. Fields that only some kinds have are in `more`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) last_update_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) last_transition_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) reason: String,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) message: String,
    #[serde(flatten)]
    pub(crate) more: Map<String, Value>,
}

/// Which object is meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// `apiVersion`, such as `apps/v1`
    pub api_version: String,
    /// `kind`
    pub kind: String,
    /// Its namespace; empty for what has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its `uid`: another object of that name is not meant.
    pub uid: String,
    /// Its version when it was looked at.
    pub resource_version: String,
}

/// An object that does not have the shape of its kind.
#[derive(Debug, thiserror::Error)]
#[error("{kind} {name}: {path}: {cause}; the controllers leave it alone until it is corrected")]
pub struct Unreadable {
    kind: String,
    name: String,
    path: String,
    cause: serde_json::Error,
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl<S: DeserializeOwned + Default, T: DeserializeOwned + Default> Object<S, T> {
    /// Reads an object, with its `apiVersion` and `kind`. A field that is null counts as absent.
    pub fn read(object: &Value) -> Result<Self, Unreadable> {
        if let Ok(read) = Self::deserialize(object) {
            return Ok(read);
        }
        let plain = without_nulls(object);
        serde_path_to_error::deserialize(&plain).map_err(|error| {
            let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
            Unreadable {
                kind: text("/kind").to_owned(),
                name: if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") },
                path: error.path().to_string(),
                cause: error.into_inner(),
            }
        })
    }
}

impl<S, T> Object<S, T> {
    /// Its namespace; empty for what has none.
    pub fn namespace(&self) -> &str {
        &self.metadata.namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Its `uid`.
    pub fn uid(&self) -> &str {
        &self.metadata.uid
    }

    /// Its labels.
    pub fn labels(&self) -> &Labels {
        &self.metadata.labels
    }

    /// Its owners.
    pub fn owners(&self) -> &[OwnerReference] {
        &self.metadata.owner_references
    }

    /// The owner that manages it.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.metadata.owner_references.iter().find(|owner| owner.controller)
    }

    /// Whether it has been deleted, and is only there until its finalizers or its grace period
    /// are.
    pub fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Which object this is.
    pub fn target(&self) -> Target {
        Target {
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            namespace: self.metadata.namespace.clone(),
            name: self.metadata.name.clone(),
            uid: self.metadata.uid.clone(),
            resource_version: self.metadata.resource_version.clone(),
        }
    }

    /// The reference that an object has which this one manages.
    pub(crate) fn as_controller(&self) -> OwnerReference {
        OwnerReference {
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            name: self.metadata.name.clone(),
            uid: self.metadata.uid.clone(),
            controller: true,
            block_owner_deletion: true,
        }
    }

    /// Whether this object manages `other`.
    pub(crate) fn controls<A, B>(&self, other: &Object<A, B>) -> bool {
        other.controller().is_some_and(|owner| owner.uid == self.metadata.uid)
    }
}

/// What `value` is without its fields that are null.
pub(crate) fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(fields.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        value => value.clone(),
    }
}

/// The merge patch (RFC 7396) from one map to another: what is different, null for what is gone.
pub(crate) fn difference(old: &impl Serialize, new: &impl Serialize) -> Option<Value> {
    let (Ok(Value::Object(old)), Ok(Value::Object(new))) =
        (serde_json::to_value(old), serde_json::to_value(new))
    else {
        return None;
    };
    let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let mut patch: Map<String, Value> = gone.collect();
    patch.extend(new.into_iter().filter(|(key, value)| old.get(key) != Some(value)));
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// The conditions of a status, as `SetDeploymentCondition` and its kin keep them: one of a type,
/// the newest last.
pub(crate) fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.kind == kind)
}

/// Sets a condition. What changes neither status nor reason changes nothing; the time of the last
/// transition is that of the last other status.
pub(crate) fn set_condition(conditions: &mut Vec<Condition>, mut new: Condition) {
    if let Some(old) = condition(conditions, &new.kind) {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.last_transition_time = old.last_transition_time;
        }
    }
    conditions.retain(|condition| condition.kind != new.kind);
    conditions.push(new);
}

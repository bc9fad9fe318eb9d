//! What goes wrong on purpose.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use portolan_store::{Change, Failure, Object};
use serde_json::Value;

use crate::resource::Resource;

/// Why a server that has just started refuses everything about resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Starting {
    /// It has not read yet what it allows to whom: 403.
    Forbidden,
    /// It has not read the objects yet: 429, and try again in a second.
    Initializing,
}

impl Starting {
    /// What it answers to a request about `resource`.
    pub(crate) fn failure(self, resource: Resource) -> Failure {
        let (plural, group) = (resource.plural(), resource.group());
        match self {
            Starting::Forbidden => Failure::new(
                403,
                format!(
                    "{plural} is forbidden: User \"system:kube-proxy\" cannot list resource \"{plural}\" in API group \
                     \"{group}\" at the cluster scope"
                ),
            ),
            Starting::Initializing => {
                Failure { retry_after: Some(1), ..Failure::new(429, "storage is (re)initializing") }
            }
        }
    }
}

/// How an object is sent that does not decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Corruption {
    /// Its `spec` (of a slice: its `endpoints`) is a number.
    WrongType,
    /// It is broken off in the middle and not JSON at all. This breaks a whole list, but one line
    /// of a watch only.
    Syntax,
    /// Its metadata is null, so it has not even a name.
    NoMetadata,
}

impl Corruption {
    fn of(&self, object: &Object) -> Bytes {
        let json = object.json();
        let mut value: Value = serde_json::from_slice(json).unwrap_or_default();
        match self {
            Self::Syntax => return Bytes::copy_from_slice(&json[..json.len() / 2]),
            Self::WrongType if object.kind() == Resource::EndpointSlices.kind() => {
                value["endpoints"] = 7.into();
            }
            Self::WrongType => value["spec"] = 7.into(),
            Self::NoMetadata => value["metadata"] = Value::Null,
        }
        value.to_string().into()
    }
}

/// What goes wrong on purpose.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) refusing: bool,
    pub(crate) starting: Option<Starting>,
    pub(crate) stalled: [bool; Resource::ALL.len()],
    pub(crate) next_answers: VecDeque<(Option<Resource>, Failure)>,
    pub(crate) always: BTreeMap<Resource, Failure>,
    pub(crate) break_lists: [Option<usize>; Resource::ALL.len()],
    pub(crate) gone_as_status: bool,
    pub(crate) delay: Duration,
    /// What is sent corrupted: the object that was stored under this version.
    pub(crate) corrupted: BTreeMap<u64, Corruption>,
}

impl Faults {
    /// An object as it is sent.
    pub(crate) fn sent(&self, object: &Arc<Object>) -> Arc<Object> {
        self.sent_as(object.version(), object)
    }

    /// A change as it is sent.
    pub(crate) fn sent_change(&self, mut change: Change) -> Change {
        change.object = self.sent_as(change.stored, &change.object);
        change
    }

    fn sent_as(&self, stored: u64, object: &Arc<Object>) -> Arc<Object> {
        match self.corrupted.get(&stored) {
            Some(how) => Arc::new(object.sent_as(how.of(object))),
            None => Arc::clone(object),
        }
    }
}

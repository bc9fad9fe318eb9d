//! What happens to the observed objects.

use std::collections::HashSet;
use std::sync::Arc;

use crate::{EndpointSlice, Node, ObjectName, Service};

/// One step of the observed state: an object as it now is, or its removal.
///
/// Cheap to clone: all who take it share the object.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A Service was created or changed.
    Service(Arc<Service>),
    /// A Service is gone.
    ServiceRemoved(ObjectName),
    /// An EndpointSlice was created or changed.
    Slice(Arc<EndpointSlice>),
    /// An EndpointSlice is gone.
    SliceRemoved(ObjectName),
    /// A Node was created or changed. Its name is not namespaced.
    Node(Node),
    /// A Node is gone.
    NodeRemoved(Arc<str>),
}

/// What a change is about: of two changes with the same subject the later one says everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject<'a> {
    /// The Service of this name.
    Service(&'a ObjectName),
    /// The EndpointSlice of this name.
    Slice(&'a ObjectName),
    /// The Node of this name.
    Node(&'a str),
}

impl From<Service> for Change {
    fn from(service: Service) -> Change {
        Change::Service(Arc::new(service))
    }
}

impl From<EndpointSlice> for Change {
    fn from(slice: EndpointSlice) -> Change {
        Change::Slice(Arc::new(slice))
    }
}

impl Change {
    /// What it is about.
    pub fn subject(&self) -> Subject<'_> {
        match self {
            Change::Service(service) => Subject::Service(&service.name),
            Change::ServiceRemoved(name) => Subject::Service(name),
            Change::Slice(slice) => Subject::Slice(&slice.name),
            Change::SliceRemoved(name) => Subject::Slice(name),
            Change::Node(node) => Subject::Node(&node.name),
            Change::NodeRemoved(name) => Subject::Node(name),
        }
    }

    /// Leaves of all `changes` with the same subject the last one, in their order.
    pub fn keep_last(changes: &mut Vec<Change>) {
        let mut seen = HashSet::with_capacity(changes.len());
        let mut last: Vec<bool> = changes.iter().rev().map(|change| seen.insert(change.subject())).collect();
        changes.retain(|_| last.pop().unwrap_or(true));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_object_the_last_change_is_kept() {
        let name = |name| ObjectName::new("shop", name);
        let node = |name: &str| Change::NodeRemoved(name.into());
        let (gone, gone_slice) =
            (|text| Change::ServiceRemoved(name(text)), |text| Change::SliceRemoved(name(text)));
        let mut changes = vec![gone("a"), gone_slice("a"), gone("b"), node("a"), gone("a"), node("a")];
        Change::keep_last(&mut changes);
        assert_eq!(changes, [gone_slice("a"), gone("b"), gone("a"), node("a")]);
    }
}

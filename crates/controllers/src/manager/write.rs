//! What controllers want done.

use serde_json::{Value, json};

use super::object::Target;
use super::time::Timestamp;

/// One thing to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Create this object. If its name is taken, see [`super::name_taken`]; a random name is
    /// another one when the controller is run again.
    Create(Value),
    /// Change an object by this merge patch (RFC 7396). It never concerns the status.
    Update {
        /// The object. If it has another version by now, but for this step's own writes, the patch
        /// may be wrong.
        target: Target,
        /// Changes of all but `status`.
        patch: Value,
    },
    /// Change an object's status by this merge patch.
    UpdateStatus {
        /// The object, as in `Update`.
        target: Target,
        /// Changes of `status`, which is its only field.
        patch: Value,
    },
    /// Give a pod to a node, as the subresource `binding` does.
    Bind {
        /// The pod.
        pod: Target,
        /// Name of the node.
        node: String,
    },
    /// Delete an object.
    Delete {
        /// The object. Its version does not matter.
        target: Target,
        /// What becomes of what it owns.
        propagation: Propagation,
        /// `gracePeriodSeconds`; the object's own if `None`.
        grace: Option<u32>,
    },
    /// Record an event.
    Event(Event),
}

/// What becomes of what a deleted object owns: `propagationPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// It is deleted afterwards.
    Background,
    /// It is deleted before.
    Foreground,
    /// It stays.
    Orphan,
}

/// An event: something that people are to know of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The object.
    pub regarding: Target,
    /// Whether its type is `Warning`, and not `Normal`.
    pub warning: bool,
    /// `reason`
    pub reason: &'static str,
    /// `message`
    pub message: String,
    /// `source.component`
    pub component: &'static str,
}

/// What a controller wants after a look at its objects.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    /// What is to be done, in this order. After one that fails, the rest is left out, and the
    /// controller is run again.
    pub writes: Vec<Write>,
    /// When to look again though nothing has changed.
    pub again: Option<Timestamp>,
}

impl Step {
    pub(crate) fn update(&mut self, target: Target, patch: Value) {
        self.writes.push(Write::Update { target, patch });
    }

    /// Writes the fields of a status that are different, if any are.
    pub(crate) fn status(&mut self, target: Target, patch: Option<Value>) {
        if let Some(patch) = patch {
            self.writes.push(Write::UpdateStatus { target, patch: json!({ "status": patch }) });
        }
    }

    pub(crate) fn delete(&mut self, target: Target, propagation: Propagation) {
        self.writes.push(Write::Delete { target, propagation, grace: None });
    }

    pub(crate) fn event(
        &mut self,
        component: &'static str,
        regarding: Target,
        reason: &'static str,
        message: String,
    ) {
        self.writes.push(Write::Event(Event { regarding, warning: false, reason, message, component }));
    }

    pub(crate) fn warning(
        &mut self,
        component: &'static str,
        regarding: Target,
        reason: &'static str,
        message: String,
    ) {
        self.writes.push(Write::Event(Event { regarding, warning: true, reason, message, component }));
    }

    /// Looks again at `time`, or before.
    pub(crate) fn again_at(&mut self, time: Timestamp) {
        self.again = Some(self.again.map_or(time, |other| other.min(time)));
    }
}

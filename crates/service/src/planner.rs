//! placeholder
use std::sync::Arc;

use crate::{Change, ChangeSet, LocalNode, ObjectName, Problem, ServicePlan};

/// Keeps the plan of one node up to date: takes object changes, recomputes only the Services they touch.
#[derive(Debug)]
pub struct Planner {}

impl Planner {
    /// An empty plan for `node`.
    pub fn new(_node: LocalNode) -> Planner {
        todo!()
    }

    /// Applies `changes` in order and returns how the plan changed by all of them together. Changes to Nodes are
    /// ignored here: see [`Planner::set_node`].
    pub fn apply(&mut self, _changes: impl IntoIterator<Item = Change>) -> ChangeSet {
        todo!()
    }

    /// Plans for `node` from now on. Recomputes the Services that depend on what changed.
    pub fn set_node(&mut self, _node: LocalNode) -> ChangeSet {
        todo!()
    }

    /// The node that is planned for.
    pub fn node(&self) -> &LocalNode {
        todo!()
    }

    /// The plan of every Service that forwards, rejects or drops anything, in no particular order.
    pub fn plans(&self) -> impl ExactSizeIterator<Item = &Arc<ServicePlan>> {
        std::iter::empty()
    }

    /// The plan of one Service.
    pub fn plan(&self, _name: &ObjectName) -> Option<&Arc<ServicePlan>> {
        todo!()
    }

    /// What could not be honoured at present, sorted by Service.
    pub fn problems(&self) -> Vec<Problem> {
        todo!()
    }
}

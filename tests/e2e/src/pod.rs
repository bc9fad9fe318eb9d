//! What runs in a pod, and what came of it.

use crate::node::Node;

/// Where a script runs.
#[derive(Debug, Clone, Copy)]
pub enum Place<'n> {
    /// In a pod with an address of its own on this node.
    Pod(&'n Node),
    /// On this node's own network.
    Host(&'n Node),
}

/// What a script wrote, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; -1 if it was ended from outside.
    pub code: i64,
    /// Both its output and its errors.
    pub text: String,
}

impl Output {
    /// The lines of the output, without those that are empty.
    pub fn lines(&self) -> Vec<&str> {
        self.text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
    }
}

//! A table that is being read.

use std::collections::HashMap;

use crate::ruleset::Table;

/// A table that is being read.
pub(super) struct Open {
    pub(super) table: Table,
    pub(super) chains: HashMap<String, u32>,
    pub(super) sets: HashMap<String, NamedSet>,
}

/// A set that rules can name.
pub(super) struct NamedSet {
    pub(super) number: u32,
    /// Whether all of its elements were understood.
    pub(super) whole: bool,
}

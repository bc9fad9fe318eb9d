//! What the tests of all modes need.

pub(crate) mod namespace;
pub(crate) mod plans;

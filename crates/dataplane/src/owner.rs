//! Whose a line or a message is.

/// A Service within one call: its place among those that the call is about. What is several
/// Services' has none.
pub(crate) type Owner = u32;

//! Objects that are not taken.

/// An object that cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It is of a kind that is not served.
    #[error("{api_version} {kind} is not a kind that is served")]
    Kind {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
    /// It has no name or no metadata.
    #[error(transparent)]
    Object(#[from] portolan_store::Invalid),
}

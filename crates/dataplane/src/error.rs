//! Why kernel state could not be brought up to date.

/// Why kernel state could not be brought up to date. The previous state is still in force.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A netlink call failed.
    #[error("{doing}: {source}")]
    Netlink {
        /// What was being done, for people.
        doing: String,
        /// The cause.
        source: std::io::Error,
    },
    /// Anything else that the kernel answers and that cannot be worked with, and what to do about
    /// it.
    #[error("{0}")]
    Unusable(String),
    /// The host lacks a program or a part of the kernel; which, and what to do about it.
    #[error("{0}")]
    Missing(String),
}

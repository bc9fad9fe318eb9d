//! How much the bench of the relay does.

use serde::{Deserialize, Serialize};

/// How much is measured.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Amount {
    pub(crate) rounds: usize,
    /// Milliseconds that octets flow.
    pub(crate) flow: u64,
    pub(crate) short: usize,
    pub(crate) requests: usize,
    pub(crate) idle: usize,
}

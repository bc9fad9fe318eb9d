//! One question, asked of one server.

pub(crate) mod stream;
pub(crate) mod udp;

use std::io;

use portolan_names::wire::Malformed;

/// Why a server has not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Nothing came in time.
    #[error("no answer in time")]
    Silent,
    /// It cannot be reached, or a connection has ended.
    #[error(transparent)]
    Unreachable(#[from] io::Error),
    /// What came cannot be read.
    #[error("an answer that cannot be decoded")]
    Malformed(#[from] Malformed),
    /// It is not the server's fault: no socket could be made.
    #[error("no socket: {0}")]
    Local(io::Error),
}

impl Failure {
    /// Whether it says something about the server.
    pub(crate) fn is_the_servers(&self) -> bool {
        !matches!(self, Failure::Local(_))
    }
}

//! What can go wrong at the start.

use std::io;

/// Addresses cannot be announced.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No raw socket can be had.
    #[error(
        "a raw socket for ARP cannot be opened: {0}; run it as root, or in a pod add NET_RAW to \
         securityContext.capabilities"
    )]
    RawSocket(#[source] io::Error),
    /// Interfaces cannot be listed or followed.
    #[error("network interfaces cannot be followed: {0}")]
    Interfaces(#[source] io::Error),
    /// The thread cannot be started.
    #[error("the thread that announces addresses cannot be started: {0}")]
    Thread(#[source] io::Error),
}

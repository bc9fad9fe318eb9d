//! Why a relay cannot be, or cannot listen.

use std::io;
use std::net::SocketAddr;

use crate::listener::Protocol;

/// Why a relay cannot start, or cannot take a listener.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is a listener of this key.
    #[error("listener {key:?} is there already: remove it first, or give another key")]
    KeyTaken {
        /// The key.
        key: String,
    },
    /// There is no listener of this key.
    #[error("there is no listener {key:?}: give the key that it was added with")]
    NoListener {
        /// The key.
        key: String,
    },
    /// An address cannot be listened on.
    #[error("listener {key:?}: listening on {address}/{protocol}: {source}: {}", remedy(source))]
    Bind {
        /// Key of the listener.
        key: String,
        /// The address.
        address: SocketAddr,
        /// TCP or UDP.
        protocol: Protocol,
        /// What the kernel says.
        source: io::Error,
    },
    /// Sockets that were handed over are none that a listener can use.
    #[error(
        "listener {key:?}: the sockets that were handed over are no {protocol} sockets: hand over those of {protocol}, or none"
    )]
    Sockets {
        /// Key of the listener.
        key: String,
        /// What they should be.
        protocol: Protocol,
    },
    /// A message of a hand-over is none.
    #[error("a hand-over broke off: {reason}: start it again from the old process")]
    HandOver {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There were too few descriptors for all sockets that were handed over.
    #[error(
        "sockets of {closed} listeners were handed over and closed, as this process may not have so many descriptors: \
         raise its limit of open files (LimitNOFILE, ulimit -n)"
    )]
    Descriptors {
        /// This many listeners have to open sockets of their own.
        closed: usize,
    },
    /// The kernel denies something else.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

impl Error {
    /// The process at the other end has closed the connection, or has ended.
    pub fn is_end(&self) -> bool {
        let Error::System { source, .. } = self else { return false };
        // The latter is of one that had not accepted the connection yet.
        matches!(source.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
    }

    pub(crate) fn system<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> Error {
        move |source| Error::System { what, source: source.into() }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "see who listens there with ss -lnp, and stop it or give another port",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE, addresses that are not this host's CAP_NET_ADMIN"
        }
        io::ErrorKind::AddrNotAvailable => "give an address of this node, or add it to an interface first",
        _ => "give another address",
    }
}

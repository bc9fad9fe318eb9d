//! Why a server cannot be.

use std::io;
use std::net::SocketAddr;

/// Why a server cannot start, or take other settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A zone is no domain.
    #[error(
        "{listener}: zone {zone:?} is no domain name: give labels of 1 to 63 characters with dots \
         between them, or a single dot for all names"
    )]
    Zone {
        /// Where it would be served.
        listener: SocketAddr,
        /// The zone.
        zone: String,
    },
    /// A zone is there twice.
    #[error("{listener}: zone {zone:?} is in two blocks: leave it in one")]
    ZoneTwice {
        /// Where it would be served.
        listener: SocketAddr,
        /// The zone.
        zone: String,
    },
    /// There is no listener with this number.
    #[error("listener {number} of {count}: number them from 0")]
    Listener {
        /// The number.
        number: usize,
        /// How many there are.
        count: usize,
    },
    /// An address cannot be listened on.
    #[error("listening on {address}/{protocol}: {source}: {}", remedy(source))]
    Bind {
        /// The address.
        address: SocketAddr,
        /// `udp` or `tcp`
        protocol: &'static str,
        /// What the kernel says.
        source: io::Error,
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
    pub(crate) fn system(what: &'static str) -> impl Fn(io::Error) -> Error {
        move |source| Error::System { what, source }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "see who listens there with ss -lnp, and stop it or give another address",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE or sysctl net.ipv4.ip_unprivileged_port_start"
        }
        io::ErrorKind::AddrNotAvailable => "give an address of this node, or add it to an interface first",
        _ => "give another address",
    }
}

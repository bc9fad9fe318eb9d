//! What is probed, and how often.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Which probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Whether the container has begun; before, nothing else is asked.
    Startup,
    /// Whether it works.
    Liveness,
    /// Whether it can be given work.
    Readiness,
}

impl ProbeKind {
    /// All of them.
    pub const ALL: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness];

    /// In small letters: `readiness`.
    pub fn name(self) -> &'static str {
        match self {
            ProbeKind::Startup => "startup",
            ProbeKind::Liveness => "liveness",
            ProbeKind::Readiness => "readiness",
        }
    }
}

impl fmt::Display for ProbeKind {
    /// As kubelet's events write it: `Readiness`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProbeKind::Startup => "Startup",
            ProbeKind::Liveness => "Liveness",
            ProbeKind::Readiness => "Readiness",
        })
    }
}

/// When a probe is carried out, and how many outcomes count. The defaults are those of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// From the start of the container to its first probe.
    pub initial_delay: Duration,
    /// From one probe to the next. Not zero.
    pub period: Duration,
    /// For everything that a probe does. Not zero.
    pub timeout: Duration,
    /// So many in a row make it pass, after it failed. Not zero.
    pub successes: u32,
    /// So many in a row make it fail, after it passed. Not zero.
    pub failures: u32,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            successes: 1,
            failures: 3,
        }
    }
}

/// A probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// When.
    pub timing: Timing,
    /// What.
    pub action: Action,
}

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A request that is answered with a status from 200 to 399.
    Http(HttpGet),
    /// A connection that is accepted.
    Tcp(SocketAddr),
    /// A call of the gRPC health checking protocol that is answered with `SERVING`.
    Grpc {
        /// Where.
        to: SocketAddr,
        /// Which service is asked for; empty for the server as a whole.
        service: String,
    },
}

/// `httpGet`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGet {
    /// Where.
    pub to: SocketAddr,
    /// Over TLS. Whose certificate it is does not matter, as to kubelet.
    pub tls: bool,
    /// The path, and a query.
    pub path: String,
    /// Names and values. One of a name that each request has takes its place, or removes it if the
    /// value is empty.
    pub headers: Vec<(String, String)>,
}

/// The probes of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerProbes {
    /// The container's name.
    pub name: Arc<str>,
    /// At most one of a kind.
    pub probes: Vec<(ProbeKind, Probe)>,
}

/// The probes of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The pod's address.
    pub address: IpAddr,
    /// The containers that have probes.
    pub containers: Vec<ContainerProbes>,
}

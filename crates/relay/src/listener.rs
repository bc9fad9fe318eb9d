//! Where clients come in, and how endpoints are reached from there.

use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use crate::picker::Picker;

/// How long a UDP client may be silent by default: as connection tracking has it
/// (`nf_conntrack_udp_timeout`).
const IDLE: Duration = Duration::from_secs(30);

/// A transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Connections
    Tcp,
    /// Datagrams
    Udp,
}

impl Protocol {
    /// `TCP` or `UDP`
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.name())
    }
}

/// An address that is listened on, and what becomes of its clients.
#[derive(Clone)]
pub struct Listener {
    /// What it is called in counters and by [`Relay::remove`](crate::Relay::remove).
    pub key: String,
    /// The transport.
    pub protocol: Protocol,
    /// Where to listen. Port 0 is one that the kernel chooses. `::` is for IPv6 alone.
    pub address: SocketAddr,
    /// Who chooses the endpoint.
    pub picker: Arc<dyn Picker>,
    /// Sockets that listen already. They are used in place of new ones.
    pub sockets: Option<Arc<Sockets>>,
    /// Take connections to addresses that are not this host's (`IP_TRANSPARENT`), which rules of
    /// the kernel bring here. Needs `CAP_NET_ADMIN`.
    pub transparent: bool,
    /// How to find out where a client wanted to go.
    pub destination: Destination,
    /// How endpoints are reached.
    pub upstream: Upstream,
    /// UDP: a client that has neither sent nor got anything for so long is forgotten.
    pub idle: Duration,
}

impl Listener {
    /// A listener with usual settings.
    pub fn new(
        key: impl Into<String>,
        protocol: Protocol,
        address: SocketAddr,
        picker: Arc<dyn Picker>,
    ) -> Listener {
        Listener {
            key: key.into(),
            protocol,
            address,
            picker,
            sockets: None,
            transparent: false,
            destination: Destination::Listener,
            upstream: Upstream::default(),
            idle: IDLE,
        }
    }
}

/// Sockets of one listener: to be handed over from one process to the next.
#[derive(Debug)]
pub enum Sockets {
    /// One that all threads take connections from.
    Tcp(TcpListener),
    /// One a thread, with `SO_REUSEPORT`: the kernel gives all datagrams of a client to the same.
    Udp(Vec<UdpSocket>),
}

impl Sockets {
    /// Their transport.
    pub fn protocol(&self) -> Protocol {
        match self {
            Sockets::Tcp(_) => Protocol::Tcp,
            Sockets::Udp(_) => Protocol::Udp,
        }
    }
}

/// How to find out where a client wanted to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Destination {
    /// It is the listener's address. Costs nothing.
    #[default]
    Listener,
    /// The address that the connection or datagram came to. For connections that TPROXY diverts it
    /// is the original one.
    Local,
    /// TCP: what connection tracking remembers, if a rule has translated the destination
    /// (`SO_ORIGINAL_DST`). UDP: as `Local`.
    Original,
}

/// How endpoints are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Upstream {
    /// Mark of what is sent to endpoints (`SO_MARK`). Needs `CAP_NET_ADMIN`.
    pub mark: Option<u32>,
    /// The address that endpoints see.
    pub source: Source,
    /// Begin each connection with who the client is (PROXY protocol). TCP only.
    pub proxy_header: Option<ProxyHeader>,
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// The address that endpoints see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// The one that the kernel chooses by the route.
    #[default]
    Route,
    /// This one of the host's.
    Address(IpAddr),
    /// The client's (`IP_TRANSPARENT`), with another port. Rules of the kernel must bring the
    /// answers back here. Needs `CAP_NET_ADMIN`.
    Client,
}

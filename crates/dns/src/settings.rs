//! What the server's operator decides.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use ipnet::IpNet;
use portolan_names::Names;

use crate::others::{Known, Others};
use crate::query_log::QueryLog;

/// What a server is started with.
#[derive(Default)]
pub struct Settings {
    /// Where it listens, and what it answers there.
    pub listeners: Vec<Listener>,
    /// Threads that answer datagrams, each with a socket of its own for each listener. `None`: as
    /// many as there are processors for this process. At least one.
    pub threads: Option<usize>,
    /// Who may ask.
    pub may_ask: MayAsk,
    /// What connections may take.
    pub tcp: TcpLimits,
    /// Receive buffer of each socket for datagrams, octets; the kernel may grant less.
    pub receive_buffer: Option<usize>,
}

/// An address, and what is answered there.
pub struct Listener {
    /// Where to listen. Port 0 is one that the kernel chooses, the same for both transports.
    pub address: SocketAddr,
    /// The address may be none of this host's yet (`IP_FREEBIND`).
    pub absent: bool,
    /// Answer datagrams.
    pub udp: bool,
    /// Answer on connections.
    pub tcp: bool,
    /// Sockets that are bound to `address` already. They are used in place of new ones.
    pub sockets: Option<Sockets>,
    /// Whose zones are answered for. Of several the one with the longest zone that the name is in
    /// counts. A name in none is refused.
    pub blocks: Vec<Block>,
}

impl Listener {
    /// Both transports at `address`.
    pub fn new(address: SocketAddr, blocks: Vec<Block>) -> Listener {
        Listener { address, absent: false, udp: true, tcp: true, sockets: None, blocks }
    }
}

/// Sockets of one address that are bound: to be handed over from one process to the next, so that
/// no question is lost between them.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For datagrams; one a thread. Those of one address have SO_REUSEPORT.
    pub udp: Vec<UdpSocket>,
    /// For connections.
    pub tcp: Option<TcpListener>,
}

/// How many threads are meant.
pub(crate) fn threads_of(threads: Option<usize>) -> usize {
    let all = || std::thread::available_parallelism().ok().map(usize::from);
    threads.or_else(all).unwrap_or(1).max(1)
}

/// Zones that are handled alike: a server block of a Corefile.
#[derive(Clone, Default)]
pub struct Block {
    /// Domains, such as `.` or `consul.local`.
    pub zones: Vec<String>,
    /// What is known before the cluster's names.
    pub known: Option<Arc<dyn Known>>,
    /// The cluster's names, if they are answered here.
    pub names: Option<Arc<RwLock<Names>>>,
    /// Who answers everything else. Without anybody it is refused.
    pub others: Option<Arc<dyn Others>>,
    /// Log of questions.
    pub log: Option<QueryLog>,
}

/// Whose questions are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MayAsk {
    /// Those from an address in one of these networks.
    pub networks: Vec<IpNet>,
    /// What others get.
    pub otherwise: Refusal,
}

/// What somebody gets who may not ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Refusal {
    /// REFUSED
    #[default]
    Refused,
    /// Nothing; connections are closed.
    Silence,
}

impl Default for MayAsk {
    /// Addresses that are not routed on the Internet: loopback, private (RFC 1918, RFC 4193),
    /// shared (RFC 6598) and link-local ones (RFC 3927, RFC 4291).
    fn default() -> MayAsk {
        let networks = [
            ([127, 0, 0, 0], 8),
            ([10, 0, 0, 0], 8),
            ([172, 16, 0, 0], 12),
            ([192, 168, 0, 0], 16),
            ([100, 64, 0, 0], 10),
            ([169, 254, 0, 0], 16),
        ];
        let v4 = networks.map(|(address, length)| IpNet::new_assert(address.into(), length));
        let v6 = [([0, 0, 0, 0, 0, 0, 0, 1], 128), ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7)];
        let v6 = v6.map(|(address, length)| IpNet::new_assert(address.into(), length));
        let link_local = IpNet::new_assert([0xfe80, 0, 0, 0, 0, 0, 0, 0].into(), 10);
        let networks = v4.into_iter().chain(v6).chain([link_local]).collect();
        MayAsk { networks, otherwise: Refusal::Refused }
    }
}

impl MayAsk {
    /// Everybody, which is safe only where nobody from outside can send anything.
    pub fn everybody() -> MayAsk {
        let all = [IpNet::new_assert([0; 4].into(), 0), IpNet::new_assert([0; 16].into(), 0)];
        MayAsk { networks: all.to_vec(), otherwise: Refusal::Refused }
    }
}

/// What connections may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpLimits {
    /// Connections at once. One more takes the place of one that has asked nothing yet; if all
    /// have, it is closed.
    pub connections: usize,
    /// Connections of one client address at once.
    pub connections_per_client: usize,
    /// Questions of one connection that are answered at once. More are read later.
    pub questions: usize,
    /// Octets of answers that clients have not taken, of all connections. One that would add to
    /// them is closed.
    pub buffered: usize,
    /// How long a connection may be without another whole question (spec §6).
    pub idle: Duration,
    /// How long it may be until the first question is whole.
    pub first: Duration,
    /// How long a client may take nothing of its answers.
    pub write: Duration,
}

impl Default for TcpLimits {
    fn default() -> TcpLimits {
        TcpLimits {
            connections: 4096,
            connections_per_client: 256,
            questions: 64,
            buffered: 64 << 20,
            idle: Duration::from_secs(10),
            first: Duration::from_secs(3),
            write: Duration::from_secs(10),
        }
    }
}

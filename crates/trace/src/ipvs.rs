//! Virtual servers of IPVS: what they serve, where they lead, and how each chooses.

mod choice;
mod listing;
mod table;
mod text;

use std::net::SocketAddr;

use portolan_service::{Family, Protocol};

/// All virtual servers of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualServers {
    /// In no particular order.
    pub servers: Vec<VirtualServer>,
    /// Whether connection tracking sees what they forward (`net.ipv4.vs.conntrack`). Service
    /// proxies switch it on.
    pub tracked: bool,
    /// Whether the destinations of each are in the kernel's order. ipvsadm sorts them.
    pub in_kernel_order: bool,
}

impl Default for VirtualServers {
    fn default() -> VirtualServers {
        VirtualServers { servers: Vec::new(), tracked: true, in_kernel_order: false }
    }
}

/// A virtual server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualServer {
    /// Which packets it takes.
    pub serves: Serves,
    /// The scheduler, by its name: `rr`.
    pub scheduler: String,
    /// Flags of the scheduler, as `IP_VS_SVC_F_SCHED*` of linux/ip_vs.h.
    pub flags: u32,
    /// For how many seconds a client stays with its destination.
    pub persistence: Option<u32>,
    /// Clients whose addresses differ only in other bits count as one, if this is said: a mask, or
    /// a length.
    pub mask: Option<String>,
    /// Where it leads.
    pub destinations: Vec<Destination>,
}

/// `IP_VS_SVC_F_SCHED_SH_FALLBACK`, the same for `mh`: who would go to a destination of weight 0
/// goes to another.
pub const FALLBACK: u32 = 0x8;
/// `IP_VS_SVC_F_SCHED_SH_PORT`, the same for `mh`: the client's port is hashed, too.
pub const HASH_PORT: u32 = 0x10;

/// Which packets a virtual server takes. The kernel looks for their mark first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Serves {
    /// Those to an address and port; port 0: to any that no other virtual server has.
    Address(Protocol, SocketAddr),
    /// Those of a family with this mark.
    Mark(Family, u32),
}

impl Serves {
    /// The family of its packets.
    pub fn family(&self) -> Family {
        match self {
            Serves::Address(_, address) => Family::of(address.ip()),
            Serves::Mark(family, _) => *family,
        }
    }
}

/// How packets get to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Their destination is translated: `Masq`.
    Translated,
    /// They are sent there as they are: `Route`, `Tunnel`.
    AsTheyAre,
}

/// A destination of a virtual server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// Its address and port.
    pub address: SocketAddr,
    /// How packets get there.
    pub method: Method,
    /// Its share of new connections; 0: it gets none.
    pub weight: u32,
    /// With so many connections it gets no new ones; 0: with any number.
    pub limit: u32,
    /// Its connections, if they are known.
    pub connections: Option<Connections>,
}

/// Connections of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Those that are established.
    pub active: u32,
    /// Others, those that have ended of late among them.
    pub inactive: u32,
}

//! What a mode wants to be listened on.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portolan_relay::{Destination, Error, Protocol, Upstream};
use portolan_service::{Backend, List, ObjectName, PortPlan, Protocol as Transport, ServicePlan};

/// As connection tracking has it (`nf_conntrack_udp_timeout`).
const IDLE: Duration = Duration::from_secs(30);

/// Says in a key that the socket is for the list of policy Local.
const LOCAL: &str = "/local";

/// Which socket it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketName {
    /// The Service.
    pub service: ObjectName,
    /// The name of its port; may be empty.
    pub port: Arc<str>,
    /// The transport.
    pub protocol: Protocol,
    /// Where to listen. Port 0 is one that the kernel chooses.
    pub address: SocketAddr,
    /// Which endpoints its clients get, for a mode that has a socket for each list.
    pub list: List,
}

/// A socket that is wanted, and where its clients go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Which one it is. A wish of the same name takes the place of an earlier one.
    pub socket: SocketName,
    /// New clients get these in turn. If there are none, clients are refused at once.
    pub endpoints: Arc<[Backend]>,
    /// UDP clients that have one of these already keep it: [`PortPlan::serving`].
    pub keeping: Arc<[Backend]>,
    /// So long after it last came does an address of clients get the same endpoint again.
    pub affinity: Option<Duration>,
    /// How clients come and endpoints are reached. If it changes, the socket is made anew, unless
    /// only `upstream` does: that holds for new clients.
    pub way: Way,
}

/// How clients come and endpoints are reached: see [`portolan_relay::Listener`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Take connections to addresses that are not the node's, which rules bring here.
    pub transparent: bool,
    /// How to find out where a client wanted to go.
    pub destination: Destination,
    /// How endpoints are reached.
    pub upstream: Upstream,
    /// UDP: a client that has neither sent nor got anything for so long is forgotten.
    pub idle: Duration,
}

impl Default for Way {
    fn default() -> Way {
        Way {
            transparent: false,
            destination: Destination::default(),
            upstream: Upstream::default(),
            idle: IDLE,
        }
    }
}

impl Way {
    /// A socket of this way serves `next` as well.
    pub(super) fn is_kept_by(&self, next: &Way) -> bool {
        *self == Way { upstream: self.upstream, ..*next }
    }
}

impl SocketName {
    /// The socket of `port` at `address`. `None` for a protocol that is not relayed.
    pub fn new(plan: &ServicePlan, port: &PortPlan, address: SocketAddr) -> Option<SocketName> {
        let protocol = match port.protocol {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
            Transport::Sctp => return None,
        };
        Some(SocketName {
            service: plan.name.clone(),
            port: port.name.clone(),
            protocol,
            address,
            list: List::Cluster,
        })
    }

    /// The name of the Service port as people write it: `namespace/name:port`, or `namespace/name`.
    pub fn service_port(&self) -> String {
        if self.port.is_empty() {
            self.service.to_string()
        } else {
            format!("{}:{}", self.service, self.port)
        }
    }

    /// What it is called in the relay. [`SocketName::of_key`] and [`service_port_of`] read it.
    pub(super) fn key(&self) -> String {
        let list = match self.list {
            List::Cluster => "",
            List::Local => LOCAL,
        };
        format!("{} {}{list} {}", self.service_port(), self.protocol, self.address)
    }

    /// Whose key it is.
    pub(super) fn of_key(key: &str) -> Option<SocketName> {
        let mut parts = key.split(' ');
        let (service_port, transport, address) = (parts.next()?, parts.next()?, parts.next()?);
        let (service, port) = service_port.split_once(':').unwrap_or((service_port, ""));
        let (namespace, name) = service.split_once('/')?;
        let (protocol, list) = match transport.strip_suffix(LOCAL) {
            Some(protocol) => (protocol, List::Local),
            None => (transport, List::Cluster),
        };
        Some(SocketName {
            service: ObjectName::new(namespace, name),
            port: port.into(),
            protocol: [Protocol::Tcp, Protocol::Udp].into_iter().find(|known| known.name() == protocol)?,
            address: address.parse().ok()?,
            list,
        })
    }
}

/// The name of the Service port in a key.
pub(super) fn service_port_of(key: &str) -> &str {
    key.rsplitn(3, ' ').nth(2).unwrap_or(key)
}

impl fmt::Display for SocketName {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}/{} of Service port {}", self.address, self.protocol, self.service_port())
    }
}

impl Wish {
    /// The endpoints that clients had by this wish and may not have by `next`.
    pub(super) fn leaving(&self, next: &Wish) -> Vec<SocketAddr> {
        let of = |wish: &Wish| -> Vec<(std::net::IpAddr, u16)> {
            let all = wish.endpoints.iter().chain(&*wish.keeping);
            let mut all: Vec<_> = all.map(|backend| (backend.address, backend.port)).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        if self.endpoints == next.endpoints && self.keeping == next.keeping {
            return Vec::new();
        }
        let stay = of(next);
        of(self).into_iter().filter(|one| stay.binary_search(one).is_err()).map(SocketAddr::from).collect()
    }
}

/// Why a socket cannot be opened, for people. It is tried again.
pub(super) fn reason(error: &Error) -> String {
    match error {
        Error::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
            "another program has the port and keeps it (ss -lnp shows which): end that program, or give the Service \
             another port; trying again"
                .to_owned()
        }
        Error::Bind { source, .. } if source.kind() == io::ErrorKind::AddrNotAvailable => {
            "the node does not have the address; trying again".to_owned()
        }
        Error::Bind { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            format!("{source}: ports below 1024 need CAP_NET_BIND_SERVICE; trying again")
        }
        other => format!("{other}; trying again"),
    }
}

//! What happened that somebody may want to know.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use portolan_netlink::rtnetlink::HardwareAddress;

/// Something that an operator may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// This node announces an address from now on.
    Taken {
        /// The address
        address: IpAddr,
        /// Where it is announced
        interface: String,
    },
    /// It does no more.
    GivenUp {
        /// The address
        address: IpAddr,
        /// Where it was announced
        interface: String,
        /// Who does, if anybody
        to: Option<Arc<str>>,
    },
    /// Another node is heard.
    Heard {
        /// Its name
        node: Arc<str>,
        /// Where it is heard
        interface: String,
    },
    /// Another node is no longer heard.
    Lost {
        /// Its name
        node: Arc<str>,
        /// Where it was heard
        interface: String,
    },
    /// Somebody else says that it has an address which this node announces.
    Duplicate {
        /// The address
        address: IpAddr,
        /// Where it was seen
        interface: String,
        /// The hardware address of who says so
        hardware: HardwareAddress,
    },
    /// Nothing can be announced on an interface for now.
    Closed {
        /// The interface
        interface: String,
        /// Why
        reason: String,
    },
    /// Another node has the name of this one.
    SameName {
        /// The hardware address of the other one
        hardware: HardwareAddress,
        /// Where it is heard
        interface: String,
    },
}

impl Event {
    /// It is something to be put right.
    pub fn is_warning(&self) -> bool {
        matches!(self, Event::Duplicate { .. } | Event::SameName { .. } | Event::Closed { .. })
    }
}

/// As `02:00:00:00:00:09`.
pub(crate) struct Hardware(pub(crate) HardwareAddress);

impl fmt::Display for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let octets = self.0.map(|octet| format!("{octet:02x}"));
        f.write_str(&octets.join(":"))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Taken { address, interface } => write!(f, "{address} is announced on {interface}"),
            Event::GivenUp { address, interface, to: Some(node) } => {
                write!(f, "{address} is announced on {interface} by node {node} from now on")
            }
            Event::GivenUp { address, interface, to: None } => {
                write!(f, "{address} is no longer announced on {interface}")
            }
            Event::Heard { node, interface } => write!(f, "node {node} is heard on {interface}"),
            Event::Lost { node, interface } => write!(f, "node {node} is no longer heard on {interface}"),
            Event::Duplicate { address, interface, hardware } => write!(
                f,
                "{address} is also announced by {} on {interface}: find out which machine that is, and take the address \
                 from it or out of the pool; a node of this cluster has another key, or the address for its own",
                Hardware(*hardware)
            ),
            Event::Closed { interface, reason } => {
                write!(f, "nothing is announced on {interface}: {reason}; trying again")
            }
            Event::SameName { hardware, interface } => write!(
                f,
                "another node with the name of this one is heard from {} on {interface}: give one of them another name",
                Hardware(*hardware)
            ),
        }
    }
}

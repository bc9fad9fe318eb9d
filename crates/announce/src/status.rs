//! What a node that announces addresses shows of itself.

use std::net::IpAddr;
use std::sync::Arc;

use portolan_netlink::rtnetlink::HardwareAddress;

use crate::event::Hardware;

/// Who has an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressStatus {
    /// The address
    pub address: IpAddr,
    /// The nodes that may have it; `None`: all.
    pub willing: Option<Vec<Arc<str>>>,
    /// Who has it on each interface that it fits. Empty if there are none.
    pub holders: Vec<Holder>,
    /// The hardware addresses of others that announce it, too.
    pub(crate) duplicates: Vec<HardwareAddress>,
}

impl AddressStatus {
    /// The hardware addresses of others, as `02:00:00:00:00:09`.
    pub fn duplicates(&self) -> impl Iterator<Item = String> {
        self.duplicates.iter().map(|hardware| Hardware(*hardware).to_string())
    }
}

/// Who has an address on the link of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The interface of this node
    pub interface: String,
    /// The node, if there is one that can have it
    pub node: Option<Arc<str>>,
    /// How many nodes could have it, the one included
    pub could: usize,
    /// This node still waits for others to be heard.
    pub listens: bool,
}

/// How often things have happened since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Requests and solicitations that were answered
    pub answers: u64,
    /// Frames that announce an address unasked
    pub announcements: u64,
    /// Heartbeats of other nodes
    pub heartbeats: u64,
    /// Heartbeats of another key
    pub foreign: u64,
    /// Messages of others that say they have an address of this node
    pub contradictions: u64,
    /// Addresses that this node announces now, once for each interface
    pub held: u64,
    /// Other nodes that are heard now, once for each interface
    pub heard: u64,
    /// Frames that the kernel did not take
    pub unsent: u64,
}

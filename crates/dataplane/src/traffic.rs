//! What the kernel has counted for Services, read when somebody asks.

use std::net::SocketAddr;

use portolan_netfilter::ipvs::Counters;
use portolan_service::{Family, Protocol, ServicePlan};

use crate::error::Error;

/// Reads it, with nothing kept but what the kernel is asked through.
pub trait Traffic {
    /// What was counted for each port of `plan`, in their order. Costs what the plan costs.
    fn of_plan(&mut self, plan: &ServicePlan) -> Result<Vec<PortTraffic>, Error>;

    /// Calls `each` with what was counted for Service ports: once or more for each, to be added up.
    fn of_ports(&mut self, each: &mut dyn FnMut(&NamedPort, Counters)) -> Result<(), Error>;
}

/// What was counted for a port of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortTraffic {
    /// At all of its virtual servers, each since it was created
    pub counters: Counters,
    /// Where they lead, those on their way out too, in the order of their addresses
    pub destinations: Vec<DestinationTraffic>,
}

/// What was counted for an endpoint, at all virtual servers of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DestinationTraffic {
    /// Where it serves
    pub address: SocketAddr,
    /// Its share of new connections; 0 for none
    pub weight: u32,
    /// Connections that are established
    pub active: u64,
    /// Other connections, those that have ended of late among them
    pub inactive: u64,
    /// What was counted, since it is a destination
    pub counters: Counters,
}

/// A Service port in one family, as it is named in the rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamedPort {
    /// `namespace/name:port`, or `namespace/name`
    pub name: String,
    /// Its protocol
    pub protocol: Protocol,
    /// The family of its addresses
    pub family: Family,
}

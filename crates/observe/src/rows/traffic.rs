//! What the kernel has counted for Services, as `portolan get` shows it: in mode ipvs.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Connections, and what was sent over them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CountsRow {
    /// Connections, or flows of UDP
    pub connections: u64,
    /// Packets of clients
    pub packets_in: u64,
    /// Packets to clients
    pub packets_out: u64,
    /// Bytes of clients, with the headers of IP
    pub bytes_in: u64,
    /// Bytes to clients, likewise
    pub bytes_out: u64,
}

/// What was counted for a Service port or one of its endpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficRow {
    /// Connections that are established
    pub active: u64,
    /// Other connections, those that have ended of late among them
    pub inactive: u64,
    /// Since it is there
    pub total: CountsRow,
    /// Over the last few seconds
    pub per_second: CountsRow,
}

/// Where the kernel leads connections, those that are on their way out among it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DestinationRow {
    /// The endpoint's address.
    pub address: IpAddr,
    /// The endpoint's port.
    pub target_port: u16,
    /// Its share of new connections; 0 for none.
    pub weight: u32,
    /// What was counted for it.
    #[serde(flatten)]
    pub traffic: TrafficRow,
}

impl DestinationRow {
    /// Address and port, as clients write them.
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.target_port)
    }
}

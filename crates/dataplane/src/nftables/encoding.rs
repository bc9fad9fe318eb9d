//! Addresses, ports and frontends as set elements hold them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portolan_service::{Family, Protocol};

/// What clients connect to: the key of most sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FrontendKey {
    pub(crate) address: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

impl std::fmt::Display for FrontendKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.address, self.protocol, self.port)
    }
}

pub(crate) fn put_frontend(to: &mut Vec<u8>, frontend: &FrontendKey) {
    put_address(to, frontend.address);
    to.extend_from_slice(&[frontend.protocol.number(), 0, 0, 0]);
    put_port(to, frontend.port);
}

/// Appends an address in network order.
pub(crate) fn put_address(to: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => to.extend_from_slice(&v4.octets()),
        IpAddr::V6(v6) => to.extend_from_slice(&v6.octets()),
    }
}

/// Appends a port in network order, padded.
pub(crate) fn put_port(to: &mut Vec<u8>, port: u16) {
    to.extend_from_slice(&port.to_be_bytes());
    to.extend_from_slice(&[0, 0]);
}

/// Reads an address of `family` off the front of `bytes`.
pub(crate) fn take_address(bytes: &mut &[u8], family: Family) -> Option<IpAddr> {
    match family {
        Family::V4 => take::<4>(bytes).map(|octets| Ipv4Addr::from(octets).into()),
        Family::V6 => take::<16>(bytes).map(|octets| Ipv6Addr::from(octets).into()),
    }
}

/// Reads a padded port off the front of `bytes`.
pub(crate) fn take_port(bytes: &mut &[u8]) -> Option<u16> {
    take::<4>(bytes).map(|[high, low, ..]| u16::from_be_bytes([high, low]))
}

/// Reads a frontend off the front of `bytes`; `None` for what cannot be one.
pub(crate) fn take_frontend(bytes: &mut &[u8], family: Family) -> Option<FrontendKey> {
    let address = take_address(bytes, family)?;
    let [number, ..] = take::<4>(bytes)?;
    let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.number() == number)?;
    Some(FrontendKey { address, protocol, port: take_port(bytes)? })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

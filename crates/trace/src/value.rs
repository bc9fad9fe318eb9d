//! Addresses and names of interfaces as the numbers that rules compare.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use portolan_service::Family;

/// An address as the number that rules compare.
pub(crate) fn address_value(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address of `family` that is `value`; bits beyond the family's are cut off.
#[expect(clippy::cast_possible_truncation, reason = "values of IPv4 fields have 32 bits")]
pub(crate) fn value_address(value: u128, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(value as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(value).into(),
    }
}

/// The name of an interface as the number that rules compare: its first 16 bytes, the first in the
/// highest place.
pub(crate) fn interface_value(name: &str) -> u128 {
    let mut bytes = [0; 16];
    for (place, byte) in bytes.iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    u128::from_be_bytes(bytes)
}

/// First and last address of `address[/length]`.
pub(crate) fn network_range(text: &str, family: Family) -> Result<(u128, u128), String> {
    let network = match text.parse::<IpNet>() {
        Ok(network) => network,
        Err(_) => {
            IpNet::from(text.parse::<IpAddr>().map_err(|_| format!("{text} is not an address or network"))?)
        }
    };
    if Family::of(network.addr()) != family {
        return Err(format!("{text} is not an {family} network"));
    }
    Ok((address_value(network.network()), address_value(network.broadcast())))
}

/// The first `bytes` of an interface name.
pub(crate) fn prefix_mask(bytes: usize) -> u128 {
    match bytes {
        0 => 0,
        1..16 => u128::MAX << (8 * (16 - bytes)),
        _ => u128::MAX,
    }
}

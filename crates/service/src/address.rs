//! Addresses and networks as the API accepts them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// An IP address. Leading zeros in the octets of an IPv4 address are accepted and mean nothing
/// (spec §1.12). An IPv4 address within IPv6 (`::ffff:10.0.0.1`) is that IPv4 address.
pub fn parse_address(text: &str) -> Option<IpAddr> {
    if let Ok(v6) = text.parse::<Ipv6Addr>() {
        return Some(v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4));
    }
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let value = part.trim_start_matches('0');
        *octet = if digits && value.is_empty() { 0 } else { digits.then(|| value.parse().ok()).flatten()? };
    }
    parts.next().is_none().then(|| IpAddr::V4(Ipv4Addr::from(octets)))
}

/// A network in CIDR notation, with the same leniency.
pub fn parse_network(text: &str) -> Option<IpNet> {
    let (address, length) = text.trim().split_once('/')?;
    IpNet::new(parse_address(address)?, length.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_leniently() {
        let table = [
            ("plain", "10.0.0.1", Some("10.0.0.1")),
            ("leading zeros, §1.12", "172.30.0.041", Some("172.30.0.41")),
            ("all zeros", "000.0.00.0", Some("0.0.0.0")),
            ("too large", "10.0.0.256", None),
            ("too few", "10.0.0", None),
            ("too many", "10.0.0.1.2", None),
            ("empty octet", "10..0.1", None),
            ("sign", "10.0.0.+1", None),
            ("IPv6", "fd00::1", Some("fd00::1")),
            ("IPv4 in IPv6", "::ffff:10.0.0.1", Some("10.0.0.1")),
            ("zone", "fe80::1%eth0", None),
            ("space", " 10.0.0.1", None),
        ];
        for (name, text, expected) in table {
            assert_eq!(parse_address(text), expected.map(|text| text.parse().unwrap()), "{name}");
        }
    }

    #[test]
    fn networks_are_trimmed() {
        assert_eq!(parse_network(" 10.0.00.0/8 "), Some("10.0.0.0/8".parse().unwrap()));
        assert_eq!(parse_network("10.0.0.0"), None);
        assert_eq!(parse_network("10.0.0.0/33"), None);
    }
}

//! Who may ask: networks as sorted ranges of addresses.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::settings::{MayAsk, Refusal};

/// [`MayAsk`], ready for use.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    /// First and last address of each range, IPv4 as mapped into IPv6; sorted, apart.
    ranges: Box<[(u128, u128)]>,
    pub(crate) otherwise: Refusal,
}

impl Access {
    pub(crate) fn new(may_ask: &MayAsk) -> Access {
        let mut ranges: Vec<(u128, u128)> = may_ask.networks.iter().map(range).collect();
        ranges.sort_unstable();
        let mut apart: Vec<(u128, u128)> = Vec::new();
        for (first, last) in ranges {
            match apart.last_mut() {
                Some(before) if first <= before.1 => before.1 = before.1.max(last),
                _ => apart.push((first, last)),
            }
        }
        Access { ranges: apart.into(), otherwise: may_ask.otherwise }
    }

    /// Whether a client with this address may ask.
    pub(crate) fn allows(&self, client: IpAddr) -> bool {
        let bits = bits(client);
        let after = self.ranges.partition_point(|(first, _)| *first <= bits);
        after > 0 && bits <= self.ranges[after - 1].1
    }
}

fn range(network: &IpNet) -> (u128, u128) {
    (bits(network.network()), bits(network.broadcast()))
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_ask_by_default() {
        let access = Access::new(&MayAsk::default());
        for (client, expected) in [
            ("127.0.0.1", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("172.31.0.1", true),
            ("172.32.0.1", false),
            ("192.168.1.1", true),
            ("100.64.0.1", true),
            ("100.128.0.1", false),
            ("169.254.20.10", true),
            ("8.8.8.8", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("::1", true),
            ("::2", false),
            ("fd00::1", true),
            ("fe80::1", true),
            ("2001:db8::1", false),
            ("::ffff:10.0.0.1", true),
            ("::ffff:8.8.8.8", false),
        ] {
            assert_eq!(access.allows(client.parse().unwrap()), expected, "{client}");
        }
    }

    #[test]
    fn networks_within_others() {
        let networks = ["10.0.0.0/8", "10.1.0.0/16", "10.0.0.0/8", "11.0.0.0/8"];
        let networks = networks.map(|text| text.parse().unwrap()).to_vec();
        let access = Access::new(&MayAsk { networks, otherwise: Refusal::Silence });
        for (client, expected) in [("10.200.0.1", true), ("11.0.0.1", true), ("12.0.0.0", false)] {
            assert_eq!(access.allows(client.parse().unwrap()), expected, "{client}");
        }
        let nobody = Access::new(&MayAsk { networks: Vec::new(), otherwise: Refusal::Silence });
        assert!(!nobody.allows("127.0.0.1".parse().unwrap()));
        let all = Access::new(&MayAsk::everybody());
        assert!(all.allows("8.8.8.8".parse().unwrap()) && all.allows("2001:db8::1".parse().unwrap()));
    }
}

//! Which of several nodes has an address: the one that ranks first for it (rendezvous hashing).
//!
//! Every node computes the same without asking another. Addresses spread evenly, and when a node
//! leaves or comes, only its own addresses move.

use std::net::IpAddr;

/// The rank of a node for an address; the highest one has it. The same in all versions: two nodes
/// of different versions must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank(u64);

impl Rank {
    /// FNV-1a over the address, then the name, and the last step of SplitMix64, which spreads what
    /// differs in the last letter alone.
    pub(crate) fn of(address: IpAddr, node: &str) -> Rank {
        let octets = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in octets.iter().chain(node.as_bytes()) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Rank(hash ^ (hash >> 31))
    }
}

/// The one of `nodes` that ranks first for `address`, and its rank.
pub(crate) fn first<N: AsRef<str> + Ord>(
    address: IpAddr,
    nodes: impl IntoIterator<Item = N>,
) -> Option<(Rank, N)> {
    nodes.into_iter().map(|node| (Rank::of(address, node.as_ref()), node)).max()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn addresses() -> impl Iterator<Item = IpAddr> {
        (0..1000_u16).map(|i| IpAddr::from([192, 168, (i >> 8) as u8, (i & 0xff) as u8]))
    }

    #[test]
    fn addresses_spread_evenly() {
        let nodes: Vec<String> = (1..=5).map(|i| format!("node-{i}")).collect();
        let mut counts = BTreeMap::<&str, u32>::new();
        for address in addresses() {
            let (_, node) = first(address, nodes.iter().map(String::as_str)).unwrap();
            *counts.entry(node).or_default() += 1;
        }
        // 200 each; five standard deviations are 63.
        assert!(counts.len() == 5 && counts.values().all(|count| (137..=263).contains(count)), "{counts:?}");
    }

    #[test]
    fn only_the_addresses_of_who_leaves_move() {
        let all = ["a", "b", "c", "d"];
        for address in addresses() {
            let (_, before) = first(address, all).unwrap();
            let (_, after) = first(address, all.into_iter().filter(|node| *node != "c")).unwrap();
            assert!(before == after || before == "c", "{address}: {before} -> {after}");
        }
    }

    #[test]
    fn the_same_in_all_versions() {
        let nodes = ["node-1", "node-2", "node-3"];
        let chosen = |address: &str| first(address.parse().unwrap(), nodes).unwrap().1;
        let found = ["192.0.2.240", "192.0.2.241", "192.0.2.242", "2001:db8::1", "2001:db8::2"].map(chosen);
        assert_eq!(found, ["node-3", "node-2", "node-3", "node-2", "node-3"]);
    }
}

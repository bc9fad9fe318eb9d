//! What is allocated from: consecutive addresses or ports, in an order that follows from a name.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;
use portolan_service::Protocol;

use super::needs::Claim;

/// Consecutive addresses or ports.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pool {
    kind: PoolKind,
    first: u128,
    count: u128,
}

#[derive(Debug, Clone, Copy)]
enum PoolKind {
    V4,
    V6,
    Port(Protocol),
}

/// At most this many candidates are tried in a pool: more than any cluster has Services.
const MAX_TRIES: u128 = 1 << 20;

impl Pool {
    pub(super) fn of_ports(protocol: Protocol, range: &RangeInclusive<u16>) -> Pool {
        let count = (u128::from(*range.end()) + 1).saturating_sub(u128::from(*range.start()));
        Pool { kind: PoolKind::Port(protocol), first: u128::from(*range.start()), count }
    }

    /// The addresses of `network` without the network's own and, for IPv4, its last. People choose
    /// addresses by hand from the first part of a range (KEP-3070), so that part comes last.
    pub(super) fn of_network(network: IpNet) -> [Pool; 2] {
        let (kind, base, bits, last) = match network {
            IpNet::V4(v4) => (PoolKind::V4, u128::from(u32::from(v4.network())), 32 - v4.prefix_len(), 1),
            IpNet::V6(v6) => (PoolKind::V6, u128::from(v6.network()), 128 - v6.prefix_len(), 0),
        };
        let size = 1_u128.checked_shl(u32::from(bits)).unwrap_or(u128::MAX);
        let usable = size.saturating_sub(1 + last);
        let by_hand = (size / 16).clamp(16, 256).min(usable / 2);
        [
            Pool { kind, first: base + 1 + by_hand, count: usable - by_hand },
            Pool { kind, first: base + 1, count: by_hand },
        ]
    }

    /// All of it, beginning at a place that follows from `seed`.
    pub(super) fn from(self, seed: u64) -> impl Iterator<Item = Claim> {
        let start = u128::from(seed).checked_rem(self.count).unwrap_or_default();
        (0..self.count.min(MAX_TRIES)).map(move |i| {
            let value = self.first + (start + i) % self.count;
            // Each value is within the pool, whose kind bounds it.
            #[expect(clippy::cast_possible_truncation)]
            match self.kind {
                PoolKind::V4 => Claim::Address(Ipv4Addr::from(value as u32).into()),
                PoolKind::V6 => Claim::Address(Ipv6Addr::from(value).into()),
                PoolKind::Port(protocol) => Claim::Port(protocol, value as u16),
            }
        })
    }
}

/// FNV-1a, finished as in MurmurHash3 so that similar names lie far apart. It is the same in every
/// process and version.
pub(super) fn hash(text: &str) -> u64 {
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    for multiplier in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(multiplier);
    }
    hash ^ (hash >> 33)
}

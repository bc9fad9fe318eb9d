//! What rules ask of a packet.

use std::fmt;

use portolan_service::Family;

use crate::probability::Probability;

/// Something about a packet that has a value. Addresses and numbers are in host byte order. Names
/// of interfaces are their bytes, left-aligned in 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// Source address, if the packet is of this family.
    Source(Family),
    /// Destination address, if the packet is of this family.
    Destination(Family),
    /// Transport protocol, as in the IP header.
    Protocol,
    /// Source port.
    SourcePort,
    /// Destination port.
    DestinationPort,
    /// Address family, as NFPROTO_* of linux/netfilter.h.
    NetworkProtocol,
    /// The interface it came in through; empty for packets of the node itself.
    InInterface,
    /// The interface it leaves through.
    OutInterface,
    /// The packet's mark.
    Mark,
    /// The connection's mark.
    ConnectionMark,
    /// Connection tracking state: a bit of [`state`].
    State,
    /// Connection tracking status, as IPS_* of nf_conntrack_common.h.
    Status,
    /// Direction within the connection: 0 is that of its first packet.
    Direction,
    /// Source address of the connection's first packet, before any translation.
    OriginalSource(Family),
    /// Destination address of the connection's first packet.
    OriginalDestination(Family),
    /// Source port of the connection's first packet.
    OriginalSourcePort,
    /// Destination port of the connection's first packet.
    OriginalDestinationPort,
    /// Where replies come from: the translated destination.
    ReplySource(Family),
    /// The port replies come from.
    ReplySourcePort,
    /// Type of the source address, as RTN_* of linux/rtnetlink.h.
    SourceType,
    /// Type of the destination address.
    DestinationType,
    /// Flags of the TCP header.
    TcpFlags,
    /// A number drawn afresh, from `offset` on.
    Random {
        /// From how many.
        modulus: u32,
        /// The lowest.
        offset: u32,
    },
}

/// Bits of [`Field::State`]: those of nftables, and two that only iptables counts among the states.
pub mod state {
    /// Cannot be understood.
    pub const INVALID: u128 = 1;
    /// A later packet of a connection.
    pub const ESTABLISHED: u128 = 1 << 1;
    /// Belongs to another connection.
    pub const RELATED: u128 = 1 << 2;
    /// The first packet of a connection.
    pub const NEW: u128 = 1 << 3;
    /// Not tracked.
    pub const UNTRACKED: u128 = 1 << 6;
    /// What nftables counts among the states.
    pub const NFT: u128 = 0x7f;
    /// Its source has been translated.
    pub const SNAT: u128 = 1 << 16;
    /// Its destination has been translated.
    pub const DNAT: u128 = 1 << 17;
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Source(_) => "source",
            Field::Destination(_) => "destination",
            Field::Protocol => "protocol",
            Field::SourcePort => "source port",
            Field::DestinationPort => "destination port",
            Field::NetworkProtocol => "address family",
            Field::InInterface => "in-interface",
            Field::OutInterface => "out-interface",
            Field::Mark => "mark",
            Field::ConnectionMark => "connection mark",
            Field::State => "connection state",
            Field::Status => "connection status",
            Field::Direction => "direction",
            Field::OriginalSource(_) => "original source",
            Field::OriginalDestination(_) => "original destination",
            Field::OriginalSourcePort => "original source port",
            Field::OriginalDestinationPort => "original destination port",
            Field::ReplySource(_) => "reply source",
            Field::ReplySourcePort => "reply source port",
            Field::SourceType => "type of the source address",
            Field::DestinationType => "type of the destination address",
            Field::TcpFlags => "TCP flags",
            Field::Random { .. } => "random number",
        })
    }
}

/// A field, or some bits of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operand {
    /// The field.
    pub field: Field,
    /// Only these bits of it.
    pub mask: u128,
}

impl From<Field> for Operand {
    fn from(field: Field) -> Operand {
        let mask = if field == Field::State { state::NFT } else { u128::MAX };
        Operand { field, mask }
    }
}

/// Values, as inclusive ranges.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ranges {
    /// From the first to the second.
    One(u128, u128),
    /// Any of several: in order, apart from each other.
    Many(Box<[(u128, u128)]>),
}

impl Ranges {
    /// One value.
    pub fn value(value: u128) -> Ranges {
        Ranges::One(value, value)
    }

    /// Anything but zero.
    pub fn nonzero() -> Ranges {
        Ranges::One(1, u128::MAX)
    }

    /// Any of `ranges`; those that end before they begin hold nothing.
    pub fn any(mut ranges: Vec<(u128, u128)>) -> Ranges {
        ranges.retain(|(low, high)| low <= high);
        ranges.sort_unstable();
        let mut apart: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            match apart.last_mut() {
                Some((_, last)) if low <= last.saturating_add(1) => *last = (*last).max(high),
                _ => apart.push((low, high)),
            }
        }
        match apart[..] {
            [(low, high)] => Ranges::One(low, high),
            _ => Ranges::Many(apart.into()),
        }
    }

    /// Whether `value` is among them.
    pub fn contains(&self, value: u128) -> bool {
        match self {
            Ranges::One(low, high) => (*low..=*high).contains(&value),
            Ranges::Many(ranges) => {
                let after = ranges.partition_point(|(low, _)| *low <= value);
                after > 0 && value <= ranges[after - 1].1
            }
        }
    }

    /// The only value, if there is but one.
    pub fn only(&self) -> Option<u128> {
        match self {
            Ranges::One(low, high) if low == high => Some(*low),
            _ => None,
        }
    }

    /// How many numbers from `first` to `last` are among them.
    pub(crate) fn count_within(&self, first: u32, last: u32) -> u64 {
        let (first, last) = (u128::from(first), u128::from(last));
        let within = |(low, high): (u128, u128)| {
            let (low, high) = (low.max(first), high.min(last));
            if low <= high { u64::try_from(high - low + 1).unwrap_or(u64::MAX) } else { 0 }
        };
        match self {
            Ranges::One(low, high) => within((*low, *high)),
            Ranges::Many(ranges) => ranges.iter().map(|range| within(*range)).sum(),
        }
    }
}

/// A condition of a rule.
#[derive(Debug, Clone)]
pub enum Test {
    /// The value is (or is not) among `ranges`. A field that the packet does not have fails both.
    Compare {
        /// What is looked at.
        operand: Operand,
        /// What it must be.
        ranges: Ranges,
        /// Whether it must not be that.
        negate: bool,
    },
    /// The values together are (or are not) in a set of the table.
    Lookup {
        /// What is looked up.
        key: Box<[Operand]>,
        /// Number of the set within its table.
        set: u32,
        /// Whether it must not be there.
        negate: bool,
    },
    /// Any of these holds.
    Any(Box<[Test]>),
    /// Holds at random.
    Chance(Box<Probability>),
    /// Holds if the client is remembered in a list: `recent` of iptables.
    Remembered {
        /// The list.
        list: Box<str>,
        /// For how long it is remembered, in seconds, if it is limited.
        seconds: Option<u32>,
        /// Whether it must not be remembered.
        negate: bool,
    },
    /// Never holds.
    Never,
    /// Something this crate does not evaluate, as written: the answer depends on it.
    Unknown(Box<str>),
}

//! What rules do with a packet.

use super::balance::Balance;
use super::test::Operand;

/// Where a packet goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Goal {
    /// Out of this base chain, to what comes next.
    Accept,
    /// Nowhere.
    Drop,
    /// Nowhere, and its sender gets an error.
    Reject,
    /// Back to where the chain was called from.
    Return,
    /// To the next rule.
    Continue,
    /// To this chain of the table, and back.
    Jump(u32),
    /// To this chain of the table, and from its end to where this chain was called from.
    Goto(u32),
}

/// How a mark changes: bits are kept, then flipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark {
    /// Bits that are kept.
    pub keep: u32,
    /// Bits that are flipped then.
    pub flip: u32,
}

impl Mark {
    /// `mark`, changed.
    pub fn apply(self, mark: u32) -> u32 {
        (mark & self.keep) ^ self.flip
    }
}

/// A new destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Translation {
    /// An address (or one of a range) and a port (or one of a range); what is not said stays.
    To {
        /// First and last address.
        addresses: Option<(u128, u128)>,
        /// First and last port.
        ports: Option<(u16, u16)>,
    },
    /// What a map of the table holds: an address, or an address and a port. Without an element the
    /// rule fails.
    Map {
        /// What is looked up.
        key: Box<[Operand]>,
        /// Number of the map.
        map: u32,
        /// The port, if not from the map.
        port: Option<u16>,
    },
    /// What a virtual server of IPVS chooses.
    Balanced(Box<Balance>),
    /// The node itself: the address of the interface the packet came in through, or loopback.
    ToNode {
        /// First and last port.
        ports: Option<(u16, u16)>,
    },
}

/// A new source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceAddress {
    /// That of the interface it leaves through.
    OfInterface,
    /// This one, if it is the only one named.
    Named(Option<u128>),
}

/// Something a rule does.
#[derive(Debug, Clone)]
pub enum Action {
    /// Sends the packet on.
    Goal(Goal),
    /// Sends the packet where a map of the table says. Without an element the rule fails.
    Lookup {
        /// What is looked up.
        key: Box<[Operand]>,
        /// Number of the map.
        map: u32,
    },
    /// Changes the packet's mark.
    Mark(Mark),
    /// Changes the packet's mark to what a map of the table holds. Without an element the rule
    /// fails.
    MarkBy {
        /// What is looked up.
        key: Box<[Operand]>,
        /// Number of the map.
        map: u32,
    },
    /// Changes the connection's mark.
    ConnectionMark(Mark),
    /// Sets the packet's mark to something that is not known.
    ForgetMark,
    /// Sets the connection's mark to something that is not known.
    ForgetConnectionMark,
    /// Copies these bits of the packet's mark to the connection's.
    SaveMark {
        /// Bits of the connection's mark that are cleared.
        connection: u32,
        /// Bits of the packet's mark that are copied.
        packet: u32,
    },
    /// Copies these bits of the connection's mark to the packet's.
    RestoreMark {
        /// Bits of the connection's mark that are copied.
        connection: u32,
        /// Bits of the packet's mark that are cleared.
        packet: u32,
    },
    /// Translates the destination.
    Destination(Translation),
    /// Translates the source.
    Source(SourceAddress),
    /// Takes the packet out of connection tracking.
    Untrack,
    /// Counts, logs, learns: nothing that sends this packet elsewhere.
    Note,
    /// Something that this crate does not evaluate, as written. The packet may or may not come back
    /// from it.
    Unknown(Box<str>),
}

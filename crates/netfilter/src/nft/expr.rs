//! Expressions: the instructions of a rule.

use std::time::Duration;

/// A register that expressions load and compare. Either one of the four 16-byte registers of old or
/// one of the sixteen 4-byte registers that overlap them (`enum nft_registers`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Register(pub u32);

impl Register {
    /// The verdict register.
    pub const VERDICT: Register = Register(0);
    /// The first 16-byte register.
    pub const R1: Register = Register(1);
    /// The second 16-byte register.
    pub const R2: Register = Register(2);

    /// The 4-byte register number `index`, 0-15. Register 0 is the start of [`Register::R1`], 4
    /// that of [`Register::R2`], and has its number, as the kernel reports it
    /// (`nft_dump_register`).
    pub const fn word(index: u32) -> Register {
        if index.is_multiple_of(4) { Register(1 + index / 4) } else { Register(8 + index) }
    }
}

/// Where a payload load counts its offset from (`enum nft_payload_bases`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PayloadBase {
    /// Network header
    Network,
    /// Transport header
    Transport,
}

/// Packet metadata (`enum nft_meta_keys`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetaKey {
    /// Transport protocol, 1 byte
    L4Proto,
    /// Name of the input interface, 16 bytes, zero-padded
    InputInterfaceName,
    /// Name of the output interface, 16 bytes, zero-padded
    OutputInterfaceName,
    /// nfproto, 1 byte
    NfProto,
    /// The packet's mark, 4 bytes host order
    Mark,
}

/// Connection tracking data (`enum nft_ct_keys`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CtKey {
    /// State bit mask, 4 bytes host order (`NF_CT_STATE_BIT`)
    State,
    /// Status bit mask, 4 bytes host order (`enum ip_conntrack_status`)
    Status,
    /// IPv4 source (needs a direction)
    SourceIp,
    /// IPv4 destination (needs a direction)
    DestinationIp,
    /// IPv6 source (needs a direction)
    SourceIp6,
    /// IPv6 destination (needs a direction)
    DestinationIp6,
    /// Transport source port (needs a direction)
    ProtoSource,
    /// Transport destination port (needs a direction)
    ProtoDestination,
}

/// Direction of a connection (`enum ip_conntrack_dir`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// As the first packet went.
    Original,
    /// As replies go.
    Reply,
}

/// Comparison (`enum nft_cmp_ops`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CmpOp {
    /// ==
    Equal,
    /// !=
    NotEqual,
}

/// How a rule, or a verdict map's element, decides (`enum nft_verdicts`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Ends the evaluation of this base chain.
    Accept,
    /// Drops the packet.
    Drop,
    /// Continues in a chain and comes back.
    Jump(String),
    /// Continues in a chain and comes back to the caller of this one.
    Goto(String),
    /// Returns to the calling chain.
    Return,
}

/// An expression.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Expr {
    /// Loads bytes of a header.
    Payload {
        /// Where the offset counts from
        base: PayloadBase,
        /// Bytes
        offset: u32,
        /// Bytes
        len: u32,
        /// Where to
        dest: Register,
    },
    /// Loads metadata.
    Meta {
        /// What
        key: MetaKey,
        /// Where to
        dest: Register,
    },
    /// Sets the packet's mark (`meta mark set`), 4 bytes host order.
    SetMark {
        /// Where from
        source: Register,
    },
    /// Loads connection tracking data.
    Ct {
        /// What
        key: CtKey,
        /// Of which direction, for what differs
        direction: Option<Direction>,
        /// Where to
        dest: Register,
    },
    /// Loads the route type of the packet's source address (`fib saddr type`), 4 bytes host order:
    /// 2 is local.
    FibSourceType {
        /// Where to
        dest: Register,
    },
    /// Loads the route type of the packet's destination address (`fib daddr type`), 4 bytes host
    /// order.
    FibDestinationType {
        /// Where to
        dest: Register,
    },
    /// Loads a random number (`numgen random mod`), 4 bytes host order.
    RandomBelow {
        /// One more than the largest number
        modulus: u32,
        /// Where to
        dest: Register,
    },
    /// Ends the rule unless the comparison holds; compares `value.len()` bytes.
    Cmp {
        /// How
        op: CmpOp,
        /// What
        source: Register,
        /// With what
        value: Vec<u8>,
    },
    /// dest = (source & mask) ^ xor; both as long as what they are applied to
    Bitwise {
        /// Where from
        source: Register,
        /// Where to
        dest: Register,
        /// What is kept
        mask: Vec<u8>,
        /// What is flipped then
        xor: Vec<u8>,
    },
    /// Looks a key up in a set; ends the rule if it is missing (present, when inverted).
    Lookup {
        /// The set's name
        set: String,
        /// Where the key starts
        source: Register,
        /// Where a map's data goes; [`Register::VERDICT`] for a verdict map
        dest: Option<Register>,
        /// Goes on if the key is missing.
        inverted: bool,
    },
    /// Decides.
    Immediate(Verdict),
    /// Loads bytes that the rule itself holds.
    Constant {
        /// As the register is to hold them; at most 16 bytes
        value: Vec<u8>,
        /// Where to
        dest: Register,
    },
    /// Destination NAT; terminal.
    Dnat {
        /// The address is an IPv6 address.
        ipv6: bool,
        /// Where the address starts
        address: Register,
        /// Where the port is
        port: Option<Register>,
    },
    /// Masquerades with the port chosen at random (`fully-random`); terminal.
    MasqueradeFullyRandom,
    /// Rejects with ICMP port unreachable of the table's family; terminal.
    RejectPortUnreachable {
        /// ICMPv6
        ipv6: bool,
    },
    /// Rejects with a reset of the TCP connection; terminal.
    RejectTcpReset,
    /// Adds or refreshes an element of a dynamic set or map (`update @set { key timeout t : data
    /// }`).
    UpdateSet {
        /// The set's name
        set: String,
        /// Where the key starts
        key: Register,
        /// Where a map's data starts
        data: Option<Register>,
        /// After what time the element goes; whole milliseconds
        timeout: Option<Duration>,
    },
    /// Removes an element of a dynamic set (`delete @set { key }`), if it is there.
    DeleteFromSet {
        /// The set's name
        set: String,
        /// Where the key starts
        key: Register,
    },
    /// The packet is not tracked (`notrack`), if connection tracking has not seen it yet.
    NoTrack,
    /// Any expression that this crate does not model, by name, when read from the kernel. Cannot be
    /// emitted.
    Other(String),
}

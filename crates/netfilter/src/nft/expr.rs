//! Expressions: the instructions of a rule.

use std::time::Duration;

/// A register that expressions load and compare. Either one of the four 16-byte registers of old or one of the
/// sixteen 4-byte registers that overlap them (`enum nft_registers`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Register(pub u32);

impl Register {
    /// The verdict register.
    pub const VERDICT: Register = Register(0);
    /// The first 16-byte register.
    pub const R1: Register = Register(1);
    /// The second 16-byte register.
    pub const R2: Register = Register(2);

    /// The 4-byte register number `index`, 0-15. Register 0 overlaps the start of [`Register::R1`], 4 that of
    /// [`Register::R2`].
    pub const fn word(index: u32) -> Register {
        Register(8 + index)
    }
}

/// Where a payload load counts its offset from (`enum nft_payload_bases`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadBase {
    /// Network header
    Network,
    /// Transport header
    Transport,
}

/// Packet metadata (`enum nft_meta_keys`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaKey {
    /// Transport protocol, 1 byte
    L4Proto,
    /// Name of the input interface, 16 bytes, zero-padded
    InputInterfaceName,
    /// nfproto, 1 byte
    NfProto,
}

/// Connection tracking data (`enum nft_ct_keys`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// As the first packet went.
    Original,
    /// As replies go.
    Reply,
}

/// Comparison (`enum nft_cmp_ops`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// Loads `len` bytes of a header.
    Payload { base: PayloadBase, offset: u32, len: u32, dest: Register },
    /// Loads metadata.
    Meta { key: MetaKey, dest: Register },
    /// Loads connection tracking data.
    Ct { key: CtKey, direction: Option<Direction>, dest: Register },
    /// Loads the route type of the packet's source address (`fib saddr type`): 2 is local.
    FibSourceType { dest: Register },
    /// Loads the route type of the packet's destination address (`fib daddr type`).
    FibDestinationType { dest: Register },
    /// Loads a random number below `modulus` (`numgen random mod`), 4 bytes host order.
    RandomBelow { modulus: u32, dest: Register },
    /// Ends the rule unless the comparison holds; compares `value.len()` bytes.
    Cmp { op: CmpOp, source: Register, value: Vec<u8> },
    /// dest = (source & mask) ^ xor
    Bitwise { source: Register, dest: Register, mask: Vec<u8>, xor: Vec<u8> },
    /// Looks `source` up in a set; ends the rule if it is missing (present, when `inverted`). With `dest`, loads
    /// the map's data there ([`Register::VERDICT`] for a verdict map).
    Lookup { set: String, source: Register, dest: Option<Register>, inverted: bool },
    /// Decides.
    Immediate(Verdict),
    /// Destination NAT to the address (and port) in registers; terminal.
    Dnat { ipv6: bool, address: Register, port: Option<Register> },
    /// Masquerades with the port chosen at random (`fully-random`); terminal.
    MasqueradeFullyRandom,
    /// Rejects with ICMP port unreachable of the table's family; terminal.
    RejectPortUnreachable { ipv6: bool },
    /// Adds or refreshes an element of a dynamic set or map (`update @set { key timeout t : data }`).
    UpdateSet { set: String, key: Register, data: Option<Register>, timeout: Option<Duration> },
    /// Any expression that this crate does not model, by name, when read from the kernel. Cannot be emitted.
    Other(String),
}

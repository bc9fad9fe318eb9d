//! The types of what sets hold, and their values. The kernel keeps bytes only: the rules that look
//! into a set show how its keys and data are laid out.

use std::collections::HashMap;
use std::net::IpAddr;

use serde_json::Value;

/// What a register holds, or a part of a set's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    V4,
    V6,
    Protocol,
    Port,
    Number,
    State,
    Status,
    AddressType,
    Interface,
    NetworkProtocol,
    TcpFlags,
}

impl Kind {
    /// As nft names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::V4 => "ipv4_addr",
            Kind::V6 => "ipv6_addr",
            Kind::Protocol => "inet_proto",
            Kind::Port => "inet_service",
            Kind::Number => "integer",
            Kind::State => "ct_state",
            Kind::Status => "ct_status",
            Kind::AddressType => "fib_addrtype",
            Kind::Interface => "ifname",
            Kind::NetworkProtocol => "nf_proto",
            Kind::TcpFlags => "tcp_flag",
        }
    }

    /// In bytes.
    pub(super) fn len(self) -> usize {
        match self {
            Kind::Protocol | Kind::NetworkProtocol | Kind::TcpFlags => 1,
            Kind::Port => 2,
            Kind::V4 | Kind::Number | Kind::State | Kind::Status | Kind::AddressType => 4,
            Kind::V6 | Kind::Interface => 16,
        }
    }

    /// What it takes in registers and keys: whole words.
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "passed as a function over iterators of references"
    )]
    pub(super) fn room(&self) -> usize {
        self.len().next_multiple_of(4)
    }

    pub(super) fn value(self, bytes: &[u8]) -> Option<Value> {
        let bytes = bytes.get(..self.len())?;
        Some(match self {
            Kind::V4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string().into(),
            Kind::V6 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string().into(),
            Kind::Protocol => match bytes[0] {
                6 => "tcp".into(),
                17 => "udp".into(),
                132 => "sctp".into(),
                other => other.into(),
            },
            Kind::NetworkProtocol | Kind::TcpFlags => bytes[0].into(),
            Kind::Port => u16::from_be_bytes(bytes.try_into().ok()?).into(),
            Kind::Number => u32::from_ne_bytes(bytes.try_into().ok()?).into(),
            Kind::State => flags(u32::from_ne_bytes(bytes.try_into().ok()?), &STATES),
            Kind::Status => flags(u32::from_ne_bytes(bytes.try_into().ok()?), &STATUSES),
            Kind::AddressType => match u32::from_ne_bytes(bytes.try_into().ok()?) {
                2 => "local".into(),
                other => other.into(),
            },
            Kind::Interface => {
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
                String::from_utf8_lossy(&bytes[..end]).into()
            }
        })
    }
}

/// `NF_CT_STATE_BIT` of linux/netfilter/nf_conntrack_common.h.
const STATES: [(u32, &str); 5] =
    [(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")];
/// `IPS_*` of the same.
const STATUSES: [(u32, &str); 2] = [(1 << 4, "snat"), (1 << 5, "dnat")];

/// One flag by its name, all else as a number.
fn flags(bits: u32, names: &[(u32, &str)]) -> Value {
    match names.iter().find(|(bit, _)| *bit == bits) {
        Some((_, name)) => (*name).into(),
        None => bits.into(),
    }
}

/// The types of a set's keys and data, as the rules that look into it show them.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    /// Of keys, in bytes.
    pub(super) lengths: HashMap<String, usize>,
    pub(super) sets: HashMap<String, Layout>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    pub(super) key: Vec<Kind>,
    /// Empty: verdicts, or nothing.
    pub(super) data: Vec<Kind>,
}

/// One after the other, each in whole words.
pub(super) fn values(mut bytes: &[u8], kinds: &[Kind]) -> Option<Vec<Value>> {
    kinds
        .iter()
        .map(|kind| {
            let value = kind.value(bytes)?;
            bytes = bytes.get(kind.room()..).unwrap_or(&[]);
            Some(value)
        })
        .collect()
}

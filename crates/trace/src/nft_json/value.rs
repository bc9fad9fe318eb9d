//! Values: addresses, ports, names of protocols and states.

use std::net::IpAddr;

use portolan_service::Family;
use serde_json::Value;

use crate::port_names::port_named;
use crate::ruleset::{Field, state};
use crate::value::{address_value, interface_value, network_range, prefix_mask};

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueKind {
    Address(Family),
    Protocol,
    Number,
    Interface,
    State,
    Status,
    AddressType,
    TcpFlags,
    Direction,
    NetworkProtocol,
}

impl ValueKind {
    pub(super) fn of(field: Field) -> ValueKind {
        match field {
            Field::Source(family)
            | Field::Destination(family)
            | Field::OriginalSource(family)
            | Field::OriginalDestination(family)
            | Field::ReplySource(family) => ValueKind::Address(family),
            Field::Protocol => ValueKind::Protocol,
            Field::InInterface | Field::OutInterface => ValueKind::Interface,
            Field::State => ValueKind::State,
            Field::Status => ValueKind::Status,
            Field::SourceType | Field::DestinationType => ValueKind::AddressType,
            Field::TcpFlags => ValueKind::TcpFlags,
            Field::Direction => ValueKind::Direction,
            Field::NetworkProtocol => ValueKind::NetworkProtocol,
            Field::SourcePort
            | Field::DestinationPort
            | Field::Mark
            | Field::ConnectionMark
            | Field::OriginalSourcePort
            | Field::OriginalDestinationPort
            | Field::ReplySourcePort
            | Field::Random { .. } => ValueKind::Number,
        }
    }

    /// By the name of a type.
    pub(super) fn named(name: &str) -> Option<ValueKind> {
        Some(match name {
            "ipv4_addr" => ValueKind::Address(Family::V4),
            "ipv6_addr" => ValueKind::Address(Family::V6),
            "inet_proto" => ValueKind::Protocol,
            "inet_service" | "mark" | "integer" => ValueKind::Number,
            "ifname" => ValueKind::Interface,
            "ct_state" => ValueKind::State,
            "ct_status" => ValueKind::Status,
            "fib_addrtype" => ValueKind::AddressType,
            "tcp_flag" => ValueKind::TcpFlags,
            "ct_dir" => ValueKind::Direction,
            "nf_proto" => ValueKind::NetworkProtocol,
            _ => return None,
        })
    }

    /// First and last of what `value` stands for: a single value, a network, a range, or all.
    pub(super) fn range(self, value: &Value) -> Option<(u128, u128)> {
        if let Some(object) = value.as_object() {
            if let Some(prefix) = object.get("prefix") {
                let (address, length) = (prefix.get("addr")?.as_str()?, prefix.get("len")?.as_u64()?);
                let ValueKind::Address(family) = self else { return None };
                return network_range(&format!("{address}/{length}"), family).ok();
            }
            let ends = object.get("range")?.as_array()?;
            let [first, last] = ends.as_slice() else { return None };
            return Some((self.range(first)?.0, self.range(last)?.1));
        }
        if let (ValueKind::Interface, Some(name)) = (self, value.as_str())
            && let Some(beginning) = name.strip_suffix('*')
        {
            let first = interface_value(beginning);
            return Some((first, first | !prefix_mask(beginning.len())));
        }
        if value == "*" {
            return Some((0, u128::MAX));
        }
        self.single(value).map(|value| (value, value))
    }

    /// A single value; flags together are their sum.
    pub(super) fn single(self, value: &Value) -> Option<u128> {
        match value {
            Value::Number(number) => number.as_u64().map(u128::from).filter(|_| self != ValueKind::Interface),
            Value::Bool(_) | Value::Null | Value::Object(_) => None,
            Value::Array(flags) => flags.iter().try_fold(0, |all, flag| Some(all | self.flag(flag)?)),
            Value::String(name) => self.name(name),
        }
    }

    fn flag(self, value: &Value) -> Option<u128> {
        let flags = matches!(self, ValueKind::State | ValueKind::Status | ValueKind::TcpFlags);
        if flags && !value.is_array() { self.single(value) } else { None }
    }

    fn name(self, name: &str) -> Option<u128> {
        Some(match self {
            ValueKind::Address(family) => {
                let address: IpAddr = name.parse().ok()?;
                return (Family::of(address) == family).then(|| address_value(address));
            }
            ValueKind::Interface => interface_value(name),
            ValueKind::Number => {
                let digits = name.strip_prefix("0x");
                return match digits {
                    Some(digits) => u128::from_str_radix(digits, 16).ok(),
                    None => name.parse().ok().or_else(|| port_named(name).map(u128::from)),
                };
            }
            ValueKind::Protocol => match name {
                "tcp" => 6,
                "udp" => 17,
                "sctp" => 132,
                "icmp" => 1,
                "igmp" => 2,
                "dccp" => 33,
                "gre" => 47,
                "esp" => 50,
                "ah" => 51,
                "ipv6-icmp" | "icmpv6" => 58,
                "comp" => 108,
                "udplite" => 136,
                _ => return None,
            },
            ValueKind::State => match name {
                "invalid" => state::INVALID,
                "established" => state::ESTABLISHED,
                "related" => state::RELATED,
                "new" => state::NEW,
                "untracked" => state::UNTRACKED,
                _ => return None,
            },
            // IPS_* of nf_conntrack_common.h.
            ValueKind::Status => match name {
                "expected" => 1,
                "seen-reply" => 1 << 1,
                "assured" => 1 << 2,
                "confirmed" => 1 << 3,
                "snat" => 1 << 4,
                "dnat" => 1 << 5,
                "dying" => 1 << 9,
                _ => return None,
            },
            // RTN_* of linux/rtnetlink.h.
            ValueKind::AddressType => match name {
                "unspec" => 0,
                "unicast" => 1,
                "local" => 2,
                "broadcast" => 3,
                "anycast" => 4,
                "multicast" => 5,
                "blackhole" => 6,
                "unreachable" => 7,
                "prohibit" => 8,
                _ => return None,
            },
            ValueKind::TcpFlags => match name {
                "fin" => 0x01,
                "syn" => 0x02,
                "rst" => 0x04,
                "psh" => 0x08,
                "ack" => 0x10,
                "urg" => 0x20,
                "ecn" => 0x40,
                "cwr" => 0x80,
                _ => return None,
            },
            ValueKind::Direction => match name {
                "original" => 0,
                "reply" => 1,
                _ => return None,
            },
            ValueKind::NetworkProtocol => match name {
                "ipv4" => 2,
                "ipv6" => 10,
                _ => return None,
            },
        })
    }
}

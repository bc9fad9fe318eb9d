//! What is looked at: fields, parts of them, and several together.

use portolan_service::Family;
use serde_json::Value;

use super::value::ValueKind;
use crate::ruleset::{Field, Operand, Ranges, Test};

/// The fields of `expression`, one or a concatenation. What they imply (a TCP port: that it is TCP)
/// is added to `implied`. `None` if one is not known.
pub(super) fn key(expression: &Value, implied: &mut Vec<Test>) -> Option<Box<[Operand]>> {
    match expression.get("concat") {
        Some(parts) => parts.as_array()?.iter().map(|part| operand(part, implied)).collect(),
        None => operand(expression, implied).map(|operand| [operand].into()),
    }
}

/// A field, or bits of one.
pub(super) fn operand(expression: &Value, implied: &mut Vec<Test>) -> Option<Operand> {
    let (kind, body) = expression.as_object()?.iter().next()?;
    if kind == "&" {
        let [of, mask] = body.as_array()?.as_slice() else { return None };
        let Operand { field, mask: whole } = operand(of, implied)?;
        let mask = ValueKind::of(field).single(mask)?;
        return Some(Operand { field, mask: mask & whole });
    }
    let text = |key: &str| body.get(key).and_then(Value::as_str);
    let field = match kind.as_str() {
        "payload" => payload(text("protocol")?, text("field")?, implied)?,
        "meta" => match text("key")? {
            "l4proto" => Field::Protocol,
            "nfproto" => Field::NetworkProtocol,
            "mark" => Field::Mark,
            "iifname" | "iif" => Field::InInterface,
            "oifname" | "oif" => Field::OutInterface,
            _ => return None,
        },
        "ct" => connection(text("key")?, text("dir"))?,
        "fib" if text("result")? == "type" => {
            let flags = body.get("flags")?;
            let only = |name: &str| {
                flags == name || flags.as_array().is_some_and(|flags| flags.len() == 1 && flags[0] == name)
            };
            if only("saddr") {
                Field::SourceType
            } else if only("daddr") {
                Field::DestinationType
            } else {
                return None;
            }
        }
        // An incremental one counts packets, of which this is any.
        "numgen" => Field::Random {
            modulus: u32::try_from(body.get("mod")?.as_u64()?).ok().filter(|modulus| *modulus > 0)?,
            offset: u32::try_from(body.get("offset").and_then(Value::as_u64).unwrap_or(0)).ok()?,
        },
        _ => return None,
    };
    Some(field.into())
}

fn payload(protocol: &str, field: &str, implied: &mut Vec<Test>) -> Option<Field> {
    let header = match protocol {
        "th" => None,
        "tcp" => Some(6),
        "udp" => Some(17),
        "sctp" => Some(132),
        "udplite" => Some(136),
        "dccp" => Some(33),
        "icmp" => Some(1),
        "icmpv6" => Some(58),
        "esp" => Some(50),
        "ah" => Some(51),
        "ip" | "ip6" => {
            let family = if protocol == "ip" { Family::V4 } else { Family::V6 };
            return match field {
                "saddr" => Some(Field::Source(family)),
                "daddr" => Some(Field::Destination(family)),
                "protocol" if family == Family::V4 => {
                    implied.push(is(Field::NetworkProtocol, 2));
                    Some(Field::Protocol)
                }
                "nexthdr" if family == Family::V6 => {
                    implied.push(is(Field::NetworkProtocol, 10));
                    Some(Field::Protocol)
                }
                _ => None,
            };
        }
        _ => return None,
    };
    if let Some(protocol) = header {
        implied.push(is(Field::Protocol, protocol));
    }
    match (header, field) {
        (None | Some(6 | 17 | 132 | 136 | 33), "sport") => Some(Field::SourcePort),
        (None | Some(6 | 17 | 132 | 136 | 33), "dport") => Some(Field::DestinationPort),
        (Some(6), "flags") => Some(Field::TcpFlags),
        _ => None,
    }
}

fn connection(key: &str, direction: Option<&str>) -> Option<Field> {
    let original = match direction {
        None => {
            return match key {
                "state" => Some(Field::State),
                "status" => Some(Field::Status),
                "mark" => Some(Field::ConnectionMark),
                "direction" => Some(Field::Direction),
                _ => None,
            };
        }
        Some("original") => true,
        Some("reply") => false,
        Some(_) => return None,
    };
    Some(match (original, key) {
        (true, "ip saddr") => Field::OriginalSource(Family::V4),
        (true, "ip6 saddr") => Field::OriginalSource(Family::V6),
        (true, "ip daddr") => Field::OriginalDestination(Family::V4),
        (true, "ip6 daddr") => Field::OriginalDestination(Family::V6),
        (true, "proto-src") => Field::OriginalSourcePort,
        (true, "proto-dst") => Field::OriginalDestinationPort,
        (false, "ip saddr") => Field::ReplySource(Family::V4),
        (false, "ip6 saddr") => Field::ReplySource(Family::V6),
        (false, "proto-src") => Field::ReplySourcePort,
        _ => return None,
    })
}

fn is(field: Field, value: u128) -> Test {
    Test::Compare { operand: field.into(), ranges: Ranges::value(value), negate: false }
}

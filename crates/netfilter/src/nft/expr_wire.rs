//! Expressions in messages.

use std::time::Duration;

use super::expr::{CmpOp, CtKey, Direction, Expr, MetaKey, PayloadBase, Register, Verdict};
use super::table::TableFamily;
use super::uapi::attr;
use portolan_netlink::wire::{Attribute, Attributes, Writer};

/// An expression of this name was read from the kernel and is not known well enough to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotEmittable(pub(super) String);

// enum nft_verdicts, linux/netfilter.h
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
const JUMP: u32 = (-3i32).cast_unsigned();
const GOTO: u32 = (-4i32).cast_unsigned();
const RETURN: u32 = (-5i32).cast_unsigned();

const META_KEYS: [(MetaKey, u32); 5] = [
    (MetaKey::Mark, META_MARK),
    (MetaKey::InputInterfaceName, 6),
    (MetaKey::OutputInterfaceName, 7),
    (MetaKey::NfProto, 15),
    (MetaKey::L4Proto, 16),
];
/// `NFT_META_MARK`
const META_MARK: u32 = 3;
const CT_KEYS: [(CtKey, u32); 8] = [
    (CtKey::State, 0),
    (CtKey::Status, 2),
    (CtKey::SourceIp, 19),
    (CtKey::DestinationIp, 20),
    (CtKey::SourceIp6, 21),
    (CtKey::DestinationIp6, 22),
    (CtKey::ProtoSource, 11),
    (CtKey::ProtoDestination, 12),
];
/// `NFT_FIB_RESULT_ADDRTYPE`
const FIB_ADDRTYPE: u32 = 3;
const FIB_SOURCE: u32 = 1;
const FIB_DESTINATION: u32 = 2;
/// `NFT_NG_RANDOM`
const NUMGEN_RANDOM: u32 = 1;
/// `NFT_NAT_DNAT`
const NAT_DNAT: u32 = 1;
/// `NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED`: follow from which registers are given
const NAT_IMPLIED: u32 = 0b11;
/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`
const FULLY_RANDOM: u32 = 1 << 4;
/// `NFT_REJECT_ICMP_UNREACH`
const REJECT_ICMP: u32 = 0;
/// `NFT_REJECT_TCP_RST`
const REJECT_TCP_RESET: u32 = 1;
/// `NFT_DYNSET_OP_UPDATE`
const DYNSET_UPDATE: u32 = 1;
/// `NFT_DYNSET_OP_DELETE`
const DYNSET_DELETE: u32 = 2;
/// `NFT_DYNSET_F_EXPR`, without which the other flags mean a different expression
const NO_FLAGS: u32 = 0;

/// ICMP and ICMPv6 codes of port unreachable (RFC 792, RFC 4443)
const fn port_unreachable(ipv6: bool) -> u8 {
    if ipv6 { 4 } else { 3 }
}

const fn family(ipv6: bool) -> TableFamily {
    if ipv6 { TableFamily::Ip6 } else { TableFamily::Ip }
}

pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Appends the attributes of one list element: a case for each expression.
#[expect(clippy::too_many_lines, reason = "a case for each expression")]
pub(super) fn emit(expr: &Expr, to: &mut Writer) -> Result<(), NotEmittable> {
    to.string(attr::EXPR_NAME, name(expr));
    let data = to.nest(attr::EXPR_DATA);
    match expr {
        Expr::Payload { base, offset, len, dest } => {
            to.be32(attr::PAYLOAD_DREG, dest.0);
            let base = match base {
                PayloadBase::Network => 1,
                PayloadBase::Transport => 2,
            };
            to.be32(attr::PAYLOAD_BASE, base);
            to.be32(attr::PAYLOAD_OFFSET, *offset);
            to.be32(attr::PAYLOAD_LEN, *len);
        }
        Expr::Meta { key, dest } => {
            to.be32(attr::META_KEY, number_of(&META_KEYS, *key));
            to.be32(attr::META_DREG, dest.0);
        }
        Expr::SetMark { source } => {
            to.be32(attr::META_KEY, META_MARK);
            to.be32(attr::META_SREG, source.0);
        }
        Expr::Ct { key, direction, dest } => {
            to.be32(attr::CT_KEY, number_of(&CT_KEYS, *key));
            to.be32(attr::CT_DREG, dest.0);
            if let Some(direction) = direction {
                to.u8(attr::CT_DIRECTION, matches!(direction, Direction::Reply).into());
            }
        }
        Expr::FibSourceType { dest } => put_fib(FIB_SOURCE, *dest, to),
        Expr::FibDestinationType { dest } => put_fib(FIB_DESTINATION, *dest, to),
        Expr::RandomBelow { modulus, dest } => {
            to.be32(attr::NUMGEN_DREG, dest.0);
            to.be32(attr::NUMGEN_MODULUS, *modulus);
            to.be32(attr::NUMGEN_TYPE, NUMGEN_RANDOM);
            to.be32(attr::NUMGEN_OFFSET, 0);
        }
        Expr::Cmp { op, source, value } => {
            to.be32(attr::CMP_SREG, source.0);
            to.be32(attr::CMP_OP, matches!(op, CmpOp::NotEqual).into());
            put_value(attr::CMP_DATA, value, to);
        }
        Expr::Bitwise { source, dest, mask, xor } => {
            to.be32(attr::BITWISE_SREG, source.0);
            to.be32(attr::BITWISE_DREG, dest.0);
            to.be32(attr::BITWISE_LEN, u32::try_from(mask.len()).unwrap_or(u32::MAX));
            put_value(attr::BITWISE_MASK, mask, to);
            put_value(attr::BITWISE_XOR, xor, to);
        }
        Expr::Lookup { set, source, dest, inverted } => {
            to.be32(attr::LOOKUP_SREG, source.0);
            if let Some(dest) = dest {
                to.be32(attr::LOOKUP_DREG, dest.0);
            }
            to.string(attr::LOOKUP_SET, set);
            if *inverted {
                to.be32(attr::LOOKUP_FLAGS, 1);
            }
        }
        Expr::Immediate(verdict) => {
            to.be32(attr::IMMEDIATE_DREG, Register::VERDICT.0);
            let data = to.nest(attr::IMMEDIATE_DATA);
            put_verdict(verdict, to);
            to.end_nest(data);
        }
        Expr::Constant { value, dest } => {
            to.be32(attr::IMMEDIATE_DREG, dest.0);
            put_value(attr::IMMEDIATE_DATA, value, to);
        }
        Expr::Dnat { ipv6, address, port } => {
            to.be32(attr::NAT_TYPE, NAT_DNAT);
            to.be32(attr::NAT_FAMILY, family(*ipv6).number().into());
            to.be32(attr::NAT_REG_ADDR_MIN, address.0);
            if let Some(port) = port {
                to.be32(attr::NAT_REG_PROTO_MIN, port.0);
            }
        }
        Expr::MasqueradeFullyRandom => to.be32(attr::MASQ_FLAGS, FULLY_RANDOM),
        Expr::RejectPortUnreachable { ipv6 } => {
            to.be32(attr::REJECT_TYPE, REJECT_ICMP);
            to.u8(attr::REJECT_CODE, port_unreachable(*ipv6));
        }
        Expr::RejectTcpReset => {
            to.be32(attr::REJECT_TYPE, REJECT_TCP_RESET);
            to.u8(attr::REJECT_CODE, 0);
        }
        Expr::UpdateSet { set, key, data, timeout } => {
            to.be32(attr::DYNSET_SREG_KEY, key.0);
            if let Some(data) = data {
                to.be32(attr::DYNSET_SREG_DATA, data.0);
            }
            to.be32(attr::DYNSET_OP, DYNSET_UPDATE);
            if let Some(timeout) = timeout {
                to.be64(attr::DYNSET_TIMEOUT, milliseconds(*timeout));
            }
            to.string(attr::DYNSET_SET_NAME, set);
        }
        Expr::DeleteFromSet { set, key } => {
            to.be32(attr::DYNSET_SREG_KEY, key.0);
            to.be32(attr::DYNSET_OP, DYNSET_DELETE);
            to.string(attr::DYNSET_SET_NAME, set);
        }
        // It has no attributes.
        Expr::NoTrack => {}
        Expr::Other(name) => return Err(NotEmittable(name.clone())),
    }
    to.end_nest(data);
    Ok(())
}

fn name(expr: &Expr) -> &str {
    match expr {
        Expr::Payload { .. } => "payload",
        Expr::Meta { .. } | Expr::SetMark { .. } => "meta",
        Expr::Ct { .. } => "ct",
        Expr::FibSourceType { .. } | Expr::FibDestinationType { .. } => "fib",
        Expr::RandomBelow { .. } => "numgen",
        Expr::Cmp { .. } => "cmp",
        Expr::Bitwise { .. } => "bitwise",
        Expr::Lookup { .. } => "lookup",
        Expr::Immediate(_) | Expr::Constant { .. } => "immediate",
        Expr::Dnat { .. } => "nat",
        Expr::MasqueradeFullyRandom => "masq",
        Expr::RejectPortUnreachable { .. } | Expr::RejectTcpReset => "reject",
        Expr::UpdateSet { .. } | Expr::DeleteFromSet { .. } => "dynset",
        Expr::NoTrack => "notrack",
        Expr::Other(name) => name,
    }
}

fn number_of<K: PartialEq + Copy>(table: &[(K, u32)], key: K) -> u32 {
    table.iter().find(|(of, _)| *of == key).map_or(u32::MAX, |(_, number)| *number)
}

fn key_of<K: Copy>(table: &[(K, u32)], number: u32) -> Option<K> {
    table.iter().find(|(_, of)| *of == number).map(|(key, _)| *key)
}

fn put_fib(flags: u32, dest: Register, to: &mut Writer) {
    to.be32(attr::FIB_FLAGS, flags);
    to.be32(attr::FIB_RESULT, FIB_ADDRTYPE);
    to.be32(attr::FIB_DREG, dest.0);
}

/// Appends the list elements of `meta nftrace set 1`.
pub(super) fn put_tracing(to: &mut Writer) {
    /// `NFT_META_NFTRACE`
    const NFTRACE: u32 = 12;
    let element = |name: &str, fill: &dyn Fn(&mut Writer), to: &mut Writer| {
        let item = to.nest(attr::LIST_ELEMENT);
        to.string(attr::EXPR_NAME, name);
        let data = to.nest(attr::EXPR_DATA);
        fill(to);
        to.end_nest(data);
        to.end_nest(item);
    };
    let load = |to: &mut Writer| {
        to.be32(attr::IMMEDIATE_DREG, Register::R1.0);
        put_value(attr::IMMEDIATE_DATA, &[1], to);
    };
    let set = |to: &mut Writer| {
        to.be32(attr::META_KEY, NFTRACE);
        to.be32(attr::META_SREG, Register::R1.0);
    };
    element("immediate", &load, to);
    element("meta", &set, to);
}

fn put_value(kind: u16, value: &[u8], to: &mut Writer) {
    let nest = to.nest(kind);
    to.attribute(attr::DATA_VALUE, value);
    to.end_nest(nest);
}

/// Appends an `NFTA_DATA_VERDICT`.
pub(super) fn put_verdict(verdict: &Verdict, to: &mut Writer) {
    let nest = to.nest(attr::DATA_VERDICT);
    let (code, chain) = match verdict {
        Verdict::Accept => (ACCEPT, None),
        Verdict::Drop => (DROP, None),
        Verdict::Jump(chain) => (JUMP, Some(chain)),
        Verdict::Goto(chain) => (GOTO, Some(chain)),
        Verdict::Return => (RETURN, None),
    };
    to.be32(attr::VERDICT_CODE, code);
    if let Some(chain) = chain {
        to.string(attr::VERDICT_CHAIN, chain);
    }
    to.end_nest(nest);
}

/// Reads what is inside an `NFTA_DATA_VERDICT`.
pub(super) fn parse_verdict(verdict: &Attribute<'_>) -> Option<Verdict> {
    let attributes = verdict.nested();
    let chain = || Some(attributes.get(attr::VERDICT_CHAIN)?.text()?.to_owned());
    Some(match attributes.get(attr::VERDICT_CODE)?.be32()? {
        ACCEPT => Verdict::Accept,
        DROP => Verdict::Drop,
        JUMP => Verdict::Jump(chain()?),
        GOTO => Verdict::Goto(chain()?),
        RETURN => Verdict::Return,
        _ => return None,
    })
}

/// Reads one list element if it is a verdict, and nothing else of it.
pub(super) fn parse_immediate(item: &Attribute<'_>) -> Option<Verdict> {
    let attributes = item.nested();
    if attributes.get(attr::EXPR_NAME)?.text()? != "immediate" {
        return None;
    }
    match parse_known("immediate", &attributes.get(attr::EXPR_DATA)?.nested())? {
        Expr::Immediate(verdict) => Some(verdict),
        _ => None,
    }
}

/// Reads one list element. What [`Expr`] cannot say exactly becomes [`Expr::Other`].
pub(super) fn parse(item: &Attribute<'_>) -> Expr {
    let attributes = item.nested();
    let name = attributes.get(attr::EXPR_NAME).and_then(|name| name.text()).unwrap_or("");
    let data = attributes.get(attr::EXPR_DATA).map_or_else(|| Attributes::new(&[]), |data| data.nested());
    parse_known(name, &data).unwrap_or_else(|| Expr::Other(name.to_owned()))
}

/// The text of iptables' match `comment`, if the list element is one (`struct xt_comment_info`).
pub(super) fn parse_comment(item: &Attribute<'_>) -> Option<String> {
    let attributes = item.nested();
    attributes.get(attr::EXPR_NAME).filter(|name| name.text() == Some("match"))?;
    let data = attributes.get(attr::EXPR_DATA)?.nested();
    data.get(attr::MATCH_NAME).filter(|name| name.text() == Some("comment"))?;
    Some(data.get(attr::MATCH_INFO)?.text()?.to_owned())
}

/// Reads an expression by its name, the counterpart of [`emit`]: a case for each.
#[expect(clippy::too_many_lines, reason = "a case for each expression")]
fn parse_known(name: &str, data: &Attributes<'_>) -> Option<Expr> {
    let number = |kind| data.get(kind).and_then(|attribute| attribute.be32());
    let register = |kind| number(kind).map(Register);
    let value = |kind| Some(data.get(kind)?.nested().get(attr::DATA_VALUE)?.payload.to_vec());
    let absent = |kind| data.get(kind).is_none();
    Some(match name {
        "payload" => Expr::Payload {
            base: match number(attr::PAYLOAD_BASE)? {
                1 => PayloadBase::Network,
                2 => PayloadBase::Transport,
                _ => return None,
            },
            offset: number(attr::PAYLOAD_OFFSET)?,
            len: number(attr::PAYLOAD_LEN)?,
            dest: register(attr::PAYLOAD_DREG)?,
        },
        "meta" if number(attr::META_KEY)? == META_MARK && absent(attr::META_DREG) => {
            Expr::SetMark { source: register(attr::META_SREG)? }
        }
        "meta" => {
            Expr::Meta { key: key_of(&META_KEYS, number(attr::META_KEY)?)?, dest: register(attr::META_DREG)? }
        }
        "ct" => Expr::Ct {
            key: key_of(&CT_KEYS, number(attr::CT_KEY)?)?,
            direction: match data.get(attr::CT_DIRECTION) {
                None => None,
                Some(direction) => match direction.u8()? {
                    0 => Some(Direction::Original),
                    1 => Some(Direction::Reply),
                    _ => return None,
                },
            },
            dest: register(attr::CT_DREG)?,
        },
        "fib" if number(attr::FIB_RESULT)? == FIB_ADDRTYPE => {
            let dest = register(attr::FIB_DREG)?;
            match number(attr::FIB_FLAGS)? {
                FIB_SOURCE => Expr::FibSourceType { dest },
                FIB_DESTINATION => Expr::FibDestinationType { dest },
                _ => return None,
            }
        }
        "numgen"
            if number(attr::NUMGEN_TYPE)? == NUMGEN_RANDOM
                && number(attr::NUMGEN_OFFSET).unwrap_or(0) == 0 =>
        {
            Expr::RandomBelow { modulus: number(attr::NUMGEN_MODULUS)?, dest: register(attr::NUMGEN_DREG)? }
        }
        "cmp" => Expr::Cmp {
            op: match number(attr::CMP_OP)? {
                0 => CmpOp::Equal,
                1 => CmpOp::NotEqual,
                _ => return None,
            },
            source: register(attr::CMP_SREG)?,
            value: value(attr::CMP_DATA)?,
        },
        "bitwise" if number(attr::BITWISE_OP).unwrap_or(0) == 0 => {
            let (mask, xor) = (value(attr::BITWISE_MASK)?, value(attr::BITWISE_XOR)?);
            if number(attr::BITWISE_LEN).and_then(|len| usize::try_from(len).ok()) != Some(mask.len()) {
                return None;
            }
            Expr::Bitwise {
                source: register(attr::BITWISE_SREG)?,
                dest: register(attr::BITWISE_DREG)?,
                mask,
                xor,
            }
        }
        "lookup" => Expr::Lookup {
            set: data.get(attr::LOOKUP_SET)?.text()?.to_owned(),
            source: register(attr::LOOKUP_SREG)?,
            dest: register(attr::LOOKUP_DREG),
            inverted: match number(attr::LOOKUP_FLAGS).unwrap_or(NO_FLAGS) {
                NO_FLAGS => false,
                1 => true,
                _ => return None,
            },
        },
        "immediate" if number(attr::IMMEDIATE_DREG)? == Register::VERDICT.0 => {
            let verdict = data.get(attr::IMMEDIATE_DATA)?.nested().get(attr::DATA_VERDICT)?;
            Expr::Immediate(parse_verdict(&verdict)?)
        }
        "immediate" => {
            Expr::Constant { value: value(attr::IMMEDIATE_DATA)?, dest: register(attr::IMMEDIATE_DREG)? }
        }
        "nat" if number(attr::NAT_TYPE)? == NAT_DNAT => {
            let (address, port) = (register(attr::NAT_REG_ADDR_MIN)?, register(attr::NAT_REG_PROTO_MIN));
            // The kernel reports a maximum, the same as the minimum, where none was given.
            let address_max = register(attr::NAT_REG_ADDR_MAX).unwrap_or(address);
            let port_max = register(attr::NAT_REG_PROTO_MAX).or(port);
            let flags = number(attr::NAT_FLAGS).unwrap_or(NO_FLAGS) & !NAT_IMPLIED;
            if address_max != address || port_max != port || flags != NO_FLAGS {
                return None;
            }
            let ipv6 = match TableFamily::from_number(u8::try_from(number(attr::NAT_FAMILY)?).ok()?)? {
                TableFamily::Ip => false,
                TableFamily::Ip6 => true,
            };
            Expr::Dnat { ipv6, address, port }
        }
        "masq" if number(attr::MASQ_FLAGS)? == FULLY_RANDOM && absent(attr::MASQ_REG_PROTO_MIN) => {
            Expr::MasqueradeFullyRandom
        }
        "reject" if number(attr::REJECT_TYPE)? == REJECT_ICMP => {
            let code = data.get(attr::REJECT_CODE)?.u8()?;
            let ipv6 = [false, true].into_iter().find(|ipv6| port_unreachable(*ipv6) == code)?;
            Expr::RejectPortUnreachable { ipv6 }
        }
        "reject" if number(attr::REJECT_TYPE)? == REJECT_TCP_RESET => Expr::RejectTcpReset,
        "dynset"
            if number(attr::DYNSET_FLAGS).unwrap_or(NO_FLAGS) == NO_FLAGS
                && absent(attr::DYNSET_EXPR)
                && absent(attr::DYNSET_EXPRESSIONS) =>
        {
            let set = data.get(attr::DYNSET_SET_NAME)?.text()?.to_owned();
            let key = register(attr::DYNSET_SREG_KEY)?;
            let element = register(attr::DYNSET_SREG_DATA);
            let timeout = match data.get(attr::DYNSET_TIMEOUT) {
                None => None,
                // Zero is how the kernel says none.
                Some(timeout) => Some(timeout.be64()?).filter(|ms| *ms > 0).map(Duration::from_millis),
            };
            match number(attr::DYNSET_OP)? {
                DYNSET_UPDATE => Expr::UpdateSet { set, key, data: element, timeout },
                DYNSET_DELETE if element.is_none() && timeout.is_none() => Expr::DeleteFromSet { set, key },
                _ => return None,
            }
        }
        "notrack" => Expr::NoTrack,
        _ => return None,
    })
}

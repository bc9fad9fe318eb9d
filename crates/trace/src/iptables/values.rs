//! Values of options: numbers, ranges, addresses, names of protocols and states.

use portolan_service::Family;

use crate::probability::Probability;
use crate::ruleset::{Field, Operand, Ranges, Test};
use crate::value::{interface_value, network_range, prefix_mask};

/// A number in decimal or, behind 0x, hexadecimal digits.
pub(super) fn number<T: TryFrom<u64>>(text: &str, what: &str) -> Result<T, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.ok().and_then(|number| T::try_from(number).ok()).ok_or_else(|| format!("{text} is not {what}"))
}

/// `value[/mask]`
pub(super) fn value_and_mask(text: &str) -> Result<(u32, u32), String> {
    match text.split_once('/') {
        Some((value, mask)) => Ok((number(value, "a mark")?, number(mask, "a mask")?)),
        None => Ok((number(text, "a mark")?, u32::MAX)),
    }
}

/// The limit below which the kernel must draw: `probability` of 2³¹, rounded as iptables rounds it
/// (libxt_statistic).
pub(super) fn probability(text: &str) -> Result<Probability, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text} is not a probability"))?;
    if !(0.0..=1.0).contains(&value) {
        return Err(format!("{text} is not a probability between 0 and 1"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 2^31")]
    let drawn = (value * 2f64.powi(31)).round() as u64;
    Ok(Probability::ratio(drawn, 1 << 31))
}

/// `port`, `first:last`, and lists of them. What is left out is the lowest, or the highest.
pub(super) fn ports(text: &str) -> Result<Ranges, String> {
    let mut ranges = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once(':').unwrap_or((part, part));
        let low: u16 = if first.is_empty() { 0 } else { number(first, "a port")? };
        let high: u16 = if last.is_empty() { u16::MAX } else { number(last, "a port")? };
        ranges.push((u128::from(low), u128::from(high)));
    }
    Ok(Ranges::any(ranges))
}

pub(super) fn whole(family: Family) -> (u128, u128) {
    match family {
        Family::V4 => (0, u128::from(u32::MAX)),
        Family::V6 => (0, u128::MAX),
    }
}

/// `first-last`
pub(super) fn range(text: &str, family: Family) -> Result<Ranges, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (network_range(first, family)?, network_range(last, family)?);
    Ok(Ranges::any(vec![(first.0, last.1)]))
}

/// A name, or with a plus sign at its end the beginning of one.
pub(super) fn interface(field: Field, name: &str, negate: bool) -> Test {
    let (name, bytes) = match name.strip_suffix('+') {
        Some(beginning) => (beginning, beginning.len().min(16)),
        None => (name, 16),
    };
    let mask = prefix_mask(bytes);
    Test::Compare {
        operand: Operand { field, mask },
        ranges: Ranges::value(interface_value(name) & mask),
        negate,
    }
}

/// The number of a protocol, by the names of /etc/protocols that iptables writes. `None` for all.
pub(super) fn protocol(text: &str, negate: bool) -> Option<Test> {
    let number = match text {
        "all" | "0" => return None,
        "tcp" => 6,
        "udp" => 17,
        "sctp" => 132,
        "icmp" => 1,
        "igmp" => 2,
        "ipencap" | "ipip" => 4,
        "dccp" => 33,
        "ipv6" => 41,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "icmpv6" | "ipv6-icmp" => 58,
        "mh" | "mobility-header" => 135,
        "udplite" => 136,
        other => match other.parse::<u8>() {
            Ok(number) => number,
            Err(_) => {
                return Some(Test::Unknown(format!("{}-p {other}", if negate { "! " } else { "" }).into()));
            }
        },
    };
    Some(Test::Compare { operand: Field::Protocol.into(), ranges: Ranges::value(u128::from(number)), negate })
}

pub(super) fn states(text: &str) -> Result<u128, String> {
    use crate::ruleset::state;
    text.split(',').try_fold(0, |states, name| {
        let bit = match name.to_ascii_uppercase().as_str() {
            "NEW" => state::NEW,
            "ESTABLISHED" => state::ESTABLISHED,
            "RELATED" => state::RELATED,
            "INVALID" => state::INVALID,
            "UNTRACKED" => state::UNTRACKED,
            "SNAT" => state::SNAT,
            "DNAT" => state::DNAT,
            _ => return Err(format!("{name} is no connection state")),
        };
        Ok(states | bit)
    })
}

/// Types of addresses, as RTN_* of linux/rtnetlink.h.
pub(super) fn address_types(text: &str) -> Result<Ranges, String> {
    let mut types = Vec::new();
    for name in text.split(',') {
        let number = match name.to_ascii_uppercase().as_str() {
            "UNSPEC" => 0,
            "UNICAST" => 1,
            "LOCAL" => 2,
            "BROADCAST" => 3,
            "ANYCAST" => 4,
            "MULTICAST" => 5,
            "BLACKHOLE" => 6,
            "UNREACHABLE" => 7,
            "PROHIBIT" => 8,
            "THROW" => 9,
            "NAT" => 10,
            "XRESOLVE" => 11,
            _ => return Err(format!("{name} is no type of address")),
        };
        types.push((number, number));
    }
    Ok(Ranges::any(types))
}

pub(super) fn flags(text: &str) -> Result<u128, String> {
    text.split(',').try_fold(0, |flags, name| {
        let bit = match name {
            "NONE" => 0,
            "ALL" => 0x3f,
            "FIN" => 0x01,
            "SYN" => 0x02,
            "RST" => 0x04,
            "PSH" => 0x08,
            "ACK" => 0x10,
            "URG" => 0x20,
            _ => return Err(format!("{name} is no TCP flag")),
        };
        Ok(flags | bit)
    })
}

/// The family of the first address in a rule, or of something that only one family has.
pub(super) fn family_of(line: &str) -> Option<Family> {
    if line.starts_with('#') {
        return None;
    }
    let mut words = line.split_ascii_whitespace();
    while let Some(word) = words.next() {
        if matches!(word, "-s" | "-d" | "--to-destination" | "--to-source" | "--src-range" | "--dst-range") {
            let value = words.next().unwrap_or("");
            let is_v6 = value.starts_with('[') || value.matches(':').count() > 1;
            let has_address = is_v6 || value.contains('.');
            return has_address.then_some(if is_v6 { Family::V6 } else { Family::V4 });
        }
        if matches!(word, "ipv6-icmp" | "icmp6" | "icmp6-port-unreachable" | "icmp6-adm-prohibited") {
            return Some(Family::V6);
        }
        if matches!(word, "icmp-port-unreachable" | "icmp-host-prohibited") {
            return Some(Family::V4);
        }
    }
    None
}

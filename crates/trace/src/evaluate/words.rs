//! What rules ask and do, in words.

use std::fmt::Write;

use portolan_service::Family;

use crate::ruleset::{Action, Field, Goal, Mark, Operand, Ranges, Set, SourceAddress, Table, state};
use crate::value::value_address;

/// A set, as rules name it.
pub(super) fn set(set: &Set) -> String {
    if set.name.is_empty() { "the rule's own set".to_owned() } else { format!("@{}", set.name) }
}

/// What an action does.
pub(super) fn action(action: &Action, table: &Table) -> String {
    match action {
        Action::Goal(to) => goal(*to, table),
        Action::Mark(mark) => marking("mark", *mark),
        Action::ConnectionMark(mark) => marking("connection mark", *mark),
        Action::ForgetMark => "mark becomes something that is not known".to_owned(),
        Action::ForgetConnectionMark => "connection mark becomes something that is not known".to_owned(),
        Action::SaveMark { .. } => "the connection takes the packet's mark".to_owned(),
        Action::RestoreMark { .. } => "the packet takes the connection's mark".to_owned(),
        Action::Source(SourceAddress::OfInterface) => "source becomes the node's address".to_owned(),
        Action::Source(SourceAddress::Named(_)) => "source is translated".to_owned(),
        Action::Untrack => "not tracked".to_owned(),
        Action::Lookup { .. } | Action::MarkBy { .. } | Action::Destination(_) | Action::Note => {
            String::new()
        }
        Action::Unknown(text) => text.to_string(),
    }
}

/// How a mark changes.
fn marking(name: &str, Mark { keep, flip }: Mark) -> String {
    match (keep, flip) {
        (0, flip) => format!("{name} becomes {flip:#x}"),
        (keep, 0) => format!("{name} loses the bits {:#x}", !keep),
        (u32::MAX, flip) => format!("{name}: bits {flip:#x} are flipped"),
        (keep, flip) if keep == !flip => format!("{name} gets the bits {flip:#x}"),
        (keep, flip) => format!("{name} becomes ({name} & {keep:#x}) ^ {flip:#x}"),
    }
}

/// Where a packet goes.
pub(super) fn goal(goal: Goal, table: &Table) -> String {
    let name = |chain: u32| table.chains.get(chain as usize).map_or("", |chain| &*chain.name);
    match goal {
        Goal::Accept => "accept".to_owned(),
        Goal::Drop => "drop".to_owned(),
        Goal::Reject => "reject".to_owned(),
        Goal::Return => "return".to_owned(),
        Goal::Continue => "continue".to_owned(),
        Goal::Jump(chain) => format!("jump to {}", name(chain)),
        Goal::Goto(chain) => format!("go to {}", name(chain)),
    }
}

/// One value of a field.
pub(super) fn written(operand: Operand, value: u128) -> String {
    match operand.field {
        Field::Source(family)
        | Field::Destination(family)
        | Field::OriginalSource(family)
        | Field::OriginalDestination(family)
        | Field::ReplySource(family) => value_address(value, family).to_string(),
        Field::Protocol => match value {
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            132 => "sctp".to_owned(),
            number => number.to_string(),
        },
        Field::InInterface | Field::OutInterface => {
            let bytes = value.to_be_bytes();
            let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            if name.is_empty() { "none".to_owned() } else { String::from_utf8_lossy(name).into_owned() }
        }
        Field::Mark | Field::ConnectionMark | Field::TcpFlags => format!("{value:#x}"),
        Field::State => states(value),
        Field::Status if value == 0 => "untranslated".to_owned(),
        Field::Status => match value {
            16 => "snat".to_owned(),
            32 => "dnat".to_owned(),
            48 => "snat,dnat".to_owned(),
            bits => format!("{bits:#x}"),
        },
        Field::SourceType | Field::DestinationType => match value {
            1 => "unicast".to_owned(),
            2 => "local".to_owned(),
            3 => "broadcast".to_owned(),
            5 => "multicast".to_owned(),
            number => number.to_string(),
        },
        Field::Direction => if value == 0 { "original" } else { "reply" }.to_owned(),
        Field::NetworkProtocol => if value == 2 { "IPv4" } else { "IPv6" }.to_owned(),
        Field::SourcePort
        | Field::DestinationPort
        | Field::OriginalSourcePort
        | Field::OriginalDestinationPort
        | Field::ReplySourcePort
        | Field::Random { .. } => value.to_string(),
    }
}

/// What a field is compared with.
pub(super) fn expected(operand: Operand, ranges: &Ranges) -> String {
    if *ranges == Ranges::nonzero() {
        return match operand.field {
            Field::State => states(operand.mask),
            Field::Status => written(operand, operand.mask),
            _ => format!("non-zero within {:#x}", operand.mask),
        };
    }
    let ranges = match ranges {
        Ranges::One(low, high) => &[(*low, *high)][..],
        Ranges::Many(ranges) => ranges,
    };
    let mut text = String::new();
    for (low, high) in ranges.iter().take(4) {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&span(operand, *low, *high));
    }
    if ranges.len() > 4 {
        let _ = write!(text, " or {} others", ranges.len() - 4);
    }
    text
}

fn span(operand: Operand, low: u128, high: u128) -> String {
    let family = match operand.field {
        Field::Source(family)
        | Field::Destination(family)
        | Field::OriginalSource(family)
        | Field::OriginalDestination(family)
        | Field::ReplySource(family) => Some(family),
        _ => None,
    };
    let interface = matches!(operand.field, Field::InInterface | Field::OutInterface);
    if interface && operand.mask != u128::MAX {
        return format!("{}+", written(operand, low));
    }
    if low == high {
        return match mask(operand) {
            Some(mask) => format!("{}/{mask}", written(operand, low)),
            None => written(operand, low),
        };
    }
    // All names that begin so.
    if interface {
        return format!("{}*", written(operand, low));
    }
    let network = family.and_then(|family| {
        let size = (high - low).checked_add(1)?;
        let bits = match family {
            Family::V4 => 32,
            Family::V6 => 128,
        };
        (size.is_power_of_two() && low.is_multiple_of(size))
            .then(|| format!("{}/{}", written(operand, low), bits - size.trailing_zeros()))
    });
    network.unwrap_or_else(|| format!("{}-{}", written(operand, low), written(operand, high)))
}

/// The bits of an address or a mark that are compared, if not all are.
fn mask(operand: Operand) -> Option<String> {
    match operand.field {
        Field::Source(family)
        | Field::Destination(family)
        | Field::OriginalSource(family)
        | Field::OriginalDestination(family)
        | Field::ReplySource(family) => {
            let all = match family {
                Family::V4 => u128::from(u32::MAX),
                Family::V6 => u128::MAX,
            };
            (operand.mask & all != all).then(|| value_address(operand.mask, family).to_string())
        }
        Field::Mark | Field::ConnectionMark => {
            let all = u128::from(u32::MAX);
            (operand.mask & all != all).then(|| format!("{:#x}", operand.mask))
        }
        _ => None,
    }
}

fn states(bits: u128) -> String {
    const NAMES: [(u128, &str); 7] = [
        (state::INVALID, "invalid"),
        (state::NEW, "new"),
        (state::ESTABLISHED, "established"),
        (state::RELATED, "related"),
        (state::UNTRACKED, "untracked"),
        (state::SNAT, "translated source"),
        (state::DNAT, "translated destination"),
    ];
    let names: Vec<&str> = NAMES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::interface_value;

    #[test]
    fn names_that_begin_alike_read_as_written() {
        let operand = Operand { field: Field::OutInterface, mask: u128::MAX };
        let first = interface_value("veth");
        let rest = u128::MAX >> 32;
        assert_eq!(span(operand, first, first | rest), "veth*");
        assert_eq!(span(operand, first, first), "veth");
    }
}

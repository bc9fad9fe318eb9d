//! What rules ask and do, in words.

use std::fmt::Write;

use portolan_service::Family;

use super::flight::{Flight, Place};
use super::test::Value;
use super::{Walk, value_address};
use crate::ruleset::{Action, Field, Goal, Mark, Operand, Ranges, Set, SourceAddress, Table, Test, state};

impl Walk<'_> {
    /// Why `test` held or failed for `flight`.
    pub(super) fn why(
        &self,
        flight: &Flight,
        place: Place,
        table: &Table,
        test: &Test,
        held: bool,
    ) -> String {
        match test {
            Test::Compare { operand, ranges, negate } => {
                let among = held != *negate;
                let is = if among { "is" } else { "is not" };
                let expected = expected(*operand, ranges);
                match self.value(flight, place.hook, *operand) {
                    Value::Known(value) => {
                        let actual = written(*operand, self.whole(flight, place, *operand).unwrap_or(value));
                        // Of a masked value, nothing may be left.
                        if among && actual == expected || actual.is_empty() {
                            return format!("{} {is} {expected}", operand.field);
                        }
                        let within =
                            if ranges.only().is_some() || *ranges == Ranges::nonzero() { "" } else { "in " };
                        format!("{} {actual} {is} {within}{expected}", operand.field)
                    }
                    Value::Absent => format!("the packet has no {}", operand.field),
                    Value::Unknown(_) => format!("assuming that {} {is} {expected}", operand.field),
                }
            }
            Test::Lookup { key, set, negate } => {
                self.why_lookup(flight, place, table, key, *set, held != *negate)
            }
            Test::Any(tests) => {
                let each: Vec<String> =
                    tests.iter().map(|test| self.why(flight, place, table, test, held)).collect();
                each.join(if held { " or " } else { " and " })
            }
            Test::Chance(chance) => {
                if held {
                    format!("drawn, with probability {chance}")
                } else {
                    format!("not drawn, with probability {}", chance.complement())
                }
            }
            Test::Remembered { list, negate, .. } => {
                let seen = if held == *negate { "was not seen" } else { "was seen" };
                format!("assuming that the client {seen} in list {list}")
            }
            Test::Never => "no packet is a fragment here".to_owned(),
            Test::Unknown(text) => {
                format!("assuming that `{text}` {}", if held { "holds" } else { "does not hold" })
            }
        }
    }

    /// All of a value of which a rule compares some bits: a name or an address that is cut reads as another. Of sets of
    /// states, only those that are compared matter.
    fn whole(&self, flight: &Flight, place: Place, operand: Operand) -> Option<u128> {
        if matches!(operand.field, Field::State | Field::Status | Field::TcpFlags) {
            return None;
        }
        match self.value(flight, place.hook, Operand { mask: u128::MAX, ..operand }) {
            Value::Known(value) => Some(value),
            Value::Absent | Value::Unknown(_) => None,
        }
    }

    pub(super) fn why_lookup(
        &self,
        flight: &Flight,
        place: Place,
        table: &Table,
        key: &[Operand],
        number: u32,
        among: bool,
    ) -> String {
        let mut text = String::new();
        for operand in key {
            if !text.is_empty() {
                text.push_str(" . ");
            }
            match (operand.field, self.value(flight, place.hook, *operand)) {
                (Field::Random { modulus, .. }, _) => {
                    let _ = write!(text, "one of {modulus}, drawn");
                }
                (_, Value::Known(value)) => {
                    let value = self.whole(flight, place, *operand).unwrap_or(value);
                    text.push_str(&written(*operand, value));
                }
                (field, Value::Absent | Value::Unknown(_)) => {
                    let _ = write!(text, "{field}");
                }
            }
        }
        let set = table.sets.get(number as usize).map_or_else(String::new, set);
        if let ([Operand { field: Field::Random { modulus, .. }, .. }], true) = (key, among) {
            return format!("one of {modulus} is drawn");
        }
        if let [operand] = key
            && !matches!(operand.field, Field::Random { .. })
        {
            text = format!("{} {text}", operand.field);
        }
        format!("{text} is {}in {set}", if among { "" } else { "not " })
    }
}

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
        Action::Lookup { .. } | Action::Destination(_) | Action::Note => String::new(),
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
fn written(operand: Operand, value: u128) -> String {
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
    use crate::evaluate::interface_value;

    #[test]
    fn names_that_begin_alike_read_as_written() {
        let operand = Operand { field: Field::OutInterface, mask: u128::MAX };
        let first = interface_value("veth");
        let rest = u128::MAX >> 32;
        assert_eq!(span(operand, first, first | rest), "veth*");
        assert_eq!(span(operand, first, first), "veth");
    }
}

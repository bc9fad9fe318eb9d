//! Why a test held or failed, in words.

use std::fmt::Write;

use super::Walk;
use super::field::Value;
use super::flight::{Flight, Place};
use super::words::{expected, set, written};
use crate::ruleset::{Field, Operand, Ranges, Table, Test};

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

    /// The whole value where a rule compares some bits: a name or an address that is cut reads like
    /// another. For sets of states, only the bits that are compared matter.
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

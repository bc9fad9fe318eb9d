//! Which rules of a chain can match a packet at all.

use std::collections::HashMap;

use super::test::{Field, Ranges, Test};
use super::{Part, Rule};

/// The rules of long chains, by the one destination address, or else the one destination port, that
/// they ask for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    by_address: HashMap<u128, Vec<u32>>,
    by_port: HashMap<u16, Vec<u32>>,
    others: Vec<u32>,
    /// Short chains are walked.
    walked: bool,
}

/// From how many rules on an index is worth its memory.
const LONG: usize = 24;

impl Index {
    pub(crate) fn of(rules: &[Rule]) -> Index {
        let mut index = Index { walked: rules.len() < LONG, ..Index::default() };
        if index.walked {
            return index;
        }
        for (number, rule) in (0..).zip(rules) {
            let mut port = None;
            let mut address = None;
            let tests = rule.parts.iter().map_while(|part| match part {
                Part::Test(test) => Some(test),
                Part::Action(_) => None,
            });
            for test in tests {
                let Test::Compare { operand, ranges, negate: false } = test else { continue };
                let Some(only) = test_only(ranges, operand.mask) else { continue };
                match operand.field {
                    Field::Destination(_) => address = address.or(Some(only)),
                    Field::DestinationPort => port = port.or(u16::try_from(only).ok()),
                    _ => {}
                }
            }
            match (address, port) {
                (Some(address), _) => index.by_address.entry(address).or_default().push(number),
                (None, Some(port)) => index.by_port.entry(port).or_default().push(number),
                (None, None) => index.others.push(number),
            }
        }
        index
    }

    /// The first rule from `from` on that can match a packet to `address`, if that is known, and
    /// `port`. `None` if there is none among `len`.
    pub(crate) fn next(&self, from: u32, len: usize, address: Option<u128>, port: u16) -> Option<u32> {
        let Some(address) = address.filter(|_| !self.walked) else {
            return (usize::try_from(from).is_ok_and(|from| from < len)).then_some(from);
        };
        let first = |rules: Option<&Vec<u32>>| {
            let rules = rules?;
            rules.get(rules.partition_point(|rule| *rule < from)).copied()
        };
        [first(self.by_address.get(&address)), first(self.by_port.get(&port)), first(Some(&self.others))]
            .into_iter()
            .flatten()
            .min()
    }
}

pub(crate) fn test_only(ranges: &Ranges, mask: u128) -> Option<u128> {
    if mask == u128::MAX { ranges.only() } else { None }
}

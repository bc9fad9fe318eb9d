//! Whether a test holds.

use super::flight::{Flight, Frame, Place};
use super::{ConditionKey, Walk, address_value, value_address};
use crate::packet::State;
use crate::probability::Probability;
use crate::ruleset::{Data, Field, Hook, Operand, Table, Test, state};
use portolan_service::{Family, Protocol};

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Known(u128),
    /// The packet has no such field.
    Absent,
    /// It has one, and it is not known.
    Unknown,
}

/// Whether a test holds.
pub(super) enum Truth {
    Holds,
    Fails,
    /// As often as this.
    Chance(Probability),
    /// If the condition does; if `negate`, if it does not.
    Depends {
        condition: u32,
        negate: bool,
    },
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Truth {
        if holds { Truth::Holds } else { Truth::Fails }
    }
}

/// What was found in a map.
pub(super) enum Found<'a> {
    /// Each possibility and how likely it is; one, unless the key was drawn.
    Drawn(Vec<(Probability, Option<&'a Data>)>),
    /// This, if the client is still remembered.
    Remembered { condition: u32, data: &'a Data },
    /// Something in the key is not known; nothing is found if the condition fails.
    Depends { condition: u32 },
}

/// From how many numbers is drawn, at most.
const MOST_DRAWN: u32 = 1 << 16;

impl Walk<'_> {
    pub(super) fn value(&self, flight: &Flight, hook: Hook, operand: Operand) -> Value {
        let known = |value: u128| Value::Known(value & operand.mask);
        let of_family =
            |family: Family, value: u128| if family == self.family { known(value) } else { Value::Absent };
        let connection = !flight.untracked && flight.tracked && self.packet.state != State::Invalid;
        let of_connection = |value: Value| if connection { value } else { Value::Absent };
        let bits = |bits: Option<u32>| bits.map_or(Value::Unknown, |bits| known(bits.into()));
        match operand.field {
            Field::Source(family) => of_family(family, flight.source),
            Field::Destination(family) => of_family(family, flight.destination),
            Field::Protocol => known(self.packet.protocol.number().into()),
            Field::SourcePort => known(flight.source_port.into()),
            Field::DestinationPort => known(flight.destination_port.into()),
            Field::NetworkProtocol => known(match self.family {
                Family::V4 => 2,
                Family::V6 => 10,
            }),
            Field::InInterface => {
                flight.in_interface.as_ref().map_or(Value::Unknown, |(interface, _)| known(*interface))
            }
            Field::OutInterface if matches!(hook, Hook::Prerouting | Hook::Input) => known(0),
            Field::OutInterface => {
                flight.out_interface.as_ref().map_or(Value::Unknown, |(interface, _)| known(*interface))
            }
            Field::Mark => bits(flight.mark),
            Field::ConnectionMark => of_connection(bits(flight.connection_mark)),
            Field::State => known(self.state(flight)),
            Field::Status => of_connection(self.status(flight, operand.mask)),
            Field::Direction => of_connection(known(0)),
            Field::OriginalSource(family) => {
                of_connection(of_family(family, address_value(self.packet.source.ip())))
            }
            Field::OriginalDestination(family) => {
                of_connection(of_family(family, address_value(self.packet.destination.ip())))
            }
            Field::OriginalSourcePort => of_connection(known(self.packet.source.port().into())),
            Field::OriginalDestinationPort => of_connection(known(self.packet.destination.port().into())),
            Field::ReplySource(family) => of_connection(of_family(family, flight.destination)),
            Field::ReplySourcePort => of_connection(known(flight.destination_port.into())),
            Field::SourceType => {
                known(self.node.address_type(value_address(flight.source, self.family)).into())
            }
            Field::DestinationType => {
                known(self.node.address_type(value_address(flight.destination, self.family)).into())
            }
            Field::TcpFlags if self.packet.protocol != Protocol::Tcp => Value::Absent,
            Field::TcpFlags if self.is_new() => known(0x02),
            Field::TcpFlags | Field::Random { .. } => Value::Unknown,
        }
    }

    fn state(&self, flight: &Flight) -> u128 {
        if flight.untracked {
            return state::UNTRACKED;
        }
        let state = match self.packet.state {
            _ if !flight.tracked => return state::INVALID,
            State::Invalid => return state::INVALID,
            State::New => state::NEW,
            State::Established => state::ESTABLISHED,
            State::Related => state::RELATED,
        };
        let snat = if flight.changed.source { state::SNAT } else { 0 };
        let dnat = if flight.changed.destination { state::DNAT } else { 0 };
        state | snat | dnat
    }

    /// IPS_SRC_NAT and IPS_DST_NAT are all that is known of connections that have begun.
    fn status(&self, flight: &Flight, mask: u128) -> Value {
        const SNAT: u128 = 1 << 4;
        const DNAT: u128 = 1 << 5;
        if !self.is_new() && mask & !DNAT != 0 {
            return Value::Unknown;
        }
        let snat = if flight.changed.source { SNAT } else { 0 };
        let dnat = if flight.changed.destination { DNAT } else { 0 };
        Value::Known((snat | dnat) & mask)
    }

    pub(super) fn truth(&mut self, flight: &Flight, place: Place, table: &Table, test: &Test) -> Truth {
        match test {
            Test::Compare {
                operand: Operand { field: Field::Random { modulus, offset }, mask: u128::MAX },
                ranges,
                negate,
            } => {
                let last = offset.saturating_add(modulus.saturating_sub(1));
                let among = Probability::ratio(ranges.count_within(*offset, last), u64::from(*modulus));
                Truth::Chance(if *negate { among.complement() } else { among })
            }
            Test::Compare { operand, ranges, negate } => match self.value(flight, place.hook, *operand) {
                Value::Known(value) => (ranges.contains(value) != *negate).into(),
                Value::Absent => Truth::Fails,
                Value::Unknown => self.depends(flight, place, table, test),
            },
            Test::Lookup { key, set, negate } => {
                let Some(frame) = flight.stack.last().copied() else { return Truth::Fails };
                let place = Place { chain: frame.chain, ..place };
                match self.lookup(flight, place, frame, table, key, *set) {
                    Found::Drawn(found) => {
                        let among = found
                            .iter()
                            .filter(|(_, data)| data.is_some())
                            .fold(Probability::zero(), |sum, (probability, _)| sum.or(probability));
                        // A field that is absent fails both.
                        if found.is_empty() {
                            return Truth::Fails;
                        }
                        Truth::Chance(if *negate { among.complement() } else { among })
                    }
                    Found::Remembered { condition, .. } | Found::Depends { condition } => {
                        Truth::Depends { condition, negate: *negate }
                    }
                }
            }
            Test::Any(tests) => {
                let mut open = None;
                for test in tests {
                    match self.truth(flight, place, table, test) {
                        Truth::Holds => return Truth::Holds,
                        Truth::Fails => {}
                        truth @ (Truth::Chance(_) | Truth::Depends { .. }) => open = Some(truth),
                    }
                }
                open.unwrap_or(Truth::Fails)
            }
            Test::Chance(chance) => Truth::Chance((**chance).clone()),
            Test::Remembered { list, seconds, negate } => {
                let (rule, place) = asking(flight, place);
                let condition =
                    self.condition(ConditionKey::List(list.clone()), place, rule, || match seconds {
                        Some(seconds) => {
                            format!("the client was seen in list {list} in the last {seconds} s")
                        }
                        None => format!("the client was seen in list {list}"),
                    });
                Truth::Depends { condition, negate: *negate }
            }
            Test::Never => Truth::Fails,
            Test::Unknown(_) => self.depends(flight, place, table, test),
        }
    }

    /// The test at hand as a condition of its own.
    fn depends(&mut self, flight: &Flight, place: Place, table: &Table, test: &Test) -> Truth {
        let Some(frame) = flight.stack.last().copied() else { return Truth::Fails };
        let (rule, place) = asking(flight, place);
        let key = ConditionKey::Rule { table: place.table, chain: frame.chain, rule, part: frame.part };
        let condition = self.condition(key, place, rule, || super::words::condition(test, table));
        Truth::Depends { condition, negate: false }
    }

    /// What set or map `number` holds for the packet. No possibilities at all if the packet lacks a field of the key.
    pub(super) fn lookup<'a>(
        &mut self,
        flight: &Flight,
        place: Place,
        frame: Frame,
        table: &'a Table,
        key: &[Operand],
        number: u32,
    ) -> Found<'a> {
        let set = &table.sets[number as usize];
        let mut values = Vec::with_capacity(key.len());
        let mut drawn: Option<(usize, u32, u32)> = None;
        let mut unknown = false;
        for (place_in_key, operand) in key.iter().enumerate() {
            if let Field::Random { modulus, offset } = operand.field {
                unknown |= drawn.is_some() || modulus > MOST_DRAWN || modulus == 0;
                drawn = Some((place_in_key, modulus, offset));
                values.push(u128::from(offset));
                continue;
            }
            match self.value(flight, place.hook, *operand) {
                Value::Known(value) => values.push(value),
                Value::Absent => return Found::Drawn(Vec::new()),
                Value::Unknown => {
                    unknown = true;
                    values.push(0);
                }
            }
        }
        if unknown {
            let key = ConditionKey::Rule {
                table: place.table,
                chain: frame.chain,
                rule: frame.rule,
                part: frame.part,
            };
            let condition = self
                .condition(key, place, frame.rule, || format!("the packet is in {}", super::words::set(set)));
            return Found::Depends { condition };
        }
        let Some((drawn_at, modulus, offset)) = drawn else {
            let data = set.get(&values);
            return match data {
                Some(data) if set.learns => {
                    let key = ConditionKey::Element {
                        table: place.table,
                        set: number,
                        key: values.into_boxed_slice(),
                    };
                    let condition = self.condition(key, place, frame.rule, || {
                        format!("the entry in {} has not expired", super::words::set(set))
                    });
                    Found::Remembered { condition, data }
                }
                data => Found::Drawn(vec![(Probability::one(), data)]),
            };
        };
        let each = Probability::ratio(1, u64::from(modulus));
        let mut missed: u32 = 0;
        let mut found = Vec::with_capacity(modulus as usize);
        for number in 0..modulus {
            values[drawn_at] = u128::from(offset) + u128::from(number);
            match set.get(&values) {
                Some(data) => found.push((each.clone(), Some(data))),
                None => missed += 1,
            }
        }
        if missed > 0 {
            found.push((Probability::ratio(u64::from(missed), u64::from(modulus)), None));
        }
        Found::Drawn(found)
    }
}

/// The rule that asks, and where it stands.
fn asking(flight: &Flight, place: Place) -> (u32, Place) {
    match flight.stack.last() {
        Some(frame) => (frame.rule, Place { chain: frame.chain, ..place }),
        None => (0, place),
    }
}

//! Whether a test holds.

use super::chain::part_at;
use super::fact::{self, Cube, Fact, KeyPart, Unknown};
use super::flight::{Flight, Frame, Place};
use super::{Asking, Kept, Walk, address_value, value_address};
use crate::packet::State;
use crate::probability::Probability;
use crate::ruleset::{Data, Field, Hook, Operand, Ranges, Set, Table, Test, state};
use portolan_service::{Family, Protocol};

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Known(u128),
    /// The packet has no such field.
    Absent,
    /// It has one, and some of it is not known.
    Unknown(Unknown),
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
    /// Something in the key is not known: whether anything is found is for this to say, and what is not known.
    Unknown(Truth),
}

/// RTN_LOCAL of linux/rtnetlink.h.
const LOCAL: u8 = 2;

/// From how many numbers is drawn, at most.
const MOST_DRAWN: u32 = 1 << 16;

impl Walk<'_> {
    pub(super) fn value(&self, flight: &Flight, hook: Hook, operand: Operand) -> Value {
        let known = |value: u128| Value::Known(value & operand.mask);
        let of_family =
            |family: Family, value: u128| if family == self.family { known(value) } else { Value::Absent };
        let connection = !flight.untracked && flight.tracked && self.packet.state != State::Invalid;
        let of_connection = |value: Value| if connection { value } else { Value::Absent };
        let bits = |bits: fact::Bits| match bits.within(operand.mask) {
            Ok(value) => Value::Known(value),
            Err(unknown) => Value::Unknown(unknown),
        };
        let unknown = |fact: u32| Value::Unknown(Unknown { fact, bits: operand.mask, with: 0 });
        let common = |of: &Fact| unknown(fact::number(of));
        let own_address = flight.at_own_address;
        match operand.field {
            Field::Source(family) => of_family(family, flight.source),
            Field::Destination(family) if own_address && family == self.family => common(&Fact::OwnAddress),
            Field::Destination(family) => of_family(family, flight.destination),
            Field::Protocol => known(self.packet.protocol.number().into()),
            Field::SourcePort => known(flight.source_port.into()),
            Field::DestinationPort => known(flight.destination_port.into()),
            Field::NetworkProtocol => known(match self.family {
                Family::V4 => 2,
                Family::V6 => 10,
            }),
            Field::InInterface => {
                flight.in_interface.as_ref().map_or_else(|| common(&Fact::InInterface), |(it, _)| known(*it))
            }
            Field::OutInterface if matches!(hook, Hook::Prerouting | Hook::Input) => known(0),
            Field::OutInterface => {
                flight.out_interface.as_ref().map_or_else(|| unknown(flight.out_fact), |(it, _)| known(*it))
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
            Field::ReplySource(family) if own_address && family == self.family => {
                of_connection(common(&Fact::OwnAddress))
            }
            Field::ReplySource(family) => of_connection(of_family(family, flight.destination)),
            Field::ReplySourcePort => of_connection(known(flight.destination_port.into())),
            Field::SourceType => {
                known(self.node.address_type(value_address(flight.source, self.family)).into())
            }
            Field::DestinationType if own_address => known(LOCAL.into()),
            Field::DestinationType => {
                known(self.node.address_type(value_address(flight.destination, self.family)).into())
            }
            Field::TcpFlags if self.packet.protocol != Protocol::Tcp => Value::Absent,
            Field::TcpFlags if self.is_new() => known(0x02),
            // What is drawn is looked at where it is asked for.
            Field::TcpFlags | Field::Random { .. } => common(&Fact::TcpFlags),
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
        let snat = if flight.changed.source { SNAT } else { 0 };
        let dnat = if flight.changed.destination { DNAT } else { 0 };
        if !self.is_new() && mask & !DNAT != 0 {
            let status = fact::number(&Fact::Status);
            return Value::Unknown(Unknown { fact: status, bits: mask & !DNAT, with: dnat & mask });
        }
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
                Value::Unknown(unknown) => self.is_among(flight, place, unknown, ranges, *negate, |walk| {
                    walk.about(flight, *operand, ranges)
                }),
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
                    Found::Remembered { condition, .. } => match flight.assumed(condition) {
                        Some(remembered) => (remembered != *negate).into(),
                        None => Truth::Depends { condition, negate: *negate },
                    },
                    Found::Unknown(truth) => truth.negated_if(*negate),
                }
            }
            Test::Any(tests) => {
                let mut open = Truth::Fails;
                for test in tests {
                    match (self.truth(flight, place, table, test), &open) {
                        (Truth::Holds, _) => return Truth::Holds,
                        (Truth::Chance(chance), _) if chance.is_one() => return Truth::Holds,
                        (Truth::Chance(chance), _) if chance.is_zero() => {}
                        // The first that is open is decided first; the others are asked again then.
                        (truth, Truth::Fails) => open = truth,
                        _ => {}
                    }
                }
                open
            }
            Test::Chance(chance) => Truth::Chance((**chance).clone()),
            Test::Remembered { list, seconds, negate } => {
                // Never seen is longer ago than any time.
                let ago = Ranges::One(0, seconds.map_or(u128::MAX - 1, u128::from));
                let seen = Unknown { fact: self.fact(Fact::Seen(list.clone())), bits: u128::MAX, with: 0 };
                let text = |_: &Self| match seconds {
                    Some(seconds) => format!("the client was seen in list {list} in the last {seconds} s"),
                    None => format!("the client was seen in list {list}"),
                };
                self.is_among_of(flight, place, seen, &ago, *negate, Kept::InList, text)
            }
            Test::Never => Truth::Fails,
            Test::Unknown(text) => {
                let (text, negate) = fact::positive(text);
                let fact = if fact::is_fickle(&text) {
                    let Some(frame) = flight.stack.last() else { return Truth::Fails };
                    Fact::Rule(part_at(place, *frame))
                } else {
                    Fact::Holds { text: text.as_str().into(), of: flight.ends().asked_by(&text) }
                };
                let of = match &fact {
                    Fact::Holds { of, .. } if flight.translated && of.destination.0.is_some() => {
                        format!(" for packets to {}", flight.destination_and_port(self.family))
                    }
                    _ => String::new(),
                };
                let fact = self.fact(fact);
                let told = || format!("`{text}` holds{of}");
                self.depends(flight, place, fact, &[fact::HOLDS], Kept::Nowhere, told).negated_if(negate)
            }
        }
    }

    /// Whether a value of which something is not known is among `ranges`, or if `negate`, is not; `about` says what that means.
    fn is_among(
        &mut self,
        flight: &Flight,
        place: Place,
        unknown: Unknown,
        ranges: &Ranges,
        negate: bool,
        about: impl FnOnce(&Self) -> String,
    ) -> Truth {
        self.is_among_of(flight, place, unknown, ranges, negate, Kept::Nowhere, about)
    }

    #[expect(clippy::too_many_arguments, reason = "what is asked, of what, and how it is told")]
    fn is_among_of(
        &mut self,
        flight: &Flight,
        place: Place,
        unknown: Unknown,
        ranges: &Ranges,
        negate: bool,
        kept: Kept,
        about: impl FnOnce(&Self) -> String,
    ) -> Truth {
        let text = about(self);
        let (fact, among) = if let Some(among) = fact::asked(unknown, ranges) {
            (unknown.fact, among)
        } else {
            let Some(frame) = flight.stack.last() else { return Truth::Fails };
            (self.fact(Fact::Rule(part_at(place, *frame))), [fact::HOLDS].into())
        };
        self.depends(flight, place, fact, &among, kept, || text).negated_if(negate)
    }

    /// What it means that the value of `operand`, which is not known, is among `ranges`.
    fn about(&self, flight: &Flight, operand: Operand, ranges: &Ranges) -> String {
        let to = if operand.field == Field::OutInterface && flight.translated && !flight.at_own_address {
            format!(" to {}", flight.destination(self.family))
        } else {
            String::new()
        };
        format!("{}{to} is {}", operand.field, super::words::expected(operand, ranges))
    }

    /// Whether `fact` is among `among`: as was assumed, or else open.
    fn depends(
        &mut self,
        flight: &Flight,
        place: Place,
        fact: u32,
        among: &[Cube],
        kept: Kept,
        text: impl FnOnce() -> String,
    ) -> Truth {
        if let Some(holds) = flight.knowledge.decides(fact, among) {
            return holds.into();
        }
        let Some(frame) = flight.stack.last() else { return Truth::Fails };
        let asking = Asking { table: place.table, chain: frame.chain, rule: frame.rule };
        let condition = self.condition(fact, among, kept, asking, text);
        match flight.assumed(condition) {
            Some(holds) => holds.into(),
            None => Truth::Depends { condition, negate: false },
        }
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
        let mut too_much = false;
        let mut parts = Vec::with_capacity(key.len());
        for (place_in_key, operand) in key.iter().enumerate() {
            if let Field::Random { modulus, offset } = operand.field {
                too_much |= drawn.is_some() || modulus > MOST_DRAWN || modulus == 0;
                drawn = Some((place_in_key, modulus, offset));
                values.push(u128::from(offset));
                continue;
            }
            match self.value(flight, place.hook, *operand) {
                Value::Known(value) => {
                    values.push(value);
                    parts.push(KeyPart::Known(value));
                }
                Value::Absent => return Found::Drawn(Vec::new()),
                Value::Unknown(unknown) => parts.push(KeyPart::Unknown(unknown)),
            }
        }
        let unknown = parts.iter().any(|part| matches!(part, KeyPart::Unknown(_)));
        if unknown || too_much {
            // What is drawn is another each time.
            let fact = if drawn.is_some() {
                Fact::Rule(part_at(place, frame))
            } else {
                Fact::InSet { table: place.table, set: number, key: parts.as_slice().into() }
            };
            return Found::Unknown(self.unknown_key(flight, place, key, set, &parts, fact));
        }
        let Some((drawn_at, modulus, offset)) = drawn else {
            let data = set.get(&values);
            return match data {
                // Session affinity. What others keep in sets for a time is there as long as the listing says so.
                Some(data) if set.learns && table.is_proxys(&table.chains[frame.chain as usize]) => {
                    let entry = Fact::Entry { table: place.table, set: number, key: values.into() };
                    let entry = self.fact(entry);
                    let asking = Asking { table: place.table, chain: frame.chain, rule: frame.rule };
                    let text = || format!("the entry in {} has not expired", super::words::set(set));
                    let condition = self.condition(entry, &[fact::HOLDS], Kept::InSet, asking, text);
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

    /// Whether `set` has an element for a key of which something is not known.
    fn unknown_key(
        &mut self,
        flight: &Flight,
        place: Place,
        key: &[Operand],
        set: &Set,
        parts: &[KeyPart],
        fact: Fact,
    ) -> Truth {
        let name = super::words::set(set);
        // Of a single value, the elements say which.
        if let ([operand], [KeyPart::Unknown(unknown)], Some(keys)) = (key, parts, set.single_keys()) {
            let text = |walk: &Self| match &*set.name {
                "" => walk.about(flight, *operand, &Ranges::any(keys.clone())),
                _ => format!("{} is in {name}", operand.field),
            };
            return self.is_among(flight, place, *unknown, &Ranges::any(keys.clone()), false, text);
        }
        let fact = self.fact(fact);
        let text = || format!("the packet is in {name}");
        self.depends(flight, place, fact, &[fact::HOLDS], Kept::Nowhere, text)
    }
}

impl Truth {
    /// The contrary, if `negate`.
    fn negated_if(self, negate: bool) -> Truth {
        match self {
            truth if !negate => truth,
            Truth::Holds => Truth::Fails,
            Truth::Fails => Truth::Holds,
            Truth::Chance(chance) => Truth::Chance(chance.complement()),
            Truth::Depends { condition, negate } => Truth::Depends { condition, negate: !negate },
        }
    }
}

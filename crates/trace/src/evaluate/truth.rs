//! Whether a test holds.

use super::fact::{self, Cube, Fact, KeyPart, Unknown};
use super::field::Value;
use super::flight::{Flight, Frame, Place, part_at};
use super::{Asking, Kept, Walk, words};
use crate::probability::Probability;
use crate::ruleset::{Data, Field, Operand, Ranges, Set, Table, Test};

/// Whether a test holds.
pub(super) enum Truth {
    Holds,
    Fails,
    /// As often as this: sometimes, and not always.
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

impl From<Probability> for Truth {
    fn from(chance: Probability) -> Truth {
        if chance.is_one() {
            Truth::Holds
        } else if chance.is_zero() {
            Truth::Fails
        } else {
            Truth::Chance(chance)
        }
    }
}

/// What was found in a set or map.
pub(super) enum Found<'a> {
    /// The packet lacks a field of the key.
    NoKey,
    /// This, or nothing.
    Element(Option<&'a Data>),
    /// A part of the key was drawn: each possibility and how likely it is.
    Drawn(Vec<(Probability, Option<&'a Data>)>),
    /// This, if the client is still remembered.
    Remembered { condition: u32, data: &'a Data },
    /// Something in the key is not known. The truth says whether anything is found; what is found
    /// is not known.
    Unknown(Truth),
}

/// From how many numbers is drawn, at most.
const MOST_DRAWN: u32 = 1 << 16;

impl Walk<'_> {
    pub(super) fn truth(&mut self, flight: &Flight, place: Place, table: &Table, test: &Test) -> Truth {
        match test {
            Test::Compare {
                operand: Operand { field: Field::Random { modulus, offset }, mask: u128::MAX },
                ranges,
                negate,
            } => {
                let last = offset.saturating_add(modulus.saturating_sub(1));
                let among = Probability::ratio(ranges.count_within(*offset, last), u64::from(*modulus));
                Truth::from(among).negated_if(*negate)
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
                    // A look-up and its contrary fail both.
                    Found::NoKey => Truth::Fails,
                    Found::Element(found) => (found.is_some() != *negate).into(),
                    Found::Drawn(found) => {
                        let among = found
                            .iter()
                            .filter(|(_, data)| data.is_some())
                            .fold(Probability::zero(), |sum, (probability, _)| sum.or(probability));
                        Truth::from(among).negated_if(*negate)
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
                        (Truth::Fails, _) => {}
                        // The first that is open is decided first; the others are asked again then.
                        (truth, Truth::Fails) => open = truth,
                        _ => {}
                    }
                }
                open
            }
            Test::Chance(chance) => (**chance).clone().into(),
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
            Test::Unknown(text) => self.unknown_test(flight, place, text),
        }
    }

    /// Whether a test holds that is not evaluated. Tests with the same words get the same answer,
    /// for the same packet.
    fn unknown_test(&mut self, flight: &Flight, place: Place, text: &str) -> Truth {
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
        let condition = || format!("`{text}` holds{of}");
        self.depends(flight, place, fact, &[fact::HOLDS], Kept::Nowhere, condition).negated_if(negate)
    }

    /// Whether a value that is partly unknown is among `ranges`, or with `negate`, is not. `about`
    /// puts that in words.
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

    #[expect(clippy::too_many_arguments, reason = "what is asked, of what, and how it is shown")]
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
        format!("{}{to} is {}", operand.field, words::expected(operand, ranges))
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

    /// What set or map `number` holds for the packet.
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
                Value::Absent => return Found::NoKey,
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
                // Session affinity. Entries that other programs keep for a time are there as long
                // as the listing says so.
                Some(data) if set.learns && table.is_proxys(&table.chains[frame.chain as usize]) => {
                    let entry = Fact::Entry { table: place.table, set: number, key: values.into() };
                    let entry = self.fact(entry);
                    let asking = Asking { table: place.table, chain: frame.chain, rule: frame.rule };
                    let text = || format!("the entry in {} has not expired", words::set(set));
                    let condition = self.condition(entry, &[fact::HOLDS], Kept::InSet, asking, text);
                    Found::Remembered { condition, data }
                }
                data => Found::Element(data),
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
        let name = words::set(set);
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

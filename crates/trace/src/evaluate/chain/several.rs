//! Rules that leave several possibilities open: maps, and destinations of which one is taken.

use std::net::{Ipv4Addr, Ipv6Addr};

use portolan_service::Family;

use super::{End, Next, Visit, deepest};
use crate::evaluate::fact::{self, Bits, Cube, Fact, Unknown};
use crate::evaluate::flight::{Flight, Frame, Place};
use crate::evaluate::truth::{Found, Truth};
use crate::evaluate::{StepKind, Stop, Undecided, Walk, words};
use crate::probability::Probability;
use crate::ruleset::{Data, Goal, Operand, Ranges, Rule, Translation};
use crate::value::{address_value, value_address};

/// Of how many addresses and ports one is taken, at most.
const MOST_DESTINATIONS: u128 = 4096;

impl Walk<'_> {
    /// What a map holds for the packet. Each possibility gets a way of its own; `flight` takes the
    /// last.
    fn found<'a>(
        &mut self,
        flight: &mut Flight,
        visit: &mut Visit<'a>,
        frame: Frame,
        key: &[Operand],
        map: u32,
    ) -> Found<'a> {
        let table = visit.table;
        self.lookup(flight, Place { chain: frame.chain, ..visit.place }, frame, table, key, map)
    }

    pub(super) fn act_lookup(
        &mut self,
        flight: &mut Flight,
        visit: &mut Visit<'_>,
        frame: Frame,
        rule: &Rule,
        key: &[Operand],
        map: u32,
    ) -> Next {
        let found = self.found(flight, visit, frame, key, map);
        let table = visit.table;
        self.each(flight, visit, frame, found, |walk, flight, visit, data| {
            let Some(Data::Goal(goal)) = data else {
                walk.missing(flight, visit, frame, key, map);
                return Next::Rule;
            };
            if walk.steps {
                walk.hit(flight, visit.place, frame, rule, words::goal(*goal, table));
            }
            Next::Goal(*goal)
        })
    }

    /// Sets the mark to what a map holds.
    pub(super) fn mark_by(
        &mut self,
        flight: &mut Flight,
        visit: &mut Visit<'_>,
        frame: Frame,
        rule: &Rule,
        (key, map): (&[Operand], u32),
    ) -> Next {
        let found = self.found(flight, visit, frame, key, map);
        self.each(flight, visit, frame, found, |walk, flight, visit, data| {
            let mark = match data {
                Some(Data::Values(values)) => values.first().and_then(|mark| u32::try_from(*mark).ok()),
                _ => None,
            };
            let Some(mark) = mark else {
                walk.missing(flight, visit, frame, key, map);
                return Next::Rule;
            };
            if walk.steps {
                walk.hit(flight, visit.place, frame, rule, format!("mark becomes {mark:#x}"));
            }
            flight.mark = Bits::known(mark);
            Next::Part
        })
    }

    fn missing(&self, flight: &mut Flight, visit: &Visit<'_>, frame: Frame, key: &[Operand], map: u32) {
        if self.steps {
            let why = self.why_lookup(flight, visit.place, visit.table, key, map, false);
            flight.record(visit.place, Some(frame.rule), StepKind::Miss, why);
        }
    }

    /// Sends a copy of `flight` on for each possibility, and `flight` itself with the last.
    fn each<'a>(
        &mut self,
        flight: &mut Flight,
        visit: &mut Visit<'a>,
        frame: Frame,
        found: Found<'a>,
        mut go: impl FnMut(&mut Self, &mut Flight, &mut Visit<'a>, Option<&'a Data>) -> Next,
    ) -> Next {
        let (condition, possibilities) = match found {
            Found::Unknown(truth) => {
                return match truth {
                    // There is an element, and it is not known which.
                    Truth::Holds => Next::End(End::Undecided(Undecided::UnknownAddress)),
                    Truth::Fails => go(self, flight, visit, None),
                    truth => self.decide(flight, visit, frame, truth),
                };
            }
            Found::Remembered { condition, data } => match flight.assumed(condition) {
                Some(true) => return go(self, flight, visit, Some(data)),
                Some(false) => return go(self, flight, visit, None),
                None => (Some(condition), vec![(Probability::one(), None), (Probability::one(), Some(data))]),
            },
            Found::NoKey => return Next::Rule,
            Found::Element(data) => return go(self, flight, visit, data),
            Found::Drawn(possibilities) => (None, possibilities),
        };
        let last = possibilities.len().saturating_sub(1);
        for (number, (probability, data)) in possibilities.into_iter().enumerate() {
            let take = |flight: &mut Flight| {
                flight.probability = flight.probability.and(&probability);
            };
            if number == last {
                take(flight);
                if let Some(condition) = condition {
                    self.assume(flight, condition, data.is_some());
                }
                return go(self, flight, visit, data);
            }
            match self.branch(flight, visit) {
                Some(mut other) => {
                    take(&mut other);
                    if let Some(condition) = condition {
                        self.assume(&mut other, condition, data.is_some());
                    }
                    let next = go(self, &mut other, visit, data);
                    Self::settle(other, visit, &next);
                }
                None => {
                    if let Some((undecided, _)) = visit.left.last_mut() {
                        take(undecided);
                    }
                }
            }
        }
        Next::Rule
    }

    /// Leaves a copy where `next` takes it.
    fn settle(mut flight: Flight, visit: &mut Visit<'_>, next: &Next) {
        let end = match next {
            Next::End(end) => Some(*end),
            Next::Goal(Goal::Accept) => Some(End::Passed),
            Next::Goal(Goal::Drop) => Some(End::Dropped),
            Next::Goal(Goal::Reject) => Some(End::Rejected),
            Next::Part | Next::Again | Next::Rule | Next::Goal(_) => None,
        };
        if let Some(end) = end {
            visit.left.push((flight, end));
            return;
        }
        if let Some(top) = flight.stack.last_mut() {
            match next {
                Next::Part => top.part += 1,
                Next::Again => {}
                Next::Goal(Goal::Goto(chain)) => *top = Frame { chain: *chain, rule: 0, part: 0 },
                _ => *top = Frame { rule: top.rule + 1, part: 0, ..*top },
            }
        }
        match next {
            Next::Goal(Goal::Return) => {
                flight.stack.pop();
            }
            Next::Goal(Goal::Jump(_)) if flight.stack.len() > deepest(visit.table.tool) => {
                visit.left.push((flight, End::Undecided(Undecided::TooDeep)));
                return;
            }
            Next::Goal(Goal::Jump(chain)) => flight.stack.push(Frame { chain: *chain, rule: 0, part: 0 }),
            _ => {}
        }
        visit.open.push(flight);
    }

    pub(super) fn translate(
        &mut self,
        flight: &mut Flight,
        visit: &mut Visit<'_>,
        frame: Frame,
        rule: &Rule,
        translation: &Translation,
    ) -> Next {
        match translation {
            Translation::To { addresses, ports } => {
                let addresses = addresses.unwrap_or((flight.destination, flight.destination));
                self.send_to_one_of(flight, visit, frame, rule, Some(addresses), *ports)
            }
            // Chosen in `balanced.rs`.
            Translation::Balanced(_) => Next::Rule,
            Translation::ToNode { ports } => match self.own_address(flight) {
                Ok(own) => self.send_to_one_of(flight, visit, frame, rule, own.map(|own| (own, own)), *ports),
                Err(stop) => Next::End(End::Stopped(stop)),
            },
            Translation::Map { key, map, port } => {
                let found = self.found(flight, visit, frame, key, *map);
                self.each(flight, visit, frame, found, |walk, flight, visit, data| {
                    let Some(Data::Values(values)) = data else {
                        walk.missing(flight, visit, frame, key, *map);
                        return Next::Rule;
                    };
                    let (Some(address), mapped) = (values.first(), values.get(1)) else {
                        return Next::End(End::Undecided(Undecided::UnknownAddress));
                    };
                    let mapped = mapped.and_then(|mapped| u16::try_from(*mapped).ok());
                    walk.send(flight, visit.place, frame, rule, Some(*address), mapped.or(*port));
                    Next::End(End::Passed)
                })
            }
        }
    }

    /// The address that a redirected packet goes to: that of the interface it came in through.
    /// `None` if it is not known which that is.
    fn own_address(&self, flight: &Flight) -> Result<Option<u128>, Stop> {
        let interface = flight.in_interface.as_ref().map(|(_, name)| &**name);
        let own = match interface {
            Some("" | "lo") => Some(match self.family {
                Family::V4 => Ipv4Addr::LOCALHOST.into(),
                Family::V6 => Ipv6Addr::LOCALHOST.into(),
            }),
            Some(interface) => self.node.address_at(interface, self.family),
            None => None,
        };
        // Whoever listed the interfaces listed their addresses.
        if own.is_none() && interface.is_some_and(|name| self.node.has_interface(name)) {
            return Err(Stop::NoOwnAddress);
        }
        Ok(own.map(address_value))
    }

    /// Sends `flight` to one of `addresses` (first and last) and `ports`, each on a way of its own.
    /// `None` is an address of the node itself that is not known.
    fn send_to_one_of(
        &mut self,
        flight: &mut Flight,
        visit: &mut Visit<'_>,
        frame: Frame,
        rule: &Rule,
        addresses: Option<(u128, u128)>,
        ports: Option<(u16, u16)>,
    ) -> Next {
        let (first, last) = addresses.unwrap_or((flight.destination, flight.destination));
        let (low, high) = match ports {
            Some((low, high)) if low <= high && !(low..=high).contains(&flight.destination_port) => {
                (low, high)
            }
            _ => (flight.destination_port, flight.destination_port),
        };
        let count = last.checked_sub(first).and_then(|more| more.checked_add(1)).unwrap_or(0);
        let count = count.saturating_mul(u128::from(high - low) + 1);
        if count == 0 || count > MOST_DESTINATIONS {
            return Next::End(End::Undecided(Undecided::UnknownAddress));
        }
        // Which one is taken follows from a hash of the packet: as good as drawn.
        let each = Probability::ratio(1, u64::try_from(count).unwrap_or(u64::MAX));
        let destinations = (first..=last).flat_map(|address| (low..=high).map(move |port| (address, port)));
        for (number, (address, port)) in (1..).zip(destinations) {
            let address = addresses.map(|_| address);
            if number == count {
                flight.probability = flight.probability.and(&each);
                self.send(flight, visit.place, frame, rule, address, Some(port));
                break;
            }
            match self.branch(flight, visit) {
                Some(mut other) => {
                    other.probability = other.probability.and(&each);
                    self.send(&mut other, visit.place, frame, rule, address, Some(port));
                    visit.left.push((other, End::Passed));
                }
                None => {
                    if let Some((undecided, _)) = visit.left.last_mut() {
                        undecided.probability = undecided.probability.and(&each);
                    }
                }
            }
        }
        Next::End(End::Passed)
    }

    /// Gives `flight` a new destination. `None` is an address of the interface that it came in
    /// through.
    fn send(
        &self,
        flight: &mut Flight,
        place: Place,
        frame: Frame,
        rule: &Rule,
        address: Option<u128>,
        port: Option<u16>,
    ) {
        let port = port.unwrap_or(flight.destination_port);
        if self.steps {
            let to = match (address, &flight.in_interface) {
                (Some(address), _) => {
                    std::net::SocketAddr::new(value_address(address, self.family), port).to_string()
                }
                (None, Some((_, interface))) => {
                    format!("port {port} of this node itself, at an address of {interface}")
                }
                (None, None) => format!(
                    "port {port} of this node itself, at an address of the interface that the packet came in through"
                ),
            };
            self.hit(flight, place, frame, rule, format!("destination becomes {to}"));
        }
        let same = flight.destination_port == port && address == flight.known_destination();
        flight.changed.destination = !same;
        flight.at_own_address = address.is_none();
        if flight.at_own_address {
            flight.knowledge.assume(fact::number(&Fact::OwnAddress), &loopback(self.family), false);
        }
        flight.destination = address.unwrap_or(flight.destination);
        flight.destination_port = port;
        flight.translated = true;
    }
}

/// Loopback addresses, which no other interface has.
fn loopback(family: Family) -> Box<[Cube]> {
    let addresses = match family {
        Family::V4 => Ranges::One(0x7f00_0000, 0x7fff_ffff),
        Family::V6 => Ranges::value(1),
    };
    let any = Unknown { fact: fact::number(&Fact::OwnAddress), bits: u128::MAX, with: 0 };
    fact::asked(any, &addresses).unwrap_or_default()
}

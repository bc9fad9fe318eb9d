//! Walks a packet through the rules of a node, every way it can go.

mod answer;
mod chain;
mod flight;
mod test;
mod words;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portolan_service::Family;

pub use answer::{Answer, Assumption, Condition, Outcome, Path, Record, Step, StepKind, Undecided, Verdict};

use crate::packet::{Entry, Node, Packet, State};
use crate::ruleset::{Hook, Kind, Ruleset};
use chain::End;
use flight::{Flight, Place};

/// An address as the number that rules compare.
pub(crate) fn address_value(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address of `family` that is `value`; bits beyond the family's are cut off.
#[expect(clippy::cast_possible_truncation, reason = "values of IPv4 fields have 32 bits")]
pub(crate) fn value_address(value: u128, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(value as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(value).into(),
    }
}

/// An interface name as the number that rules compare: its first 16 bytes, the first in the highest place.
pub(crate) fn interface_value(name: &str) -> u128 {
    let mut bytes = [0; 16];
    for (place, byte) in bytes.iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    u128::from_be_bytes(bytes)
}

/// Where `packet` goes on `node` by `ruleset`: hook by hook in the kernel's order, with routing after the translation of
/// its destination. Every way that chance or an unknown condition leaves open is followed. Ends for any rule set.
pub fn evaluate(ruleset: &Ruleset, node: &Node, packet: &Packet, record: Record) -> Answer {
    let mut walk = Walk {
        ruleset,
        node,
        packet,
        family: packet.family(),
        steps: record == Record::Steps,
        visits: if record == Record::Steps { MOST_VISITS_TOLD } else { MOST_VISITS },
        copied: 0,
        forks: MOST_FORKS,
        assumed: MOST_ASSUMED,
        conditions: Vec::new(),
        known: HashMap::new(),
        finished: Vec::new(),
    };
    walk.run();
    answer::collect(walk.finished, walk.conditions, walk.family)
}

/// How many rules are visited for a packet, at most. Rules that go in circles end here.
const MOST_VISITS: u32 = 2_000_000;
/// The same when each visit is told.
const MOST_VISITS_TOLD: u32 = 300_000;
/// Ways that part have their beginning in common. When so many steps have been copied, copies tell only what matched.
const MOST_COPIED: usize = 1_000_000;
/// How many ways are followed for a packet, at most.
const MOST_FORKS: u32 = 20_000;
/// How many times an open condition parts a way in two, at most: each may double the answer.
const MOST_ASSUMED: u32 = 1_000;
/// Between the last rules that see packets before connection tracking does, and the first that see its result
/// (NF_IP_PRI_CONNTRACK of linux/netfilter_ipv4.h).
const CONNECTION_TRACKING: i32 = -200;

/// One packet on its way through everything.
struct Walk<'a> {
    ruleset: &'a Ruleset,
    node: &'a Node,
    packet: &'a Packet,
    family: Family,
    steps: bool,
    visits: u32,
    copied: usize,
    forks: u32,
    assumed: u32,
    conditions: Vec<Condition>,
    /// Conditions by what they ask, so that nothing is assumed twice and differently.
    known: HashMap<ConditionKey, u32>,
    finished: Vec<(Flight, Verdict)>,
}

/// What makes two conditions one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum ConditionKey {
    /// The same part of the same rule.
    Rule { table: u32, chain: u32, rule: u32, part: u32 },
    /// The same list of remembered clients.
    List(Box<str>),
    /// The same element of a set that packets fill.
    Element { table: u32, set: u32, key: Box<[u128]> },
}

impl Walk<'_> {
    fn run(&mut self) {
        let flight = Flight::new(self.packet);
        let leaving = match &self.packet.entry {
            Entry::Prerouting { .. } => {
                let routed = self.hook(Hook::Prerouting, vec![flight]);
                let (to_node, through): (Vec<_>, Vec<_>) = routed
                    .into_iter()
                    .partition(|flight| self.node.is_local(flight.destination(self.family)));
                self.deliver(to_node);
                let through = self.route(through);
                self.hook(Hook::Forward, through)
            }
            Entry::Output => {
                let routed = self.route(vec![flight]);
                let sent = self.hook(Hook::Output, routed);
                self.route(sent)
            }
        };
        let left = self.hook(Hook::Postrouting, leaving);
        let (mut back, gone): (Vec<_>, Vec<_>) = left.into_iter().partition(|flight| {
            self.packet.entry == Entry::Output && self.node.is_local(flight.destination(self.family))
        });
        for flight in gone {
            self.finish(flight, Verdict::Accept);
        }
        for flight in &mut back {
            flight.come_back();
        }
        let back = self.hook(Hook::Prerouting, back);
        self.deliver(back);
    }

    /// To a process of the node.
    fn deliver(&mut self, flights: Vec<Flight>) {
        for flight in self.hook(Hook::Input, flights) {
            self.finish(flight, Verdict::Accept);
        }
    }

    fn route(&self, mut flights: Vec<Flight>) -> Vec<Flight> {
        for flight in &mut flights {
            flight.out_interface = self
                .node
                .route(flight.destination(self.family))
                .map(|interface| (interface_value(interface), interface.into()));
        }
        flights
    }

    /// Ends `flight`, which leaves the last hook or a rule with `verdict`.
    fn finish(&mut self, flight: Flight, verdict: Verdict) {
        let verdict = match verdict {
            Verdict::Accept if flight.translated => {
                Verdict::Forward(flight.destination_and_port(self.family))
            }
            verdict => verdict,
        };
        self.finished.push((flight, verdict));
    }

    /// Through all base chains of `hook`; what comes out at its end goes on.
    fn hook(&mut self, hook: Hook, mut flights: Vec<Flight>) -> Vec<Flight> {
        let ruleset = self.ruleset;
        for flight in &mut flights {
            flight.tracked |= matches!(hook, Hook::Input | Hook::Forward | Hook::Postrouting);
        }
        for bound in ruleset.bound(hook, self.family) {
            if flights.is_empty() {
                break;
            }
            let at = bound.runs_at();
            for flight in &mut flights {
                flight.tracked |= at > CONNECTION_TRACKING;
                if at >= -100 {
                    flight.follow_connection(self.packet, hook);
                }
            }
            let mut passed = Vec::with_capacity(flights.len());
            for mut flight in flights {
                if bound.base.kind == Kind::Nat && !flight.meets_nat(self.packet.state, hook) {
                    passed.push(flight);
                    continue;
                }
                flight.enter(Place { hook, table: bound.table, chain: bound.chain });
                for (flight, end) in self.chain(flight, bound) {
                    match end {
                        End::Passed => passed.push(flight),
                        End::Dropped => self.finish(flight, Verdict::Drop),
                        End::Rejected => self.finish(flight, Verdict::Reject),
                        End::Undecided(why) => self.finish(flight, Verdict::Undecided(why)),
                    }
                }
            }
            flights = self.merged(passed);
        }
        for flight in &mut flights {
            flight.tracked = true;
            flight.follow_connection(self.packet, hook);
        }
        flights
    }

    /// Ways that have met again become one, unless each is to be told step by step.
    fn merged(&self, flights: Vec<Flight>) -> Vec<Flight> {
        if self.steps || flights.len() < 2 {
            return flights;
        }
        let mut places: HashMap<flight::Same, usize> = HashMap::with_capacity(flights.len());
        let mut merged: Vec<Flight> = Vec::with_capacity(flights.len());
        for flight in flights {
            match places.entry(flight.same()) {
                std::collections::hash_map::Entry::Occupied(place) => {
                    let first = &mut merged[*place.get()];
                    first.probability = first.probability.or(&flight.probability);
                }
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(merged.len());
                    merged.push(flight);
                }
            }
        }
        merged
    }

    /// The number of the condition with this `key`, told by `text` when it is new.
    fn condition(
        &mut self,
        key: ConditionKey,
        place: Place,
        rule: u32,
        text: impl FnOnce() -> String,
    ) -> u32 {
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let number = u32::try_from(self.conditions.len()).unwrap_or(u32::MAX);
        let table = self.ruleset.table(place.table);
        let chain = &table.chains[place.chain as usize];
        let remembers = !matches!(key, ConditionKey::Rule { .. });
        let is_entry = matches!(key, ConditionKey::Element { .. });
        self.conditions.push(Condition {
            text: text(),
            remembers,
            is_entry,
            table: table.name.clone(),
            chain: chain.name.clone(),
            rule: chain.rules.get(rule as usize).map_or_else(Box::default, |rule| rule.text.clone()),
        });
        self.known.insert(key, number);
        number
    }

    /// Whether there is room for one more way; takes it.
    fn may_fork(&mut self) -> bool {
        self.forks = self.forks.saturating_sub(1);
        self.forks > 0
    }

    /// The same for a way on which a condition is assumed.
    fn may_assume(&mut self) -> bool {
        self.assumed = self.assumed.saturating_sub(1);
        self.assumed > 0 && self.may_fork()
    }

    fn is_new(&self) -> bool {
        self.packet.state == State::New
    }
}

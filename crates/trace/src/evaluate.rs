//! Walks a packet through the rules of a node, every way it can go.

mod answer;
mod chain;
mod fact;
mod field;
mod flight;
mod outcomes;
mod routing;
mod truth;
mod why;
mod words;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use portolan_service::Family;

pub use answer::{
    Answer, Assumption, Condition, Outcome, Path, Record, Step, StepKind, Stop, Undecided, Verdict,
};

use crate::packet::{Entry, Node, Packet, State};
use crate::ruleset::{Hook, Kind, Ranges, Ruleset, Tool};
use crate::value::{interface_value, value_address};
use chain::End;
use fact::{Cube, Fact, Unknown};
use flight::{Flight, Place};

/// Where `packet` goes on `node` by `ruleset`: hook by hook in the kernel's order, with routing
/// after its destination was translated. Follows every way that chance or an unknown condition
/// leaves open. Ends for any rule set.
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
        facts: fact::common(),
        asked: Vec::new(),
        known: HashMap::new(),
        balanced: Vec::new(),
        finished: Vec::new(),
    };
    walk.run();
    outcomes::collect(walk.finished, walk.conditions, walk.family)
}

/// How many rules are visited for a packet, at most. Rules that go in circles end here.
const MOST_VISITS: u32 = 2_000_000;
/// The same when each visit is recorded.
const MOST_VISITS_TOLD: u32 = 300_000;
/// Ways that part share their beginning. Once this many steps were copied, copies have only the
/// rules that matched.
const MOST_COPIED: usize = 1_000_000;
/// How many ways are followed for a packet, at most.
const MOST_FORKS: u32 = 20_000;
/// How many times an open condition parts a way in two, at most: each may double the answer.
const MOST_ASSUMED: u32 = 1_000;
/// After the last rules that see packets before connection tracking does, and before the first that
/// see its result (NF_IP_PRI_CONNTRACK of linux/netfilter_ipv4.h).
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
    /// Facts by number, so that nothing is assumed twice and differently.
    facts: HashMap<Fact, u32>,
    /// What each condition asks, by its number.
    asked: Vec<Asked>,
    /// Conditions by what they ask.
    known: HashMap<Asked, u32>,
    /// On the way from IPVS to another machine.
    balanced: Vec<Flight>,
    finished: Vec<(Flight, Verdict)>,
}

/// The rule that asks first.
#[derive(Debug, Clone, Copy)]
struct Asking {
    table: u32,
    chain: u32,
    rule: u32,
}

/// Where clients are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Nowhere,
    /// In a list of iptables' match `recent`.
    InList,
    /// In a set whose entry for the client is known.
    InSet,
}

/// Whether a fact has one of some values.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Asked {
    fact: u32,
    among: Rc<[Cube]>,
}

impl Walk<'_> {
    fn run(&mut self) {
        let flight = Flight::new(self.packet);
        let leaving = match &self.packet.entry {
            Entry::Prerouting { .. } => {
                let came_in = self.passing(vec![flight], routing::comes_in);
                let translated = self.hook(Hook::Prerouting, came_in);
                let routed = self.passing(translated, routing::is_accepted);
                let (to_node, through): (Vec<_>, Vec<_>) =
                    routed.into_iter().partition(|flight| self.is_for_node(flight));
                self.deliver(to_node);
                let through = self.passing(through, routing::is_forwarded);
                let through = self.route(through);
                let mut leaving = self.hook(Hook::Forward, through);
                leaving.extend(self.sent_by_ipvs());
                leaving
            }
            Entry::Output => {
                let sent = self.passing(vec![flight], routing::leaves);
                let routed = self.route(sent);
                let translated = self.hook(Hook::Output, routed);
                let translated = self.passing(translated, routing::leaves);
                let mut leaving = self.route(translated);
                leaving.extend(self.sent_by_ipvs());
                leaving
            }
        };
        let left = self.hook(Hook::Postrouting, leaving);
        let (mut back, gone): (Vec<_>, Vec<_>) = left
            .into_iter()
            .partition(|flight| self.packet.entry == Entry::Output && self.is_for_node(flight));
        for flight in gone {
            self.finish(flight, Verdict::Accept);
        }
        for flight in &mut back {
            flight.come_back();
        }
        let back = self.hook(Hook::Prerouting, back);
        self.deliver(back);
    }

    /// Those of `flights` that the kernel does not stop.
    fn passing(&mut self, flights: Vec<Flight>, stops: fn(&routing::Leg<'_>) -> Option<Stop>) -> Vec<Flight> {
        let node = self.node;
        let Some(host) = &node.host else { return flights };
        let mut passing = Vec::with_capacity(flights.len());
        for flight in flights {
            let leg = routing::Leg {
                host,
                node,
                family: self.family,
                source: value_address(flight.source, self.family),
                destination: (!flight.at_own_address).then(|| flight.destination(self.family)),
                interface: flight.in_interface.as_ref().map(|(_, name)| &**name),
            };
            match stops(&leg) {
                Some(by) => self.stop(flight, by),
                None => passing.push(flight),
            }
        }
        passing
    }

    fn stop(&mut self, flight: Flight, by: Stop) {
        let towards = flight.destination_and_port(self.family);
        self.finished.push((flight, Verdict::Stopped { by, towards }));
    }

    fn is_for_node(&self, flight: &Flight) -> bool {
        flight.at_own_address
            || self.node.is_local(flight.destination(self.family))
            || self.is_steered(flight)
    }

    /// Whether it is routed to the node because of its mark.
    fn is_steered(&self, flight: &Flight) -> bool {
        let bits = u128::from(self.ruleset.steering(self.family));
        bits != 0 && flight.mark.within(bits).is_ok_and(|mark| mark != 0)
    }

    /// Whether IPVS leaves it on its way through the hook: its destination is on the node.
    fn stays_here(&self, flight: &Flight) -> bool {
        let to =
            flight.carried_to.map_or(flight.destination(self.family), |to| value_address(to, self.family));
        self.node.is_local(to)
    }

    /// What IPVS sends to other machines: it passes all of `output`, as if the node had sent it
    /// (`ip_vs_nat_send_or_cont` of net/netfilter/ipvs/ip_vs_xmit.c).
    fn sent_by_ipvs(&mut self) -> Vec<Flight> {
        let sent = std::mem::take(&mut self.balanced);
        let sent = self.passing(sent, routing::leaves);
        let mut sent = self.route(sent);
        // All of them came in through the same interface. `output` has none.
        let came_in = sent.first().and_then(|flight| flight.in_interface.clone());
        for flight in &mut sent {
            flight.in_interface = Some((0, "".into()));
        }
        let mut sent = self.hook(Hook::Output, sent);
        for flight in &mut sent {
            flight.in_interface.clone_from(&came_in);
        }
        sent
    }

    /// To a process of the node.
    fn deliver(&mut self, flights: Vec<Flight>) {
        for flight in self.hook(Hook::Input, flights) {
            self.finish(flight, Verdict::Accept);
        }
    }

    fn route(&mut self, mut flights: Vec<Flight>) -> Vec<Flight> {
        for flight in &mut flights {
            flight.out_fact = self.fact(Fact::OutInterface(flight.destination));
            flight.out_interface = self
                .node
                .route(flight.destination(self.family))
                .map(|interface| (interface_value(interface), interface.into()));
            // Loopback leads to the node itself, whose addresses are known.
            let known = !self.node.addresses.is_empty();
            if flight.out_interface.is_none() && known && !self.is_for_node(flight) {
                let any = Unknown { fact: flight.out_fact, bits: u128::MAX, with: 0 };
                let loopback = fact::asked(any, &Ranges::value(interface_value("lo"))).unwrap_or_default();
                flight.knowledge.assume(flight.out_fact, &loopback, false);
            }
        }
        flights
    }

    /// Ends `flight`, which leaves the last hook or a rule with `verdict`.
    fn finish(&mut self, flight: Flight, verdict: Verdict) {
        let carried_to = flight.carried_to.map(|to| value_address(to, self.family));
        let verdict = match (verdict, carried_to) {
            (Verdict::Accept, Some(to)) => Verdict::Forward(SocketAddr::new(to, flight.destination_port)),
            (verdict, _) => verdict,
        };
        let verdict = match verdict {
            Verdict::Accept if flight.at_own_address => Verdict::ToNode { port: flight.destination_port },
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
                // IPVS does not look again at what it forwards.
                let is_done = flight.balanced && ruleset.table(bound.table).tool == Tool::Ipvs;
                if is_done || bound.base.kind == Kind::Nat && !flight.meets_nat(self.packet.state, hook) {
                    passed.push(flight);
                    continue;
                }
                flight.enter(Place { hook, table: bound.table, chain: bound.chain });
                for (mut flight, end) in self.chain(flight, bound) {
                    match end {
                        End::Passed => passed.push(flight),
                        End::Balanced if self.stays_here(&flight) => {
                            flight.carried_to = None;
                            passed.push(flight);
                        }
                        End::Balanced => self.balanced.push(flight),
                        End::Dropped => self.finish(flight, Verdict::Drop),
                        End::Rejected => self.finish(flight, Verdict::Reject),
                        End::Stopped(by) => self.stop(flight, by),
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

    /// Ways that have met again become one, unless their steps are recorded.
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

    /// The number of `fact`.
    fn fact(&mut self, fact: Fact) -> u32 {
        let next = u32::try_from(self.facts.len()).unwrap_or(u32::MAX);
        *self.facts.entry(fact).or_insert(next)
    }

    /// The number of the condition that `fact` is among `among`. `text` gives its words if it is
    /// new.
    fn condition(
        &mut self,
        fact: u32,
        among: &[Cube],
        kind: Kept,
        asking: Asking,
        text: impl FnOnce() -> String,
    ) -> u32 {
        let asked = Asked { fact, among: among.into() };
        if let Some(known) = self.known.get(&asked) {
            return *known;
        }
        let number = u32::try_from(self.conditions.len()).unwrap_or(u32::MAX);
        let table = self.ruleset.table(asking.table);
        let chain = &table.chains[asking.chain as usize];
        self.conditions.push(Condition {
            text: text(),
            remembers: kind != Kept::Nowhere && table.is_proxys(chain),
            is_entry: kind == Kept::InSet,
            table: table.name.clone(),
            chain: chain.name.clone(),
            rule: chain.rules.get(asking.rule as usize).map_or_else(Box::default, |rule| rule.text.clone()),
        });
        self.asked.push(asked.clone());
        self.known.insert(asked, number);
        number
    }

    /// From here on, `condition` holds or does not for `flight`.
    fn assume(&self, flight: &mut Flight, condition: u32, holds: bool) {
        flight.assume(condition, holds);
        if let Some(Asked { fact, among }) = self.asked.get(condition as usize) {
            flight.knowledge.assume(*fact, among, holds);
        }
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

//! A packet on one of its possible ways.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use portolan_service::Family;

use super::answer::{Assumption, Step, StepKind};
use super::fact::{self, Bits, Ends, Fact, Knowledge};
use crate::packet::{Entry, Packet, State};
use crate::probability::Probability;
use crate::ruleset::Hook;
use crate::value::{address_value, interface_value, value_address};

/// Where a packet is: which base chain the kernel called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) hook: Hook,
    pub(super) table: u32,
    pub(super) chain: u32,
}

/// A chain on the call stack, and where it goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) chain: u32,
    pub(super) rule: u32,
    pub(super) part: u32,
}

/// The part of a rule that `frame` is at.
pub(super) fn part_at(place: Place, frame: Frame) -> fact::Part {
    fact::Part { table: place.table, chain: frame.chain, rule: frame.rule, number: frame.part }
}

/// What became of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum NewSource {
    Kept,
    /// Translated; to what, if it is known.
    Translated(Option<u128>),
}

#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "facts about the packet that do not exclude each other")]
pub(super) struct Flight {
    pub(super) probability: Probability,
    pub(super) source: u128,
    pub(super) source_port: u16,
    pub(super) destination: u128,
    pub(super) destination_port: u16,
    pub(super) in_interface: Option<(u128, Rc<str>)>,
    pub(super) out_interface: Option<(u128, Rc<str>)>,
    /// The number of the fact that it is, where it is not known.
    pub(super) out_fact: u32,
    pub(super) mark: Bits,
    pub(super) connection_mark: Bits,
    /// Connection tracking has seen it.
    pub(super) tracked: bool,
    pub(super) untracked: bool,
    /// A rule has decided on its destination, though it may be what it was.
    pub(super) translated: bool,
    pub(super) source_translation: NewSource,
    /// Whether destination and source are other than they were. Only then does connection tracking
    /// call them translated (`nf_nat_setup_info` of net/netfilter/nf_nat_core.c).
    pub(super) changed: Changed,
    /// It came back over the loopback interface.
    pub(super) came_back: bool,
    /// It was redirected to an address of the node itself that is not known.
    pub(super) at_own_address: bool,
    /// IPVS has chosen a destination.
    pub(super) balanced: bool,
    /// IPVS sends it to this address as it is.
    pub(super) carried_to: Option<u128>,
    /// In order of condition.
    pub(super) assumptions: Vec<Assumption>,
    /// What follows from them.
    pub(super) knowledge: Knowledge,
    pub(super) stack: Vec<Frame>,
    pub(super) steps: Vec<Step>,
}

/// What of a packet translation has really changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Changed {
    pub(super) source: bool,
    pub(super) destination: bool,
}

/// Everything that later rules can distinguish.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Same {
    destination: (u128, u16),
    marks: (Bits, Bits),
    flags: (bool, bool, bool, bool),
    balanced: (bool, Option<u128>),
    source_translation: NewSource,
    changed: Changed,
    assumptions: Vec<Assumption>,
}

impl Flight {
    pub(super) fn new(packet: &Packet) -> Flight {
        let in_interface = match &packet.entry {
            Entry::Output => Some((0, "".into())),
            Entry::Prerouting { interface } => {
                interface.as_deref().map(|interface| (interface_value(interface), interface.into()))
            }
        };
        Flight {
            probability: Probability::one(),
            source: address_value(packet.source.ip()),
            source_port: packet.source.port(),
            destination: address_value(packet.destination.ip()),
            destination_port: packet.destination.port(),
            in_interface,
            out_interface: None,
            out_fact: u32::MAX,
            mark: Bits::known(packet.mark),
            connection_mark: match packet.state {
                State::New => Bits::known(0),
                _ => Bits::of(fact::number(&Fact::ConnectionMark)),
            },
            tracked: false,
            untracked: false,
            translated: false,
            source_translation: NewSource::Kept,
            changed: Changed::default(),
            came_back: false,
            at_own_address: false,
            balanced: false,
            carried_to: None,
            assumptions: Vec::new(),
            knowledge: Knowledge::default(),
            stack: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// A copy with only the rules that matched.
    pub(super) fn without_misses(&self) -> Flight {
        let steps = self.steps.iter().filter(|step| step.kind != StepKind::Miss).cloned().collect();
        Flight {
            steps,
            probability: self.probability.clone(),
            in_interface: self.in_interface.clone(),
            out_interface: self.out_interface.clone(),
            assumptions: self.assumptions.clone(),
            knowledge: self.knowledge.clone(),
            stack: self.stack.clone(),
            ..*self
        }
    }

    pub(super) fn destination(&self, family: Family) -> IpAddr {
        value_address(self.destination, family)
    }

    /// Where it is from and where it goes, as far as that is known.
    pub(super) fn ends(&self) -> Ends {
        Ends {
            source: (self.source, self.source_port),
            destination: (self.known_destination(), self.destination_port),
        }
    }

    pub(super) fn known_destination(&self) -> Option<u128> {
        (!self.at_own_address).then_some(self.destination)
    }

    pub(super) fn destination_and_port(&self, family: Family) -> SocketAddr {
        SocketAddr::new(self.destination(family), self.destination_port)
    }

    pub(super) fn same(&self) -> Same {
        Same {
            destination: (self.destination, self.destination_port),
            marks: (self.mark, self.connection_mark),
            flags: (self.untracked, self.translated, self.came_back, self.at_own_address),
            balanced: (self.balanced, self.carried_to),
            source_translation: self.source_translation,
            changed: self.changed,
            assumptions: self.assumptions.clone(),
        }
    }

    /// Enters a base chain.
    pub(super) fn enter(&mut self, place: Place) {
        self.stack.clear();
        self.stack.push(Frame { chain: place.chain, rule: 0, part: 0 });
    }

    /// Sent to the node itself by itself: it comes in through the loopback interface.
    pub(super) fn come_back(&mut self) {
        self.came_back = true;
        self.in_interface = Some((interface_value("lo"), "lo".into()));
        self.out_interface = Some((0, "".into()));
    }

    /// Whether chains of type nat see it at `hook`: the first packet of a connection, once for each
    /// of its ends.
    pub(super) fn meets_nat(&self, state: State, hook: Hook) -> bool {
        let decided = match hook {
            Hook::Prerouting | Hook::Output => self.translated || self.came_back,
            Hook::Input | Hook::Forward | Hook::Postrouting => {
                self.source_translation != NewSource::Kept || self.came_back
            }
        };
        state == State::New && !self.untracked && !decided
    }

    /// Later packets go where the first went.
    pub(super) fn follow_connection(&mut self, packet: &Packet, hook: Hook) {
        if let (Some(to), State::Established, Hook::Prerouting | Hook::Output, false) =
            (packet.translated, packet.state, hook, self.translated || self.untracked)
        {
            self.destination = address_value(to.ip());
            self.destination_port = to.port();
            self.translated = true;
            self.changed.destination = true;
        }
    }

    pub(super) fn assumed(&self, condition: u32) -> Option<bool> {
        self.assumptions
            .binary_search_by_key(&condition, |assumed| assumed.condition)
            .ok()
            .map(|place| self.assumptions[place].holds)
    }

    pub(super) fn assume(&mut self, condition: u32, holds: bool) {
        let place = self.assumptions.partition_point(|assumed| assumed.condition < condition);
        self.assumptions.insert(place, Assumption { condition, holds });
    }

    pub(super) fn record(&mut self, place: Place, rule: Option<u32>, kind: StepKind, why: String) {
        let (chain, depth) = match self.stack.last() {
            Some(frame) => (frame.chain, self.stack.len() - 1),
            None => (place.chain, 0),
        };
        let depth = u32::try_from(depth).unwrap_or(u32::MAX);
        self.steps.push(Step { hook: place.hook, table: place.table, chain, rule, depth, kind, why });
    }
}

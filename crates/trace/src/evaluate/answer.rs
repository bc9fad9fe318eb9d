//! What is answered.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::probability::Probability;
use crate::ruleset::Hook;

/// Whether the way through the rules is recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Record {
    /// Only where it ends: fast.
    #[default]
    Nothing,
    /// Rule by rule. In long chains, rules for another destination address or port are passed over.
    Steps,
}

/// Where a packet ends up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// At this translated destination.
    Forward(SocketAddr),
    /// At this port of the node itself. A rule redirects it to an address of the interface that it
    /// came in through, which is not known.
    ToNode {
        /// The port.
        port: u16,
    },
    /// At the destination it names: no rule translates it.
    Accept,
    /// Nowhere; its sender gets an error.
    Reject,
    /// Nowhere.
    Drop,
    /// Nowhere: the kernel stops it on the way there, whatever the rules say.
    Stopped {
        /// Why.
        by: Stop,
        /// Where it was on the way to.
        towards: SocketAddr,
    },
    /// The rules do not say.
    Undecided(Undecided),
}

/// Why a kernel stops a packet outside of its rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stop {
    /// The interface that it would come in through is down.
    ComesInByDown,
    /// Packets of its family are not forwarded.
    NotForwarding,
    /// Packets that come in through its interface are not forwarded.
    NotForwardingHere,
    /// It does not come in through the interface that packets to its source leave through, or there
    /// is no route to its source.
    ReversePath,
    /// It is for a loopback address, and comes from outside.
    Loopback,
    /// There is no route to its destination.
    NoRoute,
    /// A route of type `blackhole`.
    Blackhole,
    /// A route of type `unreachable`.
    Unreachable,
    /// A route of type `prohibit`.
    Prohibited,
    /// The interface that its route leads through is down.
    LeavesByDown,
    /// The interface that its route leads through has no carrier.
    LeavesWithoutCarrier,
    /// It is redirected to an address of the interface that it came in through, which has no
    /// address of its family.
    NoOwnAddress,
}

impl Stop {
    /// Whether the sender gets an error.
    pub fn rejects(self) -> bool {
        matches!(self, Stop::NoRoute | Stop::Unreachable | Stop::Prohibited)
    }
}

/// Why the rules do not say where a packet ends up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Undecided {
    /// A target that is not known has taken it.
    UnknownTarget,
    /// It is translated to an address that the dump does not show.
    UnknownAddress,
    /// Chains call each other deeper than the kernel allows, or in circles.
    TooDeep,
    /// More rules, or more ways, than are followed for one packet.
    TooMany,
}

/// Something that the rules ask and that neither the packet nor the node decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// In words, or as the rule writes it.
    pub text: String,
    /// Whether it is that the client is remembered from an earlier connection.
    pub remembers: bool,
    /// Whether the rule set has an entry for the client that may have expired.
    pub is_entry: bool,
    /// The table of the rule that asks first.
    pub table: Box<str>,
    /// Its chain.
    pub chain: Box<str>,
    /// Its text.
    pub rule: Box<str>,
}

/// One answer to a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Assumption {
    /// Number in [`Answer::conditions`].
    pub condition: u32,
    /// Whether it holds.
    pub holds: bool,
}

/// What happened at a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepKind {
    /// The packet enters a base chain.
    Enter,
    /// A test failed.
    Miss,
    /// All tests held, and this was done.
    Hit,
    /// The end of a base chain: its policy.
    Policy,
}

/// One step of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where the kernel called the base chain.
    pub hook: Hook,
    /// Number of the table in [`crate::Ruleset::tables`].
    pub table: u32,
    /// Number of the chain in the table.
    pub chain: u32,
    /// Number of the rule in the chain, from 0.
    pub rule: Option<u32>,
    /// How many chains are waiting for this one to return.
    pub depth: u32,
    /// What happened.
    pub kind: StepKind,
    /// Why, in words.
    pub why: String,
}

/// One way through the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// How likely it is.
    pub probability: Probability,
    /// Step by step.
    pub steps: Vec<Step>,
}

/// One end a packet may come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Where it ends up.
    pub verdict: Verdict,
    /// Whether its source is translated.
    pub masquerade: bool,
    /// The translated source address, if a rule or the node determines it.
    pub source: Option<IpAddr>,
    /// What must be so for this to be possible. Empty: it is possible in any case.
    pub conditions: Vec<Assumption>,
    /// How likely it is if the conditions hold. The probabilities of all outcomes that are possible
    /// under the same circumstances add up to one.
    pub probability: Probability,
    /// The ways that lead there; empty unless recorded.
    pub paths: Vec<Path>,
}

/// All ends a packet may come to, the likeliest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Each differs from the others in verdict, translated source or conditions.
    pub outcomes: Vec<Outcome>,
    /// What the answer depends on.
    pub conditions: Vec<Condition>,
}

impl Answer {
    /// The outcomes that are possible if `holds` says of each condition whether it does. Their
    /// probabilities add up to one.
    pub fn given(&self, mut holds: impl FnMut(&Condition) -> bool) -> Vec<&Outcome> {
        let circumstances: Vec<bool> = self.conditions.iter().map(&mut holds).collect();
        self.outcomes
            .iter()
            .filter(|outcome| {
                outcome
                    .conditions
                    .iter()
                    .all(|assumed| circumstances.get(assumed.condition as usize) == Some(&assumed.holds))
            })
            .collect()
    }

    /// Every translated destination, whatever the circumstances.
    pub fn endpoints(&self) -> BTreeSet<SocketAddr> {
        self.outcomes
            .iter()
            .filter_map(|outcome| match outcome.verdict {
                Verdict::Forward(endpoint) => Some(endpoint),
                _ => None,
            })
            .collect()
    }
}

//! What is answered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use portolan_service::Family;

use super::flight::{Flight, NewSource};
use super::value_address;
use crate::probability::Probability;
use crate::ruleset::Hook;

/// Whether the way through the rules is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Record {
    /// Only where it ends: fast.
    #[default]
    Nothing,
    /// Rule by rule. Rules of long chains that ask for another destination address or port are passed over.
    Steps,
}

/// Where a packet ends up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// At this translated destination.
    Forward(SocketAddr),
    /// At this port of the node itself: a rule redirects it to an address of the interface that it came in through, which is
    /// not known.
    ToNode {
        /// The port.
        port: u16,
    },
    /// At the destination it names: no rule translates it.
    Accept,
    /// Nowhere; its sender is told.
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
    /// It comes in through another interface than packets to its source leave through, or there is no route to its source.
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
    /// It is redirected to an address of the interface that it came in through, which has none of its family.
    NoOwnAddress,
}

impl Stop {
    /// Whether the sender is told.
    pub fn rejects(self) -> bool {
        matches!(self, Stop::NoRoute | Stop::Unreachable | Stop::Prohibited)
    }
}

/// Why the rules do not say where a packet ends up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Undecided {
    /// A target that is not known has taken it.
    UnknownTarget,
    /// It is translated to an address that the dump does not tell.
    UnknownAddress,
    /// Chains call each other deeper than the kernel allows, or in circles.
    TooDeep,
    /// More rules, or more ways, than are followed for one packet.
    TooMany,
}

/// Something that the rules ask and that neither packet nor node tell.
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
    /// The translated source address, if a rule or the node tells it.
    pub source: Option<IpAddr>,
    /// What must be so for this to be possible. Empty: it is possible in any case.
    pub conditions: Vec<Assumption>,
    /// How likely it is if the conditions hold. Of the outcomes that are possible under the same circumstances, the
    /// probabilities add up to one.
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
    /// The outcomes that are possible when each condition is as `holds` says. Their probabilities add up to one.
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

type End = (Verdict, bool, Option<IpAddr>);

/// How likely each end is under its assumptions, and the ways to it.
type Ends = BTreeMap<(Vec<Assumption>, End), (Probability, Vec<Path>)>;

/// Puts ways together that come to the same end.
pub(super) fn collect(
    finished: Vec<(Flight, Verdict)>,
    conditions: Vec<Condition>,
    family: Family,
) -> Answer {
    let mut ends = Ends::new();
    for (flight, verdict) in finished {
        let source = match flight.source_translation {
            NewSource::Kept => None,
            NewSource::Translated(to) => to.map(|value| value_address(value, family)),
        };
        let delivered = matches!(verdict, Verdict::Forward(_) | Verdict::ToNode { .. } | Verdict::Accept);
        let masquerade = delivered && flight.source_translation != NewSource::Kept;
        let end = (verdict, masquerade, source.filter(|_| delivered));
        let (probability, paths) =
            ends.entry((flight.assumptions, end)).or_insert_with(|| (Probability::zero(), Vec::new()));
        *probability = probability.or(&flight.probability);
        if !flight.steps.is_empty() {
            paths.push(Path { probability: flight.probability, steps: flight.steps });
        }
    }
    if !conditions.is_empty() {
        // Those that are asked last first: what is asked before them may be idle without them.
        let last = u32::try_from(conditions.len()).unwrap_or(u32::MAX);
        loop {
            let before = ends.len();
            for number in (0..last).rev() {
                forget_if_idle(&mut ends, number);
            }
            if ends.len() == before {
                break;
            }
        }
    }
    let mut outcomes: Vec<Outcome> = ends
        .into_iter()
        .filter(|(_, (probability, _))| !probability.is_zero())
        .map(|((conditions, (verdict, masquerade, source)), (probability, paths))| Outcome {
            verdict,
            masquerade,
            source,
            conditions,
            probability,
            paths,
        })
        .collect();
    outcomes.sort_by(|a, b| b.probability.to_f64().total_cmp(&a.probability.to_f64()));
    let conditions = without_unused(&mut outcomes, conditions);
    Answer { outcomes, conditions }
}

/// If all ends are equally likely whether the condition holds or not, it is no condition.
fn forget_if_idle(ends: &mut Ends, condition: u32) {
    let count = |holds: bool| {
        let assumed = Assumption { condition, holds };
        ends.keys().filter(|(assumptions, _)| assumptions.binary_search(&assumed).is_ok()).count()
    };
    let holding = count(true);
    if holding == 0 || holding != count(false) {
        return;
    }
    let split = |holds: bool| -> BTreeMap<(Vec<Assumption>, End), Probability> {
        let assumed = Assumption { condition, holds };
        ends.iter()
            .filter(|((assumptions, _), _)| assumptions.contains(&assumed))
            .map(|((assumptions, end), (probability, _))| {
                let others = assumptions.iter().copied().filter(|other| *other != assumed).collect();
                ((others, *end), probability.clone())
            })
            .collect()
    };
    if split(true) != split(false) {
        return;
    }
    let mut kept = BTreeMap::new();
    for ((mut assumptions, end), (probability, paths)) in std::mem::take(ends) {
        let failing = assumptions.contains(&Assumption { condition, holds: false });
        assumptions.retain(|assumed| assumed.condition != condition);
        // Both halves are the same: the ways on which it holds stand for the others.
        if failing {
            continue;
        }
        let (sum, all): &mut (Probability, Vec<Path>) =
            kept.entry((assumptions, end)).or_insert_with(|| (Probability::zero(), Vec::new()));
        *sum = sum.or(&probability);
        all.extend(paths);
    }
    *ends = kept;
}

fn without_unused(outcomes: &mut [Outcome], conditions: Vec<Condition>) -> Vec<Condition> {
    let used: BTreeSet<u32> = outcomes
        .iter()
        .flat_map(|outcome| outcome.conditions.iter().map(|assumed| assumed.condition))
        .collect();
    let number: BTreeMap<u32, u32> = used.iter().copied().zip(0..).collect();
    for assumed in outcomes.iter_mut().flat_map(|outcome| &mut outcome.conditions) {
        assumed.condition = number[&assumed.condition];
    }
    (0..).zip(conditions).filter(|(old, _)| used.contains(old)).map(|(_, condition)| condition).collect()
}

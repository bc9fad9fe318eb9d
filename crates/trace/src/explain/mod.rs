//! Says in words where a packet goes and why: as text, as JSON ([`Explanation`] serialised), and as a picture.

mod case;
mod dot;
mod explanation;
mod fractions;
mod frontends;
mod graph;
mod kernel;
mod known;
mod naming;
mod neighbours;
mod paint;
mod reason;
mod source;
mod steps;
mod summary;
mod svg;
mod text;
mod ways;

pub use explanation::{
    Arm, Chance, Explanation, Reason, ReasonCode, Stage, Style, ToldAffinity, ToldAssumption, ToldCondition,
    ToldEndpoint, ToldHit, ToldMiss, ToldOutcome, ToldPacket, ToldRule, ToldService, ToldSource, ToldStep,
    ToldVerdict,
};
pub use known::{KnownEndpoint, KnownFrontend, KnownService, Services, Unserved};

use crate::evaluate::Answer;
use crate::packet::{Node, Packet};
use crate::ruleset::Ruleset;
use case::Case;

/// Explains `answer`, which `ruleset` gave for `packet` on `node`, recorded with [`crate::Record::Steps`]. Without the
/// steps, the explanation has neither steps nor the rules that decided.
pub fn explain(
    ruleset: &Ruleset,
    node: &Node,
    packet: &Packet,
    answer: &Answer,
    services: &Services,
) -> Explanation {
    let case = Case { ruleset, node, packet, answer, services };
    summary::explanation(&case)
}

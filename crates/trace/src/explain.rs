//! Says in words where a packet goes and why: as text, as JSON ([`Explanation`] serialised), or as
//! a picture.

mod case;
mod dot;
mod explanation;
mod few;
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
    Arm, Chance, Explanation, Reason, ReasonCode, ShownAffinity, ShownAssumption, ShownCondition,
    ShownEndpoint, ShownHit, ShownMiss, ShownOutcome, ShownPacket, ShownRule, ShownService, ShownSource,
    ShownStep, ShownVerdict, Stage, Style,
};
pub use known::{KnownEndpoint, KnownFrontend, KnownNode, KnownService, Next, Services, Unserved};

use crate::evaluate::Answer;
use crate::packet::{Node, Packet};
use crate::ruleset::Ruleset;
use case::Case;

/// Explains `answer`, which `ruleset` gave for `packet` on `node`, recorded with
/// [`crate::Record::Steps`]. If it was not, the explanation has neither the steps nor the rules
/// that decided.
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

impl Explanation {
    /// For people, from top to bottom.
    pub fn text(&self, style: Style) -> String {
        text::write(self, style)
    }

    /// For Graphviz.
    pub fn dot(&self) -> String {
        dot::write(self)
    }

    /// A picture that any browser shows, without scripts.
    pub fn svg(&self) -> String {
        svg::write(self)
    }
}

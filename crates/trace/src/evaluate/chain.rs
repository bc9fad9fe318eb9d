//! One base chain, and the chains it calls.

mod balanced;
mod several;

use super::answer::{StepKind, Stop, Undecided};
use super::fact::{self, Bits, Fact};
use super::flight::{Flight, Frame, NewSource, Place, part_at};
use super::truth::Truth;
use super::{Asking, Kept, MOST_COPIED, Walk, words};
use crate::packet::State;
use crate::probability::Probability;
use crate::ruleset::{Action, Bound, Goal, Mark, Part, Rule, SourceAddress, Table, Tool, Translation};
use crate::value::address_value;

/// How a packet leaves a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// To what comes next.
    Passed,
    /// To a destination of IPVS.
    Balanced,
    Dropped,
    Rejected,
    /// The kernel stops it, whatever the rules say.
    Stopped(Stop),
    Undecided(Undecided),
}

/// What to do after a part of a rule.
enum Next {
    /// The next part.
    Part,
    /// The same part again: more is known now.
    Again,
    /// The next rule: this one failed.
    Rule,
    /// Where a goal says.
    Goal(Goal),
    /// Out of the base chain.
    End(End),
}

/// How deep chains may call each other: the kernel's limit for nftables (NFT_JUMP_STACK_SIZE), and
/// more than any rule set of iptables needs.
fn deepest(tool: Tool) -> usize {
    match tool {
        Tool::Nftables => 16,
        Tool::Iptables | Tool::Ipvs => 200,
    }
}

/// The work on one base chain.
struct Visit<'a> {
    table: &'a Table,
    place: Place,
    drops: bool,
    /// Ways still to be followed.
    open: Vec<Flight>,
    left: Vec<(Flight, End)>,
}

impl Walk<'_> {
    /// Every way of `flight`, which has entered the chain, through it.
    pub(super) fn chain(&mut self, mut flight: Flight, bound: &Bound) -> Vec<(Flight, End)> {
        let ruleset = self.ruleset;
        let place = Place { hook: bound.base.hook, table: bound.table, chain: bound.chain };
        if self.steps {
            flight.record(place, None, StepKind::Enter, String::new());
        }
        let mut visit = Visit {
            table: ruleset.table(bound.table),
            place,
            drops: bound.base.drops,
            open: vec![flight],
            left: Vec::new(),
        };
        while let Some(mut flight) = visit.open.pop() {
            let end = self.follow(&mut flight, &mut visit);
            visit.left.push((flight, end));
        }
        visit.left
    }

    /// One way to its end; ways that branch off are left open in `visit`.
    fn follow(&mut self, flight: &mut Flight, visit: &mut Visit<'_>) -> End {
        let table = visit.table;
        while let Some(frame) = flight.stack.last_mut() {
            let chain = &table.chains[frame.chain as usize];
            if frame.part == 0 {
                let destination = (!flight.at_own_address).then_some(flight.destination);
                let next =
                    chain.index.next(frame.rule, chain.rules.len(), destination, flight.destination_port);
                let Some(next) = next else {
                    flight.stack.pop();
                    continue;
                };
                frame.rule = next;
                self.visits = self.visits.saturating_sub(1);
                if self.visits == 0 {
                    return End::Undecided(Undecided::TooMany);
                }
            }
            let frame = *frame;
            let rule = &chain.rules[frame.rule as usize];
            let next = match rule.parts.get(frame.part as usize) {
                None => {
                    if self.steps && !rule.parts.iter().any(is_told) {
                        self.hit(flight, visit.place, frame, rule, String::new());
                    }
                    Next::Rule
                }
                Some(Part::Test(test)) => {
                    let truth = self.truth(flight, visit.place, table, test);
                    let next = self.decide(flight, visit, frame, truth);
                    if self.steps && matches!(next, Next::Rule) {
                        let why = self.why(flight, visit.place, table, test, false);
                        flight.record(visit.place, Some(frame.rule), StepKind::Miss, why);
                    }
                    next
                }
                Some(Part::Action(action)) => self.act(flight, visit, frame, rule, action),
            };
            let Some(frame) = flight.stack.last_mut() else { break };
            match next {
                Next::Part => frame.part += 1,
                Next::Again => {}
                Next::Rule | Next::Goal(Goal::Continue) => {
                    *frame = Frame { rule: frame.rule + 1, part: 0, ..*frame }
                }
                Next::Goal(Goal::Accept) => return End::Passed,
                Next::Goal(Goal::Drop) => return End::Dropped,
                Next::Goal(Goal::Reject) => return End::Rejected,
                Next::Goal(Goal::Return) => {
                    flight.stack.pop();
                }
                Next::Goal(Goal::Jump(chain)) => {
                    *frame = Frame { rule: frame.rule + 1, part: 0, ..*frame };
                    if flight.stack.len() > deepest(table.tool) {
                        return End::Undecided(Undecided::TooDeep);
                    }
                    flight.stack.push(Frame { chain, rule: 0, part: 0 });
                }
                Next::Goal(Goal::Goto(chain)) => *frame = Frame { chain, rule: 0, part: 0 },
                Next::End(end) => return end,
            }
        }
        if self.steps {
            let policy = if visit.drops { "drop" } else { "accept" };
            flight.record(visit.place, None, StepKind::Policy, format!("end of the chain: policy {policy}"));
        }
        if visit.drops { End::Dropped } else { End::Passed }
    }

    /// A copy of `flight` that takes another way, if there is room for it.
    fn branch(&mut self, flight: &Flight, visit: &mut Visit<'_>) -> Option<Flight> {
        let room = self.may_fork();
        self.copy(flight, visit, room)
    }

    /// The same, for a way on which a condition is assumed.
    fn branch_assuming(&mut self, flight: &Flight, visit: &mut Visit<'_>) -> Option<Flight> {
        let room = self.may_assume();
        self.copy(flight, visit, room)
    }

    fn copy(&mut self, flight: &Flight, visit: &mut Visit<'_>, room: bool) -> Option<Flight> {
        if room {
            if self.copied > MOST_COPIED {
                return Some(flight.without_misses());
            }
            self.copied += flight.steps.len();
            return Some(flight.clone());
        }
        visit.left.push((flight.clone(), End::Undecided(Undecided::TooMany)));
        None
    }

    /// Goes on as `truth` says; where both are possible, a copy goes the other way.
    fn decide(&mut self, flight: &mut Flight, visit: &mut Visit<'_>, frame: Frame, truth: Truth) -> Next {
        match truth {
            Truth::Holds => Next::Part,
            Truth::Fails => Next::Rule,
            Truth::Chance(chance) => {
                let other = self.branch(flight, visit);
                match other {
                    Some(mut other) => {
                        other.probability = other.probability.and(&chance.complement());
                        self.fail(&mut other, visit, frame);
                        visit.open.push(other);
                    }
                    None => {
                        if let Some((undecided, _)) = visit.left.last_mut() {
                            undecided.probability = undecided.probability.and(&chance.complement());
                        }
                    }
                }
                flight.probability = flight.probability.and(&chance);
                Next::Part
            }
            Truth::Depends { condition, negate } => {
                // Without room for both, the copy that is left undecided has assumed nothing.
                let Some(mut other) = self.branch_assuming(flight, visit) else {
                    flight.probability = Probability::zero();
                    return Next::End(End::Undecided(Undecided::TooMany));
                };
                // Both ask again, and know the answer.
                self.assume(&mut other, condition, negate);
                visit.open.push(other);
                self.assume(flight, condition, !negate);
                Next::Again
            }
        }
    }

    /// Moves `flight` past the rule at `frame`, a test of which failed.
    fn fail(&mut self, flight: &mut Flight, visit: &Visit<'_>, frame: Frame) {
        if self.steps
            && let Some(Part::Test(test)) = visit.table.chains[frame.chain as usize].rules
                [frame.rule as usize]
                .parts
                .get(frame.part as usize)
        {
            let why = self.why(flight, visit.place, visit.table, test, false);
            flight.record(visit.place, Some(frame.rule), StepKind::Miss, why);
        }
        if let Some(top) = flight.stack.last_mut() {
            *top = Frame { rule: frame.rule + 1, part: 0, ..frame };
        }
    }

    fn hit(&self, flight: &mut Flight, place: Place, frame: Frame, rule: &Rule, does: String) {
        let table = self.ruleset.table(place.table);
        let mut why: Vec<String> = rule
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::Test(test) => Some(self.why(flight, place, table, test, true)),
                Part::Action(_) => None,
            })
            .collect();
        if let Some(Part::Action(
            Action::Lookup { key, map }
            | Action::MarkBy { key, map }
            | Action::Destination(Translation::Map { key, map, .. }),
        )) = rule.parts.get(frame.part as usize)
        {
            why.push(self.why_lookup(flight, place, table, key, *map, true));
        }
        if !does.is_empty() {
            why.push(does);
        }
        flight.record(place, Some(frame.rule), StepKind::Hit, why.join(", "));
    }

    fn act(
        &mut self,
        flight: &mut Flight,
        visit: &mut Visit<'_>,
        frame: Frame,
        rule: &Rule,
        action: &Action,
    ) -> Next {
        match action {
            Action::Note => return Next::Part,
            Action::Lookup { key, map } => return self.act_lookup(flight, visit, frame, rule, key, *map),
            Action::Destination(Translation::Balanced(balance)) => {
                return self.balance(flight, visit, frame, rule, balance);
            }
            Action::Destination(translation) => {
                return self.translate(flight, visit, frame, rule, translation);
            }
            Action::MarkBy { key, map } => {
                return self.mark_by(flight, visit, frame, rule, (key, *map));
            }
            Action::Unknown(text) => return self.act_unknown(flight, visit, frame, rule, text),
            _ => {}
        }
        if self.steps {
            self.hit(flight, visit.place, frame, rule, words::action(action, visit.table));
        }
        // Without a connection there is nothing to set, and nftables ends a rule that reads from it
        // (net/netfilter/nft_ct.c).
        let connection = flight.tracked && !flight.untracked && self.packet.state != State::Invalid;
        match action {
            Action::ConnectionMark(Mark { keep, .. }) if !connection => {
                let reads = *keep != 0 && visit.table.tool == Tool::Nftables;
                return if reads { Next::Rule } else { Next::Part };
            }
            Action::RestoreMark { .. } if !connection => {
                return if visit.table.tool == Tool::Nftables { Next::Rule } else { Next::Part };
            }
            Action::SaveMark { .. } | Action::ForgetConnectionMark if !connection => return Next::Part,
            Action::Goal(goal) => return Next::Goal(*goal),
            Action::Mark(mark) => flight.mark = flight.mark.changed(*mark),
            Action::ConnectionMark(mark) => {
                flight.connection_mark = flight.connection_mark.changed(*mark);
            }
            Action::ForgetMark => flight.mark = self.forgotten(visit.place, frame),
            Action::ForgetConnectionMark => flight.connection_mark = self.forgotten(visit.place, frame),
            Action::SaveMark { connection, packet } => {
                flight.connection_mark = flight
                    .connection_mark
                    .mixed(!connection, flight.mark, *packet)
                    .unwrap_or_else(|| self.forgotten(visit.place, frame));
            }
            Action::RestoreMark { connection, packet } => {
                flight.mark = flight
                    .mark
                    .mixed(!packet, flight.connection_mark, *connection)
                    .unwrap_or_else(|| self.forgotten(visit.place, frame));
            }
            Action::Source(source) => {
                let named = match source {
                    SourceAddress::Named(named) => *named,
                    SourceAddress::OfInterface => flight
                        .out_interface
                        .as_ref()
                        .and_then(|(_, interface)| self.node.masquerade_address(interface, self.family))
                        .map(address_value),
                };
                flight.source_translation = NewSource::Translated(named);
                flight.changed.source = named != Some(flight.source);
                flight.source = named.unwrap_or(flight.source);
                return Next::End(End::Passed);
            }
            // A packet that connection tracking has seen keeps its connection (`nft_notrack_eval`
            // of net/netfilter/nft_ct.c).
            Action::Untrack => flight.untracked |= !flight.tracked || self.packet.state == State::Invalid,
            Action::Note
            | Action::Lookup { .. }
            | Action::MarkBy { .. }
            | Action::Destination(_)
            | Action::Unknown(_) => {}
        }
        Next::Part
    }

    /// A mark of which nothing is known but which rule set it.
    fn forgotten(&mut self, place: Place, frame: Frame) -> Bits {
        Bits::of(self.fact(Fact::MarkBy(part_at(place, frame))))
    }

    /// A target that is not known: it takes the packet, or it does not.
    fn act_unknown(
        &mut self,
        flight: &mut Flight,
        visit: &mut Visit<'_>,
        frame: Frame,
        rule: &Rule,
        text: &str,
    ) -> Next {
        let taken = self.fact(Fact::Rule(part_at(visit.place, frame)));
        let asking = Asking { table: visit.place.table, chain: frame.chain, rule: frame.rule };
        let text_of = || format!("{text} takes the packet");
        let condition = self.condition(taken, &[fact::HOLDS], Kept::Nowhere, asking, text_of);
        if self.steps {
            self.hit(flight, visit.place, frame, rule, format!("{text}, which is not known"));
        }
        if let Some(takes) = flight.assumed(condition) {
            return if takes { Next::End(End::Undecided(Undecided::UnknownTarget)) } else { Next::Part };
        }
        let Some(mut other) = self.branch_assuming(flight, visit) else {
            flight.probability = Probability::zero();
            return Next::End(End::Undecided(Undecided::TooMany));
        };
        self.assume(&mut other, condition, false);
        if let Some(top) = other.stack.last_mut() {
            top.part += 1;
        }
        visit.open.push(other);
        self.assume(flight, condition, true);
        Next::End(End::Undecided(Undecided::UnknownTarget))
    }
}

/// Whether `part` is recorded as a hit by itself.
fn is_told(part: &Part) -> bool {
    matches!(part, Part::Action(action) if !matches!(action, Action::Note))
}

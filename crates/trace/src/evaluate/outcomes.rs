//! Puts the ways of a packet together to the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use portolan_service::Family;

use super::answer::{Answer, Assumption, Condition, Outcome, Path, Verdict};
use super::flight::{Flight, NewSource};
use crate::probability::Probability;
use crate::value::value_address;

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

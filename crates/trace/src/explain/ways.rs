//! All ways of a packet as one: base chain by base chain, parting only where they differ.

use std::collections::BTreeMap;

use super::case::{Case, actions};
use super::explanation::{Arm, Chance, ShownHit, ShownMiss, ShownStep, Stage, hook_name};
use crate::evaluate::{Assumption, Outcome, Path, Step, StepKind, Verdict};
use crate::probability::Probability;
use crate::ruleset::{Action, Field, Hook, Operand, Translation};

/// One way, from beginning to end.
struct Way<'a> {
    outcome: &'a Outcome,
    path: &'a Path,
    /// Where it leads.
    end: String,
    /// The base chains it comes through: number of the stage, and its steps without the entry.
    visits: Vec<(usize, &'a [Step])>,
}

/// The part of a way that is within one base chain, or what is left of it.
#[derive(Clone, Copy)]
struct Rest<'a> {
    way: usize,
    steps: &'a [Step],
}

/// A base chain at a hook.
type Place = (Hook, u32, u32);

/// All ways of `case`, stage by stage.
pub(super) fn stages(case: &Case<'_>) -> Vec<Stage> {
    let mut places: Vec<Place> = Vec::new();
    let mut ways: Vec<Way<'_>> = Vec::new();
    for (outcome, path) in case.paths() {
        let way = Way { outcome, path, end: end(case, outcome), visits: visits(path, &mut places) };
        ways.push(way);
    }
    let shown = (0..).zip(&places).map(|(number, place)| stage(case, &ways, number, *place));
    shown.collect()
}

/// Where an outcome ends, in a word.
fn end(case: &Case<'_>, outcome: &Outcome) -> String {
    match outcome.verdict {
        Verdict::Forward(to) => to.to_string(),
        Verdict::ToNode { port } => format!("port {port} of this node"),
        Verdict::Accept => format!("{}, untranslated", case.packet.destination),
        Verdict::Stopped { by, towards } if case.packet.destination != towards => {
            format!("{} on the way to {towards}", if by.rejects() { "rejected" } else { "dropped" })
        }
        Verdict::Stopped { by, .. } if by.rejects() => "rejected".to_owned(),
        Verdict::Reject => "rejected".to_owned(),
        Verdict::Drop | Verdict::Stopped { .. } => "dropped".to_owned(),
        Verdict::Undecided(_) => "undecided".to_owned(),
    }
}

/// Splits `path` at the base chains. Those that are not in `places` yet are inserted where this
/// path comes to them.
fn visits<'a>(path: &'a Path, places: &mut Vec<Place>) -> Vec<(usize, &'a [Step])> {
    let mut visits: Vec<(usize, &[Step])> = Vec::new();
    let starts: Vec<usize> =
        (0..path.steps.len()).filter(|number| path.steps[*number].kind == StepKind::Enter).collect();
    let mut next = 0;
    for (number, start) in starts.iter().enumerate() {
        let step = &path.steps[*start];
        let place = (step.hook, step.table, step.chain);
        let until = starts.get(number + 1).copied().unwrap_or(path.steps.len());
        // A packet may come through the same chain again, over the loopback interface: that is
        // another place.
        let found = places.iter().skip(next).position(|other| *other == place).map(|found| found + next);
        let at = found.unwrap_or_else(|| {
            places.push(place);
            places.len() - 1
        });
        next = at + 1;
        visits.push((at, &path.steps[start + 1..until]));
    }
    visits
}

fn stage(case: &Case<'_>, ways: &[Way<'_>], number: usize, (hook, table, chain): Place) -> Stage {
    let here: Vec<Rest<'_>> = ways
        .iter()
        .enumerate()
        .filter_map(|(way, shown)| {
            let (_, steps) = shown.visits.iter().find(|(stage, _)| *stage == number)?;
            Some(Rest { way, steps })
        })
        .collect();
    // Ways that were stopped before this stage need no mention. Ways that left in another direction
    // do.
    let come_this_far = ways
        .iter()
        .filter(|way| {
            matches!(way.outcome.verdict, Verdict::Forward(_) | Verdict::ToNode { .. } | Verdict::Accept)
                || way.visits.last().is_some_and(|(last, _)| *last >= number)
        })
        .count();
    let teller = Teller { case, ways };
    let only = if here.len() < come_this_far { teller.ends(&here) } else { Vec::new() };
    let shown = case.ruleset.table(table);
    Stage {
        hook: hook_name(hook),
        table: format!("{} {}", shown.family, shown.name),
        chain: shown.chains[chain as usize].name.to_string(),
        only,
        steps: teller.steps(here, Rules::default()),
    }
}

/// In each chain on the call stack, the next rule.
#[derive(Debug, Clone, Default)]
struct Rules {
    next: Vec<(u32, u32)>,
    missed: Vec<ShownMiss>,
    /// The last of those, until it is written.
    last: Option<Step>,
}

struct Teller<'a, 'b> {
    case: &'b Case<'a>,
    ways: &'b [Way<'a>],
}

impl<'a> Teller<'a, '_> {
    /// Step by step, as long as all of `rests` go the same way; then how they part.
    fn steps(&self, mut rests: Vec<Rest<'a>>, mut rules: Rules) -> Vec<ShownStep> {
        let mut shown = Vec::new();
        loop {
            if rests.iter().all(|rest| rest.steps.is_empty()) {
                return shown;
            }
            let first = rests[0].steps.first();
            let together = rests.iter().all(|rest| self.like(first) == self.like(rest.steps.first()));
            let Some(step) = first.filter(|_| together) else {
                self.flush(&mut rules, &mut shown);
                shown.push(ShownStep::Branch { arms: self.arms(rests, &rules) });
                return shown;
            };
            self.show(step, rests[0].steps.get(1), &mut rules, &mut shown);
            for rest in &mut rests {
                rest.steps = &rest.steps[1..];
            }
        }
    }

    fn show(&self, step: &Step, next: Option<&Step>, rules: &mut Rules, shown: &mut Vec<ShownStep>) {
        match (step.kind, step.rule) {
            (StepKind::Policy, _) => {
                self.flush(rules, shown);
                let policy = if step.why.ends_with("drop") { "drop" } else { "accept" };
                shown.push(ShownStep::Policy { policy });
            }
            (StepKind::Miss, Some(rule)) => {
                rules.missed.push(ShownMiss {
                    rule: rule + 1,
                    text: self.case.rule(step).map(|rule| rule.text.to_string()).unwrap_or_default(),
                    why: step.why.clone(),
                });
                rules.last = Some(step.clone());
                let stays = next.is_some_and(|next| {
                    next.depth >= step.depth && next.chain == step.chain && next.rule.is_some()
                });
                if !stays {
                    let len = self.case.chain(step).rules.len();
                    let from = rules.at(step);
                    self.miss(rules, step, len.saturating_sub(from as usize), shown);
                    rules.next.truncate(step.depth as usize);
                }
            }
            (StepKind::Hit, Some(rule)) => {
                let from = rules.at(step);
                self.miss(rules, step, rule.saturating_sub(from) as usize, shown);
                rules.set(step, rule + 1);
                shown.push(ShownStep::Hit(ShownHit {
                    chain: self.case.chain(step).name.to_string(),
                    rule: rule + 1,
                    depth: step.depth,
                    text: self.case.rule(step).map(|rule| rule.text.to_string()).unwrap_or_default(),
                    why: step.why.clone(),
                }));
            }
            (StepKind::Enter, _) | (StepKind::Miss | StepKind::Hit, None) => {}
        }
    }

    /// Writes the rules that did not match, `count` of them, those that were not looked at
    /// included.
    fn miss(&self, rules: &mut Rules, step: &Step, count: usize, shown: &mut Vec<ShownStep>) {
        let missed = std::mem::take(&mut rules.missed);
        rules.last = None;
        let count = count.max(missed.len());
        if count > 0 {
            let chain = self.case.chain(step).name.to_string();
            shown.push(ShownStep::Miss { chain, depth: step.depth, count, rules: missed });
        }
    }

    /// Writes the rules that did not match before something that is not a rule.
    fn flush(&self, rules: &mut Rules, shown: &mut Vec<ShownStep>) {
        let Some(step) = rules.last.take() else { return };
        let next = step.rule.map_or(0, |rule| rule + 1);
        let from = rules.at(&step);
        self.miss(rules, &step, next.saturating_sub(from) as usize, shown);
        rules.set(&step, next);
    }

    /// What makes two steps one.
    fn like<'s>(&self, step: Option<&'s Step>) -> Option<(u32, Option<u32>, u32, StepKind, &'s str)> {
        let step = step?;
        let decides =
            step.kind == StepKind::Hit && self.case.rule(step).is_some_and(|rule| actions(rule).any(draws));
        Some((step.chain, step.rule, step.depth, step.kind, if decides { &step.why } else { "" }))
    }

    /// The ways that part here. A rule that sends some of the packets away leaves the rest to the
    /// rules after it: all of those are shown as one choice.
    fn arms(&self, mut rests: Vec<Rest<'a>>, rules: &Rules) -> Vec<Arm> {
        let all = rests.clone();
        let mut arms = Vec::new();
        let mut rules = rules.clone();
        loop {
            let mut groups: Vec<Vec<Rest<'a>>> = Vec::new();
            for rest in rests {
                let like = self.like(rest.steps.first());
                match groups.iter_mut().find(|group| self.like(group[0].steps.first()) == like) {
                    Some(group) => group.push(rest),
                    None => groups.push(vec![rest]),
                }
            }
            let passed = groups
                .iter()
                .position(|group| group[0].steps.first().is_some_and(|step| step.kind == StepKind::Miss));
            let (Some(passed), true) = (passed, groups.len() > 1) else {
                arms.extend(groups.into_iter().map(|group| self.arm(group, &all, &rules)));
                break;
            };
            let mut others = groups.remove(passed);
            arms.extend(groups.into_iter().map(|group| self.arm(group, &all, &rules)));
            // On with those that the rule passed by, over all that the next rules pass by, too.
            loop {
                let like = self.like(others[0].steps.first());
                let together = others.iter().all(|rest| self.like(rest.steps.first()) == like);
                let Some(step) =
                    others[0].steps.first().filter(|step| together && step.kind == StepKind::Miss)
                else {
                    break;
                };
                if let Some(rule) = step.rule {
                    rules.set(step, rule + 1);
                }
                let leaves =
                    others[0].steps.get(1).is_none_or(|next| next.depth < step.depth || next.rule.is_none());
                for rest in &mut others {
                    rest.steps = &rest.steps[1..];
                }
                if leaves {
                    break;
                }
            }
            rests = others;
        }
        // Arms of a draw from a map are found last first.
        if arms.iter().all(|arm| arm.when.is_empty())
            && arms.iter().all(|arm| first_rule(arm) == first_rule(&arms[0]))
        {
            arms.sort_by(|a, b| a.leads_to.cmp(&b.leads_to));
        }
        arms
    }

    fn arm(&self, rests: Vec<Rest<'a>>, all: &[Rest<'a>], rules: &Rules) -> Arm {
        let mut sums: BTreeMap<&[Assumption], Probability> = BTreeMap::new();
        for rest in &rests {
            let way = &self.ways[rest.way];
            let sum = sums.entry(&way.outcome.conditions).or_insert_with(Probability::zero);
            *sum = sum.or(&way.path.probability);
        }
        let mut sums = sums.into_values();
        let chance = sums.next().filter(|first| sums.all(|other| other == *first));
        Arm {
            chance: chance.as_ref().map(Chance::from),
            when: self.when(&rests, all),
            leads_to: self.ends(&rests),
            steps: self.steps(rests, rules.clone()),
        }
    }

    /// What is assumed on all of `rests` and not on all of `all`.
    fn when(&self, rests: &[Rest<'a>], all: &[Rest<'a>]) -> String {
        let assumes =
            |rest: &Rest<'a>, assumed: &Assumption| self.ways[rest.way].outcome.conditions.contains(assumed);
        let own = self.ways[rests[0].way].outcome.conditions.iter().filter(|assumed| {
            rests.iter().all(|rest| assumes(rest, assumed)) && !all.iter().all(|rest| assumes(rest, assumed))
        });
        let mut texts: Vec<String> = Vec::new();
        let mut not_remembered = false;
        for assumed in own {
            let condition = &self.case.answer.conditions[assumed.condition as usize];
            match (assumed.holds, condition.remembers) {
                (true, _) => texts.push(format!("if {}", condition.text)),
                (false, true) => not_remembered = true,
                (false, false) => texts.push(format!("unless {}", condition.text)),
            }
        }
        if texts.is_empty() && not_remembered {
            texts.push("if the client is not remembered".to_owned());
        }
        texts.join(", ")
    }

    fn ends(&self, rests: &[Rest<'a>]) -> Vec<String> {
        let mut ends: Vec<String> = rests.iter().map(|rest| self.ways[rest.way].end.clone()).collect();
        ends.sort();
        ends.dedup();
        ends
    }
}

impl Rules {
    /// The next rule of the chain that `step` is in.
    fn at(&mut self, step: &Step) -> u32 {
        self.next.truncate(step.depth as usize + 1);
        match self.next.get(step.depth as usize) {
            Some((chain, next)) if *chain == step.chain => *next,
            _ => 0,
        }
    }

    fn set(&mut self, step: &Step, next: u32) {
        let depth = step.depth as usize;
        self.next.truncate(depth + 1);
        while self.next.len() <= depth {
            self.next.push((u32::MAX, 0));
        }
        self.next[depth] = (step.chain, next);
    }
}

fn first_rule(arm: &Arm) -> Option<(&str, u32)> {
    match arm.steps.first() {
        Some(ShownStep::Hit(hit)) => Some((&hit.chain, hit.rule)),
        _ => None,
    }
}

/// Whether one of several destinations or chains is drawn.
fn draws(action: &Action) -> bool {
    let random = |key: &[Operand]| key.iter().any(|operand| matches!(operand.field, Field::Random { .. }));
    match action {
        Action::Lookup { key, .. } | Action::Destination(Translation::Map { key, .. }) => random(key),
        Action::Destination(Translation::To { .. } | Translation::Balanced(_)) => true,
        _ => false,
    }
}

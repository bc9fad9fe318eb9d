//! Which source address the other end sees, and why.

use std::net::IpAddr;

use super::case::{Case, actions, calls, is, tests};
use super::explanation::{ShownRule, ShownSource};
use crate::evaluate::{Outcome, Path, Step, StepKind, Verdict};
use crate::ruleset::{Action, Field, Mark, Rule, Test};

/// What is shown of the source. `None` if no packet like this arrives.
pub(super) fn source(case: &Case<'_>) -> Option<ShownSource> {
    let arriving: Vec<&Outcome> = case
        .unremembered()
        .filter(|outcome| {
            matches!(outcome.verdict, Verdict::Forward(_) | Verdict::ToNode { .. } | Verdict::Accept)
        })
        .collect();
    let first = arriving.first()?;
    let addresses: Vec<Option<IpAddr>> = arriving.iter().map(|outcome| case.seen_source(outcome)).collect();
    let address = addresses[0].filter(|first| addresses.iter().all(|other| *other == Some(*first)));
    let translated: Vec<&&Outcome> = arriving.iter().filter(|outcome| outcome.masquerade).collect();
    let Some(example) = translated.first() else {
        let why = kept(case, first);
        return Some(ShownSource { masquerade: "never", address, why, marked_by: None, translated_by: None });
    };
    let always = translated.len() == arriving.len();
    let (why, marked_by, translated_by) = translation(case, example);
    Some(ShownSource {
        masquerade: if always { "always" } else { "sometimes" },
        address,
        why,
        marked_by,
        translated_by,
    })
}

/// Why the source is kept.
fn kept(case: &Case<'_>, outcome: &Outcome) -> String {
    if outcome.verdict == Verdict::Accept {
        return "no rule translates the source".to_owned();
    }
    // A rule that would have marked or masqueraded, and why it did not.
    let passed = outcome.paths.first().into_iter().flat_map(|path| &path.steps).find(|step| {
        is(step, StepKind::Miss)
            && case.is_proxys(step)
            && case
                .rule(step)
                .is_some_and(|rule| asks_for_source(rule) && (masquerades(rule) || marks(case, step, rule)))
    });
    match passed {
        Some(step) if ["source ", "in-interface "].iter().any(|field| step.why.starts_with(field)) => {
            format!("no rule masquerades it: {} (chain {})", step.why, case.chain(step).name)
        }
        _ => "no rule masquerades it".to_owned(),
    }
}

/// Whether `rule` looks where the packet comes from, and not only whether it comes from its own
/// destination.
fn asks_for_source(rule: &Rule) -> bool {
    tests(rule).any(|test| match test {
        Test::Compare { operand, negate, ranges } => match operand.field {
            Field::Source(_) => *negate || ranges.only().is_none(),
            Field::InInterface => *negate,
            _ => false,
        },
        Test::Lookup { key, negate, .. } => {
            *negate
                && key.iter().any(|operand| matches!(operand.field, Field::Source(_) | Field::InInterface))
        }
        _ => false,
    })
}

fn masquerades(rule: &Rule) -> bool {
    actions(rule).any(|action| matches!(action, Action::Source(_)))
}

fn sets_mark(rule: &Rule) -> bool {
    actions(rule)
        .any(|action| matches!(action, Action::Mark(Mark { keep, flip }) if *flip != 0 && keep & flip == 0))
}

/// Whether `rule`, or the chain it calls, sets a bit of the mark.
fn marks(case: &Case<'_>, step: &Step, rule: &Rule) -> bool {
    sets_mark(rule)
        || calls(rule).is_some_and(|chain| {
            let called = &case.table(step).chains[chain as usize];
            called.rules.len() <= 2 && called.rules.iter().any(sets_mark)
        })
}

/// Why the source is translated, the rule that marked the packet for it, and the rule that did it.
fn translation(case: &Case<'_>, outcome: &Outcome) -> (String, Option<ShownRule>, Option<ShownRule>) {
    let unknown = || ("a rule translates the source".to_owned(), None, None);
    let Some(path) = outcome.paths.first() else { return unknown() };
    let at = path
        .steps
        .iter()
        .rposition(|step| is(step, StepKind::Hit) && case.rule(step).is_some_and(masquerades));
    let Some(at) = at else { return unknown() };
    let step = &path.steps[at];
    let by_mark = case
        .chain(step)
        .rules
        .iter()
        .flat_map(tests)
        .any(|test| matches!(test, Test::Compare { operand, .. } if operand.field == Field::Mark));
    let marker = if by_mark { marker(case, path, at) } else { None };
    let decisive = marker.unwrap_or_else(|| caller(case, path, at));
    let why = case.rule(decisive).map_or_else(String::new, |rule| reason(case, decisive, rule));
    (why, marker.map(|step| case.shown_rule(step)), Some(case.shown_rule(step)))
}

/// The rule that marked the packet, or that called the chain that only does that.
fn marker<'a>(case: &Case<'_>, path: &'a Path, until: usize) -> Option<&'a Step> {
    let at = path.steps[..until]
        .iter()
        .rposition(|step| is(step, StepKind::Hit) && case.rule(step).is_some_and(sets_mark))?;
    let asks = case.rule(&path.steps[at]).is_some_and(|rule| tests(rule).next().is_some());
    if asks || !case.chain(&path.steps[at]).name.starts_with("KUBE-MARK") {
        return Some(&path.steps[at]);
    }
    Some(called_from(path, at).unwrap_or(&path.steps[at]))
}

/// The rule that sent the packet to the chain of the rule at `at`, if the latter asks nothing
/// itself.
fn caller<'a>(case: &Case<'_>, path: &'a Path, at: usize) -> &'a Step {
    let step = &path.steps[at];
    let asks = case.rule(step).is_some_and(|rule| tests(rule).next().is_some());
    if asks || is_own(&case.chain(step).name) { step } else { called_from(path, at).unwrap_or(step) }
}

fn called_from(path: &Path, at: usize) -> Option<&Step> {
    let depth = path.steps[at].depth;
    path.steps[..at].iter().rev().find(|step| is(step, StepKind::Hit) && step.depth < depth)
}

/// Chains of our own flat table whose name says when they masquerade.
fn is_own(chain: &str) -> bool {
    matches!(chain, "masq-cluster" | "masq-always" | "masq-node")
}

fn reason(case: &Case<'_>, step: &Step, rule: &Rule) -> String {
    let source = case.packet.source.ip();
    for test in tests(rule) {
        match test {
            Test::Compare { operand, ranges, negate } => match operand.field {
                Field::Source(_) if !*negate && ranges.only().is_some() => return hairpin(),
                Field::Source(_) | Field::InInterface if *negate => return outside(source),
                Field::SourceType => return "the node itself sends it".to_owned(),
                _ => {}
            },
            Test::Lookup { key, negate, .. } => {
                let has = |wanted: fn(&Field) -> bool| key.iter().any(|operand| wanted(&operand.field));
                if has(|field| matches!(field, Field::Source(_)))
                    && has(|field| matches!(field, Field::Destination(_)))
                {
                    return hairpin();
                }
                if *negate && has(|field| matches!(field, Field::Source(_) | Field::InInterface)) {
                    return outside(source);
                }
            }
            _ => {}
        }
    }
    let chain = &*case.chain(step).name;
    if chain.starts_with("KUBE-EXT-") || chain.starts_with("external-") || chain == "masq-always" {
        return "traffic to an external address of a Service is masqueraded, so that replies come back through this node"
            .to_owned();
    }
    match &rule.comment {
        Some(comment) => format!("rule of chain {chain} with the comment \"{comment}\""),
        None => format!("rule of chain {chain}"),
    }
}

fn hairpin() -> String {
    "the pod reaches itself, and must see another address than its own".to_owned()
}

fn outside(source: IpAddr) -> String {
    format!("{source} is not one of the pods from which the proxy keeps the source")
}

//! From one state of a few Services to the next: what changed, and nothing else.

use std::collections::HashMap;

use portolan_service::ServicePlan;

use super::chains::{Counts, Shared, Style, Table};
use super::rule::Rule;
use super::script::Script;
use super::service::{ServiceRules, render};
use crate::owner::Owner;

/// Adds to `script` what brings one Service from `before` to `after`, and corrects `counts`.
///
/// Rules in shared chains come and go one by one: new ones at the top, as their order among
/// Services means nothing (spec §5.31) and the end of the chain is taken. Chains of the Service
/// that differ are written anew.
pub(super) fn change(
    script: &mut Script,
    counts: &mut Counts,
    style: &Style,
    before: Option<&ServicePlan>,
    after: Option<&ServicePlan>,
    owner: Owner,
) {
    let owner = Some(owner);
    let rules =
        |plan: Option<&ServicePlan>| plan.map_or_else(ServiceRules::default, |plan| render(style, plan));
    let (before, after) = (rules(before), rules(after));
    counts.change(before.count(), after.count());

    let mut left: HashMap<&(Shared, Rule), usize> = HashMap::new();
    for held in &before.shared {
        *left.entry(held).or_default() += 1;
    }
    for wanted @ (shared, rule) in &after.shared {
        match left.get_mut(wanted) {
            Some(count) if *count > 0 => *count -= 1,
            _ => script.insert(shared.table(), shared.chain(), rule, owner),
        }
    }
    for held @ (shared, rule) in &before.shared {
        if let Some(count) = left.get_mut(held).filter(|count| **count > 0) {
            *count -= 1;
            script.delete(shared.table(), shared.chain(), rule, owner);
        }
    }

    let mut old: HashMap<String, _> = before.chains.into_iter().collect();
    for (chain, rules) in after.chains {
        if old.remove(&chain).is_some_and(|held| held == rules) {
            continue;
        }
        script.declare(Table::Nat, &chain, owner);
        for rule in &rules {
            script.append(Table::Nat, &chain, rule, owner);
        }
    }
    let mut gone: Vec<&String> = old.keys().collect();
    gone.sort_unstable();
    for chain in gone {
        script.remove(Table::Nat, chain, owner);
    }
}

//! Pools of load-balancer addresses, in the fields of MetalLB's `IPAddressPool`.

use std::collections::HashSet;

use portolan_service::{
    AddressPool, AddressRange, LabelExpression, LabelOperator, LabelSelector, PoolAllocation,
};
use serde_json::{Value, json};

use crate::config::LoadBalancer;
use crate::object;
use crate::problems::Problems;

/// The pools that are given. Those that have addresses in common with one before are wrong.
pub(crate) fn load_balancer(given: &object::LoadBalancer, problems: &mut Problems<'_>) -> LoadBalancer {
    let mut pools: Vec<AddressPool> = Vec::new();
    let mut names = HashSet::new();
    for (i, given) in given.pools.iter().enumerate() {
        let path = format!("loadBalancer.pools[{i}]");
        let name = &given.name;
        if name.is_empty() {
            problems.error(&path, "name is missing; Services ask for a pool by it");
        } else if !names.insert(name) {
            problems.error(&format!("{path}.name"), format!("{name:?} is the name of two pools; rename one"));
        }
        let pool = pool(given, &path, problems);
        if let Some(other) = pools.iter().find(|other| other.overlaps(&pool)) {
            let other = &other.name;
            let message = format!("pool {name} has addresses that pool {other} has; leave them out of one");
            problems.error(&format!("{path}.addresses"), message);
        }
        pools.push(pool);
    }
    LoadBalancer { default: given.default.unwrap_or(true), pools }
}

fn pool(given: &object::Pool, path: &str, problems: &mut Problems<'_>) -> AddressPool {
    let field = format!("{path}.addresses");
    if given.addresses.is_empty() {
        problems.error(&field, "missing; give networks or ranges such as 192.0.2.240/28");
    }
    let mut ranges = Vec::new();
    for (i, text) in given.addresses.iter().enumerate() {
        match text.parse::<AddressRange>() {
            Ok(range) => ranges.push(range),
            Err(error) => problems.error(&format!("{field}[{i}]"), error.to_string()),
        }
    }
    AddressPool {
        auto_assign: given.auto_assign.unwrap_or(true),
        avoid_buggy: given.avoid_buggy_ips.unwrap_or_default(),
        allocation: allocation(&given.service_allocation, &format!("{path}.serviceAllocation"), problems),
        ..AddressPool::new(&given.name, ranges)
    }
}

fn allocation(
    given: &object::ServiceAllocation,
    path: &str,
    problems: &mut Problems<'_>,
) -> Option<PoolAllocation> {
    if *given == object::ServiceAllocation::default() {
        return None;
    }
    let priority = given.priority.unwrap_or_default();
    let priority = u32::try_from(priority).unwrap_or_else(|_| {
        problems.error(&format!("{path}.priority"), format!("{priority} is below 0"));
        0
    });
    let mut selectors = |name: &str, given: &[object::Selector]| {
        let given = given.iter().enumerate();
        given.map(|(i, given)| selector(given, &format!("{path}.{name}[{i}]"), problems)).collect()
    };
    Some(PoolAllocation {
        priority,
        namespaces: given.namespaces.iter().cloned().collect(),
        namespace_selectors: selectors("namespaceSelectors", &given.namespace_selectors),
        service_selectors: selectors("serviceSelectors", &given.service_selectors),
    })
}

fn selector(given: &object::Selector, path: &str, problems: &mut Problems<'_>) -> LabelSelector {
    let mut expressions = Vec::new();
    for (i, given) in given.expressions.iter().enumerate() {
        let word = given.operator.as_str();
        let Some((_, operator)) = LabelOperator::ALL.into_iter().find(|(name, _)| *name == word) else {
            let field = format!("{path}.matchExpressions[{i}].operator");
            problems.error(&field, format!("{word:?} is not one of In, NotIn, Exists, DoesNotExist"));
            continue;
        };
        let (key, values) = (given.key.clone(), given.values.iter().cloned().collect());
        expressions.push(LabelExpression { key, operator, values });
    }
    LabelSelector { labels: given.labels.clone(), expressions }
}

/// As the file has it.
pub(crate) fn to_json(load_balancer: &LoadBalancer) -> Value {
    let pools: Vec<Value> = load_balancer.pools.iter().map(pool_to_json).collect();
    json!({ "default": load_balancer.default, "pools": pools })
}

fn pool_to_json(pool: &AddressPool) -> Value {
    let addresses: Vec<String> = pool.ranges.iter().map(ToString::to_string).collect();
    let mut json = json!({
        "name": *pool.name,
        "addresses": addresses,
        "autoAssign": pool.auto_assign,
        "avoidBuggyIPs": pool.avoid_buggy,
    });
    if let Some(allocation) = &pool.allocation {
        let selectors = |list: &[LabelSelector]| list.iter().map(selector_to_json).collect::<Vec<_>>();
        json["serviceAllocation"] = json!({
            "priority": allocation.priority,
            "namespaces": allocation.namespaces,
            "namespaceSelectors": selectors(&allocation.namespace_selectors),
            "serviceSelectors": selectors(&allocation.service_selectors),
        });
    }
    json
}

fn selector_to_json(selector: &LabelSelector) -> Value {
    let expression = |expression: &LabelExpression| {
        let operator = LabelOperator::ALL.into_iter().find(|(_, operator)| *operator == expression.operator);
        let operator = operator.map(|(name, _)| name);
        json!({ "key": expression.key, "operator": operator, "values": expression.values })
    };
    let expressions: Vec<Value> = selector.expressions.iter().map(expression).collect();
    json!({ "matchLabels": selector.labels, "matchExpressions": expressions })
}

//! Pools from MetalLB's `IPAddressPool` objects (metallb.io/v1beta1).

use std::collections::{BTreeMap, BTreeSet};

use portolan_service::{
    AddressPool, AddressRange, LabelExpression, LabelOperator, LabelSelector, PoolAllocation,
};
use serde::Deserialize;
use serde_json::Value;

/// Where they are, in all namespaces.
pub(crate) const PATH: &str = "/apis/metallb.io/v1beta1/ipaddresspools";

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    addresses: Vec<String>,
    auto_assign: Option<bool>,
    #[serde(rename = "avoidBuggyIPs")]
    avoid_buggy_ips: bool,
    service_allocation: Option<Allocation>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Allocation {
    priority: u32,
    namespaces: Option<BTreeSet<String>>,
    namespace_selectors: Option<Vec<Selector>>,
    service_selectors: Option<Vec<Selector>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Selector {
    match_labels: Option<BTreeMap<String, String>>,
    match_expressions: Option<Vec<Expression>>,
}

#[derive(Deserialize)]
struct Expression {
    key: String,
    operator: String,
    #[serde(default)]
    values: Option<BTreeSet<String>>,
}

/// The pool that an `IPAddressPool` is. The error says what is wrong with it.
pub(crate) fn pool(document: &Value) -> Result<AddressPool, String> {
    let name = document["metadata"]["name"].as_str().unwrap_or_default();
    let wrong = |message: String| format!("IPAddressPool {name} is not used: {message}");
    let spec = Spec::deserialize(&document["spec"]).map_err(|error| wrong(format!("spec: {error}")))?;
    let ranges = spec.addresses.iter().map(|text| text.parse::<AddressRange>());
    let ranges = ranges
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(format!("spec.addresses: {error}; mend it")))?;
    let allocation = spec.service_allocation.map(allocation).transpose();
    let allocation = allocation.map_err(|error| wrong(format!("spec.serviceAllocation: {error}")))?;
    Ok(AddressPool {
        auto_assign: spec.auto_assign.unwrap_or(true),
        avoid_buggy: spec.avoid_buggy_ips,
        allocation,
        ..AddressPool::new(name, ranges)
    })
}

fn allocation(given: Allocation) -> Result<PoolAllocation, String> {
    let selectors = |given: Option<Vec<Selector>>| {
        given.into_iter().flatten().map(selector).collect::<Result<Vec<_>, String>>()
    };
    Ok(PoolAllocation {
        priority: given.priority,
        namespaces: given.namespaces.unwrap_or_default(),
        namespace_selectors: selectors(given.namespace_selectors)?,
        service_selectors: selectors(given.service_selectors)?,
    })
}

fn selector(given: Selector) -> Result<LabelSelector, String> {
    let expressions = given.match_expressions.into_iter().flatten().map(|given| {
        let known = LabelOperator::ALL.into_iter().find(|(name, _)| *name == given.operator);
        let (_, operator) = known.ok_or_else(|| {
            format!("operator {:?} is not one of In, NotIn, Exists, DoesNotExist", given.operator)
        })?;
        Ok(LabelExpression { key: given.key, operator, values: given.values.unwrap_or_default() })
    });
    let expressions = expressions.collect::<Result<Vec<_>, String>>()?;
    Ok(LabelSelector { labels: given.match_labels.unwrap_or_default(), expressions })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pools_are_read_as_metallb_has_them() {
        let read = pool(&json!({
            "metadata": {"namespace": "metallb-system", "name": "bank"},
            "spec": {
                "addresses": ["192.0.2.0/28", "2001:db8::1-2001:db8::9"], "autoAssign": false, "avoidBuggyIPs": true,
                "serviceAllocation": {
                    "priority": 50, "namespaces": ["bank"],
                    "namespaceSelectors": [{"matchLabels": {"kind": "bank"}}],
                    "serviceSelectors": [{"matchExpressions": [{"key": "tier", "operator": "In", "values": ["front"]}]}],
                },
            },
        }));
        let read = read.expect("a pool");
        assert_eq!((&*read.name, read.ranges.len(), read.auto_assign), ("bank", 2, false));
        assert!(read.avoid_buggy);
        let allocation = read.allocation.expect("it is for some");
        assert_eq!(allocation.priority, 50);
        let labels = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        assert!(allocation.namespace_selectors[0].selects(&labels("kind", "bank")));
        assert!(!allocation.service_selectors[0].selects(&labels("tier", "back")));
        let plain = pool(&json!({"metadata": {"name": "lan"}, "spec": {"addresses": ["192.0.2.1/32"]}}));
        let plain = plain.expect("a pool");
        assert!(plain.auto_assign && plain.allocation.is_none());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (spec, part) in [
            (json!({"addresses": ["lan"]}), "spec.addresses"),
            (json!({"addresses": 7}), "spec"),
            (
                json!({"addresses": [], "serviceAllocation": {"serviceSelectors":
                    [{"matchExpressions": [{"key": "a", "operator": "Is"}]}]}}),
                "operator \"Is\"",
            ),
        ] {
            let error = pool(&json!({"metadata": {"name": "lan"}, "spec": spec})).expect_err(part);
            assert!(error.contains(part) && error.contains("IPAddressPool lan"), "{error}");
        }
    }
}

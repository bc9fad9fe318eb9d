//! Pools of load-balancer addresses, and which Services they are for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::{AddressRange, Family};

/// Addresses that Services of type LoadBalancer can be given. The fields, and what they mean, are
/// those of MetalLB's `IPAddressPool` (metallb.io/v1beta1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressPool {
    /// By which Services can ask for it.
    pub name: Arc<str>,
    /// `addresses`: given in this order.
    pub ranges: Vec<AddressRange>,
    /// `autoAssign`: also for Services that do not ask for it.
    pub auto_assign: bool,
    /// `avoidBuggyIPs`: not those IPv4 addresses that end with .0 or .255.
    pub avoid_buggy: bool,
    /// `serviceAllocation`: which Services it is for, before pools that are for all; `None` for
    /// all.
    pub allocation: Option<PoolAllocation>,
}

/// Which Services a pool is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolAllocation {
    /// Of several pools, the one with the lowest is used first; 0 is after all others.
    pub priority: u32,
    /// Services in these namespaces, and in those that `namespace_selectors` select. All, if there
    /// are none of either.
    pub namespaces: BTreeSet<String>,
    /// By labels of the namespace: one must select it.
    pub namespace_selectors: Vec<LabelSelector>,
    /// By labels of the Service: one must select it. All, if there are none.
    pub service_selectors: Vec<LabelSelector>,
}

/// A label selector of the API. An empty one selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// `matchLabels`
    pub labels: BTreeMap<String, String>,
    /// `matchExpressions`
    pub expressions: Vec<LabelExpression>,
}

/// An entry of `matchExpressions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelExpression {
    /// The label.
    pub key: String,
    /// What its value must be.
    pub operator: LabelOperator,
    /// Values for `In` and `NotIn`.
    pub values: BTreeSet<String>,
}

/// `operator`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelOperator {
    /// It has one of the values.
    In,
    /// It has none of the values, or there is no such label.
    NotIn,
    /// There is such a label.
    Exists,
    /// There is no such label.
    DoesNotExist,
}

impl LabelOperator {
    /// All of them, as they are written.
    pub const ALL: [(&'static str, LabelOperator); 4] = [
        ("In", LabelOperator::In),
        ("NotIn", LabelOperator::NotIn),
        ("Exists", LabelOperator::Exists),
        ("DoesNotExist", LabelOperator::DoesNotExist),
    ];
}

impl AddressPool {
    /// The name of the pool that ranges without a pool's name are in.
    pub const DEFAULT: &'static str = "default";

    /// A pool of these ranges for all Services.
    pub fn new(name: &str, ranges: Vec<AddressRange>) -> AddressPool {
        AddressPool { name: name.into(), ranges, auto_assign: true, avoid_buggy: false, allocation: None }
    }

    /// Whether it gives `address`.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(address)) && !self.avoids(address)
    }

    /// Whether it does not give `address` because some devices take it for that of a network.
    pub fn avoids(&self, address: IpAddr) -> bool {
        self.avoid_buggy && matches!(address, IpAddr::V4(v4) if matches!(v4.octets()[3], 0 | 255))
    }

    /// How many addresses of `family` it can give; those in two of its ranges count twice.
    pub fn size(&self, family: Family) -> u128 {
        let ranges = self.ranges.iter().filter(|range| range.family() == family);
        let avoided = |range: &AddressRange| {
            if !self.avoid_buggy || family == Family::V6 {
                return 0;
            }
            // Numbers up to the last one, and before the first one, whose last octet is `octet`.
            let up_to =
                |octet: u128| (range.last() + 256 - octet) / 256 - (range.first() + 255 - octet) / 256;
            up_to(0) + up_to(255)
        };
        ranges.map(|range| range.count() - avoided(range)).fold(0, u128::saturating_add)
    }

    /// Whether any address is in both.
    pub fn overlaps(&self, other: &AddressPool) -> bool {
        self.ranges.iter().any(|range| other.ranges.iter().any(|other| range.overlaps(other)))
    }
}

impl LabelSelector {
    /// Whether it selects what has these labels.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(|expression| expression.holds(labels.get(&expression.key)))
    }
}

impl LabelExpression {
    fn holds(&self, value: Option<&String>) -> bool {
        let listed = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            LabelOperator::In => listed,
            LabelOperator::NotIn => !listed,
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_select_by_labels_and_expressions() {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let expression = |key: &str, operator, values: &[&str]| LabelSelector {
            labels: BTreeMap::new(),
            expressions: vec![LabelExpression {
                key: key.to_owned(),
                operator,
                values: values.iter().map(|value| (*value).to_owned()).collect(),
            }],
        };
        let with = |value: &str| LabelSelector {
            labels: BTreeMap::from([("app".to_owned(), value.to_owned())]),
            expressions: Vec::new(),
        };
        let table = [
            ("empty", LabelSelector::default(), true),
            ("label", with("web"), true),
            ("other value", with("db"), false),
            ("In", expression("app", LabelOperator::In, &["db", "web"]), true),
            ("In, other", expression("app", LabelOperator::In, &["db"]), false),
            ("NotIn", expression("app", LabelOperator::NotIn, &["db"]), true),
            ("NotIn, listed", expression("app", LabelOperator::NotIn, &["web"]), false),
            ("NotIn, no label", expression("tier", LabelOperator::NotIn, &["web"]), true),
            ("Exists", expression("app", LabelOperator::Exists, &[]), true),
            ("Exists, no label", expression("tier", LabelOperator::Exists, &[]), false),
            ("DoesNotExist", expression("tier", LabelOperator::DoesNotExist, &[]), true),
            ("DoesNotExist, label", expression("app", LabelOperator::DoesNotExist, &[]), false),
        ];
        for (name, selector, selected) in table {
            assert_eq!(selector.selects(&labels), selected, "{name}");
        }
    }

    #[test]
    fn its_size_is_what_it_gives() {
        for (range, avoid_buggy, size) in [
            ("192.0.2.0/24", false, 256),
            ("192.0.2.0/24", true, 254),
            ("192.0.2.0/23", true, 508),
            ("192.0.2.1-192.0.2.254", true, 254),
            ("192.0.2.255-192.0.3.0", true, 0),
            ("192.0.2.7", true, 1),
            ("0.0.0.0/30", true, 3),
        ] {
            let pool =
                AddressPool { avoid_buggy, ..AddressPool::new("lan", vec![range.parse().expect(range)]) };
            assert_eq!((pool.size(Family::V4), pool.size(Family::V6)), (size, 0), "{range}");
        }
        let all =
            AddressPool::new("all", vec!["::/0".parse().expect("a range"), "::1".parse().expect("one")]);
        assert_eq!(all.size(Family::V6), u128::MAX);
    }

    #[test]
    fn addresses_that_look_like_networks_are_avoided() {
        let ranges =
            vec!["192.0.2.0/23".parse().expect("a range"), "2001:db8::/64".parse().expect("a range")];
        let pool = AddressPool { avoid_buggy: true, ..AddressPool::new("lan", ranges) };
        for (address, given) in [
            ("192.0.2.0", false),
            ("192.0.2.1", true),
            ("192.0.2.255", false),
            ("192.0.3.0", false),
            ("192.0.3.254", true),
            ("192.0.4.1", false),
            ("2001:db8::", true),
            ("2001:db8::ff", true),
        ] {
            assert_eq!(pool.contains(address.parse().expect(address)), given, "{address}");
        }
    }
}

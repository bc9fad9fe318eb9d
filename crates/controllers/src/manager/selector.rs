//! Label selectors, and selectors of nodes.

use serde::{Deserialize, Serialize};

use super::object::is_default;
use crate::Labels;
use crate::labels::selects;

/// What says which objects are meant by their labels. An empty one means none.
pub(crate) trait Selects {
    fn is_empty(&self) -> bool;

    fn selects(&self, labels: &Labels) -> bool;
}

/// A selector that is a map, as ReplicationControllers have it.
impl Selects for Labels {
    fn is_empty(&self) -> bool {
        Labels::is_empty(self)
    }

    fn selects(&self, labels: &Labels) -> bool {
        !self.is_empty() && selects(self, labels)
    }
}

/// `LabelSelector`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    #[serde(skip_serializing_if = "is_default")]
    match_labels: Labels,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    match_expressions: Vec<Requirement>,
}

/// A requirement on one label, or on one field of a node.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Requirement {
    pub(crate) key: String,
    pub(crate) operator: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) values: Vec<String>,
}

impl Selects for LabelSelector {
    fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    fn selects(&self, labels: &Labels) -> bool {
        !self.is_empty()
            && selects(&self.match_labels, labels)
            && self
                .match_expressions
                .iter()
                .all(|requirement| requirement.holds(labels.get(&requirement.key).map(String::as_str)))
    }
}

impl Requirement {
    /// Whether it holds of a value, which may be absent. An unknown operator holds of nothing.
    pub(crate) fn holds(&self, value: Option<&str>) -> bool {
        let listed = value.is_some_and(|value| self.values.iter().any(|wanted| wanted == value));
        let compare = |holds: fn(&i64, &i64) -> bool| {
            let [bound] = &self.values[..] else { return false };
            let (Some(Ok(value)), Ok(bound)) = (value.map(str::parse), bound.parse()) else { return false };
            holds(&value, &bound)
        };
        match self.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => compare(i64::gt),
            "Lt" => compare(i64::lt),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn selects_by_labels_and_requirements() {
        let labels = Labels::from([("app".into(), "web".into()), ("cores".into(), "8".into())]);
        let expression = |key: &str, operator: &str, values: Value| json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] });
        // selector, selected
        let table = [
            (json!({}), false),
            (json!({ "matchLabels": { "app": "web" } }), true),
            (json!({ "matchLabels": { "app": "db" } }), false),
            (expression("app", "In", json!(["db", "web"])), true),
            (expression("app", "In", json!(["db"])), false),
            (expression("app", "NotIn", json!(["db"])), true),
            (expression("none", "NotIn", json!(["db"])), true),
            (expression("app", "NotIn", json!(["web"])), false),
            (expression("app", "Exists", json!([])), true),
            (expression("none", "Exists", json!([])), false),
            (expression("none", "DoesNotExist", json!([])), true),
            (expression("app", "DoesNotExist", json!([])), false),
            (expression("cores", "Gt", json!(["7"])), true),
            (expression("cores", "Gt", json!(["8"])), false),
            (expression("cores", "Lt", json!(["9"])), true),
            (expression("app", "Lt", json!(["9"])), false),
            (expression("app", "Like", json!(["web"])), false),
        ];
        for (selector, selected) in table {
            let read = LabelSelector::deserialize(&selector).expect("readable");
            assert_eq!(read.selects(&labels), selected, "{selector}");
        }
    }
}

//! Where pods may be: taints and tolerations, selectors and affinity of nodes.

use serde::{Deserialize, Serialize};

use super::object::{Condition, Object, is_default};
use super::selector::Requirement;
use super::time::Timestamp;

/// A Node.
pub type Node = Object<NodeSpec, NodeStatus>;

/// `spec` of a Node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    pub(crate) unschedulable: bool,
    pub(crate) taints: Vec<Taint>,
}

/// `status` of a Node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) allocatable: std::collections::BTreeMap<String, serde_json::Value>,
}

/// An entry of a node's `spec.taints`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Taint {
    pub(crate) key: String,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) value: String,
    pub(crate) effect: String,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) time_added: Option<Timestamp>,
}

/// An entry of a pod's `spec.tolerations`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Toleration {
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) key: String,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) operator: String,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) value: String,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) effect: String,
    #[serde(rename = "tolerationSeconds", skip_serializing_if = "is_default")]
    pub(crate) seconds: Option<i64>,
}

impl Toleration {
    pub(crate) fn tolerates(&self, taint: &Taint) -> bool {
        let key = self.key == taint.key || (self.key.is_empty() && self.operator == "Exists");
        let value = match self.operator.as_str() {
            "" | "Equal" => self.value == taint.value,
            "Exists" => true,
            _ => false,
        };
        key && value && (self.effect.is_empty() || self.effect == taint.effect)
    }
}

/// The first of the taints with one of these effects that is not tolerated.
pub(crate) fn untolerated<'a>(
    taints: &'a [Taint],
    tolerations: &[Toleration],
    effects: &[&str],
) -> Option<&'a Taint> {
    taints.iter().find(|taint| {
        effects.contains(&taint.effect.as_str())
            && !tolerations.iter().any(|toleration| toleration.tolerates(taint))
    })
}

/// `spec.affinity` of a pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Affinity {
    pub(crate) node_affinity: NodeAffinity,
}

/// `nodeAffinity`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    required: Option<NodeSelector>,
}

/// Terms of which one must hold.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeSelector {
    node_selector_terms: Vec<Term>,
}

/// Requirements that must all hold. A term without any holds of no node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Term {
    match_expressions: Vec<Requirement>,
    match_fields: Vec<Requirement>,
}

impl Affinity {
    /// Whether a pod may be on a node.
    pub(crate) fn allows(&self, node: &Node) -> bool {
        let Some(required) = &self.node_affinity.required else { return true };
        required.node_selector_terms.iter().any(|term| {
            let labels = term.match_expressions.iter();
            let fields = term.match_fields.iter();
            !(term.match_expressions.is_empty() && term.match_fields.is_empty())
                && labels.into_iter().all(|requirement| {
                    requirement.holds(node.metadata.labels.get(&requirement.key).map(String::as_str))
                })
                && fields.into_iter().all(|requirement| {
                    requirement.key == "metadata.name" && requirement.holds(Some(&node.metadata.name))
                })
        })
    }

    /// The only node that it allows, by name, as it is for a DaemonSet's pod.
    pub(crate) fn only_node(&self) -> Option<&str> {
        let terms = &self.node_affinity.required.as_ref()?.node_selector_terms;
        let names = terms.iter().map(|term| {
            let field = term.match_fields.iter().find(|field| {
                field.key == "metadata.name" && field.operator == "In" && field.values.len() == 1
            });
            field.map(|field| field.values[0].as_str())
        });
        let mut names = names;
        let first = names.next()??;
        names.all(|name| name == Some(first)).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerates() {
        let taint =
            Taint { key: "a".into(), value: "1".into(), effect: "NoSchedule".into(), time_added: None };
        // key, operator, value, effect, tolerated
        let table = [
            ("a", "", "1", "", true),
            ("a", "Equal", "1", "NoSchedule", true),
            ("a", "Equal", "2", "", false),
            ("a", "Exists", "", "", true),
            ("a", "Exists", "", "NoExecute", false),
            ("", "Exists", "", "", true),
            ("", "", "1", "", false),
            ("b", "Exists", "", "", false),
            ("a", "Like", "1", "", false),
        ];
        for (key, operator, value, effect, tolerated) in table {
            let toleration = Toleration {
                key: key.into(),
                operator: operator.into(),
                value: value.into(),
                effect: effect.into(),
                seconds: None,
            };
            assert_eq!(toleration.tolerates(&taint), tolerated, "{toleration:?}");
        }
    }
}

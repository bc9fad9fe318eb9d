//! What a node has room for.

use std::collections::HashMap;
use std::fmt;

use crate::manager::placement::{Node, untolerated};
use crate::manager::pod::{Pod, Port};

/// A node, and what is on it.
pub(super) struct Room<'a> {
    node: &'a Node,
    /// How many pods, by the uid of their owner.
    owners: HashMap<&'a str, usize>,
    /// Ports of the node that pods have.
    ports: Vec<&'a Port>,
    count: usize,
    most: usize,
}

/// Why a pod cannot be on a node. The words are those of kube-scheduler 1.36.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// The node is cordoned.
    Unschedulable,
    /// It has a taint.
    Taint,
    /// It has other labels, or another name.
    Affinity,
    /// A port of the node is taken.
    Ports,
    /// As many pods are there as may be.
    Full,
}

impl Obstacle {
    /// Whether it would be gone if another pod was.
    pub(super) fn is_someone_else(&self) -> bool {
        matches!(self, Self::Ports | Self::Full)
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unschedulable => "node(s) were unschedulable",
            Self::Taint => "node(s) had untolerated taint(s)",
            Self::Affinity => "node(s) didn't match Pod's node affinity/selector",
            Self::Ports => "node(s) didn't have free ports for the requested pod ports",
            Self::Full => "Too many pods",
        })
    }
}

/// The ports of its node that a pod has. Init containers have theirs before, unless they stay.
fn host_ports(pod: &Pod) -> impl Iterator<Item = &Port> {
    let staying = pod.spec.init_containers.iter().filter(|container| container.restart_policy == "Always");
    pod.spec
        .containers
        .iter()
        .chain(staying)
        .flat_map(|container| &container.ports)
        .filter(|port| port.on_host > 0)
}

fn is_any(address: &str) -> bool {
    matches!(address, "" | "0.0.0.0" | "::")
}

fn conflict(a: &Port, b: &Port) -> bool {
    let protocol = |port: &Port| match port.protocol.as_str() {
        "" => "TCP".to_owned(),
        protocol => protocol.to_owned(),
    };
    a.on_host == b.on_host
        && protocol(a) == protocol(b)
        && (a.address == b.address || is_any(&a.address) || is_any(&b.address))
}

impl<'a> Room<'a> {
    pub(super) fn of(node: &'a Node) -> Self {
        let most = node.status.allocatable.get("pods").and_then(|pods| match pods {
            serde_json::Value::String(text) => text.parse().ok(),
            number => number.as_u64().and_then(|number| usize::try_from(number).ok()),
        });
        let most = most.unwrap_or(usize::MAX);
        Self { node, owners: HashMap::new(), ports: Vec::new(), count: 0, most }
    }

    pub(super) fn take(&mut self, pod: &'a Pod) {
        if let Some(owner) = pod.controller() {
            *self.owners.entry(&owner.uid).or_default() += 1;
        }
        self.ports.extend(host_ports(pod));
        self.count += 1;
    }

    /// How many pods are there.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// How many pods of the same owner are there.
    pub(super) fn siblings(&self, pod: &Pod) -> usize {
        pod.controller().and_then(|owner| self.owners.get(owner.uid.as_str())).copied().unwrap_or_default()
    }

    /// How many taints say that the pod should rather be elsewhere.
    pub(super) fn dislikes(&self, pod: &Pod) -> usize {
        let taints = self.node.spec.taints.iter();
        taints
            .filter(|taint| {
                untolerated(std::slice::from_ref(taint), &pod.spec.tolerations, &["PreferNoSchedule"])
                    .is_some()
            })
            .count()
    }

    /// The first reason why the pod cannot be there, in the order in which kube-scheduler looks.
    pub(super) fn obstacle(&self, pod: &Pod) -> Option<Obstacle> {
        let cordon = crate::manager::placement::Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Default::default()
        };
        let tolerations = &pod.spec.tolerations;
        let effects = ["NoSchedule", "NoExecute"];
        let labels = self.node.labels();
        let is_selected = pod.spec.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value));
        if self.node.spec.unschedulable && untolerated(&[cordon], tolerations, &effects).is_some() {
            Some(Obstacle::Unschedulable)
        } else if untolerated(&self.node.spec.taints, tolerations, &effects).is_some() {
            Some(Obstacle::Taint)
        } else if !is_selected || !pod.spec.affinity.allows(self.node) {
            Some(Obstacle::Affinity)
        } else if host_ports(pod).any(|port| self.ports.iter().any(|taken| conflict(port, taken))) {
            Some(Obstacle::Ports)
        } else if self.count >= self.most {
            Some(Obstacle::Full)
        } else {
            None
        }
    }
}

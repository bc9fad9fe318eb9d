//! What becomes of nodes that are silent, and of the pods on them.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, json};

use super::circumstances::Circumstances;
use super::object::{Condition, Nothing, Object, condition, set_condition};
use super::placement::{Node, Taint, Toleration};
use super::pod::Pod;
use super::time::Timestamp;
use super::write::{Propagation, Step};

/// A Lease; that of a node is in the namespace `kube-node-lease` and has its name.
pub type Lease = Object<LeaseSpec, Nothing>;

/// `spec` of a Lease.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaseSpec {
    renew_time: Option<Timestamp>,
}

/// How long nodes may be silent, and pods stay on one that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// After so many seconds without a sign, a node counts as gone
    /// (`--node-monitor-grace-period`).
    pub node: i64,
    /// So many seconds a pod stays on a node that is not ready, if it says nothing of that itself.
    /// In a cluster it is the API server that adds this to pods.
    pub pod: i64,
}

impl Default for Patience {
    fn default() -> Self {
        Self { node: 50, pod: 300 }
    }
}

/// Who writes the events about nodes, and about pods.
const COMPONENT: &str = "node-controller";
const EVICTION: &str = "taint-eviction-controller";

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const CORDONED: &str = "node.kubernetes.io/unschedulable";

/// Looks after a node.
///
/// `pods` are those on it, `lease` is its lease. A node that has given no sign gets the conditions
/// Unknown; one that is not ready gets taints, and its pods count as not ready. Pods that do not
/// tolerate a taint with the effect `NoExecute` are deleted, in good time.
pub fn node_lifecycle<'a>(
    node: &Node,
    lease: Option<&Lease>,
    pods: impl IntoIterator<Item = &'a Pod>,
    patience: Patience,
    circumstances: &Circumstances<'_>,
) -> Step {
    let mut step = Step::default();
    let now = circumstances.now;
    let mut conditions = node.status.conditions.clone();
    let seen = last_sign(node, lease);
    if seen.plus(patience.node) < now {
        forget(&mut conditions, now);
    } else {
        step.again_at(seen.plus(patience.node + 1));
    }
    let ready = condition(&conditions, "Ready").map_or("Unknown", |ready| ready.status.as_str());
    let was_ready = condition(&node.status.conditions, "Ready").map(|ready| ready.status.as_str());
    let taints = taints(node, ready, now);
    if taints != node.spec.taints {
        step.update(node.target(), json!({ "spec": { "taints": taints } }));
    }
    let pods: Vec<&Pod> = pods.into_iter().filter(|pod| pod.spec.node_name == node.name()).collect();
    if ready != "True" {
        if was_ready == Some("True") && ready == "Unknown" {
            let message = format!("Node {} status is now: NodeNotReady", node.name());
            step.event(COMPONENT, node.target(), "NodeNotReady", message);
        }
        for pod in &pods {
            discount(pod, now, &mut step);
        }
    }
    for pod in pods {
        evict(pod, &taints, patience, now, &mut step);
    }
    if conditions != node.status.conditions {
        step.status(node.target(), Some(json!({ "conditions": conditions })));
    }
    step
}

/// When the node last gave a sign: by its lease, its condition Ready, or by being created.
fn last_sign(node: &Node, lease: Option<&Lease>) -> Timestamp {
    let heartbeat = condition(&node.status.conditions, "Ready")
        .and_then(|ready| ready.more.get("lastHeartbeatTime")?.as_str()?.parse::<Timestamp>().ok());
    let renewed = lease.and_then(|lease| lease.spec.renew_time);
    let signs = [heartbeat, renewed, node.metadata.creation_timestamp];
    signs.into_iter().flatten().max().unwrap_or(Timestamp::from_unix(0))
}

/// Nothing is known of the node any more.
fn forget(conditions: &mut Vec<Condition>, now: Timestamp) {
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let before = condition(conditions, kind);
        let (reason, message) = match before {
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
        };
        if before.is_some_and(|before| before.status == "Unknown") {
            continue;
        }
        let more = before.map(|before| before.more.clone()).unwrap_or_default();
        set_condition(
            conditions,
            Condition {
                kind: kind.to_owned(),
                status: "Unknown".to_owned(),
                last_update_time: None,
                last_transition_time: Some(now),
                reason: reason.to_owned(),
                message: message.to_owned(),
                more,
            },
        );
    }
}

/// The node's taints, with those that follow from its state. One that stays keeps its time.
fn taints(node: &Node, ready: &str, now: Timestamp) -> Vec<Taint> {
    let wanted = match ready {
        "True" => &[][..],
        "False" => &[(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")],
        _ => &[(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")],
    };
    let cordon = node.spec.unschedulable.then_some((CORDONED, "NoSchedule"));
    let wanted: Vec<(&str, &str)> = wanted.iter().copied().chain(cordon).collect();
    let is_wanted = |taint: &&Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let is_others = |taint: &Taint| ![NOT_READY, UNREACHABLE, CORDONED].contains(&taint.key.as_str());
    let kept = node.spec.taints.iter().filter(|taint| is_others(taint) || is_wanted(taint));
    let mut taints: Vec<Taint> = kept.cloned().collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|taint| (taint.key.as_str(), taint.effect.as_str()) == (key, effect)) {
            let (key, effect) = (key.to_owned(), effect.to_owned());
            taints.push(Taint { key, value: String::new(), effect, time_added: Some(now) });
        }
    }
    taints
}

/// A pod on a node that is not ready is not, so that it is no endpoint.
fn discount(pod: &Pod, now: Timestamp, step: &mut Step) {
    if !pod.is_ready() {
        return;
    }
    let mut conditions = pod.status.conditions.clone();
    let more = condition(&conditions, "Ready").map(|ready| ready.more.clone()).unwrap_or_default();
    set_condition(
        &mut conditions,
        Condition {
            kind: "Ready".to_owned(),
            status: "False".to_owned(),
            last_transition_time: Some(now),
            more,
            ..Condition::default()
        },
    );
    step.warning(COMPONENT, pod.target(), "NodeNotReady", "Node is not ready".to_owned());
    step.status(pod.target(), Some(json!({ "conditions": conditions })));
}

/// Deletes a pod that does not tolerate its node's taints, or notes when.
fn evict(pod: &Pod, taints: &[Taint], patience: Patience, now: Timestamp, step: &mut Step) {
    let due = taints.iter().filter(|taint| taint.effect == "NoExecute").filter_map(|taint| {
        let since = taint.time_added.unwrap_or(now);
        let mut tolerating =
            pod.spec.tolerations.iter().filter(|toleration| toleration.tolerates(taint)).peekable();
        if tolerating.peek().is_none() {
            let patient = [NOT_READY, UNREACHABLE].contains(&taint.key.as_str());
            return Some(since.plus(if patient { patience.pod } else { 0 }));
        }
        // One that tolerates it for good does not shorten another one's time.
        let seconds = |toleration: &Toleration| toleration.seconds;
        tolerating.filter_map(seconds).min().map(|seconds| since.plus(seconds.max(0)))
    });
    let Some(due) = due.min().filter(|_| !pod.is_deleting()) else { return };
    if due > now {
        step.again_at(due);
        return;
    }
    let message = format!("Marking for deletion Pod {}/{}", pod.namespace(), pod.name());
    step.event(EVICTION, pod.target(), "TaintManagerEviction", message);
    step.delete(pod.target(), Propagation::Background);
}

/// Deletes pods whose node is gone, at once: nobody is there to end them.
pub fn lost_pods<'a>(
    pods: impl IntoIterator<Item = &'a Pod>,
    nodes: impl IntoIterator<Item = &'a Node>,
) -> Step {
    let nodes: HashMap<&str, &Node> = nodes.into_iter().map(|node| (node.name(), node)).collect();
    let mut step = Step::default();
    for pod in pods {
        let node = pod.spec.node_name.as_str();
        if !node.is_empty() && !nodes.contains_key(node) {
            step.writes.push(super::write::Write::Delete {
                target: pod.target(),
                propagation: Propagation::Background,
                grace: Some(0),
            });
        }
    }
    step
}

/// The status of a node's conditions as its kubelet reports them while all is well.
pub fn healthy_conditions(now: Timestamp, before: Option<&Node>) -> serde_json::Value {
    let report = |kind: &str, status: &str, reason: &str, message: &str| {
        let known = before.and_then(|node| condition(&node.status.conditions, kind));
        let since = known.filter(|known| known.status == status).and_then(|known| known.last_transition_time);
        let mut more = Map::new();
        more.insert("lastHeartbeatTime".to_owned(), json!(now));
        json!(Condition {
            kind: kind.to_owned(),
            status: status.to_owned(),
            last_update_time: None,
            last_transition_time: Some(since.unwrap_or(now)),
            reason: reason.to_owned(),
            message: message.to_owned(),
            more,
        })
    };
    json!([
        report(
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available"
        ),
        report("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        report("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        report("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ])
}

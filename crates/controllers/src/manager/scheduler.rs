//! The scheduler: which node a pod is given to.

mod node_room;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::circumstances::Circumstances;
use super::object::{Condition, condition};
use super::placement::Node;
use super::pod::Pod;
use super::time::Timestamp;
use super::write::{Step, Write};
use node_room::Room;

/// Who writes the events.
const COMPONENT: &str = "default-scheduler";

/// Gives pods to nodes.
///
/// `pending` are pods in the order of their turn; those that have a node, that are on their way
/// out or that wait for something else are left alone. `nodes` are all nodes, `bound` all pods
/// that have a node.
///
/// A pod goes where the fewest of its siblings are, those of the same owner, then where the fewest
/// pods are. What a pod asks of processors and memory is not looked at, nor are affinities to
/// other pods: this is for nodes that are all one machine.
pub fn schedule<'a>(
    pending: impl IntoIterator<Item = &'a Pod>,
    nodes: impl IntoIterator<Item = &'a Node>,
    bound: impl IntoIterator<Item = &'a Pod>,
    circumstances: &mut Circumstances<'_>,
) -> Step {
    let mut step = Step::default();
    let mut rooms: BTreeMap<&str, Room<'_>> =
        nodes.into_iter().map(|node| (node.name(), Room::of(node))).collect();
    for pod in bound {
        if let Some(room) = rooms.get_mut(pod.spec.node_name.as_str()).filter(|_| !pod.is_finished()) {
            room.take(pod);
        }
    }
    for pod in pending.into_iter().filter(|pod| waits(pod)) {
        let mut obstacles: BTreeMap<String, usize> = BTreeMap::new();
        let mut helpless = 0;
        let mut best: Vec<(usize, usize, usize, &str)> = Vec::new();
        for (name, room) in &rooms {
            match room.obstacle(pod) {
                Some(obstacle) => {
                    helpless += usize::from(!obstacle.is_someone_else());
                    *obstacles.entry(obstacle.to_string()).or_default() += 1;
                }
                None => best.push((room.dislikes(pod), room.siblings(pod), room.count(), name)),
            }
        }
        let least = best.iter().map(|(dislikes, siblings, count, _)| (*dislikes, *siblings, *count)).min();
        best.retain(|(dislikes, siblings, count, _)| Some((*dislikes, *siblings, *count)) == least);
        if best.is_empty() {
            refuse(pod, &message(rooms.len(), &obstacles, helpless), circumstances.now, &mut step);
            continue;
        }
        let chance = (circumstances.random)() % u64::try_from(best.len()).unwrap_or(u64::MAX);
        let (.., node) = best[usize::try_from(chance).unwrap_or_default()];
        if let Some(room) = rooms.get_mut(node) {
            room.take(pod);
        }
        step.writes.push(Write::Bind { pod: pod.target(), node: node.to_owned() });
        let message = format!("Successfully assigned {}/{} to {node}", pod.namespace(), pod.name());
        step.event(COMPONENT, pod.target(), "Scheduled", message);
    }
    step
}

/// Whether a pod waits for a node from this scheduler.
fn waits(pod: &Pod) -> bool {
    pod.spec.node_name.is_empty()
        && pod.is_active()
        && pod.spec.scheduling_gates.is_empty()
        && matches!(pod.spec.scheduler_name.as_str(), "" | COMPONENT)
}

/// Why no node can have a pod, in the words of kube-scheduler.
fn message(nodes: usize, obstacles: &BTreeMap<String, usize>, helpless: usize) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let join = |reasons: Vec<(usize, &str)>| {
        let mut reasons: Vec<String> =
            reasons.into_iter().map(|(count, reason)| format!("{count} {reason}")).collect();
        reasons.sort();
        reasons.join(", ")
    };
    let reasons = join(obstacles.iter().map(|(reason, count)| (*count, reason.as_str())).collect());
    let preemption = [
        (nodes - helpless, "No preemption victims found for incoming pod."),
        (helpless, "Preemption is not helpful for scheduling."),
    ];
    let preemption = join(preemption.into_iter().filter(|(count, _)| *count > 0).collect());
    format!(
        "0/{nodes} nodes are available: {reasons}. preemption: 0/{nodes} nodes are available: {preemption}"
    )
}

/// Says that a pod has no node, unless that has been said.
fn refuse(pod: &Pod, message: &str, now: Timestamp, step: &mut Step) {
    let before = condition(&pod.status.conditions, "PodScheduled");
    if before.is_some_and(|before| before.status == "False" && before.message == message) {
        return;
    }
    let since =
        before.filter(|before| before.status == "False").and_then(|before| before.last_transition_time);
    let mut conditions = pod.status.conditions.clone();
    conditions.retain(|condition| condition.kind != "PodScheduled");
    conditions.push(Condition {
        kind: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        last_update_time: None,
        last_transition_time: Some(since.unwrap_or(now)),
        reason: "Unschedulable".to_owned(),
        message: message.to_owned(),
        more: Map::from_iter([("lastProbeTime".to_owned(), Value::Null)]),
    });
    step.warning(COMPONENT, pod.target(), "FailedScheduling", message.to_owned());
    step.status(pod.target(), Some(json!({ "conditions": conditions })));
}

//! Emptying a node before it leaves.

use std::time::{Duration, Instant};

use portolan_apiserver::{DeleteOptions, Objects, Resource};
use serde_json::Value;

use crate::object::{items, place};

/// Pods that have not ended by then are ended with their node.
const PATIENCE: Duration = Duration::from_mins(1);

/// Has all pods of a node end in their own good time, but for those of DaemonSets, which would only
/// come back. Returns when they are gone, or after a time.
pub(super) fn drain(objects: &Objects, node: &str) {
    let end = Instant::now() + PATIENCE;
    let mut follow = objects.follow(&[Resource::Pods]);
    loop {
        let pods = objects.list(Resource::Pods);
        let here: Vec<&Value> =
            pods.iter().filter(|pod| pod["spec"]["nodeName"] == node && !is_of_daemon_set(pod)).collect();
        let left = end.saturating_duration_since(Instant::now());
        if here.is_empty() || left.is_zero() {
            return;
        }
        for pod in here.into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()) {
            let (namespace, name) = place(pod);
            // Somebody else may have deleted it.
            let _ = objects.delete(Resource::Pods, namespace, name, &DeleteOptions::default());
        }
        follow.next(left);
    }
}

fn is_of_daemon_set(pod: &Value) -> bool {
    let mut owners = items(&pod["metadata"]["ownerReferences"]);
    owners.any(|owner| owner["kind"] == "DaemonSet" && owner["controller"] == true)
}

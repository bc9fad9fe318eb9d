//! Which pods go when there are too many.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;

use crate::manager::pod::Pod;
use crate::manager::time::Timestamp;

/// The annotation by which people say which pods should go first.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// So many of `pods`, those that would be missed least first: in the order of
/// `ActivePodsWithRanks`.
pub(super) fn choose<'a>(
    pods: &[&'a Pod],
    related: impl IntoIterator<Item = &'a Pod>,
    count: usize,
    now: Timestamp,
) -> Vec<&'a Pod> {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in related.into_iter().filter(|pod| pod.is_active()) {
        *on_node.entry(&pod.spec.node_name).or_default() += 1;
    }
    let mut pods = pods.to_vec();
    pods.sort_by(|a, b| compare(a, b, &on_node, now));
    pods.truncate(count);
    pods
}

fn compare(a: &Pod, b: &Pod, on_node: &HashMap<&str, usize>, now: Timestamp) -> Ordering {
    let neighbours = |pod: &Pod| on_node.get(pod.spec.node_name.as_str()).copied().unwrap_or_default();
    let by = |key: &dyn Fn(&Pod) -> i64| key(a).cmp(&key(b));
    by(&|pod| i64::from(!pod.spec.node_name.is_empty()))
        .then_with(|| by(&phase))
        .then_with(|| by(&|pod| i64::from(pod.is_ready())))
        .then_with(|| by(&cost))
        .then_with(|| Reverse(neighbours(a)).cmp(&Reverse(neighbours(b))))
        .then_with(|| {
            if a.is_ready() { younger(a.ready_since(), b.ready_since(), now) } else { Ordering::Equal }
        })
        .then_with(|| by(&|pod| pod.restarts().saturating_neg()))
        .then_with(|| younger(a.metadata.creation_timestamp, b.metadata.creation_timestamp, now))
        .then_with(|| (a.uid(), a.name()).cmp(&(b.uid(), b.name())))
}

fn phase(pod: &Pod) -> i64 {
    match pod.status.phase.as_str() {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    }
}

fn cost(pod: &Pod) -> i64 {
    pod.metadata.annotations.get(COST).and_then(|cost| cost.parse::<i32>().ok()).unwrap_or_default().into()
}

/// The younger first. Ages of the same order of magnitude are alike, so that not always the
/// youngest goes; then chance decides, in the shape of the uid.
///
/// The reference compares uids here already, but only if the times differ. That is no order: of
/// three pods, each can come before the next one in a circle.
fn younger(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp) -> Ordering {
    let magnitude = |time: Timestamp| {
        let age = now.unix().saturating_sub(time.unix());
        u64::try_from(age).ok().and_then(u64::checked_ilog2)
    };
    // What has no time yet is the youngest.
    a.map(magnitude).cmp(&b.map(magnitude))
}

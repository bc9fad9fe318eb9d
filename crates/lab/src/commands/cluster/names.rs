//! Names of pods, as people write them.

use anyhow::bail;

use crate::cluster::{PodStatus, Status};

/// The pod of this name: `NAME` in the namespace `default`, `NAMESPACE/NAME`, or the name alone of
/// the only pod that has it. `pod/` may come before it.
pub(super) fn pod<'s>(status: &'s Status, name: &str) -> anyhow::Result<Option<&'s PodStatus>> {
    let exact = |name: &str| status.pods.iter().find(|pod| pod.name == name);
    let bare = name.strip_prefix("pod/").unwrap_or(name);
    let in_default = bare.strip_prefix("default/").unwrap_or(bare);
    if let Some(pod) = exact(name).or_else(|| exact(in_default)) {
        return Ok(Some(pod));
    }
    let mut others =
        status.pods.iter().filter(|pod| pod.name.split_once('/').is_some_and(|(_, its)| its == bare));
    let first = others.next();
    let more: Vec<&str> = first.into_iter().chain(others).map(|pod| pod.name.as_str()).collect();
    if more.len() > 1 {
        bail!("several pods are called {bare}: say which, {}", more.join(" or "));
    }
    Ok(first)
}

/// Kinds of workloads, as kubectl calls them.
const WORKLOADS: [&str; 8] =
    ["deployment/", "deploy/", "replicaset/", "rs/", "statefulset/", "sts/", "daemonset/", "ds/"];

/// The pod of this name, or the first of the workload of this name that is ready, as in `web` or
/// `deployment/web`.
pub(super) fn pod_or_workload<'s>(status: &'s Status, name: &str) -> anyhow::Result<Option<&'s PodStatus>> {
    if let Some(pod) = pod(status, name)? {
        return Ok(Some(pod));
    }
    let bare = WORKLOADS.iter().find_map(|kind| name.strip_prefix(kind)).unwrap_or(name);
    let mut of_workload: Vec<&PodStatus> =
        status.pods.iter().filter(|pod| workload(&pod.name, bare)).collect();
    of_workload.sort_by_key(|pod| !pod.ready);
    Ok(of_workload.first().copied())
}

/// Whether a pod may be one of the workload: its name is the workload's and one or two words that
/// were made up.
fn workload(pod: &str, workload: &str) -> bool {
    let rest = pod.strip_prefix(workload).and_then(|rest| rest.strip_prefix('-'));
    rest.is_some_and(|rest| rest.split('-').count() <= 2 && !rest.contains('/'))
}

/// What has a name: the client, the nodes, the pods.
pub(super) fn all(status: &Status) -> Vec<&str> {
    let nodes = status.nodes.iter().map(|node| node.name.as_str());
    ["client"].into_iter().chain(nodes).chain(status.pods.iter().map(|pod| pod.name.as_str())).collect()
}

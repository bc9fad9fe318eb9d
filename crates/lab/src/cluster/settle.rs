//! Waiting until all is as it is to be, for whoever types the next command at once.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use portolan_apiserver::{Objects, Resource};
use portolan_observe::control::{self, Query, Table};
use serde_json::Value;

use crate::object::{is_ready, items};
use crate::own_files::own_files;

/// What is not ready within this time may never be.
const PATIENCE: Duration = Duration::from_secs(15);
/// From an endpoint's readiness to the rules of all nodes.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(5);
/// Between two questions to a proxy, which reports to nobody by itself what it has in force.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until all pods that are wanted are ready, or have ended, or cannot be.
pub(super) fn pods_ready(objects: &Objects) {
    let end = Instant::now() + PATIENCE;
    let mut follow = objects.follow(&[
        Resource::Pods,
        Resource::Deployments,
        Resource::ReplicaSets,
        Resource::ReplicationControllers,
        Resource::StatefulSets,
        Resource::DaemonSets,
    ]);
    while !is_settled(objects) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        follow.next(left);
    }
}

fn is_settled(objects: &Objects) -> bool {
    let sets = [Resource::ReplicaSets, Resource::ReplicationControllers, Resource::StatefulSets];
    let replicas = |set: &Value| set["spec"]["replicas"].as_u64() == set["status"]["replicas"].as_u64();
    let seen = |object: &Value| object["status"]["observedGeneration"] == object["metadata"]["generation"];
    let deployments = objects.list(Resource::Deployments);
    let daemon_sets = objects.list(Resource::DaemonSets);
    let scheduled =
        |set: &Value| set["status"]["desiredNumberScheduled"] == set["status"]["currentNumberScheduled"];
    deployments.iter().chain(&daemon_sets).all(seen)
        && daemon_sets.iter().all(scheduled)
        && sets
            .into_iter()
            .flat_map(|resource| objects.list(resource))
            .all(|set| seen(&set) && replicas(&set))
        && objects.list(Resource::Pods).iter().all(is_through)
}

/// Whether a pod is ready, has ended, or has failed so that it may never be ready.
fn is_through(pod: &Value) -> bool {
    let has_failed = items(&pod["status"]["containerStatuses"]).any(|one| {
        let waits_for = one["state"]["waiting"]["reason"].as_str();
        one["restartCount"].as_u64().unwrap_or_default() > 0
            || waits_for.is_some_and(|reason| !matches!(reason, "ContainerCreating" | "PodInitializing"))
    });
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    has_failed || ended || is_ready(pod)
}

/// Waits until the proxies of these nodes lead to all endpoints that are ready.
pub(super) fn in_force(state: &Path, nodes: &[String], objects: &Objects) {
    let end = Instant::now() + IN_FORCE_WITHIN;
    let wanted = wanted(objects);
    for node in nodes {
        let socket = own_files(state, node).run.join("portolan.sock");
        while Instant::now() < end {
            let rows = control::ask(&socket, &Query::of(Table::Endpoints)).unwrap_or_default();
            let known: BTreeSet<(String, String)> = items(&rows["endpoints"]).filter_map(row).collect();
            if wanted.is_subset(&known) {
                break;
            }
            thread::sleep(PAUSE);
        }
    }
}

/// Service and address of each endpoint that is to be in force.
fn wanted(objects: &Objects) -> BTreeSet<(String, String)> {
    let mut wanted = BTreeSet::new();
    for slice in objects.list(Resource::EndpointSlices) {
        let namespace = slice["metadata"]["namespace"].as_str().unwrap_or_default();
        let name = slice["metadata"]["labels"]["kubernetes.io/service-name"].as_str().unwrap_or_default();
        let service = objects.get(Resource::Services, namespace, name).unwrap_or_default();
        // Headless ones and those without ports are in no rules.
        if service["spec"]["clusterIP"] == "None" || slice["ports"].as_array().is_none_or(Vec::is_empty) {
            continue;
        }
        for endpoint in items(&slice["endpoints"]).filter(|endpoint| endpoint["conditions"]["ready"] == true)
        {
            let addresses = items(&endpoint["addresses"]).filter_map(Value::as_str).map(str::to_owned);
            wanted.extend(addresses.map(|address| (format!("{namespace}/{name}"), address)));
        }
    }
    wanted
}

/// The same of a row that a proxy answers with.
fn row(row: &Value) -> Option<(String, String)> {
    let text = |field: &str| row[field].as_str();
    Some((format!("{}/{}", text("namespace")?, text("service")?), text("address")?.to_owned()))
}

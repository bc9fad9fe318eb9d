//! Deployments and whatever else makes pods.

use serde_json::{Value, json};

use super::age::age;
use super::{Column, labels, took};
use crate::labels::selector_text;
use crate::value::{items, number, text};

pub(super) const DEPLOYMENTS: &[Column] = &[
    ("Name", 0),
    ("Ready", 0),
    ("Up-to-date", 0),
    ("Available", 0),
    ("Age", 0),
    ("Containers", 1),
    ("Images", 1),
    ("Selector", 1),
];
pub(super) const REPLICA_SETS: &[Column] = &[
    ("Name", 0),
    ("Desired", 0),
    ("Current", 0),
    ("Ready", 0),
    ("Age", 0),
    ("Containers", 1),
    ("Images", 1),
    ("Selector", 1),
];
pub(super) const DAEMON_SETS: &[Column] = &[
    ("Name", 0),
    ("Desired", 0),
    ("Current", 0),
    ("Ready", 0),
    ("Up-to-date", 0),
    ("Available", 0),
    ("Node Selector", 0),
    ("Age", 0),
    ("Containers", 1),
    ("Images", 1),
    ("Selector", 1),
];
pub(super) const STATEFUL_SETS: &[Column] =
    &[("Name", 0), ("Ready", 0), ("Age", 0), ("Containers", 1), ("Images", 1)];
pub(super) const JOBS: &[Column] = &[
    ("Name", 0),
    ("Status", 0),
    ("Completions", 0),
    ("Duration", 0),
    ("Age", 0),
    ("Containers", 1),
    ("Images", 1),
    ("Selector", 1),
];

fn count(object: &Value, pointer: &str) -> i64 {
    number(object, pointer).unwrap_or(0)
}

fn created(object: &Value, now: i64) -> Value {
    json!(age(text(object, "/metadata/creationTimestamp"), now))
}

fn containers(object: &Value, field: &str) -> Value {
    let all = items(object, "/spec/template/spec/containers");
    json!(all.map(|container| text(container, field)).collect::<Vec<_>>().join(","))
}

fn selector(object: &Value) -> Value {
    let written = selector_text(&object["spec"]["selector"]);
    json!(if written.is_empty() { "<none>" } else { &written })
}

pub(super) fn deployment(object: &Value, now: i64) -> Vec<Value> {
    vec![
        json!(format!("{}/{}", count(object, "/status/readyReplicas"), count(object, "/spec/replicas"))),
        json!(count(object, "/status/updatedReplicas")),
        json!(count(object, "/status/availableReplicas")),
        created(object, now),
        containers(object, "/name"),
        containers(object, "/image"),
        selector(object),
    ]
}

pub(super) fn replica_set(object: &Value, now: i64) -> Vec<Value> {
    vec![
        json!(count(object, "/spec/replicas")),
        json!(count(object, "/status/replicas")),
        json!(count(object, "/status/readyReplicas")),
        created(object, now),
        containers(object, "/name"),
        containers(object, "/image"),
        selector(object),
    ]
}

pub(super) fn daemon_set(object: &Value, now: i64) -> Vec<Value> {
    let counts = [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    ];
    let mut cells: Vec<Value> =
        counts.iter().map(|field| json!(count(object, &format!("/status/{field}")))).collect();
    cells.extend([
        json!(labels(&object["spec"]["template"]["spec"]["nodeSelector"])),
        created(object, now),
        containers(object, "/name"),
        containers(object, "/image"),
        selector(object),
    ]);
    cells
}

pub(super) fn stateful_set(object: &Value, now: i64) -> Vec<Value> {
    vec![
        json!(format!("{}/{}", count(object, "/status/readyReplicas"), count(object, "/spec/replicas"))),
        created(object, now),
        containers(object, "/name"),
        containers(object, "/image"),
    ]
}

pub(super) fn job(object: &Value, now: i64) -> Vec<Value> {
    let condition = |kind: &str| {
        items(object, "/status/conditions")
            .any(|condition| condition["type"] == kind && condition["status"] == "True")
    };
    let status = match () {
        () if condition("Complete") => "Complete",
        () if condition("Failed") => "Failed",
        () if object["metadata"]["deletionTimestamp"].is_string() => "Terminating",
        () if condition("Suspended") => "Suspended",
        () => "Running",
    };
    let succeeded = count(object, "/status/succeeded");
    let completions = match number(object, "/spec/completions") {
        Some(completions) => format!("{succeeded}/{completions}"),
        None if count(object, "/spec/parallelism") > 1 => {
            format!("{succeeded}/1 of {}", count(object, "/spec/parallelism"))
        }
        None => format!("{succeeded}/1"),
    };
    let start = text(object, "/status/startTime");
    let duration = if start.is_empty() {
        String::new()
    } else {
        took(start, text(object, "/status/completionTime"), now)
    };
    vec![
        json!(status),
        json!(completions),
        json!(duration),
        created(object, now),
        containers(object, "/name"),
        containers(object, "/image"),
        selector(object),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_pods() {
        let object = json!({ "spec": { "replicas": 3, "selector": { "matchLabels": { "app": "web" } },
                "template": { "spec": { "containers": [{ "name": "a", "image": "i" }, { "name": "b", "image": "j" }] } } },
            "status": { "replicas": 3, "readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2 } });
        let unknown = json!("<unknown>");
        assert_eq!(
            deployment(&object, 0),
            [json!("2/3"), json!(1), json!(2), unknown.clone(), json!("a,b"), json!("i,j"), json!("app=web")]
        );
        assert_eq!(
            replica_set(&object, 0),
            [json!(3), json!(3), json!(2), unknown, json!("a,b"), json!("i,j"), json!("app=web")]
        );
        let job = json!({ "spec": { "completions": 2 }, "status": { "succeeded": 1,
            "startTime": "1970-01-01T00:00:00Z", "completionTime": "1970-01-01T00:00:09Z" } });
        assert_eq!(self::job(&job, 100)[..3], [json!("Running"), json!("1/2"), json!("9s")]);
    }
}

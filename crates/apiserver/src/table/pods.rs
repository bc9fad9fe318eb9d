//! Pods.

use serde_json::{Value, json};

use super::Column;
use super::age::age;
use crate::value::{items, number, text};

pub(super) const COLUMNS: &[Column] = &[
    ("Name", 0),
    ("Ready", 0),
    ("Status", 0),
    ("Restarts", 0),
    ("Age", 0),
    ("IP", 1),
    ("Node", 1),
    ("Nominated Node", 1),
    ("Readiness Gates", 1),
];

/// What a row of a finished pod says beside its cells.
pub(super) fn conditions(pod: &Value) -> Value {
    let (reason, message) = match text(pod, "/status/phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return Value::Null,
    };
    json!([{ "type": "Completed", "status": "True", "reason": reason, "message": message }])
}

pub(super) fn cells(pod: &Value, now: i64) -> Vec<Value> {
    let restartable =
        items(pod, "/spec/initContainers").filter(|container| container["restartPolicy"] == "Always").count();
    let total = items(pod, "/spec/containers").count() + restartable;
    let summary = summary(pod);
    let mut restarts = summary.restarts.to_string();
    if summary.restarts > 0 && !summary.last_restart.is_empty() {
        restarts = format!("{restarts} ({} ago)", age(&summary.last_restart, now));
    }
    let or_none = |text: &str| json!(if text.is_empty() { "<none>" } else { text });
    let address = items(pod, "/status/podIPs").next().map_or("", |address| text(address, "/ip"));
    let address = if address.is_empty() { text(pod, "/status/podIP") } else { address };
    vec![
        json!(format!("{}/{total}", summary.ready)),
        json!(summary.reason),
        json!(restarts),
        json!(age(text(pod, "/metadata/creationTimestamp"), now)),
        or_none(address),
        or_none(text(pod, "/spec/nodeName")),
        or_none(text(pod, "/status/nominatedNodeName")),
        json!(gates(pod)),
    ]
}

fn gates(pod: &Value) -> String {
    let total = items(pod, "/spec/readinessGates").count();
    if total == 0 {
        return "<none>".to_owned();
    }
    let holds = |gate: &&Value| {
        items(pod, "/status/conditions")
            .any(|condition| condition["type"] == gate["conditionType"] && condition["status"] == "True")
    };
    format!("{}/{total}", items(pod, "/spec/readinessGates").filter(holds).count())
}

#[derive(Default)]
struct Summary {
    ready: usize,
    restarts: i64,
    last_restart: String,
    reason: String,
}

impl Summary {
    fn count(&mut self, status: &Value) {
        self.restarts += number(status, "/restartCount").unwrap_or(0);
        let finished = text(status, "/lastState/terminated/finishedAt");
        if finished > &*self.last_restart {
            finished.clone_into(&mut self.last_restart);
        }
    }
}

fn summary(pod: &Value) -> Summary {
    let mut summary = Summary::default();
    let (phase, reason) = (text(pod, "/status/phase"), text(pod, "/status/reason"));
    if reason.is_empty() { phase } else { reason }.clone_into(&mut summary.reason);
    if items(pod, "/status/conditions")
        .any(|condition| condition["type"] == "PodScheduled" && condition["reason"] == "SchedulingGated")
    {
        "SchedulingGated".clone_into(&mut summary.reason);
    }
    let initializing = init_containers(pod, &mut summary);
    if !initializing {
        containers(pod, &mut summary);
    }
    let is_deleted = pod["metadata"]["deletionTimestamp"].is_string();
    if is_deleted && reason == "NodeLost" {
        "Unknown".clone_into(&mut summary.reason);
    } else if is_deleted && !matches!(phase, "Succeeded" | "Failed") {
        "Terminating".clone_into(&mut summary.reason);
    }
    summary
}

/// Why a container has ended.
fn ended(terminated: &Value) -> String {
    let reason = text(terminated, "/reason");
    match number(terminated, "/signal").unwrap_or(0) {
        _ if !reason.is_empty() => reason.to_owned(),
        0 => format!("ExitCode:{}", number(terminated, "/exitCode").unwrap_or(0)),
        signal => format!("Signal:{signal}"),
    }
}

/// Whether the pod is still busy with them.
fn init_containers(pod: &Value, summary: &mut Summary) -> bool {
    let total = items(pod, "/spec/initContainers").count();
    let restarts = |name: &Value| {
        items(pod, "/spec/initContainers")
            .any(|container| container["name"] == *name && container["restartPolicy"] == "Always")
    };
    for (position, status) in items(pod, "/status/initContainerStatuses").enumerate() {
        summary.count(status);
        let (state, stays) = (&status["state"], restarts(&status["name"]));
        let terminated = &state["terminated"];
        if terminated.is_object() && number(terminated, "/exitCode").unwrap_or(0) == 0 {
            continue;
        }
        if stays && status["started"] == true {
            summary.ready += usize::from(status["ready"] == true);
            continue;
        }
        let waiting = text(state, "/waiting/reason");
        summary.reason = if terminated.is_object() {
            format!("Init:{}", ended(terminated))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{position}/{total}")
        };
        return true;
    }
    false
}

fn containers(pod: &Value, summary: &mut Summary) {
    let mut runs = false;
    let statuses: Vec<&Value> = items(pod, "/status/containerStatuses").collect();
    summary.restarts =
        statuses.iter().map(|status| number(status, "/restartCount").unwrap_or(0)).sum::<i64>()
            + items(pod, "/status/initContainerStatuses")
                .filter(|status| status["ready"] == true && status["state"]["running"].is_object())
                .map(|status| number(status, "/restartCount").unwrap_or(0))
                .sum::<i64>();
    let finished = statuses.iter().map(|status| text(status, "/lastState/terminated/finishedAt")).max();
    finished.unwrap_or_default().clone_into(&mut summary.last_restart);
    for status in statuses.iter().rev() {
        let state = &status["state"];
        let waiting = text(state, "/waiting/reason");
        if !waiting.is_empty() {
            waiting.clone_into(&mut summary.reason);
        } else if state["terminated"].is_object() {
            summary.reason = ended(&state["terminated"]);
        } else if status["ready"] == true && state["running"].is_object() {
            runs = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && runs {
        let is_ready = items(pod, "/status/conditions")
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        if is_ready { "Running" } else { "NotReady" }.clone_into(&mut summary.reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pod: &Value) -> String {
        let now = crate::clock::seconds("2026-05-04T10:00:00Z").expect("a time");
        let cells = cells(pod, now);
        cells[..3].iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn says_how_a_pod_is() {
        let spec =
            json!({ "containers": [{ "name": "a" }, { "name": "b" }], "initContainers": [{ "name": "i" }] });
        let running = |ready: bool| json!({ "ready": ready, "restartCount": 0, "state": { "running": {} } });
        let ready = json!([{ "type": "Ready", "status": "True" }]);
        for (pod, expected) in [
            (json!({ "spec": spec, "status": { "phase": "Pending" } }), "0/2 Pending 0"),
            (
                json!({ "spec": spec, "status": { "phase": "Pending", "initContainerStatuses": [
                    { "name": "i", "state": { "waiting": { "reason": "PodInitializing" } } }] } }),
                "0/2 Init:0/1 0",
            ),
            (
                json!({ "spec": spec, "status": { "phase": "Pending", "initContainerStatuses": [
                    { "name": "i", "restartCount": 2, "state": { "waiting": { "reason": "CrashLoopBackOff" } } }] } }),
                "0/2 Init:CrashLoopBackOff 2",
            ),
            (
                json!({ "spec": spec, "status": { "phase": "Running",
                    "containerStatuses": [running(true), running(false)] } }),
                "1/2 Running 0",
            ),
            (
                json!({ "spec": spec, "metadata": { "deletionTimestamp": "x" }, "status": { "phase": "Running",
                    "containerStatuses": [running(true), running(true)] } }),
                "2/2 Terminating 0",
            ),
            (
                json!({ "spec": spec, "status": { "phase": "Running", "conditions": ready, "containerStatuses": [
                    running(true), { "ready": false, "state": { "terminated": { "reason": "Completed" } } }] } }),
                "1/2 Running 0",
            ),
            (
                json!({ "spec": spec, "status": { "phase": "Running", "containerStatuses": [
                    running(true), { "ready": false, "restartCount": 3,
                        "lastState": { "terminated": { "finishedAt": "2026-05-04T09:55:00Z" } },
                        "state": { "waiting": { "reason": "CrashLoopBackOff" } } }] } }),
                "1/2 CrashLoopBackOff 3 (5m ago)",
            ),
            (
                json!({ "spec": spec, "status": { "phase": "Failed", "containerStatuses": [
                    { "state": { "terminated": { "exitCode": 3 } } }, { "state": { "terminated": { "signal": 9 } } }] } }),
                "0/2 ExitCode:3 0",
            ),
        ] {
            assert_eq!(shown(&pod), expected, "{pod}");
        }
    }
}

//! The status of a pod, as the API has it.

use portolan_controllers::manager::Timestamp;
use serde_json::{Value, json};

use super::container::{Container, End, State};
use super::{Life, Moment};

/// Conditions, with the times of their last change.
#[derive(Debug, Default)]
pub(super) struct Conditions(Vec<Condition>);

#[derive(Debug, PartialEq, Eq)]
struct Condition {
    kind: &'static str,
    is_true: bool,
    reason: &'static str,
    message: String,
    since: Moment,
}

fn time(moment: Moment) -> Timestamp {
    Timestamp::from_unix(i64::try_from(moment.as_secs()).unwrap_or(i64::MAX))
}

impl Life {
    /// `status.phase`, as kubelet works it out (`getPhase`).
    pub(super) fn phase(&self) -> &'static str {
        let policy = self.object.spec.restart_policy.as_str();
        let (init, main): (Vec<&Container>, Vec<&Container>) =
            self.containers.iter().partition(|container| container.is_init);
        let is_ending = self.killed_at.is_some();
        if init.iter().any(|container| {
            matches!(&container.state, State::Terminated(end) if end.exit.code != 0) && policy == "Never"
        }) {
            return "Failed";
        }
        let end = |container: &&Container| match &container.state {
            State::Terminated(end) => Some(end.exit.code),
            State::Waiting { .. } => container.last.as_ref().map(|end| end.exit.code),
            _ => None,
        };
        let is_waiting = |container: &&Container| match &container.state {
            State::Waiting { .. } => container.last.is_none(),
            State::Starting => container.restarts == 0,
            _ => false,
        };
        if main.iter().any(is_waiting) {
            return if is_ending { "Failed" } else { "Pending" };
        }
        if main.iter().any(|container| container.is_running()) {
            return "Running";
        }
        let all_well = main.iter().filter_map(end).all(|code| code == 0);
        match (policy, all_well) {
            ("Never" | "OnFailure", true) => "Succeeded",
            ("Never", false) => "Failed",
            _ if is_ending => {
                if all_well {
                    "Succeeded"
                } else {
                    "Failed"
                }
            }
            _ => "Running",
        }
    }
}

impl Conditions {
    pub(super) fn update(&mut self, life: &Life, now: Moment) {
        let (init, main): (Vec<&Container>, Vec<&Container>) =
            life.containers.iter().partition(|container| container.is_init);
        let not = |list: Vec<&Container>, test: &dyn Fn(&Container) -> bool| {
            let names: Vec<&str> = list
                .into_iter()
                .filter(|container| !test(container))
                .map(|container| container.spec.name.as_str())
                .collect();
            names.join(" ")
        };
        let phase = life.phase();
        let done = match phase {
            "Succeeded" => Some("PodCompleted"),
            "Failed" => Some("PodFailed"),
            _ => None,
        };
        let unready = not(main, &Container::is_ready);
        let ready = (done.is_none() && unready.is_empty(), done.unwrap_or("ContainersNotReady"), unready);
        let pending = not(init, &Container::lets_others_start);
        let initialised = (pending.is_empty(), "ContainersNotInitialized", pending);
        let runs = (!life.is_over(), "", String::new());
        for (kind, (is_true, reason, names), words) in [
            ("PodReadyToStartContainers", runs, ""),
            ("Initialized", initialised, "containers with incomplete status: "),
            ("Ready", ready.clone(), "containers with unready status: "),
            ("ContainersReady", ready, "containers with unready status: "),
            ("PodScheduled", (true, "", String::new()), ""),
        ] {
            let message = if names.is_empty() { String::new() } else { format!("{words}[{names}]") };
            let (reason, message) = if is_true { ("", String::new()) } else { (reason, message) };
            let before = self.0.iter().position(|condition| condition.kind == kind);
            let since = before.map(|index| &self.0[index]).filter(|before| before.is_true == is_true);
            let since = since.map_or(now, |before| before.since);
            let new = Condition { kind, is_true, reason, message, since };
            match before {
                Some(index) => self.0[index] = new,
                None => self.0.push(new),
            }
        }
    }

    fn to_json(&self) -> Value {
        let conditions = self.0.iter().map(|condition| {
            let mut entry = json!({
                "type": condition.kind,
                "status": if condition.is_true { "True" } else { "False" },
                "lastProbeTime": null,
                "lastTransitionTime": time(condition.since),
            });
            if !condition.reason.is_empty() {
                entry["reason"] = json!(condition.reason);
            }
            if !condition.message.is_empty() {
                entry["message"] = json!(condition.message);
            }
            entry
        });
        conditions.collect()
    }
}

/// `status` of the Pod.
pub(super) fn status(life: &Life) -> Value {
    let ips = |addresses: &[String]| -> Value {
        addresses.iter().map(|address| json!({ "ip": address })).collect()
    };
    let statuses = |is_init: bool| -> Vec<Value> {
        life.containers
            .iter()
            .filter(|container| container.is_init == is_init)
            .map(container_status)
            .collect()
    };
    let mut status = json!({
        "phase": life.phase(),
        "startTime": time(life.started),
        "hostIP": life.host_addresses.first(),
        "hostIPs": ips(&life.host_addresses),
        "podIP": life.addresses.first(),
        "podIPs": ips(&life.addresses),
        "conditions": life.conditions.to_json(),
        "containerStatuses": statuses(false),
        "qosClass": "BestEffort",
    });
    let init = statuses(true);
    if !init.is_empty() {
        status["initContainerStatuses"] = json!(init);
    }
    status
}

fn container_status(container: &Container) -> Value {
    let name = &container.spec.name;
    let id = format!("portolan://{name}-{}", container.restarts);
    let state = match &container.state {
        State::Waiting { reason, message } if message.is_empty() => {
            json!({ "waiting": { "reason": reason } })
        }
        State::Waiting { reason, message } => {
            json!({ "waiting": { "reason": reason, "message": message } })
        }
        State::Starting => json!({ "waiting": { "reason": "ContainerCreating" } }),
        State::Running { since } => json!({ "running": { "startedAt": time(*since) } }),
        State::Terminated(end) => terminated(end, &id),
    };
    let last = container.last.as_ref().map_or_else(
        || json!({}),
        |end| terminated(end, &format!("portolan://{name}-{}", container.restarts.saturating_sub(1))),
    );
    json!({
        "name": name,
        "image": container.spec.image,
        "imageID": container.spec.image,
        "containerID": id,
        "ready": container.is_ready(),
        "started": matches!(container.state, State::Running { .. }) && container.health.has_started(),
        "restartCount": container.restarts,
        "state": state,
        "lastState": last,
    })
}

fn terminated(end: &End, id: &str) -> Value {
    let reason = match (end.exit.code, end.message.is_empty()) {
        (_, false) => "StartError",
        (0, _) => "Completed",
        _ => "Error",
    };
    let mut terminated = json!({
        "exitCode": end.exit.code,
        "reason": reason,
        "startedAt": time(end.started),
        "finishedAt": time(end.finished),
        "containerID": id,
    });
    if end.exit.signal != 0 {
        terminated["signal"] = json!(end.exit.signal);
    }
    if !end.message.is_empty() {
        terminated["message"] = json!(end.message);
    }
    json!({ "terminated": terminated })
}

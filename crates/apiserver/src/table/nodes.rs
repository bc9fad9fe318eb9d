//! Nodes.

use serde_json::{Value, json};

use super::Column;
use super::age::age;
use crate::value::{items, text};

pub(super) const COLUMNS: &[Column] = &[
    ("Name", 0),
    ("Status", 0),
    ("Roles", 0),
    ("Age", 0),
    ("Version", 0),
    ("Internal-IP", 1),
    ("External-IP", 1),
    ("OS-Image", 1),
    ("Kernel-Version", 1),
    ("Container-Runtime", 1),
];

pub(super) fn cells(node: &Value, now: i64) -> Vec<Value> {
    let ready = items(node, "/status/conditions").find(|condition| condition["type"] == "Ready");
    let mut status = match ready {
        Some(ready) if ready["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    let address = |kind: &str| {
        let found = items(node, "/status/addresses").find(|address| address["type"] == kind);
        json!(found.map_or("<none>", |address| text(address, "/address")))
    };
    let info = |field: &str| {
        let value = text(node, &format!("/status/nodeInfo/{field}"));
        json!(if value.is_empty() { "<unknown>" } else { value })
    };
    vec![
        json!(status),
        json!(roles(node)),
        json!(age(text(node, "/metadata/creationTimestamp"), now)),
        json!(text(node, "/status/nodeInfo/kubeletVersion")),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn roles(node: &Value) -> String {
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object);
    let mut roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_nodes() {
        let node = json!({ "metadata": { "labels": { "node-role.kubernetes.io/worker": "", "kubernetes.io/role": "a" } },
            "spec": { "unschedulable": true },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }],
                "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }],
                "nodeInfo": { "kubeletVersion": "v1.36.0", "osImage": "Lab" } } });
        let cells: Vec<String> =
            cells(&node, 0).iter().filter_map(|cell| cell.as_str().map(str::to_owned)).collect();
        assert_eq!(
            cells.join(" "),
            "Ready,SchedulingDisabled a,worker <unknown> v1.36.0 192.0.2.1 <none> Lab <unknown> <unknown>"
        );
        assert_eq!(super::cells(&json!({}), 0)[0], "Unknown");
    }
}

//! The nodes of a cluster.

use std::net::IpAddr;

use serde_json::{Value, json};

/// A node that pods can run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its `InternalIP` addresses, in the order of its object.
    pub addresses: Vec<IpAddr>,
}

/// The nodes of a list that pods can run on, workers before the control plane.
pub(crate) fn nodes(list: &Value) -> Vec<Node> {
    let mut nodes = Vec::new();
    for node in list["items"].as_array().into_iter().flatten() {
        let linux = node["metadata"]["labels"]["kubernetes.io/os"] == "linux";
        let addresses = node["status"]["addresses"].as_array().into_iter().flatten();
        let addresses: Vec<IpAddr> = addresses
            .filter(|address| address["type"] == "InternalIP")
            .filter_map(|address| address["address"].as_str()?.parse().ok())
            .collect();
        let Some(name) = node["metadata"]["name"].as_str() else { continue };
        if linux && is_ready(node) && node["spec"]["unschedulable"] != json!(true) && !addresses.is_empty() {
            let control = !node["metadata"]["labels"]["node-role.kubernetes.io/control-plane"].is_null();
            nodes.push((control, Node { name: name.to_owned(), addresses }));
        }
    }
    nodes.sort_by(|(a, x), (b, y)| (a, &x.name).cmp(&(b, &y.name)));
    nodes.into_iter().map(|(_, node)| node).collect()
}

/// Whether a pod or a node is ready.
pub(crate) fn is_ready(object: &Value) -> bool {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut node = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}},
            "status": {
                "addresses": [
                    {"type": "Hostname", "address": name},
                    {"type": "InternalIP", "address": "192.0.2.1"},
                    {"type": "InternalIP", "address": "2001:db8::1"},
                ],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        });
        change(&mut node);
        node
    }

    #[test]
    fn nodes_that_pods_can_run_on() {
        let list = json!({"items": [
            node("control", |n| n["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] = json!("")),
            node("windows", |n| n["metadata"]["labels"]["kubernetes.io/os"] = json!("windows")),
            node("away", |n| n["status"]["conditions"][0]["status"] = json!("Unknown")),
            node("cordoned", |n| n["spec"]["unschedulable"] = json!(true)),
            node("worker-2", |_| {}),
            node("worker-1", |_| {}),
        ]});
        let nodes = nodes(&list);
        assert_eq!(
            nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(),
            ["worker-1", "worker-2", "control"]
        );
        assert_eq!(nodes[0].addresses, ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    }
}

//! Objects of the API as the cases need them.

use serde_json::{Value, json};

/// The port on which [`server`] answers HTTP.
pub const HTTP: u16 = 8080;
/// The port on which [`server`] answers UDP.
pub const UDP: u16 = 8081;

/// A pod that answers its name: over HTTP at `/hostname`, the client's address at `/clientip`, and
/// over UDP to `hostname`. Each has a label `server` with its own name and `tier` with `tier`. Once
/// it is to end, it goes on serving for `linger` seconds.
pub fn server(name: &str, tier: &str, node: &str, image: &str, linger: u32) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"server": name, "tier": tier}},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": linger + 1,
            "tolerations": [{"operator": "Exists"}],
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "server",
                "image": image,
                "args": [
                    "netexec",
                    format!("--http-port={HTTP}"),
                    format!("--udp-port={UDP}"),
                    format!("--delay-shutdown={linger}"),
                ],
                "readinessProbe": {"httpGet": {"path": "/hostname", "port": HTTP}, "periodSeconds": 1},
            }],
        },
    })
}

/// A pod that runs `script` once. On the node's own network if `host` says so.
pub fn client(name: &str, node: &str, image: &str, host: bool, script: &str, seconds: u64) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"client": name}},
        "spec": {
            "nodeName": node,
            "hostNetwork": host,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": seconds,
            "terminationGracePeriodSeconds": 1,
            "tolerations": [{"operator": "Exists"}],
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "client",
                "image": image,
                "command": ["/bin/sh", "-c", script],
            }],
        },
    })
}

/// A Service with a port 80 over TCP to [`HTTP`] and one over UDP to [`UDP`], of the pods with
/// label `key: value`. `spec` is merged over that.
pub fn service(name: &str, key: &str, value: &str, spec: &Value) -> Value {
    let mut service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {
            "selector": {key: value},
            "ports": [
                {"name": "http", "protocol": "TCP", "port": 80, "targetPort": HTTP},
                {"name": "udp", "protocol": "UDP", "port": 80, "targetPort": UDP},
            ],
        },
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        service["spec"][field] = value.clone();
    }
    service
}

//! The patch for kubeadm, applied to the DaemonSet that kubeadm makes.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::files::{below, items, objects, texts};

/// What of kubeadm's DaemonSet, as of 1.36, a patch could meet.
fn kubeadm() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "kube-proxy", "namespace": "kube-system", "labels": {"k8s-app": "kube-proxy"}},
        "spec": {
            "selector": {"matchLabels": {"k8s-app": "kube-proxy"}},
            "updateStrategy": {"type": "RollingUpdate"},
            "template": {
                "metadata": {"labels": {"k8s-app": "kube-proxy"}},
                "spec": {
                    "priorityClassName": "system-node-critical",
                    "containers": [{
                        "name": "kube-proxy",
                        "image": "registry.k8s.io/kube-proxy:v1.36.0",
                        "imagePullPolicy": "IfNotPresent",
                        "command": [
                            "/usr/local/bin/kube-proxy",
                            "--config=/var/lib/kube-proxy/config.conf",
                            "--hostname-override=$(NODE_NAME)",
                        ],
                        "securityContext": {"privileged": true},
                        "env": [{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                        "volumeMounts": [
                            {"mountPath": "/var/lib/kube-proxy", "name": "kube-proxy"},
                            {"mountPath": "/run/xtables.lock", "name": "xtables-lock", "readOnly": false},
                            {"mountPath": "/lib/modules", "name": "lib-modules", "readOnly": true},
                        ],
                    }],
                    "hostNetwork": true,
                    "serviceAccountName": "kube-proxy",
                    "volumes": [
                        {"name": "kube-proxy", "configMap": {"name": "kube-proxy"}},
                        {"name": "xtables-lock", "hostPath": {"path": "/run/xtables.lock", "type": "FileOrCreate"}},
                        {"name": "lib-modules", "hostPath": {"path": "/lib/modules"}},
                    ],
                    "tolerations": [{"operator": "Exists"}],
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                },
            },
        },
    })
}

/// The field by which a strategic merge finds the item of a list, by the list's own field (the
/// API's types say so).
fn merge_key(list: &str) -> Option<&'static str> {
    match list {
        "containers" | "initContainers" | "volumes" | "env" => Some("name"),
        "volumeMounts" => Some("mountPath"),
        "ports" => Some("containerPort"),
        _ => None,
    }
}

/// A strategic merge, as far as DaemonSets and Deployments go: objects are merged, items of lists
/// that have a key are, too, and all else is replaced.
pub(crate) fn merge(field: &str, into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (field, patch) in patch {
                merge(field, into.entry(field).or_insert(Value::Null), patch);
            }
        }
        (Value::Array(into), Value::Array(patch)) if merge_key(field).is_some() => {
            let key = merge_key(field).unwrap_or_default();
            for item in patch {
                match into.iter_mut().find(|other| other[key] == item[key]) {
                    Some(other) => merge("", other, item),
                    None => into.push(item.clone()),
                }
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

pub(crate) fn swaps_kube_proxy() -> anyhow::Result<()> {
    // target[suffix][+patchtype].extension
    let files = below("deploy/kubeadm", "")?;
    ensure!(files == ["deploy/kubeadm/kubeproxydaemonset+strategic.yaml"], "kubeadm reads all of {files:?}");
    let patches = objects(&files[0])?;
    ensure!(patches.len() == 1, "{} documents", patches.len());
    let before = kubeadm();
    let mut after = before.clone();
    merge("", &mut after, &patches[0]);

    let pod = |set: &Value| set["spec"]["template"]["spec"].clone();
    let containers = pod(&after)["containers"].clone();
    ensure!(items(&containers).count() == 1, "a second container: {containers:#}");
    let container = &containers[0];
    let base = objects("deploy/base/daemonset.yaml")?.remove(0);
    ensure!(container["image"] == pod(&base)["containers"][0]["image"], "image {}", container["image"]);
    // The image is replaced, and the program gets the path of kubeadm's configuration.
    let of_kubeadm = texts(&pod(&before)["containers"][0]["command"]);
    ensure!(texts(&container["command"])[2..] == of_kubeadm[1..], "{}", container["command"]);
    // What kubeadm wrote stays, but for image and command.
    for (field, value) in pod(&before)["containers"][0].as_object().context("a container")? {
        let kept = match field.as_str() {
            "image" | "command" => continue,
            "volumeMounts" => items(value).all(|mount| items(&container[field]).any(|other| other == mount)),
            _ => container[field] == *value,
        };
        ensure!(kept, "{field}: {}", container[field]);
    }
    for (field, value) in pod(&before).as_object().context("a pod")? {
        let kept = match field.as_str() {
            "containers" => continue,
            "volumes" => items(value).all(|volume| items(&pod(&after)[field]).any(|other| other == volume)),
            _ => pod(&after)[field] == *value,
        };
        ensure!(kept, "{field}: {}", pod(&after)[field]);
    }
    for mount in items(&container["volumeMounts"]) {
        let volumes = pod(&after)["volumes"].clone();
        ensure!(items(&volumes).any(|volume| volume["name"] == mount["name"]), "{mount}: no such volume");
    }
    for field in ["metadata", "apiVersion", "kind"] {
        ensure!(after[field] == before[field], "{field} is another one");
    }
    Ok(())
}

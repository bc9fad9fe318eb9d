//! Pods, and templates of pods.

use serde_json::{Value, json};

use crate::value::{fill, items, items_mut, map, text};

/// How long pods that say nothing stay on a node that is not ready, in seconds.
const NOT_READY: i64 = 300;

/// A pod.
pub(super) fn fill_in(object: &mut Value) {
    map(object, "spec");
    let spec = &mut object["spec"];
    // What a container may have at most is also what it asks for.
    for list in ["/containers", "/initContainers"] {
        for container in items_mut(spec, list) {
            let limits = container["resources"]["limits"].as_object().cloned().unwrap_or_default();
            for (name, amount) in limits {
                map(&mut container["resources"], "requests").entry(name).or_insert(amount);
            }
        }
    }
    fill(spec, "enableServiceLinks", true);
    fill(spec, "priority", 0);
    fill(spec, "preemptionPolicy", "PreemptLowerPriority");
    if text(spec, "/serviceAccountName").is_empty() {
        let older = text(spec, "/serviceAccount");
        let name = if older.is_empty() { "default" } else { older }.to_owned();
        spec["serviceAccountName"] = json!(name);
    }
    spec["serviceAccount"] = spec["serviceAccountName"].clone();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = |toleration: &Value| {
            let same_key = toleration["key"] == key || toleration["key"].is_null();
            let effect = text(toleration, "/effect");
            same_key && (effect.is_empty() || effect == "NoExecute")
        };
        if !items(spec, "/tolerations").any(tolerated) {
            fill(spec, "tolerations", json!([]));
            let toleration = json!({ "key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": NOT_READY });
            spec["tolerations"].as_array_mut().into_iter().for_each(|list| list.push(toleration.clone()));
        }
    }
    template(object);
}

/// The `spec` of an object, as a pod and a template have it.
pub(super) fn template(object: &mut Value) {
    map(object, "spec");
    let spec = &mut object["spec"];
    fill(spec, "dnsPolicy", "ClusterFirst");
    fill(spec, "restartPolicy", "Always");
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill(spec, "securityContext", json!({}));
    fill(spec, "schedulerName", "default-scheduler");
    let on_host = spec["hostNetwork"] == true;
    for list in ["/containers", "/initContainers", "/ephemeralContainers"] {
        items_mut(spec, list).for_each(|each| container(each, on_host && list != "/ephemeralContainers"));
    }
    items_mut(spec, "/volumes").for_each(volume);
}

fn container(container: &mut Value, on_host: bool) {
    fill(container, "resources", json!({}));
    fill(container, "terminationMessagePath", "/dev/termination-log");
    fill(container, "terminationMessagePolicy", "File");
    let image = text(container, "/image");
    let tag = image.rsplit('/').next().unwrap_or_default();
    let newest = !image.contains('@') && tag.split_once(':').is_none_or(|(_, tag)| tag == "latest");
    fill(container, "imagePullPolicy", if newest { "Always" } else { "IfNotPresent" });
    for port in items_mut(container, "/ports") {
        fill(port, "protocol", "TCP");
        if on_host {
            let number = port["containerPort"].clone();
            fill(port, "hostPort", number);
        }
    }
    for variable in items_mut(container, "/env") {
        if let Some(field) = variable.pointer_mut("/valueFrom/fieldRef") {
            fill(field, "apiVersion", "v1");
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(name) {
            fill(probe, "timeoutSeconds", 1);
            fill(probe, "periodSeconds", 10);
            fill(probe, "successThreshold", 1);
            fill(probe, "failureThreshold", 3);
            request(probe);
            if let Some(grpc) = probe.get_mut("grpc") {
                fill(grpc, "service", "");
            }
        }
    }
    for pointer in ["/lifecycle/postStart", "/lifecycle/preStop"] {
        container.pointer_mut(pointer).into_iter().for_each(request);
    }
}

fn request(handler: &mut Value) {
    if let Some(get) = handler.get_mut("httpGet") {
        fill(get, "path", "/");
        fill(get, "scheme", "HTTP");
    }
}

fn volume(volume: &mut Value) {
    if volume.as_object().is_some_and(|map| map.len() == 1) {
        volume["emptyDir"] = json!({});
    }
    for name in ["configMap", "secret", "projected", "downwardAPI"] {
        if let Some(source) = volume.get_mut(name) {
            fill(source, "defaultMode", 0o644);
        }
    }
    if let Some(path) = volume.get_mut("hostPath") {
        fill(path, "type", "");
    }
    for source in items_mut(volume, "/projected/sources") {
        if let Some(token) = source.get_mut("serviceAccountToken") {
            fill(token, "expirationSeconds", 3_600);
        }
    }
    for pointer in ["/downwardAPI/items", "/projected/sources"] {
        for item in items_mut(volume, pointer) {
            if let Some(field) = item.get_mut("fieldRef") {
                fill(field, "apiVersion", "v1");
            }
            for item in items_mut(item, "/downwardAPI/items") {
                if let Some(field) = item.get_mut("fieldRef") {
                    fill(field, "apiVersion", "v1");
                }
            }
        }
    }
}

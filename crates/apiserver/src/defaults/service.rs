//! Services.

use serde_json::{Value, json};

use crate::value::{fill, items, items_mut, map, text};

pub(super) fn fill_in(object: &mut Value) {
    map(object, "spec");
    let spec = &mut object["spec"];
    fill(spec, "sessionAffinity", "None");
    if text(spec, "/sessionAffinity") == "ClientIP" {
        let config = map(spec, "sessionAffinityConfig");
        let client = config.entry("clientIP").or_insert_with(|| json!({}));
        fill(client, "timeoutSeconds", 10_800);
    } else if let Some(spec) = spec.as_object_mut() {
        // Whoever switches it off need not clear away what it was set to.
        spec.remove("sessionAffinityConfig");
    }
    fill(spec, "type", "ClusterIP");
    for port in items_mut(spec, "/ports") {
        fill(port, "protocol", "TCP");
        let number = port["port"].clone();
        if port["targetPort"] == 0 || port["targetPort"] == "" {
            port["targetPort"] = number;
        } else {
            fill(port, "targetPort", number);
        }
    }
    let kind = text(spec, "/type").to_owned();
    let from_outside = matches!(&*kind, "NodePort" | "LoadBalancer");
    if from_outside || (kind == "ClusterIP" && items(spec, "/externalIPs").next().is_some()) {
        fill(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        fill(spec, "allocateLoadBalancerNodePorts", true);
    }
    if kind != "ExternalName" {
        fill(spec, "internalTrafficPolicy", "Cluster");
    }
    map(object, "status").entry("loadBalancer").or_insert_with(|| json!({}));
}

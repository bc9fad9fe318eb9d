//! One pod as an endpoint.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{Service, ServicePort};
use crate::manager::pod::Pod;

/// The pod's address of a family.
pub(super) fn of<'a>(pod: &'a Pod, family: &str) -> Option<&'a str> {
    let is_wanted = |address: &&str| self::family(address) == Some(family);
    let listed = pod.status.pod_ips.iter().map(|address| address.ip.as_str());
    listed.chain([pod.status.pod_ip.as_str()]).find(is_wanted)
}

/// The family of an address; `None` if it is none.
pub(super) fn family(address: &str) -> Option<&'static str> {
    match address.parse().ok()? {
        IpAddr::V4(_) => Some("IPv4"),
        IpAddr::V6(_) => Some("IPv6"),
    }
}

/// Whether an endpoint is to get new connections.
pub(super) fn is_ready(service: &Service, pod: &Pod) -> bool {
    service.spec.publish_not_ready_addresses || (pod.is_ready() && !pod.is_deleting())
}

/// The number of a Service's port in a pod; `None` if the pod does not have the port that is
/// named.
fn number(port: &ServicePort, pod: &Pod) -> Option<u16> {
    let protocol = protocol(&port.protocol);
    match &port.target_port {
        Value::String(name) if name.parse::<u16>().is_err() => {
            let ports = pod.spec.containers.iter().flat_map(|container| &container.ports);
            let named =
                ports.filter(|found| found.name == *name && self::protocol(&found.protocol) == protocol);
            named.map(|found| found.number).next()
        }
        Value::String(number) => number.parse().ok(),
        Value::Number(number) => number.as_u64().and_then(|number| u16::try_from(number).ok()),
        _ => Some(port.port),
    }
    .filter(|number| *number > 0)
}

fn protocol(text: &str) -> &str {
    if text.is_empty() { "TCP" } else { text }
}

/// A Service's ports in a pod, as slices have them.
pub(super) fn slice_ports(ports: &[ServicePort], pod: &Pod) -> Vec<Value> {
    let ports = ports.iter().filter_map(|port| {
        let number = number(port, pod)?;
        let mut entry = json!({ "name": port.name, "protocol": protocol(&port.protocol), "port": number });
        if let Some(app_protocol) = &port.app_protocol {
            entry["appProtocol"] = json!(app_protocol);
        }
        Some(entry)
    });
    ports.collect()
}

/// A Service's ports in a pod, as Endpoints have them: without the name that is empty.
pub(super) fn endpoints_ports(ports: &[ServicePort], pod: &Pod) -> Vec<Value> {
    let mut ports = slice_ports(ports, pod);
    for port in &mut ports {
        if port["name"] == ""
            && let Some(port) = port.as_object_mut()
        {
            port.remove("name");
        }
    }
    ports
}

/// Which pod it is.
pub(super) fn target(pod: &Pod) -> Value {
    json!({ "kind": "Pod", "namespace": pod.namespace(), "name": pod.name(), "uid": pod.uid() })
}

/// The pod's name within the Service, if it has one there.
pub(super) fn hostname(service: &str, pod: &Pod) -> Option<Value> {
    let is_named = !pod.spec.hostname.is_empty() && pod.spec.subdomain == service;
    is_named.then(|| json!(pod.spec.hostname))
}

/// A pod as an entry of a slice.
pub(super) fn slice_endpoint(service: &Service, pod: &Pod, address: &str, zone: Option<&str>) -> Value {
    let mut endpoint = json!({
        "addresses": [address],
        "conditions": {
            "ready": is_ready(service, pod),
            "serving": pod.is_ready(),
            "terminating": pod.is_deleting(),
        },
        "targetRef": target(pod),
    });
    if !pod.spec.node_name.is_empty() {
        endpoint["nodeName"] = json!(pod.spec.node_name);
    }
    if let Some(hostname) = hostname(service.name(), pod) {
        endpoint["hostname"] = hostname;
    }
    if let Some(zone) = zone {
        endpoint["zone"] = json!(zone);
    }
    endpoint
}

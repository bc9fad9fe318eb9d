//! The subsets of an Endpoints object.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::ServicePort;
use super::address::{endpoints_ports, hostname, target};
use crate::manager::pod::Pod;

/// Ports, and the entries with them: those that are ready, and those that are not.
#[derive(Default)]
struct Group<'a> {
    ports: Vec<Value>,
    ready: Vec<(&'a str, Value)>,
    not_ready: Vec<(&'a str, Value)>,
}

/// An Endpoints object has no more addresses than this.
const MOST: usize = 1_000;

/// Pods with the same ports together, those that are ready apart from those that are not.
pub(super) fn subsets<'a>(
    service: &str,
    ports: &[ServicePort],
    pods: impl Iterator<Item = (&'a Pod, &'a str, bool)>,
) -> Vec<Value> {
    let mut groups: BTreeMap<String, Group<'_>> = BTreeMap::new();
    for (pod, address, is_ready) in pods.take(MOST) {
        let ports = endpoints_ports(ports, pod);
        let group = groups.entry(json!(ports).to_string()).or_default();
        group.ports = ports;
        let mut entry = json!({ "ip": address, "targetRef": target(pod) });
        if !pod.spec.node_name.is_empty() {
            entry["nodeName"] = json!(pod.spec.node_name);
        }
        if let Some(hostname) = hostname(service, pod) {
            entry["hostname"] = hostname;
        }
        let list = if is_ready { &mut group.ready } else { &mut group.not_ready };
        list.push((address, entry));
    }
    groups.into_values().map(Group::subset).collect()
}

impl Group<'_> {
    fn subset(self) -> Value {
        let mut subset = json!({});
        for (field, mut list) in [("addresses", self.ready), ("notReadyAddresses", self.not_ready)] {
            if !list.is_empty() {
                list.sort_by_key(|(address, _)| address.parse::<std::net::IpAddr>().ok());
                subset[field] = list.into_iter().map(|(_, entry)| entry).collect();
            }
        }
        if !self.ports.is_empty() {
            subset["ports"] = json!(self.ports);
        }
        subset
    }
}

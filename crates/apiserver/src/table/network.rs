//! Services, and where they lead.

use serde_json::{Value, json};

use super::age::age;
use super::{Column, joined, labels};
use crate::value::{items, number, text};

pub(super) const SERVICES: &[Column] = &[
    ("Name", 0),
    ("Type", 0),
    ("Cluster-IP", 0),
    ("External-IP", 0),
    ("Port(s)", 0),
    ("Age", 0),
    ("Selector", 1),
];
pub(super) const ENDPOINTS: &[Column] = &[("Name", 0), ("Endpoints", 0), ("Age", 0)];
pub(super) const SLICES: &[Column] =
    &[("Name", 0), ("AddressType", 0), ("Ports", 0), ("Endpoints", 0), ("Age", 0)];

/// So many are listed, then their number.
const LISTED: usize = 3;

pub(super) fn service(object: &Value, now: i64) -> Vec<Value> {
    let spec = &object["spec"];
    let kind = text(spec, "/type");
    let first = items(spec, "/clusterIPs").next().and_then(Value::as_str);
    let address = first.unwrap_or_else(|| text(spec, "/clusterIP"));
    let address = if kind == "ExternalName" || address.is_empty() { "<none>" } else { address };
    let ports: Vec<String> = items(spec, "/ports")
        .map(|port| {
            let (outside, protocol) = (number(port, "/port").unwrap_or(0), text(port, "/protocol"));
            match number(port, "/nodePort").filter(|port| *port != 0) {
                Some(node_port) => format!("{outside}:{node_port}/{protocol}"),
                None => format!("{outside}/{protocol}"),
            }
        })
        .collect();
    let ports = if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") };
    vec![
        json!(kind),
        json!(address),
        json!(external(object, kind)),
        json!(ports),
        json!(age(text(object, "/metadata/creationTimestamp"), now)),
        json!(labels(&spec["selector"])),
    ]
}

fn external(object: &Value, kind: &str) -> String {
    let own = joined(items(object, "/spec/externalIPs"));
    match kind {
        "ExternalName" => text(object, "/spec/externalName").to_owned(),
        "LoadBalancer" => {
            let given = items(object, "/status/loadBalancer/ingress").map(|ingress| {
                let address = text(ingress, "/ip");
                if address.is_empty() { text(ingress, "/hostname") } else { address }
            });
            let all: Vec<&str> = given.chain((!own.is_empty()).then_some(&*own)).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ if own.is_empty() => "<none>".to_owned(),
        _ => own,
    }
}

pub(super) fn endpoints(object: &Value, now: i64) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in items(object, "/subsets") {
        let ports: Vec<i64> = items(subset, "/ports").filter_map(|port| number(port, "/port")).collect();
        for address in items(subset, "/addresses") {
            let ip = text(address, "/ip");
            let shown = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
            if ports.is_empty() {
                all.push(shown);
            } else {
                all.extend(ports.iter().map(|port| format!("{shown}:{port}")));
            }
        }
    }
    vec![json!(listed(&all, "<none>")), json!(age(text(object, "/metadata/creationTimestamp"), now))]
}

pub(super) fn slice(object: &Value, now: i64) -> Vec<Value> {
    let ports: Vec<String> = items(object, "/ports")
        .map(|port| number(port, "/port").map_or_else(|| "*".to_owned(), |port| port.to_string()))
        .collect();
    let addresses: Vec<String> = items(object, "/endpoints")
        .flat_map(|endpoint| items(endpoint, "/addresses"))
        .filter_map(|address| address.as_str().map(str::to_owned))
        .collect();
    vec![
        object["addressType"].clone(),
        json!(listed(&ports, "<unset>")),
        json!(listed(&addresses, "<unset>")),
        json!(age(text(object, "/metadata/creationTimestamp"), now)),
    ]
}

fn listed(all: &[String], none: &str) -> String {
    match all.len().checked_sub(LISTED) {
        _ if all.is_empty() => none.to_owned(),
        Some(more) if more > 0 => format!("{} + {more} more...", all[..LISTED].join(",")),
        _ => all.join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(cells: &[Value]) -> String {
        cells.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn shows_services() {
        for (service, expected) in [
            (
                json!({ "spec": { "type": "ClusterIP", "clusterIPs": ["10.96.0.1"],
                    "ports": [{ "port": 80, "protocol": "TCP" }], "selector": { "app": "web" } } }),
                "ClusterIP 10.96.0.1 <none> 80/TCP <unknown> app=web",
            ),
            (
                json!({ "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.1", "externalIPs": ["192.0.2.9"],
                    "ports": [{ "port": 80, "nodePort": 30_080, "protocol": "TCP" }, { "port": 53, "protocol": "UDP" }] },
                    "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }, { "hostname": "lb" }] } } }),
                "LoadBalancer 10.96.0.1 192.0.2.1,lb,192.0.2.9 80:30080/TCP,53/UDP <unknown> <none>",
            ),
            (
                json!({ "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.1" } }),
                "LoadBalancer 10.96.0.1 <pending> <none> <unknown> <none>",
            ),
            (
                json!({ "spec": { "type": "ExternalName", "externalName": "example.com" } }),
                "ExternalName <none> example.com <none> <unknown> <none>",
            ),
            (
                json!({ "spec": { "type": "ClusterIP", "clusterIP": "None" } }),
                "ClusterIP None <none> <none> <unknown> <none>",
            ),
        ] {
            assert_eq!(shown(&self::service(&service, 0)), expected);
        }
    }

    #[test]
    fn shows_endpoints() {
        let subset = |ips: &[&str]| {
            let addresses: Vec<Value> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
            json!({ "subsets": [{ "addresses": addresses, "ports": [{ "port": 80 }] }] })
        };
        assert_eq!(shown(&endpoints(&json!({}), 0)), "<none> <unknown>");
        assert_eq!(
            shown(&endpoints(&subset(&["10.0.0.1", "fd00::1"]), 0)),
            "10.0.0.1:80,[fd00::1]:80 <unknown>"
        );
        assert_eq!(
            shown(&endpoints(&subset(&["1.0.0.1", "1.0.0.2", "1.0.0.3", "1.0.0.4"]), 0)),
            "1.0.0.1:80,1.0.0.2:80,1.0.0.3:80 + 1 more... <unknown>"
        );
        let slice = json!({ "addressType": "IPv4", "ports": [{ "port": 80 }, {}],
            "endpoints": [{ "addresses": ["10.0.0.1"] }, { "addresses": ["10.0.0.2"] }] });
        assert_eq!(shown(&self::slice(&slice, 0)), "IPv4 80,* 10.0.0.1,10.0.0.2 <unknown>");
    }
}

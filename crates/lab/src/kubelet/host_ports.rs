//! Ports of nodes that lead to pods: `hostPort`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use super::{Key, Shared, text};
use crate::Error;
use crate::kubenet::{HostPort, HostPorts, Kubenet, PodName, Protocol};
use crate::object::items;

/// The ports that are open, by node. A node on which no pod has asked for one has no rules for
/// them.
#[derive(Debug, Default)]
pub(super) struct OpenPorts(BTreeMap<String, (Kubenet, HostPorts)>);

impl Shared {
    /// Opens the host ports that a pod asks for. If that fails, the pod does without, and an event
    /// says so.
    pub(super) fn open_ports(&self, key: &Key, pod: &Value, node: &str, addresses: &[IpAddr]) {
        let asked = asked(pod, addresses);
        if asked.is_empty() {
            return;
        }
        if let Err(error) = self.try_open(key, asked, node) {
            self.recorder.record(pod, true, "HostPortFailed", &error.to_string(), "kubelet");
        }
    }

    fn try_open(&self, key: &Key, asked: Vec<HostPort>, node: &str) -> Result<(), Error> {
        let mut open = self.host_ports();
        if !open.0.contains_key(node) {
            let mode = self.nodes().get(node).map(|node| node.proxy_mode).unwrap_or_default();
            let networks = self.setting.cluster_networks.clone();
            let kubenet = Kubenet::new(self.setting.lab.node(node)?, mode, networks)?;
            open.0.insert(node.to_owned(), (kubenet, HostPorts::new()));
        }
        let Some((kubenet, ports)) = open.0.get_mut(node) else { return Ok(()) };
        ports.insert(name(key), asked);
        let opened = kubenet.set(ports);
        if opened.is_err() {
            // Or nobody after it would get any.
            ports.remove(&name(key));
        }
        opened
    }

    /// Closes those of a pod, if it has any.
    pub(super) fn close_ports(&self, key: &Key) {
        let mut open = self.host_ports();
        for (kubenet, ports) in open.0.values_mut() {
            if ports.remove(&name(key)).is_some() {
                // If that fails, they lead nowhere until another pod asks for some.
                let _ = kubenet.set(ports);
            }
        }
    }
}

impl OpenPorts {
    /// A node is gone, and its rules with it.
    pub(super) fn forget(&mut self, node: &str) {
        self.0.remove(node);
    }
}

fn name((namespace, name): &Key) -> PodName {
    PodName { namespace: namespace.clone(), name: name.clone() }
}

/// What a pod with these addresses asks for: each port once for each family.
fn asked(pod: &Value, addresses: &[IpAddr]) -> Vec<HostPort> {
    let number = |port: &Value| port.as_u64().and_then(|port| u16::try_from(port).ok());
    let mut asked = Vec::new();
    for port in items(&pod["spec"]["containers"]).flat_map(|container| items(&container["ports"])) {
        let protocol = match text(&port["protocol"]) {
            "UDP" => Protocol::Udp,
            "SCTP" => Protocol::Sctp,
            _ => Protocol::Tcp,
        };
        let (Some(host), Some(of_pod)) = (number(&port["hostPort"]), number(&port["containerPort"])) else {
            continue;
        };
        let ip = text(&port["hostIP"]).parse().ok();
        asked.extend(addresses.iter().filter(|_| host > 0).map(|address| HostPort {
            ip,
            port: host,
            protocol,
            pod_ip: *address,
            pod_port: of_pod,
        }));
    }
    asked
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_what_a_pod_asks_for() {
        let pod = json!({ "spec": { "containers": [{ "ports": [
            { "containerPort": 80, "hostPort": 8080, "hostIP": "192.0.2.1" },
            { "containerPort": 53, "hostPort": 53, "protocol": "UDP" },
            { "containerPort": 81 },
            { "containerPort": 82, "hostPort": 0 },
        ] }] } });
        let addresses: Vec<IpAddr> = ["10.0.0.2", "fd00::2"].map(|text| text.parse().unwrap()).to_vec();
        let asked: Vec<String> = asked(&pod, &addresses)
            .iter()
            .map(|port| {
                format!("{:?} {} {} {} {}", port.ip, port.port, port.protocol, port.pod_ip, port.pod_port)
            })
            .collect();
        assert_eq!(
            asked,
            [
                "Some(192.0.2.1) 8080 tcp 10.0.0.2 80",
                "Some(192.0.2.1) 8080 tcp fd00::2 80",
                "None 53 udp 10.0.0.2 53",
                "None 53 udp fd00::2 53",
            ]
        );
    }
}

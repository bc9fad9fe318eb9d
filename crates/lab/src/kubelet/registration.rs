//! A node and its lease: that it is there, and that it lives.

use std::time::{Duration, SystemTime};

use portolan_apiserver::Resource;
use portolan_controllers::manager::{Node as NodeObject, healthy_conditions};
use serde_json::{Value, json};

use super::{Shared, text};
use crate::Error;
use crate::clock;
use crate::nodes::{self, Node};
use crate::object::is_ready;

/// Between two renewals of a node's lease, as kubelet does it.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long a lease is good for, in seconds.
const LEASE: u32 = 40;
/// How many pods a node takes.
const PODS: &str = "110";
/// The version that nodes say they have: that of the API server.
const KUBELET: &str = "v1.36.0";

impl Shared {
    /// A node is there from now on.
    pub(super) fn register(&self, node: Node) -> Result<(), Error> {
        let objects = &self.setting.objects;
        let name = node.spec.name.clone();
        let own = node.spec.addresses.iter().copied().chain(node.spec.gateways());
        self.addresses().reserve(own.map(|network| network.addr()));
        let mut object = node.object();
        object["status"] = status(&node)["status"].take();
        // Before others see it: pods are given to it at once.
        self.nodes().insert(name.clone(), node);
        if let Err(failure) = objects.create(object) {
            self.nodes().remove(&name);
            return Err(Error::Api { what: format!("registering node {name}"), failure });
        }
        self.renew_lease(&name);
        Ok(())
    }

    /// All nodes live still.
    pub(super) fn renew_leases(&self) {
        let names: Vec<String> = self.nodes().keys().cloned().collect();
        for name in names {
            self.renew_lease(&name);
        }
    }

    fn renew_lease(&self, node: &str) {
        let objects = &self.setting.objects;
        // Leases have microseconds.
        let time = clock::precise(SystemTime::now(), 6);
        let spec = json!({ "holderIdentity": node, "leaseDurationSeconds": LEASE, "renewTime": time });
        let renewed = objects.patch(Resource::Leases, "kube-node-lease", node, json!({ "spec": spec }));
        if renewed.is_err() {
            // It is not there yet, or somebody has deleted it. If it cannot be made, the next
            // heartbeat tries again.
            let _ = objects.create(json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": { "name": node, "namespace": "kube-node-lease" },
                "spec": spec,
            }));
        }
    }

    /// A Node is like this now. If it counts as lost and lives, such as after the machine has
    /// slept, it says so.
    pub(super) fn revive(&self, object: &Value) {
        let name = text(&object["metadata"]["name"]);
        let Some(node) = self.nodes().get(name).cloned() else { return };
        if !is_ready(object) {
            self.renew_lease(name);
            // One that has been deleted is no node any more.
            let _ = self.setting.objects.patch_status(Resource::Nodes, "", name, status(&node));
        }
    }
}

/// `status` of a node that is well.
fn status(node: &Node) -> Value {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = memory();
    let room = json!({ "cpu": processors.to_string(), "memory": memory, "pods": PODS });
    json!({ "status": {
        "addresses": node.addresses(),
        "capacity": room,
        "allocatable": room,
        "conditions": healthy_conditions(clock::now(), None::<&NodeObject>),
        "nodeInfo": {
            "architecture": nodes::architecture(),
            "bootID": "",
            "containerRuntimeVersion": concat!("portolan-lab://", env!("CARGO_PKG_VERSION")),
            "kernelVersion": kernel(),
            "kubeletVersion": KUBELET,
            "kubeProxyVersion": "",
            "machineID": "",
            "operatingSystem": "linux",
            "osImage": os_image(),
            "systemUUID": "",
        },
    } })
}

/// All memory of the machine, such as `16384Ki`.
fn memory() -> String {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let number = line.and_then(|line| line.split_whitespace().next()).unwrap_or("0");
    format!("{number}Ki")
}

fn kernel() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

/// What the machine's system is called (os-release(5)).
fn os_image() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or("Linux", |name| name.trim_matches('"')).to_owned()
}

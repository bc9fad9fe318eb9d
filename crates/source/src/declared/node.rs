//! Nodes.

use portolan_service::{Node, ObjectName};

use super::{Issue, Issues, shared};
use crate::objects;

/// The taint by which the cluster autoscaler announces that it will delete the node (spec §11.5).
const REMOVAL: &str = "ToBeDeletedByClusterAutoscaler";

pub(super) fn declare(name: &ObjectName, node: &objects::Node) -> Result<Node, Vec<Issue>> {
    let mut issues = Issues::default();
    let mut addresses = Vec::new();
    for kind in ["InternalIP", "ExternalIP"] {
        for (i, address) in node.status.addresses.iter().enumerate() {
            if address.kind == kind {
                addresses.extend(issues.address(format!("status.addresses[{i}].address"), &address.address));
            }
        }
    }
    let mut pod_cidrs = Vec::new();
    for (i, text) in node.spec.pod_cidrs.iter().enumerate() {
        pod_cidrs.extend(issues.network(format!("spec.podCIDRs[{i}]"), text));
    }
    if let (true, Some(text)) = (node.spec.pod_cidrs.is_empty(), &node.spec.pod_cidr) {
        pod_cidrs.extend(issues.network("spec.podCIDR", text));
    }
    let zone = node.metadata.labels.get("topology.kubernetes.io/zone").filter(|zone| !zone.is_empty());
    let zone = zone.map(|zone| shared(zone));
    let leaving = node.metadata.deletion_timestamp.is_some()
        || node.spec.taints.iter().any(|taint| taint.key == REMOVAL);
    let readiness = node.status.conditions.iter().find(|condition| condition.kind == "Ready");
    issues.or(Node {
        name: shared(name.name()),
        zone,
        addresses,
        pod_cidrs,
        leaving,
        ready: readiness.is_none_or(|condition| condition.status == "True"),
        excluded: node
            .metadata
            .labels
            .contains_key("node.kubernetes.io/exclude-from-external-load-balancers"),
    })
}

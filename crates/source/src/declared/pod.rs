//! Pods.

use std::net::IpAddr;
use std::sync::Arc;

use portolan_controllers::{ContainerPort, Naming, Pod};
use portolan_probe::Target;
use portolan_service::{Family, PerFamily};

use super::{Issue, Issues, given, naming, probes, shared};
use crate::objects;

/// The Pod, and what it is to be probed for. What cannot be done for it is in `left_out`.
pub(super) fn declare(
    pod: &objects::Pod,
    named: &objects::NamedPod,
    left_out: &mut Vec<Issue>,
) -> Result<(Pod, Option<Arc<Target>>), Vec<Issue>> {
    let mut issues = Issues::default();
    let naming = naming::declare(&mut issues, &named.spec);
    let mut ports = Vec::new();
    // Init containers that restart run beside the others: sidecars.
    let sidecar = |container: &objects::Container| container.restart_policy.as_deref() == Some("Always");
    let main = pod.spec.containers.iter().enumerate().map(|(i, container)| ("containers", i, container));
    let side =
        pod.spec.init_containers.iter().enumerate().map(|(i, container)| ("initContainers", i, container));
    let containers = main.chain(side.filter(|(_, _, container)| sidecar(container)));
    let containers: Vec<probes::Running<'_>> =
        containers.map(|(list, i, container)| (format!("spec.{list}[{i}]"), container)).collect();
    for (path, container) in &containers {
        for (j, port) in container.ports.iter().enumerate() {
            let field = |name: &str| format!("{path}.ports[{j}].{name}");
            let number = issues.port(field("containerPort"), port.container_port);
            let protocol = issues.protocol(field("protocol"), port.protocol.as_deref());
            if let (Some(number), Some(protocol), false) = (number, protocol, port.name.is_empty()) {
                ports.push(ContainerPort { name: shared(&port.name), protocol, port: number });
            }
        }
    }

    let mut addresses = PerFamily::<Option<IpAddr>>::default();
    // The one that `status.podIP` has in a cluster.
    let mut first = None;
    let mut take = |address: Option<IpAddr>| {
        if let Some(address) = address {
            first.get_or_insert(address);
            addresses.get_mut(Family::of(address)).get_or_insert(address);
        }
    };
    for (i, ip) in pod.status.pod_ips.iter().enumerate() {
        take(issues.address(format!("status.podIPs[{i}].ip"), &ip.ip));
    }
    if let Some(text) = &pod.status.pod_ip {
        take(issues.address("status.podIP", text));
    }
    let without = pod.status.pod_ip.is_none() && pod.status.pod_ips.is_empty();
    if let (true, true, Some(text)) = (without, naming.host_network, &pod.status.host_ip) {
        take(issues.address("status.hostIP", text));
    }

    let target = probes::declare(&mut issues, left_out, &containers, first);
    let pod = Pod {
        labels: pod.metadata.labels.clone(),
        addresses,
        ready: pod.status.conditions.iter().any(|it| it.kind == "Ready" && it.status == "True"),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        finished: matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed")),
        node: given(pod.spec.node_name.as_deref()),
        naming: (naming != Naming::default()).then(|| naming.into()),
        ports,
    };
    issues.or((pod, target))
}

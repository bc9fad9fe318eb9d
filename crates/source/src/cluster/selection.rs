//! EndpointSlices out of the pods that a Service selects, as the endpoint slice controller makes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use portolan_service::{Endpoint, EndpointSlice, Family, ObjectName, SlicePort};

use crate::declared::{self, Distribution, Labels, Pod, TargetPort, generated_name};

/// Whether a pod with `labels` is selected.
pub(super) fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Endpoints with the same port numbers.
struct Group {
    ports: Vec<SlicePort>,
    endpoints: Vec<Endpoint>,
}

/// The slices of `service` over those of `pods` that it selects: one for each family and each set of port
/// numbers, for a named target port may have another number in each pod.
pub(super) fn slices<'a>(
    name: &ObjectName,
    service: &declared::Service,
    families: &[Family],
    pods: impl Iterator<Item = &'a Pod>,
    zone_of: impl Fn(&str) -> Option<Arc<str>>,
) -> Vec<EndpointSlice> {
    let mut groups: BTreeMap<(Family, Vec<u16>), Group> = BTreeMap::new();
    for pod in pods.filter(|pod| !pod.finished && selects(&service.selector, &pod.labels)) {
        let ports = ports(service, pod);
        let serving = pod.ready;
        let ready = service.publish_not_ready || (serving && !pod.terminating);
        let (zone_hints, node_hints) =
            if ready { hints(service.distribution, pod, &zone_of) } else { (None, None) };
        for family in families {
            let Some(address) = *pod.addresses.get(*family) else { continue };
            // Numbers in the order of the Service's ports; 0 stands for a name this pod does not have.
            let numbers = ports.iter().map(|port| port.as_ref().map_or(0, |port| port.port)).collect();
            let group = groups.entry((*family, numbers)).or_insert_with(|| Group {
                ports: ports.iter().flatten().cloned().collect(),
                endpoints: Vec::new(),
            });
            group.endpoints.push(Endpoint {
                address,
                ready,
                serving,
                terminating: pod.terminating,
                node: pod.node.clone(),
                zone_hints: zone_hints.clone().into_iter().collect(),
                node_hints: node_hints.clone().into_iter().collect(),
            });
        }
    }
    let mut number = BTreeMap::new();
    groups
        .into_iter()
        .map(|((family, _), Group { ports, endpoints })| {
            let number = number.entry(family).and_modify(|number| *number += 1).or_insert(1);
            let slice = generated_name(name, family, *number);
            EndpointSlice { name: slice, service: name.clone(), family, ports, endpoints }
        })
        .collect()
}

/// The number of each Service port in `pod`.
fn ports(service: &declared::Service, pod: &Pod) -> Vec<Option<SlicePort>> {
    let number = |port: &declared::Port| match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(wanted) => pod
            .ports
            .iter()
            .find(|(name, protocol, _)| (name, *protocol) == (wanted, port.protocol))
            .map(|(_, _, number)| *number),
    };
    let slice_port = |port: &declared::Port| {
        number(port).map(|number| SlicePort {
            name: port.name.clone(),
            protocol: port.protocol,
            port: number,
        })
    };
    service.ports.iter().map(slice_port).collect()
}

fn hints(
    distribution: Distribution,
    pod: &Pod,
    zone_of: impl Fn(&str) -> Option<Arc<str>>,
) -> (Option<Arc<str>>, Option<Arc<str>>) {
    let zone = || pod.node.as_deref().and_then(zone_of);
    match distribution {
        Distribution::Any => (None, None),
        Distribution::SameZone => (zone(), None),
        Distribution::SameNode => (zone(), pod.node.clone()),
    }
}

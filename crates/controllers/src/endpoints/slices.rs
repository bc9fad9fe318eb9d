//! EndpointSlices out of the pods that a Service selects, as the endpoint slice controller makes
//! them.

use std::collections::BTreeMap;
use std::sync::Arc;

use portolan_service::{Endpoint, EndpointNames, EndpointSlice, Family, Hints, ObjectName, SlicePort};

use super::generated_name;
use crate::labels::selects;
use crate::{Distribution, Pod, PortSpec, ServiceSpec, TargetPort};

/// Endpoints with the same port numbers.
struct Group {
    ports: Vec<SlicePort>,
    endpoints: Vec<Endpoint>,
}

/// The slices of `service` over those of `pods` that it selects: one for each family and each set
/// of port numbers, for a named target port may have another number in each pod.
pub(super) fn slices<'a>(
    name: &ObjectName,
    service: &ServiceSpec,
    families: &[Family],
    pods: impl Iterator<Item = (&'a ObjectName, &'a Pod)>,
    zone_of: impl Fn(&str) -> Option<Arc<str>>,
) -> Vec<EndpointSlice> {
    let mut groups: BTreeMap<(Family, Vec<u16>), Group> = BTreeMap::new();
    for (pod_name, pod) in pods.filter(|(_, pod)| !pod.finished && selects(&service.selector, &pod.labels)) {
        let ports = ports(service, pod);
        let zone = pod.node.as_deref().and_then(&zone_of);
        let ready = service.publish_not_ready || (pod.ready && !pod.terminating);
        let hints = if ready { hints(service.distribution, pod, zone.as_ref()) } else { Hints::default() };
        // A pod has its hostname in the Service that its subdomain names.
        let naming = pod.naming.as_deref().filter(|naming| naming.subdomain.as_deref() == Some(name.name()));
        let hostname = naming.and_then(|naming| naming.hostname.as_deref());
        let names = EndpointNames::new(hostname, Some(pod_name.name()));
        for family in families {
            let Some(address) = *pod.addresses.get(*family) else { continue };
            // Numbers in the order of the Service's ports; 0 stands for a name that this pod lacks.
            let numbers = ports
                .iter()
                .map(|port| port.as_ref().and_then(|port| port.port).unwrap_or_default())
                .collect();
            let group = groups.entry((*family, numbers)).or_insert_with(|| Group {
                ports: ports.iter().flatten().cloned().collect(),
                endpoints: Vec::new(),
            });
            group.endpoints.push(Endpoint {
                address,
                ready,
                serving: pod.ready,
                terminating: pod.terminating,
                node: pod.node.clone(),
                zone: zone.clone(),
                names: names.clone(),
                hints: hints.clone(),
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
fn ports(service: &ServiceSpec, pod: &Pod) -> Vec<Option<SlicePort>> {
    let number = |port: &PortSpec| match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(wanted) => pod
            .ports
            .iter()
            .find(|candidate| (&candidate.name, candidate.protocol) == (wanted, port.protocol))
            .map(|found| found.port),
    };
    let slice_port = |port: &PortSpec| {
        number(port).map(|number| SlicePort {
            name: port.name.clone(),
            protocol: port.protocol,
            port: Some(number),
        })
    };
    service.ports.iter().map(slice_port).collect()
}

fn hints(distribution: Distribution, pod: &Pod, zone: Option<&Arc<str>>) -> Hints {
    match distribution {
        Distribution::Any => Hints::default(),
        Distribution::SameZone => Hints::new(zone.cloned(), None),
        Distribution::SameNode => Hints::new(zone.cloned(), pod.node.clone()),
    }
}

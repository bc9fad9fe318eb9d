//! EndpointSlices, and Endpoints as the slices they stand for.

use std::net::IpAddr;

use portolan_service::{Endpoint, EndpointSlice, Family, ObjectName, SlicePort};

use super::{Issue, Issues, generated_name, shared};
use crate::objects;

/// A slice; `None` if it is not for a service proxy.
pub(super) fn declare(
    name: &ObjectName,
    slice: &objects::EndpointSlice,
) -> Result<Option<EndpointSlice>, Vec<Issue>> {
    let mut issues = Issues::default();
    let family = match slice.address_type.as_str() {
        "IPv4" => Family::V4,
        "IPv6" => Family::V6,
        "FQDN" => return Ok(None),
        other => {
            issues.add("addressType", format!("{other} is not one of IPv4, IPv6, FQDN"));
            return issues.or(None);
        }
    };
    let ports = ports(&mut issues, "ports", &slice.ports);
    let mut endpoints = Vec::with_capacity(slice.endpoints.len());
    for (i, endpoint) in slice.endpoints.iter().enumerate() {
        let Some(text) = endpoint.addresses.first() else { continue };
        let field = format!("endpoints[{i}].addresses[0]");
        let Some(address) = usable(&mut issues, &field, text) else { continue };
        if Family::of(address) != family {
            issues.add(field, format!("{address} is not {family}, as addressType says"));
        }
        endpoints.push(Endpoint {
            address,
            ready: endpoint.conditions.ready.unwrap_or(true),
            serving: endpoint.conditions.serving.unwrap_or(true),
            terminating: endpoint.conditions.terminating.unwrap_or(false),
            node: endpoint.node_name.as_deref().filter(|name| !name.is_empty()).map(shared),
            zone_hints: endpoint.hints.for_zones.iter().map(|zone| shared(&zone.name)).collect(),
            node_hints: endpoint.hints.for_nodes.iter().map(|node| shared(&node.name)).collect(),
        });
    }
    let service = slice.metadata.labels.get("kubernetes.io/service-name").filter(|name| !name.is_empty());
    if let Some(service) = service {
        issues.label("metadata.labels.kubernetes.io/service-name", service);
    }
    let service = service.map(|service| ObjectName::new(name.namespace(), &service.replace('/', "")));
    issues.or(service.map(|service| EndpointSlice { name: name.clone(), service, family, ports, endpoints }))
}

/// The slices for the Endpoints object called `name`, which belong to the Service of that name.
pub(super) fn mirror(
    name: &ObjectName,
    endpoints: &objects::Endpoints,
) -> Result<Vec<EndpointSlice>, Vec<Issue>> {
    let mut issues = Issues::default();
    let mut slices = Vec::new();
    let skip = endpoints.metadata.labels.get("endpointslice.kubernetes.io/skip-mirror");
    let mut counts = [0; 2];
    for (i, subset) in endpoints.subsets.iter().enumerate() {
        let ports = ports(&mut issues, &format!("subsets[{i}].ports"), &subset.ports);
        let mut members = Vec::new();
        for (list, ready) in [("addresses", true), ("notReadyAddresses", false)] {
            let addresses = if ready { &subset.addresses } else { &subset.not_ready_addresses };
            for (j, address) in addresses.iter().enumerate() {
                let field = format!("subsets[{i}].{list}[{j}].ip");
                members.extend(usable(&mut issues, &field, &address.ip).map(|ip| Endpoint {
                    address: ip,
                    ready,
                    serving: ready,
                    terminating: false,
                    node: address.node_name.as_deref().filter(|name| !name.is_empty()).map(shared),
                    zone_hints: Box::default(),
                    node_hints: Box::default(),
                }));
            }
        }
        for (family, count) in Family::ALL.into_iter().zip(&mut counts) {
            let endpoints: Vec<Endpoint> =
                members.iter().filter(|member| Family::of(member.address) == family).cloned().collect();
            if !endpoints.is_empty() {
                *count += 1;
                let slice = generated_name(name, family, *count);
                let ports = ports.clone();
                slices.push(EndpointSlice { name: slice, service: name.clone(), family, ports, endpoints });
            }
        }
    }
    if skip.is_some_and(|skip| skip == "true") {
        slices.clear();
    }
    issues.or(slices)
}

fn ports(issues: &mut Issues, field: &str, ports: &[objects::EndpointPort]) -> Vec<SlicePort> {
    let mut usable = Vec::with_capacity(ports.len());
    for (i, port) in ports.iter().enumerate() {
        let name = port.name.as_deref().unwrap_or_default();
        if !name.is_empty() {
            issues.label(format!("{field}[{i}].name"), name);
        }
        let protocol = issues.protocol(format!("{field}[{i}].protocol"), port.protocol.as_deref());
        // Without a number a port means all ports, which no Service port can stand for (spec §1.22).
        let Some(number) = port.port else { continue };
        let number = issues.port(format!("{field}[{i}].port"), number);
        if let (Some(protocol), Some(number)) = (protocol, number) {
            usable.push(SlicePort { name: shared(name), protocol, port: number });
        }
    }
    usable
}

/// An address that a connection can be sent to.
fn usable(issues: &mut Issues, field: &str, text: &str) -> Option<IpAddr> {
    let address = issues.address(field, text)?;
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || link_local {
        issues.add(
            field,
            format!("{address} cannot be an endpoint: it is unspecified, loopback, link-local or multicast"),
        );
        return None;
    }
    Some(address)
}

//! EndpointSlices, and what they share with Endpoints.

use std::net::IpAddr;
use std::sync::Arc;

use portolan_service::{Endpoint, EndpointNames, EndpointSlice, Family, Hints, ObjectName, SlicePort};

use super::{Issue, Issues, given, shared};
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
        let named = |list: &[objects::Named]| -> Vec<Arc<str>> {
            list.iter().map(|named| shared(&named.name)).collect()
        };
        endpoints.push(Endpoint {
            address,
            ready: endpoint.conditions.ready.unwrap_or(true),
            serving: endpoint.conditions.serving.unwrap_or(true),
            terminating: endpoint.conditions.terminating.unwrap_or(false),
            node: given(endpoint.node_name.as_deref()),
            zone: given(endpoint.zone.as_deref()),
            names: names(endpoint.hostname.as_deref(), &endpoint.target_ref),
            hints: Hints::new(named(&endpoint.hints.for_zones), named(&endpoint.hints.for_nodes)),
        });
    }
    let service = slice.metadata.labels.get("kubernetes.io/service-name").filter(|name| !name.is_empty());
    if let Some(service) = service {
        issues.label("metadata.labels.kubernetes.io/service-name", service);
    }
    let service = service.map(|service| ObjectName::new(name.namespace(), &service.replace('/', "")));
    issues.or(service.map(|service| EndpointSlice { name: name.clone(), service, family, ports, endpoints }))
}

/// What an endpoint can be called.
pub(super) fn names(hostname: Option<&str>, target: &objects::ObjectReference) -> EndpointNames {
    let pod = target.name.as_deref().filter(|_| target.kind.as_deref() == Some("Pod"));
    EndpointNames::new(hostname, pod)
}

pub(super) fn ports(issues: &mut Issues, field: &str, ports: &[objects::EndpointPort]) -> Vec<SlicePort> {
    let mut usable = Vec::with_capacity(ports.len());
    for (i, port) in ports.iter().enumerate() {
        let name = port.name.as_deref().unwrap_or_default();
        if !name.is_empty() {
            issues.label(format!("{field}[{i}].name"), name);
        }
        let protocol = issues.protocol(format!("{field}[{i}].protocol"), port.protocol.as_deref());
        // Without a number it means all ports, which no Service port can stand for (spec §1.22).
        let Some(number) = port.port else { continue };
        let number = issues.port(format!("{field}[{i}].port"), number);
        if let (Some(protocol), Some(number)) = (protocol, number) {
            usable.push(SlicePort { name: shared(name), protocol, port: number });
        }
    }
    usable
}

/// An address that a connection can be sent to.
pub(super) fn usable(issues: &mut Issues, field: &str, text: &str) -> Option<IpAddr> {
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

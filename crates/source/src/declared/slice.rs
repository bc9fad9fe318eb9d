//! EndpointSlices, and what they share with Endpoints.

use std::net::IpAddr;
use std::sync::Arc;

use portolan_service::{
    Endpoint, EndpointNames, EndpointSlice, Family, Hints, ObjectName, SlicePort, Target, TargetSlice,
    further,
};

use super::{Issue, Issues, Slice, given, is_qualified, shared};
use crate::objects;

/// A slice.
pub(super) fn declare(name: &ObjectName, slice: &objects::EndpointSlice) -> Result<Slice, Vec<Issue>> {
    let mut issues = Issues::default();
    let family = match slice.address_type.as_str() {
        "IPv4" => Family::V4,
        "IPv6" => Family::V6,
        "FQDN" => return targets(name, slice, issues),
        other => {
            issues.add("addressType", format!("{other} is not one of IPv4, IPv6, FQDN"));
            return issues.or(Slice::Unused);
        }
    };
    let ports = ports(&mut issues, "ports", &slice.ports);
    let (mut endpoints, mut more) = (Vec::with_capacity(slice.endpoints.len()), Vec::new());
    for (i, given) in slice.endpoints.iter().enumerate() {
        for (j, text) in given.addresses.iter().enumerate() {
            let field = format!("endpoints[{i}].addresses[{j}]");
            let Some(address) = usable(&mut issues, &field, text) else { continue };
            if Family::of(address) != family {
                issues.add(field, format!("{address} is not {family}, as addressType says"));
            }
            if j == 0 { &mut endpoints } else { &mut more }.push(endpoint(given, address));
        }
    }
    let Some(service) = owner(name, slice, &mut issues) else { return issues.or(Slice::Unused) };
    let of = |name, endpoints| EndpointSlice {
        name,
        service: service.clone(),
        family,
        ports: ports.clone(),
        endpoints,
    };
    let further = (!more.is_empty()).then(|| of(further(name), more).into());
    issues.or(Slice::Addresses { slice: of(name.clone(), endpoints).into(), further })
}

/// A slice of type FQDN.
fn targets(
    name: &ObjectName,
    slice: &objects::EndpointSlice,
    mut issues: Issues,
) -> Result<Slice, Vec<Issue>> {
    let mut endpoints = Vec::with_capacity(slice.endpoints.len());
    for (i, endpoint) in slice.endpoints.iter().enumerate() {
        let Some(target) = endpoint.addresses.first() else { continue };
        if !is_qualified(target) {
            let message =
                format!("{target:?} is not a domain name of two labels or more, as addressType says");
            issues.add(format!("endpoints[{i}].addresses[0]"), message);
        }
        endpoints.push(Target {
            target: shared(target),
            ready: endpoint.conditions.ready.unwrap_or(true),
            names: names(endpoint.hostname.as_deref(), &endpoint.target_ref),
        });
    }
    let Some(service) = owner(name, slice, &mut issues) else { return issues.or(Slice::Unused) };
    issues.or(Slice::Targets(TargetSlice { name: name.clone(), service, endpoints }.into()))
}

fn endpoint(endpoint: &objects::Endpoint, address: IpAddr) -> Endpoint {
    let named =
        |list: &[objects::Named]| -> Vec<Arc<str>> { list.iter().map(|named| shared(&named.name)).collect() };
    Endpoint {
        address,
        ready: endpoint.conditions.ready.unwrap_or(true),
        serving: endpoint.conditions.serving.unwrap_or(true),
        terminating: endpoint.conditions.terminating.unwrap_or(false),
        node: given(endpoint.node_name.as_deref()),
        zone: given(endpoint.zone.as_deref()),
        names: names(endpoint.hostname.as_deref(), &endpoint.target_ref),
        hints: Hints::new(named(&endpoint.hints.for_zones), named(&endpoint.hints.for_nodes)),
    }
}

/// The Service that a slice belongs to, if it names one.
fn owner(name: &ObjectName, slice: &objects::EndpointSlice, issues: &mut Issues) -> Option<ObjectName> {
    let service = slice.metadata.labels.get("kubernetes.io/service-name").filter(|name| !name.is_empty());
    if let Some(service) = service {
        issues.label("metadata.labels.kubernetes.io/service-name", service);
    }
    service.map(|service| ObjectName::new(name.namespace(), &service.replace('/', "")))
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
        let number = match port.port {
            // All ports.
            None => Some(None),
            Some(number) => issues.port(format!("{field}[{i}].port"), number).map(Some),
        };
        if let (Some(protocol), Some(port)) = (protocol, number) {
            usable.push(SlicePort { name: shared(name), protocol, port });
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

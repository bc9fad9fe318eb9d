//! Names from the running proxy: the rows of its live table.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use portolan_names::Settings;
use portolan_observe::rows::{EndpointRow, ServiceRow};
use portolan_service::{Change, FrontendKind, ObjectName, Service};
use portolan_trace::explain::{KnownEndpoint, KnownFrontend, KnownService, Services};

use crate::names::{Names, Origin, protocol_named};

/// Services as in the rows of the running proxy.
pub(crate) fn names(services: Vec<ServiceRow>, endpoints: Vec<EndpointRow>) -> Names {
    let mut known: Vec<KnownService> = Vec::new();
    let mut places: HashMap<(String, String), usize> = HashMap::new();
    for row in services {
        let place = *places.entry((row.namespace.clone(), row.name.clone())).or_insert_with(|| {
            known.push(KnownService {
                namespace: row.namespace.clone(),
                name: row.name.clone(),
                affinity: row.affinity_seconds.map(|seconds| Duration::from_secs(seconds.into())),
                ..KnownService::default()
            });
            known.len() - 1
        });
        let service = &mut known[place];
        service.internal_local |= row.internal_policy.as_deref() == Some("Local");
        service.external_local |= row.external_policy.as_deref() == Some("Local");
        let protocol = protocol_named(&row.protocol);
        for frontend in row.frontends {
            let ranges = frontend.allowed_sources.iter().filter_map(|range| range.parse().ok());
            let new: Vec<_> = ranges.filter(|range| !service.source_ranges.contains(range)).collect();
            service.source_ranges.extend(new);
            if let (Some(kind), Some(protocol)) = (kind_named(&frontend.kind), protocol) {
                service.frontends.push(KnownFrontend {
                    kind,
                    address: Some(frontend.address),
                    port: frontend.port,
                    protocol,
                    port_name: row.port.clone(),
                });
            }
        }
    }
    for row in endpoints {
        let Some(place) = places.get(&(row.namespace.clone(), row.service.clone())) else { continue };
        let ready = row.lists.iter().any(|list| list == "cluster" || list == "local");
        known[*place].endpoints.push(KnownEndpoint {
            address: row.socket(),
            pod: None,
            ready,
            serving: true,
            terminating: !ready,
            node: None,
            local: row.local,
            port_name: row.port,
        });
    }
    Names {
        services: Services { services: known, ..Services::default() },
        origin: Origin::Proxy,
        ..Names::default()
    }
}

/// The DNS names of the Services in the rows, as far as those have them: by their ClusterIPs.
pub(crate) fn dns(
    services: &[ServiceRow],
    domain: &str,
) -> Result<portolan_names::Names, portolan_names::Error> {
    let mut known: BTreeMap<(&str, &str), Service> = BTreeMap::new();
    for row in services {
        let name = (row.namespace.as_str(), row.name.as_str());
        let service =
            known.entry(name).or_insert_with(|| Service::new(ObjectName::new(&row.namespace, &row.name)));
        for frontend in row.frontends.iter().filter(|frontend| frontend.kind == "ClusterIP") {
            if !service.cluster_ips.contains(&frontend.address) {
                service.cluster_ips.push(frontend.address);
            }
        }
    }
    let zones = [domain, "in-addr.arpa", "ip6.arpa"].map(str::to_owned).to_vec();
    let mut names = portolan_names::Names::new(Settings { zones, ..Settings::default() }, 0)?;
    names.apply(known.into_values().map(|service| Change::from(service).into()), 0);
    names.set_synced();
    Ok(names)
}

fn kind_named(name: &str) -> Option<FrontendKind> {
    Some(match name {
        "ClusterIP" => FrontendKind::ClusterIp,
        "ExternalIP" => FrontendKind::ExternalIp,
        "LoadBalancer" => FrontendKind::LoadBalancer,
        "NodePort" => FrontendKind::NodePort,
        _ => return None,
    })
}

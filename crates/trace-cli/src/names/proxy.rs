//! Names from the running proxy: the rows of its live table.

use std::collections::HashMap;
use std::time::Duration;

use portolan_observe::rows::{EndpointRow, ServiceRow};
use portolan_service::FrontendKind;
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

fn kind_named(name: &str) -> Option<FrontendKind> {
    Some(match name {
        "ClusterIP" => FrontendKind::ClusterIp,
        "ExternalIP" => FrontendKind::ExternalIp,
        "LoadBalancer" => FrontendKind::LoadBalancer,
        "NodePort" => FrontendKind::NodePort,
        _ => return None,
    })
}

//! Endpoints.

use portolan_controllers::{Endpoints, Subset};
use portolan_service::Endpoint;

use super::slice::{names, ports, usable};
use super::{Issue, Issues, given};
use crate::objects;

/// The endpoints of the Service of the same name.
pub(super) fn declare(endpoints: &objects::Endpoints) -> Result<Endpoints, Vec<Issue>> {
    let mut issues = Issues::default();
    let mut subsets = Vec::with_capacity(endpoints.subsets.len());
    for (i, subset) in endpoints.subsets.iter().enumerate() {
        let ports = ports(&mut issues, &format!("subsets[{i}].ports"), &subset.ports);
        let mut endpoints = Vec::new();
        for (list, ready) in [("addresses", true), ("notReadyAddresses", false)] {
            let addresses = if ready { &subset.addresses } else { &subset.not_ready_addresses };
            for (j, address) in addresses.iter().enumerate() {
                let field = format!("subsets[{i}].{list}[{j}].ip");
                let Some(ip) = usable(&mut issues, &field, &address.ip) else { continue };
                endpoints.push(Endpoint {
                    ready,
                    serving: ready,
                    node: given(address.node_name.as_deref()),
                    names: names(address.hostname.as_deref(), &address.target_ref),
                    ..Endpoint::new(ip)
                });
            }
        }
        subsets.push(Subset { ports, endpoints });
    }
    let skip = endpoints.metadata.labels.get("endpointslice.kubernetes.io/skip-mirror");
    issues.or(Endpoints { skip_mirror: skip.is_some_and(|skip| skip == "true"), subsets })
}

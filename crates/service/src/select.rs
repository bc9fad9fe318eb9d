//! Which endpoints a Service port uses on this node (spec §2).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::{Backend, Endpoint, EndpointSlice, Family, LocalNode, Protocol};

/// One endpoint of a Service port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) port: u16,
    /// It runs on this node (spec §1.25).
    pub(crate) local: bool,
}

impl Candidate<'_> {
    fn ready(&self) -> bool {
        self.endpoint.ready
    }

    fn backend(&self) -> Backend {
        Backend { address: self.endpoint.address, port: self.port, local: self.local }
    }
}

/// The endpoints of one Service port over all slices of the Service (joined by name and protocol, spec §1.22),
/// each `ip:port` once, sorted as spec §1.28.
///
/// Of duplicates a terminating one never replaces another (spec §1.27); among equals the first wins, in the
/// order of slice names, so that the order of arrival does not matter.
pub(crate) fn candidates<'a>(
    slices: &'a [EndpointSlice],
    family: Family,
    name: &str,
    protocol: Protocol,
    node: &LocalNode,
) -> Vec<Candidate<'a>> {
    let mut found: Vec<Candidate<'a>> = Vec::new();
    let mut known: HashMap<(IpAddr, u16), usize> = HashMap::new();
    for slice in slices.iter().filter(|slice| slice.family == family) {
        for port in slice.ports.iter().filter(|port| *port.name == *name && port.protocol == protocol) {
            for endpoint in slice.endpoints.iter().filter(|endpoint| Family::of(endpoint.address) == family) {
                let local = !node.name.is_empty() && endpoint.node.as_deref() == Some(&*node.name);
                let candidate = Candidate { endpoint, port: port.port, local };
                match known.get(&(endpoint.address, port.port)) {
                    None => {
                        known.insert((endpoint.address, port.port), found.len());
                        found.push(candidate);
                    }
                    Some(&place) if found[place].endpoint.terminating && !endpoint.terminating => {
                        found[place] = candidate;
                    }
                    Some(_) => {}
                }
            }
        }
    }
    found.sort_by_cached_key(|candidate| {
        SocketAddr::new(candidate.endpoint.address, candidate.port).to_string()
    });
    found
}

/// The fallback where nothing is ready (spec §2.3, §2.4).
fn serving_terminating(candidate: &Candidate<'_>) -> bool {
    candidate.endpoint.serving && candidate.endpoint.terminating
}

/// The Cluster list (spec §2.2, §2.3).
pub(crate) fn cluster(candidates: &[Candidate<'_>], node: &LocalNode) -> Vec<Backend> {
    let topology = Topology::of(candidates, node);
    let ready = pick(candidates, |candidate| candidate.ready() && topology.allows(candidate, node));
    if ready.is_empty() { pick(candidates, serving_terminating) } else { ready }
}

/// The Local list (spec §2.4).
pub(crate) fn local(candidates: &[Candidate<'_>]) -> Vec<Backend> {
    let ready = pick(candidates, |candidate| candidate.local && candidate.ready());
    if ready.is_empty() {
        pick(candidates, |candidate| candidate.local && serving_terminating(candidate))
    } else {
        ready
    }
}

/// Every endpoint that serves, terminating or not (spec §8.2).
pub(crate) fn serving(candidates: &[Candidate<'_>]) -> Vec<Backend> {
    pick(candidates, |candidate| candidate.endpoint.serving)
}

/// Any endpoint anywhere could be used (spec §2.7).
pub(crate) fn has_any(candidates: &[Candidate<'_>]) -> bool {
    candidates.iter().any(|candidate| candidate.ready() || serving_terminating(candidate))
}

/// Addresses of ready endpoints on this node (spec §11.11).
pub(crate) fn ready_local<'a>(candidates: &'a [Candidate<'_>]) -> impl Iterator<Item = IpAddr> + 'a {
    candidates
        .iter()
        .filter(|candidate| candidate.local && candidate.ready())
        .map(|candidate| candidate.endpoint.address)
}

fn pick(candidates: &[Candidate<'_>], wanted: impl Fn(&Candidate<'_>) -> bool) -> Vec<Backend> {
    candidates.iter().filter(|candidate| wanted(candidate)).map(Candidate::backend).collect()
}

/// How hints narrow the Cluster list (spec §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Topology {
    SameNode,
    SameZone,
    None,
}

impl Topology {
    /// One ready endpoint without a hint disables a mode, and so does no hint for here.
    fn of(candidates: &[Candidate<'_>], node: &LocalNode) -> Topology {
        let usable = |mode: Topology, hints: fn(&Endpoint) -> &[Arc<str>]| {
            let mut ready = candidates.iter().filter(|candidate| candidate.ready());
            ready.clone().all(|candidate| !hints(candidate.endpoint).is_empty())
                && ready.any(|candidate| mode.allows(candidate, node))
        };
        if usable(Topology::SameNode, |endpoint| &endpoint.node_hints) {
            Topology::SameNode
        } else if usable(Topology::SameZone, |endpoint| &endpoint.zone_hints) {
            Topology::SameZone
        } else {
            Topology::None
        }
    }

    fn allows(self, candidate: &Candidate<'_>, node: &LocalNode) -> bool {
        match self {
            Topology::SameNode => candidate.endpoint.node_hints.contains(&node.name),
            Topology::SameZone => {
                node.zone.as_ref().is_some_and(|zone| candidate.endpoint.zone_hints.contains(zone))
            }
            Topology::None => true,
        }
    }
}

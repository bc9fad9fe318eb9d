//! Which endpoints a Service port uses on this node (spec §2).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::{Backend, Endpoint, EndpointSlice, Family, LocalNode, Place, Protocol, Weights};

/// One endpoint of a Service port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) port: u16,
    /// Where it runs (spec §1.25).
    pub(crate) place: Place,
    pub(crate) weight: u16,
}

impl Candidate<'_> {
    fn is_local(&self) -> bool {
        self.place == Place::Here
    }

    fn ready(&self) -> bool {
        self.endpoint.ready
    }

    /// It is ready, and to get new connections.
    fn takes(&self) -> bool {
        self.ready() && self.weight > 0
    }

    fn backend(&self) -> Backend {
        Backend { address: self.endpoint.address, port: self.port, place: self.place, weight: self.weight }
    }
}

/// The ports of a Service's slices by their name, which with family and protocol joins them to the
/// Service's ports (spec §1.22). They are looked up, since a Service may have thousands.
#[derive(Debug)]
pub(crate) struct SlicePorts<'a> {
    by_name: HashMap<&'a str, Vec<ListedPort<'a>>>,
    /// Of each slice the weight of each endpoint; empty if all have the same.
    weights: Vec<Vec<u16>>,
}

/// A port of a slice.
#[derive(Debug, Clone, Copy)]
struct ListedPort<'a> {
    slice: &'a EndpointSlice,
    /// The slice's place among those of the Service.
    place: usize,
    protocol: Protocol,
    number: u16,
}

impl<'a> SlicePorts<'a> {
    pub(crate) fn of(slices: &'a [Arc<EndpointSlice>]) -> SlicePorts<'a> {
        let mut ports: HashMap<&str, Vec<ListedPort<'a>>> = HashMap::new();
        for (place, slice) in slices.iter().enumerate() {
            for port in &slice.ports {
                let Some(number) = port.port else { continue };
                let listed = ListedPort { slice, place, protocol: port.protocol, number };
                ports.entry(&port.name).or_default().push(listed);
            }
        }
        SlicePorts { by_name: ports, weights: Vec::new() }
    }

    fn get(&self, family: Family, name: &str, protocol: Protocol) -> impl Iterator<Item = ListedPort<'a>> {
        let named = self.by_name.get(name).map_or(&[][..], Vec::as_slice);
        named.iter().copied().filter(move |port| port.slice.family == family && port.protocol == protocol)
    }

    /// Works out the weight of each endpoint, once for all ports.
    pub(crate) fn weigh(&mut self, slices: &[Arc<EndpointSlice>], weights: &Weights) {
        let of_slice = |slice: &Arc<EndpointSlice>| {
            slice.endpoints.iter().map(|endpoint| weights.of(endpoint)).collect()
        };
        self.weights = slices.iter().map(of_slice).collect();
    }

    /// The weight of an endpoint of a slice, each by its place.
    fn weight(&self, slice: usize, endpoint: usize) -> u16 {
        self.weights.get(slice).map_or(Weights::DEFAULT, |weights| weights[endpoint])
    }

    /// How many slots ([`Backend::weight`]) the endpoints of a Service port have at most; 0 without
    /// weights.
    pub(crate) fn slots(&self, family: Family, name: &str, protocol: Protocol) -> usize {
        if self.weights.is_empty() {
            return 0;
        }
        let of_slice = |port: ListedPort<'_>| -> usize {
            self.weights[port.place].iter().map(|weight| usize::from(*weight)).sum()
        };
        let all: usize = self.get(family, name, protocol).map(of_slice).sum();
        all.min(Weights::most_slots(self.listed(family, name, protocol)))
    }

    /// How many endpoints the slices list for a Service port, whatever their state.
    pub(crate) fn listed(&self, family: Family, name: &str, protocol: Protocol) -> usize {
        self.get(family, name, protocol).map(|port| port.slice.endpoints.len()).sum()
    }
}

/// The endpoints of one Service port over all slices of the Service, joined by name and protocol
/// (spec §1.22). Each `ip:port` is there once, sorted as spec §1.28.
///
/// Of duplicates a terminating one never replaces another (spec §1.27). Among equals the first
/// wins, in the order of slice names, so that the order of arrival does not matter.
pub(crate) fn candidates<'a>(
    slices: &SlicePorts<'a>,
    family: Family,
    name: &str,
    protocol: Protocol,
    node: &LocalNode,
) -> Vec<Candidate<'a>> {
    let mut found: Vec<Candidate<'a>> = Vec::new();
    let mut known: HashMap<(IpAddr, u16), usize> = HashMap::new();
    for ListedPort { slice, place: of_slice, number, .. } in slices.get(family, name, protocol) {
        let endpoints = slice.endpoints.iter().enumerate();
        for (i, endpoint) in endpoints.filter(|(_, endpoint)| Family::of(endpoint.address) == family) {
            let weight = slices.weight(of_slice, i);
            let candidate = Candidate { endpoint, port: number, place: place(endpoint, node), weight };
            match known.get(&(endpoint.address, number)) {
                None => {
                    known.insert((endpoint.address, number), found.len());
                    found.push(candidate);
                }
                Some(&place) if found[place].endpoint.terminating && !endpoint.terminating => {
                    found[place] = candidate;
                }
                Some(_) => {}
            }
        }
    }
    found.sort_by_cached_key(|candidate| {
        SocketAddr::new(candidate.endpoint.address, candidate.port).to_string()
    });
    found
}

fn place(endpoint: &Endpoint, node: &LocalNode) -> Place {
    match &endpoint.node {
        None => Place::Unknown,
        Some(name) if !node.name.is_empty() && *name == node.name => Place::Here,
        Some(_) => Place::Elsewhere,
    }
}

/// The fallback where nothing is ready (spec §2.3, §2.4).
fn serving_terminating(candidate: &Candidate<'_>) -> bool {
    candidate.endpoint.serving && candidate.endpoint.terminating && candidate.weight > 0
}

/// The Cluster list (spec §2.2, §2.3).
pub(crate) fn cluster(candidates: &[Candidate<'_>], node: &LocalNode) -> Vec<Backend> {
    let topology = Topology::of(candidates, node);
    if !candidates.iter().any(Candidate::ready) {
        return pick(candidates, serving_terminating);
    }
    pick(candidates, |candidate| candidate.takes() && topology.allows(candidate, node))
}

/// The Local list (spec §2.4).
pub(crate) fn local(candidates: &[Candidate<'_>]) -> Vec<Backend> {
    if candidates.iter().any(|candidate| candidate.is_local() && candidate.ready()) {
        pick(candidates, |candidate| candidate.is_local() && candidate.takes())
    } else {
        pick(candidates, |candidate| candidate.is_local() && serving_terminating(candidate))
    }
}

/// Every endpoint that serves, terminating or not (spec §8.2).
pub(crate) fn serving(candidates: &[Candidate<'_>]) -> Vec<Backend> {
    pick(candidates, |candidate| candidate.endpoint.serving)
}

/// Those that serve and get no new connections, because their weight is 0.
pub(crate) fn resting(candidates: &[Candidate<'_>]) -> Vec<Backend> {
    pick(candidates, |candidate| candidate.endpoint.serving && candidate.weight == 0)
}

/// Any endpoint anywhere could be used (spec §2.7).
pub(crate) fn has_any(candidates: &[Candidate<'_>]) -> bool {
    if candidates.iter().any(Candidate::ready) {
        candidates.iter().any(Candidate::takes)
    } else {
        candidates.iter().any(serving_terminating)
    }
}

/// Addresses of ready endpoints on this node (spec §11.11), those that get new connections.
pub(crate) fn ready_local<'a>(candidates: &'a [Candidate<'_>]) -> impl Iterator<Item = IpAddr> + 'a {
    candidates
        .iter()
        .filter(|candidate| candidate.is_local() && candidate.takes())
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
            let mut ready = candidates.iter().filter(|candidate| candidate.takes());
            ready.clone().all(|candidate| !hints(candidate.endpoint).is_empty())
                && ready.any(|candidate| mode.allows(candidate, node))
        };
        if usable(Topology::SameNode, |endpoint| endpoint.hints.nodes()) {
            Topology::SameNode
        } else if usable(Topology::SameZone, |endpoint| endpoint.hints.zones()) {
            Topology::SameZone
        } else {
            Topology::None
        }
    }

    fn allows(self, candidate: &Candidate<'_>, node: &LocalNode) -> bool {
        match self {
            Topology::SameNode => candidate.endpoint.hints.nodes().contains(&node.name),
            Topology::SameZone => {
                node.zone.as_ref().is_some_and(|zone| candidate.endpoint.hints.zones().contains(zone))
            }
            Topology::None => true,
        }
    }
}

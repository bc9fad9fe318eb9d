//! The controllers together: objects in, changes out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use portolan_service::{
    Change, EndpointSlice, HealthCheckPort, Node, ObjectName, PerFamily, Service, ServicePort,
};

use crate::allocation::{Allocator, Assignment};
use crate::endpoints::Sources;
use crate::{Endpoints, Issue, Naming, Pod, Ranges, Record, ServiceSpec};

/// How often claims are passed on within one call.
const MAX_ROUNDS: usize = 100;

/// The declared objects, with what has been made of them.
#[derive(Debug)]
pub struct Controllers<R> {
    services: HashMap<ObjectName, State>,
    sources: Sources,
    allocator: Allocator<R>,
    /// Services whose declaration changed.
    declared: BTreeSet<ObjectName>,
    /// Services whose endpoints may have changed.
    touched: BTreeSet<ObjectName>,
}

/// A Service and what was emitted for it.
#[derive(Debug, Default)]
struct State {
    declared: Option<Arc<ServiceSpec>>,
    assignment: Assignment,
    service: Option<Service>,
    slices: BTreeMap<ObjectName, EndpointSlice>,
    issues: Vec<Issue>,
}

/// What [`Controllers::reconcile`] made of the objects.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Services, and the slices made for them, that are different now or gone. Each is there once.
    pub changes: Vec<Change>,
    /// What is now wrong with each Service for which that is different.
    pub issues: Vec<(ObjectName, Vec<Issue>)>,
}

impl<R: Record> Controllers<R> {
    /// No objects yet. Allocates from `ranges`, and keeps to what is in `record`.
    pub fn new(ranges: Ranges, record: R) -> Controllers<R> {
        Controllers {
            services: HashMap::new(),
            sources: Sources::default(),
            allocator: Allocator::new(ranges, record),
            declared: BTreeSet::new(),
            touched: BTreeSet::new(),
        }
    }

    /// The record of allocations.
    pub fn record(&self) -> &R {
        self.allocator.record()
    }

    /// The pods and their addresses.
    pub fn pods(&self) -> impl Iterator<Item = (&ObjectName, PerFamily<Option<IpAddr>>)> {
        self.sources.pods()
    }

    /// The pods that say anything of names, and what they say.
    pub fn naming(&self) -> impl Iterator<Item = (&ObjectName, &Arc<Naming>)> {
        self.sources.naming()
    }

    /// The Node called `name` is now like this, or gone. Endpoints of its pods are in its zone.
    pub fn set_node(&mut self, name: &str, node: Option<&Node>) {
        self.touched.extend(self.sources.set_node(name, node));
    }

    /// The Pod called `name` is now like this, or gone.
    pub fn set_pod(&mut self, name: &ObjectName, pod: Option<Arc<Pod>>) {
        self.touched.extend(self.sources.set_pod(name, pod));
    }

    /// The Endpoints object called `name` is now like this, or gone. It is used while the Service
    /// of that name has no selector.
    pub fn set_endpoints(&mut self, name: &ObjectName, endpoints: Option<Arc<Endpoints>>) {
        self.sources.set_given(name, endpoints);
        self.touched.insert(name.clone());
    }

    /// The Service called `name` is now declared like this, or gone.
    pub fn set_service(&mut self, name: &ObjectName, service: Option<Arc<ServiceSpec>>) {
        self.sources.set_service(name, service.as_ref());
        self.services.entry(name.clone()).or_default().declared = service;
        self.declared.insert(name.clone());
    }

    /// Recomputes the Services that were touched since the last call.
    ///
    /// Each Service has its ClusterIPs, NodePorts and health-check port, as far as they could be
    /// allocated. One that asks for a ClusterIP that another has is left out.
    pub fn reconcile(&mut self) -> Outcome {
        self.allocate();
        let mut outcome = Outcome::default();
        for name in mem::take(&mut self.touched) {
            let Some(state) = self.services.get(&name) else { continue };
            let (service, slices, found) = match &state.declared {
                None => (None, BTreeMap::new(), Vec::new()),
                Some(spec) => {
                    let (slices, found) = self.sources.slices(&name, spec, &state.assignment.families);
                    (emitted(&name, spec, &state.assignment), slices, found)
                }
            };
            let Some(state) = self.services.get_mut(&name) else { continue };
            state.replace(&name, service, slices, &mut outcome.changes);
            let issues = Issue::capped(state.assignment.issues.iter().cloned().chain(found).collect());
            if state.issues != issues {
                state.issues.clone_from(&issues);
                outcome.issues.push((name.clone(), issues));
            }
            if state.declared.is_none() {
                self.services.remove(&name);
            }
        }
        outcome
    }

    /// Assigns addresses and ports until no Service's claim disturbs another's.
    fn allocate(&mut self) {
        let mut pending = mem::take(&mut self.declared);
        // Claims only ever move to whoever is first by name, so that this ends after a few rounds.
        // Should it not, the rest waits for the next call: better than never to return.
        for _ in 0..MAX_ROUNDS {
            if pending.is_empty() {
                break;
            }
            let batch: Vec<(ObjectName, Option<Arc<ServiceSpec>>)> = pending
                .into_iter()
                .map(|name| {
                    let declared = self.services.get(&name).and_then(|state| state.declared.clone());
                    (name, declared)
                })
                .collect();
            let (assignments, disturbed) = self.allocator.assign(&batch);
            for (name, assignment) in assignments {
                if let Some(state) = self.services.get_mut(&name) {
                    state.assignment = assignment;
                }
                self.touched.insert(name);
            }
            pending = disturbed;
        }
        self.declared = pending;
    }
}

impl State {
    /// Puts `service` and `slices` in the place of what was emitted before. Slices come first, so
    /// that no Service is without endpoints on the way.
    fn replace(
        &mut self,
        name: &ObjectName,
        service: Option<Service>,
        slices: BTreeMap<ObjectName, EndpointSlice>,
        changes: &mut Vec<Change>,
    ) {
        let new = slices.iter().filter(|(slice, content)| self.slices.get(*slice) != Some(*content));
        changes.extend(new.map(|(_, content)| Change::from(content.clone())));
        let gone = self.slices.keys().filter(|slice| !slices.contains_key(*slice));
        changes.extend(gone.cloned().map(Change::SliceRemoved));
        self.slices = slices;
        if self.service != service {
            changes.push(match &service {
                Some(service) => Change::from(service.clone()),
                None => Change::ServiceRemoved(name.clone()),
            });
            self.service = service;
        }
    }
}

/// The Service as the catalog takes it; `None` while it must not have the ClusterIP it asks for.
fn emitted(name: &ObjectName, spec: &ServiceSpec, assignment: &Assignment) -> Option<Service> {
    if assignment.refused {
        return None;
    }
    let ports = spec.ports.iter().zip(&assignment.node_ports).map(|(port, node_port)| ServicePort {
        name: port.name.clone(),
        protocol: port.protocol,
        port: port.port,
        node_port: *node_port,
    });
    Some(Service {
        name: name.clone(),
        kind: spec.kind,
        cluster_ip: assignment.addresses.first().copied(),
        headless: spec.headless,
        cluster_ips: assignment.addresses.clone(),
        ip_families: assignment.families.clone(),
        ports: ports.collect(),
        external_ips: spec.external_ips.clone(),
        load_balancer: spec.load_balancer.clone(),
        load_balancer_class: spec.load_balancer_class.clone(),
        source_ranges: spec.source_ranges.clone(),
        affinity: spec.affinity,
        internal_policy: spec.internal_policy,
        external_policy: spec.external_policy,
        health_check_node_port: match assignment.health_check {
            Some(port) => HealthCheckPort::Port(port),
            None if spec.wants_health_check() => HealthCheckPort::Withheld,
            None => HealthCheckPort::Unset,
        },
        other_proxy: spec.other_proxy,
        external_name: spec.external_name.clone(),
        publish_not_ready: spec.publish_not_ready,
        proxy_protocol: spec.proxy_protocol.clone(),
        scheduler: spec.scheduler.clone(),
    })
}

//! The controllers together: objects in, changes out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use portolan_service::{
    AddressPool, Change, EndpointSlice, HealthCheckPort, IngressMode, LoadBalancerIngress, Node, ObjectName,
    PerFamily, Service, ServicePort,
};

use crate::allocation::{Allocator, Assignment};
use crate::balanced::Balanced;
use crate::endpoints::Sources;
use crate::load_balancer::Grant;
use crate::{Endpoints, Issue, Labels, Naming, Pod, Ranges, Record, ServiceSpec};

/// How often claims are passed on within one call.
const MAX_ROUNDS: usize = 100;

/// The declared objects, with what has been made of them.
#[derive(Debug)]
pub struct Controllers<R> {
    services: HashMap<ObjectName, State>,
    sources: Sources,
    allocator: Allocator<R>,
    balanced: Balanced,
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
    /// Its load-balancer addresses, unless they are declared.
    grant: Grant,
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
            balanced: Balanced::default(),
            declared: BTreeSet::new(),
            touched: BTreeSet::new(),
        }
    }

    /// Services of type LoadBalancer are given addresses of these pools, also those without a class
    /// if `is_default`. Returns what is wrong with pools that cannot be used.
    pub fn set_pools(&mut self, pools: Vec<AddressPool>, is_default: bool) -> Vec<String> {
        self.balanced.set_pools(pools, is_default)
    }

    /// The labels of a namespace are now these; `None` if it is not declared.
    pub fn set_namespace(&mut self, namespace: &str, labels: Option<Labels>) {
        self.balanced.set_namespace(namespace, labels);
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
        let declared = self.allocate();
        self.balance(&declared);
        let mut outcome = Outcome::default();
        for name in mem::take(&mut self.touched) {
            let Some(state) = self.services.get(&name) else { continue };
            let (service, slices, found) = match &state.declared {
                None => (None, BTreeMap::new(), Vec::new()),
                Some(spec) => {
                    let (slices, found) = self.sources.slices(&name, spec, &state.assignment.families);
                    (emitted(&name, spec, state), slices, found)
                }
            };
            let Some(state) = self.services.get_mut(&name) else { continue };
            state.replace(&name, service, slices, &mut outcome.changes);
            let allocated = state.assignment.issues.iter().chain(&state.grant.issues).cloned();
            let issues = Issue::capped(allocated.chain(found).collect());
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

    /// Assigns addresses and ports until no Service's claim disturbs another's. Returns the
    /// Services that were looked at.
    fn allocate(&mut self) -> BTreeSet<ObjectName> {
        let mut pending = mem::take(&mut self.declared);
        let mut assigned = BTreeSet::new();
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
                assigned.insert(name);
            }
            pending = disturbed;
        }
        self.declared = pending;
        self.touched.extend(assigned.iter().cloned());
        assigned
    }

    /// Gives load-balancer addresses to the Services `assigned`, and to others that have waited for
    /// what is free now.
    fn balance(&mut self, assigned: &BTreeSet<ObjectName>) {
        let batch = assigned.iter().filter_map(|name| {
            let state = self.services.get(name)?;
            let families = if state.assignment.refused { &[][..] } else { &state.assignment.families };
            Some((name, state.declared.as_deref(), families))
        });
        for (name, grant) in self.balanced.assign(batch, self.allocator.record_mut()) {
            if let Some(state) = self.services.get_mut(&name) {
                state.grant = grant;
                self.touched.insert(name);
            }
        }
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
fn emitted(name: &ObjectName, spec: &ServiceSpec, state: &State) -> Option<Service> {
    let assignment = &state.assignment;
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
        load_balancer: if spec.load_balancer.is_empty() {
            let ingress = |ip: &IpAddr| LoadBalancerIngress { ip: *ip, mode: IngressMode::Vip };
            state.grant.addresses.iter().map(ingress).collect()
        } else {
            spec.load_balancer.clone()
        },
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
        weights: spec.weights.clone(),
    })
}

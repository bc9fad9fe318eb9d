//! What a cluster's controllers would make of declared objects: allocated addresses and ports, and
//! EndpointSlices for Services with a selector.
//!
//! Objects come one by one through [`Cluster::set`]; [`Cluster::settle`] then recomputes the Services they touch.

mod allocation;
mod index;
pub(crate) mod ledger;
mod selection;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use allocation::{Allocator, Assignment};
use index::LabelIndex;
use portolan_service::{Change, EndpointSlice, HealthCheckPort, ObjectName, PerFamily, Service, ServicePort};

use crate::declared::{self, Distribution, Issue, Key, Kind, Object};
pub(crate) use allocation::Ranges;
use ledger::{Ledger, LedgerError};

/// The declared objects, with what has been made of them.
#[derive(Debug)]
pub(crate) struct Cluster {
    services: HashMap<ObjectName, ServiceState>,
    pods: HashMap<ObjectName, Arc<Object>>,
    nodes: HashMap<Arc<str>, Arc<Object>>,
    endpoints: HashMap<ObjectName, Arc<Object>>,
    /// Pods by their labels.
    pod_labels: LabelIndex,
    /// Services by one pair of their selector.
    selectors: LabelIndex,
    pods_of_node: HashMap<Arc<str>, BTreeSet<ObjectName>>,
    allocator: Allocator,
    /// Services whose declaration changed.
    declared: BTreeSet<ObjectName>,
    /// Services whose endpoints may have changed.
    touched: BTreeSet<ObjectName>,
    changes: Vec<Change>,
}

/// How often claims are passed on within one change.
const MAX_ROUNDS: usize = 100;

/// A Service and what was emitted for it.
#[derive(Debug, Default)]
struct ServiceState {
    declared: Option<Arc<Object>>,
    /// The pair of its selector under which it is indexed.
    indexed: Option<(String, String)>,
    assignment: Assignment,
    service: Option<Service>,
    slices: BTreeMap<ObjectName, EndpointSlice>,
    issues: Vec<Issue>,
}

/// What [`Cluster::settle`] found.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) changes: Vec<Change>,
    /// What is now wrong with each Service for which that changed.
    pub(crate) issues: Vec<(ObjectName, Vec<Issue>)>,
    /// What is wrong with the ledger at present.
    pub(crate) ledger: Vec<LedgerError>,
}

impl Cluster {
    pub(crate) fn new(ranges: Ranges, ledger: Ledger) -> Cluster {
        Cluster {
            services: HashMap::new(),
            pods: HashMap::new(),
            nodes: HashMap::new(),
            endpoints: HashMap::new(),
            pod_labels: LabelIndex::default(),
            selectors: LabelIndex::default(),
            pods_of_node: HashMap::new(),
            allocator: Allocator::new(ranges, ledger),
            declared: BTreeSet::new(),
            touched: BTreeSet::new(),
            changes: Vec::new(),
        }
    }

    /// The pods and their addresses.
    pub(crate) fn pods(&self) -> impl Iterator<Item = (&ObjectName, PerFamily<Option<IpAddr>>)> {
        self.pods.iter().filter_map(|(name, object)| match &**object {
            Object::Pod(pod) => Some((name, pod.addresses)),
            _ => None,
        })
    }

    /// The object called `key` is now `object`, or gone.
    pub(crate) fn set(&mut self, key: &Key, object: Option<Arc<Object>>) {
        match key.kind {
            Kind::Namespace => {}
            Kind::Node => self.set_node(key.name.name(), object),
            Kind::Pod => self.set_pod(&key.name, object),
            Kind::Service => self.set_service(&key.name, object),
            Kind::Endpoints => {
                match object {
                    Some(object) => self.endpoints.insert(key.name.clone(), object),
                    None => self.endpoints.remove(&key.name),
                };
                self.touched.insert(key.name.clone());
            }
            Kind::EndpointSlice => self.changes.push(match object.as_deref() {
                Some(Object::EndpointSlice(Some(slice))) => Change::from(slice.clone()),
                _ => Change::SliceRemoved(key.name.clone()),
            }),
        }
    }

    fn set_node(&mut self, name: &str, object: Option<Arc<Object>>) {
        let name: Arc<str> = Arc::from(name);
        let before = self.zone(&name);
        if let Some(object) = object {
            if let Object::Node(node) = &*object {
                self.changes.push(Change::Node(node.clone()));
            }
            self.nodes.insert(name.clone(), object);
        } else {
            self.nodes.remove(&name);
            self.changes.push(Change::NodeRemoved(name.clone()));
        }
        if self.zone(&name) != before {
            let pods = self.pods_of_node.get(&name).cloned().unwrap_or_default();
            for pod in pods {
                self.touch_selecting(&pod, |service| service.distribution != Distribution::Any);
            }
        }
    }

    fn zone(&self, node: &str) -> Option<Arc<str>> {
        match self.nodes.get(node).map(|node| &**node) {
            Some(Object::Node(node)) => node.zone.clone(),
            _ => None,
        }
    }

    fn set_pod(&mut self, name: &ObjectName, object: Option<Arc<Object>>) {
        self.touch_selecting(name, |_| true);
        if let Some(Object::Pod(old)) = self.pods.remove(name).as_deref() {
            for (key, value) in &old.labels {
                self.pod_labels.remove(name, key, value);
            }
            if let Some(node) = &old.node
                && let Some(pods) = self.pods_of_node.get_mut(node)
            {
                pods.remove(name);
                if pods.is_empty() {
                    self.pods_of_node.remove(node);
                }
            }
        }
        let Some(object) = object else { return };
        if let Object::Pod(pod) = &*object {
            for (key, value) in &pod.labels {
                self.pod_labels.insert(name, key, value);
            }
            if let Some(node) = &pod.node {
                self.pods_of_node.entry(node.clone()).or_default().insert(name.clone());
            }
        }
        self.pods.insert(name.clone(), object);
        self.touch_selecting(name, |_| true);
    }

    /// Marks the Services that select the pod and are `relevant`.
    fn touch_selecting(&mut self, pod: &ObjectName, relevant: impl Fn(&declared::Service) -> bool) {
        let Some(Object::Pod(declared)) = self.pods.get(pod).map(|pod| &**pod) else { return };
        for (key, value) in &declared.labels {
            for name in self.selectors.get(pod.namespace(), key, value) {
                if let Some(service) = self.services.get(name).and_then(ServiceState::declared)
                    && relevant(service)
                    && selection::selects(&service.selector, &declared.labels)
                {
                    self.touched.insert(name.clone());
                }
            }
        }
    }

    fn set_service(&mut self, name: &ObjectName, object: Option<Arc<Object>>) {
        let state = self.services.entry(name.clone()).or_default();
        if let Some((key, value)) = state.indexed.take() {
            self.selectors.remove(name, &key, &value);
        }
        if let Some(Object::Service(service)) = object.as_deref() {
            // Under the pair that the fewest others share, so that a pod's change looks at few Services.
            state.indexed = service
                .selector
                .iter()
                .min_by_key(|(key, value)| self.selectors.get(name.namespace(), key, value).len())
                .map(|(key, value)| (key.clone(), value.clone()));
            if let Some((key, value)) = &state.indexed {
                self.selectors.insert(name, key, value);
            }
        }
        state.declared = object;
        self.declared.insert(name.clone());
    }

    /// Recomputes what the objects set since the last time touch.
    pub(crate) fn settle(&mut self) -> Settled {
        self.allocate();
        let mut issues = Vec::new();
        for name in mem::take(&mut self.touched) {
            let Some(state) = self.services.get(&name) else { continue };
            let service = state.declared().and_then(|declared| emitted(&name, declared, &state.assignment));
            let (slices, found) = self.slices(&name, state);
            let Some(state) = self.services.get_mut(&name) else { continue };

            for (slice, content) in &slices {
                if state.slices.get(slice) != Some(content) {
                    self.changes.push(Change::from(content.clone()));
                }
            }
            for gone in state.slices.keys().filter(|slice| !slices.contains_key(*slice)) {
                self.changes.push(Change::SliceRemoved(gone.clone()));
            }
            state.slices = slices;
            if state.service != service {
                self.changes.push(match &service {
                    Some(service) => Change::from(service.clone()),
                    None => Change::ServiceRemoved(name.clone()),
                });
                state.service = service;
            }
            let all = declared::capped(state.assignment.issues.iter().cloned().chain(found).collect());
            if state.issues != all {
                state.issues.clone_from(&all);
                issues.push((name.clone(), all));
            }
            if state.declared.is_none() {
                self.services.remove(&name);
            }
        }
        Settled { changes: mem::take(&mut self.changes), issues, ledger: self.allocator.ledger_errors() }
    }

    /// Assigns addresses and ports until no Service's claim disturbs another's.
    fn allocate(&mut self) {
        let mut pending = mem::take(&mut self.declared);
        // Claims only ever move to whoever is first by name, so that this ends after a few rounds. Should it not,
        // the rest waits for the next change: better than never to answer.
        for _ in 0..MAX_ROUNDS {
            if pending.is_empty() {
                break;
            }
            let batch: Vec<(ObjectName, Option<Arc<Object>>)> = pending
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

    /// The slices made for a Service: of the pods it selects, or of the Endpoints given for it.
    fn slices(
        &self,
        name: &ObjectName,
        state: &ServiceState,
    ) -> (BTreeMap<ObjectName, EndpointSlice>, Vec<Issue>) {
        let given = match self.endpoints.get(name).map(|endpoints| &**endpoints) {
            Some(Object::Endpoints(slices)) => Some(slices),
            _ => None,
        };
        let mut issues = Vec::new();
        let slices = match state.declared() {
            None => Vec::new(),
            Some(service) if service.selector.is_empty() => given.cloned().unwrap_or_default(),
            Some(service) => {
                if given.is_some() {
                    issues.push(Issue {
                        field: "spec.selector".to_owned(),
                        message:
                            "the Endpoints object of the same name is not used, because pods are selected; \
                                  remove one of the two"
                                .to_owned(),
                    });
                }
                let pods = self.pod_labels.smallest(name.namespace(), &service.selector);
                let pods = pods.iter().filter_map(|pod| match self.pods.get(pod).map(|pod| &**pod) {
                    Some(Object::Pod(pod)) => Some(pod),
                    _ => None,
                });
                selection::slices(name, service, &state.assignment.families, pods, |node| self.zone(node))
            }
        };
        (slices.into_iter().map(|slice| (slice.name.clone(), slice)).collect(), issues)
    }
}

impl ServiceState {
    fn declared(&self) -> Option<&declared::Service> {
        match self.declared.as_deref() {
            Some(Object::Service(service)) => Some(service),
            _ => None,
        }
    }
}

/// The Service as the catalog takes it; `None` while it must not have the ClusterIP it asks for.
fn emitted(name: &ObjectName, declared: &declared::Service, assignment: &Assignment) -> Option<Service> {
    if assignment.refused {
        return None;
    }
    let ports = declared.ports.iter().zip(&assignment.node_ports).map(|(port, node_port)| ServicePort {
        name: port.name.clone(),
        protocol: port.protocol,
        port: port.port,
        node_port: *node_port,
    });
    Some(Service {
        name: name.clone(),
        kind: declared.kind,
        cluster_ip: assignment.addresses.first().copied(),
        cluster_ips: assignment.addresses.clone(),
        ip_families: assignment.families.clone(),
        ports: ports.collect(),
        external_ips: declared.external_ips.clone(),
        load_balancer: declared.load_balancer.clone(),
        source_ranges: declared.source_ranges.clone(),
        affinity: declared.affinity,
        internal_policy: declared.internal_policy,
        external_policy: declared.external_policy,
        health_check_node_port: match assignment.health_check {
            Some(port) => HealthCheckPort::Port(port),
            None if declared.wants_health_check() => HealthCheckPort::Withheld,
            None => HealthCheckPort::Unset,
        },
        other_proxy: declared.other_proxy,
    })
}

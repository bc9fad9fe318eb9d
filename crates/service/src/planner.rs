//! Keeps the plan of one node up to date.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::claims::{Claimant, Claims, Key, rank};
use crate::service_plan::{self, drop_unused_lists, repeated_ports, wants_health_check};
use crate::{
    Catalog, Change, ChangeSet, Frontend, FrontendKind, LocalNode, ObjectName, PortPlan, Problem, Service,
    ServiceChange, ServicePlan, ServiceType,
};

/// Keeps the plan of one node up to date: takes object changes, recomputes only the Services they touch.
#[derive(Debug)]
pub struct Planner {
    node: LocalNode,
    catalog: Catalog,
    plans: HashMap<ObjectName, Arc<ServicePlan>>,
    claims: Claims,
    /// All claims of each Service that did not win all of them; those of the others follow from their plans.
    contested: HashMap<ObjectName, Vec<(Key, Claimant)>>,
    problems: BTreeMap<ObjectName, Vec<String>>,
}

impl Planner {
    /// An empty plan for `node`.
    pub fn new(node: LocalNode) -> Planner {
        Planner {
            node,
            catalog: Catalog::default(),
            plans: HashMap::new(),
            claims: Claims::default(),
            contested: HashMap::new(),
            problems: BTreeMap::new(),
        }
    }

    /// Applies `changes` in order and returns how the plan changed by all of them together. Changes to Nodes are
    /// ignored here: see [`Planner::set_node`].
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> ChangeSet {
        let touched: BTreeSet<ObjectName> =
            changes.into_iter().flat_map(|change| self.catalog.apply(change)).collect();
        self.replan(touched)
    }

    /// Plans for `node` from now on. Recomputes the Services that depend on what changed.
    pub fn set_node(&mut self, node: LocalNode) -> ChangeSet {
        let old = std::mem::replace(&mut self.node, node);
        let new = &self.node;
        let name = old.name != new.name;
        let zone = old.zone != new.zone;
        let nodeports = old.nodeport_addresses != new.nodeport_addresses;
        let ips = old.ips != new.ips;
        let touched = self
            .catalog
            .services()
            .filter(|service| {
                name || (zone && self.has_zone_hints(&service.name))
                    || (nodeports && service.ports.iter().any(|port| port.node_port.is_some()))
                    || (ips && !service.source_ranges.is_empty())
            })
            .map(|service| service.name.clone())
            .collect();
        self.replan(touched)
    }

    /// The node that is planned for.
    pub fn node(&self) -> &LocalNode {
        &self.node
    }

    /// The plan of every Service that forwards, rejects or drops anything, in no particular order.
    pub fn plans(&self) -> impl ExactSizeIterator<Item = &Arc<ServicePlan>> {
        self.plans.values()
    }

    /// The plan of one Service.
    pub fn plan(&self, name: &ObjectName) -> Option<&Arc<ServicePlan>> {
        self.plans.get(name)
    }

    /// What could not be honoured at present, sorted by Service.
    pub fn problems(&self) -> Vec<Problem> {
        self.problems
            .iter()
            .flat_map(|(service, messages)| {
                messages.iter().map(|message| Problem { service: service.clone(), message: message.clone() })
            })
            .collect()
    }

    fn replan(&mut self, touched: BTreeSet<ObjectName>) -> ChangeSet {
        // First all claims, so that whoever wins or loses one is known; then the plans that follow.
        let mut wanted: BTreeMap<ObjectName, Option<ServicePlan>> = BTreeMap::new();
        let mut affected = BTreeSet::new();
        for name in touched {
            let plan = self.wanted(&name);
            affected.extend(self.claim(&name, plan.as_ref()));
            wanted.insert(name, plan);
        }
        for name in affected {
            if let Entry::Vacant(entry) = wanted.entry(name) {
                let plan = self.wanted(entry.key());
                entry.insert(plan);
            }
        }
        let services = wanted.into_iter().filter_map(|(name, plan)| self.settle(name, plan)).collect();
        ChangeSet { services }
    }

    /// Its endpoints may depend on this node's zone (spec §2.2).
    fn has_zone_hints(&self, service: &ObjectName) -> bool {
        let mut endpoints = self.catalog.slices(service).iter().flat_map(|slice| &slice.endpoints);
        endpoints.any(|endpoint| !endpoint.zone_hints.is_empty())
    }

    /// What the Service asks for, whoever else may.
    fn wanted(&self, name: &ObjectName) -> Option<ServicePlan> {
        service_plan::plan(self.catalog.service(name)?, self.catalog.slices(name), &self.node)
    }

    /// Replaces the claims of a Service. Returns the other Services that win or lose something by it.
    fn claim(&mut self, name: &ObjectName, plan: Option<&ServicePlan>) -> Vec<ObjectName> {
        let mut old: Vec<(Key, Claimant)> = self.contested.remove(name).unwrap_or_default();
        old.extend(self.plans.get(name).map_or_else(Vec::new, |plan| claims_of(plan)));
        let new = plan.map_or_else(Vec::new, claims_of);
        let mut affected = Vec::new();
        for (key, claimant) in &new {
            affected.extend(self.claims.enter(*key, claimant.clone()));
        }
        let kept: BTreeSet<&(Key, Claimant)> = new.iter().collect();
        for claim in old.iter().filter(|claim| !kept.contains(claim)) {
            affected.extend(self.claims.withdraw(claim.0, &claim.1));
        }
        affected.retain(|other| other != name);
        affected
    }

    /// Takes from `plan` what others have won, and puts it into force.
    fn settle(&mut self, name: ObjectName, plan: Option<ServicePlan>) -> Option<ServiceChange> {
        let mut problems = Vec::new();
        self.contested.remove(&name);
        let after = plan.and_then(|mut plan| {
            let claims = claims_of(&plan);
            if claims.iter().any(|(key, claimant)| self.claims.winner(*key) != Some(claimant)) {
                self.take_out(&mut plan, &mut problems);
                self.contested.insert(name.clone(), claims);
            }
            let empty =
                plan.health_check.is_none() && plan.ports.iter().all(|port| port.frontends.is_empty());
            if empty { None } else { Some(Arc::new(plan)) }
        });
        if let Some(service) = self.catalog.service(&name) {
            problems.extend(unusable(service));
        }
        problems.dedup();
        if problems.is_empty() {
            self.problems.remove(&name);
        } else {
            self.problems.insert(name.clone(), problems);
        }
        let before = match &after {
            Some(plan) if self.plans.get(&name) == Some(plan) => return None,
            Some(plan) => self.plans.insert(name.clone(), plan.clone()),
            None => self.plans.remove(&name),
        };
        (before.is_some() || after.is_some()).then_some(ServiceChange { name, before, after })
    }

    /// Removes the frontends and the health check that another claimant has won, and says so.
    fn take_out(&self, plan: &mut ServicePlan, problems: &mut Vec<String>) {
        let service = plan.name.clone();
        for port in &mut plan.ports {
            let mut frontends = std::mem::take(&mut port.frontends);
            frontends.retain(|frontend| {
                let keys = frontend_keys(port, frontend);
                let taken = keys.iter().flatten().find_map(|key| {
                    let winner = self.claims.winner(*key)?;
                    (*winner != claimant(&service, port, frontend, *key)).then_some((*key, winner))
                });
                if let Some((key, winner)) = taken {
                    problems.push(conflict(port, frontend, key, winner));
                }
                taken.is_none()
            });
            port.frontends = frontends;
            drop_unused_lists(port);
        }
        if let Some(check) = plan.health_check
            && let Some(winner) = self.claims.winner(Key::HealthCheck(check.port))
            && winner.service != service
        {
            problems.push(format!(
                "spec.healthCheckNodePort: {} is already used by Service {}; choose another port",
                check.port, winner.service
            ));
            plan.health_check = None;
        }
    }
}

/// Everything a plan claims.
fn claims_of(plan: &ServicePlan) -> Vec<(Key, Claimant)> {
    let mut claims = Vec::new();
    for port in &plan.ports {
        for frontend in &port.frontends {
            for key in frontend_keys(port, frontend).into_iter().flatten() {
                claims.push((key, claimant(&plan.name, port, frontend, key)));
            }
        }
    }
    if let Some(check) = plan.health_check {
        let whole = Claimant { rank: 0, service: plan.name.clone(), port: Arc::default() };
        claims.push((Key::HealthCheck(check.port), whole));
    }
    claims
}

/// A ClusterIP belongs to one Service as a whole, every address and port to one Service port.
fn frontend_keys(port: &PortPlan, frontend: &Frontend) -> [Option<Key>; 2] {
    let address = (frontend.kind == FrontendKind::ClusterIp).then_some(Key::ClusterIp(frontend.address));
    [address, Some(Key::Frontend(frontend.address, port.protocol, frontend.port))]
}

fn claimant(service: &ObjectName, port: &PortPlan, frontend: &Frontend, key: Key) -> Claimant {
    let port = match key {
        Key::ClusterIp(_) | Key::HealthCheck(_) => Arc::default(),
        Key::Frontend(..) => port.name.clone(),
    };
    Claimant { rank: rank(frontend.kind), service: service.clone(), port }
}

fn conflict(port: &PortPlan, frontend: &Frontend, key: Key, winner: &Claimant) -> String {
    let owner = &winner.service;
    if let Key::ClusterIp(address) = key {
        return format!(
            "spec.clusterIPs: {address} is the ClusterIP of Service {owner}; choose another address"
        );
    }
    let (field, remedy) = match frontend.kind {
        FrontendKind::ClusterIp => ("spec.clusterIPs", "address or port"),
        FrontendKind::ExternalIp => ("spec.externalIPs", "address or port"),
        FrontendKind::LoadBalancer => ("status.loadBalancer.ingress", "address or port"),
        FrontendKind::NodePort => ("spec.ports[].nodePort", "port"),
    };
    let address = std::net::SocketAddr::new(frontend.address, frontend.port);
    let port_name = if port.name.is_empty() { String::new() } else { format!("port \"{}\": ", port.name) };
    let whose = if winner.port.is_empty() { owner.to_string() } else { format!("{owner}:{}", winner.port) };
    format!(
        "{port_name}{field}: {address}/{} is already used by Service {whose}; choose another {remedy}",
        port.protocol
    )
}

/// What in a Service contradicts itself, whatever the others ask for.
fn unusable(service: &Service) -> Vec<String> {
    if service.other_proxy || service.cluster_ip.is_none() || service.kind == ServiceType::ExternalName {
        return Vec::new();
    }
    let mut problems: Vec<String> = repeated_ports(service)
        .into_iter()
        .map(|port| {
            format!(
                "spec.ports[].name: \"{}\" is given twice for {}; port {} is not served: give it another name",
                port.name, port.protocol, port.port
            )
        })
        .collect();
    if wants_health_check(service) && service.health_check_node_port.is_none() {
        problems.push(
            "spec.healthCheckNodePort: 0 with externalTrafficPolicy: Local (spec §1.16): load balancers cannot ask \
             this node; give a port"
                .to_owned(),
        );
    }
    problems
}

//! Keeps the plan of one node up to date.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::announced::announced;
use crate::claims::{Claimant, Claims, Key, rank};
use crate::findings::{Finding, Findings, Taken};
use crate::service_plan::{
    self, BUDGET, Oversized, drop_unused_lists, is_proxied, repeated_ports, special_addresses,
    wants_health_check,
};
use crate::{
    Announced, AskedProxyProtocol, AskedScheduler, Catalog, Change, ChangeSet, Frontend, FrontendKind,
    HealthCheckPort, LocalNode, ObjectName, PortPlan, Problem, Protocol, ProxyProtocol, Service,
    ServiceChange, ServicePlan, Weights,
};

/// What a Service asks for, whoever else may.
type Wanted = Result<Option<ServicePlan>, Oversized>;

/// Keeps the plan of one node up to date. Takes object changes and recomputes only the Services
/// that they touch.
#[derive(Debug)]
pub struct Planner {
    node: LocalNode,
    catalog: Catalog,
    plans: HashMap<ObjectName, Arc<ServicePlan>>,
    claims: Claims,
    /// All claims of each Service that did not win all of them. Those of the others follow from
    /// their plans.
    contested: HashMap<ObjectName, Vec<(Key, Claimant)>>,
    findings: BTreeMap<ObjectName, Findings>,
    /// How many problems there are in all findings.
    problem_count: usize,
    /// Services whose findings changed since somebody took note.
    changed_findings: BTreeSet<ObjectName>,
    oversized: BTreeSet<ObjectName>,
    /// The load-balancer addresses of Services that have any.
    announced: HashMap<ObjectName, Announced>,
    /// Services whose load-balancer addresses changed since somebody took note.
    changed_announced: BTreeSet<ObjectName>,
    /// Services with external IPs, which may be addresses of the node or of the API server.
    with_external_ips: BTreeSet<ObjectName>,
    /// The Service of the API server: its endpoints are the API server's addresses.
    api_server: ObjectName,
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
            findings: BTreeMap::new(),
            problem_count: 0,
            changed_findings: BTreeSet::new(),
            oversized: BTreeSet::new(),
            announced: HashMap::new(),
            changed_announced: BTreeSet::new(),
            with_external_ips: BTreeSet::new(),
            api_server: ObjectName::new("default", "kubernetes"),
        }
    }

    /// Applies `changes` in order and returns how the plan changed by all of them together. Changes
    /// to Nodes are ignored here: see [`Planner::set_node`].
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> ChangeSet {
        let mut touched: BTreeSet<ObjectName> =
            changes.into_iter().flat_map(|change| self.catalog.apply(change)).collect();
        if touched.contains(&self.api_server) {
            touched.extend(self.with_external_ips.iter().cloned());
        }
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
        let owners = old.addresses != new.addresses || old.api_server != new.api_server;
        let external_ips = old.ignore_external_ips != new.ignore_external_ips;
        let mut touched = BTreeSet::new();
        if name || zone || nodeports || ips {
            let depends = |service: &&Arc<Service>| {
                name || (zone && self.has_zone_hints(&service.name))
                    || (nodeports && service.ports.iter().any(|port| port.node_port.is_some()))
                    || (ips && !service.source_ranges.is_empty())
            };
            touched.extend(self.catalog.services().filter(depends).map(|service| service.name.clone()));
        }
        if owners || external_ips {
            touched.extend(self.with_external_ips.iter().cloned());
        }
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

    /// What cannot be served at present, sorted by Service; of each Service a few, and how many
    /// more there are.
    pub fn problems(&self) -> Vec<Problem> {
        self.listed(|findings| findings.problems(&self.claims))
    }

    /// What is served though it is hardly meant, likewise.
    pub fn warnings(&self) -> Vec<Problem> {
        self.listed(Findings::warnings)
    }

    /// How many things cannot be served at present.
    pub fn problem_count(&self) -> usize {
        self.problem_count
    }

    /// How many Services are not served because each alone asks for more than [`BUDGET`].
    pub fn oversized(&self) -> usize {
        self.oversized.len()
    }

    /// The Services for which problems or warnings changed since the last call, with all that they
    /// have now: problems first.
    pub fn take_changed_findings(&mut self) -> Vec<(ObjectName, Vec<String>)> {
        std::mem::take(&mut self.changed_findings)
            .into_iter()
            .map(|name| {
                let findings = self.findings.get(&name);
                let mut now = findings.map_or_else(Vec::new, |findings| findings.problems(&self.claims));
                now.extend(findings.into_iter().flat_map(Findings::warnings));
                (name, now)
            })
            .collect()
    }

    /// The load-balancer addresses of all Services that have any, in no particular order.
    pub fn announced(&self) -> impl Iterator<Item = (&ObjectName, &Announced)> {
        self.announced.iter()
    }

    /// The Services whose load-balancer addresses, or the nodes that may announce these, changed
    /// since the last call, with what they are now: `None` for those that have none.
    pub fn take_changed_announced(&mut self) -> Vec<(ObjectName, Option<Announced>)> {
        std::mem::take(&mut self.changed_announced)
            .into_iter()
            .map(|name| {
                let now = self.announced.get(&name).cloned();
                (name, now)
            })
            .collect()
    }

    fn look_at_addresses(&mut self, name: &ObjectName) {
        let service = self.catalog.service(name);
        let now = service.and_then(|service| announced(service, self.catalog.slices(name)));
        if self.announced.get(name) != now.as_ref() {
            match now {
                Some(now) => drop(self.announced.insert(name.clone(), now)),
                None => drop(self.announced.remove(name)),
            }
            self.changed_announced.insert(name.clone());
        }
    }

    fn listed(&self, messages: impl Fn(&Findings) -> Vec<String>) -> Vec<Problem> {
        let of_service = |(service, findings): (&ObjectName, &Findings)| {
            let service = service.clone();
            messages(findings).into_iter().map(move |message| Problem { service: service.clone(), message })
        };
        self.findings.iter().flat_map(of_service).collect()
    }

    fn replan(&mut self, touched: BTreeSet<ObjectName>) -> ChangeSet {
        // First all claims, so that whoever wins or loses one is known; then the plans that follow.
        let mut wanted: BTreeMap<ObjectName, Wanted> = BTreeMap::new();
        let mut affected = BTreeSet::new();
        for name in touched {
            self.look_at_addresses(&name);
            let plan = self.wanted(&name);
            affected.extend(self.claim(&name, plan.as_ref().ok().and_then(Option::as_ref)));
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
        endpoints.any(|endpoint| !endpoint.hints.zones().is_empty())
    }

    /// What the Service asks for, whoever else may.
    fn wanted(&self, name: &ObjectName) -> Wanted {
        let Some(service) = self.catalog.service(name) else { return Ok(None) };
        service_plan::plan(service, self.catalog.slices(name), &self.node)
    }

    /// Replaces the claims of a Service. Returns the others that win or lose something by it.
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

    /// Takes from what a Service wants what others have won, and puts it into force.
    fn settle(&mut self, name: ObjectName, wanted: Wanted) -> Option<ServiceChange> {
        let mut findings = Findings::default();
        self.contested.remove(&name);
        match &wanted {
            Ok(_) => drop(self.oversized.remove(&name)),
            Err(Oversized { elements }) => {
                self.oversized.insert(name.clone());
                findings.problem(Finding::Said(format!(
                    "asks for {elements} kernel elements, more than the {BUDGET} that one Service may have, so it is \
                     not served: give it fewer addresses, ports, endpoints or source ranges, or divide it"
                )));
            }
        }
        let after = wanted.ok().flatten().and_then(|mut plan| {
            let claims = claims_of(&plan);
            if claims.iter().any(|(key, claimant)| self.claims.winner(*key) != Some(claimant)) {
                self.take_out(&mut plan, &mut findings);
                self.contested.insert(name.clone(), claims);
            }
            let empty =
                plan.health_check.is_none() && plan.ports.iter().all(|port| port.frontends.is_empty());
            if empty { None } else { Some(Arc::new(plan)) }
        });
        self.look_at_service(&name, &mut findings);
        self.set_findings(&name, findings);
        let before = match &after {
            Some(plan) if self.plans.get(&name) == Some(plan) => return None,
            Some(plan) => self.plans.insert(name.clone(), plan.clone()),
            None => self.plans.remove(&name),
        };
        (before.is_some() || after.is_some()).then_some(ServiceChange { name, before, after })
    }

    /// What the Service alone is reason enough to say.
    fn look_at_service(&mut self, name: &ObjectName, findings: &mut Findings) {
        let Some(service) = self.catalog.service(name).filter(|service| is_proxied(service)) else {
            self.with_external_ips.remove(name);
            return;
        };
        unusable(service, findings);
        without_proxy_protocol(service, &self.node, findings);
        without_scheduler(service, &self.node, findings);
        without_weights(service, findings);
        if service.external_ips.is_empty() {
            self.with_external_ips.remove(name);
            return;
        }
        self.with_external_ips.insert(name.clone());
        if self.node.ignore_external_ips {
            findings.warning(
                "spec.externalIPs: not served, because the feature gate AllowServiceExternalIPs is off"
                    .to_owned(),
            );
            return;
        }
        let endpoints = self.catalog.slices(&self.api_server).iter().flat_map(|slice| &slice.endpoints);
        let api_server: HashSet<IpAddr> =
            endpoints.map(|endpoint| endpoint.address).chain(self.node.api_server.iter().copied()).collect();
        for address in &service.external_ips {
            let whose = if api_server.contains(address) {
                "the API server"
            } else if self.node.addresses.binary_search(address).is_ok() {
                "this node"
            } else {
                continue;
            };
            findings.warning(format!(
                "spec.externalIPs: {address} is an address of {whose}: connections from and through this node to the \
                 ports of this Service there do not reach it any more; give an address that nothing else uses"
            ));
        }
    }

    fn set_findings(&mut self, name: &ObjectName, findings: Findings) {
        let now = findings.count();
        let before = if findings.is_empty() {
            self.findings.remove(name)
        } else {
            self.findings.insert(name.clone(), findings)
        };
        self.problem_count = self.problem_count + now - before.as_ref().map_or(0, Findings::count);
        if before.as_ref() != self.findings.get(name) {
            self.changed_findings.insert(name.clone());
        }
    }

    /// Removes the frontends and the health check that another claimant has won, and says so.
    fn take_out(&self, plan: &mut ServicePlan, findings: &mut Findings) {
        let service = plan.name.clone();
        for port in &mut plan.ports {
            let mut frontends = std::mem::take(&mut port.frontends);
            frontends.retain(|frontend| {
                let keys = frontend_keys(port, frontend);
                let taken = keys.into_iter().flatten().find(|key| {
                    let winner = self.claims.winner(*key);
                    winner.is_some_and(|winner| *winner != claimant(&service, port, frontend, *key))
                });
                if let Some(key) = taken {
                    // A whole address is lost once, however many ports it has.
                    let frontend =
                        (!matches!(key, Key::ClusterIp(_))).then(|| (frontend.kind, port.name.clone()));
                    findings.problem(Finding::Taken(Taken { key, frontend }));
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
            let key = Key::HealthCheck(check.port);
            findings.problem(Finding::Taken(Taken { key, frontend: None }));
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

/// What in a Service contradicts itself, whatever the others ask for.
fn unusable(service: &Service, findings: &mut Findings) {
    for (field, address, special) in special_addresses(service) {
        findings.problem(Finding::Said(format!(
            "{field}: {address} is {special}, which is no Service's to have, and is not served: remove it"
        )));
    }
    for port in repeated_ports(service) {
        findings.problem(Finding::Said(format!(
            "spec.ports[].name: \"{}\" is given twice for {}; port {} is not served: give it another name",
            port.name, port.protocol, port.port
        )));
    }
    if wants_health_check(service) && service.health_check_node_port == HealthCheckPort::Unset {
        findings.problem(Finding::Said(
            "spec.healthCheckNodePort: 0 with externalTrafficPolicy: Local: load balancers cannot ask this node \
             whether it has endpoints; give a port"
                .to_owned(),
        ));
    }
}

/// Connections that do not begin with the PROXY protocol, though the Service asks for it.
fn without_proxy_protocol(service: &Service, node: &LocalNode, findings: &mut Findings) {
    let field = format!("metadata.annotations: {}", ProxyProtocol::ANNOTATION);
    match &service.proxy_protocol {
        None => {}
        Some(AskedProxyProtocol::Unknown(value)) => findings.problem(Finding::Said(format!(
            "{field}: {value:?} is not one of v1, v2, so connections to endpoints begin without the PROXY protocol: \
             correct it, or remove it"
        ))),
        Some(AskedProxyProtocol::Version(_)) if !node.writes_proxy_protocol => {
            findings.problem(Finding::Said(format!(
                "{field}: the mode of this proxy translates connections and cannot begin them with the PROXY \
                 protocol, so they begin without it: use mode userspace, or remove it"
            )));
        }
        Some(AskedProxyProtocol::Version(_)) => {
            for port in service.ports.iter().filter(|port| port.protocol != Protocol::Tcp) {
                findings.warning(format!(
                    "{field}: is for TCP alone; port {}/{} is served without it",
                    port.port, port.protocol
                ));
            }
        }
    }
}

/// Endpoints that are not chosen by the scheduler that the Service asks for, or hardly as it means.
fn without_scheduler(service: &Service, node: &LocalNode, findings: &mut Findings) {
    let Some(AskedScheduler { annotation, scheduler }) = &service.scheduler else { return };
    let field = format!("metadata.annotations: {annotation}");
    match scheduler {
        Err(value) => findings.problem(Finding::Said(format!(
            "{field}: {value:?} is not one of {}, so endpoints are chosen as for other Services: correct it, or \
             remove it",
            AskedScheduler::choices()
        ))),
        Ok(scheduler) if !node.has_schedulers => findings.warning(format!(
            "{field}: {scheduler} is a scheduler of IPVS, which this proxy does not use, so it has no effect: use mode \
             ipvs, or remove it"
        )),
        Ok(scheduler) if scheduler.prefers_one_endpoint() => findings.warning(format!(
            "{field}: {scheduler} sends the clients of an address to one endpoint and not to all of them: choose sh or \
             mh to keep clients where they are, or another"
        )),
        Ok(_) => {}
    }
}

/// Endpoints that are all alike, though the Service gives them weights.
fn without_weights(service: &Service, findings: &mut Findings) {
    if let Some(Err(reason)) = &service.weights {
        findings.problem(Finding::Said(format!(
            "metadata.annotations: {}: {reason}, so all endpoints have the same weight: write entries such as \
             \"web-v2-*: 1, *: 9\", or remove it",
            Weights::ANNOTATION
        )));
    }
}

//! Load-balancer addresses of declared Services, remembered beside their other allocations.

use std::net::IpAddr;

use portolan_service::{AddressPool, Family, ObjectName, ServiceType, is_own_class};

use crate::load_balancer::{Grant, LoadBalancers, Request};
use crate::{Allocations, FamilyPolicy, InMemory, Labels, Record, ServiceSpec};

/// The Services that have load-balancer addresses, or ask for some.
#[derive(Debug, Default)]
pub(crate) struct Balanced {
    load_balancers: LoadBalancers,
    is_default: bool,
}

impl Balanced {
    /// Addresses are of these pools, also for Services without a class if `is_default`. Returns
    /// what is wrong with pools that cannot be used.
    pub(crate) fn set_pools(&mut self, pools: Vec<AddressPool>, is_default: bool) -> Vec<String> {
        self.is_default = is_default;
        self.load_balancers.set_pools(pools)
    }

    /// The labels of a namespace are now these.
    pub(crate) fn set_namespace(&mut self, namespace: &str, labels: Option<Labels>) {
        self.load_balancers.set_namespace(namespace, labels);
    }

    /// The Services of `batch` are now declared like this, with the families of their ClusterIPs,
    /// or gone. Returns the grants that are different then, of any Service.
    pub(crate) fn assign<'a, R: Record>(
        &mut self,
        batch: impl Iterator<Item = (&'a ObjectName, Option<&'a ServiceSpec>, &'a [Family])>,
        record: &mut R,
    ) -> Vec<(ObjectName, Grant)> {
        if !self.load_balancers.has_pools() {
            return Vec::new();
        }
        let concerned: Vec<_> = batch
            .filter(|(name, spec, _)| {
                self.load_balancers.knows(name) || spec.is_some_and(|spec| self.asks(spec) || has_some(spec))
            })
            .collect();
        if concerned.is_empty() && !self.load_balancers.has_work() {
            return Vec::new();
        }
        record.begin();
        for (name, spec, families) in concerned {
            let request = spec.filter(|spec| self.asks(spec) && !families.is_empty());
            let request = request.map(|spec| request_of(spec, families, recorded(record.known(), name)));
            self.load_balancers.set_service(name, request, spec.map(fixed).unwrap_or_default());
        }
        let known = record.known();
        let grants = self.load_balancers.settle(&|address| known.is_reserved(&address.to_string()));
        let new = grants.iter().filter_map(|(name, grant)| {
            let before = known.get(name).cloned().unwrap_or_default();
            let after = remembering(before.clone(), grant);
            (after != before).then(|| (name.clone(), after))
        });
        let new = new.collect();
        record.commit(new);
        grants
    }

    /// Whether a Service that is declared like this asks us for addresses. One whose status is
    /// declared has those.
    fn asks(&self, spec: &ServiceSpec) -> bool {
        spec.kind == ServiceType::LoadBalancer
            && is_own_class(spec.load_balancer_class.as_deref(), self.is_default)
            && spec.load_balancer.is_empty()
    }
}

fn has_some(spec: &ServiceSpec) -> bool {
    !spec.external_ips.is_empty() || !spec.load_balancer.is_empty()
}

/// The addresses that a Service has whatever pools there are.
fn fixed(spec: &ServiceSpec) -> Vec<IpAddr> {
    spec.external_ips.iter().copied().chain(spec.load_balancer.iter().map(|ingress| ingress.ip)).collect()
}

fn request_of(spec: &ServiceSpec, families: &[Family], recorded: Vec<IpAddr>) -> Request {
    let ports = spec.ports.iter().map(|port| (port.protocol, port.port));
    Request {
        families: families.to_vec(),
        every_family: spec.family_policy == FamilyPolicy::Require,
        wishes: spec.wishes.clone(),
        ports: ports.collect(),
        local: spec.wants_health_check().then(|| spec.selector.clone()),
        labels: spec.labels.clone(),
        recorded,
    }
}

/// How the record calls an address of `family`.
fn key(family: Family) -> String {
    format!("loadBalancer {family}")
}

fn recorded(known: &InMemory, name: &ObjectName) -> Vec<IpAddr> {
    let Some(known) = known.get(name) else { return Vec::new() };
    Family::ALL.iter().filter_map(|family| known.get(&key(*family))?.parse().ok()).collect()
}

/// `allocations` with what is granted. Who is granted nothing may have the old ones again.
fn remembering(mut allocations: Allocations, grant: &Grant) -> Allocations {
    if !grant.addresses.is_empty() {
        allocations.retain(|what, _| Family::ALL.iter().all(|family| *what != key(*family)));
        let granted = grant.addresses.iter();
        allocations.extend(granted.map(|address| (key(Family::of(*address)), address.to_string())));
    }
    allocations
}

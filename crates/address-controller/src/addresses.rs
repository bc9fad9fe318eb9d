//! Which status each Service must have: what is known of Services, Namespaces and pools, the
//! allocator over it, and what is still to be written. No I/O; times are given.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_controllers::Labels;
use portolan_controllers::load_balancer::{Grant, LoadBalancers};
use portolan_service::{AddressPool, Family, ObjectName};
use serde_json::{Value, json};

use crate::Pools;
use crate::service::{Ingress, Service};
use crate::status::PoolUse;

/// The condition that says why a Service has no address.
pub(crate) const CONDITION: &str = "portolan.dev/LoadBalancerAddress";
/// The first pause after a write that failed; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const PAUSE_AT_MOST: Duration = Duration::from_secs(30);

/// A status that is to be written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Write {
    pub(crate) name: ObjectName,
    pub(crate) uid: Arc<str>,
    /// A JSON merge patch, for this version of the Service alone.
    pub(crate) patch: Value,
    /// The addresses that are new in it.
    pub(crate) new: Vec<IpAddr>,
    pub(crate) pool: Option<Arc<str>>,
}

/// A Service that has no address, or not all that it must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) name: ObjectName,
    pub(crate) uid: Arc<str>,
    /// What is wrong, and what to do.
    pub(crate) message: String,
}

/// What is known, and what must be.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    load_balancers: LoadBalancers,
    services: BTreeMap<ObjectName, Known>,
    namespaces: BTreeSet<String>,
    configured: Pools,
    /// MetalLB's, by name; `None`: nothing is known of them yet.
    of_metallb: Option<BTreeMap<String, AddressPool>>,
    /// All that are in use.
    pools: Vec<AddressPool>,
    services_listed: bool,
    namespaces_listed: bool,
    /// Services whose status may not be what it must be.
    stale: BTreeSet<ObjectName>,
}

#[derive(Debug)]
struct Known {
    service: Service,
    /// Writes that failed since the last one that did not, and when to try again.
    failed: Option<(u32, Instant)>,
}

impl Addresses {
    /// Takes what is configured. Returns what is wrong with pools that cannot be used.
    pub(crate) fn set_configured(&mut self, configured: Pools) -> Vec<String> {
        if self.configured.is_default != configured.is_default {
            self.configured.is_default = configured.is_default;
            let names: Vec<ObjectName> = self.services.keys().cloned().collect();
            for name in names {
                self.ask(&name);
            }
        }
        self.configured = configured;
        self.set_pools()
    }

    /// These are all pools of MetalLB's objects; `None`: such objects are not served. Those that
    /// were known stay then, since an API server that starts may not know them yet. Returns what is
    /// wrong with pools that cannot be used.
    pub(crate) fn set_of_metallb(&mut self, pools: Option<BTreeMap<String, AddressPool>>) -> Vec<String> {
        match pools {
            None if self.of_metallb.is_some() => return Vec::new(),
            pools => self.of_metallb = Some(pools.unwrap_or_default()),
        }
        self.set_pools()
    }

    /// MetalLB's pools, as far as they are known.
    pub(crate) fn of_metallb(&self) -> BTreeMap<String, AddressPool> {
        self.of_metallb.clone().unwrap_or_default()
    }

    fn set_pools(&mut self) -> Vec<String> {
        let of_metallb = self.of_metallb.iter().flatten().map(|(_, pool)| pool);
        let of_metallb = of_metallb.filter(|_| self.configured.of_metallb);
        self.pools = self.configured.pools.iter().chain(of_metallb).cloned().collect();
        self.stale.extend(self.services.keys().cloned());
        self.load_balancers.set_pools(self.pools.clone())
    }

    /// These are all Services.
    pub(crate) fn list_services(&mut self, services: Vec<Service>) {
        let mut gone: BTreeSet<ObjectName> = self.services.keys().cloned().collect();
        for service in services {
            gone.remove(&service.name);
            self.put(service);
        }
        for name in gone {
            self.forget(&name);
        }
        self.services_listed = true;
    }

    /// A Service is now like this, unless a later version of it is known.
    pub(crate) fn set_service(&mut self, service: Service) {
        let later = |known: &Known| number(&known.service.version) > number(&service.version);
        if !self.services.get(&service.name).is_some_and(later) {
            self.put(service);
        }
    }

    /// A Service is gone.
    pub(crate) fn remove_service(&mut self, service: &Service) {
        if self.services.get(&service.name).is_some_and(|known| known.service.uid == service.uid) {
            self.forget(&service.name);
        }
    }

    fn put(&mut self, service: Service) {
        let name = service.name.clone();
        if !service.matters() {
            self.forget(&name);
            return;
        }
        // Another Service of the same name has nothing of the first one.
        if self.services.get(&name).is_some_and(|known| known.service.uid != service.uid) {
            self.forget(&name);
        }
        match self.services.get_mut(&name) {
            Some(known) => known.service = service,
            None => {
                self.services.insert(name.clone(), Known { service, failed: None });
            }
        }
        self.ask(&name);
        self.stale.insert(name);
    }

    fn forget(&mut self, name: &ObjectName) {
        self.services.remove(name);
        self.stale.remove(name);
        self.load_balancers.set_service(name, None, Vec::new());
    }

    /// Asks the allocator for what `name` needs.
    fn ask(&mut self, name: &ObjectName) {
        let Some(Known { service, .. }) = self.services.get(name) else { return };
        let is_default = self.configured.is_default;
        self.load_balancers.set_service(name, service.request(is_default), service.fixed(is_default));
    }

    /// These are all Namespaces, with their labels.
    pub(crate) fn list_namespaces(&mut self, namespaces: BTreeMap<String, Labels>) {
        let gone: Vec<String> =
            self.namespaces.iter().filter(|name| !namespaces.contains_key(*name)).cloned().collect();
        for name in gone {
            self.set_namespace(&name, None);
        }
        for (name, labels) in namespaces {
            self.set_namespace(&name, Some(labels));
        }
        self.namespaces_listed = true;
    }

    /// A Namespace has these labels now; `None`: it is gone.
    pub(crate) fn set_namespace(&mut self, name: &str, labels: Option<Labels>) {
        if labels.is_some() {
            self.namespaces.insert(name.to_owned());
        } else {
            self.namespaces.remove(name);
        }
        self.load_balancers.set_namespace(name, labels);
    }

    /// Whether enough is known to allocate: who has which address, and all pools. Without any pool
    /// nothing is allocated, and nothing is taken from anybody.
    pub(crate) fn is_complete(&self) -> bool {
        self.services_listed
            && self.namespaces_listed
            && (self.of_metallb.is_some() || !self.configured.of_metallb)
            && !self.pools.is_empty()
    }

    /// Whether [`Addresses::settle`] has anything to do.
    pub(crate) fn has_work(&self) -> bool {
        self.load_balancers.has_work()
    }

    /// Allocates what is needed since the last time. Returns who has been refused since.
    pub(crate) fn settle(&mut self) -> Vec<Refusal> {
        let mut refused = Vec::new();
        for (name, grant) in self.load_balancers.settle(&|_| false) {
            let Some(known) = self.services.get(&name) else { continue };
            if let Some(message) = message(&grant) {
                refused.push(Refusal { name: name.clone(), uid: known.service.uid.clone(), message });
            }
            self.stale.insert(name);
        }
        refused
    }

    /// The next status to be written `now`, at the time `timestamp`.
    pub(crate) fn next_write(&mut self, now: Instant, timestamp: &str) -> Option<Write> {
        let mut after = None;
        loop {
            let mut rest = match &after {
                None => self.stale.range::<ObjectName, _>(..),
                Some(name) => self.stale.range((std::ops::Bound::Excluded(name), std::ops::Bound::Unbounded)),
            };
            let name = rest.next()?.clone();
            let known = self.services.get(&name);
            match known.and_then(|known| self.write(known, timestamp)) {
                None => {
                    self.stale.remove(&name);
                }
                Some(write) => {
                    let waits = known.and_then(|known| known.failed).is_some_and(|(_, until)| now < until);
                    if !waits {
                        return Some(write);
                    }
                }
            }
            after = Some(name);
        }
    }

    /// When a write that failed is due again, if there is one.
    pub(crate) fn next_attempt(&self) -> Option<Instant> {
        let known = self.stale.iter().filter_map(|name| self.services.get(name));
        known.filter_map(|known| known.failed.map(|(_, until)| until)).min()
    }

    /// A write to `name` was accepted, and the Service is like this then.
    pub(crate) fn written(&mut self, service: Service, now: Instant) {
        let name = service.name.clone();
        self.set_service(service);
        let Some(known) = self.services.get(&name) else { return };
        if self.write(known, "").is_none() {
            if let Some(known) = self.services.get_mut(&name) {
                known.failed = None;
            }
        } else {
            // The server has left something out, and would do so again.
            self.failed(&name, now);
        }
    }

    /// A write to `name` has failed.
    pub(crate) fn failed(&mut self, name: &ObjectName, now: Instant) {
        if let Some(known) = self.services.get_mut(name) {
            let count = known.failed.map_or(0, |(count, _)| count);
            let pause = PAUSE.saturating_mul(1 << count.min(16)).min(PAUSE_AT_MOST);
            known.failed = Some((count + 1, now + pause));
        }
    }

    /// What its status must have and does not; `None`: nothing, or it is somebody else's.
    fn write(&self, known: &Known, timestamp: &str) -> Option<Write> {
        let service = &known.service;
        let nothing = Grant::default();
        let grant = self.load_balancers.grant(&service.name).unwrap_or(&nothing);
        let is_ours = service.request(self.configured.is_default).is_some();
        let left_behind = !service.is_load_balancer() && self.all_of_pools(&service.ingress);
        if !is_ours && !left_behind {
            return None;
        }
        let mut status = json!({});
        let wanted: BTreeSet<IpAddr> = grant.addresses.iter().copied().collect();
        let held: Vec<Option<IpAddr>> = service.ingress.iter().map(Ingress::written).collect();
        let same = held.len() == wanted.len() && held.iter().flatten().all(|ip| wanted.contains(ip));
        if !same || held.contains(&None) {
            let ingress: Vec<Value> =
                grant.addresses.iter().map(|ip| json!({ "ip": ip, "ipMode": "VIP" })).collect();
            // A merge patch removes what is null.
            status["loadBalancer"] =
                json!({ "ingress": if ingress.is_empty() { Value::Null } else { ingress.into() } });
        }
        let conditions = conditions(&service.conditions, message(grant), timestamp);
        if let Some(conditions) = conditions {
            status["conditions"] = conditions;
        }
        if status.as_object().is_some_and(serde_json::Map::is_empty) {
            return None;
        }
        let recorded: BTreeSet<IpAddr> = service.ingress.iter().filter_map(Ingress::address).collect();
        let new = grant.addresses.iter().filter(|ip| !recorded.contains(ip)).copied().collect();
        let metadata = json!({ "uid": *service.uid, "resourceVersion": service.version });
        Some(Write {
            name: service.name.clone(),
            uid: service.uid.clone(),
            patch: json!({ "metadata": metadata, "status": status }),
            new,
            pool: grant.pool.clone(),
        })
    }

    /// Whether there are addresses, and each is of one of the pools.
    fn all_of_pools(&self, ingress: &[Ingress]) -> bool {
        let of_a_pool = |ip: IpAddr| self.pools.iter().any(|pool| pool.contains(ip));
        !ingress.is_empty() && ingress.iter().all(|entry| entry.address().is_some_and(of_a_pool))
    }

    /// How much of each pool is in use, and how many Services wait.
    pub(crate) fn usage(&self) -> (Vec<PoolUse>, usize) {
        let grants: Vec<&Grant> =
            self.services.keys().filter_map(|name| self.load_balancers.grant(name)).collect();
        let used: BTreeSet<IpAddr> =
            grants.iter().flat_map(|grant| grant.addresses.iter().copied()).collect();
        let mut usage = Vec::new();
        for pool in &self.pools {
            for family in Family::ALL {
                let size = pool.size(family);
                if size > 0 {
                    let of_it = |ip: &&IpAddr| Family::of(**ip) == family && pool.contains(**ip);
                    let used = used.iter().filter(of_it).count();
                    usage.push(PoolUse { name: pool.name.clone(), family, size, used });
                }
            }
        }
        let waiting = grants.iter().filter(|grant| !grant.issues.is_empty()).count();
        (usage, waiting)
    }
}

/// Why a Service has no address, in one line.
fn message(grant: &Grant) -> Option<String> {
    let issues: Vec<String> =
        grant.issues.iter().map(|issue| format!("{}: {}", issue.field, issue.message)).collect();
    (!issues.is_empty()).then(|| issues.join("; "))
}

/// All conditions as they must be, if they are not: ours is there exactly if there is a `message`.
fn conditions(now: &[Value], message: Option<String>, timestamp: &str) -> Option<Value> {
    let ours = now.iter().find(|condition| condition["type"] == CONDITION);
    let same = match (&message, ours) {
        (None, None) => true,
        (Some(message), Some(ours)) => ours["message"] == message.as_str(),
        _ => false,
    };
    if same {
        return None;
    }
    let mut all: Vec<Value> =
        now.iter().filter(|condition| condition["type"] != CONDITION).cloned().collect();
    if let Some(message) = message {
        // Its status has not changed if it was there.
        let since = ours.and_then(|ours| ours["lastTransitionTime"].as_str()).unwrap_or(timestamp);
        all.push(json!({
            "type": CONDITION, "status": "False", "reason": "AllocationFailed", "message": message,
            "lastTransitionTime": since,
        }));
    }
    Some(if all.is_empty() { Value::Null } else { all.into() })
}

/// Versions of one history are numbers that grow.
fn number(version: &str) -> u64 {
    version.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, version: u64, kind: &str, ingress: &[&str]) -> Service {
        let ingress: Vec<Value> = ingress.iter().map(|ip| json!({ "ip": ip })).collect();
        let document = json!({
            "metadata": {"namespace": "shop", "name": name, "uid": name, "resourceVersion": version.to_string()},
            "spec": {"type": kind, "ipFamilies": ["IPv4"], "ports": [{"port": 80}]},
            "status": {"loadBalancer": {"ingress": ingress}},
        });
        Service::read(&document).expect("a Service")
    }

    fn pools(ranges: &[&str]) -> Pools {
        let pools = ranges.iter().map(|text| AddressPool::new(text, vec![text.parse().expect("a range")]));
        Pools { pools: pools.collect(), is_default: true, of_metallb: false }
    }

    /// All is known, and these are the Services.
    fn known(ranges: &[&str], services: Vec<Service>) -> Addresses {
        let mut addresses = Addresses::default();
        assert_eq!(addresses.set_configured(pools(ranges)), Vec::<String>::new());
        addresses.list_namespaces(BTreeMap::new());
        assert!(!addresses.is_complete());
        addresses.list_services(services);
        assert!(addresses.is_complete());
        addresses
    }

    /// What is to be written, by Service.
    fn writes(addresses: &mut Addresses) -> BTreeMap<String, Value> {
        let mut all = BTreeMap::new();
        let now = Instant::now();
        while let Some(write) = addresses.next_write(now, "now") {
            addresses.failed(&write.name, now);
            all.insert(write.name.name().to_owned(), write.patch["status"].clone());
        }
        all
    }

    fn ingress(ip: &str) -> Value {
        json!({ "loadBalancer": { "ingress": [{ "ip": ip, "ipMode": "VIP" }] } })
    }

    #[test]
    fn what_status_says_is_adopted_and_the_rest_is_given() {
        let services = vec![
            service("a", 1, "LoadBalancer", &[]),
            service("b", 2, "LoadBalancer", &["192.0.2.1"]),
            service("c", 3, "LoadBalancer", &["198.51.100.1"]),
            service("d", 4, "ClusterIP", &["192.0.2.2"]),
            service("e", 5, "ClusterIP", &["198.51.100.1"]),
        ];
        let mut addresses = known(&["192.0.2.0-192.0.2.9"], services);
        assert_eq!(addresses.settle(), []);
        let expected = BTreeMap::from([
            ("a".to_owned(), ingress("192.0.2.0")),
            // It is of no pool.
            ("c".to_owned(), ingress("192.0.2.2")),
            // It was a load balancer, and the address is one of ours.
            ("d".to_owned(), json!({ "loadBalancer": { "ingress": null } })),
        ]);
        assert_eq!(writes(&mut addresses), expected);
        let (usage, waiting) = addresses.usage();
        assert_eq!((usage.len(), usage[0].size, usage[0].used, waiting), (1, 10, 3, 0));
    }

    #[test]
    fn a_write_is_for_one_version_and_is_over_when_the_service_has_it() {
        let mut addresses = known(&["192.0.2.0/30"], vec![service("a", 7, "LoadBalancer", &[])]);
        addresses.settle();
        let now = Instant::now();
        let write = addresses.next_write(now, "now").expect("one");
        assert_eq!(write.patch["metadata"], json!({ "uid": "a", "resourceVersion": "7" }));
        assert_eq!(write.new, ["192.0.2.0".parse::<IpAddr>().expect("an address")]);
        addresses.written(service("a", 8, "LoadBalancer", &["192.0.2.0"]), now);
        // What a watch still brings is older.
        addresses.set_service(service("a", 7, "LoadBalancer", &[]));
        addresses.settle();
        assert_eq!(addresses.next_write(now, "now"), None);
        // Somebody takes it out: it comes back.
        addresses.set_service(service("a", 9, "LoadBalancer", &[]));
        addresses.settle();
        assert_eq!(writes(&mut addresses).get("a"), Some(&ingress("192.0.2.0")));
    }

    #[test]
    fn who_has_none_learns_why_and_gets_one_that_is_given_back() {
        let services =
            vec![service("a", 1, "LoadBalancer", &["192.0.2.1"]), service("b", 2, "LoadBalancer", &[])];
        let mut addresses = known(&["192.0.2.1"], services);
        let refused = addresses.settle();
        assert_eq!(refused.len(), 1);
        assert!(refused[0].message.contains("add a range"), "{}", refused[0].message);
        let status = &writes(&mut addresses)["b"];
        let condition = &status["conditions"][0];
        assert_eq!((&condition["type"], &condition["status"]), (&json!(CONDITION), &json!("False")));
        assert_eq!(condition["message"], refused[0].message.as_str());
        assert_eq!(addresses.usage().1, 1);
        let mut informed = service("b", 3, "LoadBalancer", &[]);
        informed.conditions = vec![json!({ "type": "Other" }), condition.clone()];
        addresses.written(informed, Instant::now());
        addresses.settle();
        assert_eq!(writes(&mut addresses), BTreeMap::new());
        addresses.remove_service(&service("a", 1, "LoadBalancer", &["192.0.2.1"]));
        assert_eq!(addresses.settle(), []);
        let mut expected = ingress("192.0.2.1");
        expected["conditions"] = json!([{ "type": "Other" }]);
        assert_eq!(writes(&mut addresses).get("b"), Some(&expected));
    }

    #[test]
    fn without_a_pool_nothing_is_taken_from_anybody() {
        let mut addresses =
            known(&["192.0.2.0/30"], vec![service("a", 1, "LoadBalancer", &["198.51.100.1"])]);
        addresses.set_configured(pools(&[]));
        assert!(!addresses.is_complete());
        let mut waiting = Addresses::default();
        waiting.set_configured(Pools { of_metallb: true, ..pools(&["192.0.2.0/30"]) });
        waiting.list_namespaces(BTreeMap::new());
        waiting.list_services(Vec::new());
        assert!(!waiting.is_complete(), "pools of MetalLB may come");
        waiting.set_of_metallb(None);
        assert!(waiting.is_complete());
    }

    #[test]
    fn pools_of_metallb_stay_known_while_they_are_not_served() {
        let mut addresses = Addresses::default();
        addresses.set_configured(Pools { of_metallb: true, ..pools(&[]) });
        let pool = AddressPool::new("lan", vec!["192.0.2.0/30".parse().expect("a range")]);
        addresses.set_of_metallb(Some(BTreeMap::from([("lan".to_owned(), pool)])));
        addresses.set_of_metallb(None);
        assert_eq!(addresses.usage().0.len(), 1);
        addresses.set_of_metallb(Some(BTreeMap::new()));
        assert_eq!(addresses.usage().0.len(), 0);
    }

    #[test]
    fn a_server_that_leaves_something_out_is_not_asked_without_pause() {
        let mut addresses = known(&["192.0.2.0/30"], vec![service("a", 1, "LoadBalancer", &[])]);
        addresses.settle();
        let now = Instant::now();
        addresses.next_write(now, "now").expect("one");
        addresses.written(service("a", 2, "LoadBalancer", &[]), now);
        addresses.settle();
        assert_eq!(addresses.next_write(now, "now"), None);
        assert_eq!(addresses.next_attempt(), Some(now + PAUSE));
        assert!(addresses.next_write(now + PAUSE, "now").is_some());
    }

    #[test]
    fn another_service_of_the_same_name_has_nothing_of_the_first() {
        let mut addresses = known(&["192.0.2.0/30"], vec![service("a", 5, "LoadBalancer", &["192.0.2.3"])]);
        addresses.settle();
        let mut other = service("a", 6, "LoadBalancer", &[]);
        other.uid = "other".into();
        addresses.set_service(other);
        // That the first one is gone comes late.
        addresses.remove_service(&service("a", 5, "LoadBalancer", &["192.0.2.3"]));
        addresses.settle();
        let write = addresses.next_write(Instant::now(), "now").expect("one");
        assert_eq!(&*write.uid, "other");
    }
}

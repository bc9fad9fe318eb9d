//! ClusterIPs, NodePorts and health-check ports: who has which, and new ones for those who name
//! none.

mod needs;
mod pool;
mod record;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;
use portolan_service::{Family, ObjectName, Protocol};

use needs::{Claim, Need, Needs, Purpose};
use pool::{Pool, hash};
pub use record::{Allocations, InMemory, Record};

use crate::{Issue, ServiceSpec};

/// What is allocated from.
#[derive(Debug, Clone)]
pub struct Ranges {
    /// Where ClusterIPs are allocated. The family of the first is the one for Services that do not
    /// say.
    pub services: Vec<IpNet>,
    /// Where NodePorts and health-check ports are allocated.
    pub node_ports: RangeInclusive<u16>,
}

/// What a Service has been assigned.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Assignment {
    pub(crate) families: Vec<Family>,
    pub(crate) addresses: Vec<IpAddr>,
    /// One for each port.
    pub(crate) node_ports: Vec<Option<u16>>,
    pub(crate) health_check: Option<u16>,
    /// A ClusterIP it asks for belongs to another: it cannot be.
    pub(crate) refused: bool,
    pub(crate) issues: Vec<Issue>,
}

/// Who has which.
#[derive(Debug)]
pub(crate) struct Allocator<R> {
    ranges: Ranges,
    record: R,
    services: HashMap<ObjectName, Needs>,
    /// Who asks for what by name.
    asked: HashMap<Claim, BTreeSet<ObjectName>>,
    /// Who has what.
    holder: HashMap<Claim, ObjectName>,
    /// How many claims there are on each port number, for any protocol: allocated ones are alone on
    /// theirs.
    ports: HashMap<u16, usize>,
    /// Services for which nothing was left.
    unmet: BTreeSet<ObjectName>,
    /// Services whose assignment must be looked at again.
    disturbed: BTreeSet<ObjectName>,
    /// How many claims were given back since the unmet were last looked at.
    released: usize,
}

impl<R: Record> Allocator<R> {
    pub(crate) fn new(ranges: Ranges, record: R) -> Allocator<R> {
        Allocator {
            ranges,
            record,
            services: HashMap::new(),
            asked: HashMap::new(),
            holder: HashMap::new(),
            ports: HashMap::new(),
            unmet: BTreeSet::new(),
            disturbed: BTreeSet::new(),
            released: 0,
        }
    }

    pub(crate) fn record(&self) -> &R {
        &self.record
    }

    pub(crate) fn record_mut(&mut self) -> &mut R {
        &mut self.record
    }

    /// Assigns what the Services of `batch` need; those without declaration are gone. Also returns
    /// the Services outside of the batch whose assignment must be looked at again.
    ///
    /// Who had something by allocation keeps it, whoever asks for it later. Among those who ask for
    /// the same, the first by name has it, so that every process comes to the same answer.
    pub(crate) fn assign(
        &mut self,
        batch: &[(ObjectName, Option<Arc<ServiceSpec>>)],
    ) -> (Vec<(ObjectName, Assignment)>, BTreeSet<ObjectName>) {
        for (name, service) in batch {
            let needs = service.as_ref().map(|service| Needs::of(service, &self.ranges.services));
            self.replace(name, needs);
        }
        let present: Vec<&ObjectName> =
            batch.iter().map(|(name, _)| name).filter(|name| self.services.contains_key(*name)).collect();
        for addresses in [true, false] {
            for name in &present {
                self.take_remembered(name, addresses);
            }
            for name in &present {
                self.take_asked(name, addresses);
            }
            self.take_new(&present, addresses);
        }
        if self.released > 0 {
            let retry: Vec<_> = self.unmet.iter().take(self.released).cloned().collect();
            self.disturbed.extend(retry);
            self.released = 0;
        }

        let assignments = batch
            .iter()
            .map(|(name, service)| {
                let needs = service.as_ref().zip(self.services.get(name));
                let assignment = needs.map(|(service, needs)| needs.assignment(service, &self.ranges));
                (name.clone(), assignment.unwrap_or_default())
            })
            .collect();
        let mut disturbed = std::mem::take(&mut self.disturbed);
        // A Service of the batch can be disturbed by a later one of it. Then it must be looked at
        // again, too.
        disturbed.retain(|name| self.services.contains_key(name));
        (assignments, disturbed)
    }

    /// Puts `needs` in the place of those that `name` had. What it has stays as far as it still
    /// fits.
    fn replace(&mut self, name: &ObjectName, needs: Option<Needs>) {
        let old = self.services.remove(name).unwrap_or_default();
        for claim in old.list.iter().filter_map(|need| need.asked) {
            if let Some(names) = self.asked.get_mut(&claim) {
                names.remove(name);
                if names.is_empty() {
                    self.asked.remove(&claim);
                }
            }
        }
        let mut needs_now = needs;
        for had in old.list {
            let Some(claim) = had.has else { continue };
            let still = needs_now.as_mut().and_then(|needs| {
                needs.list.iter_mut().find(|need| {
                    need.purpose.key() == had.purpose.key() && need.asked.is_none_or(|asked| asked == claim)
                })
            });
            match still {
                Some(need) => need.has = Some(claim),
                None => self.release(name, claim),
            }
        }
        self.unmet.remove(name);
        let Some(needs) = needs_now else { return };
        for claim in needs.list.iter().filter_map(|need| need.asked) {
            self.asked.entry(claim).or_default().insert(name.clone());
        }
        self.services.insert(name.clone(), needs);
    }

    fn release(&mut self, name: &ObjectName, claim: Claim) {
        if self.holder.get(&claim) != Some(name) {
            return;
        }
        self.holder.remove(&claim);
        self.released += 1;
        if let Claim::Port(_, port) = claim
            && let Some(count) = self.ports.get_mut(&port)
        {
            *count -= 1;
            if *count == 0 {
                self.ports.remove(&port);
            }
        }
        let waiting = self.asked.get(&claim).into_iter().flatten().filter(|other| *other != name);
        self.disturbed.extend(waiting.cloned());
    }

    /// Gives `claim` to `name` for its need number `i`. Nobody else has it.
    fn give(&mut self, name: &ObjectName, i: usize, claim: Claim) {
        if let Some(needs) = self.services.get_mut(name) {
            needs.list[i].has = Some(claim);
            if self.holder.insert(claim, name.clone()).is_none()
                && let Claim::Port(_, port) = claim
            {
                *self.ports.entry(port).or_default() += 1;
            }
        }
    }

    /// What is recorded for a need, if it still is in range and free.
    fn remembered(&self, name: &ObjectName, purpose: &Purpose) -> Option<Claim> {
        let claim = purpose.claim(self.record.known().get(name)?.get(&purpose.key())?)?;
        let in_range = match claim {
            Claim::Address(address) => self.ranges.services.iter().any(|range| range.contains(&address)),
            Claim::Port(_, port) => self.ranges.node_ports.contains(&port),
        };
        (in_range && !self.holder.contains_key(&claim)).then_some(claim)
    }

    fn open_needs(&self, name: &ObjectName, addresses: bool) -> Vec<(usize, Need)> {
        let Some(needs) = self.services.get(name).filter(|needs| !needs.refused) else { return Vec::new() };
        let open = |need: &Need| need.has.is_none() && need.purpose.is_address() == addresses;
        needs
            .list
            .iter()
            .enumerate()
            .filter(|(_, need)| open(need))
            .map(|(i, need)| (i, need.clone()))
            .collect()
    }

    fn take_remembered(&mut self, name: &ObjectName, addresses: bool) {
        for (i, need) in self.open_needs(name, addresses) {
            if need.asked.is_none()
                && let Some(claim) = self.remembered(name, &need.purpose)
            {
                self.give(name, i, claim);
            }
        }
    }

    fn take_asked(&mut self, name: &ObjectName, addresses: bool) {
        let open = self.open_needs(name, addresses);
        if addresses {
            // All or none: what is taken only to be given back would disturb others for nothing.
            let lost: Vec<&Need> =
                open.iter().map(|(_, need)| need).filter(|need| !self.can_have(name, need)).collect();
            for need in &lost {
                self.conflict(name, need);
            }
            if !lost.is_empty() {
                self.refuse(name);
                return;
            }
        }
        for (i, need) in open {
            let Some(claim) = need.asked else { continue };
            if !self.can_have(name, &need) {
                self.conflict(name, &need);
                continue;
            }
            if let Some(holder) = self.holder.get(&claim).cloned() {
                if let Some(needs) = self.services.get_mut(&holder) {
                    needs
                        .list
                        .iter_mut()
                        .filter(|need| need.has == Some(claim))
                        .for_each(|need| need.has = None);
                }
                // The holder loses it, and the issues of the others name the holder.
                let others = self.asked.get(&claim).into_iter().flatten().filter(|other| *other != name);
                self.disturbed.extend(others.cloned());
            }
            self.give(name, i, claim);
        }
    }

    fn refuse(&mut self, name: &ObjectName) {
        let Some(needs) = self.services.get_mut(name) else { return };
        needs.refused = true;
        let had: Vec<Claim> = needs.list.iter_mut().filter_map(|need| need.has.take()).collect();
        for claim in had {
            self.release(name, claim);
        }
    }

    /// Whether `name` can have what it asks for: nobody has it, or one who yields.
    fn can_have(&self, name: &ObjectName, need: &Need) -> bool {
        need.asked.is_none_or(|claim| match self.holder.get(&claim) {
            None => true,
            Some(holder) => holder != name && self.yields(holder, claim, name),
        })
    }

    /// Whether `holder` has `claim` only because it asks for it, as `name` does, and comes after
    /// `name`.
    fn yields(&self, holder: &ObjectName, claim: Claim, name: &ObjectName) -> bool {
        name < holder && self.asked.get(&claim).is_some_and(|names| names.contains(holder))
    }

    fn conflict(&mut self, name: &ObjectName, need: &Need) {
        let Some(claim) = need.asked else { return };
        let holder = match self.holder.get(&claim) {
            Some(holder) if holder != name => format!("Service {holder}"),
            _ => "another port of this Service".to_owned(),
        };
        let consequence = if need.purpose.is_address() {
            "this Service is left out until one of the two asks for another or for none"
        } else {
            "this port is not opened on nodes until one of the two asks for another or for none"
        };
        if let Some(needs) = self.services.get_mut(name) {
            let message = format!("{claim} belongs to {holder}; {consequence}");
            needs.issues.push(Issue::new(need.purpose.field(), message));
        }
    }

    /// Allocates what is needed and not asked for by name.
    fn take_new(&mut self, present: &[&ObjectName], addresses: bool) {
        let open = |allocator: &Allocator<R>, name: &ObjectName| {
            let mut open = allocator.open_needs(name, addresses);
            open.retain(|(_, need)| need.asked.is_none());
            open
        };
        let waiting: Vec<&ObjectName> =
            present.iter().copied().filter(|name| !open(self, name).is_empty()).collect();
        if waiting.is_empty() {
            return;
        }
        self.record.begin();
        let mut exhausted = BTreeSet::new();
        let mut allocated = Vec::new();
        for name in waiting {
            let before = self.record.known().get(name).cloned().unwrap_or_default();
            let mut allocations = before.clone();
            for (i, need) in open(self, name) {
                let key = need.purpose.key();
                // Another process may just have allocated for the same Service.
                let known = before
                    .get(&key)
                    .and_then(|value| need.purpose.claim(value))
                    .filter(|claim| self.is_allocatable(*claim));
                let pool = match &need.purpose {
                    Purpose::Address(family) => Some(*family),
                    _ => None,
                };
                let claim = known.or_else(|| {
                    (!exhausted.contains(&pool)).then(|| self.choose(name, &need.purpose)).flatten()
                });
                if let Some(claim) = claim {
                    allocations.insert(key, claim.to_string());
                    self.give(name, i, claim);
                } else {
                    exhausted.insert(pool);
                    self.nothing_left(name, &need.purpose);
                }
            }
            if allocations != before {
                allocated.push((name.clone(), allocations));
            }
        }
        self.record.commit(allocated);
    }

    fn nothing_left(&mut self, name: &ObjectName, purpose: &Purpose) {
        let message = match purpose {
            Purpose::Address(family) => {
                let ranges: Vec<String> = self
                    .ranges
                    .services
                    .iter()
                    .filter(|range| Family::of(range.addr()) == *family)
                    .map(ToString::to_string)
                    .collect();
                if ranges.is_empty() {
                    format!(
                        "no {family} address can be allocated without a range; add one with --service-cluster-ip-range"
                    )
                } else {
                    format!(
                        "no {family} address is left in {}; widen it with --service-cluster-ip-range",
                        ranges.join(", ")
                    )
                }
            }
            Purpose::NodePort { .. } | Purpose::HealthCheck => format!(
                "no port is left in {}-{}; widen it with --service-node-port-range",
                self.ranges.node_ports.start(),
                self.ranges.node_ports.end()
            ),
        };
        self.unmet.insert(name.clone());
        if let Some(needs) = self.services.get_mut(name) {
            needs.issues.push(Issue::new(purpose.field(), message));
        }
    }

    fn is_allocatable(&self, claim: Claim) -> bool {
        if self.holder.contains_key(&claim) || self.asked.contains_key(&claim) {
            return false;
        }
        match claim {
            Claim::Address(address) => self.ranges.services.iter().any(|range| range.contains(&address)),
            Claim::Port(_, port) => {
                self.ranges.node_ports.contains(&port)
                    && !self.ports.contains_key(&port)
                    && !Protocol::ALL
                        .iter()
                        .any(|protocol| self.asked.contains_key(&Claim::Port(*protocol, port)))
            }
        }
    }

    fn choose(&self, name: &ObjectName, purpose: &Purpose) -> Option<Claim> {
        let seed = hash(&format!("{name} {}", purpose.key()));
        let candidates: Vec<Pool> = match purpose {
            Purpose::Address(family) => {
                let ranges = self.ranges.services.iter().filter(|range| Family::of(range.addr()) == *family);
                ranges.flat_map(|range| Pool::of_network(*range)).collect()
            }
            Purpose::NodePort { protocol, .. } => vec![Pool::of_ports(*protocol, &self.ranges.node_ports)],
            Purpose::HealthCheck => vec![Pool::of_ports(Protocol::Tcp, &self.ranges.node_ports)],
        };
        // What is remembered for a Service that may return is used only when nothing else is left.
        let free = |use_reserved: bool| {
            candidates
                .iter()
                .flat_map(|pool| pool.from(seed))
                .filter(|claim| self.is_allocatable(*claim))
                .find(|claim| use_reserved || !self.record.known().is_reserved(&claim.to_string()))
        };
        free(false).or_else(|| free(true))
    }
}

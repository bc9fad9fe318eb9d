//! ClusterIPs, NodePorts and health-check ports: who has which, and new ones for those who name none.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;
use portolan_service::{Family, ObjectName, Protocol};

use super::ledger::{Allocations, Ledger, LedgerError};
use crate::declared::{FamilyPolicy, Issue, Object, Service, parse_address};

/// What is allocated from.
#[derive(Debug, Clone)]
pub(crate) struct Ranges {
    pub(crate) services: Vec<IpNet>,
    pub(crate) node_ports: RangeInclusive<u16>,
}

/// What a Service has been assigned.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Assignment {
    pub(super) families: Vec<Family>,
    pub(super) addresses: Vec<IpAddr>,
    /// One for each port.
    pub(super) node_ports: Vec<Option<u16>>,
    pub(super) health_check: Option<u16>,
    /// A ClusterIP it asks for belongs to another: it cannot be.
    pub(super) refused: bool,
    pub(super) issues: Vec<Issue>,
}

/// Something only one Service can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Claim {
    Address(IpAddr),
    Port(Protocol, u16),
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Claim::Address(address) => write!(f, "{address}"),
            Claim::Port(_, port) => write!(f, "{port}"),
        }
    }
}

/// What a claim of a Service is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Purpose {
    Address(Family),
    NodePort { index: usize, name: Arc<str>, protocol: Protocol },
    HealthCheck,
}

impl Purpose {
    /// How the ledger calls it.
    fn key(&self) -> String {
        match self {
            Purpose::Address(family) => family.to_string(),
            Purpose::NodePort { name, protocol, .. } => format!("nodePort {name}/{protocol}"),
            Purpose::HealthCheck => "healthCheckNodePort".to_owned(),
        }
    }

    fn field(&self) -> String {
        match self {
            Purpose::Address(_) => "spec.clusterIP".to_owned(),
            Purpose::NodePort { index, .. } => format!("spec.ports[{index}].nodePort"),
            Purpose::HealthCheck => "spec.healthCheckNodePort".to_owned(),
        }
    }

    fn is_address(&self) -> bool {
        matches!(self, Purpose::Address(_))
    }

    /// The claim for `value` as the ledger has it.
    fn claim(&self, value: &str) -> Option<Claim> {
        match self {
            Purpose::Address(family) => {
                parse_address(value).filter(|address| Family::of(*address) == *family).map(Claim::Address)
            }
            Purpose::NodePort { protocol, .. } => value.parse().ok().map(|port| Claim::Port(*protocol, port)),
            Purpose::HealthCheck => value.parse().ok().map(|port| Claim::Port(Protocol::Tcp, port)),
        }
    }
}

/// One thing that a Service needs.
#[derive(Debug, Clone)]
struct Need {
    purpose: Purpose,
    /// Which one it asks for; any if `None`.
    asked: Option<Claim>,
    /// Which one it has.
    has: Option<Claim>,
}

/// The needs of a Service.
#[derive(Debug, Clone, Default)]
struct Needs {
    families: Vec<Family>,
    list: Vec<Need>,
    issues: Vec<Issue>,
    refused: bool,
}

#[derive(Debug)]
pub(super) struct Allocator {
    ranges: Ranges,
    ledger: Ledger,
    services: HashMap<ObjectName, Needs>,
    /// Who asks for what by name.
    asked: HashMap<Claim, BTreeSet<ObjectName>>,
    /// Who has what.
    holder: HashMap<Claim, ObjectName>,
    /// How many claims there are on each port number, for any protocol: allocated ones are alone on theirs.
    ports: HashMap<u16, usize>,
    /// Services for which nothing was left.
    starved: BTreeSet<ObjectName>,
    disturbed: BTreeSet<ObjectName>,
    released: usize,
}

impl Allocator {
    pub(super) fn new(ranges: Ranges, ledger: Ledger) -> Allocator {
        Allocator {
            ranges,
            ledger,
            services: HashMap::new(),
            asked: HashMap::new(),
            holder: HashMap::new(),
            ports: HashMap::new(),
            starved: BTreeSet::new(),
            disturbed: BTreeSet::new(),
            released: 0,
        }
    }

    pub(super) fn ledger_errors(&self) -> Vec<LedgerError> {
        self.ledger.errors()
    }

    /// Assigns what the Services of `batch` need; those without object are gone. Also returns the Services outside
    /// of the batch whose assignment must be looked at again.
    ///
    /// Who had something by allocation keeps it, whoever asks for it later; among those who ask for the same, the
    /// first by name has it, so that every proxy comes to the same answer.
    pub(super) fn assign(
        &mut self,
        batch: &[(ObjectName, Option<Arc<Object>>)],
    ) -> (Vec<(ObjectName, Assignment)>, BTreeSet<ObjectName>) {
        for (name, object) in batch {
            let needs = match object.as_deref() {
                Some(Object::Service(service)) => Some(self.needs(service)),
                _ => None,
            };
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
            let retry: Vec<_> = self.starved.iter().take(self.released).cloned().collect();
            self.disturbed.extend(retry);
            self.released = 0;
        }

        let assignments = batch
            .iter()
            .map(|(name, object)| {
                let assignment = match (object.as_deref(), self.services.get(name)) {
                    (Some(Object::Service(service)), Some(needs)) => assignment(service, needs, &self.ranges),
                    _ => Assignment::default(),
                };
                (name.clone(), assignment)
            })
            .collect();
        let mut disturbed = std::mem::take(&mut self.disturbed);
        // A Service of the batch can be disturbed by a later one of it: then it must be looked at again, too.
        disturbed.retain(|name| self.services.contains_key(name));
        (assignments, disturbed)
    }

    fn needs(&self, service: &Service) -> Needs {
        let mut needs = Needs::default();
        self.choose_families(service, &mut needs);
        if service.wants_addresses() {
            for family in &needs.families {
                let asked = service.cluster_ips.iter().find(|ip| Family::of(**ip) == *family);
                let asked = asked.map(|ip| Claim::Address(*ip));
                needs.list.push(Need { purpose: Purpose::Address(*family), asked, has: None });
            }
        }
        for (index, port) in service.ports.iter().enumerate() {
            if port.node_port.is_some() || service.wants_node_ports() {
                let purpose = Purpose::NodePort { index, name: port.name.clone(), protocol: port.protocol };
                let asked = port.node_port.map(|number| Claim::Port(port.protocol, number));
                needs.list.push(Need { purpose, asked, has: None });
            }
        }
        if service.wants_health_check() {
            let asked = service.health_check_node_port.map(|number| Claim::Port(Protocol::Tcp, number));
            needs.list.push(Need { purpose: Purpose::HealthCheck, asked, has: None });
        }
        needs
    }

    fn choose_families(&self, service: &Service, needs: &mut Needs) {
        needs.families.clone_from(&service.families);
        let wanted = if service.family_policy == FamilyPolicy::Single { 1 } else { 2 };
        for range in &self.ranges.services {
            let family = Family::of(range.addr());
            if needs.families.len() < wanted && !needs.families.contains(&family) {
                needs.families.push(family);
            }
        }
        if needs.families.len() < wanted && service.family_policy == FamilyPolicy::Require {
            needs.issues.push(Issue {
                field: "spec.ipFamilyPolicy".to_owned(),
                message: "RequireDualStack needs Service ranges of both families; \
                          add one with --service-cluster-ip-range"
                    .to_owned(),
            });
        }
    }

    /// Puts `needs` in the place of those `name` had, keeping what it has as far as that still fits.
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
        self.starved.remove(name);
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

    /// What the ledger has for a need, if it still is in range and free.
    fn remembered(&self, name: &ObjectName, purpose: &Purpose) -> Option<Claim> {
        let claim = purpose.claim(self.ledger.get(name)?.get(&purpose.key())?)?;
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
                // The holder loses it, and the others were told that it was the holder's.
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

    /// Whether `holder` has `claim` only because it asks for it, as `name` does, and comes after `name`.
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
            needs.issues.push(Issue { field: need.purpose.field(), message });
        }
    }

    /// Allocates what is needed and not asked for by name.
    fn take_new(&mut self, present: &[&ObjectName], addresses: bool) {
        let open = |allocator: &Allocator, name: &ObjectName| {
            let mut open = allocator.open_needs(name, addresses);
            open.retain(|(_, need)| need.asked.is_none());
            open
        };
        let hungry: Vec<&ObjectName> =
            present.iter().copied().filter(|name| !open(self, name).is_empty()).collect();
        if hungry.is_empty() {
            return;
        }
        let mut ledger = std::mem::take(&mut self.ledger);
        ledger.update(|ledger| {
            let mut exhausted = BTreeSet::new();
            let mut chosen = Vec::new();
            for name in hungry {
                let remembered = ledger.get(name);
                let mut allocations: Allocations = remembered.cloned().unwrap_or_default();
                for (i, need) in open(self, name) {
                    let key = need.purpose.key();
                    // Another proxy may just have allocated for the same Service.
                    let known = remembered
                        .and_then(|allocated| need.purpose.claim(allocated.get(&key)?))
                        .filter(|claim| self.is_allocatable(*claim));
                    let pool = match &need.purpose {
                        Purpose::Address(family) => Some(*family),
                        _ => None,
                    };
                    let claim = known.or_else(|| {
                        (!exhausted.contains(&pool))
                            .then(|| self.choose(name, &need.purpose, ledger))
                            .flatten()
                    });
                    if let Some(claim) = claim {
                        allocations.insert(key, claim.to_string());
                        self.give(name, i, claim);
                    } else {
                        exhausted.insert(pool);
                        self.starve(name, &need.purpose);
                    }
                }
                if Some(&allocations) != remembered && !allocations.is_empty() {
                    chosen.push((name.clone(), allocations));
                }
            }
            chosen
        });
        self.ledger = ledger;
    }

    fn starve(&mut self, name: &ObjectName, purpose: &Purpose) {
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
        self.starved.insert(name.clone());
        if let Some(needs) = self.services.get_mut(name) {
            needs.issues.push(Issue { field: purpose.field(), message });
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

    fn choose(&self, name: &ObjectName, purpose: &Purpose, ledger: &Ledger) -> Option<Claim> {
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
                .find(|claim| use_reserved || !ledger.is_reserved(&claim.to_string()))
        };
        free(false).or_else(|| free(true))
    }
}

fn assignment(service: &Service, needs: &Needs, ranges: &Ranges) -> Assignment {
    let mut result = Assignment {
        families: needs.families.clone(),
        node_ports: vec![None; service.ports.len()],
        refused: needs.refused,
        issues: needs.issues.clone(),
        ..Assignment::default()
    };
    for need in &needs.list {
        if let Some(Claim::Port(_, port)) = need.asked
            && !ranges.node_ports.contains(&port)
        {
            let (first, last) = (ranges.node_ports.start(), ranges.node_ports.end());
            let message =
                format!("{port} is used as asked, but is not in --service-node-port-range {first}-{last}");
            result.issues.push(Issue { field: need.purpose.field(), message });
        }
        match (&need.purpose, need.has) {
            (Purpose::Address(_), Some(Claim::Address(address))) => result.addresses.push(address),
            (Purpose::NodePort { index, .. }, Some(Claim::Port(_, port))) => {
                result.node_ports[*index] = Some(port);
            }
            (Purpose::HealthCheck, Some(Claim::Port(_, port))) => result.health_check = Some(port),
            _ => {}
        }
    }
    // A family for which no address could be had does not exist for the Service.
    if service.wants_addresses() {
        result
            .families
            .retain(|family| result.addresses.iter().any(|address| Family::of(*address) == *family));
    }
    result
}

/// Consecutive addresses or ports.
#[derive(Debug, Clone, Copy)]
struct Pool {
    kind: PoolKind,
    first: u128,
    count: u128,
}

#[derive(Debug, Clone, Copy)]
enum PoolKind {
    V4,
    V6,
    Port(Protocol),
}

/// How many candidates are tried in a pool at most: more than any cluster has Services.
const MAX_TRIES: u128 = 1 << 20;

impl Pool {
    fn of_ports(protocol: Protocol, range: &RangeInclusive<u16>) -> Pool {
        let count = (u128::from(*range.end()) + 1).saturating_sub(u128::from(*range.start()));
        Pool { kind: PoolKind::Port(protocol), first: u128::from(*range.start()), count }
    }

    /// The addresses of `network` without the network's own and, for IPv4, its last. The first part of a range is
    /// where people choose addresses by hand (KEP-3070), so it comes last.
    fn of_network(network: IpNet) -> [Pool; 2] {
        let (kind, base, bits, last) = match network {
            IpNet::V4(v4) => (PoolKind::V4, u128::from(u32::from(v4.network())), 32 - v4.prefix_len(), 1),
            IpNet::V6(v6) => (PoolKind::V6, u128::from(v6.network()), 128 - v6.prefix_len(), 0),
        };
        let size = 1_u128.checked_shl(u32::from(bits)).unwrap_or(u128::MAX);
        let usable = size.saturating_sub(1 + last);
        let by_hand = (size / 16).clamp(16, 256).min(usable / 2);
        [
            Pool { kind, first: base + 1 + by_hand, count: usable - by_hand },
            Pool { kind, first: base + 1, count: by_hand },
        ]
    }

    /// All of it, beginning at a place that follows from `seed`.
    fn from(self, seed: u64) -> impl Iterator<Item = Claim> {
        let start = u128::from(seed).checked_rem(self.count).unwrap_or_default();
        (0..self.count.min(MAX_TRIES)).map(move |i| {
            let value = self.first + (start + i) % self.count;
            // Each value is within the pool, whose kind bounds it.
            #[expect(clippy::cast_possible_truncation)]
            match self.kind {
                PoolKind::V4 => Claim::Address(Ipv4Addr::from(value as u32).into()),
                PoolKind::V6 => Claim::Address(Ipv6Addr::from(value).into()),
                PoolKind::Port(protocol) => Claim::Port(protocol, value as u16),
            }
        })
    }
}

/// FNV-1a, finished as in MurmurHash3 so that similar names lie far apart: the same in every process and version.
fn hash(text: &str) -> u64 {
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    for multiplier in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(multiplier);
    }
    hash ^ (hash >> 33)
}

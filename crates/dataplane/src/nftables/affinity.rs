//! Session affinity: which chains and sets a Service port has that keeps clients at their endpoints
//! (spec §3.20-3.23).
//!
//! Each endpoint has a set of the clients that stay there, and each list of endpoints a chain that
//! looks through them before it draws. Clients of an endpoint that leaves are forgotten with its
//! set: neither they nor anybody else's clients are ever listed, however many there are. All
//! frontends of a Service port share the sets, no two Service ports do.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use portolan_netfilter::nft::Rule;
use portolan_service::{Backend, Family, List, PortPlan, ServicePlan};

use super::element::forward_list;
use super::schema::{AFFINITY_SETS, Chain, short_name};

/// The kernel's own limit for sets without one, which costs no memory beforehand, serves up to so
/// many endpoints.
const UNLIMITED_ENDPOINTS: usize = 16;
/// With more endpoints, so many clients of one Service port are remembered, an equal part of them
/// for each endpoint.
const CLIENTS: usize = 1 << 20;
/// But no fewer than this for one endpoint.
const CLIENTS_OF_ENDPOINT: usize = 1 << 10;

/// A Service port with session affinity, in use.
#[derive(Debug, Clone)]
pub(crate) struct StickyPort<'a> {
    /// What its chains and sets are named after.
    pub(crate) name: Arc<str>,
    pub(crate) port: &'a PortPlan,
    /// The lists that some frontend forwards to.
    used: [bool; 2],
}

/// An endpoint as sets are named after it.
type Endpoint = (IpAddr, u16);

/// The Service ports of `plan` in `family` that have session affinity and somewhere to forward to.
pub(crate) fn sticky_ports(plan: &ServicePlan, family: Family) -> impl Iterator<Item = StickyPort<'_>> {
    let of_family = move |port: &&PortPlan| port.family == family && port.affinity.is_some();
    plan.ports.iter().filter(of_family).filter_map(|port| {
        let mut used = [false; 2];
        for verdict in port.frontends.iter().flat_map(|frontend| [frontend.inside, frontend.outside]) {
            if let Some(list) = forward_list(port, verdict) {
                used[list as usize] = true;
            }
        }
        used.contains(&true).then(|| StickyPort { name: port_name(plan, port), port, used })
    })
}

/// `namespace/name/protocol/port`
pub(crate) fn port_name(plan: &ServicePlan, port: &PortPlan) -> Arc<str> {
    short_name(format!("{}/{}/{}", plan.name, port.protocol, port.name)).into()
}

/// The chain for connections to `list` of the Service port `name`.
pub(crate) fn chain(name: &Arc<str>, list: List) -> Chain {
    match list {
        List::Cluster => Chain::Affinity(name.clone()),
        List::Local => Chain::AffinityLocal(name.clone()),
    }
}

impl<'a> StickyPort<'a> {
    /// Its chains, each with the endpoints that it draws from.
    pub(crate) fn chains(&self) -> impl Iterator<Item = (Chain, List, &'a Arc<[Backend]>)> {
        let port = self.port;
        [List::Cluster, List::Local]
            .into_iter()
            .filter(|list| self.used[*list as usize])
            .map(move |list| (chain(&self.name, list), list, port.backends(list)))
    }

    /// For how long a client is remembered after its last connection, seconds.
    pub(crate) fn seconds(&self) -> u32 {
        self.port.affinity.unwrap_or_default()
    }

    /// Every endpoint of its lists in use, once.
    fn endpoints(&self) -> Vec<Endpoint> {
        let mut seen = HashSet::new();
        let all = self.chains().flat_map(|(_, _, list)| list.iter());
        all.map(|backend| (backend.address, backend.port)).filter(|endpoint| seen.insert(*endpoint)).collect()
    }

    /// The set of clients that stay at an endpoint. nft reads no colon in a name.
    pub(crate) fn set_of(&self, (address, port): Endpoint) -> String {
        let address = address.to_string().replace(':', ".");
        format!("{AFFINITY_SETS}{}/{address}/{port}", self.name)
    }

    /// How many clients are remembered at each of so many endpoints; `None`: as many as the kernel
    /// has for sets without a limit, 65,535.
    fn size(endpoints: usize) -> Option<u32> {
        let size =
            (endpoints > UNLIMITED_ENDPOINTS).then(|| (CLIENTS / endpoints).max(CLIENTS_OF_ENDPOINT))?;
        u32::try_from(size).ok()
    }
}

/// One step that leads from the affinity of one plan to that of another, in the order in which the
/// kernel takes them.
#[derive(Debug, Clone)]
pub(crate) enum Step<'a> {
    /// A set of clients comes, with room for so many.
    AddSet(String, Option<u32>),
    /// The rules of a chain are replaced: by those for a list, or by none.
    Rewrite(Chain, Option<(StickyPort<'a>, List)>),
    /// Rules stop leading to the shared chains for a list of so many endpoints.
    Release(List, usize),
    /// A set of clients goes; its clients are forgotten.
    DeleteSet(String),
}

/// What leads from `before` to `after`, two plans of one Service.
pub(crate) fn difference<'a>(
    before: Option<&'a ServicePlan>,
    after: Option<&'a ServicePlan>,
    family: Family,
    mut step: impl FnMut(Step<'a>),
) {
    let of = |plan: Option<&'a ServicePlan>| -> Vec<StickyPort<'a>> {
        plan.into_iter().flat_map(|plan| sticky_ports(plan, family)).collect()
    };
    let (old, new) = (of(before), of(after));
    if old.is_empty() && new.is_empty() {
        return;
    }
    let sets = |ports: &[StickyPort<'_>]| -> Vec<(String, usize)> {
        ports
            .iter()
            .flat_map(|port| {
                let endpoints = port.endpoints();
                let count = endpoints.len();
                endpoints.into_iter().map(move |endpoint| (port.set_of(endpoint), count))
            })
            .collect()
    };
    let (old_sets, new_sets) = (sets(&old), sets(&new));
    let names = |sets: &'_ [(String, usize)]| -> HashSet<String> {
        sets.iter().map(|(name, _)| name.clone()).collect()
    };
    let (had, has) = (names(&old_sets), names(&new_sets));
    for (name, count) in new_sets.into_iter().filter(|(name, _)| !had.contains(name)) {
        step(Step::AddSet(name, StickyPort::size(count)));
    }
    for port in &new {
        for (chain, list, members) in port.chains() {
            let earlier = old.iter().find(|old| old.name == port.name);
            let earlier_members = earlier.and_then(|old| {
                old.chains().find(|(_, of, _)| *of == list).map(|(_, _, members)| (members, old.seconds()))
            });
            if earlier_members.is_some_and(|(old, seconds)| {
                seconds == port.seconds() && (Arc::ptr_eq(old, members) || same(old, members))
            }) {
                continue;
            }
            if let Some((members, _)) = earlier_members {
                step(Step::Release(list, members.len()));
            }
            step(Step::Rewrite(chain, Some((port.clone(), list))));
        }
    }
    for port in &old {
        let later = new.iter().find(|new| new.name == port.name);
        for (chain, list, members) in port.chains() {
            if later.is_none_or(|new| !new.used[list as usize]) {
                step(Step::Release(list, members.len()));
                step(Step::Rewrite(chain, None));
            }
        }
    }
    for (name, _) in old_sets.into_iter().filter(|(name, _)| !has.contains(name)) {
        step(Step::DeleteSet(name));
    }
}

/// Connections are sent to the same addresses in the same order.
fn same(left: &[Backend], right: &[Backend]) -> bool {
    let place = |backend: &Backend| (backend.address, backend.port);
    left.iter().map(place).eq(right.iter().map(place))
}

/// A number by which the rules of a chain are recognised, as long as this process runs.
pub(crate) fn fingerprint<'r>(rules: impl IntoIterator<Item = &'r [portolan_netfilter::nft::Expr]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for rule in rules {
        rule.hash(&mut hasher);
    }
    hasher.finish()
}

/// The [`fingerprint`] of rules that are to be written.
pub(crate) fn fingerprint_of(rules: &[Rule]) -> u64 {
    fingerprint(rules.iter().map(|rule| &rule.exprs[..]))
}

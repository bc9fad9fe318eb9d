//! Session affinity: which chains and sets a Service port has that keeps clients at their endpoints
//! (spec §3.20-3.23).
//!
//! Each endpoint has a set of the clients that stay there, and each list of endpoints a chain that
//! looks through them before it draws. Either way a chain of the endpoint remembers the client.
//! Clients of an endpoint that leaves are forgotten with its set: neither they nor anybody else's
//! clients are ever listed, however many there are. All frontends of a Service port share the sets,
//! no two Service ports do.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use portolan_netfilter::nft::Rule;
use portolan_service::{Backend, Family, List, PortPlan, ServicePlan};

use super::chain::{Chain, short_name};
use super::endpoint_list::forward_list;
use super::localhost::by_rules;
use super::set::AFFINITY_SETS;

/// The kernel's own limit for sets without one, which costs no memory beforehand, serves up to so
/// many endpoints.
const UNLIMITED_ENDPOINTS: usize = 16;
/// With more endpoints, this many clients of one Service port are remembered, an equal part of them
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
pub(crate) type Endpoint = (IpAddr, u16);

/// The Service ports of `plan` in `family` that have session affinity and somewhere to forward to.
pub(crate) fn sticky_ports(plan: &ServicePlan, family: Family) -> impl Iterator<Item = StickyPort<'_>> {
    let of_family = move |port: &&PortPlan| port.family == family && port.affinity.is_some();
    plan.ports.iter().filter(of_family).filter_map(|port| {
        let mut used = [false; 2];
        for verdict in by_rules(port).flat_map(|frontend| [frontend.inside, frontend.outside]) {
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

    /// The endpoints of a list, if it is in use.
    fn members(&self, list: List) -> Option<&'a Arc<[Backend]>> {
        self.used[list as usize].then(|| self.port.backends(list))
    }

    /// Every endpoint of its lists in use, once.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        let mut seen = HashSet::new();
        let all = self.chains().flat_map(|(_, _, list)| list.iter());
        all.map(|backend| (backend.address, backend.port)).filter(|endpoint| seen.insert(*endpoint)).collect()
    }

    /// The set of clients that stay at an endpoint.
    pub(crate) fn set_of(&self, endpoint: Endpoint) -> String {
        format!("{AFFINITY_SETS}{}", self.endpoint_name(endpoint))
    }

    /// The chain that remembers a client in that set, and sends it there.
    pub(crate) fn endpoint_chain(&self, endpoint: Endpoint) -> Chain {
        Chain::Endpoint(self.endpoint_name(endpoint).into())
    }

    /// `namespace/name/protocol/port/address/port`; nft reads no colon in a name.
    fn endpoint_name(&self, (address, port): Endpoint) -> String {
        let address = address.to_string().replace(':', ".");
        format!("{}/{address}/{port}", self.name)
    }

    /// How many clients are remembered at each of this many endpoints; `None`: as many as the
    /// kernel has for sets without a limit, 65,535.
    fn size(endpoints: usize) -> Option<u32> {
        let size =
            (endpoints > UNLIMITED_ENDPOINTS).then(|| (CLIENTS / endpoints).max(CLIENTS_OF_ENDPOINT))?;
        u32::try_from(size).ok()
    }
}

/// One step that leads from the affinity of one plan to that of another, in the order in which the
/// kernel takes them.
#[derive(Debug, Clone)]
pub(crate) enum AffinityStep<'a> {
    /// A set of clients comes, with room for this many.
    AddSet(String, Option<u32>),
    /// The rules of a chain are replaced.
    Rewrite(Chain, Content<'a>),
    /// A set of clients goes; its clients are forgotten.
    DeleteSet(String),
}

/// What rules a chain of a Service port gets.
#[derive(Debug, Clone)]
pub(crate) enum Content<'a> {
    /// Those that find the client's endpoint in a list, or draw one.
    List(StickyPort<'a>, List),
    /// Those that remember the client and send it to an endpoint.
    Endpoint(StickyPort<'a>, Endpoint),
    /// None.
    Nothing,
}

/// What leads from `before` to `after`, two plans of one Service.
pub(crate) fn difference<'a>(
    before: Option<&'a ServicePlan>,
    after: Option<&'a ServicePlan>,
    family: Family,
    mut step: impl FnMut(AffinityStep<'a>),
) {
    let of = |plan: Option<&'a ServicePlan>| -> Vec<StickyPort<'a>> {
        plan.into_iter().flat_map(|plan| sticky_ports(plan, family)).collect()
    };
    let (old, new) = (of(before), of(after));
    // Ports of one Service have different names.
    for port in &new {
        let earlier = old.iter().find(|old| old.name == port.name);
        port_difference(earlier, Some(port), &mut step);
    }
    for port in old.iter().filter(|old| new.iter().all(|new| new.name != old.name)) {
        port_difference(Some(port), None, &mut step);
    }
}

fn port_difference<'a>(
    old: Option<&StickyPort<'a>>,
    new: Option<&StickyPort<'a>>,
    step: &mut impl FnMut(AffinityStep<'a>),
) {
    let (had, has) = (
        old.map(StickyPort::endpoints).unwrap_or_default(),
        new.map(StickyPort::endpoints).unwrap_or_default(),
    );
    let (before, after): (HashSet<_>, HashSet<_>) =
        (had.iter().copied().collect(), has.iter().copied().collect());
    if let Some(new) = new {
        let seconds_differ = old.is_some_and(|old| old.seconds() != new.seconds());
        let size = StickyPort::size(has.len());
        for endpoint in has {
            let is_new = !before.contains(&endpoint);
            if is_new {
                step(AffinityStep::AddSet(new.set_of(endpoint), size));
            }
            if is_new || seconds_differ {
                let content = Content::Endpoint(new.clone(), endpoint);
                step(AffinityStep::Rewrite(new.endpoint_chain(endpoint), content));
            }
        }
        for (chain, list, members) in new.chains() {
            let earlier = old.and_then(|old| old.members(list));
            if earlier.is_none_or(|earlier| !Arc::ptr_eq(earlier, members) && !same(earlier, members)) {
                step(AffinityStep::Rewrite(chain, Content::List(new.clone(), list)));
            }
        }
    }
    let Some(old) = old else { return };
    for (chain, list, _) in old.chains() {
        if new.is_none_or(|new| new.members(list).is_none()) {
            step(AffinityStep::Rewrite(chain, Content::Nothing));
        }
    }
    for endpoint in had.into_iter().filter(|endpoint| !after.contains(endpoint)) {
        step(AffinityStep::Rewrite(old.endpoint_chain(endpoint), Content::Nothing));
        step(AffinityStep::DeleteSet(old.set_of(endpoint)));
    }
}

/// The chain that puts clients into a set of them.
pub(crate) fn chain_of_set(set: &str) -> Chain {
    Chain::Endpoint(set.strip_prefix(AFFINITY_SETS).unwrap_or(set).into())
}

/// Connections are sent to the same addresses in the same order, with the same chances.
fn same(left: &[Backend], right: &[Backend]) -> bool {
    let place = |backend: &Backend| (backend.address, backend.port, backend.weight);
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

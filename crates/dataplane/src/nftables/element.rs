//! From plans to set elements: what a [`ServicePlan`] adds to the sets of the flat layout.
//!
//! Rendering is a pure function of one plan, so that the difference of two states of a Service is
//! the difference of two renderings, and no copy of the kernel's content is kept.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use portolan_service::{
    Family, Frontend, FrontendKind, List, Masquerade, PortPlan, Protocol, ServicePlan, Verdict as PlanVerdict,
};

use super::affinity;
use super::chain::Chain;
use super::encoding::{FrontendKey, put_address, put_frontend, put_port};
use super::endpoint_list::forward_list;
use super::layout::Layout;
use super::localhost::by_rules;
use super::set::SetName;
use crate::slots::{slot_count, slots};

/// The key of an element and the set it is in. Ordered so that what belongs to one set lies
/// together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    /// `cluster-ips`
    ClusterIp(IpAddr),
    /// `hairpin`: the address twice
    Hairpin(IpAddr),
    /// A set or verdict map keyed by frontend alone
    Frontend(SetName, FrontendKey),
    /// `endpoints` or `endpoints-local`: the number of one of the endpoint's slots in its list
    Endpoint(SetName, FrontendKey, u32),
    /// `allowed`: a network of clients
    Allowed(FrontendKey, IpNet),
}

impl Key {
    /// The set the element is in.
    pub(crate) fn set(&self) -> SetName {
        match self {
            Key::ClusterIp(_) => SetName::ClusterIps,
            Key::Hairpin(_) => SetName::Hairpin,
            Key::Frontend(set, _) | Key::Endpoint(set, ..) => *set,
            Key::Allowed(..) => SetName::Allowed,
        }
    }

    /// Appends the key as the kernel holds it: each field padded to 4 bytes, network order, but the
    /// endpoint's number in host order as `numgen` makes it.
    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        match *self {
            Key::ClusterIp(address) => put_address(to, address),
            Key::Hairpin(address) => {
                put_address(to, address);
                put_address(to, address);
            }
            Key::Frontend(_, frontend) => put_frontend(to, &frontend),
            Key::Endpoint(_, frontend, index) => {
                to.extend_from_slice(&index.to_ne_bytes());
                put_frontend(to, &frontend);
            }
            Key::Allowed(frontend, network) => {
                put_frontend(to, &frontend);
                put_address(to, network.network());
            }
        }
    }

    /// Appends the end of the range, for elements of interval sets; otherwise returns false.
    pub(crate) fn encode_end(&self, to: &mut Vec<u8>) -> bool {
        let Key::Allowed(frontend, network) = self else { return false };
        put_frontend(to, frontend);
        put_address(to, network.broadcast());
        true
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::ClusterIp(address) | Key::Hairpin(address) => write!(f, "{address}"),
            Key::Frontend(_, frontend) => write!(f, "{frontend}"),
            Key::Endpoint(_, frontend, index) => write!(f, "{frontend} endpoint {index}"),
            Key::Allowed(frontend, network) => write!(f, "{frontend} from {network}"),
        }
    }
}

/// Frontends of up to this many slots of endpoints are in no verdict map: the dispatch draws among
/// them without knowing how many there are. Each more would cost every new connection a look-up.
pub(crate) const DRAWN_AT_ONCE: u32 = 2;

/// What a verdict map's element decides.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Target {
    /// Drops the packet.
    Drop,
    /// Continues in a chain and comes back when that decides nothing.
    Jump(Chain),
    /// Continues in a chain.
    Goto(Chain),
}

impl Target {
    /// The chain it refers to.
    pub(crate) fn chain(&self) -> Option<&Chain> {
        match self {
            Target::Drop => None,
            Target::Jump(chain) | Target::Goto(chain) => Some(chain),
        }
    }
}

/// The data of an element.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Data {
    /// A set's element has none.
    None,
    /// An endpoint.
    Endpoint(IpAddr, u16),
    /// A verdict.
    Target(Target),
    /// A packet's mark.
    Mark(u32),
}

impl Data {
    /// Appends a value as the kernel holds it: fields padded to 4 bytes, addresses and ports in
    /// network order, marks in host order. Nothing for a verdict.
    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        match self {
            Data::None | Data::Target(_) => {}
            Data::Endpoint(address, port) => {
                put_address(to, *address);
                put_port(to, *port);
            }
            Data::Mark(mark) => to.extend_from_slice(&mark.to_ne_bytes()),
        }
    }
}

/// One set element of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub(crate) key: Key,
    pub(crate) data: Data,
    /// The name of the Service port, on the elements that carry it as their comment.
    pub(crate) port_name: Option<&'a str>,
}

/// Appends the elements of `plan` in `family`, sorted by key, without duplicates. Two ports of a
/// Service may share elements (their ClusterIP, a pod that is its own client).
pub(crate) fn render<'a>(
    layout: &Layout,
    plan: &'a ServicePlan,
    family: Family,
    elements: &mut Vec<Element<'a>>,
) {
    render_some(layout, plan, family, true, elements);
}

/// As [`render`], without the elements of `endpoints` and `endpoints-local`: what says which chains
/// and rules are needed.
pub(crate) fn render_dispatch<'a>(
    layout: &Layout,
    plan: &'a ServicePlan,
    family: Family,
    elements: &mut Vec<Element<'a>>,
) {
    render_some(layout, plan, family, false, elements);
}

fn render_some<'a>(
    layout: &Layout,
    plan: &'a ServicePlan,
    family: Family,
    endpoints: bool,
    elements: &mut Vec<Element<'a>>,
) {
    let start = elements.len();
    for port in plan.ports.iter().filter(|port| port.family == family) {
        let way = match layout {
            Layout::Translate => {
                Way::Translated { sticky: port.affinity.map(|_| affinity::port_name(plan, port)), endpoints }
            }
            Layout::Steer { .. } => Way::Steered { mark: layout.mark(plan, port) },
        };
        render_port(port, &way, elements);
    }
    elements[start..].sort_unstable_by_key(|element| element.key);
    // Sorted, so that equal keys are neighbours; `dedup` on the tail only.
    let mut write = start;
    for read in start..elements.len() {
        if read == start || elements[read].key != elements[write - 1].key {
            elements.swap(write, read);
            write += 1;
        }
    }
    elements.truncate(write);
}

/// How packets get from the frontends of a Service port to its endpoints.
enum Way {
    /// Rules translate them: with the name of the port's affinity, and with the elements for
    /// endpoints or without.
    Translated { sticky: Option<Arc<str>>, endpoints: bool },
    /// Rules bring them to IPVS, which knows some by a mark.
    Steered { mark: Option<u32> },
}

fn render_port<'a>(port: &'a PortPlan, way: &Way, elements: &mut Vec<Element<'a>>) {
    let mut used = [false; 2];
    for frontend in by_rules(port) {
        render_frontend(port, way, frontend, &mut used, elements);
    }
    for list in [List::Cluster, List::Local] {
        if used[list as usize] {
            for backend in port.backends(list).iter().filter(|backend| backend.may_hairpin()) {
                elements.push(Element {
                    key: Key::Hairpin(backend.address),
                    data: Data::None,
                    port_name: None,
                });
            }
        }
    }
}

/// The elements of one frontend. Notes in `used` which lists it leads to.
fn render_frontend<'a>(
    port: &'a PortPlan,
    way: &Way,
    frontend: &Frontend,
    used: &mut [bool; 2],
    elements: &mut Vec<Element<'a>>,
) {
    let key = FrontendKey { address: frontend.address, protocol: port.protocol, port: frontend.port };
    let mut plain = |key: Key, data: Data| elements.push(Element { key, data, port_name: None });
    let target = |set: SetName, target: Target| (Key::Frontend(set, key), Data::Target(target));

    if frontend.kind == FrontendKind::ClusterIp {
        plain(Key::ClusterIp(frontend.address), Data::None);
    }
    if let Some(allowed) = &frontend.allowed_sources {
        plain(Key::Frontend(SetName::Firewalled, key), Data::None);
        for network in allowed.merged.iter().filter(|network| Family::of(network.addr()) == port.family) {
            plain(Key::Allowed(key, network.trunc()), Data::None);
        }
    }

    let inside = forward_list(port, frontend.inside);
    let outside = forward_list(port, frontend.outside);
    if inside.is_some() || outside.is_some() {
        let masquerade = match (frontend.kind, frontend.masquerade) {
            (FrontendKind::ClusterIp, _) => None,
            (_, Masquerade::Always) => Some(Chain::MasqAlways),
            (_, Masquerade::FromNode) => Some(Chain::MasqNode),
            (_, Masquerade::NotLocal) => Some(Chain::MasqCluster),
        };
        if let Some(chain) = masquerade {
            let (key, data) = target(SetName::MasqExternal, Target::Goto(chain));
            plain(key, data);
        }
    }

    for list in [inside, outside].into_iter().flatten() {
        used[list as usize] = true;
    }
    let own_outside = frontend.inside != frontend.outside;
    match way {
        Way::Translated { sticky, endpoints } => {
            let sticky = sticky.as_ref();
            if port.protocol == Protocol::Udp && (inside.is_some() || outside.is_some()) {
                let key = Key::Frontend(SetName::UdpFrontends, key);
                elements.push(Element { key, data: Data::None, port_name: None });
            }
            if let Some(list) = inside {
                render_list(port, sticky, key, SetName::Services, list, *endpoints, elements);
            }
            if own_outside {
                render_outside(port, sticky, key, outside, *endpoints, elements);
            }
        }
        Way::Steered { mark } => {
            if inside.is_some() || outside.is_some() {
                elements.push(Element {
                    key: Key::Frontend(SetName::Frontends, key),
                    data: Data::None,
                    port_name: Some(&port.name),
                });
            }
            if let Some(mark) = mark.filter(|_| own_outside && outside.is_some()) {
                let key = Key::Frontend(SetName::LocalMarks, key);
                elements.push(Element { key, data: Data::Mark(mark), port_name: None });
            }
        }
    }
    // Whoever is not translated arrives at the filter hooks with this destination. If both
    // sides end here with different answers (no plan asks for it), the inside one is given.
    let undelivered = if inside.is_none() { frontend.inside } else { frontend.outside };
    let answer = match (undelivered, frontend.kind) {
        (PlanVerdict::Drop, _) => Some(Target::Drop),
        // Every port of a ClusterIP that leads nowhere is rejected anyway.
        (PlanVerdict::Forward(_), _) | (PlanVerdict::Reject, FrontendKind::ClusterIp) => None,
        (PlanVerdict::Reject, _) => Some(Target::Goto(Chain::RejectIt)),
    };
    if let Some(answer) = answer {
        elements.push(Element {
            key: Key::Frontend(SetName::NoEndpoints, key),
            data: Data::Target(answer),
            port_name: Some(&port.name),
        });
    }
}

/// The dispatch of a frontend for outside sources, where these do not get what others get: another
/// list, or nothing.
fn render_outside<'a>(
    port: &'a PortPlan,
    sticky: Option<&Arc<str>>,
    frontend: FrontendKey,
    list: Option<List>,
    endpoints: bool,
    elements: &mut Vec<Element<'a>>,
) {
    match list {
        Some(list) => {
            render_list(port, sticky, frontend, SetName::ServicesLocal, list, endpoints, elements);
        }
        // Outside sources must not fall through to the list for inside ones.
        None => elements.push(Element {
            key: Key::Frontend(SetName::ServicesLocal, frontend),
            data: Data::Target(Target::Jump(Chain::NoLocal)),
            port_name: Some(&port.name),
        }),
    }
}

/// The dispatch of `frontend` to `list`, seen by everyone (`services`) or by outside sources
/// (`services-local`).
fn render_list<'a>(
    port: &'a PortPlan,
    sticky: Option<&Arc<str>>,
    frontend: FrontendKey,
    dispatch: SetName,
    list: List,
    with_endpoints: bool,
    elements: &mut Vec<Element<'a>>,
) {
    let backends = port.backends(list);
    let count = slot_count(backends);
    let local = dispatch == SetName::ServicesLocal;
    let chain = match (sticky, local) {
        (None, false) => Chain::Pick(count),
        (None, true) => Chain::PickLocal(count),
        (Some(name), _) => affinity::chain(name, list),
    };
    // What the dispatch draws by itself costs no verdict, of which the kernel re-checks all when
    // one is added.
    let dispatched = !matches!(chain, Chain::Pick(..=DRAWN_AT_ONCE));
    if dispatched {
        elements.push(Element {
            key: Key::Frontend(dispatch, frontend),
            data: Data::Target(Target::Jump(chain)),
            port_name: Some(&port.name),
        });
    }
    if !with_endpoints {
        return;
    }
    let endpoints = if local { SetName::EndpointsLocal } else { SetName::Endpoints };
    for (index, backend) in (0..count).zip(slots(backends)) {
        elements.push(Element {
            key: Key::Endpoint(endpoints, frontend, index),
            data: Data::Endpoint(backend.address, backend.port),
            // On the first of any number, so that it stays as it is when others come and go.
            port_name: (index == 0).then_some(&*port.name),
        });
    }
}

/// One step of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ElementStep<'e, 'a> {
    /// The element goes.
    Remove(&'e Element<'a>),
    /// The element comes.
    Add(&'e Element<'a>),
}

/// What leads from the elements `before` to `after`, both as [`render`] leaves them. An element
/// whose data or comment changes is removed and added.
pub(crate) fn difference<'e, 'a>(
    before: &'e [Element<'a>],
    after: &'e [Element<'a>],
    mut step: impl FnMut(ElementStep<'e, 'a>),
) {
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    loop {
        match (before.peek(), after.peek()) {
            (None, None) => return,
            (Some(old), Some(new)) if old.key == new.key => {
                if old != new {
                    step(ElementStep::Remove(old));
                    step(ElementStep::Add(new));
                }
                before.next();
                after.next();
            }
            (Some(old), new) if new.is_none_or(|new| old.key < new.key) => {
                step(ElementStep::Remove(old));
                before.next();
            }
            (_, Some(new)) => {
                step(ElementStep::Add(new));
                after.next();
            }
            (Some(_), None) => unreachable!("the arm above takes what only the old side has"),
        }
    }
}

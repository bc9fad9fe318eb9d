//! The virtual servers that a plan asks for.

use portolan_netfilter::ipvs::{
    Destination, HASH_BY_PORT, REFUSE_NOBODY, Scheduling, ServerKey, VirtualServer,
};
use portolan_service::{Backend, Frontend, List, PortPlan, Protocol, ServicePlan, Weights};

use super::settings::IpvsSettings;
use crate::nftables::{by_rules, forward_list};
use crate::slots::greatest_common;
use crate::variant::table_family;

/// The scheduler that every kernel with IPVS has: in turn.
pub(super) const ROUND_ROBIN: &str = "rr";
/// The scheduler that chooses by a hash of the client's address, with few changes when endpoints
/// come and go.
const MAGLEV: &str = "mh";
const SOURCE_HASH: &str = "sh";
/// `IP_VS_SH_TAB_SIZE`, as kernels are built
const SOURCE_HASH_PLACES: u32 = 256;
/// Schedulers that heed no weights, each with the one that does and is the same otherwise.
const WEIGHTED: [(&str, &str); 2] = [(ROUND_ROBIN, "wrr"), ("lc", "wlc")];

/// A virtual server and what it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) key: ServerKey,
    pub(super) protocol: Protocol,
    pub(super) scheduling: Scheduling,
    pub(super) destinations: Vec<Destination>,
    /// Endpoints that keep the flows that they have and get no new ones: of UDP, those that serve
    /// on while they terminate
    pub(super) lingering: Vec<Destination>,
}

/// The virtual servers of `plan`: one for each frontend with endpoints, and one for the clients
/// from outside of each Service port where these have endpoints of their own, which is known by
/// `mark`. A scheduler that is not `known` is replaced as [`usable`] says.
pub(super) fn servers(
    plan: &ServicePlan,
    settings: &IpvsSettings,
    known: impl Fn(&str) -> bool,
    mark: impl Fn(&PortPlan) -> Option<u32>,
) -> Vec<Server> {
    let mut servers = Vec::new();
    for port in &plan.ports {
        let asked = port.scheduler.map_or(&*settings.scheduler, |scheduler| scheduler.name());
        let scheduler = by_weight(port, usable(asked, &settings.scheduler, &known), &known);
        for frontend in by_rules(port) {
            servers.extend(by_address(port, frontend, scheduler));
        }
        servers.extend(mark(port).and_then(|mark| by_mark(port, mark, scheduler, &known)));
    }
    servers
}

fn by_address(port: &PortPlan, frontend: &Frontend, scheduler: &str) -> Option<Server> {
    let list = forward_list(port, frontend.inside).or_else(|| forward_list(port, frontend.outside))?;
    let scheduling = scheduling(scheduler, port.affinity);
    let protocol = port.protocol.number();
    Some(Server {
        key: ServerKey::Address(VirtualServer { protocol, address: frontend.address, port: frontend.port }),
        protocol: port.protocol,
        destinations: destinations(port, list, &scheduling.scheduler),
        scheduling,
        lingering: lingering(port, list),
    })
}

/// `asked` if it is `known`; else the one that is configured, and in the end the one that every
/// kernel has.
pub(super) fn usable<'a>(asked: &'a str, configured: &'a str, known: impl Fn(&str) -> bool) -> &'a str {
    [asked, configured].into_iter().find(|scheduler| known(scheduler)).unwrap_or(ROUND_ROBIN)
}

/// The scheduler that heeds weights in place of one that does not, where endpoints have some.
fn by_weight<'a>(port: &PortPlan, scheduler: &'a str, known: impl Fn(&str) -> bool) -> &'a str {
    let mut endpoints = port.cluster.iter().chain(port.local.iter());
    let heeding = WEIGHTED.iter().find(|(without, _)| *without == scheduler).map(|(_, with)| *with);
    match heeding.filter(|with| known(with)) {
        Some(with) if endpoints.any(|backend| backend.weight != Weights::DEFAULT) => with,
        _ => scheduler,
    }
}

/// A virtual server with persistence that is known by a mark does not translate ports
/// (`ip_vs_sched_persist`). Where that matters, a hash of the client's address stands for it.
fn by_mark(port: &PortPlan, mark: u32, scheduler: &str, known: impl Fn(&str) -> bool) -> Option<Server> {
    let list = marked_frontends(port).find_map(|frontend| forward_list(port, frontend.outside))?;
    let same_port =
        |frontend: &Frontend| port.backends(list).iter().all(|backend| backend.port == frontend.port);
    let scheduling = match port.affinity {
        Some(_) if !marked_frontends(port).all(same_port) => {
            Scheduling { flags: 0, ..scheduling(usable(MAGLEV, scheduler, known), None) }
        }
        affinity => scheduling(scheduler, affinity),
    };
    Some(Server {
        key: ServerKey::Mark(table_family(port.family), mark),
        protocol: port.protocol,
        destinations: destinations(port, list, &scheduling.scheduler),
        scheduling,
        lingering: lingering(port, list),
    })
}

/// The frontends where clients from outside have endpoints, and others than those on the node.
pub(super) fn marked_frontends(port: &PortPlan) -> impl Iterator<Item = &Frontend> {
    by_rules(port).filter(|frontend| {
        frontend.inside != frontend.outside && forward_list(port, frontend.outside).is_some()
    })
}

/// As kube-proxy has it: `mh` hashes the client's port too. Clients of `sh` get another endpoint
/// when theirs leaves.
pub(super) fn scheduling(scheduler: &str, affinity: Option<u32>) -> Scheduling {
    let flags = match scheduler {
        MAGLEV => HASH_BY_PORT,
        SOURCE_HASH => REFUSE_NOBODY,
        _ => 0,
    };
    Scheduling { scheduler: scheduler.to_owned(), flags, persistence: affinity }
}

/// The members of a list, and those that get no new connections and keep what they have.
fn destinations(port: &PortPlan, list: List, scheduler: &str) -> Vec<Destination> {
    let members = port.backends(list);
    let common = members.iter().fold(0, |common, backend| greatest_common(common, backend.weight.into()));
    let sum = members.iter().map(|backend| u32::from(backend.weight)).sum::<u32>() / common.max(1);
    let of_kernel = |weight: u16| -> u32 {
        let weight = u32::from(weight) / common.max(1);
        // `sh` fills so many places one after the other (`ip_vs_sh_reassign`), and who comes last
        // has none.
        if scheduler == SOURCE_HASH && sum > SOURCE_HASH_PLACES && weight > 0 {
            return ((weight * SOURCE_HASH_PLACES + sum / 2) / sum).max(1);
        }
        weight
    };
    let resting = port.resting.iter().filter(|backend| list == List::Cluster || backend.is_local());
    let to = |backend: &Backend| Destination {
        address: backend.address,
        port: backend.port,
        weight: of_kernel(backend.weight),
    };
    members.iter().chain(resting).map(to).collect()
}

fn lingering(port: &PortPlan, list: List) -> Vec<Destination> {
    let members = port.backends(list);
    let serving = port.serving.iter().filter(|backend| !members.contains(backend));
    serving.map(|backend| Destination { address: backend.address, port: backend.port, weight: 0 }).collect()
}

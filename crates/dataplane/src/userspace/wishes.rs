//! From plans to sockets: one for each list of endpoints of a Service port that connections go to.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use portolan_relay::{Destination, ProxyHeader, Upstream};
use portolan_service::{
    Backend, Family, List, ObjectName, PortPlan, Protocol, ProxyProtocol, ServicePlan, Verdict,
};

use super::settings::UserspaceSettings;
use crate::listeners::{SocketName, Way, Wish};

/// Which socket it is, whatever its port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SocketKey {
    pub(super) service: ObjectName,
    pub(super) port: Arc<str>,
    pub(super) protocol: Protocol,
    pub(super) family: Family,
    pub(super) list: List,
}

impl SocketKey {
    pub(super) fn new(plan: &ServicePlan, port: &PortPlan, list: List) -> SocketKey {
        let (service, name) = (plan.name.clone(), port.name.clone());
        SocketKey { service, port: name, protocol: port.protocol, family: port.family, list }
    }
}

/// Connections to `port` go to members of `list`.
pub(super) fn uses(port: &PortPlan, list: List) -> bool {
    let forward = Verdict::Forward(list);
    let used =
        port.frontends.iter().any(|frontend| frontend.inside == forward || frontend.outside == forward);
    used && !port.backends(list).is_empty()
}

/// The socket of a list of `port`. `None` for a protocol that is not relayed.
pub(super) fn name(
    plan: &ServicePlan,
    port: &PortPlan,
    list: List,
    address: IpAddr,
    number: u16,
) -> Option<SocketName> {
    let socket = SocketName::new(plan, port, SocketAddr::new(address, number))?;
    Some(SocketName { list, ..socket })
}

/// The order in which a socket gives its endpoints to clients: by chance, and always the same. So
/// not all sockets begin with one endpoint, nor all nodes.
#[derive(Debug, Default)]
pub(super) struct Shuffle(RandomState);

impl Shuffle {
    fn of(&self, key: &SocketKey, backends: &Arc<[Backend]>) -> Arc<[Backend]> {
        if backends.len() < 2 {
            return backends.clone();
        }
        let mut shuffled: Vec<Backend> = backends.to_vec();
        shuffled.sort_by_cached_key(|backend| self.0.hash_one((key, backend.address, backend.port)));
        shuffled.into()
    }
}

/// What is to be listened on for `plan`. `assign` says on which port, 0 for one that the kernel
/// chooses; without an answer there is no socket.
pub(super) fn wishes(
    plan: &ServicePlan,
    settings: &UserspaceSettings,
    shuffle: &Shuffle,
    mut assign: impl FnMut(&SocketKey, IpAddr) -> Option<u16>,
) -> Vec<Wish> {
    let mut wishes = Vec::new();
    for port in plan.ports.iter().filter(|port| port.protocol != Protocol::Sctp) {
        let Some(address) = *settings.addresses.get(port.family) else { continue };
        for list in [List::Cluster, List::Local].into_iter().filter(|list| uses(port, *list)) {
            let key = SocketKey::new(plan, port, list);
            let Some(number) = assign(&key, address) else { continue };
            let Some(socket) = name(plan, port, list, address, number) else { continue };
            wishes.push(Wish {
                socket,
                endpoints: shuffle.of(&key, port.backends(list)),
                keeping: port.serving.clone(),
                affinity: port.affinity.map(|seconds| Duration::from_secs(seconds.into())),
                way: way(port, settings),
            });
        }
    }
    wishes
}

fn way(port: &PortPlan, settings: &UserspaceSettings) -> Way {
    let proxy_header = port.proxy_protocol.map(|version| match version {
        ProxyProtocol::V1 => ProxyHeader::V1,
        ProxyProtocol::V2 => ProxyHeader::V2,
    });
    Way {
        // The address need not be there yet, and not in a sandbox.
        transparent: true,
        // Rules have translated it.
        destination: match port.protocol {
            Protocol::Tcp => Destination::Original,
            Protocol::Udp | Protocol::Sctp => Destination::Listener,
        },
        upstream: Upstream { proxy_header, ..Upstream::default() },
        idle: settings.udp_idle,
    }
}

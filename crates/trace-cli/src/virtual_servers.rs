//! Virtual servers of the kernel's IPVS, or those that a plan asks for.

use std::fs;
use std::net::SocketAddr;

use portolan_netfilter::ipvs::{self, DestinationState, Ipvs, ServerKey, ServerState};
use portolan_netfilter::nft::TableFamily;
use portolan_service::{Family, Protocol};
use portolan_trace::ipvs::{Connections, Destination, Method, Serves, VirtualServer, VirtualServers};

use crate::program::HeldServer;

/// Whether connection tracking sees what IPVS forwards.
const CONNTRACK: &str = "/proc/sys/net/ipv4/vs/conntrack";

/// Those of the kernel in the network namespace of the calling thread; `None` if it has no IPVS.
pub(crate) fn live() -> std::io::Result<Option<VirtualServers>> {
    if !ipvs::is_present() {
        return Ok(None);
    }
    let mut kernel = Ipvs::open()?;
    let mut held = Vec::new();
    for server in kernel.servers()? {
        let destinations = kernel.destinations(&server.key)?;
        held.push((server, destinations));
    }
    let tracked = fs::read_to_string(CONNTRACK).is_ok_and(|text| text.trim() != "0");
    Ok(Some(VirtualServers { tracked, ..of(&held) }))
}

/// `held`, as the tracer has them.
pub(crate) fn of(held: &[HeldServer]) -> VirtualServers {
    let servers = held.iter().filter_map(|(server, destinations)| virtual_server(server, destinations));
    VirtualServers { servers: servers.collect(), ..VirtualServers::default() }
}

/// `None` if it is for a protocol that no Service has.
fn virtual_server(server: &ServerState, destinations: &[DestinationState]) -> Option<VirtualServer> {
    let serves = match server.key {
        ServerKey::Address(key) => {
            let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.number() == key.protocol)?;
            Serves::Address(protocol, SocketAddr::new(key.address, key.port))
        }
        ServerKey::Mark(TableFamily::Ip, mark) => Serves::Mark(Family::V4, mark),
        ServerKey::Mark(TableFamily::Ip6, mark) => Serves::Mark(Family::V6, mark),
    };
    let destination = |held: &DestinationState| Destination {
        address: SocketAddr::new(held.destination.address, held.destination.port),
        method: if held.is_translated { Method::Translated } else { Method::AsTheyAre },
        weight: held.destination.weight,
        limit: 0,
        connections: Some(Connections { active: held.active, inactive: held.inactive }),
    };
    Some(VirtualServer {
        serves,
        scheduler: server.scheduling.scheduler.clone(),
        flags: server.scheduling.flags,
        persistence: server.scheduling.persistence,
        mask: None,
        destinations: destinations.iter().map(destination).collect(),
    })
}

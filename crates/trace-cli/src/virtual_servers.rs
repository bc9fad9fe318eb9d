//! Virtual servers of the kernel's IPVS, or those that a plan asks for.

use std::fs;
use std::net::SocketAddr;

use portolan_netfilter::ipvs::{self, DestinationState, Ipvs, ServerKey, ServerState};
use portolan_netfilter::nft::TableFamily;
use portolan_service::{Family, Protocol};
use portolan_trace::ipvs::{Connections, Destination, Method, Serves, VirtualServer, VirtualServers};

use crate::program::PlannedServer;

/// Whether connection tracking sees what IPVS forwards.
const CONNTRACK: &str = "/proc/sys/net/ipv4/vs/conntrack";

/// Those of the kernel in the network namespace of the calling thread; `None` if it has no IPVS.
pub(crate) fn live() -> std::io::Result<Option<VirtualServers>> {
    if !ipvs::is_present() {
        return Ok(None);
    }
    let mut kernel = Ipvs::open()?;
    let mut servers = Vec::new();
    for server in kernel.servers()? {
        let destinations = kernel.destinations(&server.key)?;
        servers.extend(virtual_server(&server, destinations.iter().map(held).collect()));
    }
    let tracked = fs::read_to_string(CONNTRACK).is_ok_and(|text| text.trim() != "0");
    Ok(Some(VirtualServers { servers, tracked, in_kernel_order: true }))
}

/// Those that a plan asks for. How many connections their destinations will have is not known,
/// nor in which order the kernel will have them.
pub(crate) fn planned(servers: &[PlannedServer]) -> VirtualServers {
    let servers = servers.iter().filter_map(|(server, destinations)| {
        let destination = |to: &ipvs::Destination| destination(to, Method::Translated, None);
        virtual_server(server, destinations.iter().map(destination).collect())
    });
    VirtualServers { servers: servers.collect(), ..VirtualServers::default() }
}

/// `None` if it is for a protocol that no Service has.
fn virtual_server(server: &ServerState, destinations: Vec<Destination>) -> Option<VirtualServer> {
    let serves = match server.key {
        ServerKey::Address(key) => {
            let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.number() == key.protocol)?;
            Serves::Address(protocol, SocketAddr::new(key.address, key.port))
        }
        ServerKey::Mark(TableFamily::Ip, mark) => Serves::Mark(Family::V4, mark),
        ServerKey::Mark(TableFamily::Ip6, mark) => Serves::Mark(Family::V6, mark),
    };
    Some(VirtualServer {
        serves,
        scheduler: server.scheduling.scheduler.clone(),
        flags: server.scheduling.flags,
        persistence: server.scheduling.persistence,
        mask: None,
        destinations,
    })
}

fn held(held: &DestinationState) -> Destination {
    let method = if held.is_translated { Method::Translated } else { Method::AsTheyAre };
    let connections = Connections { active: held.active, inactive: held.inactive };
    destination(&held.destination, method, Some(connections))
}

fn destination(to: &ipvs::Destination, method: Method, connections: Option<Connections>) -> Destination {
    let address = SocketAddr::new(to.address, to.port);
    Destination { address, method, weight: to.weight, limit: 0, connections }
}

#[cfg(test)]
mod tests {
    use portolan_netfilter::ipvs::Scheduling;
    use portolan_trace::{Entry, Node, Packet, Probability, Record, Ruleset, Verdict, evaluate};

    use super::*;

    /// Where nobody has connected yet, no destination has fewer connections than another.
    #[test]
    fn planned_servers_have_shares_by_weight() {
        for scheduler in ["wlc", "sed", "nq"] {
            let destination = |last: u8, weight: u32| ipvs::Destination {
                address: [10, 244, 2, last].into(),
                port: 8080,
                weight,
            };
            let key = ipvs::VirtualServer { protocol: 6, address: [10, 96, 0, 1].into(), port: 80 };
            let server = ServerState {
                key: ServerKey::Address(key),
                scheduling: Scheduling { scheduler: scheduler.to_owned(), flags: 0, persistence: None },
            };
            let mut rules = Ruleset::default();
            rules.add_virtual_servers(&planned(&[(server, vec![destination(1, 3), destination(2, 1)])]));
            let from = ([192, 168, 50, 1], 40_000).into();
            let packet = Packet::new(from, ([10, 96, 0, 1], 80).into(), Protocol::Tcp, Entry::Output);
            let answer = evaluate(&rules, &Node::default(), &packet, Record::Nothing);
            let likely: Vec<_> = answer
                .outcomes
                .iter()
                .map(|outcome| (outcome.verdict, outcome.probability.clone()))
                .collect();
            let expected = [(1, 3), (2, 1)].map(|(last, weight)| {
                let to = ([10, 244, 2, last], 8080).into();
                (Verdict::Forward(to), Probability::ratio(weight, 4))
            });
            assert_eq!(likely, expected, "{scheduler}");
        }
    }
}

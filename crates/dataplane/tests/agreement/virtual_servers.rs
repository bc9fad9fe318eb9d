//! Virtual servers as `ipvsadm -Sn` would print them.

use std::fmt::Write;
use std::net::SocketAddr;

use portolan_netfilter::ipvs::{Destination, REFUSE_NOBODY, ServerKey, ServerState};
use portolan_netfilter::nft::TableFamily;
use portolan_trace::ipvs::VirtualServers;

/// Reads `servers` as the tracer reads those of a node.
pub(crate) fn read(servers: &[(ServerState, Vec<Destination>)]) -> Result<VirtualServers, String> {
    let mut text = String::new();
    for (server, destinations) in servers {
        let (key, scheduling) = (key(&server.key), &server.scheduling);
        let fallback = scheduling.flags & REFUSE_NOBODY != 0;
        let flags = if fallback { format!(" -b {}-fallback", scheduling.scheduler) } else { String::new() };
        let stays = scheduling.persistence.map_or_else(String::new, |seconds| format!(" -p {seconds}"));
        writeln!(text, "-A {key} -s {}{stays}{flags}", scheduling.scheduler).expect("a string");
        for destination in destinations {
            let to = SocketAddr::new(destination.address, destination.port);
            writeln!(text, "-a {key} -r {to} -m -w {}", destination.weight).expect("a string");
        }
    }
    VirtualServers::from_text(&text).map_err(|error| format!("{error}\n{text}"))
}

fn key(key: &ServerKey) -> String {
    match key {
        ServerKey::Mark(TableFamily::Ip, mark) => format!("-f {mark}"),
        ServerKey::Mark(TableFamily::Ip6, mark) => format!("-f {mark} -6"),
        ServerKey::Address(server) => {
            let option = match server.protocol {
                6 => "-t",
                17 => "-u",
                _ => "--sctp-service",
            };
            format!("{option} {}", SocketAddr::new(server.address, server.port))
        }
    }
}

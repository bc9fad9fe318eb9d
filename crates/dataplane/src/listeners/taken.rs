//! Sockets that other programs of the host have, and which programs those are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::{fmt, fs};

use portolan_relay::Protocol;

use super::wish::Wish;

/// `TCP_LISTEN` of include/net/tcp_states.h
const LISTENS: &str = "0A";
/// The name of a process that cannot be seen.
const UNSEEN: &str = "a process that cannot be seen from here";

/// What other programs keep from being listened on, each for people. A port that a process of this
/// program's name has is the running proxy's, and no finding. Opens sockets for a moment, and never
/// takes a connection.
pub(crate) fn taken(wishes: &[Wish]) -> Vec<String> {
    let own = fs::read_to_string("/proc/self/comm").unwrap_or_default();
    taken_beside(own.trim_end(), wishes)
}

/// The same beside processes of this name.
fn taken_beside(own: &str, wishes: &[Wish]) -> Vec<String> {
    let wanted = wishes.iter().filter(|wish| !wish.endpoints.is_empty()).map(|wish| &wish.socket);
    let not_free = wanted.filter(|socket| !portolan_relay::is_free(socket.protocol, socket.address));
    let found = not_free.map(|socket| (socket, owner(socket.protocol, socket.address)));
    let others = found.filter(|(_, owner)| owner.as_ref().is_none_or(|owner| owner.name != own));
    let said = others.map(|(socket, owner)| {
        let who = owner.map_or_else(|| UNSEEN.to_owned(), |owner| owner.to_string());
        format!(
            "{socket}: {who} listens there and keeps the port: end that program, or give the Service another port"
        )
    });
    said.collect()
}

/// A process.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    id: u32,
    name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} (process {})", self.name, self.id)
    }
}

/// Who listens at `address`, as far as `/proc` shows it to this process.
fn owner(protocol: Protocol, address: SocketAddr) -> Option<Process> {
    let table = protocol.name().to_lowercase();
    // A socket of IPv6 may take what is for IPv4.
    let tables = ["", "6"].map(|family| format!("/proc/thread-self/net/{table}{family}"));
    let inodes: Vec<String> = tables
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|text| inodes(&text, protocol, address))
        .collect();
    let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let id = ids.into_iter().find(|id| {
        let open = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().filter_map(Result::ok);
        let mut targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        targets.any(|target| links.iter().any(|link| target.as_os_str() == link.as_str()))
    })?;
    let name = fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
    Some(Process { id, name: name.trim_end().to_owned() })
}

/// The inodes of sockets in a table of the kernel (`/proc/net/tcp` of proc(5)) that `address` goes
/// to.
fn inodes(table: &str, protocol: Protocol, address: SocketAddr) -> Vec<String> {
    let mut found = Vec::new();
    for line in table.lines().skip(1) {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, _, _, _, _, _, inode, ..] = columns[..] else { continue };
        let Some((ip, port)) = local.split_once(':').and_then(|(ip, port)| {
            Some((ip_address(ip)?.to_canonical(), u16::from_str_radix(port, 16).ok()?))
        }) else {
            continue;
        };
        let takes = ip == address.ip() || ip.is_unspecified();
        if takes && port == address.port() && (protocol == Protocol::Udp || state == LISTENS) {
            found.push(inode.to_owned());
        }
    }
    found
}

/// Words of 32 bits in the machine's order, as hexadecimal numbers.
fn ip_address(text: &str) -> Option<IpAddr> {
    let mut octets = Vec::new();
    for word in text.as_bytes().chunks(8) {
        octets.extend(u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?.to_ne_bytes());
    }
    <[u8; 4]>::try_from(&octets[..])
        .map(|octets| Ipv4Addr::from(octets).into())
        .or_else(|_| <[u8; 16]>::try_from(&octets[..]).map(|octets| Ipv6Addr::from(octets).into()))
        .ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::sync::Arc;

    use portolan_service::{List, ObjectName};

    use super::*;
    use crate::listeners::{SocketName, Way};
    use crate::tests::namespace::{loopback_up, run};
    use crate::tests::plans::backends;

    fn wish(protocol: Protocol, address: &str, endpoints: &[&str]) -> Wish {
        Wish {
            socket: SocketName {
                service: ObjectName::new("shop", "web"),
                port: "http".into(),
                protocol,
                address: address.parse().unwrap(),
                list: List::Cluster,
            },
            endpoints: backends(endpoints),
            keeping: Arc::default(),
            affinity: None,
            way: Way::default(),
        }
    }

    #[test]
    fn ports_of_other_programs_are_named() {
        run("listeners::taken::tests::ports_of_other_programs_are_named", || {
            loopback_up();
            let endpoints = ["10.1.0.1:8080"];
            let _listeners = ["127.0.0.1:30080", "0.0.0.0:30081", "[::]:30082", "[::1]:30083"]
                .map(|address| TcpListener::bind(address).unwrap());
            let _socket = UdpSocket::bind("127.0.0.1:30090").unwrap();
            let own = fs::read_to_string("/proc/self/comm").unwrap();
            let ours = format!("{} (process {})", own.trim_end(), std::process::id());
            for (protocol, address, expected) in [
                (Protocol::Tcp, "127.0.0.1:30080", true),
                (Protocol::Tcp, "127.0.0.2:30080", false),
                (Protocol::Tcp, "127.0.0.1:30081", true),
                (Protocol::Tcp, "127.0.0.1:30082", true),
                (Protocol::Tcp, "[::1]:30082", true),
                (Protocol::Tcp, "[::1]:30083", true),
                (Protocol::Tcp, "127.0.0.1:30083", false),
                (Protocol::Tcp, "127.0.0.1:30090", false),
                (Protocol::Udp, "127.0.0.1:30090", true),
                (Protocol::Udp, "127.0.0.1:30080", false),
            ] {
                let wanted = [wish(protocol, address, &endpoints)];
                let found = taken_beside("portolan", &wanted);
                let text = format!(
                    "{address}/{protocol} of Service port shop/web:http: {ours} listens there and keeps the port: end \
                     that program, or give the Service another port"
                );
                assert_eq!(found, if expected { vec![text] } else { Vec::new() }, "{address} {protocol}");
                assert_eq!(taken_beside(own.trim_end(), &wanted), Vec::<String>::new(), "the proxy itself");
                assert_eq!(
                    taken(&[wish(protocol, address, &[])]),
                    Vec::<String>::new(),
                    "no socket is wanted"
                );
            }
        });
    }
}

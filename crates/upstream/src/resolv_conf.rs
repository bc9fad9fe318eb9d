//! Servers that a file of the form of resolv.conf(5) names.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use crate::settings::{Protocol, socket_address};

/// Where systemd-resolved asks. /etc/resolv.conf names only its own address, which programs of this
/// host can reach and no others.
pub(crate) const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
/// Where systemd-resolved answers.
const STUBS: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 53), Ipv4Addr::new(127, 0, 0, 54)];
/// As much of a file is read, octets.
const FILE_MAX: u64 = 1 << 20;

/// The servers that the file at `path` names. In place of systemd-resolved those that `resolved`
/// names, if it is there. Where we answer ourselves (`own`) nobody is asked.
pub(crate) fn servers(path: &Path, resolved: &Path, own: &[SocketAddr]) -> io::Result<Vec<SocketAddr>> {
    let mut servers = parse(&read(path)?);
    if servers.iter().any(is_stub)
        && let Ok(text) = read(resolved)
    {
        let behind = parse(&text);
        servers.retain(|server| !is_stub(server));
        servers.extend(behind.into_iter().filter(|server| !is_stub(server)));
    }
    let mut seen = Vec::new();
    servers.retain(|server| {
        let new = !seen.contains(server) && !own.iter().any(|own| answers_at(own, server));
        seen.push(*server);
        new
    });
    Ok(servers)
}

/// The text of a file, as far as it is text.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut octets = Vec::new();
    fs::File::open(path)?.take(FILE_MAX).read_to_end(&mut octets)?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

/// The addresses of lines `nameserver`. What is no address is left out, as resolvers do.
fn parse(text: &str) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() == Some("nameserver")
            && let Some(word) = words.next()
            && let Some(address) = socket_address(word, Protocol::Plain.port())
        {
            servers.push(address);
        }
    }
    servers
}

fn is_stub(server: &SocketAddr) -> bool {
    matches!(server.ip(), IpAddr::V4(address) if STUBS.contains(&address))
}

/// Whether who listens at `own` gets what is sent to `server`, as far as the addresses show.
fn answers_at(own: &SocketAddr, server: &SocketAddr) -> bool {
    let (own_ip, ip) = (own.ip().to_canonical(), server.ip().to_canonical());
    own.port() == server.port() && (own_ip == ip || own_ip.is_unspecified() && ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_files() {
        let folder = tempfile::tempdir().unwrap();
        let resolved = folder.path().join("resolved");
        fs::write(&resolved, "nameserver 192.0.2.2\nnameserver 127.0.0.54\n").unwrap();
        let absent = folder.path().join("absent");
        let everywhere: SocketAddr = "[::]:53".parse().unwrap();
        let here: SocketAddr = "192.0.2.9:53".parse().unwrap();
        for (name, text, resolved, own, expected) in [
            ("one", "nameserver 192.0.2.1", &resolved, here, &["192.0.2.1:53"][..]),
            ("IPv6", "nameserver 2001:db8::1", &resolved, here, &["[2001:db8::1]:53"]),
            ("IPv6 with an interface", "nameserver fe80::1%1", &resolved, here, &["[fe80::1%1]:53"]),
            ("comments, options", "# x\n;y\noptions ndots:5\nsearch a\n", &resolved, here, &[]),
            ("twice", "nameserver 192.0.2.1\nnameserver 192.0.2.1", &resolved, here, &["192.0.2.1:53"]),
            (
                "no address",
                "nameserver\nnameserver x\nnameserver 192.0.2.1 # x",
                &resolved,
                here,
                &["192.0.2.1:53"],
            ),
            ("systemd-resolved", "nameserver 127.0.0.53", &resolved, here, &["192.0.2.2:53"]),
            ("its file is absent", "nameserver 127.0.0.53", &absent, here, &["127.0.0.53:53"]),
            ("that is where we are", "nameserver 127.0.0.53", &absent, everywhere, &[]),
            ("our own", "nameserver 192.0.2.9\nnameserver 192.0.2.1", &absent, here, &["192.0.2.1:53"]),
        ] {
            let path = folder.path().join("resolv.conf");
            fs::write(&path, text).unwrap();
            let servers = servers(&path, resolved, &[own]).unwrap();
            let expected: Vec<SocketAddr> = expected.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(servers, expected, "{name}");
        }
        assert!(servers(&absent, &absent, &[]).is_err());
    }
}

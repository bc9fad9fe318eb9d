//! Servers as settings name them.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::str::FromStr;

/// The IPv6 addresses of this network namespace, with their interfaces.
const INTERFACES: &str = "/proc/net/if_inet6";

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A server.
    Server {
        /// Where it is.
        address: SocketAddr,
        /// How it is spoken to.
        protocol: Protocol,
    },
    /// Those that a file of the form of resolv.conf(5) names, as it changes.
    ResolvConf(PathBuf),
}

/// How a server is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// Datagrams, and connections for what they cannot hold.
    Plain,
    /// TLS (RFC 7858), with the name that its certificate must have if that is not given for all.
    Tls(Option<String>),
}

impl Protocol {
    /// The port that it has by default.
    pub fn port(&self) -> u16 {
        match self {
            Protocol::Plain => 53,
            Protocol::Tls(_) => 853,
        }
    }
}

/// A server that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no server: give an address, perhaps with dns:// or tls:// and a port, or an absolute path")]
pub struct BadTarget(String);

impl FromStr for Target {
    type Err = BadTarget;

    /// `192.0.2.1`, `192.0.2.1:5353`, `[2001:db8::1]:53`, `fe80::1%eth0`, each perhaps with
    /// `dns://` or `tls://` before it, `tls://192.0.2.1%dns.example`, or the absolute path of a
    /// file.
    fn from_str(text: &str) -> Result<Target, BadTarget> {
        let bad = || BadTarget(text.to_owned());
        if text.starts_with('/') {
            return Ok(Target::ResolvConf(PathBuf::from(text)));
        }
        if let Some(rest) = text.strip_prefix("tls://") {
            let (address, name) = match rest.split_once('%') {
                Some((address, name)) if !name.is_empty() => (address, Some(name)),
                Some(_) => return Err(bad()),
                None => (rest, None),
            };
            // The name may have the port behind it: tls://192.0.2.1%dns.example:853.
            let (name, port) = match name.and_then(|name| name.split_once(':')) {
                Some((name, port)) => (Some(name), Some(port.parse().map_err(|_| bad())?)),
                None => (name, None),
            };
            let protocol = Protocol::Tls(name.map(str::to_owned));
            let address = socket_address(address, port.unwrap_or(protocol.port())).ok_or_else(bad)?;
            return Ok(Target::Server { address, protocol });
        }
        let address = text.strip_prefix("dns://").unwrap_or(text);
        let address = socket_address(address, Protocol::Plain.port()).ok_or_else(bad)?;
        Ok(Target::Server { address, protocol: Protocol::Plain })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Server { address, protocol: Protocol::Plain } => write!(f, "dns://{address}"),
            Target::Server { address, protocol: Protocol::Tls(None) } => write!(f, "tls://{address}"),
            Target::Server { address, protocol: Protocol::Tls(Some(name)) } => {
                write!(f, "tls://{address} ({name})")
            }
            Target::ResolvConf(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The address that `text` spells, with the interface of an IPv6 address perhaps (RFC 4007 §11).
pub(crate) fn socket_address(text: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, port));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address);
    }
    let (text, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']')? {
            (inside, "") => (inside, port),
            (inside, after) => (inside, after.strip_prefix(':')?.parse().ok()?),
        },
        None => (text, port),
    };
    let (address, scope) = match text.split_once('%') {
        Some((address, scope)) => (address, scope_id(scope)?),
        None => (text, 0),
    };
    let address: Ipv6Addr = address.parse().ok()?;
    Some(SocketAddr::V6(SocketAddrV6::new(address, port, 0, scope)))
}

/// The number of an interface, given by number or name.
fn scope_id(scope: &str) -> Option<u32> {
    scope.parse().ok().or_else(|| interface(&fs::read_to_string(INTERFACES).ok()?, scope))
}

/// The number of the interface `name` in what [`INTERFACES`] says: address, number, length of the
/// prefix, scope and flags, each in hexadecimal digits, and the name.
fn interface(text: &str, name: &str) -> Option<u32> {
    let number = text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let number = words.nth(1)?;
        (words.nth(3) == Some(name)).then_some(number)
    });
    u32::from_str_radix(number?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_from_text() {
        for (text, expected) in [
            ("192.0.2.1", Some("dns://192.0.2.1:53")),
            ("192.0.2.1:5353", Some("dns://192.0.2.1:5353")),
            ("dns://192.0.2.1", Some("dns://192.0.2.1:53")),
            ("2001:db8::1", Some("dns://[2001:db8::1]:53")),
            ("[2001:db8::1]", Some("dns://[2001:db8::1]:53")),
            ("[2001:db8::1]:54", Some("dns://[2001:db8::1]:54")),
            ("fe80::1%7", Some("dns://[fe80::1%7]:53")),
            ("[fe80::1%7]:54", Some("dns://[fe80::1%7]:54")),
            ("fe80::1%no-such-interface", None),
            ("tls://192.0.2.1", Some("tls://192.0.2.1:853")),
            ("tls://192.0.2.1:8853", Some("tls://192.0.2.1:8853")),
            ("tls://192.0.2.1%dns.example", Some("tls://192.0.2.1:853 (dns.example)")),
            ("tls://192.0.2.1%dns.example:8853", Some("tls://192.0.2.1:8853 (dns.example)")),
            ("tls://192.0.2.1%", None),
            ("/etc/resolv.conf", Some("/etc/resolv.conf")),
            ("resolv.conf", None),
            ("https://192.0.2.1", None),
            ("192.0.2.1:99999", None),
            ("[2001:db8::1]x", None),
            ("", None),
        ] {
            let target = text.parse::<Target>();
            assert_eq!(target.ok().map(|target| target.to_string()).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn numbers_of_interfaces() {
        let text = "00000000000000000000000000000001 01 80 10 80       lo\n\
                    fe80000000000000025056fffe000001 1f 40 20 80    eth0\n";
        assert_eq!(interface(text, "eth0"), Some(31));
        assert_eq!(interface(text, "lo"), Some(1));
        assert_eq!(interface(text, "eth1"), None);
        assert_eq!(interface("cut off", "off"), None);
    }
}

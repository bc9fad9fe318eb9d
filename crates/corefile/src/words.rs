//! Words that several plugins have: places to listen, networks, rcodes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

/// Where a server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Listen {
    /// `None`: on all addresses.
    pub address: Option<IpAddr>,
    /// The port; 0 is any.
    pub port: u16,
}

impl Listen {
    /// On all addresses.
    pub(crate) const fn everywhere(port: u16) -> Listen {
        Listen { address: None, port }
    }

    /// `:9153`, `localhost:9153`, `[::1]:9153`. The error is for people.
    pub(crate) fn parse(text: &str) -> Result<Listen, String> {
        let wrong = || format!("{text:?} is no address to listen on: write :PORT or ADDRESS:PORT");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let address = match host {
            "" => None,
            "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            host => {
                let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
                let address = match bare {
                    Some(bare) => bare.parse().ok().map(IpAddr::V6),
                    None => host.parse().ok().map(IpAddr::V4),
                };
                Some(address.ok_or_else(wrong)?)
            }
        };
        Ok(Listen { address, port })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => SocketAddr::new(address, self.port).fmt(f),
            None => write!(f, ":{}", self.port),
        }
    }
}

/// `10.0.0.0/8`, or an address that stands for itself.
pub(crate) fn network(text: &str) -> Option<IpNet> {
    let network: Option<IpNet> = text.parse().ok();
    network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)).map(|network| network.trunc())
}

/// The number of an rcode (RFC 6895 §2.3), whatever its case.
pub(crate) fn rcode(text: &str) -> Option<u16> {
    const NAMES: [(&str, u16); 18] = [
        ("NOERROR", 0),
        ("FORMERR", 1),
        ("SERVFAIL", 2),
        ("NXDOMAIN", 3),
        ("NOTIMP", 4),
        ("REFUSED", 5),
        ("YXDOMAIN", 6),
        ("YXRRSET", 7),
        ("NXRRSET", 8),
        ("NOTAUTH", 9),
        ("NOTZONE", 10),
        ("BADVERS", 16),
        ("BADSIG", 16),
        ("BADKEY", 17),
        ("BADTIME", 18),
        ("BADMODE", 19),
        ("BADNAME", 20),
        ("BADCOOKIE", 23),
    ];
    NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, code)| *code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_to_listen() {
        for (text, expected) in [
            (":9153", Some((None, 9153))),
            ("localhost:9153", Some((Some("127.0.0.1"), 9153))),
            ("192.0.2.1:0", Some((Some("192.0.2.1"), 0))),
            ("[::1]:80", Some((Some("::1"), 80))),
            ("::1:80", None),
            ("9153", None),
            ("example.org:80", None),
            (":http", None),
            (":65536", None),
        ] {
            let expected = expected.map(|(address, port)| Listen {
                address: address.map(|address: &str| address.parse().unwrap()),
                port,
            });
            assert_eq!(Listen::parse(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn codes() {
        assert_eq!(rcode("nxdomain"), Some(3));
        assert_eq!(rcode("NOPE"), None);
    }
}

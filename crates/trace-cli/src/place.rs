//! Places that packets come from and go to, as people write them.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use portolan_service::Family;

/// Where a packet comes from or is sent to, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// An address.
    Address(IpAddr, Option<u16>),
    /// A pod.
    Pod { namespace: String, name: String, port: Option<u16> },
    /// A Service, and the name or number of one of its ports.
    Service { namespace: String, name: String, port: Option<String> },
    /// `svc/NAME`, `service/NAME` or `pod/NAME`: in the namespace `default`, unless the first word
    /// is the namespace of such a Service.
    Short { first: String, name: String, port: Option<String> },
    /// A name alone, as DNS has it, and a port: where it leads, a lookup says.
    Bare { name: String, port: Option<String> },
    /// The node whose rules are asked.
    Node(Option<u16>),
    /// The same, by its loopback address.
    Localhost(Option<u16>),
    /// A machine that is neither a node nor a pod.
    Outside,
}

/// What can be given.
pub(crate) const PLACES: &str = "give an address, ADDRESS:PORT ([ADDRESS]:PORT for IPv6), pod/NAMESPACE/NAME, \
     svc/NAMESPACE/NAME:PORT, node, localhost or outside";

impl Place {
    /// The family that it must be in, if there is but one.
    pub(crate) fn family(&self) -> Option<Family> {
        match self {
            Place::Address(address, _) => Some(Family::of(*address)),
            _ => None,
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        if let Ok(SocketAddr::V6(v6)) = text.parse()
            && v6.scope_id() != 0
        {
            return Err("scopes of link-local addresses are not used: leave out what follows %".to_owned());
        }
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Place::Address(socket.ip(), Some(port(socket.port())?)));
        }
        if let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Ok(Place::Address(address, None));
        }
        let (path, after) = match text.split_once(':') {
            Some((path, after)) => (path, Some(after)),
            None => (text, None),
        };
        let number = || after.map(port_number).transpose();
        let segments: Vec<&str> = path.split('/').collect();
        let place = match segments[..] {
            ["outside"] if after.is_none() => Place::Outside,
            ["outside"] => {
                return Err("outside has no port: write an address if the port matters".to_owned());
            }
            ["node"] => Place::Node(number()?),
            ["localhost"] => Place::Localhost(number()?),
            ["pod", namespace, name] => {
                Place::Pod { namespace: object_name(namespace)?, name: object_name(name)?, port: number()? }
            }
            [first @ ("svc" | "service" | "pod"), name] => {
                if first == "pod" {
                    number()?;
                }
                let port = after.filter(|port| !port.is_empty()).map(str::to_owned);
                Place::Short { first: first.to_owned(), name: object_name(name)?, port }
            }
            [name] if object_name(name).is_ok() && name.contains(|c: char| c.is_ascii_lowercase()) => {
                Place::Bare {
                    name: name.to_owned(),
                    port: after.filter(|port| !port.is_empty()).map(str::to_owned),
                }
            }
            ["svc" | "service", namespace, name] | [namespace, name] => Place::Service {
                namespace: object_name(namespace)?,
                name: object_name(name)?,
                port: after.filter(|port| !port.is_empty()).map(str::to_owned),
            },
            _ => {
                return Err(format!("is no place: {PLACES}"));
            }
        };
        Ok(place)
    }
}

fn port(port: u16) -> Result<u16, String> {
    if port == 0 { Err("port 0 is none: give one from 1 to 65535".to_owned()) } else { Ok(port) }
}

fn port_number(text: &str) -> Result<u16, String> {
    let number = text.parse().map_err(|_| format!("{text:?} is not the number of a port, 1 to 65535"))?;
    port(number)
}

/// Names as the API has them: a name with a wrong character is refused as such, not as an object
/// that is missing.
fn object_name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    if text.is_empty() || text.len() > 253 || !text.bytes().all(fits) {
        return Err(format!(
            "{text:?} is no name of an object: those are of lower-case letters, digits, `-` and `.`"
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let service = |namespace: &str, name: &str, port: Option<&str>| Place::Service {
            namespace: namespace.into(),
            name: name.into(),
            port: port.map(Into::into),
        };
        let short = |first: &str, name: &str, port: Option<&str>| Place::Short {
            first: first.into(),
            name: name.into(),
            port: port.map(Into::into),
        };
        let pod = |name: &str, port| Place::Pod { namespace: "shop".into(), name: name.into(), port };
        for (text, expected) in [
            ("10.96.0.1", Place::Address(address("10.96.0.1"), None)),
            ("10.96.0.1:80", Place::Address(address("10.96.0.1"), Some(80))),
            ("fd00::1", Place::Address(address("fd00::1"), None)),
            ("[fd00::1]", Place::Address(address("fd00::1"), None)),
            ("[fd00::1]:80", Place::Address(address("fd00::1"), Some(80))),
            ("pod/shop/cart-0", pod("cart-0", None)),
            ("pod/shop/cart-0:8080", pod("cart-0", Some(8080))),
            ("svc/shop/web:http", service("shop", "web", Some("http"))),
            ("service/shop/web:80", service("shop", "web", Some("80"))),
            ("shop/web:http", service("shop", "web", Some("http"))),
            ("shop/web", service("shop", "web", None)),
            ("shop/web:", service("shop", "web", None)),
            ("svc/web:http", short("svc", "web", Some("http"))),
            ("service/web", short("service", "web", None)),
            ("pod/web-1:80", short("pod", "web-1", Some("80"))),
            ("web", Place::Bare { name: "web".into(), port: None }),
            ("web.shop.svc.z.:80", Place::Bare { name: "web.shop.svc.z.".into(), port: Some("80".into()) }),
            ("node", Place::Node(None)),
            ("node:30080", Place::Node(Some(30080))),
            ("localhost:30080", Place::Localhost(Some(30080))),
            ("outside", Place::Outside),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused_with_a_remedy() {
        for (text, part) in [
            ("", "is no place"),
            ("no where", "is no place"),
            ("pod/web-1:http", "is not the number of a port"),
            ("10", "is no place"),
            ("a/b/c/d", "is no place"),
            ("10.96.0.1:0", "port 0"),
            ("10.96.0.1:99999", "is no place"),
            ("node:http", "is not the number of a port"),
            ("node:0", "port 0"),
            ("outside:80", "outside has no port"),
            ("pod/shop/Cart", "is no name of an object"),
            ("pod/shop/", "is no name of an object"),
            ("shop/web\u{1b}[31m", "is no name of an object"),
            ("[fe80::1%3]:80", "scopes"),
        ] {
            let refused = text.parse::<Place>().unwrap_err();
            assert!(refused.contains(part), "{text:?}: {refused}");
            assert!(!refused.contains('\u{1b}'), "{text:?}: {refused:?}");
        }
    }
}

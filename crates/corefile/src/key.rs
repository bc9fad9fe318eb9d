//! What a server block is for: a domain and a port.

use crate::domain::domains;
use crate::problem::{Complaints, Place};
use crate::token::Token;

/// A domain that a server block answers for on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Where it is written.
    pub place: Place,
    /// In lower case, without the dot at the end; the root is `.`.
    pub domain: String,
    /// The port.
    pub port: u16,
}

/// Protocols that clients may speak to CoreDNS, and not here.
const OTHER_PROTOCOLS: [(&str, &str); 6] = [
    ("tls", "DNS over TLS"),
    ("https", "DNS over HTTPS"),
    ("https3", "DNS over HTTP/3"),
    ("grpc", "DNS over gRPC"),
    ("quic", "DNS over QUIC"),
    ("unix", "DNS over a Unix socket"),
];

/// The zones that `key` stands for: `.:53`, `dns://example.org`, `10.0.0.0/8:5353`.
pub(crate) fn zones(key: &Token, default_port: u16, complaints: &mut Complaints<'_>) -> Vec<Zone> {
    let text = key.text.as_str();
    let rest = match text.split_once("://") {
        Some(("dns", rest)) => rest,
        Some((protocol, _)) => {
            let other = OTHER_PROTOCOLS.iter().find(|(name, _)| *name == protocol);
            let message = match other {
                Some((_, what)) => format!(
                    "{text}: {what} for clients is not had: delete this server block, or have clients ask by UDP and TCP"
                ),
                None => format!("{text}: {protocol} is no protocol: write dns:// or nothing"),
            };
            complaints.error(&key.place, message);
            return Vec::new();
        }
        None => text,
    };
    let (host, port) = match split_port(rest, default_port) {
        Ok(parts) => parts,
        Err(message) => {
            complaints.error(&key.place, format!("{text}: {message}"));
            return Vec::new();
        }
    };
    match domains(host) {
        Ok(domains) => {
            let zone = |domain| Zone { place: key.place.clone(), domain, port };
            domains.into_iter().map(zone).collect()
        }
        Err(message) => {
            complaints.error(&key.place, format!("server block: {message}"));
            Vec::new()
        }
    }
}

/// Splits a port off, if there is one: digits after the last colon.
fn split_port(text: &str, default: u16) -> Result<(&str, u16), String> {
    let Some((host, port)) = text.rsplit_once(':') else { return Ok((text, default)) };
    if port.is_empty() {
        return Err("a port should follow the colon: add it, or delete the colon".to_owned());
    }
    if !port.bytes().all(|octet| octet.is_ascii_digit()) {
        return Ok((text, default));
    }
    match port.parse() {
        Ok(port) if port > 0 => Ok((host, port)),
        _ => Err(format!("{port} is no port: give one from 1 to 65535")),
    }
}

//! What an endpoint is called below its Service's name (spec §1).

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portolan_service::{Endpoint, EndpointNames, Target};

use crate::wire::LABEL_MAX;

/// As long as an address can be as text.
const TEXT_MAX: usize = 48;

/// The name of an endpoint.
pub(crate) enum EndpointName<'e> {
    Given(&'e str),
    /// The address, as text that may be part of a name.
    Address(Text),
}

/// A short text on the stack.
#[derive(Clone, Copy)]
pub(crate) struct Text {
    octets: [u8; TEXT_MAX],
    length: usize,
}

impl<'e> EndpointName<'e> {
    /// Of an endpoint with this address.
    pub(crate) fn of(names: &'e EndpointNames, address: IpAddr, pod_names: bool) -> EndpointName<'e> {
        given(names, pod_names).map_or_else(|| EndpointName::Address(dashed(address)), EndpointName::Given)
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            EndpointName::Given(name) => name,
            EndpointName::Address(text) => text.as_str(),
        }
    }
}

/// The hostname or, with `pod_names`, the pod's name if it fits a label.
pub(crate) fn given(names: &EndpointNames, pod_names: bool) -> Option<&str> {
    names.hostname().or_else(|| names.pod().filter(|pod| pod_names && pod.len() <= LABEL_MAX))
}

/// A label, in lower case, to be compared with names of endpoints.
pub(crate) struct Called<'q> {
    label: &'q [u8],
    /// The address that it spells, if an endpoint of that address can be called so.
    address: Option<IpAddr>,
}

impl<'q> Called<'q> {
    pub(crate) fn new(label: &'q [u8]) -> Called<'q> {
        let address = address_of_label(label);
        let address = address.filter(|address| dashed(*address).as_str().as_bytes() == label);
        Called { label, address }
    }

    /// Whether the endpoint is called so.
    pub(crate) fn is_of(&self, endpoint: &Endpoint, pod_names: bool) -> bool {
        match given(&endpoint.names, pod_names) {
            Some(name) => name.as_bytes().eq_ignore_ascii_case(self.label),
            None => self.address == Some(endpoint.address),
        }
    }

    /// Whether an endpoint of an EndpointSlice of type FQDN is called so.
    pub(crate) fn is_of_target(&self, target: &Target, pod_names: bool) -> bool {
        if let Some(name) = given(&target.names, pod_names) {
            return name.as_bytes().eq_ignore_ascii_case(self.label);
        }
        let dashed = target.target.bytes().map(|octet| if octet == b'.' { b'-' } else { octet });
        dashed.map(|octet| octet.to_ascii_lowercase()).eq(self.label.iter().copied())
    }
}

/// `address` with `-` for `.` and `:`, and a `0` at the end if that would be `-`.
fn dashed(address: IpAddr) -> Text {
    let mut text = Text { octets: [0; TEXT_MAX], length: 0 };
    // It has room for the longest address.
    let _ = write!(text, "{address}");
    for octet in &mut text.octets[..text.length] {
        if matches!(*octet, b'.' | b':') {
            *octet = b'-';
        }
    }
    if text.as_str().ends_with('-') {
        let _ = text.write_str("0");
    }
    text
}

/// The address that a label spells with dashes: IPv4 if it has three, and no two in a row.
pub(crate) fn address_of_label(label: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(label).ok()?;
    let v4 = text.bytes().filter(|octet| *octet == b'-').count() == 3 && !text.contains("--");
    let mut spelled = [0; 64];
    for (at, octet) in label.iter().enumerate() {
        spelled[at] = match octet {
            b'-' if v4 => b'.',
            b'-' => b':',
            // Dots within a label, or what else only addresses have, come from nobody's pod.
            b'.' | b':' => return None,
            other => *other,
        };
    }
    let spelled = str::from_utf8(&spelled[..label.len()]).ok()?;
    if v4 {
        spelled.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
    } else {
        spelled.parse::<Ipv6Addr>().ok().map(|address| IpAddr::V6(address).to_canonical())
    }
}

impl Text {
    fn as_str(&self) -> &str {
        str::from_utf8(&self.octets[..self.length]).unwrap_or_default()
    }
}

impl Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let end = self.length + part.len();
        self.octets.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(part.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_labels() {
        for (label, expected) in [
            ("10-1-2-3", Some("10.1.2.3")),
            ("fd00-10--1", Some("fd00:10::1")),
            ("1-2-3-4-5-6-7-8", Some("1:2:3:4:5:6:7:8")),
            ("--1", Some("::1")),
            ("10-01-2-3", None),
            ("10-1-2-256", None),
            ("10-1-2", None),
            ("web", None),
            ("10.1.2.3", None),
        ] {
            let expected: Option<IpAddr> = expected.map(|text| text.parse().unwrap());
            assert_eq!(address_of_label(label.as_bytes()), expected, "{label}");
        }
    }

    #[test]
    fn names_of_endpoints() {
        let long = "p".repeat(64);
        for (name, hostname, pod, address, pod_names, expected) in [
            ("hostname first", Some("db-0"), Some("pod"), "10.1.2.3", true, "db-0"),
            ("then the pod, if asked", None, Some("pod"), "10.1.2.3", true, "pod"),
            ("the pod, if not", None, Some("pod"), "10.1.2.3", false, "10-1-2-3"),
            ("a pod's name of 64 characters", None, Some(&*long), "10.1.2.3", true, "10-1-2-3"),
            ("IPv6", None, None, "fd00:10::1", false, "fd00-10--1"),
            ("IPv6 with zeros at the end", None, None, "fd00:10::", false, "fd00-10--0"),
        ] {
            let names = EndpointNames::new(hostname, pod);
            let found = EndpointName::of(&names, address.parse().unwrap(), pod_names);
            assert_eq!(found.as_str(), expected, "{name}");
        }
    }
}

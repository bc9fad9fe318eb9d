//! Addresses that mean something else than a Service wherever they are used.

use std::fmt;
use std::net::IpAddr;

/// What an address is that no Service can have: what the API server refuses in `spec.externalIPs`
/// (`ValidateNonSpecialIP` in Kubernetes' `pkg/apis/core/validation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// 0.0.0.0 or ::
    Unspecified,
    /// 127.0.0.0/8 or ::1
    Loopback,
    /// 169.254.0.0/16 or fe80::/10
    LinkLocal,
    /// 224.0.0.0/24 or ff02::/16, whatever its flags
    LinkLocalMulticast,
}

impl Special {
    /// What `address` is, if it is special. An IPv4 address within IPv6 is taken for what it stands
    /// for.
    pub fn of(address: IpAddr) -> Option<Special> {
        let address = address.to_canonical();
        let (link_local, multicast) = match address {
            IpAddr::V4(v4) => (v4.is_link_local(), matches!(v4.octets(), [224, 0, 0, _])),
            IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
        };
        match address {
            _ if address.is_unspecified() => Some(Special::Unspecified),
            _ if address.is_loopback() => Some(Special::Loopback),
            _ if link_local => Some(Special::LinkLocal),
            _ if multicast => Some(Special::LinkLocalMulticast),
            _ => None,
        }
    }
}

impl fmt::Display for Special {
    /// `a loopback address`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Special::Unspecified => "the unspecified address",
            Special::Loopback => "a loopback address",
            Special::LinkLocal => "a link-local address",
            Special::LinkLocalMulticast => "a link-local multicast address",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_those_of_the_api_server() {
        let table = [
            ("0.0.0.0", Some(Special::Unspecified)),
            ("::", Some(Special::Unspecified)),
            ("127.0.0.1", Some(Special::Loopback)),
            ("127.255.255.254", Some(Special::Loopback)),
            ("::1", Some(Special::Loopback)),
            ("::ffff:127.0.0.1", Some(Special::Loopback)),
            ("169.254.169.254", Some(Special::LinkLocal)),
            ("fe80::1", Some(Special::LinkLocal)),
            ("febf::1", Some(Special::LinkLocal)),
            ("224.0.0.5", Some(Special::LinkLocalMulticast)),
            ("ff02::1", Some(Special::LinkLocalMulticast)),
            ("ff12::1", Some(Special::LinkLocalMulticast)),
            ("0.0.0.1", None),
            ("10.96.0.1", None),
            ("126.255.255.255", None),
            ("128.0.0.1", None),
            ("169.253.0.1", None),
            ("224.0.1.1", None),
            ("239.1.1.1", None),
            ("255.255.255.255", None),
            ("::2", None),
            ("fec0::1", None),
            ("fd00::1", None),
            ("ff05::1", None),
        ];
        for (text, expected) in table {
            let address: IpAddr = text.parse().expect("an address");
            assert_eq!(Special::of(address), expected, "{text}");
        }
    }
}

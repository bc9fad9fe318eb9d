//! Domains, and networks in place of the domains of their reverse names.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use portolan_names::wire::Name;

/// `text` as a domain: in lower case, without the dot at the end; the root is `.`. The error is for
/// people.
pub(crate) fn domain(text: &str) -> Result<String, String> {
    if text == "." {
        return Ok(text.to_owned());
    }
    if !text.is_ascii() {
        return Err(format!("{text:?} is no domain name: write letters beyond ASCII in Punycode (xn--...)"));
    }
    if text.contains('\\') || Name::parse(text).is_none() {
        return Err(format!(
            "{text:?} is no domain name: give labels of 1 to 63 characters with dots between them"
        ));
    }
    Ok(text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase())
}

/// `text` as a domain, or as the domains of the reverse names of a network: `10.0.0.0/8` is
/// `10.in-addr.arpa`. A network whose length is within a label has several.
pub(crate) fn domains(text: &str) -> Result<Vec<String>, String> {
    match text.parse::<IpNet>() {
        Ok(network) => Ok(reverse(network.trunc())),
        Err(_) => domain(text).map(|domain| vec![domain]),
    }
}

fn reverse(network: IpNet) -> Vec<String> {
    // Whole labels: 8 bits of an IPv4 address, 4 of an IPv6 address.
    let (step, labels) = match network {
        IpNet::V4(_) => (8, "in-addr.arpa"),
        IpNet::V6(_) => (4, "ip6.arpa"),
    };
    let length = network.prefix_len().div_ceil(step) * step;
    // Neither fails: the length is at most the address's, and not below the network's.
    let parts: Vec<IpNet> = match network {
        IpNet::V4(network) => network.subnets(length).into_iter().flatten().map(IpNet::from).collect(),
        IpNet::V6(network) => network.subnets(length).into_iter().flatten().map(IpNet::from).collect(),
    };
    let name = |part: &IpNet| {
        let mut name = labels.to_owned();
        match part {
            IpNet::V4(part) => {
                octets(part, length).for_each(|octet| name.insert_str(0, &format!("{octet}.")));
            }
            IpNet::V6(part) => {
                nibbles(part, length).for_each(|nibble| name.insert_str(0, &format!("{nibble:x}.")));
            }
        }
        name
    };
    parts.iter().map(name).collect()
}

fn octets(network: &Ipv4Net, length: u8) -> impl Iterator<Item = u8> {
    network.network().octets().into_iter().take(usize::from(length / 8))
}

fn nibbles(network: &Ipv6Net, length: u8) -> impl Iterator<Item = u8> {
    let nibbles = network.network().octets().into_iter().flat_map(|octet| [octet >> 4, octet & 15]);
    nibbles.take(usize::from(length / 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_read() {
        let long = "a".repeat(64);
        for (text, expected) in [
            (".", Some(&["."][..])),
            ("Cluster.Local.", Some(&["cluster.local"])),
            ("10.0.0.0/8", Some(&["10.in-addr.arpa"])),
            ("10.1.2.3/8", Some(&["10.in-addr.arpa"])),
            ("192.0.2.0/24", Some(&["2.0.192.in-addr.arpa"])),
            ("192.0.2.7/32", Some(&["7.2.0.192.in-addr.arpa"])),
            ("0.0.0.0/0", Some(&["in-addr.arpa"])),
            ("10.96.0.0/15", Some(&["96.10.in-addr.arpa", "97.10.in-addr.arpa"])),
            ("fd00::/8", Some(&["d.f.ip6.arpa"])),
            ("2001:db8::/31", Some(&["8.b.d.0.1.0.0.2.ip6.arpa", "9.b.d.0.1.0.0.2.ip6.arpa"])),
            ("0/26.2.0.192.in-addr.arpa", Some(&["0/26.2.0.192.in-addr.arpa"])),
            ("_tcp.example", Some(&["_tcp.example"])),
            ("", None),
            ("a..b", None),
            (&long, None),
            ("b\u{fc}cher.example", None),
            ("a\\.b", None),
        ] {
            assert_eq!(
                domains(text).ok().as_deref(),
                expected.map(|list| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>()).as_deref(),
                "{text}"
            );
        }
    }
}

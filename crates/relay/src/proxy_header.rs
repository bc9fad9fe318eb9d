//! The PROXY protocol: who the client is, before its first byte.
//! (<https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt>, sections 2.1 and 2.2)

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::listener::ProxyHeader;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, a connection for somebody else.
const PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// The header of a TCP connection from `client` to `destination`. At most 104 octets, which go into
/// one segment.
pub(crate) fn encode(header: ProxyHeader, client: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    match header {
        ProxyHeader::V1 => line(client, destination).into_bytes(),
        ProxyHeader::V2 => binary(client, destination),
    }
}

fn line(client: SocketAddr, destination: SocketAddr) -> String {
    let (protocol, from, to) = match (client.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ("TCP4", from.to_string(), to.to_string()),
        (from, to) => ("TCP6", hexadecimal(from), hexadecimal(to)),
    };
    format!("PROXY {protocol} {from} {to} {} {}\r\n", client.port(), destination.port())
}

/// In groups of hexadecimal digits only, where others write an IPv4 address with dots.
fn hexadecimal(address: IpAddr) -> String {
    let address = as_ipv6(address);
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => format!("::ffff:{high:x}:{low:x}"),
        _ => address.to_string(),
    }
}

fn binary(client: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.push(PROXY);
    match (client.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.extend([TCP_OVER_IPV4, 0, 12]);
            header.extend(from.octets());
            header.extend(to.octets());
        }
        (from, to) => {
            header.extend([TCP_OVER_IPV6, 0, 36]);
            header.extend(as_ipv6(from).octets());
            header.extend(as_ipv6(to).octets());
        }
    }
    header.extend(client.port().to_be_bytes());
    header.extend(destination.port().to_be_bytes());
    header
}

fn as_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_as_specified() {
        let head = |family, length| [&SIGNATURE[..], &[0x21, family, 0, length]].concat();
        for (client, destination, line, binary) in [
            (
                "10.0.0.9:4660",
                "10.96.0.1:80",
                "PROXY TCP4 10.0.0.9 10.96.0.1 4660 80\r\n",
                [&head(0x11, 12)[..], &[10, 0, 0, 9, 10, 96, 0, 1, 0x12, 0x34, 0, 80]].concat(),
            ),
            (
                "[::1]:1",
                "[fd00::2]:65535",
                "PROXY TCP6 ::1 fd00::2 1 65535\r\n",
                [&head(0x21, 36)[..], &[0; 15], &[1, 0xfd], &[0; 14], &[2], &[0, 1, 255, 255]].concat(),
            ),
            (
                "[::ffff:10.0.0.9]:1",
                "[::ffff:10.0.0.1]:2",
                "PROXY TCP4 10.0.0.9 10.0.0.1 1 2\r\n",
                [&head(0x11, 12)[..], &[10, 0, 0, 9, 10, 0, 0, 1, 0, 1, 0, 2]].concat(),
            ),
            (
                "[::ffff:10.0.0.9]:1",
                "[::2]:2",
                "PROXY TCP6 ::ffff:a00:9 ::2 1 2\r\n",
                [&head(0x21, 36)[..], &[0; 10], &[255, 255, 10, 0, 0, 9], &[0; 15], &[2], &[0, 1, 0, 2]]
                    .concat(),
            ),
        ] {
            let [client, destination] = [client, destination].map(|text| text.parse().unwrap());
            let found = String::from_utf8(encode(ProxyHeader::V1, client, destination)).unwrap();
            assert_eq!(found, line, "{client} to {destination}");
            assert_eq!(encode(ProxyHeader::V2, client, destination), binary, "{client} to {destination}");
        }
    }

    #[test]
    fn the_longest_line_is_as_long_as_receivers_must_take() {
        for (address, length) in [("255.255.255.255", 56), ("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]", 104)]
        {
            let address = format!("{address}:65535").parse().unwrap();
            assert_eq!(encode(ProxyHeader::V1, address, address).len(), length);
        }
    }
}

//! The PROXY protocol, version 2: who the client is, before its first byte.
//! (<https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt>, section 2.2)

use std::net::{IpAddr, SocketAddr};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, a connection for somebody else.
const PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// The header of a TCP connection from `client` to `destination`.
pub(crate) fn encode(client: SocketAddr, destination: SocketAddr) -> Vec<u8> {
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
            header.extend(as_ipv6(from));
            header.extend(as_ipv6(to));
        }
    }
    header.extend(client.port().to_be_bytes());
    header.extend(destination.port().to_be_bytes());
    header
}

fn as_ipv6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_as_specified() {
        let head = |family, length| [&SIGNATURE[..], &[0x21, family, 0, length]].concat();
        for (client, destination, expected) in [
            (
                "10.0.0.9:4660",
                "10.96.0.1:80",
                [&head(0x11, 12)[..], &[10, 0, 0, 9, 10, 96, 0, 1, 0x12, 0x34, 0, 80]].concat(),
            ),
            (
                "[::1]:1",
                "[::2]:2",
                [&head(0x21, 36)[..], &[0; 15], &[1], &[0; 15], &[2], &[0, 1, 0, 2]].concat(),
            ),
            (
                "[::ffff:10.0.0.9]:1",
                "[::2]:2",
                [&head(0x21, 36)[..], &[0; 10], &[255, 255, 10, 0, 0, 9], &[0; 15], &[2], &[0, 1, 0, 2]]
                    .concat(),
            ),
        ] {
            let found = encode(client.parse().unwrap(), destination.parse().unwrap());
            assert_eq!(found, expected, "{client} to {destination}");
        }
    }
}

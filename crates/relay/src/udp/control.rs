//! Control messages of datagrams (cmsg(3)): the address that a datagram came to, and that several
//! of one length are joined (udp(7): UDP_GRO, UDP_SEGMENT).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Room for an address of IPv6 and a length.
pub(super) const ROOM: usize = 64;
/// A length, a level and a type come before the data.
const HEAD: usize = size_of::<usize>() + 8;

/// Control messages, aligned as `cmsghdr`.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control(pub(super) [u8; ROOM]);

/// An address of this host's, from which an answer must leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Local {
    pub(super) address: IpAddr,
    /// For link-local addresses, which each interface has.
    interface: u32,
}

/// What the control messages of a datagram say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Said {
    pub(super) local: Option<Local>,
    /// How long each of the joined datagrams is; the last may be shorter.
    pub(super) segment: Option<usize>,
}

impl Control {
    pub(super) fn new() -> Control {
        Control([0; ROOM])
    }

    /// Reads the first `length` octets.
    pub(super) fn read(&self, length: usize) -> Said {
        let mut said = Said::default();
        let mut left = &self.0[..length.min(ROOM)];
        while let Some((head, rest)) = left.split_at_checked(HEAD) {
            let (size, kind) = head.split_at(size_of::<usize>());
            let size = usize::from_ne_bytes(size.try_into().unwrap_or_default());
            let (level, kind) = (number(&kind[..4]), number(&kind[4..]));
            let Some(data) = size.checked_sub(HEAD).and_then(|size| rest.get(..size)) else { break };
            match (level, kind) {
                // `in_pktinfo`: interface, local address, destination.
                (libc::IPPROTO_IP, libc::IP_PKTINFO) if data.len() >= 12 => {
                    let address: [u8; 4] = data[8..12].try_into().unwrap_or_default();
                    said.local = Some(Local { address: Ipv4Addr::from(address).into(), interface: 0 });
                }
                // `in6_pktinfo`: address, interface.
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if data.len() >= 20 => {
                    let address: [u8; 16] = data[..16].try_into().unwrap_or_default();
                    let address = Ipv6Addr::from(address);
                    let interface = u32::try_from(number(&data[16..20])).unwrap_or(0);
                    let interface = if address.is_unicast_link_local() { interface } else { 0 };
                    said.local = Some(Local { address: address.into(), interface });
                }
                (libc::SOL_UDP, libc::UDP_GRO) if data.len() >= 4 => {
                    said.segment = usize::try_from(number(&data[..4])).ok().filter(|size| *size > 0);
                }
                _ => {}
            }
            left = rest.get(aligned(data.len())..).unwrap_or_default();
        }
        said
    }

    /// Writes what is to be said of a datagram that is sent. Returns the length.
    pub(super) fn write(&mut self, local: Option<Local>, segment: Option<u16>) -> usize {
        let mut at = 0;
        match local {
            None => {}
            Some(Local { address: IpAddr::V4(address), .. }) => {
                let mut data = [0; 12];
                // `ipi_spec_dst`, which becomes the source.
                data[4..8].copy_from_slice(&address.octets());
                self.put(&mut at, libc::IPPROTO_IP, libc::IP_PKTINFO, &data);
            }
            Some(Local { address: IpAddr::V6(address), interface }) => {
                let mut data = [0; 20];
                data[..16].copy_from_slice(&address.octets());
                data[16..].copy_from_slice(&interface.to_ne_bytes());
                self.put(&mut at, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data);
            }
        }
        if let Some(segment) = segment {
            self.put(&mut at, libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
        }
        at
    }

    fn put(&mut self, at: &mut usize, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        let size = HEAD + data.len();
        let mut message = [0; ROOM];
        message[..size_of::<usize>()].copy_from_slice(&size.to_ne_bytes());
        message[size_of::<usize>()..][..4].copy_from_slice(&level.to_ne_bytes());
        message[size_of::<usize>() + 4..HEAD].copy_from_slice(&kind.to_ne_bytes());
        message[HEAD..size].copy_from_slice(data);
        let whole = aligned(size);
        self.0[*at..*at + whole].copy_from_slice(&message[..whole]);
        *at += whole;
    }
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(size_of::<usize>())
}

fn number(octets: &[u8]) -> i32 {
    i32::from_ne_bytes(octets.try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As the kernel writes it when something comes.
    fn received(address: IpAddr, segment: Option<i32>) -> (Control, usize) {
        let (mut control, mut at) = (Control::new(), 0);
        match address {
            IpAddr::V4(address) => {
                let data = [&[7, 0, 0, 0, 0, 0, 0, 0], &address.octets()[..]].concat();
                control.put(&mut at, libc::IPPROTO_IP, libc::IP_PKTINFO, &data);
            }
            IpAddr::V6(address) => {
                let data = [&address.octets()[..], &7i32.to_ne_bytes()].concat();
                control.put(&mut at, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data);
            }
        }
        if let Some(segment) = segment {
            control.put(&mut at, libc::SOL_UDP, libc::UDP_GRO, &segment.to_ne_bytes());
        }
        (control, at)
    }

    #[test]
    fn what_the_kernel_says_is_understood() {
        for (name, address, segment, interface) in [
            ("IPv4", "10.0.0.1", None, 0),
            ("IPv4, joined", "10.0.0.1", Some(1200), 0),
            ("IPv6", "fd00::1", Some(1), 0),
            ("link-local", "fe80::1", Some(1400), 7),
        ] {
            let address = address.parse().unwrap();
            let (control, length) = received(address, segment);
            let expected = Said {
                local: Some(Local { address, interface }),
                segment: segment.map(|size| usize::try_from(size).unwrap()),
            };
            assert_eq!(control.read(length), expected, "{name}");
        }
        assert_eq!(Control::new().read(0), Said::default());
    }

    #[test]
    fn what_is_sent_fits() {
        let local = Local { address: "fe80::1".parse().unwrap(), interface: 3 };
        assert_eq!(Control::new().write(Some(local), Some(1400)), ROOM);
        assert_eq!(Control::new().write(None, None), 0);
    }

    proptest! {
        #[test]
        fn nonsense_is_no_danger(octets in prop::collection::vec(any::<u8>(), ROOM), length in 0usize..100) {
            let control = Control(octets.try_into().unwrap());
            control.read(length);
        }
    }
}

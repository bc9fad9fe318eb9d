//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use portolan_netlink::rtnetlink::HardwareAddress;

use crate::ethernet::{BROADCAST, Frame, Kind};

/// Ethernet, IPv4, and the lengths of their addresses: how each packet begins.
const BEGIN: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// Length of a packet, bytes
const LENGTH: usize = 28;

const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// A request or a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arp {
    /// It asks who has `target`.
    pub(crate) request: bool,
    /// Who sends it. 0.0.0.0 asks whether the address is free (RFC 5227).
    pub(crate) sender: (HardwareAddress, Ipv4Addr),
    /// Whom it is about, or for.
    pub(crate) target: (HardwareAddress, Ipv4Addr),
}

impl Arp {
    /// Reads a packet. `None`: it is too short, or neither request nor reply for IPv4.
    pub(crate) fn parse(packet: &[u8]) -> Option<Arp> {
        let packet = packet.first_chunk::<LENGTH>()?;
        let rest = packet.strip_prefix(&BEGIN)?;
        let request = match u16::from_be_bytes([rest[0], rest[1]]) {
            REQUEST => true,
            REPLY => false,
            _ => return None,
        };
        let party = |at: usize| -> Option<(HardwareAddress, Ipv4Addr)> {
            let address: [u8; 4] = *rest[at + 6..].first_chunk()?;
            Some((*rest[at..].first_chunk()?, address.into()))
        };
        Some(Arp { request, sender: party(2)?, target: party(12)? })
    }

    fn frame(self, destination: HardwareAddress) -> Frame {
        let mut packet = Vec::with_capacity(LENGTH);
        packet.extend(BEGIN);
        packet.extend((if self.request { REQUEST } else { REPLY }).to_be_bytes());
        for (hardware, address) in [self.sender, self.target] {
            packet.extend(hardware);
            packet.extend(address.octets());
        }
        Frame::new(destination, self.sender.0, Kind::Arp, &packet)
    }

    /// The answer that `address` is at `hardware`.
    pub(crate) fn answer(self, address: Ipv4Addr, hardware: HardwareAddress) -> Frame {
        let answer = Arp { request: false, sender: (hardware, address), target: self.sender };
        answer.frame(self.sender.0)
    }
}

/// What everybody may learn unasked: `address` is at `hardware` (RFC 5227 §3). Some take it from a
/// request only, some from a reply only.
pub(crate) fn unsolicited(address: Ipv4Addr, hardware: HardwareAddress) -> [Frame; 2] {
    [true, false].map(|request| {
        let other = if request { [0; 6] } else { BROADCAST };
        Arp { request, sender: (hardware, address), target: (other, address) }.frame(BROADCAST)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ethernet::Received;

    const HARDWARE: HardwareAddress = [2, 0, 0, 0, 0, 9];

    #[test]
    fn a_request_is_answered() {
        // As tcpdump shows a request of 192.0.2.1 for 192.0.2.7.
        let request =
            [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 7];
        let request = Arp::parse(&request).unwrap();
        let address = Ipv4Addr::new(192, 0, 2, 7);
        assert_eq!((request.request, request.target.1), (true, address));
        let frame = request.answer(address, HARDWARE);
        assert_eq!(frame.bytes[..6], [2, 0, 0, 0, 0, 1], "to who asked");
        let answer = Arp::parse(Received::parse(&frame.bytes).unwrap().packet).unwrap();
        assert_eq!(answer, Arp { request: false, sender: (HARDWARE, address), target: request.sender });
    }

    #[test]
    fn an_announcement_is_about_its_sender() {
        let address = Ipv4Addr::new(192, 0, 2, 7);
        for (frame, request) in unsolicited(address, HARDWARE).iter().zip([true, false]) {
            let packet = Arp::parse(Received::parse(&frame.bytes).unwrap().packet).unwrap();
            assert_eq!((packet.request, packet.sender), (request, (HARDWARE, address)));
            assert_eq!(packet.target.1, address);
        }
    }

    proptest! {
        #[test]
        fn no_packet_makes_it_panic(packet: Vec<u8>) {
            let _ = Arp::parse(&packet);
        }
    }
}

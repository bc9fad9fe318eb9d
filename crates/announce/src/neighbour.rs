//! Neighbour Discovery for IPv6 over Ethernet (RFC 4861): solicitations and advertisements.

use std::net::Ipv6Addr;

use portolan_netlink::rtnetlink::HardwareAddress;

use crate::ethernet::{Frame, Kind};

/// Length of an IPv6 header, bytes
const HEADER: usize = 40;
/// Length of a solicitation or advertisement without options, bytes
const MESSAGE: usize = 24;
/// Next header: ICMPv6
const ICMP: u8 = 58;
/// What arrives with this hop limit has passed no router (§7.1).
const HOP_LIMIT: u8 = 255;

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

const SOURCE_HARDWARE: u8 = 1;
const TARGET_HARDWARE: u8 = 2;

// Flags of an advertisement
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A message that is about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Neighbour {
    /// Who has `target`?
    Solicitation {
        /// Who asks. `::` asks whether the address is free (RFC 4862).
        source: Ipv6Addr,
        target: Ipv6Addr,
        /// The hardware address of who asks, if it says so.
        hardware: Option<HardwareAddress>,
    },
    /// Somebody has `target`.
    Advertisement { target: Ipv6Addr },
}

impl Neighbour {
    /// Reads an IPv6 packet. `None`: it is another one, or fails the checks of §7.1.
    pub(crate) fn parse(packet: &[u8]) -> Option<Neighbour> {
        let (header, rest) = packet.split_first_chunk::<HEADER>()?;
        if header[0] >> 4 != 6 || header[6] != ICMP || header[7] != HOP_LIMIT {
            return None;
        }
        let message = rest.get(..usize::from(u16::from_be_bytes([header[4], header[5]])))?;
        let (source, destination) = (address(&header[8..])?, address(&header[24..])?);
        let start = message.first_chunk::<MESSAGE>()?;
        // The checksum over a message with its right checksum is 0.
        if start[1] != 0 || checksum(source, destination, message) != 0 {
            return None;
        }
        let target = address(&start[8..])?;
        if target.is_multicast() {
            return None;
        }
        match start[0] {
            SOLICITATION => {
                let hardware = option(&message[MESSAGE..], SOURCE_HARDWARE).ok()?;
                let probe = source.is_unspecified();
                if probe && (hardware.is_some() || destination != solicited_node(target)) {
                    return None;
                }
                Some(Neighbour::Solicitation { source, target, hardware })
            }
            ADVERTISEMENT => {
                option(&message[MESSAGE..], TARGET_HARDWARE).ok()?;
                Some(Neighbour::Advertisement { target })
            }
            _ => None,
        }
    }
}

/// The group that solicitations for an address are sent to (RFC 4291 §2.7.1).
pub(crate) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low)
}

/// The answer to a solicitation by `source`, whose hardware address is `asker`.
pub(crate) fn answer(
    source: Ipv6Addr,
    asker: HardwareAddress,
    target: Ipv6Addr,
    hardware: HardwareAddress,
) -> Frame {
    if source.is_unspecified() {
        return unsolicited(target, hardware);
    }
    advertisement(asker, source, SOLICITED | OVERRIDE, target, hardware)
}

/// What everybody may learn unasked: `target` is at `hardware` (§7.2.6).
pub(crate) fn unsolicited(target: Ipv6Addr, hardware: HardwareAddress) -> Frame {
    advertisement([0x33, 0x33, 0, 0, 0, 1], ALL_NODES, OVERRIDE, target, hardware)
}

fn advertisement(
    to: HardwareAddress,
    destination: Ipv6Addr,
    flags: u8,
    target: Ipv6Addr,
    hardware: HardwareAddress,
) -> Frame {
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target.octets());
    message.extend([TARGET_HARDWARE, 1]);
    message.extend(hardware);
    let sum = checksum(target, destination, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes());
    packet.extend([ICMP, HOP_LIMIT]);
    packet.extend(target.octets());
    packet.extend(destination.octets());
    packet.extend(message);
    Frame::new(to, hardware, Kind::Ipv6, &packet)
}

fn address(bytes: &[u8]) -> Option<Ipv6Addr> {
    bytes.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets))
}

/// Options that cannot be read.
#[derive(Debug)]
struct Malformed;

/// The hardware address in the option `wanted`, if it is there.
fn option(mut options: &[u8], wanted: u8) -> Result<Option<HardwareAddress>, Malformed> {
    let mut found = None;
    while let [kind, length, ..] = *options {
        let split = options.split_at_checked(usize::from(length) * 8);
        let (option, rest) = split.filter(|_| length > 0).ok_or(Malformed)?;
        if kind == wanted {
            found = option[2..].first_chunk().copied();
        }
        options = rest;
    }
    Ok(found)
}

/// The checksum of an ICMPv6 message (RFC 4443 §2.3).
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u32 {
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from)).sum()
    };
    let length = u32::try_from(message.len()).unwrap_or(0);
    let mut sum = words(&source.octets()) + words(&destination.octets()) + length + u32::from(ICMP);
    // At most 65,535 bytes: no overflow.
    sum += words(message);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ethernet::Received;

    const HARDWARE: HardwareAddress = [2, 0, 0, 0, 0, 9];

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    /// A solicitation as Linux sends it.
    fn solicitation(source: Ipv6Addr, target: Ipv6Addr, hardware: Option<HardwareAddress>) -> Vec<u8> {
        let destination = solicited_node(target);
        let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
        message.extend(target.octets());
        if let Some(hardware) = hardware {
            message.extend([SOURCE_HARDWARE, 1]);
            message.extend(hardware);
        }
        let sum = checksum(source, destination, &message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut packet = vec![0x60, 0, 0, 0, 0, u8::try_from(message.len()).unwrap(), ICMP, HOP_LIMIT];
        packet.extend(source.octets());
        packet.extend(destination.octets());
        packet.extend(message);
        packet
    }

    #[test]
    fn groups_of_addresses() {
        assert_eq!(solicited_node(v6("2001:db8::12:3456")), v6("ff02::1:ff12:3456"));
    }

    #[test]
    fn solicitations_are_read() {
        let (source, target) = (v6("2001:db8::1"), v6("2001:db8::7"));
        for (source, hardware) in [(source, Some(HARDWARE)), (source, None), (v6("::"), None)] {
            let packet = solicitation(source, target, hardware);
            let expected = Neighbour::Solicitation { source, target, hardware };
            assert_eq!(Neighbour::parse(&packet), Some(expected));
            for (place, why) in [(7, "hop limit"), (41, "code"), (42, "checksum"), (6, "next header")] {
                let mut wrong = packet.clone();
                wrong[place] ^= 1;
                assert_eq!(Neighbour::parse(&wrong), None, "{why}");
            }
        }
        // Who has no address has no hardware address to name (RFC 4861 §7.1.1).
        assert_eq!(Neighbour::parse(&solicitation(v6("::"), target, Some(HARDWARE))), None);
    }

    #[test]
    fn answers_are_advertisements() {
        let (source, target) = (v6("2001:db8::1"), v6("2001:db8::7"));
        let frame = answer(source, [2, 0, 0, 0, 0, 1], target, HARDWARE);
        assert_eq!(frame.bytes[..6], [2, 0, 0, 0, 0, 1]);
        let packet = Received::parse(&frame.bytes).unwrap().packet;
        assert_eq!(Neighbour::parse(packet), Some(Neighbour::Advertisement { target }));
        assert_eq!(address(&packet[24..]), Some(source));
        assert_eq!(packet[HEADER + 4], SOLICITED | OVERRIDE);

        // Who asks whether the address is free has none that an answer could be sent to.
        let frame = answer(v6("::"), [2, 0, 0, 0, 0, 1], target, HARDWARE);
        assert_eq!(frame, unsolicited(target, HARDWARE));
        let packet = Received::parse(&frame.bytes).unwrap().packet;
        assert_eq!(address(&packet[24..]), Some(ALL_NODES));
    }

    proptest! {
        #[test]
        fn no_packet_makes_it_panic(packet: Vec<u8>, options: Vec<u8>) {
            let _ = Neighbour::parse(&packet);
            let _ = option(&options, SOURCE_HARDWARE);
        }
    }
}

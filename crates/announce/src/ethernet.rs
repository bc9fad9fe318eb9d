//! Ethernet frames: what is before the packet.

use portolan_netlink::rtnetlink::HardwareAddress;

/// To everybody on the link.
pub(crate) const BROADCAST: HardwareAddress = [0xff; 6];

/// What a frame carries (IEEE 802 numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// ARP, RFC 826
    Arp = 0x0806,
    /// IPv6, RFC 2464
    Ipv6 = 0x86dd,
    /// IEEE 802 Local Experimental EtherType 1, for heartbeats. Routers do not forward it.
    Heartbeat = 0x88b5,
}

/// Length of the header, bytes
const HEADER: usize = 14;
/// The shortest frame without its check sequence, bytes. Some receivers drop shorter ones.
const SHORTEST: usize = 60;

/// A frame that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received<'a> {
    pub(crate) source: HardwareAddress,
    pub(crate) kind: Kind,
    /// The packet. Short ones have padding behind them.
    pub(crate) packet: &'a [u8],
}

impl<'a> Received<'a> {
    /// Reads a frame from its beginning. `None`: it is too short, or carries something else.
    pub(crate) fn parse(frame: &'a [u8]) -> Option<Received<'a>> {
        let (header, packet) = frame.split_first_chunk::<HEADER>()?;
        let source = *header[6..12].first_chunk()?;
        let kind = match u16::from_be_bytes([header[12], header[13]]) {
            number if number == Kind::Arp as u16 => Kind::Arp,
            number if number == Kind::Ipv6 as u16 => Kind::Ipv6,
            number if number == Kind::Heartbeat as u16 => Kind::Heartbeat,
            _ => return None,
        };
        Some(Received { source, kind, packet })
    }
}

/// A frame that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) bytes: Vec<u8>,
}

impl Frame {
    /// The frame of `packet`, as long as frames have to be.
    pub(crate) fn new(
        destination: HardwareAddress,
        source: HardwareAddress,
        kind: Kind,
        packet: &[u8],
    ) -> Frame {
        let mut bytes = Vec::with_capacity(SHORTEST.max(HEADER + packet.len()));
        bytes.extend(destination);
        bytes.extend(source);
        bytes.extend((kind as u16).to_be_bytes());
        bytes.extend(packet);
        bytes.resize(bytes.len().max(SHORTEST), 0);
        Frame { kind, bytes }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_sent_can_be_read() {
        let one = [2, 0, 0, 0, 0, 1];
        for kind in [Kind::Arp, Kind::Ipv6, Kind::Heartbeat] {
            let frame = Frame::new(BROADCAST, one, kind, b"packet");
            assert_eq!(frame.bytes.len(), SHORTEST);
            let received = Received::parse(&frame.bytes).unwrap();
            assert_eq!((received.source, received.kind), (one, kind));
            assert!(received.packet.starts_with(b"packet\0"));
        }
    }

    proptest! {
        #[test]
        fn no_frame_makes_it_panic(frame: Vec<u8>) {
            let _ = Received::parse(&frame);
        }
    }
}

//! What nodes send each other, several times a second, so that each knows who is there.
//!
//! ```text
//!  0       4   5     6     7     8            16         24       28       32
//! ├───────┼───┼─────┼─────┼─────┼────────────┼──────────┼────────┼────────┼──────┼─────┤
//! │"PTLN" │ 1 │flags│ len │  0  │incarnation │ sequence │ stale  │ fresh  │ name │ tag │
//! └───────┴───┴─────┴─────┴─────┴────────────┴──────────┴────────┴────────┴──────┴─────┘
//! ```
//!
//! Numbers are big-endian. `len` is that of the name, and the tag 16 bytes of HMAC-SHA-256 over all
//! before it and the hardware address that it is sent from.

use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use portolan_netlink::rtnetlink::HardwareAddress;
use sha2::Sha256;

use crate::ethernet::{Frame, Kind};

/// Where heartbeats are sent: a group that nobody assigns.
pub(crate) const GROUP: HardwareAddress = [0x03, 0x50, 0x54, 0x4c, 0x4e, 0x01];

const BEGIN: [u8; 5] = *b"PTLN\x01";
/// Length of what is before the name, bytes
const HEADER: usize = 32;
const TAG: usize = 16;

const WILLING: u8 = 1;

/// What the nodes of one cluster have in common, and nobody else.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// The shortest secret that is accepted, bytes
    pub const SHORTEST: usize = 16;

    /// The key of a secret. `None` if it is shorter than [`Key::SHORTEST`].
    pub fn new(secret: &[u8]) -> Option<Key> {
        let long = secret.len() >= Key::SHORTEST;
        long.then(|| Hmac::new_from_slice(secret).ok().map(Key)).flatten()
    }

    fn mac(&self, source: HardwareAddress, message: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(&source);
        mac.update(message);
        mac
    }
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heartbeat {
    /// The node's name, at most 255 bytes
    pub(crate) node: Arc<str>,
    /// It can take addresses: it is ready, its rules are in force, nobody has excluded it.
    pub(crate) willing: bool,
    /// Rises with each start of the program.
    pub(crate) incarnation: u64,
    /// Rises with each heartbeat.
    pub(crate) sequence: u64,
    /// For so long it has not heard from the API server; zero while it does.
    pub(crate) stale: Duration,
    /// For so long it has heard from it without a break.
    pub(crate) fresh: Duration,
}

impl Heartbeat {
    /// The frame to send from `source`.
    pub(crate) fn frame(&self, key: &Key, source: HardwareAddress) -> Frame {
        let name = self.node.as_bytes();
        let name = &name[..name.len().min(255)];
        let mut packet = Vec::with_capacity(HEADER + name.len() + TAG);
        packet.extend(BEGIN);
        packet.push(if self.willing { WILLING } else { 0 });
        packet.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        packet.push(0);
        packet.extend(self.incarnation.to_be_bytes());
        packet.extend(self.sequence.to_be_bytes());
        for time in [self.stale, self.fresh] {
            packet.extend(u32::try_from(time.as_millis()).unwrap_or(u32::MAX).to_be_bytes());
        }
        packet.extend(name);
        let tag = key.mac(source, &packet).finalize().into_bytes();
        packet.extend(&tag[..TAG]);
        Frame::new(GROUP, source, Kind::Heartbeat, &packet)
    }

    /// Reads what was received from `source`. `None`: it is none of this key.
    pub(crate) fn parse(key: &Key, source: HardwareAddress, packet: &[u8]) -> Option<Heartbeat> {
        let (header, rest) = packet.split_first_chunk::<HEADER>()?;
        if !header.starts_with(&BEGIN) {
            return None;
        }
        let (name, rest) = rest.split_at_checked(usize::from(header[6]))?;
        let tag = rest.first_chunk::<TAG>()?;
        key.mac(source, &packet[..HEADER + name.len()]).verify_truncated_left(tag).ok()?;
        let number = |at: usize| header[at..].first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        let time = |at: usize| {
            let bytes = header[at..].first_chunk()?;
            Some(Duration::from_millis(u32::from_be_bytes(*bytes).into()))
        };
        Some(Heartbeat {
            node: std::str::from_utf8(name).ok()?.into(),
            willing: header[5] & WILLING != 0,
            incarnation: number(8)?,
            sequence: number(16)?,
            stale: time(24)?,
            fresh: time(28)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ethernet::Received;

    const SOURCE: HardwareAddress = [2, 0, 0, 0, 0, 9];

    fn heartbeat() -> Heartbeat {
        Heartbeat {
            node: "node-1".into(),
            willing: true,
            incarnation: 7,
            sequence: 9,
            stale: Duration::ZERO,
            fresh: Duration::from_secs(90),
        }
    }

    fn key(secret: &str) -> Key {
        Key::new(secret.as_bytes()).unwrap()
    }

    #[test]
    fn who_has_the_key_reads_it() {
        let ours = key("0123456789abcdef");
        let frame = heartbeat().frame(&ours, SOURCE);
        let packet = Received::parse(&frame.bytes).unwrap().packet;
        assert_eq!(Heartbeat::parse(&ours, SOURCE, packet), Some(heartbeat()));
        assert_eq!(Heartbeat::parse(&key("fedcba9876543210"), SOURCE, packet), None, "another cluster");
        assert_eq!(Heartbeat::parse(&ours, [2, 0, 0, 0, 0, 8], packet), None, "from elsewhere");
        for place in 0..HEADER + "node-1".len() + TAG {
            let mut changed = packet.to_vec();
            changed[place] ^= 1;
            assert_eq!(Heartbeat::parse(&ours, SOURCE, &changed), None, "byte {place}");
        }
    }

    #[test]
    fn short_secrets_are_refused() {
        assert!(Key::new(&[1; Key::SHORTEST - 1]).is_none());
        assert!(Key::new(&[1; Key::SHORTEST]).is_some());
    }

    proptest! {
        #[test]
        fn no_packet_makes_it_panic(packet: Vec<u8>) {
            let mut begun = BEGIN.to_vec();
            begun.extend(&packet);
            let key = key("0123456789abcdef");
            prop_assert_eq!(Heartbeat::parse(&key, SOURCE, &packet), None);
            prop_assert_eq!(Heartbeat::parse(&key, SOURCE, &begun), None);
        }
    }
}

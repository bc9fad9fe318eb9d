//! Messages and attributes (linux/netlink.h, linux/netfilter/nfnetlink.h).
//!
//! Both are length-prefixed and aligned to four bytes. Lengths, types and flags of the framing are
//! in host byte order. What rtnetlink and generic netlink put into attributes is in host byte order
//! too; what netfilter puts there is in network byte order, apart from register contents.

use std::net::IpAddr;

/// Length of `struct nlmsghdr`, bytes.
pub const HEADER_LEN: usize = 16;
/// Length of `struct nlattr`, bytes.
pub const ATTRIBUTE_HEADER_LEN: usize = 4;
/// Length of `struct nfgenmsg`, bytes.
pub const NFGENMSG_LEN: usize = 4;
/// The longest attribute, header included: its length is a 16-bit number.
pub const ATTRIBUTE_MAX: usize = u16::MAX as usize;

/// `NLA_F_NESTED`: the attribute contains attributes.
const NESTED: u16 = 1 << 15;
/// `NLA_TYPE_MASK`
const TYPE_MASK: u16 = !(0b11 << 14);

/// The next multiple of four (`NLMSG_ALIGN`, `NLA_ALIGN`).
pub const fn align(len: usize) -> usize {
    len.saturating_add(3) & !3
}

/// An attribute or message that is being written; to be given back to the [`Writer`] that opened
/// it.
#[derive(Debug)]
#[must_use]
pub struct Open(usize);

/// Writes messages one after the other into one buffer.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    oversized: bool,
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// What was written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What was written, to be patched.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Length of what was written, bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Starts over; keeps the buffer.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.oversized = false;
    }

    /// Something written did not fit its length field; what was written must not be sent.
    pub fn is_oversized(&self) -> bool {
        self.oversized
    }

    /// Appends bytes as they are, to start a buffer whose front is filled in later.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Opens a message of type `kind` with the `struct nfgenmsg` that all of netfilter's messages
    /// begin with. `flags` are `NLM_F_*`; `resource` is the `res_id`.
    pub fn message(&mut self, kind: u16, flags: u16, sequence: u32, family: u8, resource: u16) -> Open {
        let [high, low] = resource.to_be_bytes();
        self.message_with(kind, flags, sequence, &[family, 0, high, low])
    }

    /// Opens a message of type `kind` that begins with `header`, such as the `struct ifinfomsg` of
    /// a link.
    pub fn message_with(&mut self, kind: u16, flags: u16, sequence: u32, header: &[u8]) -> Open {
        let start = self.bytes.len();
        let mut head = [0; HEADER_LEN];
        head[4..6].copy_from_slice(&kind.to_ne_bytes());
        head[6..8].copy_from_slice(&flags.to_ne_bytes());
        head[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(header);
        self.bytes.resize(align(self.bytes.len()), 0);
        Open(start)
    }

    /// Closes a message.
    pub fn end_message(&mut self, Open(start): Open) {
        let length = self.bytes.len().saturating_sub(start);
        match (u32::try_from(length), self.bytes.get_mut(start..start + 4)) {
            (Ok(length), Some(field)) => field.copy_from_slice(&length.to_ne_bytes()),
            _ => self.oversized = true,
        }
    }

    /// Opens an attribute that contains attributes.
    pub fn nest(&mut self, kind: u16) -> Open {
        let start = self.bytes.len();
        let [low, high] = (kind | NESTED).to_ne_bytes();
        self.bytes.extend_from_slice(&[0, 0, low, high]);
        Open(start)
    }

    /// Closes an attribute that contains attributes.
    pub fn end_nest(&mut self, Open(start): Open) {
        let length = self.bytes.len().saturating_sub(start);
        match (u16::try_from(length), self.bytes.get_mut(start..start + 2)) {
            (Ok(length), Some(field)) => field.copy_from_slice(&length.to_ne_bytes()),
            _ => self.oversized = true,
        }
    }

    /// How long the open attribute or message is so far, bytes.
    pub fn length_of(&self, open: &Open) -> usize {
        self.bytes.len().saturating_sub(open.0)
    }

    /// Appends an attribute with `payload`.
    pub fn attribute(&mut self, kind: u16, payload: &[u8]) {
        self.parts(kind, payload, &[]);
    }

    /// Appends a string and its NUL.
    pub fn string(&mut self, kind: u16, text: &str) {
        self.parts(kind, text.as_bytes(), &[0]);
    }

    /// Appends one byte.
    pub fn u8(&mut self, kind: u16, value: u8) {
        self.attribute(kind, &[value]);
    }

    /// Appends a 16-bit number in network byte order.
    pub fn be16(&mut self, kind: u16, value: u16) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// Appends a 32-bit number in network byte order.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// Appends a 64-bit number in network byte order.
    pub fn be64(&mut self, kind: u16, value: u64) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// Appends a 16-bit number in host byte order.
    pub fn ne16(&mut self, kind: u16, value: u16) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// Appends a 32-bit number in host byte order.
    pub fn ne32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// Appends an address: 4 or 16 bytes in network byte order.
    pub fn address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.attribute(kind, &address.octets()),
            IpAddr::V6(address) => self.attribute(kind, &address.octets()),
        }
    }

    fn parts(&mut self, kind: u16, head: &[u8], tail: &[u8]) {
        let length = ATTRIBUTE_HEADER_LEN + head.len() + tail.len();
        let Ok(field) = u16::try_from(length) else {
            self.oversized = true;
            return;
        };
        let [length_low, length_high] = field.to_ne_bytes();
        let [kind_low, kind_high] = kind.to_ne_bytes();
        self.bytes.extend_from_slice(&[length_low, length_high, kind_low, kind_high]);
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(tail);
        self.bytes.extend_from_slice(&[0; 3][..align(length) - length]);
    }
}

/// A message as received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// `nlmsg_type`
    pub kind: u16,
    /// `nlmsg_flags`
    pub flags: u16,
    /// `nlmsg_seq`
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The `nfgen_family` and the attributes of a netfilter message; `None` if it is too short to
    /// be one.
    pub fn netfilter(&self) -> Option<(u8, Attributes<'a>)> {
        let (head, attributes) = self.payload.split_at_checked(NFGENMSG_LEN)?;
        Some((*head.first()?, Attributes::new(attributes)))
    }
}

/// What claims to be a message is shorter than its header, or longer than what was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("netlink message of {claimed} bytes in a datagram with {available} bytes left")]
pub struct Malformed {
    /// The length that the message claims, bytes.
    pub claimed: usize,
    /// What was left of the datagram, bytes.
    pub available: usize,
}

/// The messages of a datagram. Ends after the first malformed one.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// Iterates over `datagram`.
    pub fn new(datagram: &'a [u8]) -> Messages<'a> {
        Messages { rest: datagram }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let available = self.rest.len();
        let claimed = self.rest.first_chunk().map_or(0, |length| u32::from_ne_bytes(*length) as usize);
        let bytes = self.rest.get(..claimed).and_then(|bytes| bytes.split_first_chunk::<HEADER_LEN>());
        let Some((header, payload)) = bytes else {
            self.rest = &[];
            return Some(Err(Malformed { claimed, available }));
        };
        self.rest = self.rest.get(align(claimed)..).unwrap_or(&[]);
        let [_, _, _, _, kind0, kind1, flags0, flags1, s0, s1, s2, s3, ..] = *header;
        Some(Ok(Message {
            kind: u16::from_ne_bytes([kind0, kind1]),
            flags: u16::from_ne_bytes([flags0, flags1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            payload,
        }))
    }
}

/// An attribute as received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// `nla_type` without its flags
    pub kind: u16,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The attributes inside.
    pub fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.payload)
    }

    /// The payload as one byte.
    pub fn u8(&self) -> Option<u8> {
        self.payload.first().copied()
    }

    /// The payload as a 16-bit number in network byte order.
    pub fn be16(&self) -> Option<u16> {
        self.payload.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// The payload as a 32-bit number in network byte order.
    pub fn be32(&self) -> Option<u32> {
        self.payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// The payload as a 16-bit number in host byte order.
    pub fn ne16(&self) -> Option<u16> {
        self.payload.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
    }

    /// The payload as a 32-bit number in host byte order.
    pub fn ne32(&self) -> Option<u32> {
        self.payload.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
    }

    /// The payload as an address: 4 or 16 bytes in network byte order.
    pub fn address(&self) -> Option<IpAddr> {
        if let Ok(v4) = <[u8; 4]>::try_from(self.payload) {
            return Some(v4.into());
        }
        <[u8; 16]>::try_from(self.payload).ok().map(IpAddr::from)
    }

    /// The payload as a 64-bit number in network byte order.
    pub fn be64(&self) -> Option<u64> {
        self.payload.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
    }

    /// The payload as text, up to its NUL if it has one; `None` if it is not UTF-8.
    pub fn text(&self) -> Option<&'a str> {
        let end = self.payload.iter().position(|byte| *byte == 0).unwrap_or(self.payload.len());
        std::str::from_utf8(self.payload.get(..end)?).ok()
    }
}

/// Attributes one after the other. Ends at the first that is shorter than its header or longer than
/// what is left, as the kernel's own loop does; who needs an attribute that did not come says so.
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Iterates over `bytes`.
    pub fn new(bytes: &'a [u8]) -> Attributes<'a> {
        Attributes { rest: bytes }
    }

    /// The first attribute of type `kind` among those left.
    pub fn get(&self, kind: u16) -> Option<Attribute<'a>> {
        self.clone().find(|attribute| attribute.kind == kind)
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let [l0, l1, k0, k1] = *self.rest.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(payload) = self.rest.get(ATTRIBUTE_HEADER_LEN..length) else {
            self.rest = &[];
            return None;
        };
        self.rest = self.rest.get(align(length)..).unwrap_or(&[]);
        Some(Attribute { kind: u16::from_ne_bytes([k0, k1]) & TYPE_MASK, payload })
    }
}

//! Answers as they are sent.

use std::net::IpAddr;

use super::{Edns, HEADER_LEN, Query, UDP_MAX, class, kind, rcode};

/// The furthest place that a pointer can lead to.
const POINTER_MAX: usize = 0x3fff;
/// How many places are remembered to point to. More than a few pay only in the rarest answers.
const ANCHORS_MAX: usize = 24;
/// Length of an OPT record without options, octets.
const OPT_LEN: usize = 11;

/// A section of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// What was asked for
    Answer,
    /// Who says so
    Authority,
    /// What will be asked for next
    Additional,
}

/// Whose record is written.
#[derive(Debug, Clone, Copy)]
pub enum Owner<'n> {
    /// The name at this place of the message.
    At(usize),
    /// This name: labels to the root.
    Name(&'n [u8]),
}

/// What a reply's header says beside what it repeats from the question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header {
    /// The response code; one above 15 needs EDNS.
    pub rcode: u16,
    /// AA: the answer is our own.
    pub authoritative: bool,
    /// TC: something was left out.
    pub truncated: bool,
    /// RA: others are asked too.
    pub recursion_available: bool,
}

/// Writes one reply after the other into one buffer. Records come in the order of their sections.
/// What would exceed the limit is not written.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    limit: usize,
    counts: [u16; 3],
    /// Where labels begin that pointers may lead to.
    anchors: Vec<u16>,
}

impl Writer {
    /// An empty one.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// What was written.
    pub fn message(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes a header without a question: for messages that have none that can be repeated.
    pub fn reject(&mut self, message: &[u8], code: u16) {
        self.bytes.clear();
        let mut header = [0; HEADER_LEN];
        let known = message.len().min(4);
        header[..known].copy_from_slice(&message[..known]);
        // Number, opcode and RD are repeated.
        header[2] = header[2] & 0x79 | 0x80;
        header[3] = u8::try_from(code & 0xf).unwrap_or(0);
        self.bytes.extend_from_slice(&header);
    }

    /// Begins the reply to `query`, of at most `limit` octets.
    pub fn begin(&mut self, query: &Query<'_>, limit: usize) {
        self.bytes.clear();
        self.anchors.clear();
        self.counts = [0; 3];
        self.limit = limit.saturating_sub(if query.edns.is_some() { OPT_LEN } else { 0 });
        self.bytes.extend_from_slice(&[0; HEADER_LEN]);
        self.bytes.extend_from_slice(query.question);
        // Names of addresses have many labels that no other name has.
        for at in query.name.labels().saturating_sub(8)..query.name.labels() {
            self.anchor(HEADER_LEN + query.name.start(at));
        }
    }

    /// Takes back all records.
    pub fn rewind(&mut self, query: &Query<'_>) {
        let end = HEADER_LEN + query.question.len();
        self.bytes.truncate(end);
        self.anchors.retain(|anchor| usize::from(*anchor) < end);
        self.counts = [0; 3];
    }

    /// Completes the reply. It can be completed once only.
    pub fn finish(&mut self, query: &Query<'_>, header: Header) {
        if let Some(edns) = query.edns {
            self.opt(edns, header.rcode);
        }
        let [id_high, id_low] = query.id.to_be_bytes();
        // RD and CD are repeated.
        let mut flags = 0x8000 | query.flags & 0x0110 | header.rcode & 0xf;
        for (set, flag) in
            [(header.authoritative, 0x0400), (header.truncated, 0x0200), (header.recursion_available, 0x0080)]
        {
            flags |= if set { flag } else { 0 };
        }
        let [flags_high, flags_low] = flags.to_be_bytes();
        self.bytes[..6].copy_from_slice(&[id_high, id_low, flags_high, flags_low, 0, 1]);
        for (section, count) in self.counts.iter().enumerate() {
            let at = 6 + 2 * section;
            self.bytes[at..at + 2].copy_from_slice(&count.to_be_bytes());
        }
    }

    fn opt(&mut self, edns: Edns, code: u16) {
        let [size_high, size_low] = u16::try_from(UDP_MAX).unwrap_or(u16::MAX).to_be_bytes();
        let extended = u8::try_from(code >> 4).unwrap_or(0);
        debug_assert!(code <= rcode::BADVERS);
        let flags = if edns.dnssec_ok { 0x80 } else { 0 };
        self.bytes.extend_from_slice(&[0, 0, 41, size_high, size_low, extended, 0, flags, 0, 0, 0]);
        self.counts[2] += 1;
    }

    /// Appends an address record. Returns false if there is no room.
    pub fn address(&mut self, section: Section, owner: Owner<'_>, ttl: u32, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.record(section, owner, kind::A, ttl, |writer| {
                writer.bytes.extend_from_slice(&address.octets());
            }),
            IpAddr::V6(address) => self.record(section, owner, kind::AAAA, ttl, |writer| {
                writer.bytes.extend_from_slice(&address.octets());
            }),
        }
    }

    /// Appends a record whose data `data` appends. Returns false if there is no room; then nothing
    /// was written.
    pub fn record(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        kind: u16,
        ttl: u32,
        data: impl FnOnce(&mut Writer),
    ) -> bool {
        debug_assert!(self.counts.iter().skip(section as usize + 1).all(|count| *count == 0));
        let (start, anchors) = (self.bytes.len(), self.anchors.len());
        match owner {
            Owner::At(place) => self.pointer(place),
            Owner::Name(name) => {
                self.name(name);
            }
        }
        let [kind_high, kind_low] = kind.to_be_bytes();
        let [class_high, class_low] = class::IN.to_be_bytes();
        let [t0, t1, t2, t3] = ttl.to_be_bytes();
        self.bytes.extend_from_slice(&[kind_high, kind_low, class_high, class_low, t0, t1, t2, t3, 0, 0]);
        let at = self.bytes.len();
        data(self);
        let length = u16::try_from(self.bytes.len() - at);
        let count = self.counts[section as usize].checked_add(1);
        let (true, Ok(length), Some(count)) = (self.bytes.len() <= self.limit, length, count) else {
            self.bytes.truncate(start);
            self.anchors.truncate(anchors);
            return false;
        };
        self.bytes[at - 2..at].copy_from_slice(&length.to_be_bytes());
        self.counts[section as usize] = count;
        true
    }

    /// How many records `section` has.
    pub fn count(&self, section: Section) -> u16 {
        self.counts[section as usize]
    }

    /// Appends octets as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends a name, compressed, and returns a place that stands for it. Spelling is kept: only
    /// what is spelled alike is shared.
    pub fn name(&mut self, name: &[u8]) -> usize {
        let start = self.bytes.len();
        let mut at = 0;
        loop {
            let rest = name.get(at..).unwrap_or_default();
            let Some(&length @ 1..) = rest.first() else {
                self.bytes.push(0);
                return start;
            };
            if let Some(&place) =
                self.anchors.iter().find(|&&place| spells(&self.bytes, usize::from(place), rest))
            {
                self.pointer(usize::from(place));
                return if at == 0 { usize::from(place) } else { start };
            }
            let end = (at + 1 + usize::from(length)).min(name.len());
            self.anchor(start + at);
            self.bytes.extend_from_slice(&name[at..end]);
            at = end;
        }
    }

    /// Appends labels, and then the name at `place`.
    pub fn below(&mut self, labels: &[u8], place: usize) {
        self.bytes.extend_from_slice(labels);
        self.pointer(place);
    }

    /// Appends a name without compression, and returns its place: as in SRV records (RFC 2782).
    pub fn whole_name(&mut self, name: &[u8]) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        start
    }

    /// Whether a pointer can lead to `place`.
    pub fn can_point_to(place: usize) -> bool {
        place <= POINTER_MAX
    }

    fn pointer(&mut self, place: usize) {
        let pointer = 0xc000 | u16::try_from(place & POINTER_MAX).unwrap_or(0);
        self.bytes.extend_from_slice(&pointer.to_be_bytes());
    }

    fn anchor(&mut self, place: usize) {
        if let Ok(place @ ..=0x3fff) = u16::try_from(place)
            && self.anchors.len() < ANCHORS_MAX
        {
            self.anchors.push(place);
        }
    }
}

/// Whether the name at `place` of `message` is spelled as `name`. The message is our own.
fn spells(message: &[u8], mut place: usize, mut name: &[u8]) -> bool {
    loop {
        let Some(&length) = message.get(place) else { return false };
        if length >= 0xc0 {
            let Some(&low) = message.get(place + 1) else { return false };
            place = usize::from(length & 0x3f) << 8 | usize::from(low);
            continue;
        }
        if name.first() != Some(&length) {
            return false;
        }
        if length == 0 {
            return true;
        }
        let size = 1 + usize::from(length);
        let (Some(ours), Some(theirs)) = (message.get(place..place + size), name.get(..size)) else {
            return false;
        };
        if ours != theirs {
            return false;
        }
        place += size;
        name = &name[size..];
    }
}

//! Records in one piece of memory.

use portolan_names::wire::{Malformed, Name, Record, kind};

use super::layout;

/// The longest that the records of an answer may be without compression, octets.
const PACKED_MAX: usize = 256 << 10;
/// In place of an owner: the name that was asked for. No label is as long.
const ASKED: u8 = 0xff;

/// Records, one after the other: section, type, TTL, owner, length of the data, data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Packed(Vec<u8>);

/// A record.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackedRecord<'p> {
    pub(super) section: u8,
    pub(super) kind: u16,
    pub(super) ttl: u32,
    /// Whose record it is; `None`: the name that was asked for.
    pub(super) owner: Option<&'p [u8]>,
    pub(super) data: &'p [u8],
}

impl Packed {
    /// Appends `record` of `message`, which answers a question for `asked`.
    pub(super) fn push(
        &mut self,
        asked: &Name,
        message: &[u8],
        record: &Record<'_>,
    ) -> Result<(), Malformed> {
        self.head(record.section, record.kind, record.ttl);
        if record.owner.is_same(asked) {
            self.0.push(ASKED);
        } else {
            self.0.extend_from_slice(record.owner.as_wire());
        }
        let length_at = self.0.len();
        self.0.extend_from_slice(&[0, 0]);
        layout::read(record.kind, message, record.at, record.data.len(), &mut self.0)?;
        let length = u16::try_from(self.0.len() - length_at - 2).map_err(|_| Malformed)?;
        self.0[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
        if self.0.len() > PACKED_MAX { Err(Malformed) } else { Ok(()) }
    }

    /// Appends a record of the name that is asked for.
    pub(super) fn push_own(&mut self, kind: u16, ttl: u32, data: &[u8]) {
        let Ok(length) = u16::try_from(data.len()) else { return };
        self.head(0, kind, ttl);
        self.0.push(ASKED);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(data);
    }

    fn head(&mut self, section: u8, kind: u16, ttl: u32) {
        // A TTL with the highest bit is 0 (RFC 2181 §8).
        let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
        self.0.push(section);
        self.0.extend_from_slice(&kind.to_be_bytes());
        self.0.extend_from_slice(&ttl.to_be_bytes());
    }

    /// How long it is, octets.
    pub(super) fn len(&self) -> usize {
        self.0.capacity()
    }

    /// The records.
    pub(super) fn iter(&self) -> impl Iterator<Item = PackedRecord<'_>> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (record, after) = split(rest)?;
            rest = after;
            Some(record)
        })
    }
}

/// The first record of `packed`, and those behind it.
fn split(packed: &[u8]) -> Option<(PackedRecord<'_>, &[u8])> {
    let (head, rest) = packed.split_first_chunk::<7>()?;
    let [section, k0, k1, t0, t1, t2, t3] = *head;
    let (owner, rest) = if rest.first() == Some(&ASKED) {
        (None, &rest[1..])
    } else {
        let (owner, rest) = rest.split_at_checked(layout::name_len(rest))?;
        (Some(owner), rest)
    };
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (data, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let (kind, ttl) = (u16::from_be_bytes([k0, k1]), u32::from_be_bytes([t0, t1, t2, t3]));
    Some((PackedRecord { section, kind, ttl, owner, data }, rest))
}

impl PackedRecord<'_> {
    /// What a SOA record says about the time that denials hold, seconds (RFC 2308 §4).
    pub(super) fn soa_minimum(&self) -> Option<u32> {
        if self.kind != kind::SOA {
            return None;
        }
        let minimum = self.data.last_chunk::<4>()?;
        Some(u32::from_be_bytes(*minimum))
    }
}

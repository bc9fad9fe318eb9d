//! The bytes of a journal.
//!
//! A header: eight bytes of magic, the version of the format. Then records: length of the body,
//! CRC-32 of length and body, body. Of a body: the operation, the time, the lengths of kind,
//! namespace and name, these three, and for a put the JSON. All numbers are little-endian.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) const MAGIC: [u8; 8] = *b"portolan";
/// What is written. The objects of format 1 lacked what only names for Services need.
pub(super) const VERSION: u32 = 2;
/// The oldest format that is still read.
pub(super) const OLDEST: u32 = 1;
pub(super) const HEADER: usize = MAGIC.len() + 4;
/// Length and checksum before each body.
pub(super) const PREFIX: usize = 8;
/// Operation, milliseconds since 1970, three lengths.
const FIXED: usize = 1 + 8 + 1 + 2 + 2;
/// A longer body is damage: objects of an API server are smaller (etcd takes 1.5 MiB).
pub(super) const BODY_AT_MOST: usize = 8 << 20;

/// An object as a journal has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its kind: at most 255 bytes.
    pub kind: &'a str,
    /// Its namespace, empty where there are none: at most 65,535 bytes.
    pub namespace: &'a str,
    /// Its name: at most 65,535 bytes.
    pub name: &'a str,
    /// What was put.
    pub json: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Put,
    Delete,
}

/// A record that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) operation: Operation,
    pub(super) time: SystemTime,
    pub(super) entry: Entry<'a>,
}

pub(super) fn header() -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..MAGIC.len()].copy_from_slice(&MAGIC);
    header[MAGIC.len()..].copy_from_slice(&VERSION.to_le_bytes());
    header
}

/// Appends a record; says whether the entry fits into one.
pub(super) fn write(out: &mut Vec<u8>, operation: Operation, time: SystemTime, entry: &Entry<'_>) -> bool {
    let Entry { kind, namespace, name, json } = entry;
    let length = FIXED + kind.len() + namespace.len() + name.len() + json.len();
    let (Ok(kind_length), Ok(namespace_length), Ok(name_length), Ok(length_field)) = (
        u8::try_from(kind.len()),
        u16::try_from(namespace.len()),
        u16::try_from(name.len()),
        u32::try_from(length),
    ) else {
        return false;
    };
    if length > BODY_AT_MOST {
        return false;
    }
    let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    out.reserve(PREFIX + length);
    out.extend(length_field.to_le_bytes());
    let checksum_at = out.len();
    out.extend([0; 4]);
    let body_at = out.len();
    out.push(match operation {
        Operation::Put => 1,
        Operation::Delete => 2,
    });
    out.extend(u64::try_from(millis).unwrap_or(u64::MAX).to_le_bytes());
    out.push(kind_length);
    out.extend(namespace_length.to_le_bytes());
    out.extend(name_length.to_le_bytes());
    for part in [kind.as_bytes(), namespace.as_bytes(), name.as_bytes(), json] {
        out.extend_from_slice(part);
    }
    let checksum = checksum(length_field, &out[body_at..]);
    out[checksum_at..body_at].copy_from_slice(&checksum.to_le_bytes());
    true
}

pub(super) fn checksum(length: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// Takes a body apart whose checksum is right.
pub(super) fn parse(body: &[u8]) -> Option<Record<'_>> {
    let (operation, rest) = body.split_first()?;
    let (millis, rest) = rest.split_first_chunk::<8>()?;
    let (kind_length, rest) = rest.split_first()?;
    let (namespace_length, rest) = rest.split_first_chunk::<2>()?;
    let (name_length, rest) = rest.split_first_chunk::<2>()?;
    let (kind, rest) = text(rest, usize::from(*kind_length))?;
    let (namespace, rest) = text(rest, usize::from(u16::from_le_bytes(*namespace_length)))?;
    let (name, json) = text(rest, usize::from(u16::from_le_bytes(*name_length)))?;
    let operation = match operation {
        1 => Operation::Put,
        2 => Operation::Delete,
        _ => return None,
    };
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(u64::from_le_bytes(*millis)))?;
    Some(Record { operation, time, entry: Entry { kind, namespace, name, json } })
}

fn text(bytes: &[u8], length: usize) -> Option<(&str, &[u8])> {
    let (text, rest) = bytes.split_at_checked(length)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

//! Where the data of records has names: what a message may compress, and so must be put together
//! before the data can stand by itself (RFC 3597 §4).

use portolan_names::wire::{Malformed, Name, Writer};

/// A part of a record's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// As many octets
    Octets(usize),
    /// A string after its length
    Text,
    /// A name that may be compressed where it is written
    Name,
    /// A name that must be written whole
    WholeName,
    /// All the rest
    Rest,
}

/// The parts of the data of records of type `kind`. Of types that are not listed nobody may look
/// into the data.
fn parts(kind: u16) -> &'static [Part] {
    use Part::{Name, Octets, Rest, Text, WholeName};
    match kind {
        // NS, MD, MF, CNAME, MB, MG, MR, PTR
        2..=5 | 7..=9 | 12 => &[Name],
        // SOA
        6 => &[Name, Name, Octets(20)],
        // MINFO
        14 => &[Name, Name],
        // MX
        15 => &[Octets(2), Name],
        // RP
        17 => &[WholeName, WholeName],
        // AFSDB, RT, KX
        18 | 21 | 36 => &[Octets(2), WholeName],
        // SIG, RRSIG
        24 | 46 => &[Octets(18), WholeName, Rest],
        // PX
        26 => &[Octets(2), WholeName, WholeName],
        // NXT
        30 => &[WholeName, Rest],
        // SRV
        33 => &[Octets(6), WholeName],
        // NAPTR
        35 => &[Octets(4), Text, Text, Text, WholeName],
        // DNAME
        39 => &[WholeName],
        _ => &[Rest],
    }
}

/// Appends the data of a record of type `kind`, which is `length` octets at `at` of `message`, to
/// `out`, with names put together.
pub(super) fn read(
    kind: u16,
    message: &[u8],
    at: usize,
    length: usize,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let end = at + length;
    let mut next = at;
    for part in parts(kind) {
        let start = next;
        match part {
            Part::Name | Part::WholeName => {
                let (name, after) = Name::read(message, start)?;
                out.extend_from_slice(name.as_wire());
                next = after;
            }
            Part::Octets(count) => next = start + count,
            Part::Text => next = start + 1 + usize::from(*message.get(start).ok_or(Malformed)?),
            Part::Rest => next = end,
        }
        if next > end {
            return Err(Malformed);
        }
        if !matches!(part, Part::Name | Part::WholeName) {
            out.extend_from_slice(message.get(start..next).ok_or(Malformed)?);
        }
    }
    if next == end { Ok(()) } else { Err(Malformed) }
}

/// Writes the data of a record of type `kind`, as [`read`] has left it.
pub(super) fn write(kind: u16, mut data: &[u8], writer: &mut Writer) {
    for part in parts(kind) {
        let length = match part {
            Part::Octets(count) => *count,
            Part::Text => 1 + data.first().map_or(0, |length| usize::from(*length)),
            Part::Name | Part::WholeName => name_len(data),
            Part::Rest => data.len(),
        };
        let (part_data, rest) = data.split_at(length.min(data.len()));
        if *part == Part::Name {
            writer.name(part_data);
        } else {
            writer.raw(part_data);
        }
        data = rest;
    }
}

/// How long the name is that `data` begins with, octets.
pub(super) fn name_len(data: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&length @ 1..) = data.get(at) {
        at += 1 + usize::from(length);
    }
    (at + 1).min(data.len())
}

//! Questions as clients send them.

use super::records::Malformed;
use super::{HEADER_LEN, Name, TCP_MAX, UDP_MAX, UDP_PLAIN, be16, be32, kind, rcode};

/// How a question came, and how long its answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A datagram
    Udp,
    /// A connection
    Tcp,
}

/// What an OPT record of a question says (RFC 6891 §6.1). Options are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// The longest datagram that the client takes, octets.
    pub size: u16,
    /// The version; there is only 0.
    pub version: u8,
    /// The flag DO (RFC 3225).
    pub dnssec_ok: bool,
}

/// A message that has no single question that can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// Too short, or an answer: nothing is sent back.
    Silent,
    /// What is sent back is a header with this code.
    Code(u16),
}

/// A question with what its message says about the answer.
#[derive(Debug, Clone)]
pub struct Query<'m> {
    /// The message's number.
    pub id: u16,
    /// The flags, opcode included, as received.
    pub flags: u16,
    /// The name, in lower case.
    pub name: Name,
    /// The type of record.
    pub kind: u16,
    /// The class.
    pub class: u16,
    /// EDNS, if the client speaks it.
    pub edns: Option<Edns>,
    /// The question's octets: name as spelled, type, class.
    pub question: &'m [u8],
}

impl<'m> Query<'m> {
    /// Reads a message. What comes behind its last record is ignored.
    pub fn parse(message: &'m [u8]) -> Result<Query<'m>, Unusable> {
        if message.len() < HEADER_LEN {
            return Err(Unusable::Silent);
        }
        let count = |at| be16(message, at).unwrap_or(0);
        let (id, flags) = (count(0), count(2));
        if flags & 0x8000 != 0 {
            return Err(Unusable::Silent);
        }
        if flags & 0x7800 != 0 {
            return Err(Unusable::Code(rcode::NOTIMP));
        }
        let malformed = Unusable::Code(rcode::FORMERR);
        if count(4) != 1 {
            return Err(malformed);
        }
        let (mut name, end) = Name::read(message, HEADER_LEN).map_err(|_| malformed)?;
        // A name that is not all there has nothing before it to point to.
        if end != HEADER_LEN + name.as_wire().len() {
            return Err(malformed);
        }
        let (Some(kind), Some(class)) = (be16(message, end), be16(message, end + 2)) else {
            return Err(malformed);
        };
        let question = &message[HEADER_LEN..end + 4];
        name.make_lowercase();
        let others = u32::from(count(6)) + u32::from(count(8));
        let edns = if others == 0 && count(10) == 0 {
            None
        } else {
            edns(message, end + 4, others, count(10)).map_err(|_| malformed)?
        };
        Ok(Query { id, flags, name, kind, class, edns, question })
    }

    /// The longest answer, octets.
    pub fn limit(&self, transport: Transport) -> usize {
        match (transport, self.edns) {
            (Transport::Tcp, _) => TCP_MAX,
            (Transport::Udp, None) => UDP_PLAIN,
            (Transport::Udp, Some(edns)) => usize::from(edns.size).clamp(UDP_PLAIN, UDP_MAX),
        }
    }

    /// The name's octets from label `at` on, as spelled.
    pub fn spelled(&self, at: usize) -> &'m [u8] {
        &self.question[self.name.start(at)..self.question.len() - 4]
    }
}

/// The OPT record among `additional` ones after `others` of other sections. There may be one.
fn edns(message: &[u8], mut at: usize, others: u32, additional: u16) -> Result<Option<Edns>, Malformed> {
    let be16 = |at| be16(message, at).ok_or(Malformed);
    let mut found = None;
    for number in 0..others + u32::from(additional) {
        let (owner, end) = Name::read(message, at)?;
        let (kind, class) = (be16(end)?, be16(end + 2)?);
        let ttl = be32(message, end + 4).ok_or(Malformed)?;
        let length = usize::from(be16(end + 8)?);
        at = end + 10 + length;
        message.get(end + 10..at).ok_or(Malformed)?;
        if kind == kind::OPT && number >= others {
            if found.is_some() || owner.labels() != 0 {
                return Err(Malformed);
            }
            let [_, version, flags, _] = ttl.to_be_bytes();
            found = Some(Edns { size: class, version, dnssec_ok: flags & 0x80 != 0 });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(flags: u16, counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 7];
        bytes.extend(flags.to_be_bytes());
        bytes.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn what_can_be_answered() {
        const ASKED: &[u8] = b"\x01A\x00\x00\x01\x00\x01";
        const OPT: &[u8] = b"\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x00";
        let with = |tail: &[u8]| [ASKED, tail].concat();
        let twice = [OPT, OPT].concat();
        let cookie = b"\x00\x00\x29\x02\x00\x00\x00\x00\x00\x00\x0c\x00\x0a\x00\x08abcdefgh";
        let bad = Err(Unusable::Code(rcode::FORMERR));
        for (name, message, expected) in [
            ("a question", message(0x0100, [1, 0, 0, 0], ASKED), Ok(None)),
            ("something behind it", message(0, [1, 0, 0, 0], &with(b"?")), Ok(None)),
            ("EDNS", message(0, [1, 0, 0, 1], &with(OPT)), Ok(Some((4096, 0, true)))),
            ("EDNS with a cookie", message(0, [1, 0, 0, 1], &with(cookie)), Ok(Some((512, 0, false)))),
            ("EDNS twice", message(0, [1, 0, 0, 2], &with(&twice)), bad),
            ("EDNS cut off", message(0, [1, 0, 0, 1], &with(&OPT[..10])), bad),
            ("11 octets", message(0, [1, 0, 0, 0], ASKED)[..11].to_vec(), Err(Unusable::Silent)),
            ("an answer", message(0x8000, [1, 0, 0, 0], ASKED), Err(Unusable::Silent)),
            ("NOTIFY", message(0x2000, [1, 0, 0, 0], ASKED), Err(Unusable::Code(rcode::NOTIMP))),
            ("no question", message(0, [0, 0, 0, 0], b""), bad),
            ("two questions", message(0, [2, 0, 0, 0], &with(ASKED)), bad),
            ("a question cut off", message(0, [1, 0, 0, 0], &ASKED[..6]), bad),
            ("a pointer into the header", message(0, [1, 0, 0, 0], b"\xc0\x00\x00\x01\x00\x01"), bad),
        ] {
            let read = Query::parse(&message);
            let found = read.map(|query| {
                assert_eq!((query.id, query.name.to_string()), (7, "a.".to_owned()), "{name}");
                assert_eq!(query.question, ASKED, "{name}");
                query.edns.map(|edns| (edns.size, edns.version, edns.dnssec_ok))
            });
            assert_eq!(found, expected, "{name}");
        }
    }
}

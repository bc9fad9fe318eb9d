//! Answers as other servers send them.

use super::{HEADER_LEN, Name, be16, be32, class};

/// A message is cut off, or has a name that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("DNS message that cannot be decoded")]
pub struct Malformed;

/// A record of a message.
#[derive(Debug, Clone)]
pub struct Record<'m> {
    /// Whose record it is, as spelled.
    pub owner: Name,
    /// Its type.
    pub kind: u16,
    /// Its class; of an OPT record the size of datagrams.
    pub class: u16,
    /// How long it may be kept, seconds.
    pub ttl: u32,
    /// 0: answer, 1: authority, 2: additional.
    pub section: u8,
    /// What it says. Names in it may point into the message.
    pub data: &'m [u8],
    /// Where `data` begins in the message.
    pub at: usize,
}

/// A message with its records, read one by one.
#[derive(Debug, Clone)]
pub struct Answers<'m> {
    /// The whole message.
    pub message: &'m [u8],
    /// The message's number.
    pub id: u16,
    /// The flags with the low four bits of the response code.
    pub flags: u16,
    next: usize,
    left: [u16; 3],
}

impl<'m> Answers<'m> {
    /// Reads header and questions.
    pub fn parse(message: &'m [u8]) -> Result<Answers<'m>, Malformed> {
        let field = |at| be16(message, at).ok_or(Malformed);
        let (id, flags, questions) = (field(0)?, field(2)?, field(4)?);
        let left = [field(6)?, field(8)?, field(10)?];
        let mut next = HEADER_LEN;
        for _ in 0..questions {
            let (_, end) = Name::read(message, next)?;
            next = end + 4;
            message.get(..next).ok_or(Malformed)?;
        }
        Ok(Answers { message, id, flags, next, left })
    }

    /// The response code without what EDNS adds to it.
    pub fn rcode(&self) -> u16 {
        self.flags & 0xf
    }

    /// The flag TC: something was left out.
    pub fn is_truncated(&self) -> bool {
        self.flags & 0x0200 != 0
    }

    fn read(&mut self, section: u8) -> Result<Record<'m>, Malformed> {
        let (owner, end) = Name::read(self.message, self.next)?;
        let field = |at| be16(self.message, at).ok_or(Malformed);
        let (kind, class, length) = (field(end)?, field(end + 2)?, field(end + 8)?);
        let ttl = be32(self.message, end + 4).ok_or(Malformed)?;
        let at = end + 10;
        let data = self.message.get(at..at + usize::from(length)).ok_or(Malformed)?;
        self.next = at + data.len();
        Ok(Record { owner, kind, class, ttl, section, data, at })
    }
}

impl<'m> Iterator for Answers<'m> {
    type Item = Result<Record<'m>, Malformed>;

    /// The next record; the last is the first malformed one.
    fn next(&mut self) -> Option<Self::Item> {
        let section = self.left.iter().position(|left| *left > 0)?;
        self.left[section] -= 1;
        let record = self.read(u8::try_from(section).unwrap_or(2));
        if record.is_err() {
            self.left = [0; 3];
        }
        Some(record)
    }
}

impl Record<'_> {
    /// It is of the Internet, of the answer section, and of type `kind`.
    pub fn answers(&self, kind: u16) -> bool {
        self.section == 0 && self.class == class::IN && self.kind == kind
    }
}

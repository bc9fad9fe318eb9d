//! Questions as they are sent to servers, and whether what comes back answers them.

use portolan_names::wire::{HEADER_LEN, Name, UDP_MAX, class, kind, rcode};

use crate::entropy;

/// The flags of a message.
pub(crate) mod flag {
    /// It is an answer.
    pub(crate) const QR: u16 = 0x8000;
    /// What kind of message it is: 0 for a question.
    pub(crate) const OPCODE: u16 = 0x7800;
    /// Recursion is wanted.
    pub(crate) const RD: u16 = 0x0100;
    /// The answer is authentic (RFC 4035); in a question: say so (RFC 6840 §5.7).
    pub(crate) const AD: u16 = 0x0020;
    /// Checking is disabled.
    pub(crate) const CD: u16 = 0x0010;
}

/// What is asked for. Answers to equal ones are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// In lower case.
    pub(crate) name: Name,
    pub(crate) kind: u16,
    /// The flag DO: signatures too.
    pub(crate) dnssec_ok: bool,
    /// The flag CD: without validation.
    pub(crate) checking_disabled: bool,
}

/// How a question is written for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Manner {
    /// Letters in random case: an answer that does not repeat them is not from the server.
    pub(crate) mixed_case: bool,
    /// With an OPT record.
    pub(crate) edns: bool,
    /// The flag RD.
    pub(crate) recursion: bool,
}

impl Default for Manner {
    fn default() -> Manner {
        Manner { mixed_case: true, edns: true, recursion: true }
    }
}

/// A question as it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    octets: Vec<u8>,
    /// Where the question ends.
    end: usize,
}

/// What a message is to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    /// Its answer.
    Answer,
    /// Its answer, apart from the case of letters.
    OtherCase,
    /// A header without a question that says that the server cannot read ours.
    Rejection,
    /// Something else.
    No,
}

impl Question {
    /// What it is called in tables: name, type and flags.
    pub(crate) fn key(&self) -> Key {
        let mut octets = Vec::with_capacity(self.name.as_wire().len() + 3);
        octets.extend_from_slice(self.name.as_wire());
        octets.extend_from_slice(&self.kind.to_be_bytes());
        octets.push(u8::from(self.dnssec_ok) | u8::from(self.checking_disabled) << 1);
        Key(octets.into())
    }

    /// Writes it, with a random id.
    pub(crate) fn write(&self, manner: Manner) -> Message {
        let mut flags = flag::AD;
        flags |= if manner.recursion { flag::RD } else { 0 };
        flags |= if self.checking_disabled { flag::CD } else { 0 };
        let mut octets = Vec::with_capacity(HEADER_LEN + self.name.as_wire().len() + 15);
        octets.extend_from_slice(&entropy::id().to_be_bytes());
        octets.extend_from_slice(&flags.to_be_bytes());
        octets.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::from(manner.edns)]);
        octets.extend_from_slice(self.name.as_wire());
        if manner.mixed_case {
            mix_case(&mut octets[HEADER_LEN..]);
        }
        octets.extend_from_slice(&self.kind.to_be_bytes());
        octets.extend_from_slice(&class::IN.to_be_bytes());
        let end = octets.len();
        if manner.edns {
            let [high, low] = u16::try_from(UDP_MAX).unwrap_or(u16::MAX).to_be_bytes();
            let dnssec_ok = if self.dnssec_ok { 0x80 } else { 0 };
            let [_, opt] = kind::OPT.to_be_bytes();
            octets.extend_from_slice(&[0, 0, opt, high, low, 0, 0, dnssec_ok, 0, 0, 0]);
        }
        Message { octets, end }
    }
}

/// A question's name in tables.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key(Box<[u8]>);

impl Key {
    /// How long it is, octets.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Message {
    /// All of it.
    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Gives it another id.
    pub(crate) fn set_id(&mut self, id: u16) {
        self.octets[..2].copy_from_slice(&id.to_be_bytes());
    }

    /// What `message` is to it.
    pub(crate) fn matches(&self, message: &[u8]) -> Match {
        let Some(header) = message.get(..HEADER_LEN) else { return Match::No };
        let flags = u16::from_be_bytes([header[2], header[3]]);
        if header[..2] != self.octets[..2] || flags & (flag::QR | flag::OPCODE) != flag::QR {
            return Match::No;
        }
        if header[4..6] == [0, 0] {
            let code = flags & 0xf;
            let rejects = matches!(code, rcode::FORMERR | rcode::NOTIMP) && header[6..] == [0; 6];
            return if rejects { Match::Rejection } else { Match::No };
        }
        let asked = &self.octets[HEADER_LEN..self.end];
        match message.get(HEADER_LEN..self.end) {
            Some(question) if header[4..6] == [0, 1] => {
                let (name, rest) = asked.split_at(asked.len() - 4);
                let (same_name, same_rest) = question.split_at(asked.len() - 4);
                if rest != same_rest || !name.eq_ignore_ascii_case(same_name) {
                    Match::No
                } else if name == same_name {
                    Match::Answer
                } else {
                    Match::OtherCase
                }
            }
            _ => Match::No,
        }
    }
}

/// Gives letters a random case.
fn mix_case(name: &mut [u8]) {
    let random: [u8; 32] = entropy::octets();
    // Lengths are below 64, and so no letters.
    for (at, octet) in name.iter_mut().enumerate().filter(|(_, octet)| octet.is_ascii_alphabetic()) {
        if random[at / 8 % random.len()] >> (at % 8) & 1 == 1 {
            *octet ^= 0x20;
        }
    }
}

//! Answers of others: read once, checked and without compression, and written as often as they are
//! asked for, with each client's id, spelling and limits.

mod layout;
mod packed;

use portolan_names::wire::{
    Answers, HEADER_LEN, Header, Malformed, Name, Owner, Query, Section, Transport, Writer, class, kind,
    rcode,
};

use crate::entropy;
use crate::question::{Question, flag};
use packed::{Packed, PackedRecord};

/// What a server has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) rcode: u16,
    /// Something was left out.
    pub(crate) truncated: bool,
    /// It is our own.
    authoritative: bool,
    /// The server says that it has validated it.
    authentic: bool,
    records: Packed,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner<'n> {
    pub(crate) transport: Transport,
    /// The name that was asked for, where that is not the client's: behind an alias for it.
    pub(crate) alias: Option<&'n Name>,
    pub(crate) ttl: Ttl,
    /// Addresses in random order.
    pub(crate) shuffle: bool,
}

/// What kind of answer it is: how long it may be kept depends on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    /// There are records, or servers that know them.
    Success,
    /// The name, or the type of record, does not exist.
    Denial,
    /// The server could not find out.
    Failure,
    /// Not to be kept.
    Other,
}

/// Which TTLs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ttl {
    /// Each record's own, as heard.
    Own,
    /// This one for all, seconds.
    All(u32),
}

impl Answer {
    /// Reads the answer to `asked`. Names that point into its question are in the case of `asked`.
    pub(crate) fn read(asked: &Question, mut message: Vec<u8>) -> Result<Answer, Malformed> {
        let name = asked.name.as_wire();
        message.get_mut(HEADER_LEN..HEADER_LEN + name.len()).ok_or(Malformed)?.copy_from_slice(name);
        let answers = Answers::parse(&message)?;
        let mut answer = Answer {
            rcode: answers.rcode(),
            truncated: answers.is_truncated(),
            authoritative: false,
            authentic: answers.flags & flag::AD != 0,
            records: Packed::default(),
        };
        for record in answers {
            let record = match record {
                Ok(record) => record,
                // What is cut may end anywhere.
                Err(Malformed) if answer.truncated => break,
                Err(Malformed) => return Err(Malformed),
            };
            if record.kind == kind::OPT {
                if record.section != 2 || record.owner.labels() != 0 {
                    return Err(Malformed);
                }
                // The high part of the response code (RFC 6891 §6.1.3).
                let [high, ..] = record.ttl.to_be_bytes();
                answer.rcode |= u16::from(high) << 4;
            } else if record.class == class::IN {
                answer.records.push(&asked.name, &message, &record)?;
            }
        }
        Ok(answer)
    }

    /// A failure without records.
    pub(crate) fn failure(rcode: u16) -> Answer {
        Answer { rcode, truncated: false, authoritative: false, authentic: false, records: Packed::default() }
    }

    /// An answer of our own: records of type `kind` at the name that is asked for.
    pub(crate) fn own<D: AsRef<[u8]>>(kind: u16, ttl: u32, records: impl IntoIterator<Item = D>) -> Answer {
        let mut answer = Answer { authoritative: true, ..Answer::failure(rcode::NOERROR) };
        for data in records {
            answer.records.push_own(kind, ttl, data.as_ref());
        }
        answer
    }

    /// How much memory it takes, octets.
    pub(crate) fn size(&self) -> usize {
        size_of::<Answer>() + self.records.len()
    }

    /// What kind of answer it is to a question for `asked`.
    pub(crate) fn sort(&self, asked: u16) -> Sort {
        if self.truncated {
            return Sort::Other;
        }
        let has = |section, kind| {
            self.records.iter().any(|record| record.section == section && record.kind == kind)
        };
        match self.rcode {
            // Nothing at all counts as a denial that has no SOA record to say how long it holds.
            rcode::NOERROR if !self.records.iter().any(|record| record.section == 0) => {
                if has(1, kind::NS) && !has(1, kind::SOA) { Sort::Success } else { Sort::Denial }
            }
            // An alias whose end has no such record is a denial that says so (RFC 2308 §2.2).
            rcode::NOERROR if has(1, kind::SOA) && self.only_aliases(asked) => Sort::Denial,
            rcode::NOERROR => Sort::Success,
            rcode::NXDOMAIN if has(1, kind::SOA) => Sort::Denial,
            rcode::SERVFAIL | rcode::NOTIMP => Sort::Failure,
            _ => Sort::Other,
        }
    }

    /// Whether what it says of a question for records of type `asked` is only another name.
    fn only_aliases(&self, asked: u16) -> bool {
        const DNAME: u16 = 39;
        let is_alias = |kind| kind != asked && (matches!(kind, kind::CNAME | DNAME) || signs(kind));
        asked != kind::ANY && self.records.iter().all(|record| record.section != 0 || is_alias(record.kind))
    }

    /// Whether it says how long denials hold.
    pub(crate) fn has_soa(&self) -> bool {
        self.records.iter().any(|record| record.section == 1 && record.kind == kind::SOA)
    }

    /// The lowest TTL of its records, and of a denial the one that its SOA record gives, seconds.
    /// `None` if it has no records.
    pub(crate) fn ttl(&self, sort: Sort) -> Option<u32> {
        self.records
            .iter()
            .map(|record| match record.soa_minimum() {
                Some(minimum) if sort == Sort::Denial && record.section == 1 => record.ttl.min(minimum),
                _ => record.ttl,
            })
            .min()
    }

    /// Writes it as the reply to `query`, which is spelled as the client spelled it.
    pub(crate) fn write(&self, query: &Query<'_>, manner: Manner<'_>, writer: &mut Writer) {
        writer.begin(query, query.limit(manner.transport));
        let dnssec_ok = query.edns.is_some_and(|edns| edns.dnssec_ok);
        // What EDNS adds to response codes is said to nobody else.
        let rcode = if self.rcode > 0xf { rcode::SERVFAIL } else { self.rcode };
        let mut header = Header {
            rcode,
            truncated: self.truncated,
            recursion_available: true,
            authoritative: self.authoritative,
        };
        let wanted = |record: &PackedRecord<'_>| {
            dnssec_ok || !signs(record.kind) || query.kind == record.kind || query.kind == kind::ANY
        };
        let mut records: Vec<PackedRecord<'_>> = self.records.iter().filter(wanted).collect();
        if manner.shuffle {
            shuffle(&mut records);
        }
        let empty = !records.iter().any(|record| record.section == 0);
        let mut asked = Owner::At(HEADER_LEN);
        if let Some(name) = manner.alias {
            asked = Owner::Name(name.as_wire());
            if let Some(first) = records.first().filter(|_| !empty) {
                let mut place = HEADER_LEN;
                let ttl = manner.ttl.of(first);
                let owner = Owner::At(HEADER_LEN);
                let written = writer.record(Section::Answer, owner, kind::CNAME, ttl, |writer| {
                    place = writer.name(name.as_wire());
                });
                if written {
                    asked = Owner::At(place);
                }
            }
        }
        let mut before = None;
        for record in &records {
            if !write_record(record, asked, &mut before, manner.ttl, writer) {
                // Without the servers' names and addresses an answer is whole.
                header.truncated |= record.section == 0 || record.section == 1 && (empty || dnssec_ok);
                break;
            }
        }
        writer.finish(query, header);
    }

    /// Whether the flag AD belongs into the reply to `query` (RFC 6840 §5.8).
    pub(crate) fn is_authentic_for(&self, query: &Query<'_>) -> bool {
        let asked = query.flags & flag::AD != 0 || query.edns.is_some_and(|edns| edns.dnssec_ok);
        self.authentic && asked
    }
}

/// Records that only those get who ask for them by name, or with the flag DO (RFC 4035 §3.2.1).
fn signs(kind: u16) -> bool {
    const RRSIG: u16 = 46;
    const NSEC: u16 = 47;
    const NSEC3: u16 = 50;
    matches!(kind, RRSIG | NSEC | NSEC3)
}

/// Puts aliases first and addresses last, in random order: clients rely on the first address for
/// balance.
fn shuffle(records: &mut [PackedRecord<'_>]) {
    let rank = |record: &PackedRecord<'_>| match record.kind {
        kind::CNAME => 0,
        kind::A | kind::AAAA => 2,
        kind::MX => 3,
        _ => 1,
    };
    records.sort_by_key(|record| (record.section, rank(record)));
    for at in 0..records.len() {
        let (section, group) = (records[at].section, rank(&records[at]));
        if group < 2 {
            continue;
        }
        let alike = |record: &&PackedRecord<'_>| record.section == section && rank(record) == group;
        let rest = records[at..].iter().take_while(alike).count();
        records.swap(at, at + entropy::below(rest));
    }
}

impl Ttl {
    fn of(self, record: &PackedRecord<'_>) -> u32 {
        match self {
            Ttl::Own => record.ttl,
            Ttl::All(ttl) => ttl,
        }
    }
}

/// Appends `record`. `asked` is the name that was asked for, `before` is whose record the last one
/// was, and where its name is. Returns false if there is no room.
fn write_record<'r>(
    record: &PackedRecord<'r>,
    asked: Owner<'_>,
    before: &mut Option<(&'r [u8], usize)>,
    ttl: Ttl,
    writer: &mut Writer,
) -> bool {
    let section = match record.section {
        0 => Section::Answer,
        1 => Section::Authority,
        _ => Section::Additional,
    };
    let ttl = ttl.of(record);
    let owner = match (record.owner, *before) {
        (None, _) => asked,
        (Some(name), Some((known, place))) if name == known => Owner::At(place),
        (Some(name), _) => Owner::Name(name),
    };
    let start = writer.message().len();
    let written = writer.record(section, owner, record.kind, ttl, |writer| {
        layout::write(record.kind, record.data, writer);
    });
    if let (true, Some(name), Owner::Name(_)) = (written, record.owner, owner)
        && Writer::can_point_to(start)
    {
        *before = Some((name, start));
    }
    written
}

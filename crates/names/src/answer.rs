//! The answer to a question: a function of names, question and a random number.

mod addresses;
mod alias;
mod search;
mod servers;
mod srv;

use portolan_service::Family;

use crate::lookup::Found;
use crate::random::Random;
use crate::reply::Reply;
use crate::settings::Zone;
use crate::state::Names;
use crate::wire::{
    HEADER_LEN, Header, Name, Owner, Query, Section, Transport, UDP_MAX, Unusable, Writer, class, kind, rcode,
};

pub use alias::Outside;
pub use search::{Searching, Sought};

use alias::Way;

/// What the specification of names says about itself, as the data of a TXT record.
const VERSION: &[u8] = b"\x051.1.0";
/// How long that may be kept, seconds.
const VERSION_TTL: u32 = 28_800;
/// How many aliases an answer follows.
const ALIASES_MAX: usize = 11;

/// What is to be done about a message.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a question stays on the stack: no allocation for it")]
pub enum Outcome<'m> {
    /// The reply is to be sent.
    Reply,
    /// Nothing is to be sent.
    Silent,
    /// It is for others to answer.
    Forward(Query<'m>),
    /// It is an alias for a name that others are to be asked for.
    Outside(Box<Outside>),
}

/// What is to be done about a question.
#[derive(Debug)]
pub enum Next {
    /// The reply is to be sent.
    Reply,
    /// It is for others to answer.
    Others,
    /// It is an alias for a name that others are to be asked for.
    Outside(Box<Outside>),
}

/// A question that is being answered.
pub(crate) struct Asked<'a, 'm> {
    pub(crate) query: &'a Query<'m>,
    pub(crate) transport: Transport,
    /// How many labels of the question's name are its zone's.
    pub(crate) zone_labels: usize,
    pub(crate) random: Random,
    /// How long the answer may be kept, seconds.
    pub(crate) ttl: u32,
    /// Where the name is in the reply whose SRV records are asked for.
    pub(crate) owner: usize,
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With the records that were asked for.
    Records,
    /// The name exists, the records do not.
    NoData,
    /// The name does not exist.
    NoName,
    /// Some of the records have no room.
    Cut,
    /// Aliases lead nowhere.
    Loop,
}

/// What one name adds to an answer.
enum Step<'s> {
    End(End),
    /// Another name is meant.
    Alias(&'s str),
    /// Others are to be asked.
    Others,
}

impl Names {
    /// Answers `message`. What is to be sent, if anything, is in `reply` afterwards. `random` is a
    /// new random number for each question: orders and choices follow from it.
    pub fn answer<'m>(
        &self,
        message: &'m [u8],
        transport: Transport,
        random: u64,
        reply: &mut Reply,
    ) -> Outcome<'m> {
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(Unusable::Silent) => return Outcome::Silent,
            Err(Unusable::Code(code)) => {
                reply.writer.reject(message, code);
                return Outcome::Reply;
            }
        };
        match self.answer_query(&query, transport, random, reply) {
            Next::Reply => Outcome::Reply,
            Next::Others => Outcome::Forward(query),
            Next::Outside(outside) => Outcome::Outside(outside),
        }
    }

    /// Answers `query`, as [`Names::answer`] does with a message.
    pub fn answer_query(
        &self,
        query: &Query<'_>,
        transport: Transport,
        random: u64,
        reply: &mut Reply,
    ) -> Next {
        reply.writer.begin(query, query.limit(transport));
        if let Some(code) = refusal(query) {
            reply.writer.finish(query, Header { rcode: code, ..Header::default() });
            return Next::Reply;
        }
        let Some(zone) = self.options.zone_of(&query.name) else { return Next::Others };
        if !self.synced {
            let header = Header { rcode: rcode::SERVFAIL, authoritative: true, ..Header::default() };
            reply.writer.finish(query, header);
            return Next::Reply;
        }
        let zone_labels = zone.name.labels();
        let (random, ttl) = (Random::new(random), self.options.ttl());
        let mut asked = Asked { query, transport, zone_labels, random, ttl, owner: HEADER_LEN };
        match self.step(&mut asked, &query.name, zone, Owner::At(HEADER_LEN), reply) {
            Step::End(end) => {
                self.end(query, end, zone, Some(&query.name), reply);
                Next::Reply
            }
            Step::Alias(target) => self.follow(&mut asked, Way::start(), target, zone, reply),
            Step::Others => Next::Others,
        }
    }

    /// Adds what there is of the type that is asked for at `name`, which is in lower case, or
    /// leaves an absent name to others.
    fn step<'s>(
        &'s self,
        asked: &mut Asked<'_, '_>,
        name: &Name,
        zone: &Zone,
        owner: Owner<'_>,
        reply: &mut Reply,
    ) -> Step<'s> {
        let found = self.lookup(name, zone);
        let may_be_elsewhere = !matches!(found, Found::AbsentEverywhere);
        match self.found(asked, found, zone, owner, reply) {
            Step::End(End::NoName) if may_be_elsewhere && self.options.falls_through(name) => Step::Others,
            step => step,
        }
    }

    /// Adds what there is of the type that is asked for at a name that stands for `found`.
    fn found<'s>(
        &'s self,
        asked: &mut Asked<'_, '_>,
        found: Found<'s, '_>,
        zone: &Zone,
        owner: Owner<'_>,
        reply: &mut Reply,
    ) -> Step<'s> {
        let family = match asked.query.kind {
            kind::A => Some(Family::V4),
            kind::AAAA => Some(Family::V6),
            _ => None,
        };
        let ttl = asked.ttl;
        let end = match found {
            Found::Absent | Found::AbsentEverywhere => End::NoName,
            Found::Apex => self.apex(asked, zone, reply),
            Found::Version if asked.query.kind == kind::TXT => {
                let ttl = self.options.capped(VERSION_TTL);
                records(
                    reply.writer.record(Section::Answer, owner, kind::TXT, ttl, |writer| writer.raw(VERSION)),
                )
            }
            Found::Parent | Found::Version => End::NoData,
            Found::NameServer => {
                self.name_servers(&zone.name, &mut reply.servers);
                let own = reply.servers.iter().map(|(_, address)| *address);
                addresses::write(&mut reply.writer, owner, ttl, family, own)
            }
            Found::Pod(address) => {
                addresses::write(&mut reply.writer, owner, ttl, family, std::iter::once(address))
            }
            Found::Cluster { service, ports } => match asked.query.kind {
                kind::SRV => self.cluster_srv(asked, service, ports, reply),
                _ => addresses::of_cluster(asked, service, owner, family, reply),
            },
            Found::Endpoints(found) => return self.endpoints(asked, &found, owner, family, reply),
            Found::Alias(target) => return alias::step(asked.query.kind, target),
            Found::Address(address) => match asked.query.kind {
                kind::PTR => self.pointers(address, owner, reply),
                _ => End::NoData,
            },
        };
        Step::End(end)
    }

    fn apex(&self, asked: &Asked<'_, '_>, zone: &Zone, reply: &mut Reply) -> End {
        let place = HEADER_LEN;
        match asked.query.kind {
            kind::SOA => {
                records(self.soa(&mut reply.writer, Section::Answer, Owner::At(place), Some(place), zone))
            }
            kind::NS => self.ns(asked, zone, reply),
            _ => End::NoData,
        }
    }

    /// Appends the SOA record of `zone`. Its name may be at `place` of the message.
    fn soa(
        &self,
        writer: &mut Writer,
        section: Section,
        owner: Owner<'_>,
        place: Option<usize>,
        zone: &Zone,
    ) -> bool {
        let ttl = match section {
            Section::Answer => self.options.soa_ttl(),
            _ => self.options.negative_ttl(),
        };
        let minimum = self.options.minimum();
        let serial = self.serial;
        writer.record(section, owner, kind::SOA, ttl, |writer| {
            for labels in [&b"\x02ns\x03dns"[..], b"\x0ahostmaster"] {
                if let Some(place) = place {
                    writer.below(labels, place);
                } else {
                    writer.raw(labels);
                    writer.name(zone.name.as_wire());
                }
            }
            for number in [serial, 7200, 1800, 86_400, minimum] {
                writer.raw(&number.to_be_bytes());
            }
        })
    }

    /// Completes an answer. `asked` is the name of the question, if that is the one whose records
    /// were last looked for.
    fn end(&self, query: &Query<'_>, end: End, zone: &Zone, asked: Option<&Name>, reply: &mut Reply) {
        let mut header = Header { authoritative: true, ..Header::default() };
        match end {
            End::Records => {}
            End::Cut => header.truncated = true,
            End::Loop => header.rcode = rcode::SERVFAIL,
            End::NoData | End::NoName => {
                if end == End::NoName {
                    header.rcode = rcode::NXDOMAIN;
                }
                let place = asked.map(|name| HEADER_LEN + name.start(name.labels() - zone.name.labels()));
                let owner = place.map_or(Owner::Name(zone.name.as_wire()), Owner::At);
                header.truncated = !self.soa(&mut reply.writer, Section::Authority, owner, place, zone);
            }
        }
        reply.writer.finish(query, header);
    }
}

/// Why a question is not answered, whatever its name: the response code.
pub fn refusal(query: &Query<'_>) -> Option<u16> {
    if query.edns.is_some_and(|edns| edns.version > 0) {
        Some(rcode::BADVERS)
    } else if query.class != class::IN || matches!(query.kind, kind::AXFR | kind::IXFR) {
        Some(rcode::REFUSED)
    } else {
        None
    }
}

/// How an answer of one record ends, if that was `written`.
fn records(written: bool) -> End {
    if written { End::Records } else { End::Cut }
}

const _: () = assert!(UDP_MAX < 0x3fff, "pointers reach all of a datagram");

//! Aliases: ExternalName Services and endpoints that are names (spec §4).

use super::{ALIASES_MAX, Asked, End, Next, Step};
use crate::random::Random;
use crate::reply::Reply;
use crate::settings::Zone;
use crate::state::Names;
use crate::wire::{
    Answers, HEADER_LEN, Header, Malformed, Name, Owner, Query, Record, Section, Transport, kind, rcode,
};

/// What an alias leads to outside, and the answer as far as it goes. Whoever can ask others asks
/// for [`Outside::name`], and completes the answer with [`Names::finish`].
#[derive(Debug, Clone)]
pub struct Outside {
    /// The client's question, as a message.
    message: Vec<u8>,
    transport: Transport,
    /// Where each alias leads; the last outside.
    chain: Vec<Name>,
    ttl: u32,
}

/// What an alias adds to the answer to a question for `kind`.
pub(super) fn step(kind: u16, target: &str) -> Step<'_> {
    match kind {
        kind::A | kind::AAAA | kind::CNAME => Step::Alias(target),
        _ => Step::End(End::NoData),
    }
}

/// How far an answer has come.
#[derive(Clone, Copy)]
pub(super) struct Way<'w> {
    /// Where the aliases lead that are in the answer already.
    pub(super) before: &'w [Name],
    /// Where the last of them is in the message.
    pub(super) owner: usize,
}

impl Way<'_> {
    /// At the question's own name.
    pub(super) fn start() -> Way<'static> {
        Way { before: &[], owner: HEADER_LEN }
    }
}

impl Names {
    /// Follows `target`, which the last name of `way` is an alias of.
    pub(super) fn follow<'s>(
        &'s self,
        asked: &mut Asked<'_, '_>,
        way: Way<'_>,
        mut target: &'s str,
        mut zone: &'s Zone,
        reply: &mut Reply,
    ) -> Next {
        let query = asked.query;
        let mut seen: [&str; ALIASES_MAX] = [""; ALIASES_MAX];
        let (mut count, mut owner) = (0, way.owner);
        let end = loop {
            // An object's own text: the same alias twice is the same text at the same place.
            if way.before.len() + count >= ALIASES_MAX
                || seen[..count].iter().any(|known| std::ptr::eq(*known, target))
            {
                break End::Loop;
            }
            seen[count] = target;
            count += 1;
            let Some(mut name) = Name::parse(target) else { break End::Loop };
            let Some(place) = cname(reply, owner, asked.ttl, &name) else {
                break End::Cut;
            };
            if query.kind == kind::CNAME {
                break End::Records;
            }
            owner = place;
            name.make_lowercase();
            let Some(inside) = self.options.zone_of(&name) else {
                return outside(asked, way.before, &seen[..count]);
            };
            zone = inside;
            match self.step(asked, &name, zone, Owner::At(owner), reply) {
                Step::End(end) => break end,
                Step::Alias(next) => target = next,
                Step::Others => return outside(asked, way.before, &seen[..count]),
            }
        };
        self.end(query, end, zone, None, reply);
        Next::Reply
    }

    /// Completes the answer to `outside` with what another server has sent, as
    /// [`Outside::finish`] does. If its aliases lead back to a name that is answered for here, that
    /// name's records are the answer, and others may have to be asked once more. `random` is as for
    /// [`Names::answer`].
    pub fn finish(&self, outside: &Outside, answer: Option<&[u8]>, random: u64, reply: &mut Reply) -> Next {
        let next = outside.query().and_then(|query| self.back(outside, &query, answer?, random, reply));
        next.unwrap_or_else(|| {
            outside.finish(answer, reply);
            Next::Reply
        })
    }

    /// Goes on at a name of ours that another server's aliases lead to; `None` if they do not.
    fn back(
        &self,
        outside: &Outside,
        query: &Query<'_>,
        answer: &[u8],
        random: u64,
        reply: &mut Reply,
    ) -> Option<Next> {
        let heard = outside.read(query, answer).ok()?;
        let mut name = heard.aliases.last()?.clone();
        name.make_lowercase();
        let zone = self.options.zone_of(&name)?;
        let chain: Vec<Name> = outside.chain.iter().chain(&heard.aliases).cloned().collect();
        if chain.len() > ALIASES_MAX {
            return None;
        }
        reply.writer.begin(query, query.limit(outside.transport));
        let mut owner = HEADER_LEN;
        for target in &chain {
            let Some(place) = cname(reply, owner, heard.ttl, target) else {
                self.end(query, End::Cut, zone, None, reply);
                return Some(Next::Reply);
            };
            owner = place;
        }
        let zone_labels = self.options.zone_of(&query.name).map_or(0, |zone| zone.name.labels());
        let (transport, random) = (outside.transport, Random::new(random));
        let mut asked = Asked { query, transport, zone_labels, random, ttl: heard.ttl, owner };
        match self.step(&mut asked, &name, zone, Owner::At(owner), reply) {
            Step::End(end) => {
                self.end(query, end, zone, None, reply);
                Some(Next::Reply)
            }
            Step::Alias(target) => {
                let way = Way { before: &chain, owner };
                Some(self.follow(&mut asked, way, target, zone, reply))
            }
            // Others have answered for it.
            Step::Others => None,
        }
    }
}

/// Keeps what is needed to go on when others have answered.
fn outside(asked: &Asked<'_, '_>, before: &[Name], chain: &[&str]) -> Next {
    let message = message_of(asked.query);
    let chain = chain.iter().filter_map(|target| Name::parse(target));
    let chain = before.iter().cloned().chain(chain).collect();
    Next::Outside(Box::new(Outside { message, transport: asked.transport, chain, ttl: asked.ttl }))
}

/// A question as a message, without what is of no use any more.
pub(super) fn message_of(query: &Query<'_>) -> Vec<u8> {
    let mut message = Vec::new();
    message.extend_from_slice(&query.id.to_be_bytes());
    message.extend_from_slice(&query.flags.to_be_bytes());
    message.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::from(query.edns.is_some())]);
    message.extend_from_slice(query.question);
    if let Some(edns) = query.edns {
        let [high, low] = edns.size.to_be_bytes();
        let flags = if edns.dnssec_ok { 0x80 } else { 0 };
        message.extend_from_slice(&[0, 0, 41, high, low, 0, 0, flags, 0, 0, 0]);
    }
    message
}

/// Appends an alias, and returns the place of the name that it leads to.
pub(super) fn cname(reply: &mut Reply, owner: usize, ttl: u32, target: &Name) -> Option<usize> {
    let mut place = 0;
    let written = reply.writer.record(Section::Answer, Owner::At(owner), kind::CNAME, ttl, |writer| {
        place = writer.name(target.as_wire());
    });
    written.then_some(place)
}

/// What another server's answer says about a name.
struct Heard<'m> {
    /// Where further aliases lead.
    aliases: Vec<Name>,
    /// The records that were asked for.
    records: Vec<Record<'m>>,
    soa: Option<(Record<'m>, Soa<'m>)>,
    rcode: u16,
    truncated: bool,
    ttl: u32,
}

/// The data of a SOA record.
struct Soa<'m> {
    server: Name,
    mailbox: Name,
    numbers: &'m [u8],
}

impl Outside {
    /// The name to ask for.
    pub fn name(&self) -> &Name {
        // An alias leads somewhere: the chain has an end.
        &self.chain[self.chain.len() - 1]
    }

    /// The type to ask for.
    pub fn kind(&self) -> u16 {
        self.query().map_or(0, |query| query.kind)
    }

    /// Completes the answer with what another server has sent; `None` if none has answered. That it
    /// is the answer to what was asked has been checked, apart from the owners of records. Aliases
    /// in it that lead back here are for [`Names::finish`] to follow.
    pub fn finish(&self, answer: Option<&[u8]>, reply: &mut Reply) {
        let Some(query) = self.query() else {
            return reply.writer.reject(&self.message, rcode::SERVFAIL);
        };
        let heard = answer.and_then(|message| self.read(&query, message).ok());
        reply.writer.begin(&query, query.limit(self.transport));
        let mut header = Header { authoritative: true, rcode: rcode::SERVFAIL, ..Header::default() };
        let ttl = heard.as_ref().map_or(self.ttl, |heard| heard.ttl);
        let aliases = heard.iter().flat_map(|heard| &heard.aliases);
        let mut owner = HEADER_LEN;
        for target in self.chain.iter().chain(aliases).take(ALIASES_MAX) {
            if let Some(place) = cname(reply, owner, ttl, target) {
                owner = place;
            } else {
                header = Header { rcode: rcode::NOERROR, truncated: true, ..header };
                return reply.writer.finish(&query, header);
            }
        }
        if let Some(heard) = heard.filter(|heard| self.chain.len() + heard.aliases.len() <= ALIASES_MAX) {
            header.rcode = heard.rcode;
            header.truncated = heard.truncated | !write(&heard, owner, reply);
        }
        reply.writer.finish(&query, header);
    }

    fn query(&self) -> Option<Query<'_>> {
        Query::parse(&self.message).ok()
    }

    /// Reads what `message` says about the name that was asked for.
    fn read<'m>(&self, query: &Query<'_>, message: &'m [u8]) -> Result<Heard<'m>, Malformed> {
        let answers = Answers::parse(message)?;
        let (rcode, truncated) = (answers.rcode(), answers.is_truncated());
        let records = answers.collect::<Result<Vec<Record<'m>>, Malformed>>();
        let records = match records {
            // Of what is cut, as much as is whole.
            Err(_) if truncated => Answers::parse(message)?.map_while(Result::ok).collect(),
            records => records?,
        };
        let mut heard =
            Heard { aliases: Vec::new(), records: Vec::new(), soa: None, rcode, truncated, ttl: self.ttl };
        let mut name = self.name().clone();
        // One more than an answer may have shows that there are too many.
        while heard.aliases.len() <= ALIASES_MAX {
            let mut aliases = records.iter().filter(|record| record.answers(kind::CNAME));
            let Some(record) = aliases.find(|record| record.owner.is_same(&name)) else { break };
            (name, _) = Name::read(message, record.at)?;
            heard.ttl = heard.ttl.min(record.ttl);
            heard.aliases.push(name.clone());
        }
        let length = if query.kind == kind::A { 4 } else { 16 };
        for record in records {
            if record.answers(query.kind) && record.owner.is_same(&name) && record.data.len() == length {
                heard.ttl = heard.ttl.min(record.ttl);
                heard.records.push(record);
            } else if record.section == 1 && record.kind == kind::SOA {
                heard.soa = Soa::read(message, record.at).ok().map(|soa| (record, soa));
            }
        }
        Ok(heard)
    }
}

/// Appends the records, or the SOA record if there are none. Returns false if one has no room.
fn write(heard: &Heard<'_>, owner: usize, reply: &mut Reply) -> bool {
    let mut room = true;
    for record in &heard.records {
        room &= reply.writer.record(Section::Answer, Owner::At(owner), record.kind, heard.ttl, |writer| {
            writer.raw(record.data);
        });
    }
    if let Some((record, soa)) = heard.soa.as_ref().filter(|_| heard.records.is_empty()) {
        let (owner, ttl) = (Owner::Name(record.owner.as_wire()), heard.ttl.min(record.ttl));
        room &= reply.writer.record(Section::Authority, owner, kind::SOA, ttl, |writer| {
            writer.name(soa.server.as_wire());
            writer.name(soa.mailbox.as_wire());
            writer.raw(soa.numbers);
        });
    }
    room
}

impl<'m> Soa<'m> {
    fn read(message: &'m [u8], at: usize) -> Result<Soa<'m>, Malformed> {
        let (server, next) = Name::read(message, at)?;
        let (mailbox, next) = Name::read(message, next)?;
        let numbers = message.get(next..next + 20).ok_or(Malformed)?;
        Ok(Soa { server, mailbox, numbers })
    }
}

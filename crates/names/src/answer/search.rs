//! Server-side search: a pod's question for a name in its own namespace goes on to the other
//! domains of its search list, so that the pod asks once.
//!
//! The rules are those of CoreDNS's `autopath @kubernetes`: only the first domain of the list, only
//! in the client's own namespace, and the first name that exists ends the search, whatever records
//! it has. All types of one name are therefore found at the same place.

use std::net::IpAddr;

use super::alias::{Outside, Way, cname, message_of};
use super::{Asked, End, Next, Step};
use crate::random::Random;
use crate::reply::Reply;
use crate::settings::Zone;
use crate::state::Names;
use crate::wire::{HEADER_LEN, Header, Name, Owner, Query, Transport, kind, rcode};

/// A search that has come to a name that others know. Whoever can ask them asks for
/// [`Searching::name`], and goes on with [`Names::search_on`] if it does not exist.
#[derive(Debug, Clone)]
pub struct Searching {
    /// The client's question, as a message.
    message: Vec<u8>,
    transport: Transport,
    /// The names that are yet to be tried; the next is the last.
    names: Vec<Name>,
}

/// How far a search has come.
#[derive(Debug)]
pub enum Sought {
    /// The reply is to be sent.
    Reply,
    /// A name exists, and is an alias for one that others are to be asked for.
    Outside(Box<Outside>),
    /// Others are to be asked for a name.
    Others(Box<Searching>),
}

impl Searching {
    /// The name that others are to be asked for.
    pub fn name(&self) -> Name {
        self.names.last().cloned().unwrap_or_else(Name::root)
    }
}

impl Names {
    /// Whether the settings ask for server-side search.
    pub fn searches(&self) -> bool {
        self.options.search.is_some()
    }

    /// Goes on with `query`, whose answer in `reply` is that the name does not exist, if `client`
    /// is a pod whose search list begins with the domain that the name is in. `random` is as for
    /// [`Names::answer`].
    pub fn search(
        &self,
        query: &Query<'_>,
        client: IpAddr,
        transport: Transport,
        random: u64,
        reply: &mut Reply,
    ) -> Sought {
        let Some(names) = self.candidates(query, client.to_canonical()) else { return Sought::Reply };
        let searching = Searching { message: message_of(query), transport, names };
        self.go_on(query, Box::new(searching), random, reply)
    }

    /// Goes on after others have said that the name that they were asked for does not exist.
    pub fn search_on(&self, mut searching: Box<Searching>, random: u64, reply: &mut Reply) -> Sought {
        searching.names.pop();
        let message = searching.message.clone();
        match Query::parse(&message) {
            Ok(query) => self.go_on(&query, searching, random, reply),
            // It was written here.
            Err(_) => Sought::Reply,
        }
    }

    fn go_on(
        &self,
        query: &Query<'_>,
        mut searching: Box<Searching>,
        random: u64,
        reply: &mut Reply,
    ) -> Sought {
        while let Some(name) = searching.names.last() {
            let mut lower = name.clone();
            lower.make_lowercase();
            let Some(zone) = self.options.zone_of(&lower) else { return Sought::Others(searching) };
            if !can_be_found(query, &lower, zone) {
                break;
            }
            match self.look(query, (name, &lower), zone, (searching.transport, random), reply) {
                Some(Next::Reply) => return Sought::Reply,
                Some(Next::Outside(outside)) => return Sought::Outside(outside),
                Some(Next::Others) => return Sought::Others(searching),
                None => drop(searching.names.pop()),
            }
        }
        // The answer to the question itself, as it is by now.
        match self.answer_query(query, searching.transport, random, reply) {
            Next::Outside(outside) => Sought::Outside(outside),
            Next::Reply => Sought::Reply,
            Next::Others => {
                let header = Header { rcode: rcode::SERVFAIL, ..Header::default() };
                reply.writer.finish(query, header);
                Sought::Reply
            }
        }
    }

    /// The names that the search list makes of what was asked for, the last first, after that of
    /// its first domain. `None` if `client` is no pod of the namespace that the name is in.
    fn candidates(&self, query: &Query<'_>, client: IpAddr) -> Option<Vec<Name>> {
        let search = self.options.search.as_ref()?;
        let zone = self.options.zone_of(&query.name).filter(|zone| !zone.reverse)?;
        let own = query.name.labels() - zone.name.labels();
        let wanted = own >= 3 && query.name.label(own - 1) == b"svc" && self.synced;
        let of_pod = wanted && self.pods.has(query.name.label(own - 2), client);
        let covered =
            search.domains.is_empty() || search.domains.iter().any(|domain| query.name.is_within(domain));
        if !of_pod || !covered {
            return None;
        }
        let base = query.spelled(0).get(..query.name.start(own - 2))?;
        let within = |domain: &[u8]| {
            let mut name = Name::root();
            (name.push_wire(base) && name.push_wire(domain)).then_some(name)
        };
        let own_domains = [query.spelled(own - 1), query.spelled(own)].into_iter();
        let others = search.list.iter().map(Name::as_wire).chain([&b"\0"[..]]);
        // What is too long for a name is none.
        let mut names: Vec<Name> = own_domains.chain(others).filter_map(within).collect();
        names.reverse();
        Some(names)
    }

    /// Adds an alias for `name` and what there is at it; `None` if it does not exist.
    fn look<'s>(
        &'s self,
        query: &Query<'_>,
        (name, lower): (&Name, &Name),
        zone: &'s Zone,
        (transport, random): (Transport, u64),
        reply: &mut Reply,
    ) -> Option<Next> {
        reply.writer.begin(query, query.limit(transport));
        let (zone_labels, ttl) = (zone.name.labels(), self.options.ttl());
        let mut asked =
            Asked { query, transport, zone_labels, random: Random::new(random), ttl, owner: HEADER_LEN };
        let Some(place) = cname(reply, HEADER_LEN, ttl, name) else {
            self.end(query, End::Cut, zone, None, reply);
            return Some(Next::Reply);
        };
        asked.owner = place;
        match self.step(&mut asked, lower, zone, Owner::At(place), reply) {
            Step::End(End::NoName) => None,
            Step::End(End::NoData) => {
                // As the reference has it: no alias without a record.
                reply.writer.rewind(query);
                self.end(query, End::NoData, zone, None, reply);
                Some(Next::Reply)
            }
            Step::End(end) => {
                self.end(query, end, zone, None, reply);
                Some(Next::Reply)
            }
            Step::Alias(target) => {
                let before = [name.clone()];
                Some(self.follow(&mut asked, Way { before: &before, owner: place }, target, zone, reply))
            }
            Step::Others => Some(Next::Others),
        }
    }
}

/// Whether the answer for `name` can be written behind an alias: records of a zone itself, and
/// targets in another zone than the question's, are spelled by the question.
fn can_be_found(query: &Query<'_>, name: &Name, zone: &Zone) -> bool {
    match query.kind {
        kind::SOA | kind::NS => *name != zone.name,
        kind::SRV => query.name.is_within(&zone.name),
        _ => true,
    }
}

//! What is to be done about one message. Each thread has a responder for itself.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use portolan_names::wire::{Header, Query, Unusable, Writer, rcode};
use portolan_names::{Names, Next, Reply, Sought, Transport, refusal};
use portolan_service::Family;

use crate::access::Access;
use crate::counters::Source;
use crate::later::{Later, Wanted, fit};
use crate::others::Others;
use crate::query_log::{Entry, QueryLog};
use crate::settings::Refusal;
use crate::shared::Shared;
use crate::zones::{Route, Zones};

/// A message, and who sent it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'m> {
    pub(crate) octets: &'m [u8],
    pub(crate) client: SocketAddr,
    pub(crate) transport: Transport,
    /// When it was received.
    pub(crate) received: Instant,
}

/// What is to be done about a message.
pub(crate) enum Then {
    /// The answer was appended.
    Send,
    /// Nothing is sent.
    Nothing,
    /// Others are asked.
    Later(Box<Later>),
}

/// Answers messages.
pub(crate) struct Responder {
    shared: Arc<Shared>,
    /// The number of this thread's counters.
    number: usize,
    reply: Reply,
    writer: Writer,
    random: u64,
    /// Answers whose duration is yet to be known.
    receipts: Vec<Receipt>,
    /// Questions since the last one that was logged.
    unlogged: u32,
}

struct Receipt {
    route: usize,
    received: Instant,
    log: Option<(QueryLog, Box<Entry>)>,
}

/// Names that are locked for one answer after the other.
#[derive(Default)]
pub(crate) struct Held<'z>(Option<(&'z Arc<RwLock<Names>>, RwLockReadGuard<'z, Names>)>);

impl<'z> Held<'z> {
    fn names(&mut self, wanted: &'z Arc<RwLock<Names>>) -> &Names {
        if !matches!(&self.0, Some((held, _)) if Arc::ptr_eq(held, wanted)) {
            // Never two at once.
            self.0 = None;
        }
        let (_, guard) =
            self.0.get_or_insert_with(|| (wanted, wanted.read().unwrap_or_else(PoisonError::into_inner)));
        guard
    }
}

impl Responder {
    /// With the counters that have this number.
    pub(crate) fn new(shared: Arc<Shared>, number: usize) -> Responder {
        Responder {
            shared,
            number,
            reply: Reply::new(),
            writer: Writer::new(),
            random: RandomState::new().hash_one(number),
            receipts: Vec::new(),
            unlogged: 0,
        }
    }

    /// The number of its counters.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Answers a message, into `out` if the answer is at hand. A panic ends this answer alone.
    pub(crate) fn answer<'z>(
        &mut self,
        zones: &'z Zones,
        access: &Access,
        held: &mut Held<'z>,
        message: Message<'_>,
        out: &mut Vec<u8>,
    ) -> Then {
        let start = out.len();
        let answered = catch_unwind(AssertUnwindSafe(|| self.find(zones, access, held, message, out)));
        answered.unwrap_or_else(|_| {
            self.shared.counters[self.number].panics.add(1);
            out.truncate(start);
            // What was being written is in an unknown state.
            (self.reply, self.writer) = (Reply::new(), Writer::new());
            self.writer.reject(message.octets, rcode::SERVFAIL);
            out.extend_from_slice(self.writer.message());
            Then::Send
        })
    }

    fn find<'z>(
        &mut self,
        zones: &'z Zones,
        access: &Access,
        held: &mut Held<'z>,
        message: Message<'_>,
        out: &mut Vec<u8>,
    ) -> Then {
        let counters = &self.shared.counters[self.number];
        let allowed = access.allows(message.client.ip());
        if !allowed {
            counters.forbidden.add(1);
            if access.otherwise == Refusal::Silence {
                return Then::Nothing;
            }
        }
        let query = match Query::parse(message.octets) {
            Ok(query) => query,
            Err(Unusable::Silent) => {
                counters.ignored.add(1);
                return Then::Nothing;
            }
            Err(Unusable::Code(code)) => {
                counters.rejected.add(1);
                self.writer.reject(message.octets, if allowed { code } else { rcode::REFUSED });
                out.extend_from_slice(self.writer.message());
                return Then::Send;
            }
        };
        if !allowed {
            self.refuse(&query, rcode::REFUSED, out);
            return Then::Send;
        }
        let Some(number) = zones.of(&query.name) else {
            counters.elsewhere.add(1);
            self.refuse(&query, refusal(&query).unwrap_or(rcode::REFUSED), out);
            return Then::Send;
        };
        let route = zones.route(number);
        let counters = &route.counters[self.number];
        let family = if message.client.ip().to_canonical().is_ipv4() { Family::V4 } else { Family::V6 };
        counters.request(message.transport, family, query.kind, message.octets.len());
        let log = self.log(route, &query, message);
        let start = out.len();
        match self.at_hand(route, held, &query, message, out) {
            AtHand::Answer(source) => {
                self.answered((zones, number), source, &query, message, &out[start..], log);
                Then::Send
            }
            AtHand::Later(others, wanted) => {
                let names = route.block.names.clone();
                let later = Later {
                    message: message.octets.into(),
                    client: message.client,
                    transport: message.transport,
                    others,
                    wanted: wanted.and_then(|wanted| Some((wanted, names?))),
                    counters: route.counters.clone(),
                    log,
                    started: message.received,
                };
                Then::Later(Box::new(later))
            }
        }
    }

    /// Appends the answer to `query` to `out`, or says who else is to be asked.
    fn at_hand<'z>(
        &mut self,
        route: &'z Route,
        held: &mut Held<'z>,
        query: &Query<'_>,
        message: Message<'_>,
        out: &mut Vec<u8>,
    ) -> AtHand {
        if let Some(code) = refusal(query) {
            self.refuse(query, code, out);
            return AtHand::Answer(Source::Server);
        }
        let (block, transport) = (&route.block, message.transport);
        let start = out.len();
        if block.known.as_ref().is_some_and(|known| known.answer(query, transport, out)) {
            limit(message, start, out);
            return AtHand::Answer(Source::Others);
        }
        let mut outside = None;
        if let Some(names) = &block.names {
            // What is random in an answer follows from this number.
            self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let names = held.names(names);
            match names.answer_query(query, transport, self.random, &mut self.reply) {
                Next::Reply if names.searches() && is_no_name(self.reply.message()) => {
                    out.extend_from_slice(self.reply.message());
                    let client = message.client.ip();
                    let sought = names.search(query, client, transport, self.random, &mut self.reply);
                    return self.sought(route, sought, start, out);
                }
                Next::Reply => {
                    out.extend_from_slice(self.reply.message());
                    return AtHand::Answer(Source::Cluster);
                }
                Next::Others => {}
                Next::Outside(found) => outside = Some(found),
            }
        }
        match (&block.others, outside) {
            (None, None) => {
                self.refuse(query, rcode::REFUSED, out);
                AtHand::Answer(Source::Server)
            }
            (None, Some(outside)) => {
                outside.finish(None, &mut self.reply);
                out.extend_from_slice(self.reply.message());
                AtHand::Answer(Source::Cluster)
            }
            (Some(others), None) if others.at_hand(query, message.octets, transport, out) => {
                limit(message, start, out);
                AtHand::Answer(Source::Others)
            }
            (Some(others), outside) => AtHand::Later(others.clone(), outside.map(Wanted::Outside)),
        }
    }

    /// Puts what a search has found in place of the answer at `start`, or says who else is to be
    /// asked.
    fn sought(&mut self, route: &Route, sought: Sought, start: usize, out: &mut Vec<u8>) -> AtHand {
        let wanted = match sought {
            Sought::Reply => None,
            Sought::Others(searching) => Some(Wanted::Search(searching)),
            Sought::Outside(outside) => Some(Wanted::Outside(outside)),
        };
        match (wanted, &route.block.others) {
            (Some(wanted), Some(others)) => {
                out.truncate(start);
                return AtHand::Later(others.clone(), Some(wanted));
            }
            // There is nobody who knows more.
            (Some(_), None) => {}
            (None, _) => {
                if !is_no_name(self.reply.message()) {
                    route.counters[self.number].found.add(1);
                }
                out.truncate(start);
                out.extend_from_slice(self.reply.message());
            }
        }
        AtHand::Answer(Source::Cluster)
    }

    /// Answers with a code alone.
    fn refuse(&mut self, query: &Query<'_>, code: u16, out: &mut Vec<u8>) {
        self.writer.begin(query, query.limit(Transport::Udp));
        self.writer.finish(query, Header { rcode: code, ..Header::default() });
        out.extend_from_slice(self.writer.message());
    }

    /// What the log says of a question, if it is to be logged.
    fn log(
        &mut self,
        route: &Route,
        query: &Query<'_>,
        message: Message<'_>,
    ) -> Option<(QueryLog, Box<Entry>)> {
        let log = route.block.log.as_ref()?;
        self.unlogged += 1;
        if self.unlogged < log.one_of {
            return None;
        }
        self.unlogged = 0;
        let entry = Entry {
            client: message.client,
            transport: message.transport,
            id: query.id,
            name: query.name.clone(),
            kind: query.kind,
            class: query.class,
            size: message.octets.len(),
            edns: query.edns.map(|edns| (edns.size, edns.dnssec_ok)),
            rcode: 0,
            flags: 0,
            reply_size: 0,
            duration: Duration::ZERO,
        };
        Some((log.clone(), Box::new(entry)))
    }

    /// Counts an answer.
    fn answered(
        &mut self,
        (zones, route): (&Zones, usize),
        source: Source,
        query: &Query<'_>,
        message: Message<'_>,
        answer: &[u8],
        log: Option<(QueryLog, Box<Entry>)>,
    ) {
        let flags = u16::from_be_bytes([answer[2], answer[3]]);
        let newer = query.edns.is_some_and(|edns| edns.version > 0);
        let code = if newer { rcode::BADVERS } else { flags & 0xf };
        let counters = &zones.route(route).counters[self.number];
        counters.response(message.transport, code, source, answer.len());
        let log = log.map(|(log, mut entry)| {
            (entry.rcode, entry.flags, entry.reply_size) = (code, flags, answer.len());
            (log, entry)
        });
        self.receipts.push(Receipt { route, received: message.received, log });
    }

    /// The answers since the last call have been sent.
    pub(crate) fn sent(&mut self, zones: &Zones) {
        if self.receipts.is_empty() {
            return;
        }
        let now = Instant::now();
        for receipt in self.receipts.drain(..) {
            let duration = now.saturating_duration_since(receipt.received);
            zones.route(receipt.route).counters[self.number].took(duration, 1);
            let Some((log, mut entry)) = receipt.log else { continue };
            entry.duration = duration;
            if !self.shared.log.put(&log, entry) {
                self.shared.log_dropped.add_shared(1);
            }
        }
    }
}

/// Whether an answer says that the name does not exist, and has no alias for it.
fn is_no_name(answer: &[u8]) -> bool {
    let code = answer.get(3).map(|flags| u16::from(flags & 0xf));
    code == Some(rcode::NXDOMAIN) && answer.get(6..8) == Some(&[0, 0])
}

/// Where the answer to a question is.
enum AtHand {
    /// Appended
    Answer(Source),
    /// With others, who are asked for something else than the question, if that is given.
    Later(Arc<dyn Others>, Option<Wanted>),
}

/// Makes what others have appended to `out` fit what the client takes.
fn limit(message: Message<'_>, start: usize, out: &mut Vec<u8>) {
    let mut answer = out.split_off(start);
    fit(message.octets, message.transport, &mut answer);
    out.append(&mut answer);
}

//! Answers that others give, whenever they do.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use portolan_names::wire::{HEADER_LEN, Header, Query, Writer, rcode};
use portolan_names::{Names, Next, Outside, Reply, Searching, Sought, Transport};

use crate::counters::{Source, ZoneCounters};
use crate::others::Others;
use crate::query_log::{Entry, QueryLog};
use crate::shared::Shared;
use crate::under_way::Token;

/// The way back to who asked.
pub(crate) trait Way: Send {
    /// Sends the answer, without waiting. Returns false if the kernel does not take it.
    fn send(&self, message: Vec<u8>) -> bool;

    /// There will be no answer.
    fn give_up(&self);
}

/// A question that others are to be asked.
pub(crate) struct Later {
    pub(crate) message: Box<[u8]>,
    pub(crate) client: SocketAddr,
    pub(crate) transport: Transport,
    pub(crate) others: Arc<dyn Others>,
    /// What others are asked for, and the names that it comes from; `None`: for the message as it
    /// is.
    pub(crate) wanted: Option<(Wanted, Arc<RwLock<Names>>)>,
    pub(crate) counters: Arc<[ZoneCounters]>,
    pub(crate) log: Option<(QueryLog, Box<Entry>)>,
    pub(crate) started: Instant,
}

/// What others are asked for in place of a client's question.
pub(crate) enum Wanted {
    /// Where an alias leads.
    Outside(Box<Outside>),
    /// A name of a search.
    Search(Box<Searching>),
}

/// What is needed to complete an answer.
struct Completion {
    shared: Arc<Shared>,
    /// The client's message.
    message: Box<[u8]>,
    transport: Transport,
    counters: Arc<[ZoneCounters]>,
    log: Option<(QueryLog, Box<Entry>)>,
    started: Instant,
    /// `None` once it was used.
    way: Option<Box<dyn Way>>,
    _under_way: Token,
}

impl Later {
    /// Asks, and returns at once.
    pub(crate) fn ask(self, shared: &Arc<Shared>, way: Box<dyn Way>) {
        let Later { message, client, transport, others, wanted, counters, log, started } = self;
        let completion = Completion {
            shared: shared.clone(),
            message: message.clone(),
            transport,
            counters,
            log,
            started,
            way: Some(way),
            _under_way: shared.under_way.begin(),
        };
        match wanted {
            None => others.ask(message, client, transport, Box::new(|answer| completion.finish(answer))),
            Some((Wanted::Outside(outside), names)) => look_up(outside, names, others, completion),
            Some((Wanted::Search(searching), names)) => search(searching, names, others, completion),
        }
    }
}

/// Asks for the name that an alias leads to, again if that leads to one more.
fn look_up(
    outside: Box<Outside>,
    names: Arc<RwLock<Names>>,
    others: Arc<dyn Others>,
    completion: Completion,
) {
    let (name, kind, asked) = (outside.name().clone(), outside.kind(), others.clone());
    let done = move |answer: Option<Vec<u8>>| {
        let mut reply = Reply::new();
        let random = RandomState::new().hash_one(0);
        let locked = names.read().unwrap_or_else(PoisonError::into_inner);
        let next = locked.finish(&outside, answer.as_deref(), random, &mut reply);
        drop(locked);
        match next {
            Next::Outside(next) => look_up(next, names, others, completion),
            Next::Reply | Next::Others => completion.finish(reply.message().to_vec()),
        }
    };
    asked.look_up(&name, kind, Box::new(done));
}

/// Asks for a name of a search, and for the next if it does not exist.
fn search(
    searching: Box<Searching>,
    names: Arc<RwLock<Names>>,
    others: Arc<dyn Others>,
    completion: Completion,
) {
    let (name, asked) = (searching.name(), others.clone());
    let (message, transport) = (completion.message.clone(), completion.transport);
    let done = move |answer: Option<Vec<u8>>| {
        let code = answer.as_ref().and_then(|answer| Some(u16::from(answer.get(3)? & 0xf)));
        match (answer, code) {
            (Some(answer), Some(rcode::NOERROR)) => completion.found(answer),
            (_, Some(rcode::NXDOMAIN)) => {
                let mut reply = Reply::new();
                let random = RandomState::new().hash_one(0);
                let locked = names.read().unwrap_or_else(PoisonError::into_inner);
                let sought = locked.search_on(searching, random, &mut reply);
                drop(locked);
                match sought {
                    Sought::Others(next) => search(next, names, others, completion),
                    Sought::Outside(outside) => look_up(outside, names, others, completion),
                    Sought::Reply => completion.finish(reply.message().to_vec()),
                }
            }
            // A failure is no reason to say that the name does not exist.
            _ => completion.finish(Vec::new()),
        }
    };
    asked.search(message, &name, transport, Box::new(done));
}

impl Completion {
    /// With what a search has found.
    fn found(self, answer: Vec<u8>) {
        let number = self.shared.later_counters();
        let together = self.shared.later.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counters) = self.counters.get(number) {
            counters.found.add(1);
        }
        drop(together);
        self.finish(answer);
    }

    fn finish(mut self, answer: Vec<u8>) {
        self.send(answer);
    }

    fn send(&mut self, mut answer: Vec<u8>) {
        let Some(way) = self.way.take() else { return };
        if !fit(&self.message, self.transport, &mut answer) {
            answer = failure(&self.message);
        }
        if answer.len() < HEADER_LEN {
            return way.give_up();
        }
        let (size, flags) = (answer.len(), u16::from_be_bytes([answer[2], answer[3]]));
        let duration = self.started.elapsed();
        let sent = way.send(answer);
        let number = self.shared.later_counters();
        let together = self.shared.later.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counters) = self.counters.get(number) {
            counters.response(self.transport, flags & 0xf, Source::Others, size);
            counters.took(duration, 1);
        }
        if !sent {
            self.shared.counters[number].unsent.add(1);
        }
        drop(together);
        if let Some((log, mut entry)) = self.log.take() {
            (entry.rcode, entry.flags) = (flags & 0xf, flags);
            (entry.reply_size, entry.duration) = (size, duration);
            if !self.shared.log.put(&log, entry) {
                self.shared.log_dropped.add_shared(1);
            }
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        // Whoever was asked has forgotten the question.
        self.send(Vec::new());
    }
}

/// Makes `answer` fit what the client takes. Returns false if it is none.
pub(crate) fn fit(message: &[u8], transport: Transport, answer: &mut Vec<u8>) -> bool {
    if answer.len() < HEADER_LEN {
        return false;
    }
    let Ok(query) = Query::parse(message) else { return false };
    if answer.len() > query.limit(transport) {
        let flags = [answer[2], answer[3]];
        let mut writer = Writer::new();
        writer.begin(&query, query.limit(transport));
        let header = Header {
            rcode: u16::from(flags[1] & 0xf),
            authoritative: flags[0] & 4 != 0,
            truncated: true,
            recursion_available: flags[1] & 0x80 != 0,
        };
        writer.finish(&query, header);
        answer.clear();
        answer.extend_from_slice(writer.message());
    }
    true
}

/// SERVFAIL for a question that others were to answer.
fn failure(message: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    match Query::parse(message) {
        Ok(query) => {
            writer.begin(&query, query.limit(Transport::Udp));
            let header = Header { rcode: rcode::SERVFAIL, recursion_available: true, ..Header::default() };
            writer.finish(&query, header);
        }
        Err(_) => writer.reject(message, rcode::SERVFAIL),
    }
    writer.message().to_vec()
}

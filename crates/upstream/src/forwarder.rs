//! Questions of clients, and the answers that they get.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use portolan_names::wire::{Header, Name, Query, Transport, Unusable, Writer, class, kind, rcode};

use tokio::runtime::Handle;

use crate::answer::{Answer, Manner, Ttl};
use crate::cache::Cache;
use crate::loops::Probes;
use crate::metrics::Metrics;
use crate::question::{Question, flag};
use crate::settings::{self, Error, Settings};
use crate::zone::{AtOnce, Resolved, Zone};

/// Answers what is not the cluster's: from fixed addresses, from its cache, and from other servers.
///
/// It may be cloned: all clones are one. Its tasks run in the Tokio runtime that made it, and end
/// with the last clone.
#[derive(Debug, Clone)]
pub struct Forwarder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: RwLock<Arc<State>>,
    probes: Arc<Probes>,
    metrics: Metrics,
    /// Where tasks run, whoever asks.
    runtime: Handle,
}

/// What follows from the settings.
#[derive(Debug)]
struct State {
    /// The longest first.
    zones: Vec<Arc<Zone>>,
    own: Vec<SocketAddr>,
}

impl Forwarder {
    /// Of `settings`, counted in `metrics`. To be called in a Tokio runtime with I/O and time.
    pub fn new(settings: &Settings, metrics: Metrics) -> Result<Forwarder, Error> {
        let probes = Arc::default();
        let state = Arc::new(State::new(settings, &probes, &metrics, None)?);
        let runtime = Handle::current();
        Ok(Forwarder(Arc::new(Inner { state: RwLock::new(state), probes, metrics, runtime })))
    }

    /// Has other settings from now on. Questions that are under way end as they began. What does
    /// not change is kept: of a zone its cache, if that and its servers are as before. After an
    /// error all is as it was. It reads files.
    pub fn replace(&self, settings: &Settings) -> Result<(), Error> {
        let Inner { state, probes, metrics, runtime } = &*self.0;
        let _runtime = runtime.enter();
        let new = Arc::new(State::new(settings, probes, metrics, Some(&self.state()))?);
        *state.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.0.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Appends the reply to `query` to `reply`, if it is known without asking anybody, and returns
    /// whether it is. It returns at once, and may be called from any thread.
    pub fn at_once(&self, query: &Query<'_>, transport: Transport, reply: &mut Vec<u8>) -> bool {
        match self.begin(query, question(query), None, transport) {
            Begun::Done(message) => {
                reply.extend_from_slice(&message);
                true
            }
            Begun::Ask(_) => false,
        }
    }

    /// Appends the reply to `query` to `reply`, if its name has fixed addresses, and returns
    /// whether it has. It returns at once. Such names come before all others, the cluster's too.
    pub fn fixed(&self, query: &Query<'_>, transport: Transport, reply: &mut Vec<u8>) -> bool {
        let state = self.state();
        let Some(zone) = state.zone_of(&query.name) else { return false };
        let Some(Resolved::Answer(answer, ttl)) = zone.fixed(&question(query)) else { return false };
        let resolved = Resolved::Answer(answer, ttl);
        reply.extend_from_slice(&write(query, None, transport, zone.settings.shuffle, &resolved));
        true
    }

    /// The reply to a client's `message`: with its id, its spelling of the name, and as long as it
    /// may be. `None`: nothing is to be sent.
    ///
    /// It takes two tries of two seconds at most, with the settings of [`crate::Forward::new`].
    pub async fn answer(&self, message: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(Unusable::Silent) => return None,
            Err(Unusable::Code(code)) => {
                let mut writer = Writer::new();
                writer.reject(message, code);
                return Some(writer.message().to_vec());
            }
        };
        Some(self.resolve(&query, question(&query), None, transport).await)
    }

    /// The reply to a client's `message`, with what there is at `name` in place of the question's
    /// own name. If there are records, they are behind an alias for `name`; if there are none, the
    /// code is that of `name`. `None`: `message` is no question.
    pub async fn search(&self, message: &[u8], name: &Name, transport: Transport) -> Option<Vec<u8>> {
        let query = Query::parse(message).ok()?;
        let mut asked = question(&query);
        asked.name = name.clone();
        asked.name.make_lowercase();
        Some(self.resolve(&query, asked, Some(name), transport).await)
    }

    async fn resolve(
        &self,
        query: &Query<'_>,
        asked: Question,
        alias: Option<&Name>,
        transport: Transport,
    ) -> Vec<u8> {
        match self.begin(query, asked, alias, transport) {
            Begun::Done(reply) => reply,
            Begun::Ask(waiting) => {
                let Waiting { zone, asked, stale } = *waiting;
                let resolved = zone.ask(&asked, &asked.key(), stale).await;
                write(query, alias, transport, zone.settings.shuffle, &resolved)
            }
        }
    }

    /// An answer to the question for records of type `kind` at `name`, as a message with any id. A
    /// failure is an answer too, with the code SERVFAIL.
    pub async fn look_up(&self, name: &Name, kind: u16) -> Vec<u8> {
        let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend_from_slice(name.as_wire());
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&class::IN.to_be_bytes());
        self.answer(&message, Transport::Tcp).await.unwrap_or_default()
    }

    fn begin(&self, query: &Query<'_>, asked: Question, alias: Option<&Name>, transport: Transport) -> Begun {
        let _runtime = self.0.runtime.enter();
        let code = |code| Begun::Done(write(query, alias, transport, false, &Resolved::Code(code)));
        if let Some(refused) = refusal(query) {
            return code(refused);
        }
        if self.0.probes.returned(&asked.name, asked.kind) {
            return code(rcode::SERVFAIL);
        }
        let state = self.state();
        let Some(zone) = state.zone_of(&asked.name) else { return code(rcode::REFUSED) };
        let shuffle = zone.settings.shuffle;
        let done = |resolved: Resolved| Begun::Done(write(query, alias, transport, shuffle, &resolved));
        if let Some(resolved) = zone.fixed(&asked) {
            return done(resolved);
        }
        match zone.at_once(&asked, &asked.key()) {
            AtOnce::Done(resolved) => done(resolved),
            AtOnce::Ask(stale) => {
                let zone = Arc::clone(zone);
                Begun::Ask(Box::new(Waiting { zone, asked, stale }))
            }
        }
    }
}

/// What a client that sends `message` gets when a server has sent `answer` to its question. `None`:
/// the server's answer cannot be used, or `message` is no question. It is a function of its
/// arguments: for whoever wants to try out or to measure how answers are read and written.
pub fn passed_on(message: &[u8], transport: Transport, answer: &[u8]) -> Option<Vec<u8>> {
    let query = Query::parse(message).ok()?;
    let asked = question(&query);
    let answer = Answer::read(&asked, answer.to_vec()).ok()?;
    let cache = Cache::new(settings::Cache::of(30)).ok()?;
    let ttl = cache.ttl(&answer, query.kind);
    Some(write(&query, None, transport, true, &Resolved::Answer(Arc::new(answer), Ttl::All(ttl))))
}

/// How far an answer gets without asking anybody.
enum Begun {
    Done(Vec<u8>),
    Ask(Box<Waiting>),
}

/// A question that others are asked.
struct Waiting {
    zone: Arc<Zone>,
    asked: Question,
    stale: Option<Arc<Answer>>,
}

/// What is asked for.
fn question(query: &Query<'_>) -> Question {
    Question {
        name: query.name.clone(),
        kind: query.kind,
        dnssec_ok: query.edns.is_some_and(|edns| edns.dnssec_ok),
        checking_disabled: query.flags & flag::CD != 0,
    }
}

/// Why a question is not answered, whatever its name.
fn refusal(query: &Query<'_>) -> Option<u16> {
    if query.edns.is_some_and(|edns| edns.version > 0) {
        Some(rcode::BADVERS)
    } else if query.class != class::IN || matches!(query.kind, kind::AXFR | kind::IXFR) {
        Some(rcode::REFUSED)
    } else {
        None
    }
}

/// Writes the reply to `query`, behind an alias if one is given.
fn write(
    query: &Query<'_>,
    alias: Option<&Name>,
    transport: Transport,
    shuffle: bool,
    resolved: &Resolved,
) -> Vec<u8> {
    let mut writer = Writer::new();
    let mut authentic = false;
    let manner = |ttl| Manner { transport, alias, ttl, shuffle };
    match resolved {
        Resolved::Answer(answer, ttl) => {
            answer.write(query, manner(*ttl), &mut writer);
            authentic = answer.is_authentic_for(query);
        }
        Resolved::Code(code) if *code > 0xf => {
            writer.begin(query, query.limit(transport));
            writer.finish(query, Header { rcode: *code, recursion_available: true, ..Header::default() });
        }
        Resolved::Code(code) => Answer::failure(*code).write(query, manner(Ttl::Own), &mut writer),
    }
    let mut message = writer.message().to_vec();
    if authentic && let Some(flags) = message.get_mut(3) {
        *flags |= flag::AD.to_be_bytes()[1];
    }
    message
}

impl State {
    fn new(
        settings: &Settings,
        probes: &Arc<Probes>,
        metrics: &Metrics,
        before: Option<&State>,
    ) -> Result<State, Error> {
        let before = before.filter(|before| before.own == settings.own_addresses);
        let mut zones: Vec<Arc<Zone>> = Vec::new();
        for zone in &settings.zones {
            let known = before.and_then(|before| {
                before.zones.iter().find(|known| known.settings.name.eq_ignore_ascii_case(&zone.name))
            });
            let zone = match known {
                Some(known) if known.settings == *zone => Arc::clone(known),
                known => {
                    let known = known.map(|zone| &**zone);
                    Arc::new(Zone::new(zone.clone(), &settings.own_addresses, probes, metrics, known)?)
                }
            };
            if zones.iter().any(|other| other.name == zone.name) {
                return Err(Error::Twice(zone.settings.name.clone()));
            }
            zones.push(zone);
        }
        zones.sort_by_key(|zone| std::cmp::Reverse(zone.name.labels()));
        Ok(State { zones, own: settings.own_addresses.clone() })
    }

    fn zone_of(&self, name: &Name) -> Option<&Arc<Zone>> {
        self.zones.iter().find(|zone| name.is_within(&zone.name))
    }
}

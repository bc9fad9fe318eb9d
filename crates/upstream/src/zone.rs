//! A domain with its servers and its cache.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portolan_names::wire::{Name, rcode};
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::answer::{Answer, Ttl};
use crate::cache::{Cache, Found};
use crate::files::{Files, Followed};
use crate::flights::{Flight, Flights, Landed};
use crate::group::{Group, NoAnswer};
use crate::hosts::{Hosts, Said};
use crate::loops::{self, Probes};
use crate::maker::Maker;
use crate::metrics::{Metrics, ZoneMetrics};
use crate::question::{Key, Question};
use crate::settings::{self, Error, domain};
use crate::task::Task;

/// The TTL of an old answer, seconds (RFC 8767 §4).
const STALE_TTL: u32 = 30;

/// A domain.
#[derive(Debug)]
pub(crate) struct Zone {
    pub(crate) name: Name,
    pub(crate) settings: settings::Zone,
    hosts: Option<Arc<Hosts>>,
    cache: Option<Arc<Cache>>,
    groups: Vec<Arc<Group>>,
    flights: Arc<Flights>,
    metrics: ZoneMetrics,
    _tasks: Vec<Task>,
    _followed: Option<Followed>,
}

/// What comes of a question.
#[derive(Debug, Clone)]
pub(crate) enum Resolved {
    /// An answer, with these TTLs.
    Answer(Arc<Answer>, Ttl),
    /// Only a response code.
    Code(u16),
}

/// What is known at once.
#[derive(Debug)]
pub(crate) enum AtOnce {
    /// The answer.
    Done(Resolved),
    /// Servers are to be asked; perhaps there is an old answer.
    Ask(Option<Arc<Answer>>),
}

impl Zone {
    /// Of `settings`. What does not change is taken from `before`.
    pub(crate) fn new(
        settings: settings::Zone,
        own: &[SocketAddr],
        probes: &Arc<Probes>,
        metrics: &Metrics,
        before: Option<&Zone>,
    ) -> Result<Zone, Error> {
        let name = domain("zone", &settings.name)?;
        let counters = metrics.zone(&settings.server, &settings.name);
        let same_servers = before.filter(|before| before.settings.forwards == settings.forwards);
        let mut groups = Vec::new();
        for forward in &settings.forwards {
            check(&settings.name, forward)?;
            groups.push((
                Arc::new(Group::new(forward.clone())?),
                Maker::new(&settings.name, forward, metrics.clone())?,
            ));
        }
        if let Some(before) = same_servers {
            for ((group, _), before) in groups.iter_mut().zip(&before.groups) {
                *group = Arc::clone(before);
            }
        }
        let same_cache = same_servers.filter(|before| before.settings.cache == settings.cache);
        let cache = match same_cache {
            Some(before) => before.cache.clone(),
            None => settings.cache.clone().map(Cache::new).transpose()?.map(Arc::new),
        };
        let hosts = settings.hosts.clone().map(Hosts::new).transpose()?.map(Arc::new);
        let mut tasks = Vec::new();
        if let Some(interval) = settings.detect_loops {
            for (group, _) in &groups {
                let probes = Arc::clone(probes);
                tasks.push(Task::begin(loops::watch(probes, Arc::clone(group), name.clone(), interval)));
            }
        }
        let plain = groups.iter().map(|(group, _)| Arc::clone(group)).collect();
        let files = Files::new(groups, hosts.clone(), own.to_vec(), counters.clone());
        let followed = files.open()?;
        Ok(Zone {
            name,
            settings,
            hosts,
            cache,
            groups: plain,
            flights: Arc::default(),
            metrics: counters,
            _tasks: tasks,
            _followed: followed,
        })
    }

    /// What names with fixed addresses say about `asked`. `None`: others are to be asked.
    pub(crate) fn fixed(&self, asked: &Question) -> Option<Resolved> {
        match self.hosts.as_ref()?.answer(asked) {
            Said::Answer(answer) => {
                let ttl = self.ttl(&answer, asked);
                Some(Resolved::Answer(Arc::new(answer), ttl))
            }
            Said::Nothing => Some(Resolved::Code(rcode::SERVFAIL)),
            Said::AskOthers => None,
        }
    }

    /// The TTLs of `answer` when it is new.
    fn ttl(&self, answer: &Answer, asked: &Question) -> Ttl {
        self.cache_of(&asked.name).map_or(Ttl::Own, |cache| Ttl::All(cache.ttl(answer, asked.kind)))
    }

    /// The cache, if it is for `name`.
    fn cache_of(&self, name: &Name) -> Option<&Arc<Cache>> {
        self.cache.as_ref().filter(|cache| cache.covers(name))
    }

    /// What is known of `asked`. What should be known anew is asked for meanwhile.
    pub(crate) fn at_once(&self, asked: &Question, key: &Key) -> AtOnce {
        let Some(cache) = self.cache_of(&asked.name) else { return AtOnce::Ask(None) };
        let resolved = match cache.get(key, Instant::now()) {
            Found::Fresh { answer, ttl, denial, renew } => {
                if denial { &self.metrics.hits_denial } else { &self.metrics.hits_success }.inc();
                if renew && self.start(asked, key).is_ok() {
                    self.metrics.prefetched.inc();
                }
                Resolved::Answer(answer, Ttl::All(ttl))
            }
            Found::Stale { answer, failed } => {
                let verify = cache.settings().serve_stale.is_some_and(|stale| stale.verify.is_some());
                if verify && !failed {
                    return AtOnce::Ask(Some(answer));
                }
                if !failed {
                    // If there is no room, the next question begins it.
                    let _ = self.start(asked, key);
                }
                self.old(answer)
            }
            Found::Failed { answer, ttl } => {
                self.metrics.hits_denial.inc();
                Resolved::Answer(answer, Ttl::All(ttl))
            }
            Found::Nothing => return AtOnce::Ask(None),
        };
        self.metrics.requests.inc();
        AtOnce::Done(resolved)
    }

    /// Asks servers, or gives `stale` if they take too long.
    pub(crate) async fn ask(&self, asked: &Question, key: &Key, stale: Option<Arc<Answer>>) -> Resolved {
        let cache = self.cache_of(&asked.name);
        if cache.is_some() {
            self.metrics.requests.inc();
            self.metrics.misses.inc();
        }
        let patience = match (&stale, cache) {
            (Some(_), Some(cache)) => cache.settings().serve_stale.and_then(|stale| stale.verify),
            _ => None,
        };
        let landed = match self.start(asked, key) {
            Ok(flight) => {
                let landed = self.flights.wait(flight);
                timeout(patience.unwrap_or(Duration::MAX), landed).await.ok().flatten()
            }
            Err(code) => return stale.map_or(Resolved::Code(code), |answer| self.old(answer)),
        };
        match (landed.flatten(), stale) {
            (Some(answer), Some(stale)) if answer.rcode == rcode::SERVFAIL => self.old(stale),
            (Some(answer), _) => {
                let ttl = self.ttl(&answer, asked);
                Resolved::Answer(answer, ttl)
            }
            (None, Some(stale)) => self.old(stale),
            (None, None) => Resolved::Code(rcode::SERVFAIL),
        }
    }

    /// An old answer.
    fn old(&self, answer: Arc<Answer>) -> Resolved {
        self.metrics.served_stale.inc();
        Resolved::Answer(answer, Ttl::All(STALE_TTL))
    }

    /// Has the question under way. What fails is the response code for whoever asks.
    fn start(&self, asked: &Question, key: &Key) -> Result<Flight, u16> {
        let Some(group) = self.groups.iter().find(|group| group.takes(&asked.name)) else {
            return Err(rcode::SERVFAIL);
        };
        let flight = self.flights.join(key.clone(), || {
            let place = group.place()?;
            let (group, cache) = (Arc::clone(group), self.cache_of(&asked.name).cloned());
            let (asked, metrics) = (asked.clone(), self.metrics.clone());
            Some(async move {
                let landed = place.hold(resolve(&group, cache.as_deref(), &asked, &metrics)).await;
                if landed.is_none() {
                    metrics.rejected.inc();
                }
                if let Some(cache) = cache {
                    count(&cache, &metrics);
                }
                landed.flatten()
            })
        });
        flight.ok_or_else(|| {
            self.metrics.rejected.inc();
            rcode::REFUSED
        })
    }
}

/// Refuses settings with which nothing would ever be answered, or probes would never rest.
fn check(zone: &str, forward: &settings::Forward) -> Result<(), Error> {
    if forward.to.is_empty() {
        return Err(Error::NoServer(zone.to_owned()));
    }
    for (field, zero, least) in [
        ("timeout", forward.timeout.is_zero(), "1 ms"),
        ("tries", forward.tries == 0, "1"),
        ("health_check", forward.health.interval.is_zero(), "1 ms"),
        ("max_concurrent", forward.max_concurrent == Some(0), "1"),
    ] {
        if zero {
            return Err(Error::Zero { zone: zone.to_owned(), field, least });
        }
    }
    Ok(())
}

/// Asks `group`, and keeps what comes.
async fn resolve(group: &Group, cache: Option<&Cache>, asked: &Question, metrics: &ZoneMetrics) -> Landed {
    match group.ask(asked).await {
        Ok(answer) => {
            let answer = Arc::new(answer);
            if let Some(cache) = cache {
                cache.put(asked, &answer, Instant::now());
            }
            Some(answer)
        }
        Err(reason) => {
            debug!(name = %asked.name, kind = asked.kind, %reason, "no answer to a forwarded question");
            if matches!(reason, NoAnswer::AllDown) {
                metrics.all_down.inc();
            }
            if let Some(cache) = cache.filter(|_| reason.is_the_servers()) {
                cache.put_failure(asked, Instant::now());
            }
            None
        }
    }
}

/// Shows how much there is.
fn count(cache: &Cache, metrics: &ZoneMetrics) {
    let gauge = |count| i64::try_from(count).unwrap_or(i64::MAX);
    let entries = cache.entries();
    metrics.entries_success.set(gauge(entries.success));
    metrics.entries_denial.set(gauge(entries.denial));
    metrics.evicted_success.inc_by(entries.evicted_success);
    metrics.evicted_denial.inc_by(entries.evicted_denial);
}

//! Answers that are kept, for as long as their records and the settings say.
//!
//! It has no clock: each call says what time it is.

mod store;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portolan_names::wire::{Name, rcode};
use tokio::time::Instant;

use crate::answer::{Answer, Sort};
use crate::question::{Key, Question};
use crate::settings::{self, Error, Kept, domains};
use store::{Entry, Store};

/// How long an answer without any TTL is kept, seconds: what denies without a SOA record.
const TTL_WITHOUT_RECORDS: u32 = 5;
/// The longest time that a failure may be remembered (RFC 9520 §3.2).
const FAILURE_MAX: Duration = Duration::from_mins(5);
/// The longest time that an old answer is of use: what RFC 8767 §4 has in mind is days.
const STALE_MAX: Duration = Duration::from_hours(30 * 24);
/// How many failures are remembered.
const FAILURES_MAX: usize = 4096;

/// Answers to the questions of one zone.
#[derive(Debug)]
pub(crate) struct Cache {
    settings: settings::Cache,
    domains: Vec<Name>,
    no_success: Vec<Name>,
    no_denial: Vec<Name>,
    success: Mutex<Store>,
    denial: Mutex<Store>,
    failures: Mutex<Store>,
}

/// What the cache has for a question.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// An answer, for so many seconds more, and whether it is a denial. `renew`: it is asked for so
    /// often that it should be asked for anew.
    Fresh { answer: Arc<Answer>, ttl: u32, denial: bool, renew: bool },
    /// An answer whose time is over. `failed`: asking again has just failed.
    Stale { answer: Arc<Answer>, failed: bool },
    /// Asking has just failed.
    Failed { answer: Arc<Answer>, ttl: u32 },
    /// Nothing
    Nothing,
}

/// How many answers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Entries {
    pub(crate) success: usize,
    pub(crate) denial: usize,
    /// How many had to leave before their time since this was last asked.
    pub(crate) evicted_success: u64,
    pub(crate) evicted_denial: u64,
}

impl Cache {
    pub(crate) fn new(settings: settings::Cache) -> Result<Cache, Error> {
        // Denials are small.
        let denial_bytes = settings.bytes / 4;
        let failure_bytes = settings.bytes / 8;
        let success_bytes = settings.bytes - denial_bytes - failure_bytes;
        Ok(Cache {
            domains: domains("cache", &settings.domains)?,
            no_success: domains("cache: disable success", &settings.success.not_in)?,
            no_denial: domains("cache: disable denial", &settings.denial.not_in)?,
            success: Mutex::new(Store::new(settings.success.entries, success_bytes)),
            denial: Mutex::new(Store::new(settings.denial.entries, denial_bytes)),
            failures: Mutex::new(Store::new(FAILURES_MAX, failure_bytes)),
            settings,
        })
    }

    /// What it was made from.
    pub(crate) fn settings(&self) -> &settings::Cache {
        &self.settings
    }

    /// Whether answers about `name` are looked for here, and have its TTLs.
    pub(crate) fn covers(&self, name: &Name) -> bool {
        self.domains.is_empty() || self.domains.iter().any(|domain| name.is_within(domain))
    }

    /// The TTL that the records of `answer` to `asked` get, seconds.
    pub(crate) fn ttl(&self, answer: &Answer, asked: u16) -> u32 {
        let sort = answer.sort(asked);
        let clamp = |kept: &Kept, ttl: u32| ttl.max(kept.ttl_min).min(kept.ttl_max);
        match sort {
            Sort::Denial if answer.has_soa() => {
                clamp(&self.settings.denial, answer.ttl(sort).unwrap_or(TTL_WITHOUT_RECORDS))
            }
            Sort::Denial => clamp(&self.settings.denial, TTL_WITHOUT_RECORDS),
            Sort::Failure => seconds(self.settings.servfail.min(FAILURE_MAX)),
            Sort::Success | Sort::Other => {
                clamp(&self.settings.success, answer.ttl(sort).unwrap_or(TTL_WITHOUT_RECORDS))
            }
        }
    }

    /// Keeps `answer`, if such answers are kept. Returns the TTL that its records have now,
    /// seconds.
    pub(crate) fn put(&self, asked: &Question, answer: &Arc<Answer>, now: Instant) -> u32 {
        let ttl = self.ttl(answer, asked.kind);
        let excluded = |domains: &[Name]| domains.iter().any(|domain| asked.name.is_within(domain));
        let (store, other) = match answer.sort(asked.kind) {
            Sort::Success if !excluded(&self.no_success) => (&self.success, Some(&self.denial)),
            Sort::Denial if !excluded(&self.no_denial) => (&self.denial, Some(&self.success)),
            Sort::Failure => (&self.failures, None),
            Sort::Success | Sort::Denial | Sort::Other => return ttl,
        };
        if ttl == 0 {
            return ttl;
        }
        let key = asked.key();
        if let Some(other) = other {
            lock(other).remove(&key);
            lock(&self.failures).remove(&key);
        }
        let stale = match (other, self.settings.serve_stale) {
            (Some(_), Some(stale)) => stale.keep.min(STALE_MAX),
            _ => Duration::ZERO,
        };
        lock(store).insert(key, Entry::new(Arc::clone(answer), now, ttl, stale));
        ttl
    }

    /// Remembers that asking has failed.
    pub(crate) fn put_failure(&self, asked: &Question, now: Instant) {
        self.put(asked, &Arc::new(Answer::failure(rcode::SERVFAIL)), now);
    }

    /// What there is for `key`.
    pub(crate) fn get(&self, key: &Key, now: Instant) -> Found {
        let mut stale = None;
        for (store, denial) in [(&self.denial, true), (&self.success, false)] {
            let mut store = lock(store);
            let Some(entry) = store.get(key, now) else { continue };
            if let Some(left) = entry.left(now) {
                let renew = self.settings.prefetch.is_some_and(|prefetch| entry.count(prefetch, left, now));
                let ttl = if self.settings.keep_ttl { entry.ttl() } else { left };
                return Found::Fresh { answer: Arc::clone(entry.answer()), ttl, denial, renew };
            }
            stale = Some(Arc::clone(entry.answer()));
        }
        let failed = {
            let mut failures = lock(&self.failures);
            let entry = failures.get(key, now);
            entry.and_then(|entry| Some((Arc::clone(entry.answer()), entry.left(now)?)))
        };
        match (stale, failed) {
            (Some(answer), failed) => Found::Stale { answer, failed: failed.is_some() },
            (None, Some((answer, ttl))) => Found::Failed { answer, ttl },
            (None, None) => Found::Nothing,
        }
    }

    /// How much there is.
    pub(crate) fn entries(&self) -> Entries {
        let (mut success, mut denial) = (lock(&self.success), lock(&self.denial));
        let mut failures = lock(&self.failures);
        Entries {
            success: success.len(),
            denial: denial.len() + failures.len(),
            evicted_success: success.take_evicted(),
            evicted_denial: denial.take_evicted() + failures.take_evicted(),
        }
    }
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

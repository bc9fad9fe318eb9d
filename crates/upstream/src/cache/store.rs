//! A table that never grows beyond its bounds: what was not asked for since the last look leaves
//! first (the clock algorithm).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::answer::Answer;
use crate::question::Key;
use crate::settings::Prefetch;

/// What an entry takes beside its name and answer, octets, about: its place, and the table's.
const OVERHEAD: usize = 160;

/// An answer that is kept.
#[derive(Debug)]
pub(super) struct Entry {
    answer: Arc<Answer>,
    since: Instant,
    /// Seconds
    ttl: u32,
    /// When even an old answer is of no use.
    gone: Instant,
    /// It was asked for as often, and the last time then.
    asked: u32,
    asked_last: Instant,
}

#[derive(Debug)]
struct Slot {
    key: Key,
    entry: Entry,
    /// It was asked for since the hand has passed.
    used: bool,
}

/// Answers by question.
#[derive(Debug)]
pub(super) struct Store {
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    index: HashMap<Key, usize>,
    hand: usize,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
    evicted: u64,
}

impl Entry {
    /// An answer that is good for `ttl` seconds from `now` on, and of some use for `stale` more.
    pub(super) fn new(answer: Arc<Answer>, now: Instant, ttl: u32, stale: Duration) -> Entry {
        let gone = now + Duration::from_secs(ttl.into()) + stale;
        Entry { answer, since: now, ttl, gone, asked: 0, asked_last: now }
    }

    pub(super) fn answer(&self) -> &Arc<Answer> {
        &self.answer
    }

    /// The TTL that it came with, seconds.
    pub(super) fn ttl(&self) -> u32 {
        self.ttl
    }

    /// The seconds that are left of its TTL, begun ones too; `None` if it is over.
    pub(super) fn left(&self, now: Instant) -> Option<u32> {
        let age = now.saturating_duration_since(self.since).as_secs();
        let left = u64::from(self.ttl).checked_sub(age)?;
        u32::try_from(left).ok().filter(|left| *left > 0)
    }

    /// Counts a question for it. Whether it should be asked for anew, with `left` seconds of its
    /// TTL.
    pub(super) fn count(&mut self, prefetch: Prefetch, left: u32, now: Instant) -> bool {
        let pause = now.saturating_duration_since(self.asked_last);
        self.asked = if pause > prefetch.within { 1 } else { self.asked.saturating_add(1) };
        self.asked_last = now;
        let threshold = u64::from(self.ttl) * u64::from(prefetch.percentage) / 100;
        self.asked >= prefetch.amount && u64::from(left) <= threshold.max(1)
    }
}

impl Slot {
    /// So much of the bound is taken by an entry, octets.
    fn cost(key: &Key, entry: &Entry) -> usize {
        OVERHEAD + 2 * key.len() + entry.answer.size()
    }
}

impl Store {
    /// Of at most so many entries and octets.
    pub(super) fn new(entries_max: usize, bytes_max: usize) -> Store {
        Store {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::new(),
            hand: 0,
            bytes: 0,
            entries_max,
            bytes_max,
            evicted: 0,
        }
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// What they take, octets.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many had to leave before their time since this was last asked.
    pub(super) fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    /// The entry of `key`, if it is still of use.
    pub(super) fn get(&mut self, key: &Key, now: Instant) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(*self.index.get(key)?)?.as_mut()?;
        if now >= slot.entry.gone {
            self.remove(key);
            return None;
        }
        // Looked up again, for the borrow's sake.
        let slot = self.slots.get_mut(*self.index.get(key)?)?.as_mut()?;
        slot.used = true;
        Some(&mut slot.entry)
    }

    /// Puts `entry` in the place of another one of `key`. One that is out of all proportion is not
    /// kept.
    pub(super) fn insert(&mut self, key: Key, entry: Entry) {
        self.remove(&key);
        let cost = Slot::cost(&key, &entry);
        if cost > self.bytes_max / 4 || self.entries_max == 0 {
            return;
        }
        let now = entry.since;
        while self.index.len() >= self.entries_max || self.bytes + cost > self.bytes_max {
            self.evict(now);
        }
        let slot = Some(Slot { key: key.clone(), entry, used: false });
        let place = if let Some(place) = self.free.pop() {
            self.slots[place] = slot;
            place
        } else {
            self.slots.push(slot);
            self.slots.len() - 1
        };
        self.index.insert(key, place);
        self.bytes += cost;
    }

    /// Removes the entry of `key`.
    pub(super) fn remove(&mut self, key: &Key) {
        if let Some(place) = self.index.remove(key) {
            self.clear(place);
        }
    }

    fn clear(&mut self, place: usize) {
        if let Some(slot) = self.slots.get_mut(place).and_then(Option::take) {
            self.bytes -= Slot::cost(&slot.key, &slot.entry);
            self.free.push(place);
        }
    }

    /// Removes the next entry under the hand that nobody has asked for since it last passed. There
    /// is an entry.
    fn evict(&mut self, now: Instant) {
        loop {
            self.hand = if self.hand + 1 < self.slots.len() { self.hand + 1 } else { 0 };
            let Some(slot) = self.slots.get_mut(self.hand).and_then(Option::as_mut) else { continue };
            let over = slot.entry.left(now).is_none();
            if slot.used && !over {
                slot.used = false;
                continue;
            }
            self.index.remove(&slot.key);
            self.clear(self.hand);
            self.evicted += u64::from(!over);
            return;
        }
    }
}

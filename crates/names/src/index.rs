//! A hash table of places: it keeps no keys, because what it leads to has them.

use std::net::IpAddr;

/// Hashes with a key that nobody outside knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hasher(u64);

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher {
    pub(crate) fn new(seed: u64) -> Hasher {
        Hasher(fold(seed ^ 0x2545_f491_4f6c_dd1d, FACTOR))
    }

    /// The hash of `bytes`.
    pub(crate) fn of(self, bytes: &[u8]) -> u32 {
        let mut state = self.0 ^ (bytes.len() as u64);
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let word = u64::from_le_bytes([
                chunk[0], chunk[1], chunk[2], chunk[3], chunk[4], chunk[5], chunk[6], chunk[7],
            ]);
            state = fold(state ^ word, FACTOR ^ self.0);
        }
        let mut last = [0; 8];
        let rest = chunks.remainder();
        last[..rest.len()].copy_from_slice(rest);
        state = fold(state ^ u64::from_le_bytes(last), FACTOR ^ self.0);
        u32::try_from(state >> 32).unwrap_or(0)
    }
}

/// The bits of an address, to be hashed or compared.
pub(crate) fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Both halves of the product, mixed.
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other | 1);
    u64::try_from(product >> 64).unwrap_or(0) ^ u64::try_from(product & u128::from(u64::MAX)).unwrap_or(0)
}

/// Places by the hash of their key. Several may have the same hash.
///
/// Open addressing, linear probing: the octets of an entry are those of its hash and its place.
#[derive(Debug, Clone)]
pub(crate) struct Index<P> {
    /// Hash 0 is an empty slot.
    slots: Box<[(u32, P)]>,
    used: usize,
}

impl<P: Copy + Eq + Default> Index<P> {
    pub(crate) fn new() -> Index<P> {
        Index { slots: Box::default(), used: 0 }
    }

    /// All places with this hash.
    pub(crate) fn find(&self, hash: u32) -> impl Iterator<Item = P> {
        let hash = hash.max(1);
        let mut at = self.home(hash);
        std::iter::from_fn(move || {
            loop {
                let (found, place) = *self.slots.get(at)?;
                if found == 0 {
                    return None;
                }
                at = self.after(at);
                if found == hash {
                    return Some(place);
                }
            }
        })
    }

    /// Adds a place.
    pub(crate) fn insert(&mut self, hash: u32, place: P) {
        if (self.used + 1) * 8 > self.slots.len() * 7 {
            self.resize((self.slots.len() * 2).max(8));
        }
        self.put(hash.max(1), place);
        self.used += 1;
    }

    /// Puts one place where another was.
    pub(crate) fn replace(&mut self, hash: u32, old: P, new: P) {
        if let Some(at) = self.position(hash, old) {
            self.slots[at].1 = new;
        }
    }

    /// Removes a place.
    pub(crate) fn remove(&mut self, hash: u32, place: P) {
        let Some(mut hole) = self.position(hash, place) else { return };
        self.used -= 1;
        let mut at = hole;
        loop {
            at = self.after(at);
            let (found, _) = self.slots[at];
            if found == 0 {
                break;
            }
            // What would be reached from its home across the hole moves into it.
            let mask = self.slots.len() - 1;
            let from_home = at.wrapping_sub(self.home(found)) & mask;
            let from_hole = at.wrapping_sub(hole) & mask;
            if from_home >= from_hole {
                self.slots[hole] = self.slots[at];
                hole = at;
            }
        }
        self.slots[hole] = (0, P::default());
        if self.slots.len() > 64 && self.used * 8 < self.slots.len() {
            self.resize(self.slots.len() / 2);
        }
    }

    fn position(&self, hash: u32, place: P) -> Option<usize> {
        let hash = hash.max(1);
        let mut at = self.home(hash);
        loop {
            let slot = self.slots.get(at)?;
            if slot.0 == 0 {
                return None;
            }
            if *slot == (hash, place) {
                return Some(at);
            }
            at = self.after(at);
        }
    }

    fn put(&mut self, hash: u32, place: P) {
        let mut at = self.home(hash);
        while self.slots[at].0 != 0 {
            at = self.after(at);
        }
        self.slots[at] = (hash, place);
    }

    fn resize(&mut self, size: usize) {
        let old = std::mem::replace(&mut self.slots, vec![(0, P::default()); size].into());
        for (hash, place) in old {
            if hash != 0 {
                self.put(hash, place);
            }
        }
    }

    fn home(&self, hash: u32) -> usize {
        hash as usize & self.slots.len().wrapping_sub(1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & self.slots.len().wrapping_sub(1)
    }
}

/// Things by number. Numbers of what was removed are used again.
#[derive(Debug, Clone)]
pub(crate) struct Slab<T> {
    items: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Slab<T> {
        Slab { items: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        self.items.get(at as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.items.get_mut(at as usize)?.as_mut()
    }

    /// What there is at `count` places from `from` on, and the place after them; `None` if there
    /// are no more.
    pub(crate) fn range(&self, from: usize, count: usize) -> (impl Iterator<Item = &T>, Option<usize>) {
        let end = from.saturating_add(count).min(self.items.len());
        let items = self.items.get(from..end).unwrap_or_default();
        (items.iter().flatten(), (end < self.items.len()).then_some(end))
    }

    pub(crate) fn insert(&mut self, item: T) -> u32 {
        if let Some(at) = self.free.pop() {
            self.items[at as usize] = Some(item);
            return at;
        }
        self.items.push(Some(item));
        u32::try_from(self.items.len() - 1).unwrap_or(u32::MAX)
    }

    pub(crate) fn remove(&mut self, at: u32) -> Option<T> {
        let item = self.items.get_mut(at as usize)?.take()?;
        self.free.push(at);
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few hashes, so that they collide and runs of slots grow together.
        #[test]
        fn an_index_holds_what_was_put_in(
            steps in prop::collection::vec((any::<bool>(), 0u32..40, 0u32..6), 0..400),
        ) {
            let (mut index, mut expected) = (Index::new(), BTreeSet::new());
            for (add, hash, place) in steps {
                if add {
                    if expected.insert((hash.max(1), place)) {
                        index.insert(hash, place);
                    }
                } else {
                    expected.remove(&(hash.max(1), place));
                    index.remove(hash, place);
                }
            }
            for hash in 0..40u32 {
                let mut found: Vec<u32> = index.find(hash).collect();
                found.sort_unstable();
                let wanted: Vec<u32> =
                    expected.iter().filter(|(of, _)| *of == hash.max(1)).map(|(_, place)| *place).collect();
                prop_assert_eq!(found, wanted);
            }
        }
    }

    #[test]
    fn hashes_depend_on_the_seed_and_spread() {
        let names: Vec<String> = (0..4096).map(|number| format!("svc-{number}")).collect();
        let of =
            |seed| -> Vec<u32> { names.iter().map(|name| Hasher::new(seed).of(name.as_bytes())).collect() };
        assert_ne!(of(1), of(2));
        let low: BTreeSet<u32> = of(1).iter().map(|hash| hash & 4095).collect();
        // Chance fills 63 % of as many slots as there are names.
        assert!(low.len() > 2400, "{}", low.len());
    }

    #[test]
    fn a_slab_uses_numbers_again() {
        let mut slab = Slab::new();
        let (first, second) = (slab.insert("a"), slab.insert("b"));
        assert_eq!(slab.remove(first), Some("a"));
        assert_eq!((slab.remove(first), slab.insert("c"), slab.get(second)), (None, first, Some(&"b")));
    }
}

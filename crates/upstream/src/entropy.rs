//! Random numbers that nobody can guess: for ids, the case of letters, choices.

use std::cell::RefCell;

/// So much is fetched from the kernel at once, octets.
const BATCH: usize = 512;

struct Pool {
    octets: [u8; BATCH],
    /// So many of them are used.
    used: usize,
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { octets: [0; BATCH], used: BATCH }) };
}

/// `N` random octets.
pub(crate) fn octets<const N: usize>() -> [u8; N] {
    const { assert!(N <= BATCH) };
    POOL.with_borrow_mut(|pool| {
        if pool.used + N > BATCH {
            // It fails only where the kernel has none to give, ever.
            getrandom::fill(&mut pool.octets).expect("the kernel has random numbers");
            pool.used = 0;
        }
        let mut octets = [0; N];
        let taken = &mut pool.octets[pool.used..pool.used + N];
        octets.copy_from_slice(taken);
        taken.fill(0);
        pool.used += N;
        octets
    })
}

/// A random number.
pub(crate) fn number() -> u64 {
    u64::from_ne_bytes(octets())
}

/// A random id of a message.
pub(crate) fn id() -> u16 {
    u16::from_ne_bytes(octets())
}

/// A random number below `bound`; 0 if that is 0.
pub(crate) fn below(bound: usize) -> usize {
    let product = u128::from(number()) * bound as u128;
    usize::try_from(product >> 64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ_and_stay_below_their_bound() {
        let numbers: std::collections::HashSet<u64> = (0..1000).map(|_| number()).collect();
        assert_eq!(numbers.len(), 1000);
        let mut seen = [0; 3];
        for _ in 0..3000 {
            seen[below(3)] += 1;
        }
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
        assert_eq!(below(0), 0);
    }
}

//! Endpoints by their weight, for rules that draw with equal chances: each has as many slots as its
//! weight is of all, and a slot is drawn.

use std::iter::repeat_n;

use portolan_service::{Backend, Weights};

/// The endpoints of a list in their order, each once for each of its slots. Endpoints of one weight
/// have one slot each. Of more slots than [`Weights::most_slots`] shares are rounded.
pub(crate) fn slots(backends: &[Backend]) -> impl Iterator<Item = &Backend> {
    let share = Share::of(backends);
    backends.iter().flat_map(move |backend| repeat_n(backend, share.slots(backend)))
}

/// The same in an order in which each endpoint comes as evenly as it can, for who takes them in
/// turn.
pub(crate) fn slots_in_turn(backends: &[Backend]) -> Vec<&Backend> {
    let share = Share::of(backends);
    let mut slots: Vec<(u64, u64, &Backend)> = Vec::new();
    for backend in backends {
        let count = share.slots(backend) as u64;
        // The middle of each part of the whole turn, as a fraction.
        slots.extend((0..count).map(|slot| (2 * slot + 1, 2 * count, backend)));
    }
    slots.sort_by(|(a, of_a, _), (b, of_b, _)| (a * of_b).cmp(&(b * of_a)));
    slots.into_iter().map(|(_, _, backend)| backend).collect()
}

/// How many slots a list has: no more than a `u32` counts, as its endpoints are no more.
pub(crate) fn slot_count(backends: &[Backend]) -> u32 {
    let share = Share::of(backends);
    let slots: usize = backends.iter().map(|backend| share.slots(backend)).sum();
    u32::try_from(slots).unwrap_or(u32::MAX)
}

/// What part of its weight an endpoint has in slots.
#[derive(Debug, Clone, Copy)]
struct Share {
    slots: u32,
    of: u32,
}

impl Share {
    fn of(backends: &[Backend]) -> Share {
        let common =
            backends.iter().fold(0, |common, backend| greatest_common(common, backend.weight.into()));
        let sum = backends.iter().fold(0u32, |sum, backend| sum.saturating_add(backend.weight.into()));
        let common = common.max(1);
        let most = u32::try_from(Weights::most_slots(backends.len())).unwrap_or(u32::MAX);
        if sum / common <= most { Share { slots: 1, of: common } } else { Share { slots: most, of: sum } }
    }

    fn slots(self, backend: &Backend) -> usize {
        let exact =
            (u64::from(backend.weight) * u64::from(self.slots) + u64::from(self.of / 2)) / u64::from(self.of);
        usize::try_from(exact).unwrap_or(usize::MAX).max(1)
    }
}

pub(crate) fn greatest_common(one: u32, other: u32) -> u32 {
    if other == 0 { one } else { greatest_common(other, one % other) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::plans::backends;

    fn weighted(weights: &[u16]) -> Vec<Backend> {
        let addresses: Vec<String> =
            (0..weights.len()).map(|i| format!("10.1.{}.{}:80", i / 250, i % 250 + 1)).collect();
        let mut list = backends(&addresses.iter().map(String::as_str).collect::<Vec<_>>()).to_vec();
        for (backend, weight) in list.iter_mut().zip(weights) {
            backend.weight = *weight;
        }
        list
    }

    #[test]
    fn many_endpoints_have_their_shares_too() {
        for (weights, first, share) in [
            ([vec![2; 500], vec![1; 500]].concat(), 500, (2, 3)),
            ([vec![100; 10], vec![1; 500]].concat(), 10, (2, 3)),
            ([vec![1000], vec![1; 2000]].concat(), 1, (1, 3)),
        ] {
            let list = weighted(&weights);
            let of_first = slots(&list[..]).filter(|slot| list[..first].contains(slot)).count();
            let found = (of_first, usize::try_from(slot_count(&list)).unwrap());
            assert_eq!(found.0 * share.1, found.1 * share.0, "{first} of {}: {found:?}", list.len());
        }
    }

    #[test]
    fn turns_are_spread() {
        let list = weighted(&[3, 1, 2]);
        let turns: Vec<usize> = slots_in_turn(&list)
            .into_iter()
            .map(|slot| list.iter().position(|backend| backend == slot).unwrap())
            .collect();
        assert_eq!(turns, [0, 2, 0, 1, 2, 0]);
        assert_eq!(slots_in_turn(&weighted(&[5, 5, 5])).len(), 3);
    }

    #[test]
    fn endpoints_have_slots_by_their_weight() {
        let cases: [(&[u16], &[usize]); 9] = [
            (&[], &[]),
            (&[1], &[1]),
            (&[7], &[1]),
            (&[1, 1, 1], &[1, 1, 1]),
            (&[5, 5], &[1, 1]),
            (&[3, 1], &[3, 1]),
            (&[90, 10], &[9, 1]),
            (&[999, 1], &[999, 1]),
            // 1000 of 2001: rounded, and nobody is left out.
            (&[1000, 1000, 1], &[500, 500, 1]),
        ];
        for (weights, expected) in cases {
            let addresses: Vec<String> =
                (1..=weights.len()).map(|last| format!("10.1.0.{last}:80")).collect();
            let mut list = backends(&addresses.iter().map(String::as_str).collect::<Vec<_>>()).to_vec();
            for (backend, weight) in list.iter_mut().zip(weights) {
                backend.weight = *weight;
            }
            let found: Vec<&Backend> = slots(&list).collect();
            let of = |backend: &Backend| found.iter().filter(|slot| **slot == backend).count();
            assert_eq!(list.iter().map(of).collect::<Vec<_>>(), expected, "{weights:?}");
            assert_eq!(slot_count(&list) as usize, found.len(), "{weights:?}");
        }
    }
}

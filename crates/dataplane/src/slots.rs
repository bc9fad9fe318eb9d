//! Endpoints by their weight, for rules that draw with equal chances: each has as many slots as its
//! weight is of all, and a slot is drawn.

use std::iter::repeat_n;

use portolan_service::{Backend, Weights};

/// So many slots a list has at most, or a few more: each endpoint has one. With more, shares are
/// rounded.
const MOST: u32 = Weights::MAX as u32;

/// The endpoints of a list in their order, each once for each of its slots. Endpoints of one weight
/// have one slot each.
pub(crate) fn slots(backends: &[Backend]) -> impl Iterator<Item = &Backend> {
    let share = Share::of(backends);
    backends.iter().flat_map(move |backend| repeat_n(backend, share.slots(backend)))
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
        if sum / common <= MOST { Share { slots: 1, of: common } } else { Share { slots: MOST, of: sum } }
    }

    fn slots(self, backend: &Backend) -> usize {
        let exact =
            (u64::from(backend.weight) * u64::from(self.slots) + u64::from(self.of / 2)) / u64::from(self.of);
        usize::try_from(exact).unwrap_or(usize::MAX).max(1)
    }
}

fn greatest_common(one: u32, other: u32) -> u32 {
    if other == 0 { one } else { greatest_common(other, one % other) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::plans::backends;

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

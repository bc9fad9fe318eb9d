//! A set of numbers as the runs of consecutive ones in it: it takes room for what is in it, and the
//! first number that is missing is found at once, however many are there.

use std::collections::BTreeMap;

/// First and last number of each run. No two runs touch.
#[derive(Debug, Default)]
pub(super) struct Runs(BTreeMap<u128, u128>);

impl Runs {
    /// Adds `number`, which may be there.
    pub(super) fn insert(&mut self, number: u128) {
        if self.contains(number) {
            return;
        }
        let before = number.checked_sub(1).and_then(|before| self.run_of(before));
        let after = number.checked_add(1).and_then(|after| self.0.remove(&after));
        let first = before.map_or(number, |(first, _)| first);
        self.0.insert(first, after.unwrap_or(number));
    }

    /// Takes `number` out, if it is there.
    pub(super) fn remove(&mut self, number: u128) {
        let Some((first, last)) = self.run_of(number) else { return };
        self.0.remove(&first);
        if first < number {
            self.0.insert(first, number - 1);
        }
        if number < last {
            self.0.insert(number + 1, last);
        }
    }

    pub(super) fn contains(&self, number: u128) -> bool {
        self.run_of(number).is_some()
    }

    /// The first number from `first` to `last`, both included, that is not in the set.
    pub(super) fn first_missing(&self, first: u128, last: u128) -> Option<u128> {
        let missing = match self.run_of(first) {
            Some((_, end)) => end.checked_add(1)?,
            None => first,
        };
        (missing <= last).then_some(missing)
    }

    fn run_of(&self, number: u128) -> Option<(u128, u128)> {
        let (first, last) = self.0.range(..=number).next_back()?;
        (number <= *last).then_some((*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_a_set(steps in prop::collection::vec((any::<bool>(), 0_u128..24), 0..80), from in 0_u128..24, to in 0_u128..24) {
            let (mut runs, mut set) = (Runs::default(), BTreeSet::new());
            for (add, number) in steps {
                if add { runs.insert(number) } else { runs.remove(number) }
                if add { set.insert(number) } else { set.remove(&number) };
            }
            for number in 0..24 {
                prop_assert_eq!(runs.contains(number), set.contains(&number));
            }
            prop_assert_eq!(runs.first_missing(from, to), (from..=to).find(|number| !set.contains(number)));
            // No two runs touch, so that there are as few as can be.
            let ends: BTreeSet<u128> = runs.0.values().map(|last| last + 1).collect();
            prop_assert!(runs.0.keys().all(|first| !ends.contains(first)));
        }
    }

    #[test]
    fn the_last_number_of_all() {
        let mut runs = Runs::default();
        runs.insert(u128::MAX);
        runs.insert(u128::MAX - 1);
        assert_eq!(runs.first_missing(u128::MAX - 1, u128::MAX), None);
        runs.remove(u128::MAX);
        assert_eq!(runs.first_missing(u128::MAX - 1, u128::MAX), Some(u128::MAX));
    }
}

//! Sets and maps of nftables.

use std::collections::HashMap;

use super::action::Goal;

/// What an element of a map leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Nothing: an element of a set.
    Nothing,
    /// A verdict.
    Goal(Goal),
    /// Values, such as address and port.
    Values(Box<[u128]>),
}

type Intervals = (Box<[(u128, u128)]>, Data);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Element {
    data: Data,
    comment: Option<Box<str>>,
}

/// A set, or a map, with its elements.
#[derive(Debug, Clone, Default)]
pub struct Set {
    /// Its name; empty if it is written within a rule.
    pub name: Box<str>,
    /// Whether packets add elements, which are forgotten after a time.
    pub learns: bool,
    /// After how many seconds elements that packets add are forgotten, if all alike.
    pub timeout: Option<u64>,
    exact: HashMap<Box<[u128]>, Element>,
    /// Elements with intervals, by the first value of the key if it is a single one.
    intervals: HashMap<Option<u128>, Vec<Intervals>>,
}

impl Set {
    /// A set without elements.
    pub fn new(name: &str, learns: bool) -> Set {
        Set { name: name.into(), learns, ..Set::default() }
    }

    /// Adds an element: each value of its key from the first to the second of a pair.
    pub fn insert(&mut self, key: &[(u128, u128)], data: Data) {
        self.insert_commented(key, data, None);
    }

    /// The same for an element that may have a comment. Comments of elements with intervals are not
    /// kept.
    pub fn insert_commented(&mut self, key: &[(u128, u128)], data: Data, comment: Option<Box<str>>) {
        if key.iter().all(|(low, high)| low == high) {
            self.exact.insert(key.iter().map(|(low, _)| *low).collect(), Element { data, comment });
            return;
        }
        let first = key.first().and_then(|(low, high)| (low == high).then_some(*low));
        self.intervals.entry(first).or_default().push((key.into(), data));
    }

    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.exact.len() + self.intervals.values().map(Vec::len).sum::<usize>()
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.intervals.is_empty()
    }

    /// The elements without intervals, in no particular order: key, data and comment.
    pub fn elements(&self) -> impl Iterator<Item = (&[u128], &Data, Option<&str>)> {
        self.exact.iter().map(|(key, element)| (&**key, &element.data, element.comment.as_deref()))
    }

    /// All keys of a set whose keys are single values, as ranges; `None` if it has others.
    pub(crate) fn single_keys(&self) -> Option<Vec<(u128, u128)>> {
        let exact = self.exact.keys().map(|key| match **key {
            [value] => Some((value, value)),
            _ => None,
        });
        let intervals = self.intervals.values().flatten().map(|(key, _)| match **key {
            [range] => Some(range),
            _ => None,
        });
        exact.chain(intervals).collect()
    }

    /// The element for `key`.
    pub fn get(&self, key: &[u128]) -> Option<&Data> {
        if let Some(element) = self.exact.get(key) {
            return Some(&element.data);
        }
        if self.intervals.is_empty() {
            return None;
        }
        let within = |(ranges, _): &&Intervals| {
            ranges.len() == key.len()
                && ranges.iter().zip(key).all(|((low, high), value)| (low..=high).contains(&value))
        };
        [key.first().copied(), None]
            .iter()
            .filter_map(|first| self.intervals.get(first))
            .find_map(|elements| elements.iter().find(within))
            .map(|(_, data)| data)
    }
}

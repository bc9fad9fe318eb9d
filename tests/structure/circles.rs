//! Circles of imports among modules that stand beside each other.

use std::collections::{BTreeMap, BTreeSet};

use crate::modules::Modules;

/// Each circle as `parent: a -> b -> a`, one for each set of modules that all reach each other.
pub(crate) fn find(modules: &Modules) -> Vec<String> {
    let parents: BTreeSet<&[String]> =
        modules.places().filter_map(|place| place.split_last().map(|(_, parent)| parent)).collect();
    let mut found = Vec::new();
    for parent in parents {
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (user, used) in modules.between_siblings(parent) {
            edges.entry(user).or_default().insert(used);
        }
        let mut known = BTreeSet::new();
        for start in edges.keys() {
            if known.contains(start) {
                continue;
            }
            if let Some(way) = way_back(start, &edges) {
                known.extend(way.iter().cloned());
                let parent = if parent.is_empty() { "top".to_owned() } else { parent.join("::") };
                found.push(format!("{parent}: {}", way.join(" -> ")));
            }
        }
    }
    found
}

/// The shortest way from `start` along `edges` to itself, both ends included.
fn way_back(start: &String, edges: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut before: BTreeMap<&String, &String> = BTreeMap::new();
    let mut reached = vec![start];
    while !reached.is_empty() {
        let mut next = Vec::new();
        for from in reached {
            for to in edges.get(from).into_iter().flatten() {
                if to == start {
                    let mut way = vec![to.clone()];
                    let mut at = from;
                    while at != start {
                        way.push(at.clone());
                        at = before[at];
                    }
                    way.push(start.clone());
                    way.reverse();
                    return Some(way);
                }
                if !before.contains_key(to) {
                    before.insert(to, from);
                    next.push(to);
                }
            }
        }
        reached = next;
    }
    None
}

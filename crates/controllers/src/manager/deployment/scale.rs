//! The sizes of ReplicaSets.

use std::cmp::Reverse;

use super::plan::Plan;
use crate::manager::count::bounded;

/// How many pods the Deployment was to have when a ReplicaSet got its size.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// The same, with the surge.
pub(super) const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";

impl Plan<'_> {
    fn active(&self) -> Vec<usize> {
        (0..self.sets.len()).filter(|index| self.sets[*index].replicas > 0).collect()
    }

    /// Whether the Deployment's size has been changed since its ReplicaSets got theirs.
    pub(super) fn is_being_scaled(&self) -> bool {
        let wanted = self.deployment.spec.wanted();
        self.active()
            .into_iter()
            .any(|index| self.sets[index].number(DESIRED).is_some_and(|desired| desired != wanted))
    }

    /// Notes in a ReplicaSet for which size of the Deployment it has its own.
    pub(super) fn annotate_size(&mut self, index: usize) {
        let wanted = self.deployment.spec.wanted();
        let most = wanted + self.deployment.spec.max_surge();
        let annotations = &mut self.sets[index].annotations;
        annotations.insert(DESIRED.to_owned(), wanted.to_string());
        annotations.insert(MAXIMUM.to_owned(), most.to_string());
    }

    /// Gives a ReplicaSet a size. Returns whether it had another one.
    pub(super) fn resize(&mut self, index: usize, size: i64) -> bool {
        self.annotate_size(index);
        let set = &mut self.sets[index];
        let before = std::mem::replace(&mut set.replicas, size);
        if before == size {
            return false;
        }
        let direction = if size > before { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {} from {before} to {size}", set.name);
        self.event(message);
        true
    }

    /// How many pods the ReplicaSet for the template of today may have (`NewRSNewReplicas`).
    pub(super) fn size_of_new(&self, index: usize) -> i64 {
        let (wanted, size) = (self.deployment.spec.wanted(), self.sets[index].replicas);
        if self.deployment.spec.is_recreate() {
            return wanted;
        }
        let room = wanted + self.deployment.spec.max_surge() - self.total();
        if room <= 0 { size } else { size + room.min(wanted - size) }
    }

    /// Follows a changed size without going on with a rollout.
    pub(super) fn scale(&mut self) {
        let current = self.sync_revision(false);
        let wanted = self.deployment.spec.wanted();
        let active = self.active();
        let only = match active[..] {
            [] => current.or(self.others(current).last()),
            [only] => Some(only),
            _ => None,
        };
        if let Some(only) = only {
            self.resize(only, wanted);
        } else if let Some(current) = current.filter(|current| self.is_saturated(*current)) {
            for index in active.into_iter().filter(|index| *index != current) {
                self.resize(index, 0);
            }
        } else if !self.deployment.spec.is_recreate() {
            self.scale_in_proportion(active);
        }
    }

    /// Whether the ReplicaSet has all that the Deployment wants.
    fn is_saturated(&self, index: usize) -> bool {
        let (set, wanted) = (&self.sets[index], self.deployment.spec.wanted());
        set.replicas == wanted && set.number(DESIRED) == Some(wanted) && set.available() == wanted
    }

    /// In the middle of a rollout each ReplicaSet gets its part of what comes or goes, so that a
    /// template that does not work does not get all of it.
    fn scale_in_proportion(&mut self, mut active: Vec<usize>) {
        let spec = &self.deployment.spec;
        let most = if spec.wanted() > 0 { spec.wanted() + spec.max_surge() } else { 0 };
        let change = most - self.total();
        // The largest first, because it gets what is left over by rounding; among equals the
        // newest when pods are added, the oldest when they are taken away.
        let age = |index: &usize| i64::try_from(*index).unwrap_or_default();
        let size = |index: &usize| Reverse(self.sets[*index].replicas);
        active.sort_by_key(|index| (size(index), if change > 0 { -age(index) } else { age(index) }));
        let mut done = 0;
        let mut sizes = Vec::new();
        for index in &active {
            let part = self.part(*index, change - done, most);
            done += part;
            sizes.push(self.sets[*index].replicas + part);
        }
        if let Some(largest) = sizes.first_mut() {
            *largest = (*largest + change - done).max(0);
        }
        for (index, size) in active.into_iter().zip(sizes) {
            self.resize(index, size);
        }
    }

    /// A ReplicaSet's part of a change of which so much is left (`GetReplicaSetProportion`).
    fn part(&self, index: usize, left: i64, most: i64) -> i64 {
        let set = &self.sets[index];
        let fraction = if self.deployment.spec.wanted() == 0 {
            -set.replicas
        } else {
            let before = set.number(MAXIMUM).filter(|before| *before > 0);
            let before = bounded(before.unwrap_or(self.deployment.status.replicas)).max(1);
            rounded(set.replicas.saturating_mul(most), before) - set.replicas
        };
        if left > 0 { fraction.clamp(0, left) } else { fraction.clamp(left, 0) }
    }
}

/// The quotient of two numbers that are not negative, rounded to the nearest, halves up.
fn rounded(dividend: i64, divisor: i64) -> i64 {
    dividend.saturating_mul(2).saturating_add(divisor) / divisor.saturating_mul(2)
}

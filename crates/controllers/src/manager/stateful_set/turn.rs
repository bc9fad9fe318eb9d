//! What a StatefulSet does next.

use serde_json::Value;

use super::StatefulSet;
use super::member::{Members, is_available, pod, revision_of};
use crate::manager::pod::Pod;
use crate::manager::time::Timestamp;
use crate::manager::write::{Propagation, Step, Write};

/// Who writes the events.
const COMPONENT: &str = "statefulset-controller";

/// A look at the members, and what follows.
pub(super) struct Turn<'a, 'b> {
    pub(super) set: &'a StatefulSet,
    pub(super) members: &'a Members<'a>,
    /// Name of the record that members are of which the update has not reached.
    pub(super) current: &'a str,
    pub(super) template: &'a Value,
    /// Name of the record of the template of today.
    pub(super) update: &'a str,
    pub(super) now: Timestamp,
    pub(super) step: &'b mut Step,
}

impl Turn<'_, '_> {
    /// Creates and deletes members. Gives how many it deletes for the update.
    pub(super) fn take(&mut self) -> i64 {
        let ordered = self.set.spec.is_ordered();
        for place in 0..self.members.wanted.len() {
            if self.raise(place) && ordered {
                return 0;
            }
        }
        for place in 0..self.members.condemned.len() {
            if self.dismiss(place) && ordered {
                return 0;
            }
        }
        self.replace()
    }

    /// Looks after a member that is wanted. Gives whether those after it must wait.
    fn raise(&mut self, place: usize) -> bool {
        let Some(member) = self.members.wanted[place] else {
            let ordinal = self.members.ordinal(place);
            let is_old = self.set.spec.is_rolling()
                && i64::try_from(place).unwrap_or(i64::MAX)
                    < self.set.spec.update_strategy.rolling_update.partition;
            let (template, revision) =
                if is_old { (self.template, self.current) } else { (&self.set.spec.template, self.update) };
            let name = format!("{}-{ordinal}", self.set.name());
            self.step.writes.push(Write::Create(pod(self.set, ordinal, template, revision)));
            let message = format!("create Pod {name} in StatefulSet {} successful", self.set.name());
            self.step.event(COMPONENT, self.set.target(), "SuccessfulCreate", message);
            return true;
        };
        if member.is_finished() {
            // It comes back when it is gone.
            if !member.is_deleting() {
                self.delete(member);
            }
            return true;
        }
        member.is_deleting() || !self.is_available(member)
    }

    /// Lets a member go that is not wanted. Gives whether those after it must wait.
    fn dismiss(&mut self, place: usize) -> bool {
        let condemned = &self.members.condemned;
        let member = condemned[place];
        if member.is_deleting() {
            return true;
        }
        // All that are wanted are available here if they are waited for, so that the first that is
        // not has the lowest number of those that must go.
        let is_first_unavailable = condemned[place + 1..].iter().all(|other| self.is_available(other));
        if self.set.spec.is_ordered() && !self.is_available(member) && !is_first_unavailable {
            return true;
        }
        self.delete(member);
        true
    }

    /// Deletes members of another template, the highest number first, as many as may be missing.
    fn replace(&mut self) -> i64 {
        if !self.set.spec.is_rolling() {
            return 0;
        }
        let strategy = &self.set.spec.update_strategy.rolling_update;
        let most =
            strategy.max_unavailable.as_ref().map_or(1, |count| count.rounded_up(self.set.spec.wanted()));
        let first = usize::try_from(strategy.partition).unwrap_or_default();
        let mut missing = 0;
        let mut deleted = 0;
        for place in (first..self.members.wanted.len()).rev() {
            if missing >= most.max(1) {
                break;
            }
            let Some(member) = self.members.wanted[place] else {
                missing += 1;
                continue;
            };
            if revision_of(member) != self.update && !member.is_deleting() {
                self.delete(member);
                deleted += i64::from(revision_of(member) == self.current);
                missing += 1;
            } else if member.is_deleting() || !self.is_available(member) {
                missing += 1;
            }
        }
        deleted
    }

    fn delete(&mut self, member: &Pod) {
        self.step.delete(member.target(), Propagation::Background);
        let (pod, set) = (member.name(), self.set.name());
        let message = format!("delete Pod {pod} in StatefulSet {set} successful");
        self.step.event(COMPONENT, self.set.target(), "SuccessfulDelete", message);
    }

    fn is_available(&mut self, pod: &Pod) -> bool {
        if let Some(time) = pod.available_at(self.set.spec.min_ready_seconds, self.now) {
            self.step.again_at(time);
        }
        is_available(self.set, pod, self.now)
    }
}

//! From the template of before to that of today.

use super::DeploymentStatus;
use super::plan::Plan;

impl Plan<'_> {
    /// All pods of before go, then those of today come.
    pub(super) fn recreate(&mut self) -> DeploymentStatus {
        let current = self.sync_revision(false);
        let old: Vec<usize> = self.others(current).collect();
        let mut is_smaller = false;
        for index in &old {
            is_smaller |= self.sets[*index].replicas > 0 && self.resize(*index, 0);
        }
        let is_running = |index: &usize| self.running.contains(self.sets[*index].uid());
        if is_smaller || old.iter().any(is_running) {
            return self.progress(current);
        }
        let current = self.sync_revision(true);
        if let Some(current) = current {
            self.resize(current, self.deployment.spec.wanted());
        }
        self.forget_if_complete();
        self.progress(current)
    }

    /// Pods of before are exchanged for those of today, within the surge and what may be missing.
    pub(super) fn roll(&mut self) -> DeploymentStatus {
        let Some(current) = self.sync_revision(true) else { return self.progress(None) };
        if !self.grow(current) && !self.shrink(current) {
            self.forget_if_complete();
        }
        self.progress(Some(current))
    }

    fn forget_if_complete(&mut self) {
        if self.is_complete(&self.deployment.status) {
            self.forget_old_sets();
        }
    }

    fn grow(&mut self, current: usize) -> bool {
        let (size, wanted) = (self.sets[current].replicas, self.deployment.spec.wanted());
        if size == wanted {
            return false;
        }
        let size = if size > wanted { wanted } else { self.size_of_new(current) };
        self.resize(current, size)
    }

    fn shrink(&mut self, current: usize) -> bool {
        let old: Vec<usize> =
            self.others(Some(current)).filter(|index| self.sets[*index].replicas > 0).collect();
        let least = self.deployment.spec.wanted() - self.deployment.spec.max_unavailable();
        // Pods of today that are not available yet are missing, too.
        let missing = self.sets[current].replicas - self.sets[current].available();
        let most = self.total() - least - missing;
        if most <= 0 {
            return false;
        }
        // Those that are of no use go first: they would hold up the rollout.
        let mut gone = 0;
        for index in &old {
            let set = &self.sets[*index];
            let useless = (set.replicas - set.available()).clamp(0, most - gone);
            if useless > 0 {
                gone += useless;
                self.resize(*index, self.sets[*index].replicas - useless);
            }
        }
        let mut left = (self.available() - least).max(0);
        let mut is_smaller = gone > 0;
        for index in old {
            let size = self.sets[index].replicas;
            let some = size.min(left);
            if some > 0 {
                left -= some;
                is_smaller |= self.resize(index, size - some);
            }
        }
        is_smaller
    }
}

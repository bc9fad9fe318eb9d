//! What a sync would change, without changing it.

use std::collections::BTreeSet;

use portolan_service::ServicePlan;

use super::Ipvs;
use super::integrity::describe;
use crate::dataplane::{Dataplane, Difference};
use crate::error::Error;

impl Ipvs {
    /// See [`crate::Dataplane::preview`].
    pub(super) fn differences(
        &mut self,
        plans: &mut dyn Iterator<Item = &ServicePlan>,
    ) -> Result<Vec<Difference>, Error> {
        let plans: Vec<&ServicePlan> = plans.collect();
        self.record.read()?;
        let wanted = self.wanted(&plans)?;
        let mut differences = self.rules.preview(&mut plans.iter().copied())?;
        let present = self.kernel.servers()?;
        let steps = self.differences_from(&present, &wanted)?;
        // What comes and goes as a whole goes with a frontend, which has a line already.
        let there: BTreeSet<_> = present.iter().map(|server| server.key).collect();
        let changed: BTreeSet<_> = steps
            .first
            .iter()
            .chain(&steps.last)
            .filter(|step| there.contains(&step.server) && !step.owner.as_str().is_empty())
            .map(|step| (step.owner.to_string(), step.server))
            .collect();
        differences.extend(changed.into_iter().map(|(owner, server)| {
            Difference::Changed(format!("{owner} virtual server {}", describe(&server)))
        }));
        Ok(differences)
    }
}

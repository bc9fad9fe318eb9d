//! Mode `ipvs`: virtual servers of the kernel's IPVS choose endpoints and translate.
//!
//! Rules bring packets for frontends there, and do what IPVS does not: refusals, source ranges,
//! masquerading, and the choice between the endpoints for clients from outside and those for
//! others. They are the tables of mode nftables in another layout, `Steer`. No interface has an
//! address of a Service: a bit of the mark and a route of its own (`routing.rs`) make exactly
//! address, protocol and port of each frontend the node's.
//!
//! IPVS has no transactions, and the commit of the rules is the switch: a virtual server has its
//! destinations before rules lead there, and is deleted when none does. A table of its own says
//! which virtual servers are ours (`record.rs`); those of others are left alone.

mod change;
mod compute;
mod draining;
mod integrity;
mod kernel;
mod listing;
mod marks;
mod mode;
mod preview;
mod record;
mod removal;
mod routing;
mod settings;
mod sync;
#[cfg(test)]
mod tests;
mod traffic;
mod wanted;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use portolan_service::{ChangeSet, ObjectName, PerFamily, ServicePlan};

pub use portolan_netfilter::ipvs::Timeouts;

pub use self::compute::compute;
pub use self::mode::MODE;
pub(crate) use self::record::virtual_servers_of_ours;
pub use self::settings::IpvsSettings;

use self::change::{Changes, changes};
use self::draining::Draining;
use self::integrity::Rounds;
use self::kernel::Kernel;
use self::record::Record;
use self::routing::Routing;
use self::wanted::{Server, servers};
use crate::dataplane::{Dataplane, Difference, InUse, Integrity, Outcome, Reconciled, Standing};
use crate::error::Error;
use crate::kube_ipvs::Frontends;
use crate::listeners::Listeners;
use crate::nftables::{Layout, Nftables};

/// The IPVS dataplane.
#[derive(Debug)]
pub struct Ipvs {
    settings: IpvsSettings,
    rules: Nftables,
    kernel: Kernel,
    record: Record,
    routing: Routing,
    draining: Draining,
    rounds: Rounds,
    /// What is in force of Services whose last change was refused.
    refused: HashMap<ObjectName, Option<Arc<ServicePlan>>>,
}

impl Ipvs {
    /// Opens the kernel's interfaces in the network namespace of the calling thread. Changes
    /// nothing yet, apart from loading IPVS.
    pub fn new(settings: IpvsSettings) -> Result<Ipvs, Error> {
        let layout = Layout::steer(settings.bit);
        Ok(Ipvs {
            rules: Nftables::with_layout(settings.rules.clone(), layout)?,
            kernel: Kernel::open()?,
            record: Record::open()?,
            routing: Routing::open(settings.bit)?,
            settings,
            draining: Draining::default(),
            rounds: Rounds::default(),
            refused: HashMap::new(),
        })
    }

    /// The virtual servers that `plan` asks for.
    fn servers(&self, plan: &ServicePlan) -> Vec<Server> {
        let known = |scheduler: &str| self.kernel.knows(scheduler);
        servers(plan, &self.settings, known, |port| self.rules.mark(plan, port))
    }

    /// The plan that is in force for a Service that should have `wanted`.
    fn in_force<'a>(
        &'a self,
        name: &ObjectName,
        wanted: Option<&'a Arc<ServicePlan>>,
    ) -> Option<&'a Arc<ServicePlan>> {
        match self.refused.get(name) {
            Some(plan) => plan.as_ref(),
            None => wanted,
        }
    }

    /// What becomes of virtual servers when the plans of `changes_of_plans` take the place of those
    /// in force.
    fn steps(&self, changes_of_plans: &ChangeSet) -> Changes {
        let mut steps = Changes::default();
        for change in &changes_of_plans.services {
            let before = self.in_force(&change.name, change.before.as_ref());
            let before = before.map(|plan| self.servers(plan)).unwrap_or_default();
            let after = change.after.as_ref().map(|plan| self.servers(plan)).unwrap_or_default();
            changes(&change.name, &before, &after, &mut steps);
        }
        steps
    }

    /// Notes which Services the kernel refused, with what is in force for each.
    fn note_refused(&mut self, changes: &ChangeSet, outcome: &Outcome) {
        for change in &changes.services {
            let refused = outcome.refused.iter().any(|(name, _)| *name == change.name);
            if refused {
                self.refused.entry(change.name.clone()).or_insert_with(|| change.before.clone());
            } else {
                self.refused.remove(&change.name);
            }
        }
    }
}

impl Dataplane for Ipvs {
    fn sync(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Outcome, Error> {
        let plans: Vec<&ServicePlan> = plans.collect();
        self.sync_all(&plans)
    }

    fn apply(&mut self, changes: &ChangeSet) -> Result<Outcome, Error> {
        for plan in changes.services.iter().filter_map(|change| change.after.as_deref()) {
            self.assign_marks(plan);
        }
        let mut steps = self.steps(changes);
        self.record.add(&mut self.rules, &steps.new_servers())?;
        while self.kernel.lacks_a_scheduler(&steps.first)? {
            steps = self.steps(changes);
        }
        let failed = self.kernel.bring(&steps.first)?;
        let mut outcome = self.rules.apply(changes)?;
        outcome.refused.extend(failed);
        outcome.operations += steps.first.len() + steps.last.len();
        // Rules of a refused Service are as they were, and may lead to what would go.
        steps.last.retain(|step| outcome.refused.iter().all(|(name, _)| *name != step.owner));
        self.draining.came_back(&steps.first);
        self.draining.leave(&steps.last);
        let failed = self.kernel.bring(&steps.last)?;
        outcome.refused.extend(failed);
        self.record.remove(&mut self.rules, &steps.gone_servers())?;
        self.note_refused(changes, &outcome);
        for change in &changes.services {
            let left = self.in_force(&change.name, change.after.as_ref()).cloned();
            self.release_marks(change.before.as_deref(), left.as_deref());
        }
        Ok(outcome)
    }

    fn standing(&self) -> PerFamily<Standing> {
        self.rules.standing()
    }

    fn catch_up(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Option<Outcome>, Error> {
        self.rules.catch_up(plans)
    }

    fn verify(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Integrity, Error> {
        self.check(plans)
    }

    fn preview(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Vec<Difference>, Error> {
        self.differences(plans)
    }

    fn listing(&mut self) -> Result<Vec<String>, Error> {
        self.lines()
    }

    fn reconciled(&mut self, patience: Duration) -> Vec<Reconciled> {
        self.rules.reconciled(patience)
    }

    fn tidy(&mut self) -> Result<bool, Error> {
        let draining = self.draining.look(&mut self.kernel)?;
        Ok(self.rules.tidy()? || draining)
    }

    fn cleanup(&mut self) -> Result<(), Error> {
        self.rules.cleanup()?;
        let none = Frontends::default();
        removal::remove(&mut self.kernel, &mut self.record, &mut self.routing, &mut self.rules, &none)?;
        self.draining = Draining::default();
        self.refused.clear();
        Ok(())
    }

    fn in_use(&self) -> InUse {
        InUse { virtual_servers: true, ..self.rules.in_use() }
    }

    fn listeners(&mut self) -> Option<&mut Listeners> {
        self.rules.listeners()
    }
}

//! Making the kernel hold exactly what is wanted, whatever it holds: only differences are written,
//! so that connections go on.

use std::collections::{HashMap, HashSet};

use portolan_netfilter::ipvs::{ServerKey, ServerState, VirtualServer};
use portolan_service::{ObjectName, ServicePlan};

use super::Ipvs;
use super::change::{Action, Changes, Step, destination_changes};
use super::wanted::Server;
use crate::dataplane::{Dataplane, Outcome};
use crate::error::Error;
use crate::families::families;

impl Ipvs {
    /// See [`crate::Dataplane::sync`].
    pub(super) fn sync_all(&mut self, plans: &[&ServicePlan]) -> Result<Outcome, Error> {
        self.kernel.prepare(self.settings.timeouts)?;
        self.routing.ensure(&families())?;
        self.record.read()?;
        self.record.ensure(&families(), &mut self.rules)?;
        let (ours, mut steps) = loop {
            let wanted = self.wanted(plans)?;
            let present = self.kernel.servers()?;
            let steps = self.differences_from(&present, &wanted)?;
            let ours: Vec<VirtualServer> =
                wanted.iter().filter_map(|(_, server)| server.key.address()).collect();
            self.record.add(&mut self.rules, &ours)?;
            if !self.kernel.lacks_a_scheduler(&steps.first)? {
                break (ours, steps);
            }
        };
        let failed = self.kernel.bring(&steps.first)?;
        let mut outcome = self.rules.sync(&mut plans.iter().copied())?;
        outcome.refused.extend(failed);
        outcome.operations += steps.first.len() + steps.last.len();

        steps.last.retain(|step| outcome.refused.iter().all(|(name, _)| *name != step.owner));
        self.draining.forget();
        self.draining.leave(&steps.last);
        outcome.refused.extend(self.kernel.bring(&steps.last)?);
        let wanted: HashSet<VirtualServer> = ours.into_iter().collect();
        let gone: Vec<VirtualServer> = self.record.known().difference(&wanted).copied().collect();
        self.record.remove(&mut self.rules, &gone)?;
        self.refused = outcome.refused.iter().map(|(name, _)| (name.clone(), None)).collect();
        self.rounds.start();
        Ok(outcome)
    }

    /// The virtual servers that `plans` ask for, with the marks that their ports have in the
    /// kernel.
    pub(super) fn wanted<'a>(
        &mut self,
        plans: &[&'a ServicePlan],
    ) -> Result<Vec<(&'a ObjectName, Server)>, Error> {
        let held = self.rules.held_marks()?;
        self.adopt_marks(plans, &held);
        let of_plan = |plan: &&'a ServicePlan| {
            let name = &plan.name;
            self.servers(plan).into_iter().map(move |server| (name, server))
        };
        Ok(plans.iter().flat_map(of_plan).collect())
    }

    /// What leads from the virtual servers that are there to those `wanted`, and deletes ours that
    /// nobody wants.
    pub(super) fn differences_from(
        &mut self,
        present: &[ServerState],
        wanted: &[(&ObjectName, Server)],
    ) -> Result<Changes, Error> {
        let known: HashMap<&ServerKey, &ServerState> =
            present.iter().map(|server| (&server.key, server)).collect();
        let mut steps = Changes::default();
        for (owner, server) in wanted {
            let step = |action| Step { owner: (*owner).clone(), server: server.key, action };
            match known.get(&server.key) {
                None => {
                    steps.first.push(step(Action::NewServer(server.scheduling.clone())));
                    destination_changes(owner, server, &[], &mut steps);
                }
                Some(state) => {
                    if state.scheduling != server.scheduling {
                        steps.first.push(step(Action::SetServer(server.scheduling.clone())));
                    }
                    let held = self.kernel.destinations(&server.key)?;
                    let held: Vec<_> = held.iter().map(|state| state.destination).collect();
                    destination_changes(owner, server, &held, &mut steps);
                }
            }
        }
        let wanted: HashSet<&ServerKey> = wanted.iter().map(|(_, server)| &server.key).collect();
        let nobody = ObjectName::new("", "");
        for server in present.iter().filter(|server| !wanted.contains(&server.key)) {
            if self.record.has(&server.key) {
                let action = Action::DeleteServer;
                steps.last.push(Step { owner: nobody.clone(), server: server.key, action });
            }
        }
        Ok(steps)
    }
}

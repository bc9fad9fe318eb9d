//! Endpoints that get no new connections, until those that they have have ended.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use portolan_netfilter::ipvs::{Destination, ServerKey};
use portolan_service::ObjectName;

use super::change::{Action, Step};
use super::kernel::Kernel;
use crate::error::Error;

/// How long connections may go on to an endpoint that has left. Then they are reset. IPVS forgets
/// one that is silent for so long anyway, by default.
const LIMIT: Duration = Duration::from_mins(15);
/// How often to look whether they have ended.
const EVERY: Duration = Duration::from_secs(2);

/// The endpoints that have left and are still there, each with when it left.
#[derive(Debug, Default)]
pub(super) struct Draining {
    left: BTreeMap<ServerKey, Vec<Leaving>>,
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Leaving {
    owner: ObjectName,
    place: (IpAddr, u16),
    since: Instant,
}

impl Draining {
    /// Nothing is known of what left.
    pub(super) fn forget(&mut self) {
        self.left.clear();
    }

    /// Notes what leaves by these steps.
    pub(super) fn leave(&mut self, steps: &[Step]) {
        for step in steps {
            match &step.action {
                Action::Quiesce(destination) => self.quiesced(step, destination),
                Action::DeleteServer => drop(self.left.remove(&step.server)),
                _ => {}
            }
        }
    }

    fn quiesced(&mut self, step: &Step, destination: &Destination) {
        let place = (destination.address, destination.port);
        let leaving = self.left.entry(step.server).or_default();
        if leaving.iter().all(|known| known.place != place) {
            leaving.push(Leaving { owner: step.owner.clone(), place, since: Instant::now() });
        }
    }

    /// What comes back by these steps stays.
    pub(super) fn came_back(&mut self, steps: &[Step]) {
        if self.left.is_empty() {
            return;
        }
        for step in steps {
            let (Action::NewDestination(destination) | Action::SetDestination(destination)) = step.action
            else {
                continue;
            };
            if let Some(leaving) = self.left.get_mut(&step.server) {
                leaving.retain(|known| known.place != (destination.address, destination.port));
                if leaving.is_empty() {
                    self.left.remove(&step.server);
                }
            }
        }
    }

    /// Deletes those whose connections have ended, or have gone on for too long; not more often
    /// than makes sense. Returns whether some are left.
    pub(super) fn look(&mut self, kernel: &mut Kernel) -> Result<bool, Error> {
        if self.left.is_empty() || self.looked.is_some_and(|at| at.elapsed() < EVERY) {
            return Ok(!self.left.is_empty());
        }
        self.looked = Some(Instant::now());
        let mut steps = Vec::new();
        for (server, leaving) in &mut self.left {
            let held = kernel.destinations(server)?;
            leaving.retain(|known| {
                let found = held.iter().find(|held| {
                    (held.destination.address, held.destination.port) == known.place
                        && held.destination.weight == 0
                });
                let Some(found) = found else { return false };
                let over = found.active + found.inactive == 0 || known.since.elapsed() > LIMIT;
                if over {
                    steps.push(Step {
                        owner: known.owner.clone(),
                        server: *server,
                        action: Action::DeleteDestination(found.destination),
                    });
                }
                !over
            });
        }
        self.left.retain(|_, leaving| !leaving.is_empty());
        kernel.bring(&steps)?;
        Ok(!self.left.is_empty())
    }
}

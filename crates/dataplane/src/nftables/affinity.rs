//! Which remembered clients must forget their endpoint.
//!
//! The `affinity` map is filled by packets: client and frontend to endpoint. An entry must go when its endpoint
//! leaves the list that the client is served from (spec §3.21), and when its frontend is gone, lest a later
//! frontend of the same address inherits it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use portolan_service::{Backend, Family, ServicePlan};

use super::element::{FrontendKey, Sides, affinity_frontends, take_address, take_frontend, take_port};
use crate::LocalDetector;

/// Where clients of one frontend may stay.
#[derive(Debug, Clone, Copy, Default)]
struct Watched<'a> {
    before: Option<Sides<'a>>,
    after: Option<Sides<'a>>,
}

/// Decides about entries of the `affinity` map of one family.
#[derive(Debug)]
pub(crate) struct Sweep<'a> {
    family: Family,
    detector: Option<LocalDetector>,
    frontends: HashMap<FrontendKey, Watched<'a>>,
    /// Entries of frontends that were not given go as well.
    only_known: bool,
}

impl<'a> Sweep<'a> {
    /// A sweep over what changes leave behind: see [`Sweep::change`].
    pub(crate) fn after_changes(family: Family, detector: Option<LocalDetector>) -> Sweep<'a> {
        Sweep { family, detector, frontends: HashMap::new(), only_known: false }
    }

    /// A sweep over what an earlier process left, where only `plans` is known.
    pub(crate) fn from_plans(
        family: Family,
        detector: Option<LocalDetector>,
        plans: impl IntoIterator<Item = &'a ServicePlan>,
    ) -> Sweep<'a> {
        let frontends = plans
            .into_iter()
            .flat_map(|plan| affinity_frontends(plan, family))
            .map(|(frontend, sides)| (frontend, Watched { before: None, after: Some(sides) }))
            .collect();
        Sweep { family, detector, frontends, only_known: true }
    }

    /// The family whose map it is about.
    pub(crate) fn family(&self) -> Family {
        self.family
    }

    /// Takes one Service's change into account.
    pub(crate) fn change(&mut self, before: Option<&'a ServicePlan>, after: Option<&'a ServicePlan>) {
        for (frontend, sides) in before.into_iter().flat_map(|plan| affinity_frontends(plan, self.family)) {
            self.frontends.entry(frontend).or_default().before = Some(sides);
        }
        for (frontend, sides) in after.into_iter().flat_map(|plan| affinity_frontends(plan, self.family)) {
            self.frontends.entry(frontend).or_default().after = Some(sides);
        }
    }

    /// Forgets the frontends that no endpoint left; what remains needs a look at the map.
    pub(crate) fn is_needed(&mut self) -> bool {
        self.frontends.retain(|_, watched| match (watched.before, watched.after) {
            // A new frontend has no entries: those of an earlier one went with it.
            (None, after) => self.only_known && after.is_some(),
            (Some(_), None) => true,
            (Some(before), Some(after)) => {
                lost_any(before.inside, after.inside) || lost_any(before.outside, after.outside)
            }
        });
        self.only_known || !self.frontends.is_empty()
    }

    /// Whether the entry must go. `key` and `data` as the kernel holds them; what cannot be read stays.
    pub(crate) fn is_stale(&self, mut key: &[u8], mut data: &[u8]) -> bool {
        let entry = (|| {
            let client = take_address(&mut key, self.family)?;
            let frontend = take_frontend(&mut key, self.family)?;
            let endpoint = (take_address(&mut data, self.family)?, take_port(&mut data)?);
            Some((client, frontend, endpoint))
        })();
        let Some((client, frontend, endpoint)) = entry else { return false };
        let Some(watched) = self.frontends.get(&frontend) else { return self.only_known };
        let Some(after) = watched.after else { return true };
        let left = |before: Option<&[Backend]>, after: &[Backend]| {
            !has(after, endpoint) && before.is_some_and(|before| has(before, endpoint))
        };
        let nowhere = !has(after.inside, endpoint) && !has(after.outside, endpoint);
        if self.is_inside(client) {
            return !has(after.inside, endpoint);
        }
        // Outside, or the node itself: a lost place on either side ends it, since being sent to an endpoint that
        // left is worse than being sent to another one.
        nowhere
            || left(watched.before.map(|sides| sides.inside), after.inside)
            || left(watched.before.map(|sides| sides.outside), after.outside)
    }

    /// The client certainly is a pod of this node.
    fn is_inside(&self, client: IpAddr) -> bool {
        matches!(&self.detector, Some(LocalDetector::SourceNetwork(network)) if network.contains(&client))
    }
}

fn has(list: &[Backend], (address, port): (IpAddr, u16)) -> bool {
    list.iter().any(|backend| backend.address == address && backend.port == port)
}

fn lost_any(before: &[Backend], after: &[Backend]) -> bool {
    if std::ptr::eq(before, after) {
        return false;
    }
    let after: HashSet<_> = after.iter().map(|backend| (backend.address, backend.port)).collect();
    before.iter().any(|backend| !after.contains(&(backend.address, backend.port)))
}

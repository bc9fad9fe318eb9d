//! Whether the kernel still holds what we left there.
//!
//! Rules say themselves when somebody changes them. IPVS does not: virtual servers are compared
//! now and then, and of their destinations some each time.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use portolan_netfilter::ipvs::{ServerKey, ServerState};
use portolan_service::ServicePlan;

use super::Ipvs;
use super::wanted::Server;
use crate::dataplane::{Dataplane, Integrity};
use crate::error::Error;
use crate::families::families;

/// How often virtual servers are compared.
const EVERY: Duration = Duration::from_secs(30);
/// Of how many virtual servers the destinations are compared each time: a dump for each.
const DESTINATIONS_OF: usize = 500;

/// When virtual servers were compared, and where the comparison of destinations goes on.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    compared: Option<Instant>,
    next: usize,
}

impl Rounds {
    /// Everything is known as of now.
    pub(super) fn start(&mut self) {
        *self = Rounds { compared: Some(Instant::now()), next: 0 };
    }
}

impl Ipvs {
    /// See [`crate::Dataplane::verify`].
    pub(super) fn check(
        &mut self,
        plans: &mut dyn Iterator<Item = &ServicePlan>,
    ) -> Result<Integrity, Error> {
        if self.rounds.compared.is_some_and(|at| at.elapsed() < EVERY) {
            return self.rules.verify(plans);
        }
        let plans: Vec<&ServicePlan> = plans.collect();
        let mut findings = Vec::new();
        if self.routing.ensure(&families())? {
            findings.push("the route or the routing rule to IPVS was deleted".to_owned());
        }
        self.compare_servers(&plans, &mut findings)?;
        self.rounds.compared = Some(Instant::now());
        match self.rules.verify(&mut plans.into_iter())? {
            Integrity::Intact if findings.is_empty() => Ok(Integrity::Intact),
            Integrity::Intact => Ok(Integrity::Changed(findings)),
            Integrity::Changed(of_rules) => Ok(Integrity::Changed([findings, of_rules].concat())),
        }
    }

    fn compare_servers(&mut self, plans: &[&ServicePlan], findings: &mut Vec<String>) -> Result<(), Error> {
        let wanted: Vec<(String, Server)> = plans
            .iter()
            .filter(|plan| !self.refused.contains_key(&plan.name))
            .flat_map(|plan| self.servers(plan).into_iter().map(|server| (plan.name.to_string(), server)))
            .collect();
        let present = self.kernel.servers()?;
        let present: HashMap<&ServerKey, &ServerState> =
            present.iter().map(|server| (&server.key, server)).collect();
        for (name, server) in &wanted {
            match present.get(&server.key) {
                None => findings.push(format!("{name}: virtual server {} deleted", describe(&server.key))),
                Some(held) if held.scheduling != server.scheduling => {
                    findings.push(format!("{name}: virtual server {} changed", describe(&server.key)));
                }
                Some(_) => {}
            }
        }
        let first = if self.rounds.next < wanted.len() { self.rounds.next } else { 0 };
        let some = &wanted[first..wanted.len().min(first + DESTINATIONS_OF)];
        self.rounds.next = first + some.len();
        for (name, server) in some {
            if let Some(finding) = self.compare_destinations(server)? {
                findings.push(format!("{name}: virtual server {}: {finding}", describe(&server.key)));
            }
        }
        Ok(())
    }

    fn compare_destinations(&mut self, server: &Server) -> Result<Option<String>, Error> {
        let held = self.kernel.destinations(&server.key)?;
        // Those of weight 0 are on their way out, or rest.
        let serving: HashSet<_> =
            held.iter().map(|held| held.destination).filter(|held| held.weight > 0).collect();
        let wanted: HashSet<_> =
            server.destinations.iter().copied().filter(|wanted| wanted.weight > 0).collect();
        let (missing, more) = (wanted.difference(&serving).count(), serving.difference(&wanted).count());
        Ok(match (missing, more) {
            (0, 0) => None,
            (missing, 0) => Some(format!("{missing} of its destinations missing or changed")),
            (0, more) => Some(format!("{more} of its destinations not ours")),
            (missing, more) => Some(format!("{missing} of its destinations missing, {more} not ours")),
        })
    }
}

/// A virtual server, for people.
pub(super) fn describe(key: &ServerKey) -> String {
    match key {
        ServerKey::Address(server) => {
            format!("{} protocol {} port {}", server.address, server.protocol, server.port)
        }
        ServerKey::Mark(_, mark) => format!("of mark {mark:#x}"),
    }
}

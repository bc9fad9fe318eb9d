//! Mode `userspace`: clients are served by sockets of this process, which pass on what they get,
//! and rules bring them there. kube-proxy's first mode; `docs/userspace.md` has its clauses.
//!
//! The rules are those of mode nftables, or of iptables in kube-proxy's chains (`rules.rs`), for
//! plans in which every list of endpoints is one socket of ours (`divert.rs`). So everything that
//! depends on who the client is and on whether there are endpoints is decided in the kernel, as in
//! the modes of the kernel. Which endpoint it is follows from the wish of the socket (`wishes.rs`):
//! if endpoints change, no rule does.

mod divert;
mod mode;
mod ports;
mod preview;
mod rules;
mod settings;
#[cfg(test)]
mod tests;
mod unserved;
mod wishes;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use portolan_relay as relay;
use portolan_service::{ChangeSet, List, ObjectName, PerFamily, PortPlan, ServiceChange, ServicePlan};

pub use self::mode::MODE;
pub use self::settings::UserspaceSettings;

use self::divert::divert;
use self::ports::Ports;
use self::rules::Rules;
use self::unserved::Unserved;
use self::wishes::{Shuffle, SocketKey, wishes};
use crate::dataplane::{Dataplane, Difference, InUse, Integrity, Outcome, Reconciled, Standing};
use crate::error::Error;
use crate::listeners::{Listeners, Wish};

/// The userspace dataplane.
#[derive(Debug)]
pub struct Userspace {
    settings: UserspaceSettings,
    rules: Rules,
    listeners: Listeners,
    ports: Ports,
    shuffle: Shuffle,
    /// What the rules were made from: the plan of each Service with sockets for endpoints.
    diverted: HashMap<ObjectName, Arc<ServicePlan>>,
    unserved: Unserved,
}

impl Userspace {
    /// Opens the kernel interface in the network namespace of the calling thread. Changes nothing
    /// yet, and opens no socket.
    pub fn new(settings: UserspaceSettings) -> Result<Userspace, Error> {
        Ok(Userspace {
            rules: Rules::new(&settings)?,
            listeners: Listeners::new(relay::Settings::default()),
            ports: Ports::new(settings.ports.clone()),
            settings,
            shuffle: Shuffle::default(),
            diverted: HashMap::new(),
            unserved: Unserved::default(),
        })
    }

    /// What is to be listened on for `plan`, with a port for each socket if it is ours to choose.
    fn wishes(&mut self, plan: &ServicePlan) -> Vec<Wish> {
        let ports = &mut self.ports;
        wishes(plan, &self.settings, &self.shuffle, |key, address| ports.assign(key, address))
    }

    /// `plan` as the rules are to have it, now that its sockets are open as far as they can be.
    fn divert(&self, plan: &ServicePlan) -> Arc<ServicePlan> {
        let place = |port: &PortPlan, list: List| {
            let address = (*self.settings.addresses.get(port.family))?;
            let number = self.ports.assigned(&SocketKey::new(plan, port, list));
            let socket = wishes::name(plan, port, list, address, number)?;
            self.listeners.address(&socket)
        };
        Arc::new(self.rules.plan(divert(plan, place)))
    }

    /// The sockets of these Services are wanted no more, apart from those in `wanted`.
    fn release(&mut self, before: Vec<Wish>, wanted: Vec<Wish>) {
        let stay: HashSet<_> = wanted.iter().map(|wish| &wish.socket).collect();
        for wish in before.iter().filter(|wish| !stay.contains(&wish.socket)) {
            self.ports.release(&wish.socket);
        }
        self.listeners.change(before, wanted);
    }

    fn verify_rules(&mut self) -> Result<Integrity, Error> {
        let diverted = &self.diverted;
        self.rules.dataplane().verify(&mut diverted.values().map(|plan| &**plan))
    }

    /// Tries sockets again that could not be opened. Returns those that are open now.
    fn retry(&mut self) -> Vec<String> {
        let waiting: Vec<_> = self.listeners.waiting().map(|(socket, _)| socket.clone()).collect();
        if waiting.is_empty() {
            return Vec::new();
        }
        self.listeners.retry();
        let open = waiting.iter().filter(|socket| self.listeners.address(socket).is_some());
        open.map(|socket| format!("{socket} can be listened on now")).collect()
    }
}

impl Dataplane for Userspace {
    fn sync(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Outcome, Error> {
        let plans: Vec<&ServicePlan> = plans.collect();
        self.ports.begin(self.listeners.open_sockets());
        let wishes: Vec<Wish> = plans.iter().flat_map(|plan| self.wishes(plan)).collect();
        // What is new is open before rules lead there, and what is old until none does.
        self.listeners.change(Vec::new(), wishes.clone());
        let diverted: HashMap<ObjectName, Arc<ServicePlan>> =
            plans.iter().map(|plan| (plan.name.clone(), self.divert(plan))).collect();
        let outcome = self.rules.dataplane().sync(&mut diverted.values().map(|plan| &**plan))?;
        self.diverted = diverted;
        self.listeners.sync(wishes);
        self.ports.end();
        self.unserved.all(&plans, &self.settings);
        Ok(outcome)
    }

    fn apply(&mut self, changes: &ChangeSet) -> Result<Outcome, Error> {
        let mut before = Vec::new();
        let mut after = Vec::new();
        for change in &changes.services {
            before.extend(change.before.iter().flat_map(|plan| self.wishes(plan)));
            self.ports.changes(&change.name);
            after.extend(change.after.iter().flat_map(|plan| self.wishes(plan)));
        }
        self.listeners.change(Vec::new(), after.clone());
        let steps = changes.services.iter().map(|change| ServiceChange {
            name: change.name.clone(),
            before: self.diverted.get(&change.name).cloned(),
            after: change.after.as_ref().map(|plan| self.divert(plan)),
        });
        let diverted = ChangeSet { services: steps.filter(|step| step.before != step.after).collect() };
        let outcome = self.rules.dataplane().apply(&diverted)?;
        for ServiceChange { name, after, .. } in diverted.services {
            match after {
                Some(plan) => self.diverted.insert(name, plan),
                None => self.diverted.remove(&name),
            };
        }
        self.release(before, after);
        self.unserved.changed(changes, &self.settings);
        Ok(outcome)
    }

    fn standing(&self) -> PerFamily<Standing> {
        self.rules.as_dataplane().standing()
    }

    fn catch_up(&mut self, _: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Option<Outcome>, Error> {
        let diverted = &self.diverted;
        self.rules.dataplane().catch_up(&mut diverted.values().map(|plan| &**plan))
    }

    fn verify(&mut self, _: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Integrity, Error> {
        let open = self.retry();
        match self.verify_rules()? {
            Integrity::Intact if open.is_empty() => Ok(Integrity::Intact),
            Integrity::Intact => Ok(Integrity::Changed(open)),
            Integrity::Changed(findings) => Ok(Integrity::Changed([open, findings].concat())),
        }
    }

    fn preview(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Vec<Difference>, Error> {
        let held = self.rules.held()?;
        let as_held = plans.map(|plan| divert(plan, preview::place(&held, &self.settings)));
        let as_held: Vec<ServicePlan> = as_held.map(|plan| self.rules.plan(plan)).collect();
        let differences = self.rules.dataplane().preview(&mut as_held.iter())?;
        Ok(preview::without_guards(differences, &held, &self.settings))
    }

    fn listing(&mut self) -> Result<Vec<String>, Error> {
        self.rules.dataplane().listing()
    }

    fn reconciled(&mut self, patience: Duration) -> Vec<Reconciled> {
        self.rules.dataplane().reconciled(patience)
    }

    fn tidy(&mut self) -> Result<bool, Error> {
        self.rules.dataplane().tidy()
    }

    fn cleanup(&mut self) -> Result<(), Error> {
        self.rules.dataplane().cleanup()?;
        self.listeners.finish(Duration::ZERO);
        self.diverted.clear();
        Ok(())
    }

    fn in_use(&self) -> InUse {
        self.rules.as_dataplane().in_use()
    }

    fn unserved(&self) -> Vec<String> {
        [self.listeners.unserved(), self.ports.unserved(), self.unserved.list()].concat()
    }

    fn listeners(&mut self) -> Option<&mut Listeners> {
        Some(&mut self.listeners)
    }
}

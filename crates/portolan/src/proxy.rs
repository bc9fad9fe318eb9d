//! The proxy of one node: takes observed changes, keeps the plan, brings it into the kernel and
//! keeps it there.
//!
//! No threads and no waiting in here: [`crate::run`] feeds it events and time.

mod findings;
mod health_checks;
mod log;
mod pending;
mod record;
mod relayed;
mod schedule;
mod standing;
mod totals;
mod unserved;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_dataplane::listeners::HandedOver;
use portolan_dataplane::{ConfiguredMode, Dataplane, InUse, Integrity, Outcome, Standing};
use portolan_observe::Telemetry;
use portolan_service::{Change, ChangeSet, ObjectName, PerFamily, Planner, ServicePlan};
use tracing::{debug, error, info, warn};

use self::findings::Findings;
use self::health_checks::HealthChecks;
pub(crate) use self::health_checks::SetResponders;
use self::log::NewPorts;
use self::record::Record;
use self::relayed::Relayed;
use self::schedule::{Due, Schedule};
use self::unserved::Unserved;
use crate::announcing::{Addresses, Announcing};
use crate::batch::Batch;
use crate::describe::counted;
use crate::feed::Feed;
use crate::this_node::ThisNode;

/// Makes the dataplane of a mode.
pub(crate) type MakeDataplane =
    Box<dyn Fn(&dyn ConfiguredMode) -> Result<Box<dyn Dataplane>, portolan_dataplane::Error>>;

/// Is called with the mode whose rules are in force now.
pub(crate) type Synced = Box<dyn Fn(&dyn ConfiguredMode)>;

/// One node's proxy.
pub(crate) struct Proxy {
    node: ThisNode,
    planner: Planner,
    make: MakeDataplane,
    /// The mode with its settings for the node as it is now.
    mode: Box<dyn ConfiguredMode>,
    dataplane: Option<Box<dyn Dataplane>>,
    /// Sockets of the dataplane that was there before.
    relayed: Relayed,
    unserved: Unserved,
    schedule: Schedule,
    /// How the families were served when that was last looked at.
    standing: PerFamily<Standing>,
    findings: Findings,
    record: Record,
    new_ports: NewPorts,
    health_checks: HealthChecks,
    synced: Synced,
    /// What was observed and no commit has brought into force yet.
    uncommitted: Batch,
    in_force: Feed,
    /// Takes load-balancer addresses once their rules are in force.
    announcing: Option<Announcing>,
    /// The Services whose rules the kernel refuses, as they were handed on last.
    refused: Arc<BTreeSet<ObjectName>>,
}

/// What a proxy needs from the program around it.
pub(crate) struct Surroundings {
    /// Makes the dataplane.
    pub(crate) make: MakeDataplane,
    /// Is called whenever all rules have been brought into force.
    pub(crate) synced: Synced,
    /// Serves health-check node ports.
    pub(crate) set_responders: SetResponders,
    /// Records what happens.
    pub(crate) telemetry: Arc<Telemetry>,
    /// The longest pause between attempts (spec §9.3).
    pub(crate) sync_period: Duration,
    /// Takes what was observed once it is in force: each batch after the commit that has it.
    pub(crate) in_force: Feed,
    /// Announces load-balancer addresses, if that is asked for.
    pub(crate) announcing: Option<Announcing>,
}

impl Proxy {
    /// A proxy that has seen nothing yet.
    pub(crate) fn new(node: ThisNode, surroundings: Surroundings) -> Proxy {
        let Surroundings { make, synced, set_responders, telemetry, sync_period, in_force, announcing } =
            surroundings;
        Proxy {
            planner: Planner::new(node.local_node()),
            mode: node.configured(),
            node,
            make,
            dataplane: None,
            relayed: Relayed::default(),
            unserved: Unserved::default(),
            schedule: Schedule::new(sync_period),
            standing: PerFamily::default(),
            findings: Findings::default(),
            record: Record::new(telemetry),
            new_ports: NewPorts::default(),
            health_checks: HealthChecks::new(set_responders),
            synced,
            uncommitted: Batch::default(),
            in_force,
            announcing,
            refused: Arc::default(),
        }
    }

    /// The rules are as planned, as far as is known, in all families that the host has.
    pub(crate) fn in_force(&self) -> bool {
        self.schedule.is_in_force() && standing::behind(&self.standing).next().is_none()
    }

    /// When [`Proxy::tick`] is next due, if ever.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        self.schedule.next()
    }

    /// The plans of all Services, in no particular order.
    pub(crate) fn plans(&self) -> impl ExactSizeIterator<Item = &Arc<ServicePlan>> {
        self.planner.plans()
    }

    /// The load-balancer addresses that are planned, and who announces them.
    pub(crate) fn addresses(&self) -> Addresses {
        let mut addresses = Addresses::default();
        for (name, announced) in self.planner.announced() {
            for (address, _) in &announced.addresses {
                addresses.services.entry(*address).or_default().push((name.clone(), announced.class.clone()));
            }
        }
        if let Some(announcing) = &self.announcing {
            announcing.describe(&mut addresses);
        }
        addresses
    }

    /// What of the kernel the proxy serves with.
    pub(crate) fn in_use(&self) -> InUse {
        self.dataplane.as_ref().map_or_else(InUse::default, |dataplane| dataplane.in_use())
    }

    /// The sockets that the process before listened on.
    pub(crate) fn take_over(&mut self, sockets: HandedOver) {
        self.relayed.take_over(sockets);
    }

    /// The sockets that this process listens on, for the next one. They stay open here too.
    pub(crate) fn sockets(&mut self) -> HandedOver {
        let listeners = self.dataplane.as_mut().and_then(|dataplane| dataplane.listeners());
        listeners.map_or_else(HandedOver::default, |listeners| listeners.to_hand_over())
    }

    /// Ends the servers of health-check node ports, and those beside them, so that the next process
    /// finds their ports free.
    pub(crate) fn end_servers(&mut self) {
        self.health_checks.end();
    }

    /// Announces no load-balancer address any more: other nodes do.
    pub(crate) fn end_announcing(&mut self) {
        if let Some(announcing) = &mut self.announcing {
            announcing.end();
        }
    }

    /// Takes no more clients of Service ports that this process itself listens on, and waits until
    /// those that are there have gone, at most so long. The rules stay in force.
    pub(crate) fn end(&mut self, patience: Duration) {
        if let Some(listeners) = self.dataplane.as_mut().and_then(|dataplane| dataplane.listeners()) {
            let left = listeners.finish(patience);
            if left > 0 {
                warn!(
                    "{} ended before their time",
                    counted(usize::try_from(left).unwrap_or(usize::MAX), "relayed client")
                );
            }
        }
    }

    /// Notes what was observed and will be given to [`Proxy::observe`] with all else that waits
    /// then.
    pub(crate) fn received(&mut self, batch: &Batch) {
        self.record.received(&batch.changes);
    }

    /// Takes what was observed and brings it into force.
    pub(crate) fn observe(&mut self, batch: Batch) {
        self.record.taken();
        let received = batch.received();
        if !self.in_force.is_empty() {
            self.uncommitted.extend(batch.clone());
        }
        if batch.complete {
            self.schedule.planned(Instant::now());
        }
        self.observe_node(&batch, received);
        let changes = self.planner.apply(batch.changes);
        self.bring(&changes, received);
        self.tick();
        if self.in_force() {
            self.record.nothing_pending();
        }
        // A commit that failed loses these times (spec §9.15).
        self.uncommitted.triggers.clear();
    }

    /// Takes what the batch says of the node: its object, its addresses, the networks of its
    /// cluster.
    fn observe_node(&mut self, batch: &Batch, received: Instant) {
        for change in &batch.changes {
            match change {
                Change::Node(node) if node.name == *self.node.name() => self.node.set_object(node.clone()),
                // The rules need its addresses for as long as packets come (spec §12.5).
                Change::NodeRemoved(name) if name == self.node.name() => {
                    warn!("Node {name} is gone; going on with what it last said");
                    self.node.object_is_gone();
                }
                _ => {}
            }
        }
        if let Some(addresses) = &batch.addresses {
            self.node.set_addresses(addresses.clone());
        }
        if let Some(networks) = &batch.service_networks {
            self.node.set_service_networks(networks.clone());
        }
        let mode = self.node.configured();
        if !self.mode.equals(&*mode) {
            info!("node {}: settings changed: {mode:?}", self.node.name());
            self.mode = mode;
            // A new dataplane takes over the old one's rules like after a restart.
            if let Some(mut dataplane) = self.dataplane.take() {
                self.relayed.keep(&mut *dataplane);
                self.schedule.sync_at(Instant::now());
            }
        }
        let node = self.node.local_node();
        if *self.planner.node() != node {
            debug!("node {}: addresses or zone changed: {node:?}", node.name);
            let changes = self.planner.set_node(node);
            self.bring(&changes, received);
        }
        self.health_checks.listen_on(self.node.health_check_addresses());
    }

    /// Does what is due: retries what failed, or looks whether someone else changed the rules.
    pub(crate) fn tick(&mut self) {
        self.do_what_is_due();
        self.announce();
        self.publish();
    }

    fn do_what_is_due(&mut self) {
        match self.schedule.due(Instant::now()) {
            Some(Due::Sync) => self.sync(Instant::now()),
            Some(Due::Verify) => self.verify(),
            Some(Due::CatchUp) => self.catch_up(),
            None => {}
        }
    }

    /// Hands on the load-balancer addresses whose rules are in force now, and whether this node can
    /// have any.
    fn announce(&mut self) {
        let Some(announcing) = &mut self.announcing else { return };
        let mut changes = Vec::new();
        if self.schedule.is_in_force() {
            changes = self.planner.take_changed_announced();
            announcing.in_force();
        }
        announcing.update(changes, &self.node);
    }

    /// Hands on what is in force now and was not before.
    fn publish(&mut self) {
        if self.in_force.is_empty() || !self.schedule.is_in_force() {
            return;
        }
        if self.refused != *self.record.refused() {
            self.refused = self.record.refused().clone();
            self.uncommitted.extend(Batch::of_refused(self.refused.clone()));
        }
        if !self.uncommitted.is_empty() {
            let mut batch = std::mem::take(&mut self.uncommitted);
            let behind: Vec<_> = standing::behind(&self.standing).collect();
            batch.triggers.retain(|trigger| !behind.contains(&trigger.family));
            self.in_force.publish(&batch);
        }
    }

    /// Brings `changes`, which the plan already has, into the kernel.
    fn bring(&mut self, changes: &ChangeSet, received: Instant) {
        if !changes.is_empty() {
            self.new_ports.add(changes);
            self.record.planned(changes, received);
            let in_force = self.schedule.is_in_force();
            match &mut self.dataplane {
                Some(dataplane) if in_force => {
                    let began = Instant::now();
                    match dataplane.apply(changes) {
                        Ok(outcome) => self.applied(changes, &outcome, received),
                        Err(error) => {
                            self.record.commit_failed(changes, began.elapsed(), &error);
                            log::report(changes, "not yet in force");
                            warn!("{error}; writing all rules anew");
                            self.sync(received);
                        }
                    }
                }
                // Behind: the retry that is due brings these too.
                dataplane => {
                    let first = dataplane.is_none();
                    self.do_what_is_due();
                    if !self.schedule.is_in_force() {
                        log::report(changes, "not yet in force");
                    } else if !first {
                        log::report(
                            changes,
                            &format!("in force {:.1?} after it was seen", received.elapsed()),
                        );
                    }
                }
            }
            self.health_checks.update(changes);
        }
        self.findings.report(&mut self.planner, self.record.telemetry());
    }

    fn applied(&mut self, changes: &ChangeSet, outcome: &Outcome, received: Instant) {
        let took = received.elapsed();
        log::report(changes, &format!("in force {took:.1?} after it was seen"));
        debug!(
            "{} changed: {} in {:.1?}",
            counted(changes.services.len(), "Service"),
            counted(outcome.operations, "kernel operation"),
            outcome.commit
        );
        self.new_ports.announce(&self.planner);
        self.record_reconciled();
        self.record.committed(changes, false, outcome, took, self.planner.plans().len());
        self.committed();
    }

    /// Writes everything.
    fn sync(&mut self, received: Instant) {
        if self.dataplane.is_none() {
            match (self.make)(&*self.mode) {
                Ok(mut dataplane) => {
                    // Before it happens.
                    for ending in portolan_dataplane::endings(dataplane.in_use()) {
                        warn!("{ending}");
                    }
                    self.relayed.hand_on(&mut *dataplane, self.record.telemetry());
                    self.dataplane = Some(dataplane);
                }
                Err(error) => return self.failed(&error),
            }
        }
        let Some(dataplane) = &mut self.dataplane else { return };
        let began = Instant::now();
        let synced = dataplane.sync(&mut self.planner.plans().map(|plan| &**plan));
        match synced {
            Ok(outcome) => {
                let took = received.elapsed();
                let behind = standing::behind(&dataplane.standing())
                    .fold(String::new(), |text, family| text + " but " + &family.to_string());
                let services = self.planner.plans().len();
                info!(
                    "everything{behind} is in force, {}: {} in {:.1?}, {took:.1?} after the first was seen",
                    counted(services, "Service"),
                    counted(outcome.operations, "kernel operation"),
                    outcome.commit,
                );
                self.new_ports.announce(&self.planner);
                (self.synced)(&*self.mode);
                self.record_reconciled();
                self.record.everything_written();
                self.record.committed(&ChangeSet::default(), true, &outcome, took, services);
                self.committed();
            }
            Err(error) => {
                self.record.commit_failed(&ChangeSet::default(), began.elapsed(), &error);
                self.failed(&error);
            }
        }
    }

    /// Tries again to serve the families that are not served.
    fn catch_up(&mut self) {
        let Some(dataplane) = &mut self.dataplane else { return };
        let began = Instant::now();
        let caught_up = dataplane.catch_up(&mut self.planner.plans().map(|plan| &**plan));
        self.schedule.tried_to_catch_up(Instant::now());
        match caught_up {
            Ok(None) => self.note_standing(),
            Ok(Some(outcome)) => {
                let services = self.planner.plans().len();
                self.record_reconciled();
                self.record.committed(&ChangeSet::default(), true, &outcome, began.elapsed(), services);
                self.committed();
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Looks whether someone else changed the rules, and puts them right.
    fn verify(&mut self) {
        let Some(dataplane) = &mut self.dataplane else { return };
        let noticed = Instant::now();
        let verified = dataplane.verify(&mut self.planner.plans().map(|plan| &**plan));
        let standing = dataplane.standing();
        match verified {
            Ok(Integrity::Intact) => {
                if let Err(error) = dataplane.tidy() {
                    debug!("{error}; left for later");
                    self.record.telemetry().metrics.cleanup_failed();
                }
                self.unserved.report(&**dataplane, self.record.telemetry());
                self.record_reconciled();
                self.schedule.verified(Instant::now());
                if self.standing != standing {
                    self.note_standing();
                }
            }
            Ok(Integrity::Changed(findings)) => {
                for finding in findings {
                    warn!("changed by someone else: {finding}");
                }
                self.record.telemetry().health.failed("someone else changed the rules");
                self.schedule.sync_at(noticed);
                self.sync(noticed);
                if self.in_force() {
                    self.record.telemetry().metrics.repaired();
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Records the looks through connection tracking that have ended.
    fn record_reconciled(&mut self) {
        let Some(dataplane) = &mut self.dataplane else { return };
        for reconciled in dataplane.reconciled(Duration::ZERO) {
            self.record.reconciled(reconciled);
        }
    }

    fn committed(&mut self) {
        self.schedule.committed(Instant::now());
        self.findings.report_node_ports(&self.planner);
        if let Some(dataplane) = &self.dataplane {
            self.unserved.report(&**dataplane, self.record.telemetry());
        }
        self.note_standing();
    }

    fn failed(&mut self, error: &portolan_dataplane::Error) {
        let pause = self.schedule.failed(Instant::now());
        error!("{error}; what was in force stays, trying again in {pause:?}");
        self.record.telemetry().health.failed(&error.to_string());
    }

    /// Notes how families are served now: reports what has changed, and sees to the next attempt
    /// for those that are not.
    fn note_standing(&mut self) {
        let Some(dataplane) = &self.dataplane else { return };
        let standing = dataplane.standing();
        standing::report(&self.standing, &standing);
        self.schedule.lacking(standing::lacking(&standing), Instant::now());
        self.record.telemetry().health.in_force_but(&standing::troubles(&standing));
        self.standing = standing;
    }
}

#[cfg(test)]
mod tests;

//! The proxy of one node: takes observed changes, keeps the plan, brings it into the kernel and keeps it there.
//!
//! No threads and no waiting in here: [`crate::run`] feeds it events and time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use portolan_dataplane::kube_proxy::Variant;
use portolan_dataplane::{Dataplane, Integrity, Outcome, Settings, Standing};
use portolan_observe::servers::{Addresses, Responder, Responders};
use portolan_observe::{Commit, Eligibility, Telemetry, Trouble};
use portolan_service::{Change, ChangeSet, Family, ObjectName, PerFamily, Planner, ServicePlan};
use tracing::{debug, error, info, warn};

use crate::batch::Batch;
use crate::describe;
use crate::describe::counted;
use crate::pending::Pending;
use crate::tally::Tally;
use crate::this_node::ThisNode;

/// How often to look whether someone else changed the rules: one small request to the kernel each time.
const VERIFY_EVERY: Duration = Duration::from_millis(400);
/// After a failed attempt the next follows after this long, twice as long each time, up to `syncPeriod` (spec §9.3).
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// Of one batch this many changes are logged by name, the others counted.
const LOGGED_CHANGES: usize = 20;
/// Of the problems that one batch brings or solves so many are logged, the others counted.
const LOGGED_PROBLEMS: usize = 100;

/// Makes the dataplane for given settings.
pub(crate) type MakeDataplane =
    Box<dyn Fn(Settings) -> Result<Box<dyn Dataplane>, portolan_dataplane::Error>>;

/// Is told the settings of rules that are in force now.
pub(crate) type Synced = Box<dyn Fn(&Settings)>;

/// Serves these health-check responders from now on, on these addresses.
pub(crate) type SetResponders = Box<dyn Fn(Responders, Addresses)>;

/// Whether the kernel holds the plan.
#[derive(Debug)]
enum Kernel {
    /// Nothing is known yet of what it should hold: what it holds serves on (spec §5.37, §9.6).
    Unplanned,
    /// It does, in the families that are served; what the others lack is tried again.
    InForce { verify_at: Instant, catch_up: Option<Retry> },
    /// It does not, or nobody knows: everything is to be synced.
    Behind(Retry),
}

/// When what failed is tried again.
#[derive(Debug, Clone, Copy)]
struct Retry {
    at: Instant,
    /// Until the attempt after that one, if it fails too.
    pause: Duration,
}

impl Retry {
    fn now() -> Retry {
        Retry { at: Instant::now(), pause: RETRY_FIRST }
    }
}

/// One node's proxy.
pub(crate) struct Proxy {
    node: ThisNode,
    planner: Planner,
    make: MakeDataplane,
    settings: Settings,
    dataplane: Option<Box<dyn Dataplane>>,
    kernel: Kernel,
    /// How the families were served when that was last looked at.
    standing: PerFamily<Standing>,
    /// What was last said of each Service.
    problems: BTreeMap<ObjectName, Vec<String>>,
    /// Services whose rules the kernel refuses.
    refused: BTreeSet<ObjectName>,
    tally: Tally,
    pending: Pending,
    unannounced: Unannounced,
    synced: Synced,
    responders: Responders,
    set_responders: SetResponders,
    retry_at_most: Duration,
    /// Where they listen.
    listen: Addresses,
    telemetry: Arc<Telemetry>,
}

/// What a proxy needs from the program around it.
pub(crate) struct Surroundings {
    /// Makes the dataplane.
    pub(crate) make: MakeDataplane,
    /// Is called whenever all rules have been brought into force.
    pub(crate) synced: Synced,
    /// Serves health-check node ports.
    pub(crate) set_responders: SetResponders,
    /// Is told what happens.
    pub(crate) telemetry: Arc<Telemetry>,
    /// The longest pause between attempts (spec §9.3).
    pub(crate) sync_period: Duration,
    /// There are Node objects: without this node's, load balancers do not use it (spec §11.5).
    pub(crate) in_cluster: bool,
}

impl Proxy {
    /// A proxy that has seen nothing yet.
    pub(crate) fn new(node: ThisNode, surroundings: Surroundings) -> Proxy {
        let Surroundings { make, synced, set_responders, telemetry, sync_period, in_cluster } = surroundings;
        telemetry.health.set_node(if in_cluster { Eligibility::Unseen } else { Eligibility::NoNodes });
        Proxy {
            planner: Planner::new(node.local_node()),
            settings: node.settings(),
            node,
            make,
            dataplane: None,
            kernel: Kernel::Unplanned,
            standing: PerFamily::default(),
            problems: BTreeMap::new(),
            refused: BTreeSet::new(),
            tally: Tally::default(),
            pending: Pending::default(),
            unannounced: Unannounced::default(),
            synced,
            responders: Responders::new(),
            set_responders,
            retry_at_most: sync_period,
            listen: Addresses::default(),
            telemetry,
        }
    }

    /// The rules are as planned, as far as is known, in all families that the host has.
    pub(crate) fn in_force(&self) -> bool {
        let is_behind = |family| matches!(self.standing.get(family), Standing::Behind(_));
        self.is_serving() && !Family::ALL.into_iter().any(is_behind)
    }

    /// Changes are brought into force as they come, in one family at least.
    fn is_serving(&self) -> bool {
        matches!(self.kernel, Kernel::InForce { .. })
    }

    /// When [`Proxy::tick`] is next due, if ever.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        match self.kernel {
            Kernel::Unplanned => None,
            Kernel::InForce { verify_at, catch_up } => {
                catch_up.map(|retry| retry.at).into_iter().chain([verify_at]).min()
            }
            Kernel::Behind(retry) => Some(retry.at),
        }
    }

    /// The plans of all Services, in no particular order.
    pub(crate) fn plans(&self) -> impl ExactSizeIterator<Item = &Arc<ServicePlan>> {
        self.planner.plans()
    }

    /// The variant of iptables, for each family, in which chains of kube-proxy's names are ours.
    pub(crate) fn iptables(&self) -> PerFamily<Option<Variant>> {
        self.dataplane.as_ref().map_or_else(PerFamily::default, |dataplane| dataplane.iptables())
    }

    /// Counts what was observed and will be given to [`Proxy::observe`] with all else that waits then.
    pub(crate) fn received(&mut self, batch: &Batch) {
        self.pending.received(&batch.changes, &self.telemetry.metrics);
    }

    /// Takes what was observed and brings it into force.
    pub(crate) fn observe(&mut self, mut batch: Batch) {
        self.pending.taken();
        let received = batch.received();
        let triggers = std::mem::take(&mut batch.triggers);
        if batch.complete && matches!(self.kernel, Kernel::Unplanned) {
            self.kernel = Kernel::Behind(Retry::now());
        }
        self.observe_node(&batch, received);
        let changes = self.planner.apply(batch.changes);
        self.bring(&changes, received);
        self.tick();
        if self.in_force() {
            self.pending.in_force(&self.telemetry.metrics);
            self.programmed(&triggers);
        }
    }

    /// The endpoints that changed in the cluster at these times are in force (spec §9.15).
    fn programmed(&self, triggers: &[(ObjectName, SystemTime)]) {
        for (service, at) in triggers {
            let Ok(took) = at.elapsed() else { continue };
            let Some(plan) = self.planner.plan(service) else { continue };
            for family in Family::ALL {
                if plan.ports.iter().any(|port| port.family == family) {
                    self.telemetry.metrics.network_programming(family, took);
                }
            }
        }
    }

    /// Takes what the batch says of the node: its object, its addresses, the networks of its cluster.
    fn observe_node(&mut self, batch: &Batch, received: Instant) {
        for change in &batch.changes {
            match change {
                Change::Node(node) if node.name == *self.node.name() => {
                    self.node.set_object(node.clone());
                    let state = if node.leaving { Eligibility::Leaving } else { Eligibility::Eligible };
                    self.telemetry.health.set_node(state);
                }
                // The rules need its addresses for as long as packets come (spec §12.5).
                Change::NodeRemoved(name) if name == self.node.name() => {
                    warn!("Node {name} is gone; going on with what it last said");
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
        let settings = self.node.settings();
        if self.settings != settings {
            info!("node {}: settings changed: {settings:?}", self.node.name());
            self.settings = settings;
            // A new dataplane takes over the old one's rules like after a restart.
            if self.dataplane.take().is_some() {
                self.kernel = Kernel::Behind(Retry::now());
            }
        }
        let node = self.node.local_node();
        if *self.planner.node() != node {
            debug!("node {}: addresses or zone changed: {node:?}", node.name);
            let changes = self.planner.set_node(node);
            self.bring(&changes, received);
        }
        let listen = self.node.health_check_addresses();
        if self.listen != listen {
            self.listen = listen;
            self.tell_responders();
        }
    }

    /// Retries what failed, or looks whether someone else changed the rules.
    pub(crate) fn tick(&mut self) {
        match self.kernel {
            Kernel::Behind(retry) if retry.at <= Instant::now() => self.sync(Instant::now()),
            Kernel::InForce { verify_at, .. } if verify_at <= Instant::now() => self.verify(),
            Kernel::InForce { catch_up: Some(retry), .. } if retry.at <= Instant::now() => {
                self.catch_up(retry);
            }
            _ => {}
        }
    }

    /// Brings `changes`, which the plan already has, into the kernel.
    fn bring(&mut self, changes: &ChangeSet, received: Instant) {
        if !changes.is_empty() {
            self.unannounced.add(changes);
            self.telemetry.metrics.queued(SystemTime::now());
            self.telemetry.health.pending(received);
            self.tally.apply(changes);
            let in_force = self.is_serving();
            match &mut self.dataplane {
                Some(dataplane) if in_force => {
                    let began = Instant::now();
                    match dataplane.apply(changes) {
                        Ok(outcome) => self.applied(changes, &outcome, received),
                        Err(error) => {
                            self.record_failure(changes, began.elapsed(), &error);
                            report(changes, "not yet in force");
                            warn!("{error}; writing all rules anew");
                            self.sync(received);
                        }
                    }
                }
                // Behind: the retry that is due brings these too.
                dataplane => {
                    let first = dataplane.is_none();
                    self.tick();
                    if !self.is_serving() {
                        report(changes, "not yet in force");
                    } else if !first {
                        report(changes, &format!("in force {:.1?} after it was seen", received.elapsed()));
                    }
                }
            }
            self.update_responders(changes);
        }
        self.report_problems();
    }

    fn applied(&mut self, changes: &ChangeSet, outcome: &Outcome, received: Instant) {
        let took = received.elapsed();
        report(changes, &format!("in force {took:.1?} after it was seen"));
        debug!(
            "{} changed: {} in {:.1?}",
            counted(changes.services.len(), "Service"),
            counted(outcome.operations, "kernel operation"),
            outcome.commit
        );
        for change in &changes.services {
            self.refused.remove(&change.name);
        }
        self.announce_ports();
        self.record(changes, false, outcome, Some(took));
        self.in_force_now();
    }

    /// Logs each Service port that is in force now and was not before (`-v 2`).
    fn announce_ports(&mut self) {
        for (name, before) in self.unannounced.take() {
            let after = self.planner.plan(&name).map(|plan| &**plan);
            for line in describe::new_ports(before.as_deref(), after) {
                debug!("Adding new service port {line}");
            }
        }
    }

    fn sync(&mut self, received: Instant) {
        if self.dataplane.is_none() {
            match (self.make)(self.settings.clone()) {
                Ok(dataplane) => self.dataplane = Some(dataplane),
                Err(error) => return self.failed(&error),
            }
        }
        let Some(dataplane) = &mut self.dataplane else { return };
        let began = Instant::now();
        let synced = dataplane.sync(&mut self.planner.plans().map(|plan| &**plan));
        match synced {
            Ok(outcome) => {
                let took = received.elapsed();
                let standing = dataplane.standing();
                let behind = Family::ALL
                    .into_iter()
                    .filter(|family| matches!(standing.get(*family), Standing::Behind(_)));
                let but = behind.fold(String::new(), |but, family| but + " but " + &family.to_string());
                info!(
                    "everything{but} is in force, {}: {} in {:.1?}, {took:.1?} after the first was seen",
                    counted(self.planner.plans().len(), "Service"),
                    counted(outcome.operations, "kernel operation"),
                    outcome.commit,
                );
                self.refused.clear();
                self.announce_ports();
                (self.synced)(&self.settings);
                self.record(&ChangeSet::default(), true, &outcome, Some(took));
                self.in_force_now();
            }
            Err(error) => {
                self.record_failure(&ChangeSet::default(), began.elapsed(), &error);
                self.failed(&error);
            }
        }
    }

    /// Tells logs, metrics and the log of changes what a commit did.
    fn record(&mut self, changes: &ChangeSet, full: bool, outcome: &Outcome, took: Option<Duration>) {
        self.record_reconciled();
        for (service, reason) in &outcome.refused {
            error!("Service {service}: the kernel refused its rules: {reason}; the others are in force");
            self.refused.insert(service.clone());
        }
        let metrics = &self.telemetry.metrics;
        let at = SystemTime::now();
        metrics.committed(&Commit { full, took: outcome.commit, at }, outcome.operations);
        for rules in &outcome.rules {
            metrics.iptables_rules(rules.family, rules.table, rules.total, rules.written);
        }
        if let Some(took) = took {
            metrics.event_to_commit(took);
        }
        self.pending.in_force(metrics);
        metrics.refused_services(self.refused.len());
        self.tally.tell(metrics, self.planner.plans().len());
        self.telemetry.changes.push(portolan_observe::Change {
            at,
            full,
            event_to_commit: took,
            commit: outcome.commit,
            operations: outcome.operations,
            error: None,
            ..change(changes)
        });
    }

    /// Reports in log and metrics the looks through connection tracking that have ended.
    fn record_reconciled(&mut self) {
        let Some(dataplane) = &mut self.dataplane else { return };
        for reconciled in dataplane.reconciled(Duration::ZERO) {
            let removed = reconciled.removed.v4 + reconciled.removed.v6;
            if removed > 0 {
                info!("ended {}", counted(removed, "stale UDP flow"));
            }
            for family in Family::ALL {
                let removed = *reconciled.removed.get(family);
                self.telemetry.metrics.conntrack_reconciled(family, removed, reconciled.took);
            }
        }
    }

    fn record_failure(&self, changes: &ChangeSet, took: Duration, error: &portolan_dataplane::Error) {
        let full = changes.is_empty();
        let at = SystemTime::now();
        self.telemetry.metrics.commit_failed(&Commit { full, took, at });
        let error = Some(error.to_string());
        self.telemetry.changes.push(portolan_observe::Change {
            at,
            full,
            commit: took,
            error,
            ..change(changes)
        });
    }

    fn failed(&mut self, error: &portolan_dataplane::Error) {
        let pause = match self.kernel {
            Kernel::Behind(retry) => retry.pause,
            Kernel::Unplanned | Kernel::InForce { .. } => RETRY_FIRST,
        };
        error!("{error}; what was in force stays, trying again in {pause:?}");
        self.kernel = Kernel::Behind(self.retry_after(pause));
        self.telemetry.health.failed(&error.to_string());
    }

    /// The next attempt in `pause`, and the one after that later.
    fn retry_after(&self, pause: Duration) -> Retry {
        let next = (pause * 2).min(self.retry_at_most.max(RETRY_FIRST));
        Retry { at: Instant::now() + pause, pause: next }
    }

    fn in_force_now(&mut self) {
        // Changes must not put off the look at what others did, nor the next attempt for a family that is behind.
        let (verify_at, catch_up) = match self.kernel {
            Kernel::InForce { verify_at, catch_up } if verify_at > Instant::now() => (verify_at, catch_up),
            Kernel::InForce { catch_up, .. } => (Instant::now() + VERIFY_EVERY, catch_up),
            _ => (Instant::now() + VERIFY_EVERY, None),
        };
        self.kernel = Kernel::InForce { verify_at, catch_up };
        self.note_standing();
    }

    /// Notes how families are served now: says what has changed, and sees to the next attempt for those that are not.
    fn note_standing(&mut self) {
        let Some(dataplane) = &self.dataplane else { return };
        let standing = dataplane.standing();
        for family in Family::ALL {
            let (before, now) = (self.standing.get(family), standing.get(family));
            match now {
                _ if before == now => {}
                Standing::Served => info!("{family} is served again"),
                Standing::Behind(reason) => {
                    error!("{family}: {reason}; what was in force for it stays, the other family is served");
                }
                Standing::Absent(reason) => warn!("{family} is not served on this host: {reason}"),
            }
        }
        let trouble = |family| match standing.get(family) {
            Standing::Served => None,
            Standing::Behind(reason) => Some(Trouble::Behind(reason.clone())),
            Standing::Absent(reason) => Some(Trouble::Absent(reason.clone())),
        };
        let troubles = PerFamily { v4: trouble(Family::V4), v6: trouble(Family::V6) };
        let any_behind =
            Family::ALL.into_iter().any(|family| matches!(standing.get(family), Standing::Behind(_)));
        let any_absent =
            Family::ALL.into_iter().any(|family| matches!(standing.get(family), Standing::Absent(_)));
        let first = match (any_behind, any_absent) {
            (true, _) => Some(self.retry_after(RETRY_FIRST)),
            (false, true) => Some(self.retry_after(self.retry_at_most)),
            (false, false) => None,
        };
        if let Kernel::InForce { catch_up, .. } = &mut self.kernel {
            *catch_up = first.map(|first| catch_up.unwrap_or(first));
        }
        self.standing = standing;
        self.telemetry.health.in_force_but(&troubles);
    }

    /// Tries again to serve the families that are not served.
    fn catch_up(&mut self, due: Retry) {
        let Some(dataplane) = &mut self.dataplane else { return };
        let began = Instant::now();
        let caught_up = dataplane.catch_up(&mut self.planner.plans().map(|plan| &**plan));
        let next = self.retry_after(due.pause);
        if let Kernel::InForce { catch_up, .. } = &mut self.kernel {
            *catch_up = Some(next);
        }
        match caught_up {
            Ok(None) => self.note_standing(),
            Ok(Some(outcome)) => {
                self.record(&ChangeSet::default(), true, &outcome, Some(began.elapsed()));
                self.in_force_now();
            }
            Err(error) => self.failed(&error),
        }
    }

    fn verify(&mut self) {
        let Some(dataplane) = &mut self.dataplane else { return };
        let noticed = Instant::now();
        let verified = dataplane.verify(&mut self.planner.plans().map(|plan| &**plan));
        let standing = dataplane.standing();
        match verified {
            Ok(Integrity::Intact) => {
                if let Err(error) = dataplane.tidy() {
                    debug!("{error}; left for later");
                    self.telemetry.metrics.cleanup_failed();
                }
                self.record_reconciled();
                if let Kernel::InForce { verify_at, .. } = &mut self.kernel {
                    *verify_at = Instant::now() + VERIFY_EVERY;
                }
                if self.standing != standing {
                    self.note_standing();
                }
            }
            Ok(Integrity::Changed(findings)) => {
                for finding in findings {
                    warn!("changed by someone else: {finding}");
                }
                self.telemetry.health.failed("someone else changed the rules");
                self.kernel = Kernel::Behind(Retry { at: noticed, pause: RETRY_FIRST });
                self.sync(noticed);
                if self.in_force() {
                    self.telemetry.metrics.repaired();
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    fn report_problems(&mut self) {
        let (mut new, mut solved) = (Vec::new(), Vec::new());
        for (service, now) in self.planner.take_changed_findings() {
            let before = self.problems.remove(&service).unwrap_or_default();
            let of_service = |message: &String| format!("Service {service}: {message}");
            new.extend(now.iter().filter(|message| !before.contains(message)).map(of_service));
            solved.extend(before.iter().filter(|message| !now.contains(message)).map(of_service));
            if !now.is_empty() {
                self.problems.insert(service, now);
            }
        }
        for problem in new.iter().take(LOGGED_PROBLEMS) {
            warn!("{problem}");
        }
        for problem in solved.iter().take(LOGGED_PROBLEMS) {
            info!("solved: {problem}");
        }
        let more = |all: &Vec<String>| all.len().saturating_sub(LOGGED_PROBLEMS);
        if more(&new) + more(&solved) > 0 {
            warn!("{} more problems, and {} more that are solved", more(&new), more(&solved));
        }
        self.telemetry.metrics.problems(self.planner.problem_count());
        self.telemetry.metrics.oversized_services(self.planner.oversized());
    }

    fn update_responders(&mut self, changes: &ChangeSet) {
        let mut changed = false;
        for change in &changes.services {
            for (key, _) in change.before.iter().flat_map(|plan| responders(plan)) {
                changed |= self.responders.remove(&key).is_some();
            }
        }
        for change in &changes.services {
            for (key, responder) in change.after.iter().flat_map(|plan| responders(plan)) {
                self.responders.insert(key, responder);
                changed = true;
            }
        }
        if changed {
            self.tell_responders();
        }
    }

    fn tell_responders(&self) {
        (self.set_responders)(self.responders.clone(), self.listen.clone());
    }
}

/// Services that have changed since ports that are new in force were last logged, with their plans then. Nothing is kept
/// where nobody reads it.
#[derive(Debug, Default)]
struct Unannounced(BTreeMap<ObjectName, Option<Arc<ServicePlan>>>);

impl Unannounced {
    fn add(&mut self, changes: &ChangeSet) {
        if tracing::enabled!(tracing::Level::DEBUG) {
            for change in &changes.services {
                self.0.entry(change.name.clone()).or_insert_with(|| change.before.clone());
            }
        }
    }

    fn take(&mut self) -> BTreeMap<ObjectName, Option<Arc<ServicePlan>>> {
        std::mem::take(&mut self.0)
    }
}

/// Logs each change, with what became of it.
fn report(changes: &ChangeSet, outcome: &str) {
    for change in changes.services.iter().take(LOGGED_CHANGES) {
        info!("{}; {outcome}", describe::lines(change).join("; "));
    }
    if changes.services.len() > LOGGED_CHANGES {
        let more = counted(changes.services.len() - LOGGED_CHANGES, "more Service");
        info!("{more} changed; {outcome}");
    }
}

/// A change for the log of changes, of which nothing has become yet.
fn change(changes: &ChangeSet) -> portolan_observe::Change {
    let named = || changes.services.iter().take(LOGGED_CHANGES);
    portolan_observe::Change {
        at: SystemTime::UNIX_EPOCH,
        services: changes.services.iter().map(|change| change.name.to_string()).collect(),
        lines: named().flat_map(describe::lines).collect(),
        full: false,
        event_to_commit: None,
        commit: Duration::ZERO,
        operations: 0,
        error: None,
    }
}

/// The health-check responders a plan asks for, one for each family it has ports of.
fn responders(plan: &ServicePlan) -> Vec<((Family, u16), Responder)> {
    let Some(check) = plan.health_check else { return Vec::new() };
    let families: PerFamily<bool> = PerFamily {
        v4: plan.ports.iter().any(|port| port.family == Family::V4),
        v6: plan.ports.iter().any(|port| port.family == Family::V6),
    };
    Family::ALL
        .into_iter()
        .filter(|family| *families.get(*family))
        .map(|family| {
            let local_endpoints = *check.local_endpoints.get(family);
            ((family, check.port), Responder { service: plan.name.clone(), local_endpoints })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::rc::Rc;

    use portolan_dataplane::{Difference, Error, Reconciled};
    use portolan_service::{ExternalPolicy, InternalPolicy, Protocol, Service, ServicePort, ServiceType};

    use super::*;
    use crate::configuration;

    /// Records what it is asked, and fails or finds changes when told to.
    #[derive(Default)]
    struct Script {
        calls: Vec<String>,
        failures: VecDeque<&'static str>,
        findings: VecDeque<&'static str>,
        standing: PerFamily<Standing>,
        /// The next attempt for families that are not served succeeds.
        recovers: bool,
    }

    struct Fake(Rc<RefCell<Script>>);

    impl Fake {
        fn call(&self, what: String) -> Result<Outcome, Error> {
            let mut script = self.0.borrow_mut();
            script.calls.push(what);
            match script.failures.pop_front() {
                Some(failure) => Err(Error::Unusable(failure.to_owned())),
                None => Ok(Outcome::default()),
            }
        }
    }

    impl Dataplane for Fake {
        fn sync(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Outcome, Error> {
            self.call(format!("sync {}", plans.count()))
        }

        fn apply(&mut self, changes: &ChangeSet) -> Result<Outcome, Error> {
            self.call(format!("apply {}", changes.services.len()))
        }

        fn standing(&self) -> PerFamily<Standing> {
            self.0.borrow().standing.clone()
        }

        fn catch_up(
            &mut self,
            plans: &mut dyn Iterator<Item = &ServicePlan>,
        ) -> Result<Option<Outcome>, Error> {
            self.call(format!("catch up {}", plans.count()))?;
            let mut script = self.0.borrow_mut();
            if script.recovers {
                script.standing = PerFamily::default();
            }
            Ok(script.recovers.then(Outcome::default))
        }

        fn verify(&mut self, _: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Integrity, Error> {
            self.call("verify".to_owned())?;
            Ok(match self.0.borrow_mut().findings.pop_front() {
                Some(finding) => Integrity::Changed(vec![finding.to_owned()]),
                None => Integrity::Intact,
            })
        }

        fn preview(&mut self, _: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Vec<Difference>, Error> {
            Ok(Vec::new())
        }

        fn listing(&mut self) -> Result<Vec<String>, Error> {
            Ok(Vec::new())
        }

        fn reconciled(&mut self, _: Duration) -> Vec<Reconciled> {
            Vec::new()
        }

        fn tidy(&mut self) -> Result<bool, Error> {
            Ok(false)
        }

        fn cleanup(&mut self) -> Result<(), Error> {
            Ok(())
        }
    }

    fn proxy(script: &Rc<RefCell<Script>>) -> Proxy {
        proxy_with(script, &[])
    }

    fn proxy_with(script: &Rc<RefCell<Script>>, flags: &[&str]) -> Proxy {
        let config = configuration::of_flags(flags);
        let script = script.clone();
        Proxy::new(
            ThisNode::new("here", &config, &[], false),
            Surroundings {
                make: Box::new(move |_| Ok(Box::new(Fake(script.clone())))),
                synced: Box::new(|_| {}),
                set_responders: Box::new(|_, _| {}),
                telemetry: Arc::new(Telemetry::new(
                    portolan_observe::Mode::Nftables,
                    &Family::ALL,
                    Duration::from_secs(30),
                    &portolan_observe::BuildInfo::new("1.2.3"),
                )),
                sync_period: Duration::from_secs(30),
                in_cluster: false,
            },
        )
    }

    fn service(name: &str, address: &str) -> Change {
        Change::from(Service {
            name: ObjectName::new("shop", name),
            kind: ServiceType::ClusterIp,
            cluster_ip: Some(address.parse().unwrap()),
            cluster_ips: vec![address.parse().unwrap()],
            ip_families: vec![Family::V4],
            ports: vec![ServicePort { name: "".into(), protocol: Protocol::Tcp, port: 80, node_port: None }],
            external_ips: Vec::new(),
            load_balancer: Vec::new(),
            source_ranges: Vec::new(),
            affinity: None,
            internal_policy: InternalPolicy::Cluster,
            external_policy: ExternalPolicy::Cluster,
            health_check_node_port: None.into(),
            other_proxy: false,
        })
    }

    /// Lets the time pass until the proxy's next tick.
    fn tick(proxy: &mut Proxy) {
        let due = proxy.next_tick().expect("something is planned");
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        proxy.tick();
    }

    #[test]
    fn first_state_is_synced_whole_and_changes_are_applied() {
        let script = Rc::default();
        let mut proxy = proxy(&script);
        assert!(!proxy.in_force());
        proxy.observe(Batch::of_changes(
            vec![service("a", "10.96.0.1"), service("b", "10.96.0.2")],
            Instant::now(),
        ));
        assert!(proxy.in_force());
        proxy.observe(Batch::of_changes(vec![service("b", "10.96.0.3")], Instant::now()));
        proxy.observe(Batch::of_changes(vec![service("b", "10.96.0.3")], Instant::now()));
        assert_eq!(script.borrow().calls, ["sync 2", "apply 1"], "the same again is nothing new");
    }

    #[test]
    fn no_service_at_all_is_a_state_too() {
        let script = Rc::default();
        let mut proxy = proxy(&script);
        proxy.observe(Batch::of_changes(Vec::new(), Instant::now()));
        proxy.tick();
        assert!(proxy.in_force());
        assert_eq!(script.borrow().calls, ["sync 0"]);
    }

    #[test]
    fn what_fails_is_tried_again_with_everything() {
        let script: Rc<RefCell<Script>> = Rc::default();
        script.borrow_mut().failures.extend(["no kernel", "still none"]);
        let mut proxy = proxy(&script);
        proxy.observe(Batch::of_changes(vec![service("a", "10.96.0.1")], Instant::now()));
        assert!(!proxy.in_force());
        proxy.observe(Batch::of_changes(vec![service("b", "10.96.0.2")], Instant::now()));
        assert_eq!(script.borrow().calls, ["sync 1"], "not before the pause is over");
        tick(&mut proxy);
        assert!(!proxy.in_force());
        tick(&mut proxy);
        assert!(proxy.in_force());
        assert_eq!(script.borrow().calls, ["sync 1", "sync 2", "sync 2"]);
    }

    #[test]
    fn a_failed_change_is_followed_by_a_sync_at_once() {
        let script: Rc<RefCell<Script>> = Rc::default();
        let mut proxy = proxy(&script);
        proxy.observe(Batch::of_changes(vec![service("a", "10.96.0.1")], Instant::now()));
        script.borrow_mut().failures.push_back("somebody flushed the table");
        proxy.observe(Batch::of_changes(vec![service("b", "10.96.0.2")], Instant::now()));
        assert!(proxy.in_force());
        assert_eq!(script.borrow().calls, ["sync 1", "apply 1", "sync 2"]);
    }

    #[test]
    fn foreign_changes_are_repaired() {
        let script: Rc<RefCell<Script>> = Rc::default();
        let mut proxy = proxy(&script);
        proxy.observe(Batch::of_changes(vec![service("a", "10.96.0.1")], Instant::now()));
        tick(&mut proxy);
        script.borrow_mut().findings.push_back("table deleted");
        tick(&mut proxy);
        assert!(proxy.in_force());
        assert_eq!(script.borrow().calls, ["sync 1", "verify", "verify", "sync 1"]);
    }

    #[test]
    fn one_family_does_not_stop_the_other() {
        let script: Rc<RefCell<Script>> = Rc::default();
        let behind = || Standing::Behind("table nat cannot be read".to_owned());
        script.borrow_mut().standing.v4 = behind();
        let mut proxy = proxy(&script);
        let observe = |proxy: &mut Proxy, name, ip| {
            proxy.observe(Batch::of_changes(vec![service(name, ip)], Instant::now()));
        };
        observe(&mut proxy, "a", "10.96.0.1");
        assert!(!proxy.in_force(), "not all of it");
        assert_eq!(Family::ALL.map(|family| proxy.telemetry.health.family_healthy(family)), [false, true]);
        // Changes go on in the other one, and the first is tried again, more and more seldom.
        observe(&mut proxy, "b", "10.96.0.2");
        let Kernel::InForce { catch_up: Some(first), .. } = proxy.kernel else {
            panic!("{:?}", proxy.kernel)
        };
        proxy.catch_up(first);
        let Kernel::InForce { catch_up: Some(second), .. } = proxy.kernel else {
            panic!("{:?}", proxy.kernel)
        };
        assert!(second.pause > first.pause);
        let calls: Vec<String> =
            script.borrow().calls.iter().filter(|call| *call != "verify").cloned().collect();
        assert_eq!(calls[..2], ["sync 1", "apply 1"]);
        assert!(calls[2..].iter().all(|call| call == "catch up 2"), "{calls:?}");
        script.borrow_mut().recovers = true;
        proxy.catch_up(second);
        assert!(proxy.in_force());
        assert!(proxy.telemetry.health.healthy());
        assert!(matches!(proxy.kernel, Kernel::InForce { catch_up: None, .. }));
        // One that the host does not have is no trouble.
        script.borrow_mut().standing.v6 = Standing::Absent("no ip6tables".to_owned());
        observe(&mut proxy, "c", "10.96.0.3");
        assert!(proxy.in_force() && proxy.telemetry.health.healthy());
        // One that is found behind when somebody looks.
        script.borrow_mut().standing.v4 = behind();
        tick(&mut proxy);
        assert!(!proxy.in_force());
        assert_eq!(script.borrow().calls.last().map(String::as_str), Some("verify"));
    }

    #[test]
    fn external_ips_can_be_ruled_out() {
        // spec §0.4
        let script = Rc::default();
        let mut proxy = proxy_with(&script, &["--feature-gates=AllowServiceExternalIPs=false"]);
        let Change::Service(mut service) = service("a", "10.96.0.1") else { unreachable!() };
        Arc::make_mut(&mut service).external_ips = vec!["192.0.2.9".parse().unwrap()];
        proxy.observe(Batch::of_changes(vec![Change::Service(service)], Instant::now()));
        let plan = proxy.plans().next().unwrap();
        assert_eq!(plan.ports[0].frontends.len(), 1, "the ClusterIP alone");
        assert!(proxy.planner.warnings()[0].message.contains("AllowServiceExternalIPs"), "and that is said");
    }

    #[test]
    fn nothing_is_synced_before_all_is_known() {
        // spec §9.6
        let script: Rc<RefCell<Script>> = Rc::default();
        let mut proxy = proxy(&script);
        proxy.observe(Batch::of_addresses(vec!["192.0.2.1".parse().unwrap()]));
        proxy.tick();
        assert_eq!(proxy.next_tick(), None);
        assert!(script.borrow().calls.is_empty());
        assert_eq!(proxy.telemetry.health.healthz().0.as_u16(), 503);
    }

    #[test]
    fn health_follows_the_kernel() {
        // Unlike spec §11.6: never healthy while the kernel does not hold what is wanted.
        let script: Rc<RefCell<Script>> = Rc::default();
        script.borrow_mut().failures.push_back("no kernel");
        let mut proxy = proxy(&script);
        proxy.observe(Batch::of_changes(vec![service("a", "10.96.0.1")], Instant::now()));
        assert!(!proxy.telemetry.health.healthy());
        tick(&mut proxy);
        assert!(proxy.telemetry.health.healthy());
        let text = proxy.telemetry.metrics_text();
        for line in [
            "kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv4\"} 1",
            "portolan_services 1",
        ] {
            assert!(text.contains(line), "{line}:\n{text}");
        }
        let rows = proxy.telemetry.changes.rows();
        assert_eq!(rows.iter().map(|row| row.error.is_some()).collect::<Vec<_>>(), [true, false]);
    }

    /// Services and EndpointSlices that came, and those that are not in force.
    fn counted(proxy: &Proxy) -> [u64; 4] {
        let text = proxy.telemetry.metrics_text();
        [
            "service_changes_total",
            "endpoint_changes_total",
            "service_changes_pending",
            "endpoint_changes_pending",
        ]
        .map(|name| {
            let name = format!("kubeproxy_sync_proxy_rules_{name} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&name));
            line.unwrap_or_else(|| panic!("{name}:\n{text}")).parse().unwrap()
        })
    }

    #[test]
    fn changes_are_counted_and_pending_until_in_force() {
        let script: Rc<RefCell<Script>> = Rc::default();
        script.borrow_mut().failures.push_back("no kernel");
        let mut proxy = proxy(&script);
        let slice = |name| Change::SliceRemoved(ObjectName::new("shop", name));
        let first =
            Batch::of_changes(vec![service("a", "10.96.0.1"), slice("a-1"), slice("a-2")], Instant::now());
        proxy.received(&first);
        assert_eq!(counted(&proxy), [2, 2, 1, 2], "a Service counts for each family");
        proxy.observe(first);
        assert_eq!(counted(&proxy), [2, 2, 1, 2], "the commit failed");
        let second =
            Batch::of_changes(vec![service("a", "10.96.0.2"), service("b", "10.96.0.3")], Instant::now());
        proxy.received(&second);
        assert_eq!(counted(&proxy), [6, 2, 2, 2], "one Service twice is one that is pending");
        tick(&mut proxy);
        assert_eq!(counted(&proxy), [6, 2, 2, 0], "what waits is not in force when the rest is");
        proxy.observe(second);
        assert_eq!(counted(&proxy), [6, 2, 0, 0]);
        let nothing_new = Batch::of_changes(vec![service("b", "10.96.0.3")], Instant::now());
        proxy.received(&nothing_new);
        assert_eq!(counted(&proxy), [8, 2, 1, 0]);
        proxy.observe(nothing_new);
        assert_eq!(counted(&proxy), [8, 2, 0, 0]);
    }

    #[test]
    fn changes_do_not_put_off_the_look_at_what_others_did() {
        let script: Rc<RefCell<Script>> = Rc::default();
        let mut proxy = proxy(&script);
        proxy.observe(Batch::of_changes(vec![service("a", "10.96.0.1")], Instant::now()));
        let due = proxy.next_tick();
        proxy.observe(Batch::of_changes(vec![service("b", "10.96.0.2")], Instant::now()));
        assert_eq!(proxy.next_tick(), due);
    }
}

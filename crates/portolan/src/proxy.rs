//! The proxy of one node: takes observed changes, keeps the plan, brings it into the kernel and keeps it there.
//!
//! No threads and no waiting in here: [`crate::run`] feeds it events and time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use portolan_dataplane::{Dataplane, Integrity, Outcome, Settings};
use portolan_service::{Change, ChangeSet, Family, PerFamily, Planner, Problem};
use tracing::{debug, error, info, warn};

use crate::batch::Batch;
use crate::describe;
use crate::health_check::{HealthChecks, Responder, Responders};
use crate::this_node::ThisNode;

/// How often to look whether someone else changed the rules: one small request to the kernel each time.
const VERIFY_EVERY: Duration = Duration::from_millis(400);
/// After a failed attempt the next follows after this long, twice as long each time, up to [`RETRY_AT_MOST`].
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_AT_MOST: Duration = Duration::from_secs(30);
/// Of one batch this many changes are logged by name, the others counted.
const LOGGED_CHANGES: usize = 20;

/// Makes the dataplane for given settings.
pub(crate) type MakeDataplane =
    Box<dyn Fn(Settings) -> Result<Box<dyn Dataplane>, portolan_dataplane::Error>>;

/// Whether the kernel holds the plan.
#[derive(Debug)]
enum Kernel {
    /// Nothing is known yet of what it should hold: what it holds serves on (spec §5.37, §9.6).
    Unplanned,
    InForce {
        verify_at: Instant,
    },
    /// It does not, or nobody knows: everything is to be synced at `retry_at`.
    Behind {
        retry_at: Instant,
        pause: Duration,
    },
}

/// One node's proxy.
pub(crate) struct Proxy {
    node: ThisNode,
    planner: Planner,
    make: MakeDataplane,
    settings: Settings,
    dataplane: Option<Box<dyn Dataplane>>,
    kernel: Kernel,
    problems: BTreeSet<String>,
    responders: Responders,
    health_checks: HealthChecks,
}

impl Proxy {
    /// A proxy that has seen nothing yet.
    pub(crate) fn new(node: ThisNode, make: MakeDataplane, health_checks: HealthChecks) -> Proxy {
        Proxy {
            planner: Planner::new(node.local_node()),
            settings: node.settings(),
            node,
            make,
            dataplane: None,
            kernel: Kernel::Unplanned,
            problems: BTreeSet::new(),
            responders: Responders::new(),
            health_checks,
        }
    }

    /// The rules are as planned, as far as is known.
    pub(crate) fn in_force(&self) -> bool {
        matches!(self.kernel, Kernel::InForce { .. })
    }

    /// When [`Proxy::tick`] is next due, if ever.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        match self.kernel {
            Kernel::Unplanned => None,
            Kernel::InForce { verify_at } => Some(verify_at),
            Kernel::Behind { retry_at, .. } => Some(retry_at),
        }
    }

    /// Takes what was observed and brings it into force.
    pub(crate) fn observe(&mut self, batch: Batch) {
        let received = batch.received();
        if batch.complete && matches!(self.kernel, Kernel::Unplanned) {
            self.kernel = Kernel::Behind { retry_at: Instant::now(), pause: RETRY_FIRST };
        }
        self.observe_node(&batch, received);
        let changes = self.planner.apply(batch.changes);
        self.bring(&changes, received);
        self.tick();
    }

    /// Takes what the batch says of the node: its object, its addresses, the networks of its cluster.
    fn observe_node(&mut self, batch: &Batch, received: Instant) {
        for change in &batch.changes {
            match change {
                Change::Node(node) if node.name == *self.node.name() => self.node.set_object(node.clone()),
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
                self.kernel = Kernel::Behind { retry_at: Instant::now(), pause: RETRY_FIRST };
            }
        }
        let node = self.node.local_node();
        if *self.planner.node() != node {
            debug!("node {}: addresses or zone changed: {node:?}", node.name);
            let changes = self.planner.set_node(node);
            self.bring(&changes, received);
            self.health_checks.set(self.responders.clone(), self.node.health_check_addresses());
        }
    }

    /// Retries what failed, or looks whether someone else changed the rules.
    pub(crate) fn tick(&mut self) {
        match self.kernel {
            Kernel::Behind { retry_at, .. } if retry_at <= Instant::now() => self.sync(Instant::now()),
            Kernel::InForce { verify_at } if verify_at <= Instant::now() => self.verify(),
            _ => {}
        }
    }

    /// Brings `changes`, which the plan already has, into the kernel.
    fn bring(&mut self, changes: &ChangeSet, received: Instant) {
        if !changes.is_empty() {
            report(changes);
            let in_force = self.in_force();
            match &mut self.dataplane {
                Some(dataplane) if in_force => match dataplane.apply(changes) {
                    Ok(outcome) => {
                        log_outcome(
                            &format!("{} Services changed", changes.services.len()),
                            &outcome,
                            received,
                        );
                        self.in_force_now();
                    }
                    Err(error) => {
                        warn!("{error}; writing all rules anew");
                        self.sync(received);
                    }
                },
                // Behind: the retry that is due brings these too.
                _ => self.tick(),
            }
            self.update_responders(changes);
        }
        self.report_problems();
    }

    fn sync(&mut self, received: Instant) {
        if self.dataplane.is_none() {
            match (self.make)(self.settings.clone()) {
                Ok(dataplane) => self.dataplane = Some(dataplane),
                Err(error) => return self.failed(&error),
            }
        }
        let Some(dataplane) = &mut self.dataplane else { return };
        let synced = dataplane.sync(&mut self.planner.plans().map(|plan| &**plan));
        match synced {
            Ok(outcome) => {
                log_outcome(
                    &format!("all {} Services in force", self.planner.plans().len()),
                    &outcome,
                    received,
                );
                self.in_force_now();
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &portolan_dataplane::Error) {
        let pause = match self.kernel {
            Kernel::Behind { pause, .. } => pause,
            Kernel::Unplanned | Kernel::InForce { .. } => RETRY_FIRST,
        };
        error!("{error}; what was in force stays, trying again in {pause:?}");
        self.kernel =
            Kernel::Behind { retry_at: Instant::now() + pause, pause: (pause * 2).min(RETRY_AT_MOST) };
        self.health_checks.set_healthy(false);
    }

    fn in_force_now(&mut self) {
        // Changes must not put off the look at what others did.
        let verify_at = match self.kernel {
            Kernel::InForce { verify_at } if verify_at > Instant::now() => verify_at,
            _ => Instant::now() + VERIFY_EVERY,
        };
        self.kernel = Kernel::InForce { verify_at };
        self.health_checks.set_healthy(true);
    }

    fn verify(&mut self) {
        let Some(dataplane) = &mut self.dataplane else { return };
        let noticed = Instant::now();
        let verified = dataplane.verify(&mut self.planner.plans().map(|plan| &**plan));
        match verified {
            Ok(Integrity::Intact) => {
                if let Err(error) = dataplane.tidy() {
                    debug!("{error}; left for later");
                }
                self.kernel = Kernel::InForce { verify_at: Instant::now() + VERIFY_EVERY };
            }
            Ok(Integrity::Changed(findings)) => {
                for finding in findings {
                    warn!("changed by someone else: {finding}");
                }
                self.kernel = Kernel::Behind { retry_at: noticed, pause: RETRY_FIRST };
                self.sync(noticed);
            }
            Err(error) => self.failed(&error),
        }
    }

    fn report_problems(&mut self) {
        let now: BTreeSet<String> = self.planner.problems().iter().map(Problem::to_string).collect();
        for problem in now.difference(&self.problems) {
            warn!("{problem}");
        }
        for solved in self.problems.difference(&now) {
            info!("solved: {solved}");
        }
        self.problems = now;
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
            self.health_checks.set(self.responders.clone(), self.node.health_check_addresses());
        }
    }
}

fn report(changes: &ChangeSet) {
    for change in changes.services.iter().take(LOGGED_CHANGES) {
        for line in describe::lines(change) {
            info!("{line}");
        }
    }
    if changes.services.len() > LOGGED_CHANGES {
        info!("{} more Services changed", changes.services.len() - LOGGED_CHANGES);
    }
}

fn log_outcome(what: &str, outcome: &Outcome, received: Instant) {
    info!(
        "{what}: {} kernel operations in {:.1?}, {:.1?} after the first was seen",
        outcome.operations,
        outcome.commit,
        received.elapsed()
    );
    if outcome.conntrack_removed > 0 {
        info!("removed {} stale UDP connection tracking entries", outcome.conntrack_removed);
    }
    for (service, reason) in &outcome.refused {
        error!("Service {service}: the kernel refused its rules: {reason}; the others are in force");
    }
}

/// The health-check responders a plan asks for, one for each family it has ports of.
fn responders(plan: &portolan_service::ServicePlan) -> Vec<((Family, u16), Responder)> {
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

    use clap::Parser;
    use portolan_dataplane::{Difference, Error};
    use portolan_service::{
        ExternalPolicy, InternalPolicy, ObjectName, Protocol, Service, ServicePlan, ServicePort, ServiceType,
    };

    use super::*;
    use crate::cli::ProxyArgs;

    /// Records what it is asked, and fails or finds changes when told to.
    #[derive(Default)]
    struct Script {
        calls: Vec<String>,
        failures: VecDeque<&'static str>,
        findings: VecDeque<&'static str>,
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

        fn tidy(&mut self) -> Result<bool, Error> {
            Ok(false)
        }

        fn cleanup(&mut self) -> Result<(), Error> {
            Ok(())
        }
    }

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        proxy: ProxyArgs,
    }

    fn proxy(script: &Rc<RefCell<Script>>) -> Proxy {
        let flags = Flags::parse_from(["test", "--hostname-override=here"]);
        let script = script.clone();
        Proxy::new(
            ThisNode::new(&flags.proxy).unwrap(),
            Box::new(move |_| Ok(Box::new(Fake(script.clone())))),
            HealthChecks::start().unwrap(),
        )
    }

    fn service(name: &str, address: &str) -> Change {
        Change::Service(Service {
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
            health_check_node_port: None,
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
    fn changes_do_not_put_off_the_look_at_what_others_did() {
        let script: Rc<RefCell<Script>> = Rc::default();
        let mut proxy = proxy(&script);
        proxy.observe(Batch::of_changes(vec![service("a", "10.96.0.1")], Instant::now()));
        let due = proxy.next_tick();
        proxy.observe(Batch::of_changes(vec![service("b", "10.96.0.2")], Instant::now()));
        assert_eq!(proxy.next_tick(), due);
    }
}

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use portolan_dataplane::{Difference, Error, Reconciled};
use portolan_service::{Family, ObjectName, Protocol, Service, ServicePort, ServiceType};

use super::*;
use crate::configuration;
use crate::consumers::ReceivedChanges;
use crate::feed::Consumer;
use crate::mailbox::{Mail, mailbox};

/// Records what it is asked, and fails or finds changes as the test wants it.
#[derive(Default)]
struct Script {
    calls: Vec<String>,
    failures: VecDeque<&'static str>,
    findings: VecDeque<&'static str>,
    standing: PerFamily<Standing>,
    /// Services whose rules are refused by each commit.
    refused: Vec<&'static str>,
    /// The next attempt for families that are not served succeeds.
    recovers: bool,
}

struct Fake(Rc<RefCell<Script>>);

impl Fake {
    fn call(&self, what: String) -> Result<Outcome, Error> {
        let mut script = self.0.borrow_mut();
        script.calls.push(what);
        if let Some(failure) = script.failures.pop_front() {
            return Err(Error::Unusable(failure.to_owned()));
        }
        let refused = script.refused.iter().map(|name| ObjectName::new("shop", name));
        let refused = refused.map(|name| (name, "too much".to_owned())).collect();
        Ok(Outcome { refused, ..Outcome::default() })
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

    fn catch_up(&mut self, plans: &mut dyn Iterator<Item = &ServicePlan>) -> Result<Option<Outcome>, Error> {
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

    fn in_use(&self) -> InUse {
        InUse::default()
    }
}

fn proxy(script: &Rc<RefCell<Script>>) -> Proxy {
    proxy_with(script, &[], Feed::default())
}

fn proxy_with(script: &Rc<RefCell<Script>>, flags: &[&str], in_force: Feed) -> Proxy {
    let config = configuration::of_flags(flags);
    let script = script.clone();
    Proxy::new(
        ThisNode::new("here", crate::run::mode(&config).unwrap(), &config, &[], false),
        Surroundings {
            make: Box::new(move |_| Ok(Box::new(Fake(script.clone())))),
            synced: Box::new(|_| {}),
            set_responders: Box::new(|_, _| {}),
            telemetry: Arc::new(Telemetry::new(
                portolan_config::Mode::Nftables,
                portolan_config::Mode::Nftables,
                &Family::ALL,
                Duration::from_secs(30),
                &portolan_observe::BuildInfo::new("1.2.3"),
            )),
            sync_period: Duration::from_secs(30),
            in_force,
            announcing: None,
        },
    )
}

fn service(name: &str, address: &str) -> Change {
    Change::from(Service {
        cluster_ip: Some(address.parse().unwrap()),
        cluster_ips: vec![address.parse().unwrap()],
        ip_families: vec![Family::V4],
        ports: vec![ServicePort { name: "".into(), protocol: Protocol::Tcp, port: 80, node_port: None }],
        ..Service::new(ObjectName::new("shop", name))
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
    assert_eq!(
        Family::ALL.map(|family| proxy.record.telemetry().health.family_healthy(family)),
        [false, true]
    );
    // Changes go on in the other one, and the first is tried again.
    observe(&mut proxy, "b", "10.96.0.2");
    proxy.catch_up();
    assert!(!proxy.in_force());
    let calls: Vec<String> = script.borrow().calls.iter().filter(|call| *call != "verify").cloned().collect();
    assert_eq!(calls[..2], ["sync 1", "apply 1"]);
    assert!(calls[2..].iter().all(|call| call == "catch up 2"), "{calls:?}");
    script.borrow_mut().recovers = true;
    proxy.catch_up();
    assert!(proxy.in_force());
    assert!(proxy.record.telemetry().health.healthy());
    // One that the host does not have is no trouble.
    script.borrow_mut().standing.v6 = Standing::Absent("no ip6tables".to_owned());
    observe(&mut proxy, "c", "10.96.0.3");
    assert!(proxy.in_force() && proxy.record.telemetry().health.healthy());
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
    let mut proxy = proxy_with(&script, &["--feature-gates=AllowServiceExternalIPs=false"], Feed::default());
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
    assert_eq!(proxy.record.telemetry().health.healthz().0.as_u16(), 503);
}

#[test]
fn health_follows_the_kernel() {
    // Unlike spec §11.6: never healthy while the kernel does not hold what is wanted.
    let script: Rc<RefCell<Script>> = Rc::default();
    script.borrow_mut().failures.push_back("no kernel");
    let mut proxy = proxy(&script);
    proxy.observe(Batch::of_changes(vec![service("a", "10.96.0.1")], Instant::now()));
    assert!(!proxy.record.telemetry().health.healthy());
    tick(&mut proxy);
    assert!(proxy.record.telemetry().health.healthy());
    let text = proxy.record.telemetry().metrics_text();
    for line in [
        "kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv4\"} 1",
        "portolan_services 1",
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    let rows = proxy.record.telemetry().changes.rows();
    assert_eq!(rows.iter().map(|row| row.error.is_some()).collect::<Vec<_>>(), [true, false]);
}

/// Services and EndpointSlices that came, and those that are not in force.
fn counted(proxy: &Proxy) -> [u64; 4] {
    let text = proxy.record.telemetry().metrics_text();
    ["service_changes_total", "endpoint_changes_total", "service_changes_pending", "endpoint_changes_pending"]
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
    let counter = ReceivedChanges(proxy.record.shared_telemetry());
    let receive = |proxy: &mut Proxy, batch: &Batch| {
        counter.take(batch);
        proxy.received(batch);
    };
    let slice = |name| Change::SliceRemoved(ObjectName::new("shop", name));
    let first =
        Batch::of_changes(vec![service("a", "10.96.0.1"), slice("a-1"), slice("a-2")], Instant::now());
    receive(&mut proxy, &first);
    assert_eq!(counted(&proxy), [2, 2, 1, 2], "a Service counts for each family");
    proxy.observe(first);
    assert_eq!(counted(&proxy), [2, 2, 1, 2], "the commit failed");
    let second =
        Batch::of_changes(vec![service("a", "10.96.0.2"), service("b", "10.96.0.3")], Instant::now());
    receive(&mut proxy, &second);
    assert_eq!(counted(&proxy), [6, 2, 2, 2], "one Service twice is one that is pending");
    tick(&mut proxy);
    assert_eq!(counted(&proxy), [6, 2, 2, 0], "what waits is not in force when the rest is");
    proxy.observe(second);
    assert_eq!(counted(&proxy), [6, 2, 0, 0]);
    let nothing_new = Batch::of_changes(vec![service("b", "10.96.0.3")], Instant::now());
    receive(&mut proxy, &nothing_new);
    assert_eq!(counted(&proxy), [8, 2, 1, 0]);
    proxy.observe(nothing_new);
    assert_eq!(counted(&proxy), [8, 2, 0, 0]);
}

/// What each commit has brought into force: the names of Services.
fn names(batches: &crate::mailbox::Receiver<()>) -> Vec<String> {
    let Some(Mail::Observed(batch)) = batches.try_iter().next() else { return Vec::new() };
    let named = batch.changes.iter().map(|change| match change {
        Change::Service(service) => service.name.to_string(),
        Change::ServiceRemoved(name) => format!("-{name}"),
        other => panic!("{other:?}"),
    });
    named.collect()
}

#[test]
fn changes_are_handed_on_after_the_commit_that_has_them() {
    let script: Rc<RefCell<Script>> = Rc::default();
    let (sender, received) = mailbox();
    let in_force = Feed::new([Box::new(sender) as Box<dyn Consumer>]);
    let mut proxy = proxy_with(&script, &[], in_force);
    let observe = |proxy: &mut Proxy, changes| proxy.observe(Batch::of_changes(changes, Instant::now()));
    observe(&mut proxy, vec![service("a", "10.96.0.1")]);
    assert_eq!(names(&received), ["shop/a"]);
    // Neither the change nor everything anew.
    script.borrow_mut().failures.extend(["full", "still full"]);
    observe(&mut proxy, vec![service("b", "10.96.0.2")]);
    observe(&mut proxy, vec![Change::ServiceRemoved(ObjectName::new("shop", "a"))]);
    assert!(names(&received).is_empty(), "not in force yet");
    tick(&mut proxy);
    assert_eq!(names(&received), ["shop/b", "-shop/a"], "both, in their order, after the sync");
    // Nothing to write is in force at once: names need what rules do not.
    let Change::Service(mut alias) = service("c", "10.96.0.3") else { unreachable!() };
    Arc::make_mut(&mut alias).kind = ServiceType::ExternalName;
    let calls = script.borrow().calls.len();
    observe(&mut proxy, vec![Change::Service(alias)]);
    assert_eq!((names(&received), script.borrow().calls.len()), (vec!["shop/c".to_owned()], calls));
}

#[test]
fn who_takes_what_is_in_force_learns_what_is_refused() {
    let script: Rc<RefCell<Script>> = Rc::default();
    let (sender, received) = mailbox::<()>();
    let mut proxy = proxy_with(&script, &[], Feed::new([Box::new(sender) as Box<dyn Consumer>]));
    let refused = || {
        let Some(Mail::Observed(batch)) = received.try_iter().next() else { panic!("nothing there") };
        batch.refused.map(|refused| refused.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let mut observe = |script: &Rc<RefCell<Script>>, address: &str, names: &[&'static str]| {
        script.borrow_mut().refused = names.to_vec();
        proxy.observe(Batch::of_changes(vec![service("a", address)], Instant::now()));
        refused()
    };
    assert_eq!(observe(&script, "10.96.0.1", &["a"]), Some(vec!["shop/a".to_owned()]));
    assert_eq!(observe(&script, "10.96.0.2", &["a"]), None, "as before");
    assert_eq!(observe(&script, "10.96.0.3", &[]), Some(vec![]));
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

//! Lives of pods, second by second.

use serde::Deserialize;
use serde_json::{Value, json};

use super::*;

/// A pod and a clock.
struct World {
    life: Life,
    now: u64,
}

fn container(more: &Value) -> Value {
    let mut container = json!({ "name": "c", "image": "i" });
    for (key, value) in more.as_object().into_iter().flatten() {
        container[key] = value.clone();
    }
    container
}

fn world(spec: &Value) -> World {
    let object = json!({ "metadata": { "name": "p", "namespace": "shop", "uid": "u" }, "spec": spec });
    let object = Object::deserialize(&object).expect("a pod");
    World { life: Life::new(object, vec!["10.0.0.1".into()], vec!["192.0.2.1".into()], at(0)), now: 0 }
}

/// A pod of one container.
fn one(more: &Value) -> World {
    world(&json!({ "containers": [container(more)] }))
}

fn at(seconds: u64) -> Moment {
    Duration::from_secs(1_796_000_000 + seconds)
}

impl World {
    /// What follows, without events.
    fn after(&mut self, happening: Happening) -> Vec<Action> {
        let mut actions = self.life.handle(happening, at(self.now));
        actions.retain(|action| !matches!(action, Action::Event { .. }));
        actions
    }

    fn begin(&mut self, index: usize) {
        assert!(self.after(Happening::Later).contains(&Action::Start(index)));
        self.after(Happening::Started(index));
    }

    fn exit(&mut self, index: usize, code: i32) -> Vec<Action> {
        self.after(Happening::Exited(index, Exit { code, signal: 0 }))
    }

    /// Goes on to when something is due.
    fn wait(&mut self) -> u64 {
        let before = self.now;
        self.now = self.life.due().expect("something is due").saturating_sub(at(0)).as_secs();
        self.now - before
    }

    fn status(&mut self) -> Value {
        self.life.status(at(self.now))
    }

    fn phase(&mut self) -> String {
        self.status()["phase"].as_str().unwrap_or_default().to_owned()
    }

    fn is_ready(&mut self) -> bool {
        let conditions = self.status()["conditions"].clone();
        let ready = conditions.as_array().and_then(|list| list.iter().find(|entry| entry["type"] == "Ready"));
        ready.is_some_and(|ready| ready["status"] == "True")
    }
}

#[test]
fn begins() {
    let mut world = one(&json!({}));
    assert_eq!(world.phase(), "Pending");
    assert_eq!(world.after(Happening::Later), [Action::Start(0)]);
    assert_eq!(world.after(Happening::Later), [], "once");
    assert_eq!((world.phase().as_str(), world.is_ready()), ("Pending", false));
    world.now = 1;
    world.after(Happening::Started(0));
    assert_eq!((world.phase().as_str(), world.is_ready()), ("Running", true));
    let status = world.status();
    assert_eq!(
        status["containerStatuses"][0],
        json!({ "name": "c", "image": "i", "imageID": "i", "containerID": "portolan://c-0", "ready": true,
            "started": true, "restartCount": 0, "lastState": {},
            "state": { "running": { "startedAt": "2026-11-30T00:53:21Z" } } })
    );
    assert_eq!((&status["podIP"], &status["hostIP"]), (&json!("10.0.0.1"), &json!("192.0.2.1")));
    assert_eq!(world.life.due(), None);
}

/// What comes after an end: whether it starts again, and the phase.
#[test]
fn restarts_as_its_policy_says() {
    let table = [
        ("Always", 0, true, "Running"),
        ("Always", 1, true, "Running"),
        ("OnFailure", 0, false, "Succeeded"),
        ("OnFailure", 1, true, "Running"),
        ("Never", 0, false, "Succeeded"),
        ("Never", 1, false, "Failed"),
    ];
    for (policy, code, again, phase) in table {
        let mut world = world(&json!({ "restartPolicy": policy, "containers": [container(&json!({}))] }));
        world.begin(0);
        let name = format!("{policy} after {code}");
        assert_eq!(world.exit(0, code).contains(&Action::Start(0)), again, "{name}");
        assert_eq!(world.phase(), phase, "{name}");
        assert_eq!(world.life.is_over(), !again, "{name}");
    }
}

#[test]
fn backs_off() {
    let mut world = one(&json!({}));
    world.begin(0);
    let mut waits = Vec::new();
    for _ in 0..8 {
        let mut wait = 0;
        if !world.exit(0, 1).contains(&Action::Start(0)) {
            let state = world.status()["containerStatuses"][0].clone();
            assert_eq!(state["state"]["waiting"]["reason"], "CrashLoopBackOff");
            assert_eq!(state["lastState"]["terminated"]["exitCode"], 1);
            assert_eq!(world.phase(), "Running");
            wait = world.wait();
            assert!(world.after(Happening::Later).contains(&Action::Start(0)));
        }
        waits.push(wait);
        world.after(Happening::Started(0));
    }
    assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(world.status()["containerStatuses"][0]["restartCount"], 8);
    // After a good run it is as at the beginning.
    world.now += 600;
    assert!(world.exit(0, 1).contains(&Action::Start(0)));
}

#[test]
fn says_why_it_waits() {
    let mut world = one(&json!({}));
    world.begin(0);
    world.exit(0, 1);
    world.after(Happening::Started(0));
    let events = world.life.handle(Happening::Exited(0, Exit { code: 1, signal: 0 }), at(0));
    let message = "Back-off restarting failed container c in pod p_shop(u)".to_owned();
    assert_eq!(events, [Action::Event { warning: true, reason: "BackOff", message }]);
    let message = world.status()["containerStatuses"][0]["state"]["waiting"]["message"].clone();
    assert_eq!(message, "back-off 10s restarting failed container=c pod=p_shop(u)");
}

#[test]
fn cannot_start() {
    let mut world = one(&json!({}));
    world.after(Happening::Later);
    let actions = world.after(Happening::NotStarted(0, "no such file".to_owned()));
    assert!(actions.contains(&Action::Start(0)), "it is tried again");
    let last = &world.status()["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!((&last["reason"], &last["message"]), (&json!("StartError"), &json!("no such file")));
}

#[test]
fn init_containers_come_first() {
    let init = |name: &str| json!({ "name": name });
    let mut world =
        world(&json!({ "initContainers": [init("a"), init("b")], "containers": [container(&json!({}))] }));
    world.begin(0);
    let waiting = &world.status()["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
    assert_eq!((world.phase().as_str(), waiting), ("Pending", &json!("PodInitializing")));
    assert_eq!(world.exit(0, 1), [Action::Start(0)], "until it succeeds");
    world.after(Happening::Started(0));
    assert_eq!(world.exit(0, 0), [Action::Start(1)]);
    world.after(Happening::Started(1));
    assert_eq!(world.exit(1, 0), [Action::Start(2)]);
    world.after(Happening::Started(2));
    assert_eq!((world.phase().as_str(), world.is_ready()), ("Running", true));
    // One that never succeeds, in a pod that does not try twice.
    let mut world = self::world(
        &json!({ "restartPolicy": "Never", "initContainers": [init("a")], "containers": [container(&json!({}))] }),
    );
    world.begin(0);
    assert_eq!(world.exit(0, 1), []);
    assert_eq!((world.phase().as_str(), world.life.is_over()), ("Failed", true));
}

#[test]
fn sidecars_stay() {
    let mut world = world(&json!({ "initContainers": [{ "name": "s", "restartPolicy": "Always" }],
        "containers": [container(&json!({}))] }));
    assert_eq!(world.after(Happening::Later), [Action::Start(0)]);
    assert_eq!(world.after(Happening::Started(0)), [Action::Start(1)]);
    world.after(Happening::Started(1));
    assert_eq!(world.exit(0, 0), [Action::Start(0)]);
}

#[test]
fn readiness() {
    let probe =
        json!({ "initialDelaySeconds": 2, "periodSeconds": 5, "failureThreshold": 2, "successThreshold": 2 });
    let mut world = one(&json!({ "readinessProbe": probe }));
    world.begin(0);
    assert!(!world.is_ready());
    let ask = Action::Probe(0, ProbeKind::Readiness);
    let mut seen = Vec::new();
    let good = [true, true, false, true, false, false, true, true];
    for passes in good {
        let waited = world.wait();
        assert_eq!(world.after(Happening::Later), std::slice::from_ref(&ask));
        assert_eq!(world.life.due(), None, "one at a time");
        world.after(Happening::Probed(0, ProbeKind::Readiness, passes.then_some(()).ok_or("no".to_owned())));
        seen.push((waited, world.is_ready()));
    }
    let ready = [false, true, true, true, true, false, false, true];
    assert_eq!(seen.iter().map(|(_, ready)| *ready).collect::<Vec<_>>(), ready);
    assert_eq!(seen.iter().map(|(waited, _)| *waited).collect::<Vec<_>>(), [2, 5, 5, 5, 5, 5, 5, 5]);
}

#[test]
fn liveness() {
    let probe = json!({ "failureThreshold": 2, "terminationGracePeriodSeconds": 3 });
    let mut world = one(&json!({ "livenessProbe": probe }));
    world.begin(0);
    assert!(world.is_ready());
    let fail = || Happening::Probed(0, ProbeKind::Liveness, Err("no".to_owned()));
    assert_eq!(world.after(fail()), []);
    world.wait();
    assert_eq!(world.after(Happening::Later), [Action::Probe(0, ProbeKind::Liveness)]);
    assert_eq!(world.after(fail()), [Action::Terminate(0)]);
    assert_eq!(world.after(fail()), [], "it is on its way");
    assert_eq!(world.wait(), 3);
    assert_eq!(world.after(Happening::Later), [Action::Kill(0)]);
    assert_eq!(world.life.due(), None);
    assert!(world.exit(0, 137).contains(&Action::Start(0)));
    world.after(Happening::Started(0));
    assert_eq!(world.after(fail()), [], "it begins anew");
}

#[test]
fn startup_comes_before_the_others() {
    let probe = json!({ "periodSeconds": 1, "failureThreshold": 2 });
    let mut world = one(&json!({ "startupProbe": probe, "livenessProbe": {}, "readinessProbe": {} }));
    world.after(Happening::Later);
    assert_eq!(world.after(Happening::Started(0)), [Action::Probe(0, ProbeKind::Startup)]);
    assert!(!world.is_ready());
    let passed = |kind| Happening::Probed(0, kind, Ok(()));
    assert_eq!(
        world.after(passed(ProbeKind::Startup)),
        [Action::Probe(0, ProbeKind::Liveness), Action::Probe(0, ProbeKind::Readiness)]
    );
    world.after(passed(ProbeKind::Readiness));
    assert!(world.is_ready());
    let mut world = one(&json!({ "startupProbe": probe }));
    world.begin(0);
    let failed = || Happening::Probed(0, ProbeKind::Startup, Err("no".to_owned()));
    world.after(failed());
    assert_eq!(world.after(failed()), [Action::Terminate(0)]);
}

#[test]
fn ends() {
    let mut world = world(&json!({ "terminationGracePeriodSeconds": 7,
        "containers": [container(&json!({ "readinessProbe": {}, "livenessProbe": {} })), { "name": "d" }] }));
    world.begin(0);
    world.after(Happening::Started(1));
    world.after(Happening::Probed(0, ProbeKind::Readiness, Ok(())));
    world.after(Happening::Probed(0, ProbeKind::Liveness, Ok(())));
    assert_eq!(world.after(Happening::Deleted(None)), [Action::Terminate(0), Action::Terminate(1)]);
    assert!(world.is_ready(), "it still serves");
    assert_eq!(world.exit(1, 0), [], "it does not come back");
    assert!(!world.life.is_over());
    world.now = 10;
    assert_eq!(world.after(Happening::Later)[0], Action::Kill(0));
    world.exit(0, 137);
    assert!(world.life.is_over());
    assert_eq!((world.phase().as_str(), world.is_ready()), ("Failed", false));
    // A second word shortens the time, and never lengthens it.
    for (second, kill) in [(1, true), (100, false)] {
        let mut world = one(&json!({}));
        world.begin(0);
        world.after(Happening::Deleted(Some(Duration::from_secs(5))));
        world.after(Happening::Deleted(Some(Duration::from_secs(second))));
        world.now = 2;
        assert_eq!(world.after(Happening::Later).contains(&Action::Kill(0)), kill);
        world.now = 5;
        assert_eq!(world.after(Happening::Later).contains(&Action::Kill(0)), !kill);
    }
    // What waits for its next start is over at once.
    let mut world = one(&json!({}));
    world.begin(0);
    world.exit(0, 1);
    world.after(Happening::Started(0));
    world.exit(0, 1);
    assert_eq!(world.after(Happening::Deleted(None)), []);
    assert!(world.life.is_over());
}

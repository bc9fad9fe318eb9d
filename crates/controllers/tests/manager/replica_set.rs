//! ReplicaSets and ReplicationControllers.

use portolan_controllers::manager::Timestamp;
use serde_json::{Value, json};

use crate::world::{START, World, lines, text, time};

fn set(replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": { "name": "web", "uid": "web-uid" },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" }, "annotations": { "a": "1" } },
                "spec": { "containers": [{ "name": "c", "image": "nginx", "x-unknown": { "kept": true } }] },
            },
        },
    })
}

fn owner(uid: &str) -> Value {
    json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": uid, "controller": true,
        "blockOwnerDeletion": true }])
}

/// A running pod of the set.
fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": "web" }, "ownerReferences": owner("web-uid") },
        "spec": { "nodeName": "a" },
        "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True",
            "lastTransitionTime": time(-60) }] },
    })
}

fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let mut place = &mut object;
    for key in pointer.split('/') {
        place = match key.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => &mut place[key],
        };
    }
    *place = value;
    object
}

#[test]
fn creates_what_the_template_says() {
    let mut world = World::new();
    world.put(set(2));
    let step = world.replica_set("web");
    assert_eq!(
        lines(&step),
        [
            "status ReplicaSet web {\"observedGeneration\":1}",
            "create Pod web-cbbbb",
            "ReplicaSet web SuccessfulCreate: Created pod: web-cbbbb",
            "create Pod web-dbbbb",
            "ReplicaSet web SuccessfulCreate: Created pod: web-dbbbb",
        ]
    );
    world.apply(&step);
    let pod = world.get("Pod", "web-cbbbb");
    assert_eq!(
        pod["spec"],
        json!({ "containers": [{ "name": "c", "image": "nginx", "x-unknown": { "kept": true } }] })
    );
    assert_eq!(pod["metadata"]["labels"], json!({ "app": "web" }));
    assert_eq!(pod["metadata"]["annotations"], json!({ "a": "1" }));
    assert_eq!(text(pod, "/metadata/generateName"), "web-");
    assert_eq!(pod["metadata"]["ownerReferences"], owner("web-uid"));
    let step = world.replica_set("web");
    assert_eq!(lines(&step), ["status ReplicaSet web {\"fullyLabeledReplicas\":2,\"replicas\":2}"]);
    world.apply(&step);
    assert_eq!(lines(&world.replica_set("web")), [""; 0]);
}

#[test]
fn claims_pods() {
    let orphan = with(pod("p"), "metadata/ownerReferences", json!([]));
    let other = "{\"metadata\":{\"ownerReferences\":";
    // what, replicas, set, pod, wanted, without statuses
    let table: Vec<(&str, Value, Value, Vec<String>)> = vec![
        ("its own", set(1), pod("p"), vec![]),
        (
            "an orphan is adopted",
            set(1),
            orphan.clone(),
            vec![format!("update Pod p {other}{}}}}}", owner("web-uid"))],
        ),
        (
            "an owner that does not manage it stays",
            set(1),
            with(
                pod("p"),
                "metadata/ownerReferences",
                json!([{ "apiVersion": "v1", "kind": "X", "name": "x",
                "uid": "x" }]),
            ),
            vec![format!(
                "update Pod p {other}[{},{}]}}}}",
                json!({ "apiVersion": "v1", "kind": "X", "name": "x", "uid": "x" }),
                owner("web-uid")[0]
            )],
        ),
        (
            "one that has other labels is released",
            set(0),
            with(pod("p"), "metadata/labels/app", json!("db")),
            vec![format!("update Pod p {other}[]}}}}")],
        ),
        (
            "another's is left alone",
            set(0),
            with(pod("p"), "metadata/ownerReferences", owner("other")),
            vec![],
        ),
        (
            "an orphan on its way out is left alone",
            set(0),
            with(orphan.clone(), "metadata/deletionTimestamp", json!(time(0))),
            vec![],
        ),
        (
            "a finished orphan is left alone",
            set(0),
            with(orphan.clone(), "status/phase", json!("Failed")),
            vec![],
        ),
        (
            "an orphan elsewhere is left alone",
            set(0),
            with(orphan.clone(), "metadata/namespace", json!("other")),
            vec![],
        ),
        (
            "a deleted set adopts nothing and creates nothing",
            with(set(2), "metadata/deletionTimestamp", json!(time(0))),
            orphan,
            vec![],
        ),
    ];
    for (name, set, pod, expected) in table {
        let mut world = World::new();
        world.put(set);
        world.put(pod);
        let mut lines = lines(&world.replica_set("web"));
        lines.retain(|line| !line.starts_with("status "));
        assert_eq!(lines, expected, "{name}");
    }
}

/// The order of `ActivePodsWithRanks`: the first goes.
#[test]
fn gives_up_what_is_missed_least() {
    let ready = "status/conditions/0/lastTransitionTime";
    let since = |pod: Value, seconds: i64| with(pod, ready, json!(time(seconds)));
    let cost = |pod: Value, cost: &str| {
        with(pod, "metadata/annotations", json!({ "controller.kubernetes.io/pod-deletion-cost": cost }))
    };
    let restarts =
        |pod: Value, count: i64| with(pod, "status/containerStatuses", json!([{ "restartCount": count }]));
    let created = |pod: Value, seconds: i64| with(pod, "metadata/creationTimestamp", json!(time(seconds)));
    let uid = |pod: Value, uid: &str| with(pod, "metadata/uid", json!(uid));
    let unready = |pod: Value| with(pod, "status/conditions/0/status", json!("False"));
    let on = |pod: Value, node: &str| with(pod, "spec/nodeName", json!(node));
    // why, the one that goes, the one that stays
    let table = [
        ("without a node", on(pod("x"), ""), cost(pod("y"), "-9")),
        ("pending before running", with(pod("x"), "status/phase", json!("Pending")), unready(pod("y"))),
        (
            "pending before unknown",
            with(pod("x"), "status/phase", json!("Pending")),
            with(pod("y"), "status/phase", json!("Unknown")),
        ),
        ("not ready", unready(pod("x")), cost(pod("y"), "-9")),
        ("cheaper", cost(pod("x"), "-1"), since(pod("y"), -1)),
        ("a cost that is no number is none", pod("x"), cost(restarts(pod("y"), 0), "1")),
        ("ready for less time", since(pod("x"), -60), restarts(since(pod("y"), -6_000), 9)),
        ("about as long: by chance", uid(since(pod("x"), -66), "1"), uid(since(pod("y"), -65), "2")),
        ("more restarts", restarts(pod("x"), 2), created(restarts(pod("y"), 1), -1)),
        ("younger", created(pod("x"), -10), created(pod("y"), -1_000)),
        ("about as old: by chance", uid(created(pod("x"), -66), "1"), uid(created(pod("y"), -65), "2")),
    ];
    for (why, goes, stays) in table {
        for order in [[&goes, &stays], [&stays, &goes]] {
            let mut world = World::new();
            world.put(set(1));
            for pod in order {
                world.put(pod.clone());
            }
            let lines = lines(&world.replica_set("web"));
            assert!(lines.contains(&"delete Pod x".to_owned()), "{why}: {lines:?}");
            assert!(!lines.contains(&"delete Pod y".to_owned()), "{why}: {lines:?}");
        }
    }
    let mut world = World::new();
    world.put(set(2));
    for (name, node) in [("x", "a"), ("y", "b"), ("z", "b")] {
        world.put(uid(on(pod(name), node), name));
    }
    let lines = lines(&world.replica_set("web"));
    assert!(lines.contains(&"delete Pod y".to_owned()), "not alone on its node: {lines:?}");
}

/// Times that differ, and times that do not, in one crowd: whoever compares them two by two gets a
/// circle, which sorting reports by a panic.
#[test]
fn gives_up_a_crowd() {
    let mut world = World::new();
    world.put(set(0));
    let mut state: u64 = 1;
    for number in 0..300 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let seconds = i64::try_from(state >> 59).unwrap_or_default();
        let ready = with(
            pod(&format!("p{number}")),
            "status/conditions/0/lastTransitionTime",
            json!(time(-seconds - 16)),
        );
        let created = with(ready, "metadata/creationTimestamp", json!(time(-16 - seconds / 2)));
        world.put(with(created, "metadata/uid", json!(format!("{:x}", state >> 20))));
    }
    let deleted = lines(&world.replica_set("web")).iter().filter(|line| line.starts_with("delete")).count();
    assert_eq!(deleted, 300);
}

#[test]
fn counts() {
    // what, fields, status
    let table = [
        (
            "ready",
            pod("p"),
            json!({ "replicas": 1, "fullyLabeledReplicas": 1, "readyReplicas": 1, "availableReplicas": 1 }),
        ),
        (
            "not ready",
            with(pod("p"), "status/conditions/0/status", json!("False")),
            json!({ "replicas": 1, "fullyLabeledReplicas": 1 }),
        ),
        (
            "not for long",
            with(pod("p"), "status/conditions/0/lastTransitionTime", json!(time(-9))),
            json!({ "replicas": 1, "fullyLabeledReplicas": 1, "readyReplicas": 1 }),
        ),
        ("on its way out", with(pod("p"), "metadata/deletionTimestamp", json!(time(0))), json!({})),
        ("at its end", with(pod("p"), "status/phase", json!("Succeeded")), json!({})),
    ];
    for (name, pod, mut expected) in table {
        let mut world = World::new();
        world.put(with(set(1), "spec/minReadySeconds", json!(10)));
        world.put(pod);
        let step = world.replica_set("web");
        expected["observedGeneration"] = json!(1);
        world.apply(&step);
        assert_eq!(world.get("ReplicaSet", "web")["status"], expected, "{name}");
        let again = (name == "not for long").then(|| Timestamp::from_unix(START + 1));
        assert_eq!(step.again, again, "{name}");
    }
}

#[test]
fn wants_no_more_than_a_burst_at_once() {
    let mut world = World::new();
    world.put(set(i64::from(i32::MAX)));
    let created = lines(&world.replica_set("web")).iter().filter(|line| line.starts_with("create")).count();
    assert_eq!(created, 500);
}

#[test]
fn serves_replication_controllers() {
    let mut world = World::new();
    world.put(json!({
        "apiVersion": "v1", "kind": "ReplicationController", "metadata": { "name": "web", "uid": "rc" },
        "spec": { "replicas": 1, "selector": { "app": "web" },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": {} } },
    }));
    let step = world.replication_controller("web");
    world.apply(&step);
    assert_eq!(
        world.get("Pod", "web-cbbbb")["metadata"]["ownerReferences"],
        json!([{ "apiVersion": "v1", "kind": "ReplicationController", "name": "web", "uid": "rc",
            "controller": true, "blockOwnerDeletion": true }])
    );
    world.change("ReplicationController", "web", &json!({ "spec": { "replicas": 0 } }));
    let deleted = "ReplicationController web SuccessfulDelete: Deleted pod: web-cbbbb";
    assert!(lines(&world.replication_controller("web")).contains(&deleted.to_owned()));
}

#[test]
fn names_what_it_cannot_read() {
    use portolan_controllers::manager::ReplicaSet;
    let broken = with(set(1), "spec/replicas", json!("many"));
    let error = ReplicaSet::read(&with(broken, "metadata/namespace", json!("shop"))).expect_err("no number");
    assert_eq!(
        error.to_string(),
        "ReplicaSet shop/web: spec.replicas: invalid type: string \"many\", expected i64; \
         the controllers leave it alone until it is corrected"
    );
    let nulls = with(set(1), "metadata/annotations", Value::Null);
    assert!(ReplicaSet::read(&nulls).is_ok());
}

//! StatefulSets.

use serde_json::{Value, json};

use crate::world::{World, number, text};

const IMAGE: &str = "/spec/containers/0/image";

fn template(image: &str) -> Value {
    json!({ "metadata": { "labels": { "app": "db" } }, "spec": { "containers": [{ "name": "c", "image": image }] } })
}

fn set(replicas: i64, more: &Value) -> Value {
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "db", "uid": "s" },
        "spec": { "replicas": replicas, "serviceName": "dbs", "selector": { "matchLabels": { "app": "db" } },
            "template": template("one"), "revisionHistoryLimit": 10 },
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        set["spec"][key] = value.clone();
    }
    set
}

/// A world with a set all of whose pods are ready.
fn running(set: Value) -> World {
    let mut world = World::new();
    world.put(set);
    settle(&mut world);
    world
}

/// Until nothing more happens, with all pods ready and those that were deleted gone.
fn settle(world: &mut World) {
    for _ in 0..30 {
        world.settle();
        world.make_all_ready();
        world.bury();
    }
    world.settle();
}

#[test]
fn names_its_pods() {
    let mut world = running(set(1, &json!({})));
    let pod = world.get("Pod", "db-0");
    assert_eq!(text(pod, "/spec/hostname"), "db-0");
    assert_eq!(text(pod, "/spec/subdomain"), "dbs");
    let [revision] = &world.names("ControllerRevision")[..] else { panic!() };
    assert_eq!(
        pod["metadata"]["labels"],
        json!({ "app": "db", "apps.kubernetes.io/pod-index": "0", "controller-revision-hash": revision,
            "statefulset.kubernetes.io/pod-name": "db-0" })
    );
    assert_eq!(
        world.get("StatefulSet", "db")["status"],
        json!({ "replicas": 1, "readyReplicas": 1, "availableReplicas": 1, "currentReplicas": 1,
            "updatedReplicas": 1, "observedGeneration": 1, "currentRevision": revision, "updateRevision": revision })
    );
    world.change("StatefulSet", "db", &json!({ "spec": { "ordinals": { "start": 5 } } }));
    settle(&mut world);
    assert_eq!(world.names("Pod"), ["db-5"]);
}

#[test]
fn one_after_another() {
    let mut world = World::new();
    world.put(set(3, &json!({})));
    let mut seen = Vec::new();
    for _ in 0..4 {
        world.settle();
        seen.push(world.names("Pod").len());
        world.make_all_ready();
    }
    assert_eq!(seen, [1, 2, 3, 3]);
    world.change("StatefulSet", "db", &json!({ "spec": { "replicas": 0 } }));
    world.settle();
    assert_eq!(world.pods(IMAGE), ["db-0 one", "db-1 one", "db-2 one (going)"]);
    world.bury();
    world.settle();
    assert_eq!(world.pods(IMAGE), ["db-0 one", "db-1 one (going)"]);
}

#[test]
fn all_at_once() {
    let mut world = World::new();
    world.put(set(3, &json!({ "podManagementPolicy": "Parallel" })));
    world.settle();
    assert_eq!(world.names("Pod").len(), 3);
    world.change("StatefulSet", "db", &json!({ "spec": { "replicas": 0 } }));
    world.settle();
    world.bury();
    assert_eq!(world.names("Pod").len(), 0);
}

#[test]
fn waits_for_unhealthy_pods() {
    let mut world = running(set(3, &json!({})));
    let unready = json!({ "status": { "conditions": [] } });
    world.change("Pod", "db-0", &unready);
    world.change("StatefulSet", "db", &json!({ "spec": { "replicas": 1 } }));
    world.settle();
    assert_eq!(world.names("Pod").len(), 3, "db-0 is needed");
    world.make_ready("db-0");
    world.change("Pod", "db-1", &unready);
    world.settle();
    assert_eq!(world.pods(IMAGE)[2], "db-2 one (going)", "it is available");
    world.bury();
    world.settle();
    assert_eq!(world.pods(IMAGE)[1], "db-1 one (going)", "no other is unhealthy before it");
}

/// Update strategy, and images by pod when all has come to rest.
#[test]
fn updates() {
    let rolling =
        |more: Value| json!({ "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": more } });
    let table: [(&str, Value, &[&str]); 4] = [
        ("all", rolling(json!({})), &["db-0 two", "db-1 two", "db-2 two"]),
        ("from a number on", rolling(json!({ "partition": 2 })), &["db-0 one", "db-1 one", "db-2 two"]),
        ("none", rolling(json!({ "partition": 9 })), &["db-0 one", "db-1 one", "db-2 one"]),
        (
            "by hand",
            json!({ "updateStrategy": { "type": "OnDelete" } }),
            &["db-0 one", "db-1 one", "db-2 one"],
        ),
    ];
    for (name, strategy, expected) in table {
        let mut world = running(set(3, &strategy));
        world.change("StatefulSet", "db", &json!({ "spec": { "template": template("two") } }));
        settle(&mut world);
        assert_eq!(world.pods(IMAGE), expected, "{name}");
        let status = &world.get("StatefulSet", "db")["status"];
        let is_done = status["currentRevision"] == status["updateRevision"];
        assert_eq!(is_done, name == "all", "{name}");
        // A pod that is deleted comes back as what its number says.
        world.delete("Pod", "db-0");
        settle(&mut world);
        let back = if name == "by hand" { "db-0 two" } else { expected[0] };
        assert_eq!(world.pods(IMAGE)[0], back, "{name}");
    }
}

#[test]
fn updates_the_last_first_and_waits_for_it() {
    let mut world = running(set(3, &json!({})));
    world.change("StatefulSet", "db", &json!({ "spec": { "template": template("broken") } }));
    for _ in 0..5 {
        world.settle();
        world.bury();
    }
    assert_eq!(world.pods(IMAGE), ["db-0 one", "db-1 one", "db-2 broken"]);
    assert_eq!(number(world.get("StatefulSet", "db"), "/status/currentReplicas"), 2);
    // Back again, as `kubectl rollout undo` does it. As with the real one, the broken pod is
    // waited for until somebody deletes it.
    world.change("StatefulSet", "db", &json!({ "spec": { "template": template("one") } }));
    world.settle();
    assert_eq!(world.pods(IMAGE), ["db-0 one", "db-1 one", "db-2 broken"]);
    world.delete("Pod", "db-2");
    settle(&mut world);
    assert_eq!(world.pods(IMAGE), ["db-0 one", "db-1 one", "db-2 one"]);
    let revisions = world.of_kind("ControllerRevision");
    let mut numbers: Vec<i64> = revisions.iter().map(|revision| number(revision, "/revision")).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3], "the first one is the newest now");
    let restore = &revisions[0]["data"]["spec"]["template"];
    assert_eq!(restore["$patch"], "replace");
}

#[test]
fn brings_back_what_has_failed() {
    let mut world = running(set(2, &json!({})));
    world.change("Pod", "db-1", &json!({ "status": { "phase": "Failed" } }));
    settle(&mut world);
    assert_eq!(text(world.get("Pod", "db-1"), "/status/phase"), "Running");
}

#[test]
fn leaves_others_alone() {
    let mut world = World::new();
    for name in ["db-x", "db-01", "dbs-0", "db"] {
        world.put(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": { "app": "db" } } }));
    }
    world.put(set(0, &json!({})));
    let log = world.settle();
    assert!(log.iter().all(|line| line.starts_with("create ControllerRevision")), "{log:?}");
}

#[test]
fn keeps_so_much_history() {
    let mut world = running(set(1, &json!({ "revisionHistoryLimit": 2 })));
    for image in ["two", "three", "four", "five"] {
        world.change("StatefulSet", "db", &json!({ "spec": { "template": template(image) } }));
        settle(&mut world);
    }
    assert_eq!(world.names("ControllerRevision").len(), 3);
}

//! DaemonSets.

use serde_json::{Value, json};

use crate::world::{World, number, text};

fn node(name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": { "disk": name } }, "spec": spec })
}

fn template(image: &str) -> Value {
    json!({ "metadata": { "labels": { "app": "ds" } }, "spec": { "containers": [{ "name": "c", "image": image }] } })
}

fn set() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "ds", "uid": "s" },
        "spec": { "selector": { "matchLabels": { "app": "ds" } }, "template": template("one"),
            "revisionHistoryLimit": 10 },
    })
}

fn world(nodes: &[&str]) -> World {
    let mut world = World::new();
    for name in nodes {
        world.put(node(name, &json!({})));
    }
    world.put(set());
    settle(&mut world);
    world
}

fn settle(world: &mut World) {
    for _ in 0..30 {
        world.settle();
        let step = world.schedule();
        world.apply(&step);
        world.make_all_ready();
        world.bury();
    }
    world.settle();
}

/// Nodes that have a pod, and its image.
fn images(world: &World) -> Vec<String> {
    let pods = world.of_kind("Pod").into_iter();
    let mut images: Vec<String> = pods
        .map(|pod| format!("{} {}", text(pod, "/spec/nodeName"), text(pod, "/spec/containers/0/image")))
        .collect();
    images.sort();
    images
}

#[test]
fn one_on_each_node() {
    let mut world = world(&["a", "b"]);
    assert_eq!(images(&world), ["a one", "b one"]);
    let mut status = world.get("DaemonSet", "ds")["status"].clone();
    let expected = json!({ "currentNumberScheduled": 2, "desiredNumberScheduled": 2, "numberAvailable": 2,
        "numberReady": 2, "observedGeneration": 1, "updatedNumberScheduled": 2 });
    status.as_object_mut().expect("a map").retain(|_, value| value != &json!(0));
    assert_eq!(status, expected);
    let pod = world.of_kind("Pod")[0];
    let [revision] = &world.names("ControllerRevision")[..] else { panic!() };
    assert_eq!(format!("ds-{}", text(pod, "/metadata/labels/controller-revision-hash")), *revision);
    assert_eq!(text(pod, "/metadata/generateName"), "ds-");
    assert_eq!(pod["spec"]["tolerations"].as_array().map(Vec::len), Some(6));
    world.put(node("c", &json!({})));
    settle(&mut world);
    assert_eq!(images(&world), ["a one", "b one", "c one"]);
    world.delete("Node", "c");
    world.objects.retain(|key, _| (key.0.as_str(), key.2.as_str()) != ("Node", "c"));
    settle(&mut world);
    assert_eq!(images(&world), ["a one", "b one"]);
}

/// Fields of the pod's spec and of node b's, and where pods are.
#[test]
fn only_where_it_may() {
    let taint = |effect: &str| json!({ "taints": [{ "key": "k", "value": "v", "effect": effect }] });
    let affinity = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{ "matchExpressions": [{ "key": "disk", "operator": "In", "values": ["a"] }] }] } } });
    let unreachable = json!({ "taints": [
        { "key": "node.kubernetes.io/unreachable", "effect": "NoExecute" }] });
    let table: [(&str, Value, Value, &[&str]); 8] = [
        ("anywhere", json!({}), json!({}), &["a one", "b one"]),
        ("by label", json!({ "nodeSelector": { "disk": "a" } }), json!({}), &["a one"]),
        ("by affinity", json!({ "affinity": affinity }), json!({}), &["a one"]),
        ("not where it is tainted", json!({}), taint("NoSchedule"), &["a one"]),
        ("nor where it may not run", json!({}), taint("NoExecute"), &["a one"]),
        ("but where it would rather not", json!({}), taint("PreferNoSchedule"), &["a one", "b one"]),
        ("cordoned nodes are no others", json!({}), json!({ "unschedulable": true }), &["a one", "b one"]),
        ("nor are silent ones", json!({}), unreachable, &["a one", "b one"]),
    ];
    for (name, pod, other, expected) in table {
        let mut world = World::new();
        world.put(node("a", &json!({})));
        world.put(node("b", &other));
        let mut set = set();
        for (key, value) in pod.as_object().into_iter().flatten() {
            set["spec"]["template"]["spec"][key] = value.clone();
        }
        world.put(set);
        settle(&mut world);
        assert_eq!(images(&world), expected, "{name}");
    }
}

#[test]
fn leaves_a_node_that_is_tainted_later() {
    let mut world = world(&["a", "b"]);
    let taint = |effect: &str| json!({ "spec": { "taints": [{ "key": "k", "effect": effect }] } });
    world.change("Node", "b", &taint("NoSchedule"));
    settle(&mut world);
    assert_eq!(images(&world), ["a one", "b one"], "what is there stays");
    assert_eq!(number(world.get("DaemonSet", "ds"), "/status/numberMisscheduled"), 1);
    world.change("Node", "b", &taint("NoExecute"));
    settle(&mut world);
    assert_eq!(images(&world), ["a one"]);
}

#[test]
fn replaces_what_has_failed() {
    let mut world = world(&["a"]);
    let name = world.names("Pod")[0].clone();
    world.change("Pod", &name, &json!({ "status": { "phase": "Failed" } }));
    let log = world.settle();
    let message = format!("Found failed daemon pod shop/{name} on node a, will try to kill it");
    assert!(log.contains(&format!("DaemonSet ds FailedDaemonPod: {message}")), "{log:?}");
    settle(&mut world);
    assert_eq!(images(&world), ["a one"]);
}

/// How many may be missing, and how many pods are on their way out at each standstill.
#[test]
fn updates_so_many_at_once() {
    let table = [
        ("one", json!({}), vec![1, 1, 1, 1]),
        ("two", json!({ "rollingUpdate": { "maxUnavailable": 2 } }), vec![2, 2]),
        ("half", json!({ "rollingUpdate": { "maxUnavailable": "50%" } }), vec![2, 2]),
        ("by hand", json!({ "type": "OnDelete" }), vec![]),
    ];
    for (name, strategy, expected) in table {
        let mut world = world(&["a", "b", "c", "d"]);
        world.change(
            "DaemonSet",
            "ds",
            &json!({ "spec": { "template": template("two"), "updateStrategy": strategy } }),
        );
        let mut seen = Vec::new();
        for _ in 0..10 {
            world.settle();
            let going = world.pods("/x").iter().filter(|pod| pod.ends_with("(going)")).count();
            if going > 0 {
                seen.push(going);
            }
            world.bury();
            world.settle();
            let step = world.schedule();
            world.apply(&step);
            world.make_all_ready();
        }
        assert_eq!(seen, expected, "{name}");
        let image = if name == "by hand" { "one" } else { "two" };
        assert!(images(&world).iter().all(|pod| pod.ends_with(image)), "{name}");
    }
}

#[test]
fn an_update_that_does_not_work_stops() {
    let mut world = world(&["a", "b", "c"]);
    world.change("DaemonSet", "ds", &json!({ "spec": { "template": template("broken") } }));
    for _ in 0..5 {
        world.settle();
        world.bury();
        let step = world.schedule();
        world.apply(&step);
    }
    let broken = images(&world).iter().filter(|pod| pod.ends_with("broken")).count();
    assert_eq!(broken, 1);
    // The broken one does not hold up the way back.
    world.change("DaemonSet", "ds", &json!({ "spec": { "template": template("one") } }));
    settle(&mut world);
    assert_eq!(images(&world), ["a one", "b one", "c one"]);
}

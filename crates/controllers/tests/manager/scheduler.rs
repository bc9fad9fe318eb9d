//! The scheduler.

use serde_json::{Value, json};

use crate::world::{World, lines, text};

fn node(name: &str, more: &Value) -> Value {
    let mut node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": { "name": name } } });
    for (key, value) in more.as_object().into_iter().flatten() {
        node[key] = value.clone();
    }
    node
}

fn pod(name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": spec })
}

fn on_port(port: u16, more: &Value) -> Value {
    let mut port = json!({ "containerPort": 80, "hostPort": port });
    for (key, value) in more.as_object().into_iter().flatten() {
        port[key] = value.clone();
    }
    json!({ "containers": [{ "name": "c", "ports": [port] }] })
}

#[test]
fn spreads_what_belongs_together() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.put(node(name, &json!({})));
    }
    for owner in ["x", "y"] {
        for number in 0..5 {
            let mut pod = pod(&format!("{owner}-{number}"), &json!({}));
            pod["metadata"]["ownerReferences"] =
                json!([{ "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": true }]);
            world.put(pod);
        }
    }
    let step = world.schedule();
    world.apply(&step);
    let mut counts = std::collections::BTreeMap::<(String, String), usize>::new();
    for pod in world.of_kind("Pod") {
        let owner = text(pod, "/metadata/ownerReferences/0/uid").to_owned();
        *counts.entry((text(pod, "/spec/nodeName").to_owned(), owner)).or_default() += 1;
    }
    assert!(counts.values().all(|count| (1..=2).contains(count)), "{counts:?}");
    let of_node = |node: &str| counts.iter().filter(|(key, _)| key.0 == node).map(|(_, count)| count).sum();
    let mut all: Vec<usize> = ["a", "b", "c"].map(of_node).to_vec();
    all.sort_unstable();
    assert_eq!(all, [3, 3, 4]);
    assert_eq!(lines(&world.schedule()), [""; 0]);
}

#[test]
fn spreads_siblings_though_one_node_is_fuller() {
    let mut world = World::new();
    for name in ["a", "b"] {
        world.put(node(name, &json!({})));
    }
    for number in 0..3 {
        world.put(pod(&format!("there-{number}"), &json!({ "nodeName": "a" })));
    }
    for name in ["x", "y"] {
        let mut pod = pod(name, &json!({}));
        pod["metadata"]["ownerReferences"] =
            json!([{ "kind": "ReplicaSet", "name": "s", "uid": "s", "controller": true }]);
        world.put(pod);
    }
    let step = world.schedule();
    world.apply(&step);
    let nodes = ["x", "y"].map(|name| text(world.get("Pod", name), "/spec/nodeName").to_owned());
    assert_eq!(nodes, ["b", "a"]);
}

/// What, the nodes, the pod's spec, and what is said of it. A pod with port 8080 is on node a.
type Refusal = (&'static str, Vec<Value>, Value, String);

fn refusals() -> Vec<Refusal> {
    let preemption =
        |helpless: &str, nodes: usize| format!("preemption: 0/{nodes} nodes are available: {helpless}");
    let none = "Preemption is not helpful for scheduling.";
    let victims = "No preemption victims found for incoming pod.";
    let taint = json!({ "spec": { "taints": [{ "key": "k", "value": "v", "effect": "NoSchedule" }] } });
    let cordoned = json!({ "spec": { "unschedulable": true } });
    let full = json!({ "status": { "allocatable": { "pods": "1" } } });
    let elsewhere = json!({ "nodeSelector": { "name": "z" } });
    let affinity = json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{}, { "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["z"] }] }] } } } });
    let nothing = json!({});
    vec![
        ("no node", vec![], nothing.clone(), "no nodes available to schedule pods".to_owned()),
        (
            "cordoned",
            vec![node("a", &cordoned)],
            nothing.clone(),
            format!(
                "0/1 nodes are available: 1 node(s) were unschedulable. {}",
                preemption(&format!("1 {none}"), 1)
            ),
        ),
        (
            "tainted",
            vec![node("a", &taint)],
            nothing.clone(),
            format!(
                "0/1 nodes are available: 1 node(s) had untolerated taint(s). {}",
                preemption(&format!("1 {none}"), 1)
            ),
        ),
        (
            "label",
            vec![node("a", &nothing), node("b", &taint), node("c", &nothing)],
            elsewhere,
            format!(
                "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) didn't match Pod's node \
                 affinity/selector. {}",
                preemption(&format!("3 {none}"), 3)
            ),
        ),
        (
            "affinity",
            vec![node("a", &nothing)],
            affinity,
            format!(
                "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. {}",
                preemption(&format!("1 {none}"), 1)
            ),
        ),
        (
            "port and taint",
            vec![node("a", &nothing), node("b", &taint)],
            on_port(8080, &json!({})),
            format!(
                "0/2 nodes are available: 1 node(s) didn't have free ports for the requested pod ports, 1 node(s) had \
                 untolerated taint(s). {}",
                preemption(&format!("1 {victims}, 1 {none}"), 2)
            ),
        ),
        (
            "full",
            vec![node("a", &full)],
            nothing.clone(),
            format!("0/1 nodes are available: 1 Too many pods. {}", preemption(&format!("1 {victims}"), 1)),
        ),
    ]
}

#[test]
fn says_why_not() {
    let nothing = json!({});
    for (name, nodes, spec, expected) in refusals() {
        let mut world = World::new();
        for node in nodes {
            world.put(node);
        }
        let mut there = pod("there", &on_port(8080, &json!({})));
        there["spec"]["nodeName"] = json!("a");
        world.put(there);
        world.put(pod("new", &spec));
        let step = world.schedule();
        let lines = world.apply(&step);
        assert_eq!(lines[0], format!("Pod new FailedScheduling: {expected}"), "{name}");
        let condition = &world.get("Pod", "new")["status"]["conditions"][0];
        assert_eq!(
            (text(condition, "/reason"), text(condition, "/message")),
            ("Unschedulable", expected.as_str())
        );
        assert_eq!(world.schedule().writes, [], "{name}: it is said once");
        // With a node that fits, it goes there.
        world.put(node("z", &nothing));
        let step = world.schedule();
        assert_eq!(world.apply(&step)[0], "bind new z", "{name}");
    }
}

/// Two ports, and whether they can be on one node.
#[test]
fn ports_of_a_node() {
    let table = [
        ("the same", 80, json!({}), false),
        ("another", 81, json!({}), true),
        ("another protocol", 80, json!({ "protocol": "UDP" }), true),
        ("the same protocol", 80, json!({ "protocol": "TCP" }), false),
        ("one address is among all", 80, json!({ "hostIP": "10.0.0.1" }), false),
    ];
    for (name, port, more, fits) in table {
        let mut world = World::new();
        world.put(node("a", &json!({})));
        let mut there = pod("there", &on_port(80, &json!({})));
        there["spec"]["nodeName"] = json!("a");
        world.put(there);
        world.put(pod("new", &on_port(port, &more)));
        let step = world.schedule();
        assert_eq!(world.apply(&step)[0] == "bind new a", fits, "{name}");
    }
    let mut world = World::new();
    world.put(node("a", &json!({})));
    world.put(pod("x", &on_port(80, &json!({ "hostIP": "10.0.0.1" }))));
    world.put(pod("y", &on_port(80, &json!({ "hostIP": "10.0.0.2" }))));
    let step = world.schedule();
    let lines = world.apply(&step);
    assert!(lines.contains(&"bind x a".to_owned()) && lines.contains(&"bind y a".to_owned()), "{lines:?}");
    // In one go, too, the second of two sees the first.
    let mut world = World::new();
    world.put(node("a", &json!({})));
    world.put(pod("x", &on_port(80, &json!({}))));
    world.put(pod("y", &on_port(80, &json!({}))));
    let step = world.schedule();
    let bound = world.apply(&step).iter().filter(|line| line.starts_with("bind")).count();
    assert_eq!(bound, 1);
}

#[test]
fn prefers_nodes_without_a_dislike() {
    let mut world = World::new();
    world.put(node("a", &json!({ "spec": { "taints": [{ "key": "k", "effect": "PreferNoSchedule" }] } })));
    world.put(node("b", &json!({})));
    for number in 0..3 {
        world.put(pod(&format!("p{number}"), &json!({})));
    }
    let step = world.schedule();
    world.apply(&step);
    assert!(world.of_kind("Pod").iter().all(|pod| text(pod, "/spec/nodeName") == "b"));
}

#[test]
fn leaves_alone_what_is_not_its_own() {
    let mut world = World::new();
    world.put(node("a", &json!({})));
    world.put(pod("placed", &json!({ "nodeName": "gone" })));
    world.put(pod("others", &json!({ "schedulerName": "mine" })));
    world.put(pod("gated", &json!({ "schedulingGates": [{ "name": "g" }] })));
    let mut done = pod("done", &json!({}));
    done["status"] = json!({ "phase": "Failed" });
    world.put(done);
    world.put(pod("going", &json!({})));
    world.delete("Pod", "going");
    assert_eq!(lines(&world.schedule()), [""; 0]);
}

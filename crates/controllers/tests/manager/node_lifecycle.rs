//! Nodes that are silent, and what becomes of their pods.

use portolan_controllers::manager::{
    Lease, Node, Patience, Pod, Step, Timestamp, healthy_conditions, lost_pods, node_lifecycle,
};
use serde_json::{Value, json};

use crate::world::{START, World, lines, text, time};

/// A node that was ready at the beginning.
fn node() -> Value {
    let conditions = healthy_conditions(Timestamp::from_unix(START), None);
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "a" }, "status": { "conditions": conditions } })
}

fn pod(name: &str, tolerations: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "nodeName": "a", "tolerations": tolerations },
        "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } })
}

fn look(world: &mut World) -> Step {
    world.with(|world, circumstances| {
        let node: Node = world.read("Node").pop().expect("a node");
        let lease: Option<Lease> = world.read("Lease").pop();
        let pods: Vec<Pod> = world.read("Pod");
        node_lifecycle(&node, lease.as_ref(), &pods, Patience::default(), circumstances)
    })
}

fn ready(world: &World) -> String {
    let node = world.of_kind("Node")[0];
    let conditions = node["status"]["conditions"].as_array().expect("conditions");
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").expect("Ready");
    format!("{} {}", text(ready, "/status"), text(ready, "/reason"))
}

fn taints(world: &World) -> Vec<String> {
    let taints = world.of_kind("Node")[0]["spec"]["taints"].as_array().cloned().unwrap_or_default();
    taints.iter().map(|taint| format!("{}:{}", text(taint, "/key"), text(taint, "/effect"))).collect()
}

#[test]
fn a_silent_node_is_unknown() {
    let mut world = World::new();
    world.put(node());
    world.put(json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "a" },
        "spec": { "renewTime": time(5) } }));
    world.put(pod("p", &json!([])));
    world.now += 55;
    let step = look(&mut world);
    assert_eq!((lines(&step), step.again.map(Timestamp::unix)), (vec![], Some(START + 56)));
    world.now += 1;
    let step = look(&mut world);
    let log = world.apply(&step);
    assert_eq!(ready(&world), "Unknown NodeStatusUnknown");
    assert_eq!(
        taints(&world),
        ["node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"]
    );
    assert!(log.contains(&"Node a NodeNotReady: Node a status is now: NodeNotReady".to_owned()), "{log:?}");
    assert_eq!(text(world.get("Pod", "p"), "/status/conditions/0/status"), "False");
    assert_eq!(look(&mut world).writes, [], "that is all");
    // It is back.
    let now = Timestamp::from_unix(world.now);
    let before: Node = world.read("Node").pop().expect("a node");
    let conditions = healthy_conditions(now, Some(&before));
    assert_eq!(conditions[0]["lastTransitionTime"], json!(time(56)));
    world.change("Node", "a", &json!({ "status": { "conditions": conditions } }));
    let step = look(&mut world);
    world.apply(&step);
    assert_eq!(taints(&world), [""; 0]);
    assert_eq!(look(&mut world).writes, []);
}

#[test]
fn taints_by_state() {
    let mine = json!([{ "key": "mine", "effect": "NoSchedule" }]);
    let unready = json!([{ "type": "Ready", "status": "False" }]);
    // what, spec, conditions, taints
    let table: [(&str, Value, Value, &[&str]); 4] = [
        ("well", json!({ "taints": mine }), node()["status"]["conditions"].clone(), &["mine:NoSchedule"]),
        (
            "cordoned",
            json!({ "taints": mine, "unschedulable": true }),
            node()["status"]["conditions"].clone(),
            &["mine:NoSchedule", "node.kubernetes.io/unschedulable:NoSchedule"],
        ),
        (
            "not ready",
            json!({}),
            unready,
            &["node.kubernetes.io/not-ready:NoSchedule", "node.kubernetes.io/not-ready:NoExecute"],
        ),
        (
            "never heard of",
            json!({}),
            json!([]),
            &["node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"],
        ),
    ];
    for (name, spec, conditions, expected) in table {
        let mut world = World::new();
        let mut node = node();
        node["spec"] = spec;
        node["status"]["conditions"] = conditions;
        world.put(node);
        let step = look(&mut world);
        world.apply(&step);
        assert_eq!(taints(&world), expected, "{name}");
        assert_eq!(look(&mut world).writes, [], "{name}");
    }
}

/// Tolerations, and after how many seconds on a node that is gone the pod is deleted.
#[test]
fn pods_leave_in_time() {
    let gone = |seconds: Value| {
        json!([{ "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute",
        "tolerationSeconds": seconds }])
    };
    let table = [
        ("says nothing", json!([]), Some(300)),
        ("says how long", gone(json!(7)), Some(7)),
        ("at once", gone(json!(0)), Some(0)),
        ("says it twice", json!([gone(json!(9))[0], gone(json!(7))[0]]), Some(7)),
        ("for good", gone(Value::Null), None),
        ("everything, for good", json!([{ "operator": "Exists" }]), None),
    ];
    for (name, tolerations, expected) in table {
        let mut world = World::new();
        world.put(node());
        world.now += 100;
        world.put(pod("p", &tolerations));
        let since = world.now;
        let mut deleted = None;
        for _ in 0..5 {
            let step = look(&mut world);
            world.apply(&step);
            if world.get("Pod", "p").pointer("/metadata/deletionTimestamp").is_some() {
                deleted = Some(world.now - since);
                break;
            }
            world.now = step.again.map_or(world.now, Timestamp::unix);
        }
        assert_eq!(deleted, expected, "{name}");
    }
    let mut world = World::new();
    let mut tainted = node();
    tainted["spec"] = json!({ "taints": [{ "key": "k", "effect": "NoExecute", "timeAdded": time(0) }] });
    world.put(tainted);
    world.put(pod("p", &json!([])));
    assert!(lines(&look(&mut world)).contains(&"delete Pod p".to_owned()), "another taint: at once");
}

#[test]
fn pods_of_a_node_that_is_gone_go_at_once() {
    let mut world = World::new();
    world.put(node());
    world.put(pod("here", &json!([])));
    let mut lost = pod("lost", &json!([]));
    lost["spec"]["nodeName"] = json!("b");
    world.put(lost);
    world.put(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "pending" } }));
    let (pods, nodes): (Vec<Pod>, Vec<Node>) = (world.read("Pod"), world.read("Node"));
    assert_eq!(lines(&lost_pods(&pods, &nodes)), ["delete Pod lost Background Some(0)"]);
}

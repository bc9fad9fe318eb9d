//! All controllers together, each when it is due.

use std::collections::BTreeMap;

use portolan_controllers::manager::{
    Anything, Job, Node, Patience, Pod, Service, Step, Timestamp, Work, endpoints, garbage,
    healthy_conditions, node_lifecycle,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::world::{Key, START, World, lines, text, time};

/// A world, and the work that follows its changes.
struct Cluster {
    world: World,
    work: Work,
    /// What the work knows.
    known: BTreeMap<Key, Value>,
}

impl Cluster {
    fn new(nodes: &[&str]) -> Self {
        let mut world = World::new();
        world.put(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } }));
        for name in nodes {
            let conditions = healthy_conditions(Timestamp::from_unix(START), None);
            world.put(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": { "name": name } },
                "status": { "conditions": conditions } }));
        }
        Self { world, work: Work::new(Patience::default()), known: BTreeMap::new() }
    }

    /// Tells the work what is different.
    fn feed(&mut self) {
        for key in self.known.keys().filter(|key| !self.world.objects.contains_key(*key)) {
            self.work.remove(&key.0, &key.1, &key.2);
        }
        for (key, object) in &self.world.objects {
            if self.known.get(key) != Some(object) {
                self.work.set(object).expect("readable");
            }
        }
        self.known.clone_from(&self.world.objects);
    }

    /// Works until nothing is due. Gives how many steps did anything.
    fn settle(&mut self) -> usize {
        let mut steps = 0;
        for _ in 0..10_000 {
            self.feed();
            let Self { world, work, .. } = self;
            let Some((job, step)) = world.with(|_, circumstances| work.next(circumstances)) else {
                return steps;
            };
            let possible = world.possible(&step);
            if possible != step {
                // The name of a pod that the set has lost is taken until somebody deletes that
                // pod.
                assert!(matches!(job, Job::StatefulSet(_)), "{job:?}: {step:?}");
                work.again(job, Timestamp::from_unix(world.now + 1));
            }
            steps += usize::from(!possible.writes.is_empty());
            world.apply(&possible);
        }
        panic!("it never comes to rest");
    }

    /// Pods that have a node run, those that were deleted are gone.
    fn live(&mut self) {
        for _ in 0..6 {
            self.settle();
            for name in self.world.names("Pod") {
                let pod = self.world.get("Pod", &name);
                let is_new =
                    text(pod, "/status/phase") == "Pending" && !text(pod, "/spec/nodeName").is_empty();
                if is_new && pod.pointer("/metadata/deletionTimestamp").is_none() {
                    let number = name.bytes().fold(0_u32, |sum, byte| sum * 31 % 65_521 + u32::from(byte));
                    let address = format!("10.0.{}.{}", number / 256, number % 256);
                    self.world.change("Pod", &name, &json!({ "status": { "podIPs": [{ "ip": address }] } }));
                    self.world.make_ready(&name);
                }
            }
            self.world.bury();
        }
        self.settle();
    }

    /// What any controller would want that is not due.
    fn wishes(&mut self) -> Vec<(String, Step)> {
        let mut steps = Vec::new();
        for kind in ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"] {
            for name in self.world.names(kind) {
                let step = match kind {
                    "Deployment" => self.world.deployment(&name),
                    "ReplicaSet" => self.world.replica_set(&name),
                    "StatefulSet" => self.world.stateful_set(&name),
                    _ => self.world.daemon_set(&name),
                };
                steps.push((format!("{kind} {name}"), step));
            }
        }
        steps.push(("scheduler".to_owned(), self.world.schedule()));
        let world = &mut self.world;
        let pods: Vec<Pod> = world.read("Pod");
        let nodes: Vec<Node> = world.read("Node");
        for node in &nodes {
            let step = world.with(|_, circumstances| {
                node_lifecycle(node, None, &pods, Patience::default(), circumstances)
            });
            steps.push((format!("node {}", node.name()), step));
        }
        let services: Vec<Service> = world.read("Service");
        for service in &services {
            let held = world.objects.get(&("Endpoints".into(), "shop".into(), service.name().into()));
            let step = endpoints(service, &pods, held).expect("readable");
            steps.push((format!("service {}", service.name()), step));
        }
        let all: Vec<Anything> = world.read_all();
        for object in &all {
            let step = garbage(object, |owner| all.iter().find(|other| other.uid() == owner.uid), &all);
            steps.push((format!("garbage {}", object.name()), step));
        }
        steps.retain(|(_, step)| !self.world.possible(step).writes.is_empty());
        steps
    }

    fn nodes_of_pods(&self) -> Vec<String> {
        let pods = self.world.of_kind("Pod").into_iter();
        let mut nodes: Vec<String> = pods.map(|pod| text(pod, "/spec/nodeName").to_owned()).collect();
        nodes.sort();
        nodes
    }

    fn endpoints(&self) -> usize {
        let slices = self.world.of_kind("EndpointSlice").into_iter();
        slices.map(|slice| slice["endpoints"].as_array().map_or(0, Vec::len)).sum()
    }
}

fn workload(kind: &str, name: &str, replicas: usize) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": name },
        "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": name } },
            "template": { "metadata": { "labels": { "app": name, "all": "yes" } },
                "spec": { "containers": [{ "name": "c", "image": "one" }] } } },
    })
}

fn service() -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "all" },
        "spec": { "clusterIP": "10.96.0.1", "selector": { "all": "yes" }, "ports": [{ "port": 80 }] } })
}

#[test]
fn from_a_deployment_to_endpoints_and_back() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.world.put(service());
    cluster.world.put(workload("Deployment", "web", 4));
    cluster.live();
    assert_eq!(cluster.nodes_of_pods(), ["a", "a", "b", "b"]);
    assert_eq!(cluster.endpoints(), 4);
    assert_eq!(cluster.world.get("Deployment", "web")["status"]["availableReplicas"], 4);
    assert_eq!(cluster.settle(), 0);
    cluster.world.change("Deployment", "web", &json!({ "spec": { "replicas": 1 } }));
    cluster.live();
    assert_eq!((cluster.nodes_of_pods().len(), cluster.endpoints()), (1, 1));
    cluster.world.delete("Deployment", "web");
    cluster.live();
    assert_eq!(cluster.world.of_kind("ReplicaSet").len(), 0);
    assert_eq!((cluster.nodes_of_pods().len(), cluster.endpoints()), (0, 0));
    cluster.world.delete("Service", "all");
    cluster.live();
    assert_eq!(cluster.world.names("EndpointSlice"), [""; 0]);
    assert_eq!(cluster.world.names("ServiceAccount"), ["default"]);
}

#[test]
fn pods_leave_a_silent_node() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.world.put(service());
    cluster.world.put(workload("Deployment", "web", 2));
    cluster.live();
    assert_eq!(cluster.endpoints(), 2);
    // Node b gives signs, node a does not.
    let mut waits = Vec::new();
    while cluster.nodes_of_pods() != ["b", "b"] {
        let before = cluster.world.now;
        let wakes_at = cluster.work.wakes_at().expect("something is due").unix();
        // No further than the next sign of b.
        cluster.world.now = wakes_at.min(before + 10);
        let sign = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": "b", "namespace": "kube-node-lease" },
            "spec": { "renewTime": time(cluster.world.now - START) } });
        cluster.world.put(sign);
        cluster.live();
        let ready = cluster
            .world
            .of_kind("Pod")
            .into_iter()
            .filter(|pod| text(pod, "/status/conditions/0/status") == "True");
        waits.push((cluster.world.now - START, ready.count()));
        assert!(waits.len() < 100, "{waits:?}");
    }
    let silent = waits.iter().find(|(_, ready)| *ready < 2).expect("not ready");
    assert_eq!(silent.0, 51, "{waits:?}");
    assert_eq!(waits.last().map(|(at, _)| *at), Some(351), "{waits:?}");
}

#[test]
fn endpoints_made_by_hand_are_mirrored() {
    let mut cluster = Cluster::new(&[]);
    let mut without = service();
    without["spec"]["selector"] = json!(null);
    cluster.world.put(without.clone());
    let by_hand = json!({ "apiVersion": "v1", "kind": "Endpoints",
        "metadata": { "name": "all", "labels": { "team": "a" },
            "annotations": { "note": "kept", "endpoints.kubernetes.io/last-change-trigger-time": "x" } },
        "subsets": [{
            "addresses": [{ "ip": "192.0.2.1", "hostname": "h", "nodeName": "n" }, { "ip": "2001:db8::1" }],
            "notReadyAddresses": [{ "ip": "192.0.2.2" }],
            "ports": [{ "port": 5432 }, { "name": "tls", "port": 5433, "protocol": "TCP", "appProtocol": "x" }],
        }] });
    let slices = |cluster: &Cluster| {
        let slices = cluster.world.of_kind("EndpointSlice").into_iter();
        let mut slices: Vec<Value> =
            slices.map(|slice| json!([slice["addressType"], slice["endpoints"], slice["ports"]])).collect();
        slices.sort_by_key(|slice| slice[0].to_string());
        json!(slices)
    };
    let ports = json!([{ "name": "", "port": 5432, "protocol": "TCP" },
        { "appProtocol": "x", "name": "tls", "port": 5433, "protocol": "TCP" }]);
    let expected = json!([
        ["IPv4", [
            { "addresses": ["192.0.2.1"], "conditions": { "ready": true }, "hostname": "h", "nodeName": "n" },
            { "addresses": ["192.0.2.2"], "conditions": { "ready": false } },
        ], ports],
        ["IPv6", [{ "addresses": ["2001:db8::1"], "conditions": { "ready": true } }], ports],
    ]);
    cluster.world.put(by_hand.clone());
    cluster.live();
    assert_eq!(slices(&cluster), expected);
    let metadata = cluster.world.of_kind("EndpointSlice")[0]["metadata"].clone();
    assert_eq!(metadata["annotations"], json!({ "note": "kept" }));
    assert_eq!(
        metadata["labels"],
        json!({ "team": "a", "kubernetes.io/service-name": "all",
            "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io" })
    );
    assert_eq!(metadata["ownerReferences"][0]["kind"], "Endpoints");

    let mut fewer = by_hand.clone();
    fewer["subsets"][0]["addresses"] = json!([{ "ip": "2001:db8::1" }]);
    fewer["subsets"][0]["notReadyAddresses"] = json!(null);
    cluster.world.put(fewer);
    cluster.live();
    assert_eq!(slices(&cluster), json!([expected[1]]));

    // Why there is nothing to mirror, and what is so.
    let labelled = |label: &str| {
        let mut endpoints = by_hand.clone();
        endpoints["metadata"]["labels"] = json!({ label: "true" });
        endpoints
    };
    let mut lock = by_hand.clone();
    lock["metadata"]["annotations"] = json!({ "control-plane.alpha.kubernetes.io/leader": "{}" });
    let none = json!({ "apiVersion": "v1", "kind": "Endpoints", "metadata": { "name": "all" } });
    for (why, object) in [
        ("somebody else does it", labelled("endpointslice.kubernetes.io/skip-mirror")),
        ("a controller made them", labelled("endpoints.kubernetes.io/managed-by")),
        ("a lock", lock),
        ("no addresses", none),
    ] {
        cluster.world.put(by_hand.clone());
        cluster.live();
        assert_eq!(slices(&cluster), expected, "before: {why}");
        cluster.world.put(object);
        cluster.live();
        assert_eq!(slices(&cluster), json!([]), "{why}");
    }
    cluster.world.put(by_hand);
    cluster.world.put(service());
    cluster.live();
    let managers: Vec<&str> =
        cluster.world.of_kind("EndpointSlice").iter().map(|slice| manager(slice)).collect();
    assert_eq!(managers, ["endpointslice-controller.k8s.io"]);
}

/// Who is responsible for a slice.
fn manager(slice: &Value) -> &str {
    text(slice, "/metadata/labels/endpointslice.kubernetes.io~1managed-by")
}

#[test]
fn a_pod_of_a_node_that_is_gone_is_replaced() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.world.put(workload("StatefulSet", "db", 2));
    cluster.live();
    cluster.world.objects.retain(|key, _| (key.0.as_str(), key.2.as_str()) != ("Node", "a"));
    cluster.live();
    assert_eq!(cluster.nodes_of_pods(), ["b", "b"]);
}

#[test]
fn an_owner_goes_after_the_last_that_it_waits_for() {
    let mut work = Work::new(Patience::default());
    let owned = json!({ "ownerReferences": [{ "apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "o",
        "blockOwnerDeletion": true }] });
    let object = |name: &str, more: &Value| {
        let mut object = json!({ "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": name, "namespace": "shop", "uid": name } });
        for (key, value) in more.as_object().into_iter().flatten() {
            object["metadata"][key] = value.clone();
        }
        object
    };
    let waits = json!({ "deletionTimestamp": time(0), "finalizers": ["foregroundDeletion"] });
    let mut world = World::new();
    let mut wishes = |work: &mut Work| {
        let mut wishes = Vec::new();
        while let Some((_, step)) = world.with(|_, circumstances| work.next(circumstances)) {
            wishes.extend(lines(&step));
        }
        wishes
    };
    work.set(&object("o", &json!({}))).expect("readable");
    work.set(&object("x", &owned)).expect("readable");
    assert_eq!(wishes(&mut work), [""; 0]);
    work.set(&object("o", &waits)).expect("readable");
    assert_eq!(wishes(&mut work), ["delete ConfigMap x"]);
    work.remove("ConfigMap", "shop", "x");
    assert_eq!(wishes(&mut work), ["update ConfigMap o {\"metadata\":{\"finalizers\":[]}}"]);
}

#[test]
fn what_cannot_be_read_is_left_alone() {
    let mut work = Work::new(Patience::default());
    let mut broken = workload("ReplicaSet", "web", 1);
    broken["spec"]["replicas"] = json!("many");
    assert!(work.set(&broken).is_err());
    let mut world = World::new();
    while let Some((job, step)) = world.with(|_, circumstances| work.next(circumstances)) {
        assert_eq!(step, Step::default(), "{job:?}");
    }
    // A failed write is tried again when it should be.
    work.again(Job::Schedule, Timestamp::from_unix(START + 5));
    assert_eq!(work.wakes_at(), Some(Timestamp::from_unix(START + 5)));
    assert!(world.with(|_, circumstances| work.next(circumstances)).is_none());
    world.now += 5;
    assert!(world.with(|_, circumstances| work.next(circumstances)).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever is done, a controller that is not due has nothing to do.
    #[test]
    fn work_follows_every_change(events in proptest::collection::vec((0_u8..10, 0_usize..30), 1..12)) {
        let mut cluster = Cluster::new(&["a", "b", "c"]);
        cluster.world.put(service());
        for (event, which) in events {
            let kind = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"][which % 4];
            let name = ["deploy", "stateful", "daemon", "plain"][which % 4];
            let key = (kind.to_owned(), "shop".to_owned(), name.to_owned());
            let is_there = cluster.world.objects.contains_key(&key);
            let pods = cluster.world.names("Pod");
            let pod = pods.get(which % pods.len().max(1)).cloned();
            let node = ["a", "b", "c"][which % 3];
            match (event, pod) {
                (0 | 1, _) if !is_there => drop(cluster.world.put(workload(kind, name, which % 5))),
                (0, _) => {
                    let patch = json!({ "spec": { "replicas": which % 5 } });
                    cluster.world.change(kind, name, &patch);
                }
                (1, _) => {
                    let image = json!([{ "name": "c", "image": format!("{which}") }]);
                    let patch = json!({ "spec": { "template": { "spec": { "containers": image } } } });
                    cluster.world.change(kind, name, &patch);
                }
                (2, _) if is_there => cluster.world.delete(kind, name),
                (3, Some(pod)) => cluster.world.delete("Pod", &pod),
                (4, Some(pod)) => {
                    cluster.world.change("Pod", &pod, &json!({ "status": { "phase": "Failed" } }));
                }
                (5, Some(pod)) => {
                    cluster.world.change("Pod", &pod, &json!({ "metadata": { "labels": { "app": "other" } } }));
                }
                (6, Some(pod)) => {
                    let owners = json!({ "metadata": { "ownerReferences": null } });
                    cluster.world.change("Pod", &pod, &owners);
                }
                (7, _) => {
                    let cordon = json!({ "spec": { "unschedulable": which % 2 == 0 } });
                    cluster.world.change("Node", node, &cordon);
                }
                (8, _) => {
                    let taint = json!([{ "key": "k", "effect": (["NoSchedule", "NoExecute"][which % 2]) }]);
                    let taints = if which < 15 { taint } else { json!([]) };
                    cluster.world.change("Node", node, &json!({ "spec": { "taints": taints } }));
                }
                _ => cluster.live(),
            }
            // What is to be tried again is.
            cluster.world.now += 1;
            cluster.settle();
            let wishes = cluster.wishes();
            prop_assert!(wishes.is_empty(), "{wishes:#?}");
        }
        cluster.live();
        cluster.world.now += 1;
        cluster.settle();
        let wishes = cluster.wishes();
        prop_assert!(wishes.is_empty(), "{wishes:#?}");
    }
}

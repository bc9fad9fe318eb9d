//! A world of objects that does what controllers want, and keeps a log of it.

use std::collections::BTreeMap;

use portolan_controllers::manager::{
    Anything, BatchJob, Circumstances, ControllerRevision, DaemonSet, Deployment, Node, Object, Pod,
    Propagation, ReplicaSet, ReplicationController, StatefulSet, Step, Target, Timestamp, Write, batch_job,
    daemon_set, deployment, replica_set, replication_controller, schedule, stateful_set,
};
use serde_json::{Value, json};

/// Kind, namespace and name.
pub(crate) type Key = (String, String, String);

/// Objects, a clock and chance, all of which do only what a test wants.
pub(crate) struct World {
    pub(crate) objects: BTreeMap<Key, Value>,
    pub(crate) now: i64,
    version: u64,
    random: u64,
}

/// The beginning of every test.
pub(crate) const START: i64 = 1_796_000_000;

pub(crate) fn time(seconds: i64) -> String {
    Timestamp::from_unix(START + seconds).to_string()
}

pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

fn key(object: &Value) -> Key {
    let field = |pointer| text(object, pointer).to_owned();
    (field("/kind"), field("/metadata/namespace"), field("/metadata/name"))
}

/// RFC 7396
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Value::Object(target) = target else { unreachable!() };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// What a step wants, a line each.
pub(crate) fn lines(step: &Step) -> Vec<String> {
    let of = |target: &Target| format!("{} {}", target.kind, target.name);
    let write = |write: &Write| match write {
        Write::Create(object) => {
            format!("create {} {}", text(object, "/kind"), text(object, "/metadata/name"))
        }
        Write::Update { target, patch } => format!("update {} {patch}", of(target)),
        Write::UpdateStatus { target, patch } => format!("status {} {}", of(target), patch["status"]),
        Write::Bind { pod, node } => format!("bind {} {node}", pod.name),
        Write::Delete { target, propagation: Propagation::Background, grace: None } => {
            format!("delete {}", of(target))
        }
        Write::Delete { target, propagation, grace } => {
            format!("delete {} {propagation:?} {grace:?}", of(target))
        }
        Write::Event(event) => format!("{} {}: {}", of(&event.regarding), event.reason, event.message),
    };
    step.writes.iter().map(write).collect()
}

impl World {
    pub(crate) fn new() -> Self {
        Self { objects: BTreeMap::new(), now: START, version: 0, random: 0 }
    }

    /// Puts an object in, with what an API server adds. Fields that it has stay as they are.
    pub(crate) fn put(&mut self, mut object: Value) -> Key {
        self.version += 1;
        let defaults = json!({
            "metadata": { "namespace": "shop", "generation": 1, "creationTimestamp": time(self.now - START),
                "uid": format!("uid-{}", self.version) },
            "spec": {},
            "status": if object["kind"] == "Pod" { json!({ "phase": "Pending" }) } else { json!({}) },
        });
        let mut whole = defaults;
        merge(&mut whole, &object);
        whole["metadata"]["resourceVersion"] = json!(self.version.to_string());
        object = whole;
        if matches!(text(&object, "/kind"), "Node" | "Namespace") {
            object["metadata"].as_object_mut().expect("a map").remove("namespace");
        }
        let key = key(&object);
        self.objects.insert(key.clone(), object);
        key
    }

    /// Changes an object of namespace `shop`, or of none, as a user does.
    pub(crate) fn change(&mut self, kind: &str, name: &str, patch: &Value) {
        let keys = ["shop", ""].map(|namespace| (kind.to_owned(), namespace.to_owned(), name.to_owned()));
        let key = keys.into_iter().find(|key| self.objects.contains_key(key)).expect("there");
        self.version += 1;
        let object = self.objects.get_mut(&key).expect("there");
        let spec = object["spec"].clone();
        merge(object, patch);
        if object["spec"] != spec {
            object["metadata"]["generation"] = json!(number(object, "/metadata/generation") + 1);
        }
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
    }

    pub(crate) fn get(&self, kind: &str, name: &str) -> &Value {
        &self.objects[&(kind.to_owned(), "shop".to_owned(), name.to_owned())]
    }

    /// All objects whatsoever.
    pub(crate) fn read_all(&self) -> Vec<Anything> {
        self.objects.values().map(|object| Anything::read(object).expect("readable")).collect()
    }

    /// All objects of a kind.
    pub(crate) fn of_kind(&self, kind: &str) -> Vec<&Value> {
        self.objects.iter().filter(|(key, _)| key.0 == kind).map(|(_, object)| object).collect()
    }

    pub(crate) fn read<S, T>(&self, kind: &str) -> Vec<Object<S, T>>
    where
        S: serde::de::DeserializeOwned + Default,
        T: serde::de::DeserializeOwned + Default,
    {
        self.of_kind(kind).into_iter().map(|object| Object::read(object).expect("readable")).collect()
    }

    /// Runs something with the present time and chance.
    pub(crate) fn with<T>(&mut self, run: impl FnOnce(&Self, &mut Circumstances<'_>) -> T) -> T {
        let mut random = self.random;
        let mut next = || {
            random += 1;
            random
        };
        let now = Timestamp::from_unix(self.now);
        let result = run(self, &mut Circumstances { now, random: &mut next });
        self.random = random;
        result
    }

    /// Does what a step wants. Gives its lines.
    pub(crate) fn apply(&mut self, step: &Step) -> Vec<String> {
        for write in &step.writes {
            match write {
                Write::Create(object) => {
                    assert!(!self.objects.contains_key(&key(object)), "created twice: {object}");
                    self.put(object.clone());
                }
                Write::Update { target, patch } | Write::UpdateStatus { target, patch } => {
                    self.change(&target.kind, &target.name, patch);
                }
                Write::Bind { pod, node } => {
                    self.change("Pod", &pod.name, &json!({ "spec": { "nodeName": node } }));
                }
                Write::Delete { target, .. } => self.delete(&target.kind, &target.name),
                Write::Event(_) => {}
            }
        }
        lines(step)
    }

    /// The part of a step before a write that an API server would refuse.
    pub(crate) fn possible(&self, step: &Step) -> Step {
        let is_refused = |write: &Write| match write {
            Write::Create(object) => self.objects.contains_key(&key(object)),
            _ => false,
        };
        let end = step.writes.iter().position(is_refused).unwrap_or(step.writes.len());
        Step { writes: step.writes[..end].to_vec(), again: step.again }
    }

    /// Deletes an object: pods stay until [`World::bury`].
    pub(crate) fn delete(&mut self, kind: &str, name: &str) {
        let deleted = json!({ "metadata": { "deletionTimestamp": time(self.now - START) } });
        if kind == "Pod" {
            self.change(kind, name, &deleted);
        } else {
            self.objects.remove(&(kind.to_owned(), "shop".to_owned(), name.to_owned()));
        }
    }

    /// Pods that have been deleted are gone.
    pub(crate) fn bury(&mut self) {
        self.objects.retain(|_, object| object.pointer("/metadata/deletionTimestamp").is_none());
    }

    /// Deleted pods are gone, and nothing else is.
    pub(crate) fn bury_pods(&mut self) {
        self.objects
            .retain(|key, object| key.0 != "Pod" || object.pointer("/metadata/deletionTimestamp").is_none());
    }

    /// A pod runs and is ready from now on.
    pub(crate) fn make_ready(&mut self, name: &str) {
        let since = time(self.now - START);
        let ready = json!([{ "type": "Ready", "status": "True", "lastTransitionTime": since }]);
        self.change("Pod", name, &json!({ "status": { "phase": "Running", "conditions": ready } }));
    }

    pub(crate) fn names(&self, kind: &str) -> Vec<String> {
        self.of_kind(kind).into_iter().map(|object| text(object, "/metadata/name").to_owned()).collect()
    }

    /// All pods that are there, with what `field` says of each.
    pub(crate) fn pods(&self, field: &str) -> Vec<String> {
        let pods = self.of_kind("Pod").into_iter();
        pods.map(|pod| {
            let gone = if pod.pointer("/metadata/deletionTimestamp").is_some() { " (going)" } else { "" };
            format!("{} {}{gone}", text(pod, "/metadata/name"), text(pod, field))
        })
        .collect()
    }

    /// Makes all pods ready that are not on their way out.
    pub(crate) fn make_all_ready(&mut self) {
        for name in self.names("Pod") {
            let pod = self.get("Pod", &name);
            let is_new = text(pod, "/status/phase") == "Pending";
            if is_new && pod.pointer("/metadata/deletionTimestamp").is_none() {
                self.make_ready(&name);
            }
        }
    }

    pub(crate) fn replica_set(&mut self, name: &str) -> Step {
        self.with(|world, circumstances| {
            let pods: Vec<Pod> = world.read("Pod");
            let set = ReplicaSet::read(world.get("ReplicaSet", name)).expect("readable");
            replica_set(&set, &pods, &pods, circumstances)
        })
    }

    pub(crate) fn batch_job(&mut self, name: &str) -> Step {
        self.with(|world, circumstances| {
            let pods: Vec<Pod> = world.read("Pod");
            let job = BatchJob::read(world.get("Job", name)).expect("readable");
            batch_job(&job, &pods, circumstances)
        })
    }

    pub(crate) fn replication_controller(&mut self, name: &str) -> Step {
        self.with(|world, circumstances| {
            let pods: Vec<Pod> = world.read("Pod");
            let controller = world.get("ReplicationController", name);
            let controller = ReplicationController::read(controller).expect("readable");
            replication_controller(&controller, &pods, circumstances)
        })
    }

    pub(crate) fn deployment(&mut self, name: &str) -> Step {
        self.with(|world, circumstances| {
            let (sets, pods): (Vec<ReplicaSet>, Vec<Pod>) = (world.read("ReplicaSet"), world.read("Pod"));
            let wanted = Deployment::read(world.get("Deployment", name)).expect("readable");
            deployment(&wanted, &sets, &pods, circumstances)
        })
    }

    fn revisions(&self) -> Vec<ControllerRevision> {
        let revisions = self.of_kind("ControllerRevision").into_iter();
        revisions.map(|revision| ControllerRevision::read(revision).expect("readable")).collect()
    }

    pub(crate) fn stateful_set(&mut self, name: &str) -> Step {
        self.with(|world, circumstances| {
            let (pods, revisions): (Vec<Pod>, _) = (world.read("Pod"), world.revisions());
            let set = StatefulSet::read(world.get("StatefulSet", name)).expect("readable");
            stateful_set(&set, &pods, &revisions, circumstances)
        })
    }

    pub(crate) fn daemon_set(&mut self, name: &str) -> Step {
        self.with(|world, circumstances| {
            let (nodes, pods): (Vec<Node>, Vec<Pod>) = (world.read("Node"), world.read("Pod"));
            let set = DaemonSet::read(world.get("DaemonSet", name)).expect("readable");
            daemon_set(&set, &nodes, &pods, &world.revisions(), circumstances)
        })
    }

    pub(crate) fn schedule(&mut self) -> Step {
        self.with(|world, circumstances| {
            let (nodes, pods): (Vec<Node>, Vec<Pod>) = (world.read("Node"), world.read("Pod"));
            schedule(&pods, &nodes, &pods, circumstances)
        })
    }

    /// Runs all controllers of workloads until they want nothing more. Gives what
    /// they did, without changes of statuses.
    pub(crate) fn settle(&mut self) -> Vec<String> {
        let mut log = Vec::new();
        for _ in 0..100 {
            let before = self.version;
            for name in self.names("Deployment") {
                let step = self.deployment(&name);
                log.extend(self.apply(&step));
            }
            for name in self.names("ReplicaSet") {
                let step = self.replica_set(&name);
                log.extend(self.apply(&step));
            }
            for name in self.names("StatefulSet") {
                let step = self.stateful_set(&name);
                log.extend(self.apply(&step));
            }
            for name in self.names("DaemonSet") {
                let step = self.daemon_set(&name);
                log.extend(self.apply(&step));
            }
            if self.version == before {
                log.retain(|line| !line.starts_with("status "));
                return log;
            }
        }
        panic!("the controllers never come to rest: {log:#?}");
    }
}

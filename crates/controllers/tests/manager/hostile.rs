//! Objects that no good client would write.

use portolan_controllers::manager::{Circumstances, Patience, Timestamp, Work};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::world::{START, time};

/// One of each kind that a controller looks at, with many of its fields.
fn objects() -> Vec<Value> {
    let labels = json!({ "app": "web" });
    let template = json!({ "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "c" }],
        "tolerations": [{ "key": "k", "operator": "Exists", "tolerationSeconds": 5 }] } });
    let owner = |kind: &str, uid: &str| {
        json!([{ "apiVersion": "apps/v1", "kind": kind, "name": "web", "uid": uid,
        "controller": true }])
    };
    let spec = json!({ "replicas": 3, "minReadySeconds": 1, "selector": { "matchLabels": labels },
        "template": template, "revisionHistoryLimit": 1, "progressDeadlineSeconds": 10,
        "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": 1 } },
        "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": 1, "maxUnavailable": 1 } },
        "ordinals": { "start": 1 }, "podManagementPolicy": "OrderedReady" });
    let counts = json!({ "replicas": 3, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
        "observedGeneration": 1, "collisionCount": 1, "currentReplicas": 1, "numberReady": 1,
        "conditions": [{ "type": "Progressing", "status": "True", "reason": "x", "lastUpdateTime": time(-90) }] });
    let revision = "deployment.kubernetes.io/revision";
    let sizes = json!({ revision: "2", "deployment.kubernetes.io/desired-replicas": "2",
        "deployment.kubernetes.io/max-replicas": "3", "deployment.kubernetes.io/revision-history": "1",
        "controller.kubernetes.io/pod-deletion-cost": "1" });
    let object = |kind: &str, name: &str, more: Value| {
        let mut object = json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": name, "namespace": "shop",
            "uid": format!("{kind}-{name}"), "generation": 2, "resourceVersion": "1", "labels": labels,
            "annotations": sizes, "creationTimestamp": time(-100) } });
        for (key, value) in more.as_object().into_iter().flatten() {
            object[key] = value.clone();
        }
        object
    };
    let mut objects: Vec<Value> = ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"]
        .map(|kind| object(kind, "web", json!({ "spec": spec, "status": counts })))
        .into();
    objects[1]["metadata"]["ownerReferences"] = owner("Deployment", "Deployment-web");
    let mut old = object("ReplicaSet", "old", json!({ "spec": spec, "status": counts }));
    old["spec"]["template"]["spec"]["containers"][0]["image"] = json!("old");
    old["metadata"]["ownerReferences"] = owner("Deployment", "Deployment-web");
    objects.push(old);
    for (name, kind) in
        [("web-1", "StatefulSet"), ("x", "ReplicaSet"), ("y", "ReplicaSet"), ("z", "DaemonSet")]
    {
        let mut pod = object(
            "Pod",
            name,
            json!({
            "spec": { "nodeName": "a", "containers": [{ "ports": [{ "hostPort": 80, "containerPort": 80 }] }] },
            "status": { "phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [{ "restartCount": 1 }],
                "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": time(-50) }] } }),
        );
        pod["metadata"]["ownerReferences"] = owner(kind, &format!("{kind}-web"));
        objects.push(pod);
    }
    objects.push(object("Pod", "new", json!({ "spec": { "nodeSelector": { "a": "b" } }, "status": {} })));
    objects.push(object(
        "Service",
        "web",
        json!({ "spec": { "selector": labels, "ipFamilies": ["IPv4"],
        "ports": [{ "port": 80, "targetPort": "http", "protocol": "TCP" }] } }),
    ));
    objects.push(object("ControllerRevision", "web-1", json!({ "revision": 1, "data": { "spec": {} } })));
    let mut node = object(
        "Node",
        "a",
        json!({ "spec": { "unschedulable": true,
            "taints": [{ "key": "k", "effect": "NoExecute", "timeAdded": time(-9) }] },
        "status": { "allocatable": { "pods": "110" }, "conditions": [{ "type": "Ready", "status": "True" }] } }),
    );
    node["metadata"]["namespace"] = json!("");
    objects.push(node);
    objects
}

/// The places of all values within a value.
fn places(value: &Value, before: &str, places: &mut Vec<String>) {
    let mut visit = |key: String, value: &Value| {
        let place = format!("{before}/{key}");
        self::places(value, &place, places);
        places.push(place);
    };
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| visit(key.replace('~', "~0").replace('/', "~1"), value));
        }
        Value::Array(list) => list.iter().enumerate().for_each(|(at, value)| visit(at.to_string(), value)),
        _ => {}
    }
}

fn replacements() -> Vec<Value> {
    let number = |number: i64| [json!(number), json!(number.to_string())];
    let mut values = vec![
        json!(null),
        json!([]),
        json!({}),
        json!(true),
        json!(1.5),
        json!(u64::MAX),
        json!(""),
        json!("é"),
        json!("99999999999999%"),
        json!("-5%"),
        json!("%"),
        json!("9999-12-31T23:59:59Z"),
        json!("0000-01-01T00:00:00Z"),
        json!("web"),
    ];
    for value in [i64::MAX, i64::MIN, i64::from(i32::MAX), -1, 0] {
        values.extend(number(value));
    }
    values
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever a few fields hold, every controller comes to an end, and none panics.
    #[test]
    fn no_field_is_a_trap(changes in proptest::collection::vec((any::<prop::sample::Index>(),
        any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4)) {
        let mut objects = objects();
        let values = replacements();
        for (object, place, value) in changes {
            let object = object.index(objects.len());
            let mut places = Vec::new();
            self::places(&objects[object], "", &mut places);
            let place = &places[place.index(places.len())];
            if let Some(place) = objects[object].pointer_mut(place) {
                *place = values[value.index(values.len())].clone();
            }
        }
        let mut work = Work::new(Patience::default());
        for object in &objects {
            // What cannot be read is left alone, and the others are not.
            let _ = work.set(object);
        }
        let mut random = || 4;
        let mut circumstances = Circumstances { now: Timestamp::from_unix(START), random: &mut random };
        for _ in 0..100 {
            if work.next(&mut circumstances).is_none() {
                return Ok(());
            }
        }
        prop_assert!(false, "there is no end of it");
    }
}

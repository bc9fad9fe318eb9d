//! Deployments.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::world::{World, lines, number, text};

fn deployment(replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web", "uid": "d", "annotations": { "note": "1" } },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "template": template("one"),
        },
    })
}

fn template(image: &str) -> Value {
    json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "c", "image": image }] } })
}

/// A world with a Deployment all of whose pods are ready.
fn running(deployment: Value) -> World {
    let mut world = World::new();
    world.put(deployment);
    world.settle();
    world.make_all_ready();
    world.settle();
    world
}

fn set_image(world: &mut World, image: &str) {
    world.change("Deployment", "web", &json!({ "spec": { "template": template(image) } }));
}

/// The ReplicaSet of an image.
fn set_of(world: &World, image: &str) -> Value {
    let sets = world.of_kind("ReplicaSet");
    let is_wanted = |set: &&&Value| text(set, "/spec/template/spec/containers/0/image") == image;
    sets.iter().find(is_wanted).map(|set| (*set).clone()).unwrap_or_default()
}

/// Sizes of the ReplicaSets of images.
fn sizes(world: &World, images: &[&str]) -> Vec<i64> {
    images.iter().map(|image| number(&set_of(world, image), "/spec/replicas")).collect()
}

fn condition(world: &World, kind: &str) -> (String, String, String) {
    let deployment = world.get("Deployment", "web");
    let conditions = deployment["status"]["conditions"].as_array().expect("conditions");
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    let field = |field| found.map(|found| text(found, field).to_owned()).unwrap_or_default();
    (field("/status"), field("/reason"), field("/message"))
}

#[test]
fn first_rollout() {
    let mut world = World::new();
    world.put(deployment(3));
    let log = world.settle();
    let set = set_of(&world, "one");
    let name = text(&set, "/metadata/name");
    let hash = name.strip_prefix("web-").expect("after the Deployment");
    assert!(hash.bytes().all(|byte| byte.is_ascii_digit()), "{hash}");
    assert_eq!(log[0], format!("create ReplicaSet {name}"));
    assert!(
        log.contains(&format!("Deployment web ScalingReplicaSet: Scaled up replica set {name} from 0 to 3"))
    );
    let hashed = json!({ "app": "web", "pod-template-hash": hash });
    assert_eq!(set["metadata"]["labels"], hashed);
    assert_eq!(set["spec"]["selector"]["matchLabels"], hashed);
    assert_eq!(set["spec"]["template"]["metadata"]["labels"], hashed);
    assert_eq!(
        set["metadata"]["annotations"],
        json!({ "note": "1", "deployment.kubernetes.io/revision": "1",
            "deployment.kubernetes.io/desired-replicas": "3", "deployment.kubernetes.io/max-replicas": "4" })
    );
    let pods = world.names("Pod");
    assert_eq!(pods.len(), 3);
    assert!(pods.iter().all(|pod| pod.starts_with(&format!("{name}-")) && pod.len() == name.len() + 6));
    assert_eq!(condition(&world, "Available").1, "MinimumReplicasUnavailable");
    assert_eq!(condition(&world, "Progressing").1, "ReplicaSetUpdated");
    world.make_all_ready();
    world.settle();
    let deployment = world.get("Deployment", "web");
    assert_eq!(text(deployment, "/metadata/annotations/deployment.kubernetes.io~1revision"), "1");
    let mut status = deployment["status"].clone();
    status.as_object_mut().expect("a map").remove("conditions");
    assert_eq!(
        status,
        json!({ "observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3,
            "availableReplicas": 3 })
    );
    assert_eq!(condition(&world, "Available").2, "Deployment has minimum availability.");
    let message = format!("ReplicaSet {name:?} has successfully progressed.");
    assert_eq!(condition(&world, "Progressing"), ("True".into(), "NewReplicaSetAvailable".into(), message));
}

/// Name, replicas, surge, unavailable, and sizes.
type Rollout<'a> = (&'a str, i64, &'a str, &'a str, &'a [[i64; 2]]);

/// Surge, unavailable, and the sizes of the old and the new ReplicaSet at each standstill until
/// pods are ready.
#[test]
fn rolls() {
    let count = |value: &str| value.parse::<i64>().map_or_else(|_| json!(value), |number| json!(number));
    let table: [Rollout<'_>; 6] = [
        ("one more", 3, "1", "0", &[[3, 1], [2, 2], [1, 3], [0, 3]]),
        ("one fewer", 3, "0", "1", &[[2, 1], [1, 2], [0, 3]]),
        ("a quarter of four", 4, "25%", "25%", &[[3, 2], [1, 4], [0, 4]]),
        ("a quarter of one is one more", 1, "25%", "25%", &[[1, 1], [0, 1]]),
        ("all at once", 2, "100%", "0", &[[2, 2], [0, 2]]),
        ("neither is one fewer", 2, "0", "0%", &[[1, 1], [0, 2]]),
    ];
    for (name, replicas, surge, unavailable, expected) in table {
        let mut wanted = deployment(replicas);
        wanted["spec"]["strategy"] = json!({ "type": "RollingUpdate",
            "rollingUpdate": { "maxSurge": count(surge), "maxUnavailable": count(unavailable) } });
        let mut world = running(wanted);
        set_image(&mut world, "two");
        let mut seen = Vec::new();
        for _ in 0..20 {
            world.settle();
            world.bury();
            world.settle();
            let sizes = sizes(&world, &["one", "two"]);
            if seen.last() != Some(&sizes) {
                seen.push(sizes);
            }
            world.make_all_ready();
        }
        assert_eq!(seen, expected, "{name}");
        assert_eq!(condition(&world, "Progressing").1, "NewReplicaSetAvailable", "{name}");
    }
}

#[test]
fn gives_up_useless_pods_first() {
    let mut world = running(deployment(4));
    set_image(&mut world, "broken");
    world.settle();
    assert_eq!(sizes(&world, &["one", "broken"]), [3, 2]);
    // The broken pods never are ready; the next template takes their place, not that of good ones.
    set_image(&mut world, "two");
    world.settle();
    assert_eq!(sizes(&world, &["one", "broken", "two"]), [3, 0, 2]);
}

#[test]
fn recreates() {
    let mut wanted = deployment(2);
    wanted["spec"]["strategy"] = json!({ "type": "Recreate" });
    let mut world = running(wanted);
    set_image(&mut world, "two");
    world.settle();
    assert_eq!(sizes(&world, &["one"]), [0]);
    assert!(set_of(&world, "two").is_null(), "not while the old pods are there");
    world.bury();
    world.settle();
    assert_eq!(sizes(&world, &["one", "two"]), [0, 2]);
}

#[test]
fn pauses() {
    let mut world = running(deployment(2));
    world.change("Deployment", "web", &json!({ "spec": { "paused": true } }));
    set_image(&mut world, "two");
    world.settle();
    assert_eq!(sizes(&world, &["one"]), [2]);
    assert!(set_of(&world, "two").is_null());
    assert_eq!(condition(&world, "Progressing").1, "DeploymentPaused");
    assert_eq!(number(world.get("Deployment", "web"), "/status/updatedReplicas"), 0);
    world.change("Deployment", "web", &json!({ "spec": { "replicas": 3 } }));
    world.settle();
    assert_eq!(sizes(&world, &["one"]), [3], "it can be scaled nevertheless");
    world.change("Deployment", "web", &json!({ "spec": { "paused": null } }));
    world.settle();
    assert_eq!(sizes(&world, &["two"]), [1]);
    assert_eq!(condition(&world, "Progressing").1, "ReplicaSetUpdated");
}

#[test]
fn rolls_back_to_a_template_of_before() {
    let mut world = running(deployment(1));
    let roll = |world: &mut World, image: &str| {
        set_image(world, image);
        for _ in 0..5 {
            world.settle();
            world.make_all_ready();
            world.bury();
        }
    };
    roll(&mut world, "two");
    let first = set_of(&world, "one");
    roll(&mut world, "one");
    let back = set_of(&world, "one");
    assert_eq!(back["metadata"]["uid"], first["metadata"]["uid"]);
    let annotation = |object: &Value, name: &str| {
        text(object, &format!("/metadata/annotations/deployment.kubernetes.io~1{name}")).to_owned()
    };
    assert_eq!(
        (annotation(&back, "revision"), annotation(&back, "revision-history")),
        ("3".into(), "1".into())
    );
    assert_eq!(annotation(world.get("Deployment", "web"), "revision"), "3");
    roll(&mut world, "two");
    roll(&mut world, "one");
    assert_eq!(annotation(&set_of(&world, "one"), "revision-history"), "1,3");
    assert_eq!(annotation(&set_of(&world, "one"), "revision"), "5");
    assert_eq!(sizes(&world, &["one", "two"]), [1, 0]);
}

#[test]
fn keeps_so_much_history() {
    let mut wanted = deployment(1);
    wanted["spec"]["revisionHistoryLimit"] = json!(2);
    let mut world = running(wanted);
    for image in ["two", "three", "four", "five"] {
        set_image(&mut world, image);
        for _ in 0..5 {
            world.settle();
            world.make_all_ready();
            world.bury();
        }
    }
    assert_eq!(world.of_kind("ReplicaSet").len(), 3);
    assert!(set_of(&world, "two").is_null() && !set_of(&world, "three").is_null());
}

#[test]
fn scales_in_proportion() {
    let mut wanted = deployment(10);
    wanted["spec"]["strategy"] =
        json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 3, "maxUnavailable": 2 } });
    let mut world = running(wanted);
    set_image(&mut world, "broken");
    world.settle();
    assert_eq!(sizes(&world, &["one", "broken"]), [8, 5]);
    // The documentation's example: of five more, three go to the larger and two to the smaller.
    world.change("Deployment", "web", &json!({ "spec": { "replicas": 15 } }));
    let step = world.deployment("web");
    world.apply(&step);
    assert_eq!(sizes(&world, &["one", "broken"]), [11, 7]);
    world.settle();
    world.change("Deployment", "web", &json!({ "spec": { "replicas": 0 } }));
    world.settle();
    assert_eq!(sizes(&world, &["one", "broken"]), [0, 0]);
}

#[test]
fn what_rounding_leaves_goes_to_the_newest() {
    let mut world = World::new();
    let mut wanted = deployment(4);
    wanted["spec"]["strategy"] =
        json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 0, "maxUnavailable": 1 } });
    world.put(wanted);
    for image in ["three", "two", "one"] {
        world.put(json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": { "name": format!("web-{image}"), "labels": { "app": "web" },
                "annotations": { "deployment.kubernetes.io/desired-replicas": "3",
                    "deployment.kubernetes.io/max-replicas": "3" } },
            "spec": { "replicas": 1, "selector": { "matchLabels": { "app": "web" } }, "template": template(image) },
            "status": { "replicas": 1 },
        }));
        world.now += 60;
    }
    let step = world.deployment("web");
    world.apply(&step);
    assert_eq!(sizes(&world, &["one", "two", "three"]), [2, 1, 1]);
}

#[test]
fn says_that_it_is_stuck() {
    let mut world = running(deployment(1));
    set_image(&mut world, "broken");
    world.settle();
    let again = world.deployment("web").again.expect("a deadline").unix();
    assert_eq!(again, world.now + 601);
    world.now += 600;
    world.settle();
    assert_eq!(condition(&world, "Progressing").0, "True");
    world.now += 1;
    world.settle();
    let (status, reason, message) = condition(&world, "Progressing");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "ProgressDeadlineExceeded"));
    assert!(message.ends_with("has timed out progressing."), "{message}");
    world.make_all_ready();
    world.settle();
    assert_eq!(condition(&world, "Progressing").1, "NewReplicaSetAvailable");
}

#[test]
fn finds_another_name() {
    let mut world = World::new();
    world.put(deployment(1));
    let step = world.deployment("web");
    let wanted = lines(&step)[0].clone();
    let name = wanted.strip_prefix("create ReplicaSet ").expect("a set");
    world.put(json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": { "name": name },
        "spec": { "replicas": 0, "selector": { "matchLabels": { "x": "y" } } } }));
    let step = world.deployment("web");
    assert!(step.again.is_some());
    world.apply(&step);
    assert_eq!(number(world.get("Deployment", "web"), "/status/collisionCount"), 1);
    world.settle();
    assert_eq!(world.of_kind("ReplicaSet").len(), 2);
}

#[test]
fn selects_nothing_without_a_selector() {
    let mut world = World::new();
    let mut wanted = deployment(1);
    wanted["spec"]["selector"] = json!({});
    world.put(wanted);
    let log = world.settle();
    assert_eq!(
        log,
        [
            "Deployment web SelectingAll: This deployment is selecting all pods. A non-empty selector is required."
        ]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever is done and whichever pods are ready in between, there are never more pods than
    /// the surge allows, and never fewer available ones than must be, unless they were so before.
    #[test]
    fn keeps_within_its_bounds(
        replicas in 1_i64..8, surge in 0_i64..4, unavailable in 0_i64..4,
        events in proptest::collection::vec((0_u8..4, 0_usize..20), 1..30),
    ) {
        let mut wanted = deployment(replicas);
        wanted["spec"]["strategy"] = json!({ "type": "RollingUpdate",
            "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } });
        let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
        let mut world = running(wanted);
        let ready = |world: &World| {
            let pods = world.of_kind("Pod");
            let is_ready = |pod: &&&Value| {
                text(pod, "/status/phase") == "Running" && pod.pointer("/metadata/deletionTimestamp").is_none()
            };
            i64::try_from(pods.iter().filter(is_ready).count()).expect("few")
        };
        for (kind, which) in events {
            match kind {
                0 => set_image(&mut world, ["one", "two", "three"][which % 3]),
                1 => world.bury(),
                _ => {
                    let names = world.names("Pod");
                    let name = names.get(which % names.len().max(1)).cloned();
                    let Some(name) = name else { continue };
                    if world.get("Pod", &name).pointer("/metadata/deletionTimestamp").is_none() {
                        world.make_ready(&name);
                    }
                }
            }
            world.settle();
            let total: i64 = world.of_kind("ReplicaSet").iter().map(|set| number(set, "/spec/replicas")).sum();
            prop_assert!(total <= replicas + surge, "{total} pods");
            prop_assert!(ready(&world) >= replicas - unavailable, "{} ready", ready(&world));
        }
        for _ in 0..40 {
            world.make_all_ready();
            world.bury();
            world.settle();
        }
        let deployment = world.get("Deployment", "web");
        prop_assert_eq!(number(deployment, "/status/updatedReplicas"), replicas);
        prop_assert_eq!(number(deployment, "/status/replicas"), replicas);
    }
}

//! Owners and what they own.

use portolan_controllers::manager::{Anything, garbage};
use serde_json::{Value, json};

use crate::world::{lines, time};

fn object(name: &str, more: &Value) -> Value {
    let mut object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": "shop", "uid": name } });
    for (key, value) in more.as_object().into_iter().flatten() {
        object["metadata"][key] = value.clone();
    }
    object
}

fn owners(names: &[&str]) -> Value {
    let owner = |name: &&str| {
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": name, "controller": true,
            "blockOwnerDeletion": true })
    };
    json!({ "ownerReferences": names.iter().map(owner).collect::<Vec<_>>() })
}

fn merged(a: Value, b: &Value) -> Value {
    let mut a = a;
    for (key, value) in b.as_object().into_iter().flatten() {
        a[key] = value.clone();
    }
    a
}

/// What, the objects, the one that is looked at, and what is wanted.
type Situation = (&'static str, Vec<Value>, &'static str, Vec<String>);

fn situations() -> Vec<Situation> {
    let deleting = |finalizers: Value| json!({ "deletionTimestamp": time(0), "finalizers": finalizers });
    let foreground = deleting(json!(["foregroundDeletion"]));
    let update = |name: &str, field: &str, value: &Value| {
        format!("update ConfigMap {name} {{\"metadata\":{{\"{field}\":{value}}}}}")
    };
    let none = json!([]);
    vec![
        ("nobody's", vec![object("x", &json!({}))], "x", vec![]),
        ("its owner is there", vec![object("o", &json!({})), object("x", &owners(&["o"]))], "x", vec![]),
        ("its owner is gone", vec![object("x", &owners(&["o"]))], "x", vec!["delete ConfigMap x".into()]),
        (
            "its owner is another one now",
            vec![object("o", &json!({ "uid": "new" })), object("x", &owners(&["o"]))],
            "x",
            vec!["delete ConfigMap x".into()],
        ),
        (
            "one owner stays",
            vec![object("p", &json!({})), object("x", &owners(&["o", "p"]))],
            "x",
            vec![update("x", "ownerReferences", &owners(&["p"])["ownerReferences"])],
        ),
        (
            "its owner waits for it",
            vec![object("o", &foreground), object("x", &owners(&["o"]))],
            "x",
            vec!["delete ConfigMap x".into()],
        ),
        (
            "and it has its own, for which it waits, too",
            vec![object("o", &foreground), object("x", &owners(&["o"])), object("y", &owners(&["x"]))],
            "x",
            vec!["delete ConfigMap x Foreground None".into()],
        ),
        (
            "its owner is on its way out for another reason",
            vec![object("o", &deleting(json!(["mine"]))), object("x", &owners(&["o"]))],
            "x",
            vec![],
        ),
        ("it waits", vec![object("x", &foreground), object("y", &owners(&["x"]))], "x", vec![]),
        (
            "it waits for nothing that does not block it",
            vec![
                object("x", &foreground),
                object(
                    "y",
                    &json!({ "ownerReferences": [{ "kind": "ConfigMap", "name": "x", "uid": "x" }] }),
                ),
            ],
            "x",
            vec![update("x", "finalizers", &none)],
        ),
        (
            "it has waited",
            vec![object("x", &deleting(json!(["foregroundDeletion", "mine"])))],
            "x",
            vec![update("x", "finalizers", &json!(["mine"]))],
        ),
        (
            "it lets go",
            vec![object("x", &deleting(json!(["orphan"]))), object("y", &owners(&["x"]))],
            "x",
            vec![update("y", "ownerReferences", &none), update("x", "finalizers", &none)],
        ),
        (
            "it is gone already",
            vec![object("x", &merged(owners(&["o"]), &deleting(json!(["mine"]))))],
            "x",
            vec![],
        ),
    ]
}

#[test]
fn collects() {
    for (name, objects, which, expected) in situations() {
        let objects: Vec<Anything> =
            objects.iter().map(|object| Anything::read(object).expect("readable")).collect();
        let object = objects.iter().find(|object| object.name() == which).expect("there");
        let step = garbage(
            object,
            |reference| objects.iter().find(|object| object.name() == reference.name),
            &objects,
        );
        assert_eq!(lines(&step), expected, "{name}");
    }
}

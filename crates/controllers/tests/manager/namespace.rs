//! Namespaces.

use portolan_controllers::manager::{Anything, Namespace, Step, namespace};
use serde_json::json;

use crate::world::{World, lines, text, time};

fn look(world: &mut World) -> Step {
    world.with(|world, circumstances| {
        let found: Namespace = world.read("Namespace").pop().expect("a namespace");
        let content: Vec<Anything> =
            world.objects.values().map(|object| Anything::read(object).expect("readable")).collect();
        namespace(&found, &content, circumstances)
    })
}

#[test]
fn has_an_account() {
    let mut world = World::new();
    world.put(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } }));
    let step = look(&mut world);
    assert_eq!(world.apply(&step), ["create ServiceAccount default"]);
    assert_eq!(look(&mut world).writes, []);
}

#[test]
fn goes_when_it_is_empty() {
    let mut world = World::new();
    world.put(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop", "deletionTimestamp": time(0) },
        "spec": { "finalizers": ["kubernetes", "mine"] }, "status": { "phase": "Terminating" } }));
    world.put(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "finalizers": ["f"] } }));
    world.put(json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "s" } }));
    world.put(
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "t", "namespace": "other" } }),
    );
    let step = look(&mut world);
    let log = world.apply(&step);
    assert_eq!(log[..2], ["delete Pod p", "delete Service s"]);
    let step = look(&mut world);
    world.apply(&step);
    let namespace = world.of_kind("Namespace")[0];
    assert_eq!(
        text(namespace, "/status/conditions/1/message"),
        "Some content in the namespace has finalizers remaining: f in 1 resource instances"
    );
    world.bury_pods();
    let step = look(&mut world);
    assert_eq!(lines(&step), ["update Namespace shop {\"spec\":{\"finalizers\":[\"mine\"]}}"]);
    world.apply(&step);
    assert_eq!(look(&mut world).writes, []);
}

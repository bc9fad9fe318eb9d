//! What only names come from: followed where names are wanted, and nowhere else.

use std::time::Instant;

use portolan_apiserver::Resource;
use portolan_kubernetes::{Followed, Origin};
use serde_json::{Value, json};

use crate::fixture::{Cluster, PATIENCE, namespace, pod, service, slice};

const NAMES_AND_PODS: Followed = Followed { node: false, names: true, pods: true };

/// A slice of type FQDN.
fn targets(name: &str, target: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": "shop", "name": name, "labels": {"kubernetes.io/service-name": "a"}},
        "addressType": "FQDN", "endpoints": [{"addresses": [target]}], "ports": [],
    })
}

/// [`slice`] with an endpoint that has two addresses.
fn two_addresses(service: &str) -> Value {
    let mut object = slice(service, &[]);
    object["endpoints"] = json!([{"addresses": ["10.1.0.1", "10.1.0.9", "fd00::1"]}]);
    object
}

fn requested(cluster: &Cluster, resource: Resource) -> bool {
    cluster.server.look(|state| state.requests().iter().any(|request| request.resource == Some(resource)))
}

#[test]
fn what_names_come_from_is_followed() {
    let mut cluster = Cluster::small();
    let mut headless = slice("h", &["10.1.0.7"]);
    headless["metadata"]["labels"]["service.kubernetes.io/headless"] = json!("");
    let mut leaving = pod("leaving", "Running", &["10.1.0.3"]);
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    cluster
        .server
        .load([
            namespace("shop", &json!({"team": "a", "kubernetes.io/metadata.name": "shop"})),
            service("h", "None"),
            headless,
            two_addresses("a"),
            targets("a-t", "web.example"),
            pod("p", "Running", &["10.1.0.1", "fd00::1"]),
            pod("done", "Succeeded", &["10.1.0.2"]),
            leaving,
        ])
        .unwrap();
    cluster.followed = NAMES_AND_PODS;
    let proxy = cluster.follow();
    proxy.wait("start", |proxy| proxy.names_complete);
    assert_eq!(
        proxy.words(),
        "further shop/a-1+: 10.1.0.9; namespace shop: kubernetes.io/metadata.name=shop team=a; \
         pod shop/p: 10.1.0.1 fd00::1; targets shop/a-t: web.example"
    );
    assert_eq!(proxy.known()["h"], ["10.1.0.7"], "headless Services");
    assert_eq!(proxy.known()["a"], ["10.96.0.1", "10.1.0.1"], "rules use the first address only");
    assert_eq!(proxy.resource("pods").received.added, 2, "pods that have ended are not even sent");

    cluster.server.apply(pod("p", "Failed", &["10.1.0.1"])).unwrap();
    cluster.server.apply(slice("a", &["10.1.0.1"])).unwrap();
    cluster.server.apply(targets("a-t", "other.example")).unwrap();
    cluster.server.apply(namespace("empty", &json!({}))).unwrap();
    cluster.server.delete(Resource::Namespaces, "", "shop");
    let proxy = cluster.proxy.as_mut().unwrap();
    let expected = "namespace empty: ; targets shop/a-t: other.example";
    proxy.wait("changed", |proxy| proxy.words() == expected);
    cluster.server.delete(Resource::EndpointSlices, "shop", "a-t");
    cluster.proxy.as_mut().unwrap().wait("removed", |proxy| proxy.words() == "namespace empty: ");
    assert!(!requested(&cluster, Resource::Nodes), "the own Node is not wanted here");
}

#[test]
fn who_wants_no_names_asks_for_none() {
    let mut cluster = Cluster::small();
    cluster.server.load([namespace("shop", &json!({})), two_addresses("a"), targets("a-t", "x")]).unwrap();
    cluster.follow();
    let proxy = cluster.agree("start");
    assert_eq!((proxy.words().as_str(), proxy.names_complete), ("", false));
    assert!(proxy.source.status().report().resources.iter().all(|resource| resource.name != "pods"));
    for resource in [Resource::Namespaces, Resource::Pods] {
        assert!(!requested(&cluster, resource), "{resource:?}");
    }

    let mut cluster = Cluster::small();
    cluster.followed = Followed { names: true, ..Followed::default() };
    cluster.follow().wait("start", |proxy| proxy.names_complete);
    assert!(!requested(&cluster, Resource::Pods), "pods are a wish of their own");
}

#[test]
fn rules_do_not_wait_for_what_only_names_need() {
    for resource in [Resource::Namespaces, Resource::Pods] {
        let mut cluster = Cluster::small();
        cluster.followed = Followed { node: true, ..NAMES_AND_PODS };
        cluster.server.load([namespace("shop", &json!({})), pod("p", "Running", &["10.1.0.1"])]).unwrap();
        cluster.server.answer_always(resource, Some(403));
        cluster.follow();
        let proxy = cluster.agree("not allowed to see it");
        assert_eq!(
            (&proxy.origins[..], proxy.names_complete),
            (&[Origin::Initial][..], false),
            "{resource:?}"
        );
        cluster.server.answer_always(resource, None);
        let proxy = cluster.proxy.as_mut().unwrap();
        proxy.wait("allowed", |proxy| proxy.names_complete);
        assert_eq!(proxy.words(), "namespace shop: ; pod shop/p: 10.1.0.1", "{resource:?}");
    }
}

#[test]
fn what_happened_while_the_server_was_away_is_found_by_a_list() {
    let mut cluster = Cluster::small();
    cluster.followed = NAMES_AND_PODS;
    cluster.server.load([namespace("shop", &json!({})), namespace("old", &json!({}))]).unwrap();
    cluster
        .server
        .load([pod("p", "Running", &["10.1.0.1"]), two_addresses("a"), targets("b-1", "x")])
        .unwrap();
    cluster.follow().wait("start", |proxy| proxy.names_complete);
    cluster.server.down();
    cluster.server.delete(Resource::Namespaces, "", "old");
    cluster.server.delete(Resource::Pods, "shop", "p");
    cluster.server.delete(Resource::EndpointSlices, "shop", "a-1");
    // The same name, and another type.
    cluster.server.delete(Resource::EndpointSlices, "shop", "b-1");
    cluster.server.apply(service("b", "10.96.0.2")).unwrap();
    cluster.server.apply(slice("b", &["10.1.0.5"])).unwrap();
    cluster.server.forget();
    cluster.server.up();
    let proxy = cluster.agree("back");
    proxy.wait("back", |proxy| proxy.words() == "namespace shop: ");
}

#[test]
fn names_outlive_the_server_on_disk() {
    let mut cluster = Cluster::small();
    cluster.followed = NAMES_AND_PODS;
    cluster.snapshot = Some(cluster.folder.path().join("state"));
    cluster
        .server
        .load([namespace("shop", &json!({"a": "b"})), two_addresses("a"), targets("a-t", "x")])
        .unwrap();
    cluster.server.load([pod("p", "Running", &["10.1.0.1"])]).unwrap();
    cluster.follow().wait("start", |proxy| proxy.names_complete);
    let known = cluster.proxy.as_ref().unwrap().words();
    written(&cluster, "EndpointSlice EndpointSlice Namespace Pod Service");
    cluster.proxy.take();
    cluster.server.down();

    let proxy = cluster.follow();
    proxy.wait("from the snapshot", |proxy| !proxy.origins.is_empty());
    assert!(matches!(proxy.origins[..], [Origin::Snapshot { .. }]), "{:?}", proxy.origins);
    assert_eq!((proxy.words(), proxy.names_complete), (known.clone(), true));
    cluster.server.up();
    cluster.server.delete(Resource::Pods, "shop", "p");
    let proxy = cluster.proxy.as_mut().unwrap();
    proxy.wait("the server is back", |proxy| !proxy.words().contains("pod"));
    assert_eq!(proxy.words(), known.replace("pod shop/p: 10.1.0.1; ", ""));
    written(&cluster, "EndpointSlice EndpointSlice Namespace Service");
    cluster.proxy.take();

    // A proxy that wants no names takes none from the same file, and drops them from it.
    cluster.server.down();
    cluster.followed = Followed::default();
    let proxy = cluster.follow();
    proxy.wait("from the snapshot", |proxy| !proxy.origins.is_empty());
    assert_eq!((proxy.words().as_str(), proxy.names_complete), ("", false));
    cluster.server.up();
    cluster.agree("the server is back");
    written(&cluster, "EndpointSlice EndpointSlice Node Service");
    cluster.proxy.take();

    // Then absent names are not known to be absent.
    cluster.server.down();
    cluster.followed = NAMES_AND_PODS;
    let proxy = cluster.follow();
    proxy.wait("from the snapshot", |proxy| !proxy.origins.is_empty());
    assert!(!proxy.names_complete);
}

/// Waits until objects of just these kinds are in the snapshot.
#[track_caller]
fn written(cluster: &Cluster, kinds: &str) {
    let file = cluster.snapshot.clone().expect("a snapshot");
    let until = Instant::now() + PATIENCE;
    let there = || {
        let mut kinds = Vec::new();
        // It may be missing, or be replaced, at the moment.
        let _ = portolan_kubernetes::snapshot::read(&file, |entry| kinds.push(entry.kind.to_owned()));
        kinds.sort();
        kinds.join(" ")
    };
    while there() != kinds {
        assert!(Instant::now() < until, "the state is written: {}", there());
        std::thread::yield_now();
    }
}

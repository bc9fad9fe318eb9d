//! The controller against an API server that behaves as a real one does: over HTTPS, with Leases,
//! versions and status.

mod fixture;
mod leases;

use std::time::Duration;

use portolan_apiserver::{Resource, State};
use serde_json::{Value, json};

use crate::fixture::{Cluster, addresses, pools, service};

#[test]
fn addresses_are_given_and_given_back() {
    let cluster = Cluster::new();
    cluster.apply(service("a", json!({"type": "LoadBalancer"})));
    let _controller = cluster.start("one", &pools(&["192.0.2.240-192.0.2.241"]));
    cluster.await_addresses("a", &["192.0.2.240"]);
    let ingress = cluster.service("a")["status"]["loadBalancer"]["ingress"].clone();
    assert_eq!(ingress, json!([{"ip": "192.0.2.240", "ipMode": "VIP"}]));
    cluster.await_event("a", "IPAllocated", "192.0.2.240 of pool 192.0.2.240-192.0.2.241");

    cluster.apply(service("b", json!({"type": "LoadBalancer"})));
    cluster.apply(service("c", json!({"type": "LoadBalancer"})));
    cluster.apply(service("d", json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/other"})));
    cluster.await_addresses("b", &["192.0.2.241"]);
    cluster.await_event("c", "AllocationFailed", "add a range to it, or delete a Service that has one");
    let condition = |service: &Value| service["status"]["conditions"][0]["reason"].clone();
    cluster.wait("c has a condition", |state| condition(&object(state, "c")) == "AllocationFailed");

    // One that is deleted, and one that is of another type then.
    assert!(cluster.server.delete(Resource::Services, "shop", "a"));
    cluster.await_addresses("c", &["192.0.2.240"]);
    cluster.wait("c has no condition", |state| condition(&object(state, "c")).is_null());
    let mut changed = cluster.service("b");
    changed["spec"]["type"] = "ClusterIP".into();
    cluster.apply(changed);
    cluster.await_addresses("b", &[]);
    cluster.apply(service("e", json!({"type": "LoadBalancer"})));
    cluster.await_addresses("e", &["192.0.2.241"]);
    assert_eq!(addresses(&cluster.service("d")), Vec::<String>::new(), "of another class");
}

#[test]
fn services_that_metallb_has_served_move_over() {
    let cluster = Cluster::new();
    let mut asks = service("asks", json!({"type": "LoadBalancer"}));
    asks["metadata"]["annotations"] = json!({"metallb.io/loadBalancerIPs": "192.0.2.245"});
    let mut has = service("has", json!({"type": "LoadBalancer"}));
    has["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.240"}]}});
    cluster.apply(asks);
    cluster.apply(has);
    cluster.apply(service("new", json!({"type": "LoadBalancer"})));
    let _controller = cluster.start("one", &pools(&["192.0.2.240/28"]));
    cluster.await_addresses("asks", &["192.0.2.245"]);
    cluster.await_addresses("new", &["192.0.2.241"]);
    cluster.await_addresses("has", &["192.0.2.240"]);
    let writes = cluster.writes("one");
    assert!(!writes.iter().any(|path| path.contains("/has/")), "it is as it should be: {writes:?}");
}

#[test]
fn pools_change_while_it_runs() {
    let cluster = Cluster::new();
    cluster.apply(service("a", json!({"type": "LoadBalancer"})));
    cluster.apply(service("b", json!({"type": "LoadBalancer"})));
    let controller = cluster.start("one", &pools(&["192.0.2.1", "198.51.100.1"]));
    cluster.await_addresses("a", &["192.0.2.1"]);
    cluster.await_addresses("b", &["198.51.100.1"]);
    controller.set_pools(pools(&["203.0.113.1", "198.51.100.1"]));
    cluster.await_addresses("a", &["203.0.113.1"]);
    cluster.await_addresses("b", &["198.51.100.1"]);
    // Without any pool nobody loses an address, and nobody gets one.
    controller.set_pools(pools(&[]));
    cluster.apply(service("c", json!({"type": "LoadBalancer"})));
    controller.set_pools(pools(&["203.0.113.1-203.0.113.9", "198.51.100.1"]));
    cluster.await_addresses("c", &["203.0.113.2"]);
    cluster.await_addresses("a", &["203.0.113.1"]);
}

#[test]
fn namespaces_are_selected_by_their_labels() {
    let cluster = Cluster::new();
    let mut bank = pools(&["192.0.2.0/28", "198.51.100.0/28"]);
    let selector = portolan_service::LabelSelector {
        labels: [("kind".to_owned(), "bank".to_owned())].into(),
        ..portolan_service::LabelSelector::default()
    };
    bank.pools[1].allocation = Some(portolan_service::PoolAllocation {
        namespace_selectors: vec![selector],
        ..portolan_service::PoolAllocation::default()
    });
    cluster.apply(service("a", json!({"type": "LoadBalancer"})));
    let _controller = cluster.start("one", &bank);
    cluster.await_addresses("a", &["192.0.2.0"]);
    cluster.apply(json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"kind": "bank"}},
    }));
    // The API server sends this after what it has sent of the Namespace, or before: both are right,
    // so that the order is made certain by asking again.
    cluster.wait_with("b has one of the pool for banks", |cluster| {
        cluster.server.delete(Resource::Services, "shop", "b");
        cluster.apply(service("b", json!({"type": "LoadBalancer"})));
        cluster.soon(|state| !addresses(&object(state, "b")).is_empty())
            && addresses(&cluster.service("b"))[0].starts_with("198.51.100.")
    });
}

#[test]
fn a_service_that_has_changed_is_worked_out_anew() {
    let cluster = Cluster::new();
    let _controller = cluster.start("one", &pools(&["192.0.2.0/28"]));
    cluster.apply(service("a", json!({"type": "LoadBalancer"})));
    cluster.await_addresses("a", &["192.0.2.0"]);
    // Nothing but watches is open: the next request is the write.
    cluster.server.answer_next(1, Some(Resource::Services), 409, None);
    cluster.apply(service("b", json!({"type": "LoadBalancer"})));
    cluster.await_addresses("b", &["192.0.2.1"]);
    for code in [500, 503, 422, 429] {
        cluster.server.answer_next(1, Some(Resource::Services), code, None);
        let name = format!("c{code}");
        cluster.apply(service(&name, json!({"type": "LoadBalancer"})));
        cluster.wait(&name, |state| addresses(&object(state, &name)).len() == 1);
    }
    let mut all: Vec<String> =
        cluster.server.look(|state| state.objects(Resource::Services)).iter().flat_map(addresses).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 6, "none is given twice: {all:?}");
}

#[test]
fn an_api_server_that_is_away_changes_nothing() {
    let cluster = Cluster::new();
    cluster.apply(service("a", json!({"type": "LoadBalancer"})));
    let controller = cluster.start("one", &pools(&["192.0.2.0/28"]));
    cluster.await_addresses("a", &["192.0.2.0"]);
    cluster.server.down();
    cluster.apply(service("b", json!({"type": "LoadBalancer"})));
    assert!(cluster.server.delete(Resource::Services, "shop", "a"));
    // Long enough that the Lease is over.
    cluster.wait_with("it leads no more", |_| !controller.status().report().leads);
    cluster.server.up();
    cluster.wait("b has an address", |state| addresses(&object(state, "b")).len() == 1);
    cluster.apply(service("c", json!({"type": "LoadBalancer"})));
    cluster.wait("c has another", |state| {
        let (b, c) = (addresses(&object(state, "b")), addresses(&object(state, "c")));
        c.len() == 1 && b != c
    });
    assert!(controller.status().is_alive(Duration::from_secs(20)));
}

#[test]
fn how_it_goes_is_reported() {
    let cluster = Cluster::new();
    for name in ["a", "b", "c"] {
        cluster.apply(service(name, json!({"type": "LoadBalancer"})));
    }
    let controller = cluster.start("one", &pools(&["192.0.2.0/31"]));
    cluster.wait_with("two have one, and one waits", |_| {
        let report = controller.status().report();
        let used = report.pools.first().map(|pool| (pool.size, pool.used));
        report.leads && used == Some((2, 2)) && report.waiting == 1 && report.written == 3
    });
    assert!(controller.status().is_ready(Duration::from_secs(20)));
}

/// A Service as it is stored.
fn object(state: &State, name: &str) -> Value {
    state.object(Resource::Services, "shop", name).unwrap_or_default()
}

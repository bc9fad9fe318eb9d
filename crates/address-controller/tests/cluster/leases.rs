//! One of several controllers writes, and another one takes over.

use std::time::{Duration, Instant};

use portolan_address_controller::election::Timing;
use portolan_apiserver::Resource;
use serde_json::json;

use crate::fixture::{Cluster, Path, hurried, pools, service};

#[test]
fn a_restart_keeps_addresses_and_need_not_wait() {
    let cluster = Cluster::new();
    for name in ["a", "b", "c"] {
        cluster.apply(service(name, json!({"type": "LoadBalancer"})));
    }
    // Of minutes: who waits for its end fails the test.
    let long = Timing { lease: Duration::from_mins(5), ..Timing::default() };
    let ranges = pools(&["192.0.2.0/28"]);
    let mut first = cluster.start_with("one", &ranges, &cluster.server.url(), long);
    cluster.await_addresses("c", &["192.0.2.2"]);
    assert_eq!(cluster.lease()["spec"]["holderIdentity"], "one");
    assert_eq!(cluster.lease()["spec"]["leaseDurationSeconds"], 300);
    first.stop();
    assert_eq!(cluster.lease()["spec"]["holderIdentity"], "");
    assert!(cluster.server.delete(Resource::Services, "shop", "a"));
    cluster.apply(service("d", json!({"type": "LoadBalancer"})));
    let _second = cluster.start_with("two", &ranges, &cluster.server.url(), long);
    cluster.await_addresses("d", &["192.0.2.0"]);
    cluster.await_addresses("b", &["192.0.2.1"]);
    cluster.await_addresses("c", &["192.0.2.2"]);
    assert_eq!(cluster.writes("two").len(), 1, "nothing but what is new");
    assert_eq!(cluster.lease()["spec"]["leaseTransitions"], 1);
}

#[test]
fn one_of_two_writes_and_the_other_takes_over() {
    let cluster = Cluster::new();
    let ranges = pools(&["192.0.2.0/28"]);
    let first = cluster.start("one", &ranges);
    cluster.wait_with("one leads", |_| first.status().report().leads);
    let second = cluster.start("two", &ranges);
    for number in 0..5_u8 {
        let name = format!("a{number}");
        cluster.apply(service(&name, json!({"type": "LoadBalancer"})));
        cluster.await_addresses(&name, &[&format!("192.0.2.{number}")]);
    }
    assert!(cluster.writes("two").is_empty() && !second.status().report().leads);
    // As a crash would: nothing is given back.
    drop(first);
    let killed = Instant::now();
    cluster.apply(service("b", json!({"type": "LoadBalancer"})));
    cluster.await_addresses("b", &["192.0.2.5"]);
    assert!(killed.elapsed() >= hurried().lease / 2, "the Lease was over: {:?}", killed.elapsed());
    assert_eq!(cluster.lease()["spec"]["holderIdentity"], "two");
    assert_eq!(cluster.writes("two"), ["/api/v1/namespaces/shop/services/b/status"]);
}

#[test]
fn who_was_held_up_does_not_write_afterwards() {
    let cluster = Cluster::new();
    let ranges = pools(&["192.0.2.0/28"]);
    let path = Path::to(cluster.server.address());
    let first = cluster.start_with("one", &ranges, &path.url(), hurried());
    cluster.apply(service("a", json!({"type": "LoadBalancer"})));
    cluster.await_addresses("a", &["192.0.2.0"]);
    let second = cluster.start("two", &ranges);
    path.hold_up(true);
    // It waits behind the gate, for the first one to see, until the second one has done it.
    cluster.apply(service("b", json!({"type": "LoadBalancer"})));
    cluster.await_addresses("b", &["192.0.2.1"]);
    assert!(second.status().report().leads);
    cluster.wait_with("the first one knows", |_| !first.status().report().leads);
    let before = cluster.writes("one");
    path.hold_up(false);
    for number in 2..8_u8 {
        let name = format!("c{number}");
        cluster.apply(service(&name, json!({"type": "LoadBalancer"})));
        cluster.await_addresses(&name, &[&format!("192.0.2.{number}")]);
    }
    cluster.wait_with("the first one hears again", |_| first.status().is_ready(Duration::from_millis(500)));
    assert_eq!(cluster.writes("one"), before, "nothing after it was held up");
    assert!(!first.status().report().leads && second.status().report().leads);
    cluster.await_addresses("a", &["192.0.2.0"]);
    cluster.await_addresses("b", &["192.0.2.1"]);
}

#[test]
fn what_others_have_written_into_the_lease_stays() {
    let cluster = Cluster::new();
    cluster.apply(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"namespace": "kube-system", "name": "portolan-controller", "labels": {"team": "net"}},
        "spec": {"holderIdentity": "", "leaseTransitions": 7},
    }));
    let controller = cluster.start("one", &pools(&["192.0.2.0/28"]));
    cluster.wait_with("it leads", |_| controller.status().report().leads);
    let lease = cluster.lease();
    assert_eq!(lease["metadata"]["labels"]["team"], "net");
    assert_eq!(
        (&lease["spec"]["holderIdentity"], &lease["spec"]["leaseTransitions"]),
        (&json!("one"), &json!(8))
    );
    // Somebody takes it by hand: it is not taken back before it is over.
    let mut taken = lease;
    taken["spec"]["holderIdentity"] = "somebody".into();
    cluster.apply(taken);
    cluster.wait_with("it leads no more", |_| !controller.status().report().leads);
    assert_eq!(cluster.lease()["spec"]["holderIdentity"], "somebody");
    cluster.wait_with("it leads again", |_| controller.status().report().leads);
    assert_eq!(cluster.lease()["spec"]["leaseTransitions"], 9);
}

//! The state on disk stands in for a server that is gone.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use portolan_apiserver::Resource;
use portolan_kubernetes::Origin;

use crate::fixture::{Cluster, PATIENCE, service, service_cidr, slice};

/// A cluster with two Services whose state is on disk, and its proxy ended.
fn remembered() -> Cluster {
    let mut cluster = Cluster::small();
    cluster.server.load([service("b", "10.96.0.2"), service_cidr("kubernetes", "10.96.0.0/12")]).unwrap();
    let file = cluster.folder.path().join("state");
    cluster.snapshot = Some(file.clone());
    cluster.follow();
    cluster.agree("start");
    // Two Services, a slice, a Node and a ServiceCIDR; the journal says when each is in the file.
    let until = Instant::now() + PATIENCE;
    while portolan_kubernetes::snapshot::read(&file, |_| {})
        .ok()
        .flatten()
        .is_none_or(|loaded| loaded.objects < 5)
    {
        assert!(Instant::now() < until, "the state is written");
        std::thread::yield_now();
    }
    cluster.proxy.take();
    cluster.server.down();
    cluster
}

#[test]
fn a_server_that_is_gone_at_the_start_is_replaced_by_the_snapshot() {
    let mut cluster = remembered();
    let proxy = cluster.follow();
    proxy.wait("from the snapshot", |proxy| !proxy.origins.is_empty());
    assert!(matches!(proxy.origins[..], [Origin::Snapshot { taken }] if taken <= SystemTime::now()));
    assert_eq!(proxy.known()["a"], ["10.96.0.1", "10.1.0.1"]);
    assert_eq!(proxy.known()["b"], ["10.96.0.2"]);
    assert_eq!(proxy.node.as_ref().map(|node| &*node.name), Some("n1"));
    assert!(proxy.networks.is_some(), "ServiceCIDRs, too");
    let report = proxy.source.status().report();
    assert!(report.snapshot.is_some() && report.age.is_none(), "says that it did");
    let before = proxy.changes;

    cluster.server.delete(Resource::Services, "shop", "b");
    cluster.server.apply(service("c", "10.96.0.3")).unwrap();
    cluster.server.up();
    let proxy = cluster.agree("the server is back");
    assert_eq!(proxy.changes - before, 2, "the difference to the snapshot");
    assert_eq!(proxy.origins.get(1), Some(&Origin::Initial));
    assert_eq!(proxy.source.status().report().snapshot, None);
}

/// Objects of format 1 lacked hostnames and zones: the same version says more when the server is
/// back.
#[test]
fn an_older_snapshot_is_used_and_then_completed() {
    let mut cluster = remembered();
    let file = cluster.snapshot.clone().expect("a snapshot");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[8..12].copy_from_slice(&1_u32.to_le_bytes());
    std::fs::write(&file, bytes).unwrap();
    let proxy = cluster.follow();
    proxy.wait("from the snapshot", |proxy| !proxy.origins.is_empty());
    assert!(matches!(proxy.origins[..], [Origin::Snapshot { .. }]));
    assert_eq!(proxy.known()["a"], ["10.96.0.1", "10.1.0.1"]);
    let before = proxy.changes;
    cluster.server.up();
    let proxy = cluster.proxy.as_mut().expect("a proxy that follows");
    // The Node may come later than the others.
    proxy.wait("two Services, a slice and a Node, though their versions are the same", |proxy| {
        proxy.changes - before >= 4
    });
    assert_eq!(proxy.changes - before, 4);
}

#[test]
fn a_server_that_answers_is_better_than_the_snapshot() {
    let mut cluster = remembered();
    cluster.server.delete(Resource::Services, "shop", "b");
    cluster.server.up();
    cluster.follow();
    let proxy = cluster.agree("start");
    assert_eq!(proxy.origins, [Origin::Initial]);
}

#[test]
fn half_a_server_and_the_snapshot_make_a_whole() {
    let mut cluster = remembered();
    cluster.server.delete(Resource::Services, "shop", "b");
    cluster.server.answer_always(Resource::EndpointSlices, Some(500));
    cluster.server.up();
    let proxy = cluster.follow();
    proxy.wait("Services as they are, endpoints as they were", |proxy| !proxy.origins.is_empty());
    assert_eq!(
        proxy.known(),
        BTreeMap::from([("a".to_owned(), vec!["10.96.0.1".to_owned(), "10.1.0.1".to_owned()])])
    );
    cluster.server.apply(slice("a", &["10.1.0.2"])).unwrap();
    cluster.server.answer_always(Resource::EndpointSlices, None);
    cluster.agree("whole again");
}

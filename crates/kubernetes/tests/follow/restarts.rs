//! Servers that go away, restart, or come back with another history.

use std::time::{Duration, Instant};

use portolan_apiserver::{Credentials, Options as ServerOptions, Resource, Starting};
use portolan_kubernetes::{Origin, Timing};

use crate::fixture::{Cluster, PATIENCE, service, service_cidr, slice};

/// What a restart of the server may cost: as much as it takes to notice, and what a busy machine
/// takes.
const SOON: Duration = Duration::from_secs(3);

#[test]
fn a_server_that_comes_back_from_a_backup_is_believed() {
    for streaming in [true, false] {
        let situation = format!("streaming: {streaming}");
        let mut cluster = Cluster::small();
        cluster.server.offer_streaming_lists(streaming);
        for i in 1..30 {
            cluster.server.apply(service("b", &format!("10.96.1.{i}"))).unwrap();
        }
        cluster.follow();
        cluster.agree(&situation);
        cluster.watched(&situation);
        cluster.server.refuse_connections(true);
        cluster.server.restore(2);
        cluster.server.apply(service("b", "10.96.2.1")).unwrap();
        cluster.server.delete(Resource::EndpointSlices, "shop", "a-1");
        cluster.server.refuse_connections(false);
        cluster.agree(&situation);
        cluster.watched(&situation);
        cluster.server.apply(service("c", "10.96.2.2")).unwrap();
        cluster.agree(&situation);
    }
}

#[test]
fn a_server_that_restarts_is_followed_as_soon_as_it_is_ready() {
    for starting in [Starting::Forbidden, Starting::Initializing] {
        let situation = format!("{starting:?}");
        let mut cluster = Cluster::small();
        cluster.server.apply(service_cidr("kubernetes", "10.96.0.0/12")).unwrap();
        cluster.follow_as(&Credentials::None, Timing::default());
        cluster.agree(&situation);
        cluster.watched(&situation);
        cluster.server.down();
        // An outage that is long enough for pauses to grow.
        let failures = |name| -> u64 {
            let proxy = cluster.proxy.as_ref().unwrap();
            proxy.resource(name).watch_errors.get("unreachable").copied().unwrap_or_default()
        };
        let until = Instant::now() + PATIENCE;
        while failures("services") + failures("endpointslices") < 8 {
            assert!(Instant::now() < until, "{situation}: attempts are made");
            std::thread::yield_now();
        }
        cluster.server.apply(service("a", "10.96.0.2")).unwrap();
        cluster.server.apply(slice("a", &["10.1.0.2"])).unwrap();
        cluster.server.apply(service_cidr("more", "10.112.0.0/12")).unwrap();
        let before = cluster.server.look(|state| state.requests().len());
        cluster.server.boot(starting);
        let booted = Instant::now();
        let asked = cluster.server.wait_for(|state| state.requests().len() >= before + 4, PATIENCE);
        assert!(asked, "{situation}: asked while it starts");
        assert!(
            booted.elapsed() > Duration::from_secs(1),
            "{situation}: four times in {:?}",
            booted.elapsed()
        );
        cluster.server.ready();
        let ready = Instant::now();
        let proxy = cluster.agree(&situation);
        proxy.wait(&situation, |proxy| proxy.networks.as_ref().is_some_and(|networks| networks.len() == 2));
        let behind = ready.elapsed();
        assert!(behind < SOON, "{situation}: {behind:?} behind the server");
    }
}

#[test]
fn a_refusal_of_a_moment_is_no_lasting_one() {
    let mut cluster = Cluster::small();
    cluster.server.apply(service_cidr("kubernetes", "10.96.0.0/12")).unwrap();
    cluster.server.answer_next(1, Some(Resource::ServiceCidrs), 403, None);
    cluster.follow_as(&Credentials::None, Timing::default());
    let begun = Instant::now();
    let proxy = cluster.agree("start");
    proxy.wait("ServiceCIDRs", |proxy| proxy.networks.is_some());
    assert!(begun.elapsed() < SOON, "asked again after {:?}", begun.elapsed());
}

#[test]
fn a_list_that_must_replace_a_watch_is_made_at_once() {
    let mut cluster = Cluster::small();
    cluster.follow_as(&Credentials::None, Timing::default());
    cluster.agree("start");
    cluster.watched("start");
    let lists = cluster.lists();
    cluster.server.forget();
    cluster.server.fail_watches(None, 410, "too old resource version");
    let begun = Instant::now();
    cluster.server.apply(service("b", "10.96.0.2")).unwrap();
    cluster.agree("listed again");
    assert!(begun.elapsed() < Duration::from_secs(1), "after {:?}", begun.elapsed());
    assert!(cluster.lists() > lists, "it did list");
}

#[test]
fn a_history_that_goes_back_is_noticed_soon() {
    for streaming in [true, false] {
        let situation = format!("streaming: {streaming}");
        // Bookmarks as rare as real ones, and patience as long as in a cluster.
        let mut cluster =
            Cluster::new(ServerOptions { streaming_lists: streaming, ..ServerOptions::default() });
        cluster.server.load([service("a", "10.96.0.1"), slice("a", &["10.1.0.1"])]).unwrap();
        for i in 1..30 {
            cluster.server.apply(service("b", &format!("10.96.1.{i}"))).unwrap();
        }
        cluster.follow_as(&Credentials::None, Timing::default());
        cluster.agree(&situation);
        cluster.watched(&situation);
        cluster.server.down();
        cluster.server.restore(2);
        cluster.server.apply(service("b", "10.96.2.1")).unwrap();
        cluster.server.delete(Resource::EndpointSlices, "shop", "a-1");
        cluster.server.up();
        let back = Instant::now();
        let proxy = cluster.agree(&situation);
        assert!(back.elapsed() < Duration::from_secs(10), "{situation}: noticed after {:?}", back.elapsed());
        assert_eq!(proxy.resource("services").watch_errors.get("went_back"), Some(&1), "{situation}");
        cluster.server.apply(service("c", "10.96.2.2")).unwrap();
        cluster.agree(&situation);
    }
}

#[test]
fn a_server_that_is_gone_is_waited_for() {
    let mut cluster = Cluster::small();
    cluster.server.down();
    cluster.follow();
    let proxy = cluster.proxy.as_ref().unwrap();
    let until = Instant::now() + PATIENCE;
    while proxy.resource("services").watch_errors.get("unreachable").is_none_or(|count| *count < 3) {
        assert!(Instant::now() < until, "attempts are made");
        std::thread::yield_now();
    }
    assert!(proxy.updates.try_recv().is_err(), "nothing is known, nothing is said");
    assert_eq!(proxy.source.status().age(), None);
    cluster.server.up();
    let proxy = cluster.agree("at last");
    assert_eq!(proxy.origins, [Origin::Initial]);
}

//! Lists and watches, as servers offer them and cut them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use portolan_apiserver::{Credentials, Options as ServerOptions, Resource};
use portolan_kubernetes::{Origin, Timing};

use crate::fixture::{Cluster, PATIENCE, hurried, service, slice};

#[test]
fn without_streaming_lists_pages_are_read() {
    let mut cluster = Cluster::small();
    cluster.server.offer_streaming_lists(false);
    let many = (0..1203).map(|i| service(&format!("s{i}"), &format!("10.97.{}.{}", i / 250, i % 250 + 1)));
    cluster.server.load(many).unwrap();
    cluster.follow();
    let proxy = cluster.agree("start");
    assert_eq!(proxy.origins, [Origin::Initial], "one update");
    assert_eq!(proxy.resource("services").watch_errors, BTreeMap::new(), "a refusal to stream is no failure");
    let pages = cluster.server.look(|state| {
        let continued = |r: &&portolan_apiserver::Request| r.parameter("continue").is_some();
        state.requests().iter().filter(continued).count()
    });
    assert_eq!(pages, 2, "1204 Services are three pages");
    cluster.watched("after the list");
    cluster.server.apply(service("late", "10.98.0.1")).unwrap();
    cluster.agree("watching");
}

#[test]
fn a_forgotten_history_costs_only_the_differences() {
    for (as_status, streaming) in [(true, true), (false, true), (true, false), (false, false)] {
        let situation = format!("410 as status: {as_status}, streaming lists: {streaming}");
        let mut cluster = Cluster::small();
        cluster.server.offer_streaming_lists(streaming);
        cluster.server.gone_as_status(as_status);
        cluster.server.load([service("b", "10.96.0.2"), service("c", "10.96.0.3")]).unwrap();
        cluster.follow();
        cluster.agree(&situation);
        cluster.watched(&situation);
        let before = cluster.proxy.as_ref().unwrap().changes;
        cluster.server.down();
        cluster.server.apply(service("b", "10.96.0.22")).unwrap();
        cluster.server.delete(Resource::Services, "shop", "c");
        cluster.server.forget();
        cluster.server.up();
        let proxy = cluster.agree(&situation);
        assert_eq!(proxy.changes - before, 2, "{situation}: one changed, one gone");
        cluster.watched(&situation);
        assert_eq!(cluster.proxy.as_ref().unwrap().resource("services").relists, 1, "{situation}");
    }
}

#[test]
fn a_cut_connection_goes_on_where_it_was() {
    let mut cluster = Cluster::small();
    cluster.follow();
    cluster.agree("start");
    cluster.watched("start");
    let lists = cluster.lists();
    for round in 2..5 {
        cluster.server.down();
        cluster.server.apply(service("a", &format!("10.96.0.{round}"))).unwrap();
        cluster.server.up();
        cluster.agree("after a cut");
        cluster.watched("after a cut");
    }
    assert_eq!(cluster.lists(), lists, "nothing was listed again");
}

#[test]
fn a_half_open_connection_is_noticed_and_renewed() {
    let mut cluster = Cluster::small();
    cluster.follow();
    cluster.agree("start");
    cluster.watched("start");
    let lists = cluster.lists();
    cluster.server.mute_watches(None);
    cluster.server.apply(service("b", "10.96.0.2")).unwrap();
    let proxy = cluster.agree("renewed");
    assert_eq!(proxy.resource("services").watch_errors.get("quiet"), Some(&1));
    assert_eq!(cluster.lists(), lists, "nothing was listed again");
}

#[test]
fn a_quiet_watch_with_bookmarks_is_left_alone() {
    let mut cluster = Cluster::small();
    cluster.follow();
    cluster.agree("start");
    cluster.watched("start");
    let bookmarks =
        |cluster: &Cluster| cluster.proxy.as_ref().unwrap().resource("services").received.bookmarks;
    // Longer than a watch may be quiet: bookmarks are what comes.
    let enough = bookmarks(&cluster) + 10;
    let until = Instant::now() + PATIENCE;
    while bookmarks(&cluster) < enough && Instant::now() < until {
        std::thread::yield_now();
    }
    assert!(bookmarks(&cluster) >= enough, "bookmarks come");
    assert_eq!(cluster.proxy.as_ref().unwrap().resource("services").watch_errors, BTreeMap::new());
}

#[test]
fn what_nobody_reads_is_not_asked_for() {
    let mut cluster = Cluster::small();
    cluster.follow();
    cluster.agree("start");
    cluster.server.look(|state| {
        for request in state.requests().iter().filter(|request| request.method == "GET") {
            // KEP-5958, and for servers without it the media type alone.
            let wanted = "application/json;drop=metadata.managedFields,application/json";
            assert_eq!(request.accept, wanted, "{}", request.path);
        }
    });
}

#[test]
fn that_a_watch_is_accepted_makes_the_view_no_younger() {
    let mut cluster = Cluster::new(ServerOptions::default());
    cluster.server.load([service("a", "10.96.0.1"), slice("a", &["10.1.0.1"])]).unwrap();
    let timing = Timing { proof: Duration::from_hours(1), quiet: Duration::from_hours(1), ..hurried() };
    cluster.follow_as(&Credentials::None, timing);
    cluster.agree("start");
    cluster.watched("start");
    let known = Instant::now();
    let watches = |state: &portolan_apiserver::State| {
        let answered = state.requests().iter().filter(|r| r.is_watch() && r.code == Some(200));
        answered.filter(|r| r.resource == Some(Resource::Services)).count()
    };
    for round in 0..3 {
        let before = cluster.server.look(watches);
        cluster.server.cut();
        assert!(cluster.server.wait_for(|state| watches(state) > before, PATIENCE), "watched again");
        cluster.watched("again");
        let age = cluster.proxy.as_ref().unwrap().source.status().age().expect("an age");
        assert!(age >= known.elapsed(), "round {round}: {age:?} of {:?}", known.elapsed());
    }
    // An event is a proof.
    let changed = Instant::now();
    cluster.server.apply(service("b", "10.96.0.2")).unwrap();
    cluster.server.apply(slice("b", &["10.1.0.2"])).unwrap();
    let proxy = cluster.agree("changed");
    assert!(proxy.source.status().age().is_some_and(|age| age <= changed.elapsed()), "younger again");
}

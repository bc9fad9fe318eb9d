//! What cannot be read harms nothing else.

use portolan_apiserver::{Corruption, Resource};

use crate::fixture::{Cluster, service};

#[test]
fn what_does_not_decode_is_skipped_and_the_rest_applied() {
    for how in [Corruption::WrongType, Corruption::NoMetadata, Corruption::Syntax] {
        let situation = format!("{how:?}");
        let mut cluster = Cluster::small();
        cluster.follow();
        cluster.agree(&situation);
        cluster.watched(&situation);
        assert!(cluster.server.corrupt(Resource::Services, "shop", "a", &how));
        cluster.server.apply(service("b", "10.96.0.2")).unwrap();
        let proxy = cluster.proxy.as_mut().unwrap();
        proxy.wait(&situation, |proxy| proxy.known().contains_key("b"));
        assert_eq!(proxy.known()["a"], ["10.96.0.1", "10.1.0.1"], "{situation}: the last good state stays");
        let problem = proxy.problems.first().expect("a problem");
        assert_eq!(problem.kind, "Service", "{situation}");
        if how != Corruption::NoMetadata {
            assert_eq!(problem.name, "shop/a", "{situation}");
            assert_eq!(proxy.resource("services").undecodable, 1, "{situation}");
        }
        // A new list has it as well, and may not take it for removed.
        if how != Corruption::Syntax {
            cluster.server.down();
            cluster.server.forget();
            cluster.server.apply(service("c", "10.96.0.3")).unwrap();
            cluster.server.up();
            let proxy = cluster.proxy.as_mut().unwrap();
            proxy.wait(&situation, |proxy| proxy.known().contains_key("c"));
            assert_eq!(proxy.known()["a"], ["10.96.0.1", "10.1.0.1"], "{situation}: not taken for removed");
        }
        cluster.server.apply(service("a", "10.96.0.11")).unwrap();
        let proxy = cluster.agree(&format!("{situation}, repaired"));
        assert_eq!(proxy.resource("services").undecodable, 0, "{situation}");
        assert!(cluster.server.corrupt(Resource::Services, "shop", "b", &how));
        if how != Corruption::NoMetadata {
            cluster.server.delete(Resource::Services, "shop", "b");
            cluster.agree(&format!("{situation}, deleted"));
        }
    }
}

#[test]
fn rubbish_on_a_watch_harms_nothing() {
    let mut cluster = Cluster::small();
    cluster.follow();
    cluster.agree("start");
    cluster.watched("start");
    for line in
        ["", "rubbish", "{}", r#"{"type":"ADDED"}"#, r#"{"type":"ADDED","object":null}"#, "\u{0}\u{1}"]
    {
        cluster.server.inject(Some(Resource::Services), line);
    }
    cluster.server.apply(service("b", "10.96.0.2")).unwrap();
    let proxy = cluster.agree("after rubbish");
    assert!(proxy.problems.iter().all(|problem| !problem.message.is_empty()));
}

#[test]
fn a_list_that_breaks_off_removes_nothing() {
    for streaming in [true, false] {
        let mut cluster = Cluster::small();
        cluster.server.offer_streaming_lists(streaming);
        cluster.server.load((2..50).map(|i| service(&format!("s{i}"), &format!("10.96.0.{i}")))).unwrap();
        cluster.follow();
        cluster.agree("start");
        cluster.watched("start");
        let before = cluster.proxy.as_ref().unwrap().changes;
        cluster.server.break_next_list(Resource::Services, 3);
        cluster.server.down();
        cluster.server.forget();
        cluster.server.apply(service("new", "10.96.1.1")).unwrap();
        cluster.server.up();
        let proxy = cluster.agree("after a list that broke off");
        assert_eq!(proxy.changes - before, 1, "streaming: {streaming}");
    }
}

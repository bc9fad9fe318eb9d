//! What changes in the cluster comes as updates.

use std::time::{Duration, SystemTime};

use portolan_apiserver::Resource;
use portolan_kubernetes::{Event, Origin, Regarding};
use portolan_service::ObjectName;
use serde_json::json;

use crate::fixture::{Cluster, PATIENCE, node, service, service_cidr, slice};

#[test]
fn everything_comes_at_once_and_then_each_change() {
    let mut cluster = Cluster::small();
    cluster.server.apply(service_cidr("kubernetes", "10.96.0.0/12")).unwrap();
    cluster.server.apply(node("n2", "192.0.2.2")).unwrap();
    cluster.follow();
    let proxy = cluster.agree("start");
    assert_eq!(proxy.origins, [Origin::Initial], "one update");
    assert_eq!(proxy.node.as_ref().map(|node| &*node.name), Some("n1"), "the own Node only, §1.1");
    assert_eq!(proxy.networks.as_deref(), Some(&["10.96.0.0/12".to_owned()][..]));
    assert_eq!(proxy.triggers, [], "nothing at the start waited for us, §9.15");

    let mut object = slice("a", &["10.1.0.1", "10.1.0.2"]);
    let now = jiff::Timestamp::try_from(SystemTime::now() + Duration::from_secs(1)).unwrap();
    object["metadata"]["annotations"] =
        json!({"endpoints.kubernetes.io/last-change-trigger-time": now.to_string()});
    cluster.server.apply(object).unwrap();
    let proxy = cluster.agree("changed slice");
    assert_eq!(proxy.origins, [Origin::Initial, Origin::Change]);
    assert_eq!(proxy.triggers, [ObjectName::new("shop", "a")], "§9.15");

    cluster.server.delete(Resource::EndpointSlices, "shop", "a-1");
    cluster.agree("removed slice");
    cluster.server.delete(Resource::Services, "shop", "a");
    cluster.agree("removed Service");
    cluster.server.apply(service_cidr("more", "10.112.0.0/12")).unwrap();
    cluster.server.delete(Resource::Nodes, "", "n1");
    let proxy = cluster.proxy.as_mut().unwrap();
    let both = ["10.96.0.0/12".to_owned(), "10.112.0.0/12".to_owned()];
    proxy.wait("Node gone, networks changed", |proxy| {
        proxy.node.is_none() && proxy.networks.as_deref() == Some(&both)
    });
    let services = proxy.resource("services");
    assert_eq!((services.received.added, services.received.deleted, services.relists), (1, 1, 0));
    assert!(proxy.source.status().age().is_some_and(|age| age < PATIENCE));
}

#[test]
fn what_is_not_for_a_service_proxy_is_not_even_sent() {
    let mut cluster = Cluster::small();
    let mut other = service("other", "10.96.0.9");
    other["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "mesh"});
    let mut headless = slice("headless", &["10.1.0.9"]);
    headless["metadata"]["labels"]["service.kubernetes.io/headless"] = json!("");
    cluster.server.load([other, headless, service("headless", "None")]).unwrap();
    let proxy = cluster.follow();
    proxy.wait("start", |proxy| !proxy.origins.is_empty());
    assert_eq!(proxy.known().len(), 1, "§1.1");
    assert_eq!(proxy.resource("services").received.added, 1);
    assert_eq!(proxy.resource("endpointslices").received.added, 1);
    let mut taken = service("a", "10.96.0.1");
    taken["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "mesh"});
    cluster.server.apply(taken).unwrap();
    cluster.proxy.as_mut().unwrap().wait("given to another proxy, §1.5", |proxy| proxy.known().is_empty());
}

#[test]
fn a_burst_is_few_updates() {
    let mut cluster = Cluster::small();
    cluster.follow();
    cluster.agree("start");
    cluster.watched("start");
    cluster.server.load((2..200).map(|i| service(&format!("s{i}"), &format!("10.96.0.{i}")))).unwrap();
    let proxy = cluster.agree("burst");
    assert!(proxy.origins.len() < 20, "198 changes came in {} updates", proxy.origins.len() - 1);
}

#[test]
fn events_are_published_and_repeats_are_a_series() {
    let mut cluster = Cluster::small();
    cluster.follow();
    cluster.agree("start");
    let event = Event {
        regarding: Regarding::Service { name: ObjectName::new("shop", "a"), uid: None },
        warning: true,
        reason: "FailedToStartServiceHealthcheck",
        action: "Listen",
        note: "node n1 failed to start healthcheck".to_owned(),
    };
    let source = &cluster.proxy.as_ref().unwrap().source;
    source.publish(event.clone());
    source.publish(event);
    let series = |state: &portolan_apiserver::State| {
        state.objects(Resource::Events).iter().any(|event| event["series"]["count"] == 2)
    };
    assert!(cluster.server.wait_for(series, PATIENCE), "one Event, twice");
    let events = cluster.server.look(|state| state.objects(Resource::Events));
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["regarding"]["name"], "a");
    assert_eq!(events[0]["reportingController"], "kube-proxy");
}

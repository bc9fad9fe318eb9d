//! Servers that refuse some of it, for a while or for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use portolan_apiserver::Resource;
use portolan_kubernetes::{Observation, Origin};

use crate::fixture::{Cluster, service, service_cidr, slice};

#[test]
fn refusals_are_survived() {
    for (code, retry_after) in [(429, Some(1)), (503, Some(0)), (500, None), (401, None), (403, None)] {
        let situation = format!("{code}");
        let mut cluster = Cluster::small();
        cluster.server.answer_next(6, None, code, retry_after);
        let begun = Instant::now();
        cluster.follow();
        let proxy = cluster.agree(&situation);
        assert_eq!(proxy.origins, [Origin::Initial], "{situation}");
        let refused = Arc::new(AtomicUsize::new(0));
        let count = refused.clone();
        proxy.source.status().on_observation(move |observation| {
            let refused =
                matches!(observation, Observation::Request { code: seen, .. } if *seen == Some(code));
            count.fetch_add(usize::from(refused), Ordering::Relaxed);
        });
        assert_eq!(refused.load(Ordering::Relaxed), 6, "{situation}: counted by code");
        if retry_after == Some(1) {
            assert!(begun.elapsed() >= Duration::from_secs(1), "Retry-After is honoured");
        }
        cluster.server.fail_watches(Some(Resource::Services), 500, "storage is gone");
        cluster.server.apply(service("b", "10.96.0.2")).unwrap();
        cluster.agree(&situation);
    }
}

#[test]
fn an_api_server_without_service_cidrs_is_good_enough() {
    for code in [404, 403] {
        let mut cluster = Cluster::small();
        cluster.server.answer_always(Resource::ServiceCidrs, Some(code));
        cluster.follow();
        let proxy = cluster.agree("start");
        assert_eq!(proxy.networks, None, "{code}");
        assert_eq!(proxy.origins, [Origin::Initial], "{code}");
        cluster.server.apply(service_cidr("kubernetes", "10.96.0.0/12")).unwrap();
        cluster.server.answer_always(Resource::ServiceCidrs, None);
        cluster.proxy.as_mut().unwrap().wait("served later", |proxy| proxy.networks.is_some());
    }
}

#[test]
fn one_resource_that_fails_does_not_stop_the_others() {
    let mut cluster = Cluster::small();
    cluster.server.answer_always(Resource::Nodes, Some(403));
    cluster.follow();
    cluster.agree("without the own Node");
    cluster.server.answer_always(Resource::EndpointSlices, Some(500));
    cluster.server.cut();
    cluster.server.apply(service("b", "10.96.0.2")).unwrap();
    cluster.agree("while EndpointSlices fail");
    cluster.server.answer_always(Resource::EndpointSlices, None);
    cluster.server.answer_always(Resource::Nodes, None);
    cluster.server.apply(slice("b", &["10.1.0.7"])).unwrap();
    cluster.agree("again");
    cluster.proxy.as_mut().unwrap().wait("the own Node", |proxy| proxy.node.is_some());
}

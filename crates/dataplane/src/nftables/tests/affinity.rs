//! Which remembered clients must forget their endpoint (spec §3.21, §3.22).

use portolan_service::{Family, FrontendKind, PortPlan, Protocol, ServicePlan, Verdict};

use crate::LocalDetector;
use crate::nftables::affinity::Sweep;
use crate::nftables::element::{put_address, put_port};
use crate::tests::plans::{CLUSTER, LOCAL, PortExt, backends, ip, net, port, service};

const POD: &str = "10.244.1.50";
const OUTSIDER: &str = "192.0.2.7";
const A: &str = "10.244.1.1:80*";
const B: &str = "10.244.2.2:80";

/// A sticky load-balancer frontend whose inside and outside lists are as given.
fn plan(cluster: &[&str], local: &[&str], outside: Verdict) -> ServicePlan {
    let port =
        PortPlan { cluster: backends(cluster), local: backends(local), ..port("", Protocol::Tcp, &[]) };
    service("s", vec![port.sticky(60).at(FrontendKind::LoadBalancer, "203.0.113.1", 80, CLUSTER, outside)])
}

fn entry(client: &str, endpoint: &str) -> (Vec<u8>, Vec<u8>) {
    let endpoint: std::net::SocketAddr = endpoint.trim_end_matches('*').parse().expect("address:port");
    let (mut key, mut data) = (Vec::new(), Vec::new());
    put_address(&mut key, ip(client));
    put_address(&mut key, ip("203.0.113.1"));
    key.extend_from_slice(&[Protocol::Tcp.number(), 0, 0, 0]);
    put_port(&mut key, 80);
    put_address(&mut data, endpoint.ip());
    put_port(&mut data, endpoint.port());
    (key, data)
}

/// Situation, detector, before, after, client, its endpoint, whether it is forgotten.
type Case<'a> = (
    &'a str,
    Option<LocalDetector>,
    Option<&'a ServicePlan>,
    Option<&'a ServicePlan>,
    &'a str,
    &'a str,
    bool,
);

#[test]
fn clients_of_endpoints_that_left_are_forgotten() {
    let network = || Some(LocalDetector::SourceNetwork(net("10.244.0.0/16")));
    let interface = || Some(LocalDetector::Interface("cni0".into()));
    let (both, only_a, only_b) =
        (plan(&[A, B], &[A], CLUSTER), plan(&[A], &[A], CLUSTER), plan(&[B], &[], CLUSTER));
    let apart = plan(&[A, B], &[A], LOCAL);
    let apart_without_a_inside = plan(&[B], &[A], LOCAL);
    let dropped_outside = plan(&[B], &[], Verdict::Drop);
    #[rustfmt::skip]
    let cases: &[Case<'_>] = &[
        // situation, detector, before, after, client, its endpoint, forgets it
        ("its endpoint stays",                   network(),   Some(&both),  Some(&only_a), OUTSIDER, A, false),
        ("its endpoint left",                    network(),   Some(&both),  Some(&only_b), OUTSIDER, A, true),
        ("a pod's endpoint left",                network(),   Some(&both),  Some(&only_b), POD,      A, true),
        ("left one list: a pod was in it",       network(),   Some(&apart), Some(&apart_without_a_inside), POD, A, true),
        ("left one list: side not known",        network(),   Some(&apart), Some(&apart_without_a_inside), OUTSIDER, A, true),
        ("left one list: no telling of pods",    interface(), Some(&apart), Some(&apart_without_a_inside), POD, A, true),
        ("the other endpoint left one list",     interface(), Some(&apart), Some(&apart_without_a_inside), POD, B, false),
        ("nothing is left outside",              network(),   Some(&apart), Some(&dropped_outside), OUTSIDER, A, true),
        ("a pod's stays though outside changes", network(),   Some(&apart), Some(&dropped_outside), POD, B, false),
        ("the Service is gone",                  network(),   Some(&both),  None,          OUTSIDER, A, true),
    ];
    for (situation, detector, before, after, client, endpoint, forgets) in cases {
        let mut sweep = Sweep::after_changes(Family::V4, detector.clone());
        sweep.change(*before, *after);
        assert!(sweep.is_needed(), "{situation}: an endpoint left");
        let (key, data) = entry(client, endpoint);
        assert_eq!(sweep.is_stale(&key, &data), *forgets, "{situation}");
    }

    for (situation, before, after) in [
        ("a new Service", None, Some(&both)),
        ("an endpoint more", Some(&only_a), Some(&both)),
        ("nothing", Some(&both), Some(&both)),
    ] {
        let mut sweep = Sweep::after_changes(Family::V4, network());
        sweep.change(before, after);
        assert!(!sweep.is_needed(), "{situation}: nobody has to forget anything");
    }
}

#[test]
fn after_a_start_only_endpoints_of_today_are_remembered() {
    let today = plan(&[A, B], &[A], LOCAL);
    let mut elsewhere = entry(OUTSIDER, A);
    elsewhere.0[4..8].copy_from_slice(&[203, 0, 113, 99]);
    let cases = [
        ("an endpoint of today", entry(OUTSIDER, A), false),
        ("an endpoint of yesterday", entry(OUTSIDER, "10.244.3.3:80"), true),
        ("another port of it", entry(OUTSIDER, "10.244.1.1:81"), true),
        ("a frontend of yesterday", elsewhere, true),
        ("nothing that can be read", (vec![1, 2, 3], vec![]), false),
    ];
    for (situation, (key, data), forgets) in cases {
        let sweep = Sweep::from_plans(Family::V4, None, [&today]);
        assert_eq!(sweep.is_stale(&key, &data), forgets, "{situation}");
    }
}

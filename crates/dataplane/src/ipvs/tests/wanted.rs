use portolan_netfilter::ipvs::{HASH_BY_PORT, REFUSE_NOBODY, Scheduling, ServerKey};
use portolan_service::{FrontendKind, PortPlan, Protocol, Scheduler, Verdict};

use super::with_scheduler;
use crate::ipvs::wanted::{Server, servers};
use crate::tests::plans::{CLUSTER, LOCAL, PortExt, backends, port, service};

const MARK: u32 = 0x7000_0001;

fn of(port: PortPlan, scheduler: &str) -> Vec<Server> {
    let plan = service("web", vec![port]);
    servers(&plan, &with_scheduler(scheduler), |name| name != "unheard-of", |_| Some(MARK))
}

fn scheduling(scheduler: &str, flags: u32, persistence: Option<u32>) -> Scheduling {
    Scheduling { scheduler: scheduler.into(), flags, persistence }
}

#[test]
fn schedulers_and_their_flags() {
    let web = || port("http", Protocol::Tcp, &["10.244.1.11:8080*"]).cluster_ip("10.96.0.1");
    let cases = [
        ("rr", web(), scheduling("rr", 0, None)),
        ("mh", web(), scheduling("mh", HASH_BY_PORT, None)),
        ("sh", web(), scheduling("sh", REFUSE_NOBODY, None)),
        ("lc", web().sticky(60), scheduling("lc", 0, Some(60))),
        ("unheard-of", web(), scheduling("rr", 0, None)),
    ];
    for (scheduler, port, expected) in cases {
        assert_eq!(of(port, scheduler)[0].scheduling, expected, "{scheduler}");
    }
}

/// A Service's own goes before the one that is configured, and that before the one in turn, as far
/// as the kernel has them.
#[test]
fn schedulers_of_single_services() {
    for (asked, configured, missing, expected) in [
        (None, "lc", &[][..], "lc"),
        (Some("sh"), "lc", &[], "sh"),
        (Some("sh"), "lc", &["sh"], "lc"),
        (Some("sh"), "lc", &["sh", "lc"], "rr"),
        (Some("rr"), "lc", &[], "rr"),
    ] {
        let mut web = port("http", Protocol::Tcp, &["10.244.1.11:8080*"]).cluster_ip("10.96.0.1");
        web.scheduler = asked.and_then(Scheduler::named);
        let plan = service("web", vec![web]);
        let known = |name: &str| !missing.contains(&name);
        let found = servers(&plan, &with_scheduler(configured), known, |_| None);
        assert_eq!(found[0].scheduling.scheduler, expected, "{asked:?} {configured} without {missing:?}");
    }
}

/// A scheduler that heeds weights stands in for one that does not, where there are some; endpoints
/// of weight 0 stay with it.
#[test]
fn weights_of_endpoints() {
    const A: &str = "10.244.1.11:8080";
    let weights = |port: PortPlan, scheduler: &str| -> (String, Vec<u32>) {
        let servers = of(port, scheduler);
        let weights = servers[0].destinations.iter().map(|destination| destination.weight);
        (servers[0].scheduling.scheduler.clone(), weights.collect())
    };
    let web = |endpoints: &[&str], resting: &[&str]| PortPlan {
        resting: backends(resting),
        ..port("http", Protocol::Tcp, endpoints).cluster_ip("10.96.0.1")
    };
    let b = ["10.244.1.12:8080=0"];
    for (name, port, scheduler, expected, of_each) in [
        ("none", web(&[A], &[]), "rr", "rr", &[1][..]),
        ("in turn", web(&[A, "10.244.1.12:8080=3"], &[]), "rr", "wrr", &[1, 3]),
        ("all alike", web(&["10.244.1.11:8080=3", "10.244.1.12:8080=3"], &[]), "rr", "wrr", &[1, 1]),
        (
            "in lowest terms",
            web(&["10.244.1.11:8080=900", "10.244.1.12:8080=100"], &[]),
            "rr",
            "wrr",
            &[9, 1],
        ),
        ("least connections", web(&[A, "10.244.1.12:8080=3"], &[]), "lc", "wlc", &[1, 3]),
        ("a hash", web(&[A, "10.244.1.12:8080=3"], &[]), "mh", "mh", &[1, 3]),
        ("as many places as there are", web(&[A, "10.244.1.12:8080=1000"], &[]), "sh", "sh", &[1, 256]),
        ("one rests", web(&[A], &b), "rr", "rr", &[1, 0]),
    ] {
        assert_eq!(weights(port, scheduler), (expected.to_owned(), of_each.to_vec()), "{name}");
    }
}

#[test]
fn frontends_without_endpoints_have_no_virtual_server() {
    let refused = port("http", Protocol::Tcp, &[]).at(
        FrontendKind::ClusterIp,
        "10.96.0.1",
        80,
        Verdict::Reject,
        Verdict::Reject,
    );
    assert_eq!(of(refused, "rr"), []);
}

/// Clients from outside have a virtual server of their own, for all frontends of a port.
#[test]
fn clients_from_outside_by_mark() {
    let local = |target: &str| {
        port("http", Protocol::Tcp, &[&format!("10.244.1.11:{target}*"), &format!("10.244.2.21:{target}")])
            .cluster_ip("10.96.0.1")
            .at(FrontendKind::ExternalIp, "203.0.113.1", 80, CLUSTER, LOCAL)
            .at(FrontendKind::LoadBalancer, "203.0.113.2", 80, CLUSTER, LOCAL)
    };
    let by_mark = |servers: Vec<Server>| {
        let mut marked = servers.into_iter().filter(|server| matches!(server.key, ServerKey::Mark(_, MARK)));
        let server = marked.next().expect("one");
        assert_eq!(marked.next(), None);
        (server.destinations.len(), server.scheduling)
    };
    let cases = [
        ("the list of this node", local("8080"), scheduling("rr", 0, None)),
        ("affinity, ports alike: persistence", local("80").sticky(60), scheduling("rr", 0, Some(60))),
        // Persistence by a mark does not translate ports.
        ("affinity, ports differ: a hash", local("8080").sticky(60), scheduling("mh", 0, None)),
    ];
    for (name, port, expected) in cases {
        assert_eq!(by_mark(of(port, "rr")), (1, expected), "{name}");
    }
    let nobody = port("http", Protocol::Tcp, &["10.244.2.21:8080"]).cluster_ip("10.96.0.1").at(
        FrontendKind::ExternalIp,
        "203.0.113.1",
        80,
        CLUSTER,
        Verdict::Drop,
    );
    assert!(of(nobody, "rr").iter().all(|server| matches!(server.key, ServerKey::Address(_))));
}

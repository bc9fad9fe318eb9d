//! Which chains and sets Service ports with affinity have, and what becomes of them (spec
//! §3.20-3.22).

use portolan_service::Family;
use portolan_service::{FrontendKind, ObjectName, PortPlan, Protocol, ServicePlan, Verdict};

use crate::nftables::affinity::{AffinityStep, Content, difference};
use crate::nftables::chain::Chain;
use crate::tests::plans::{CLUSTER, LOCAL, PortExt, backends, port, service};

const A: &str = "10.244.1.1:80*";
const B: &str = "10.244.2.2:80";

/// A sticky load-balancer frontend whose lists are as given.
fn plan(cluster: &[&str], local: &[&str], outside: Verdict, seconds: u32) -> ServicePlan {
    let port =
        PortPlan { cluster: backends(cluster), local: backends(local), ..port("", Protocol::Tcp, &[]) };
    let port = port.sticky(seconds).at(FrontendKind::LoadBalancer, "203.0.113.1", 80, CLUSTER, outside);
    service("s", vec![port])
}

fn steps(before: Option<&ServicePlan>, after: Option<&ServicePlan>) -> Vec<String> {
    let mut steps = Vec::new();
    difference(before, after, Family::V4, |step| {
        steps.push(match step {
            AffinityStep::AddSet(name, None) => format!("add {name}"),
            AffinityStep::AddSet(name, Some(size)) => format!("add {name} of {size}"),
            AffinityStep::Rewrite(chain, Content::Nothing) => format!("empty {}", chain.name()),
            AffinityStep::Rewrite(chain, Content::List(port, list)) => {
                format!("write {} for {}", chain.name(), port.port.backends(list).len())
            }
            AffinityStep::Rewrite(chain, Content::Endpoint(port, _)) => {
                format!("write {}, {} s", chain.name(), port.seconds())
            }
            AffinityStep::DeleteSet(name) => format!("delete {name}"),
        });
    });
    steps
}

/// Situation, before, after, what is done.
type Case<'a> = (&'a str, Option<&'a ServicePlan>, Option<&'a ServicePlan>, Vec<String>);

const A_NAME: &str = "shop/s/tcp//10.244.1.1/80";
const B_NAME: &str = "shop/s/tcp//10.244.2.2/80";

#[test]
fn clients_of_endpoints_that_leave_are_forgotten_and_no_others() {
    let both = plan(&[A, B], &[A], CLUSTER, 60);
    let only_a = plan(&[A], &[A], CLUSTER, 60);
    let apart = plan(&[A, B], &[A], LOCAL, 60);
    let apart_without_a_inside = plan(&[B], &[A], LOCAL, 60);
    let longer = plan(&[A, B], &[A], CLUSTER, 600);
    let comes = |name: &str| [format!("add affinity/{name}"), format!("write endpoint/{name}, 60 s")];
    let goes = |name: &str| [format!("empty endpoint/{name}"), format!("delete affinity/{name}")];
    let longer_at = |name: &str| format!("write endpoint/{name}, 600 s");
    let text = |text: &str| vec![text.to_owned()];
    let [add_a, add_b] = [A_NAME, B_NAME].map(|name| comes(name).to_vec());
    let [drop_a, drop_b] = [A_NAME, B_NAME].map(|name| goes(name).to_vec());
    let write = |count: usize| text(&format!("write affinity/shop/s/tcp/ for {count}"));
    #[rustfmt::skip]
    let cases: &[Case<'_>] = &[
        ("a new Service", None, Some(&both), [add_a.clone(), add_b.clone(), write(2)].concat()),
        ("nothing", Some(&both), Some(&both), vec![]),
        ("an endpoint more", Some(&only_a), Some(&both), [add_b.clone(), write(2)].concat()),
        ("an endpoint left", Some(&both), Some(&only_a), [write(1), drop_b.clone()].concat()),
        ("another timeout: clients stay", Some(&both), Some(&longer), vec![longer_at(A_NAME), longer_at(B_NAME)]),
        ("two lists: a set for each endpoint, not for each list (§3.22)", None, Some(&apart), [
            add_a, add_b, write(2), text("write affinity-local/shop/s/tcp/ for 1"),
        ].concat()),
        ("left one list: the other remembers", Some(&apart), Some(&apart_without_a_inside), write(1)),
        ("one list is used no more", Some(&apart), Some(&both), text("empty affinity-local/shop/s/tcp/")),
        ("the Service is gone", Some(&both), None, [text("empty affinity/shop/s/tcp/"), drop_a, drop_b].concat()),
    ];
    for (situation, before, after, expected) in cases {
        assert_eq!(&steps(*before, *after), expected, "{situation}");
    }
}

#[test]
fn one_service_port_remembers_a_million_clients_at_most() {
    let endpoints = |count: u16| -> Vec<String> {
        (0..count).map(|host| format!("10.244.{}.{}:80", host / 250, host % 250 + 1)).collect()
    };
    // Endpoints, and how many clients each may have; none given is the kernel's 65,535.
    for (count, size) in [(1, ""), (16, ""), (17, " of 61680"), (64, " of 16384"), (2000, " of 1024")] {
        let endpoints = endpoints(count);
        let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        let first = steps(None, Some(&plan(&endpoints, &[], CLUSTER, 60))).remove(0);
        assert_eq!(first, format!("add affinity/shop/s/tcp//10.244.0.1/80{size}"));
    }
}

#[test]
fn names_fit_the_kernel() {
    let label = |letter: &str| letter.repeat(63);
    let mut plan = plan(&["[2001:db8:1111:2222:3333:4444:5555:6666]:65535"], &[], CLUSTER, 60);
    plan.ports[0].name = "p".repeat(15).as_str().into();
    plan.ports[0].protocol = Protocol::Sctp;
    plan.name = ObjectName::new(&label("n"), &label("s"));
    let set = |plan: &ServicePlan| steps(None, Some(plan)).remove(0);
    let whole = format!(
        "add affinity/{}/{}/sctp/{}/2001.db8.1111.2222.3333.4444.5555.6666/65535",
        label("n"),
        label("s"),
        "p".repeat(15)
    );
    assert_eq!(set(&plan), whole, "what the API allows is written whole");

    // Whatever another source lets through: never longer than the kernel takes, cut visibly, never
    // mixed up.
    let mut names = std::collections::BTreeSet::new();
    for end in ["a", "b"] {
        plan.name = ObjectName::new(&label("n"), &format!("{}{end}", "s".repeat(300)));
        let name = set(&plan).strip_prefix("add ").map(str::to_owned).expect("a set");
        assert!(name.len() <= 255 && name.contains("..."), "{name}");
        let chain = Chain::parse(&format!("affinity-local/{}", "x".repeat(200))).expect("a chain");
        assert!(chain.name().len() <= 255);
        names.insert(name);
    }
    assert_eq!(names.len(), 2);
}

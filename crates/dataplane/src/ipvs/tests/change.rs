use portolan_netfilter::ipvs::{Destination, Scheduling, ServerKey, VirtualServer};
use portolan_service::{ObjectName, Protocol};

use crate::ipvs::change::{Action, Changes, changes, destination_changes};
use crate::ipvs::wanted::Server;
use crate::tests::plans::ip;

fn to(address: &str, weight: u32) -> Destination {
    Destination { address: ip(address), port: 8080, weight }
}

fn server(protocol: Protocol, scheduler: &str, destinations: &[&str]) -> Server {
    let key = VirtualServer { protocol: protocol.number(), address: ip("10.96.0.1"), port: 80 };
    Server {
        key: ServerKey::Address(key),
        protocol,
        scheduling: Scheduling { scheduler: scheduler.into(), flags: 0, persistence: None },
        destinations: destinations.iter().map(|address| to(address, 1)).collect(),
        lingering: Vec::new(),
    }
}

/// One that is asked over UDP, with endpoints that terminate.
fn terminating(destinations: &[&str], lingering: &[&str]) -> Server {
    let lingering = lingering.iter().map(|address| to(address, 0)).collect();
    Server { lingering, ..server(Protocol::Udp, "rr", destinations) }
}

fn actions(fill: impl FnOnce(&ObjectName, &mut Changes)) -> (Vec<Action>, Vec<Action>) {
    let mut steps = Changes::default();
    fill(&ObjectName::new("shop", "web"), &mut steps);
    let actions = |steps: Vec<_>| steps.into_iter().map(|step: crate::ipvs::change::Step| step.action);
    (actions(steps.first).collect(), actions(steps.last).collect())
}

/// What comes, comes before the commit of the rules; what goes, goes after it.
#[test]
fn from_one_plan_to_the_next() {
    const A: &str = "10.244.1.11";
    const B: &str = "10.244.1.12";
    let tcp = |scheduler, list: &[&str]| vec![server(Protocol::Tcp, scheduler, list)];
    let rr = Scheduling { scheduler: "rr".into(), flags: 0, persistence: None };
    let sh = Scheduling { scheduler: "sh".into(), ..rr.clone() };
    let cases = [
        (
            "a virtual server comes with its destinations",
            vec![],
            tcp("rr", &[A]),
            vec![Action::NewServer(rr), Action::NewDestination(to(A, 1))],
            vec![],
        ),
        ("it goes, and takes them along", tcp("rr", &[A]), vec![], vec![], vec![Action::DeleteServer]),
        (
            "an endpoint for another: the list is never empty",
            tcp("rr", &[A]),
            tcp("rr", &[B]),
            vec![Action::NewDestination(to(B, 1))],
            vec![Action::Quiesce(to(A, 1))],
        ),
        (
            "of UDP, an endpoint that leaves is gone",
            vec![server(Protocol::Udp, "rr", &[A, B])],
            vec![server(Protocol::Udp, "rr", &[A])],
            vec![],
            vec![Action::DeleteDestination(to(B, 1))],
        ),
        (
            "of UDP, an endpoint that terminates keeps its flows",
            vec![terminating(&[A, B], &[])],
            vec![terminating(&[A], &[B])],
            vec![],
            vec![Action::Quiesce(to(B, 1))],
        ),
        (
            "until it is gone",
            vec![terminating(&[A], &[B])],
            vec![terminating(&[A], &[])],
            vec![],
            vec![Action::DeleteDestination(to(B, 0))],
        ),
        ("a scheduler", tcp("rr", &[A]), tcp("sh", &[A]), vec![Action::SetServer(sh)], vec![]),
        ("nothing", tcp("rr", &[A, B]), tcp("rr", &[A, B]), vec![], vec![]),
    ];
    for (name, before, after, first, last) in cases {
        let found = actions(|owner, steps| changes(owner, &before, &after, steps));
        assert_eq!(found, (first, last), "{name}");
    }
}

/// An endpoint that was leaving when the process ended may be wanted again.
#[test]
fn weights_are_judged_anew() {
    const A: &str = "10.244.1.11";
    let wanted = server(Protocol::Tcp, "rr", &[A]);
    let owner_steps =
        |held: &[Destination]| actions(|owner, steps| destination_changes(owner, &wanted, held, steps));
    assert_eq!(owner_steps(&[to(A, 0)]), (vec![Action::SetDestination(to(A, 1))], vec![]));
    let gone = to("10.244.1.12", 0);
    assert_eq!(owner_steps(&[to(A, 1), gone]), (vec![], vec![Action::Quiesce(gone)]));
}

//! Servers that fail and recover, and which of several is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portolan_names::wire::{Transport, kind};
use portolan_upstream::{AllDown, Forward, Forwarder, Policy, Zone};

use crate::fake::{Act, Fake, LONG, ask, forwarder};

/// A server that answers with `last` while it is well, and is silent otherwise.
async fn server(last: u8) -> (Fake, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(true));
    let shared = Arc::clone(&well);
    let fake = Fake::start(move |asked| match asked.query().kind {
        _ if !shared.load(Ordering::Relaxed) => Vec::new(),
        // A probe is answered with anything.
        kind::NS => vec![Act::Send(asked.answer(5, &[]))],
        _ => vec![asked.address(last, 60)],
    })
    .await;
    (fake, well)
}

/// Asks these servers, and does not wait for long.
fn among(fakes: &[&Fake], policy: Policy) -> Zone {
    let mut forward = Forward::new(fakes.iter().map(|fake| fake.target()));
    forward.policy = policy;
    forward.timeout = Duration::from_millis(100);
    forward.health.interval = Duration::from_millis(20);
    let mut zone = Zone::new(".");
    zone.forwards.push(forward);
    zone
}

/// Asks for names until one is answered so, by the servers' last octets.
async fn until(forwarder: &Forwarder, done: impl Fn(&str) -> bool) {
    let begun = Instant::now();
    for at in 0.. {
        let reply = ask(forwarder, &format!("name{at}.example.com"), kind::A).await;
        if done(&reply) {
            return;
        }
        assert!(begun.elapsed() < LONG, "{reply}");
    }
}

/// The last octets of the next `count` answers.
async fn answers(forwarder: &Forwarder, count: usize) -> Vec<String> {
    let mut answers = Vec::new();
    for at in 0..count {
        let reply = ask(forwarder, &format!("other{at}.example.com"), kind::A).await;
        answers.push(reply.rsplit('.').next().unwrap_or_default().to_owned());
    }
    answers
}

#[tokio::test]
async fn policies() {
    let ((first, _), (second, _), (third, _)) = (server(1).await, server(2).await, server(3).await);
    let fakes = [&first, &second, &third];
    let sequential = forwarder([among(&fakes, Policy::Sequential)]);
    assert_eq!(answers(&sequential, 4).await, ["1"; 4]);
    let in_turn = forwarder([among(&fakes, Policy::RoundRobin)]);
    assert_eq!(answers(&in_turn, 6).await, ["1", "2", "3", "1", "2", "3"]);
    let random = forwarder([among(&fakes, Policy::Random)]);
    let seen: std::collections::HashSet<String> = answers(&random, 60).await.into_iter().collect();
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn a_server_that_is_down_is_left_out_until_it_is_well() {
    let ((first, first_well), (second, _)) = (server(1).await, server(2).await);
    let forwarder = forwarder([among(&[&first, &second], Policy::Sequential)]);
    assert_eq!(answers(&forwarder, 1).await, ["1"]);
    first_well.store(false, Ordering::Relaxed);
    // The question that finds it silent gets the other's answer.
    assert_eq!(answers(&forwarder, 1).await, ["2"]);
    // After three failed probes it is not asked any more.
    let begun = Instant::now();
    loop {
        let before = first.count();
        assert_eq!(answers(&forwarder, 1).await, ["2"]);
        if first.count() == before {
            break;
        }
        assert!(begun.elapsed() < LONG, "it is still asked");
    }
    first_well.store(true, Ordering::Relaxed);
    until(&forwarder, |reply| reply.ends_with(".1")).await;
}

#[tokio::test]
async fn a_port_where_nobody_listens_fails_at_once() {
    let (well, _) = server(2).await;
    let (gone, _) = server(1).await;
    let address = gone.address;
    let mut zone = among(&[&gone, &well], Policy::Sequential);
    zone.forwards[0].timeout = Duration::from_secs(2);
    drop(gone);
    // The system knows that nobody listens any more.
    while tokio::net::UdpSocket::bind(address).await.is_err() {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    assert_eq!(answers(&forwarder([zone]), 1).await, ["2"]);
    assert!(begun.elapsed() < Duration::from_millis(500), "no time-out");
}

#[tokio::test]
async fn when_all_are_down_one_is_asked_or_none() {
    for (all_down, name, asked) in
        [(AllDown::AskAny, "any is asked", true), (AllDown::Fail, "failure at once", false)]
    {
        let (only, well) = server(1).await;
        well.store(false, Ordering::Relaxed);
        let mut zone = among(&[&only], Policy::Random);
        zone.forwards[0].all_down = all_down;
        zone.forwards[0].max_fails = 1;
        // Long enough that it does not recover while we look.
        let forwarder = forwarder([zone]);
        let probes = || only.asked().iter().filter(|asked| asked.query().kind == kind::NS).count();
        assert_eq!(ask(&forwarder, "first.example.com", kind::A).await, "SERVFAIL");
        let begun = Instant::now();
        while probes() < 4 {
            assert!(begun.elapsed() < LONG, "it is probed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let before = only.count();
        assert_eq!(ask(&forwarder, "second.example.com", kind::A).await, "SERVFAIL", "{name}");
        assert_eq!(only.count() > before, asked, "{name}");
    }
}

#[tokio::test]
async fn codes_that_make_the_next_server_be_asked() {
    let refuses = Fake::start(|asked| vec![Act::Send(asked.answer(5, &[]))]).await;
    let (second, _) = server(2).await;
    let mut zone = among(&[&refuses, &second], Policy::Sequential);
    assert_eq!(ask(&forwarder([zone.clone()]), "a.example.com", kind::A).await, "REFUSED");
    zone.forwards[0].failover = vec![5];
    assert_eq!(answers(&forwarder([zone]), 1).await, ["2"]);
    let alone = {
        let mut zone = among(&[&refuses], Policy::Sequential);
        zone.forwards[0].failover = vec![5];
        forwarder([zone])
    };
    assert_eq!(ask(&alone, "a.example.com", kind::A).await, "REFUSED", "the last says so too");
}

#[tokio::test]
async fn the_longest_zone_decides_and_exceptions_are_not_asked_for() {
    let ((outside, _), (stub, _)) = (server(1).await, server(2).await);
    let mut root = among(&[&outside], Policy::Random);
    root.forwards[0].except = vec!["secret.example".to_owned()];
    let mut corp = among(&[&stub], Policy::Random);
    corp.name = "Corp.Example".to_owned();
    let forwarder = forwarder([root, corp]);
    for (name, expected) in [
        ("www.example", "NOERROR; www.example. 60 A 192.0.2.1"),
        ("corp.example", "NOERROR; corp.example. 60 A 192.0.2.2"),
        ("db.CORP.example", "NOERROR; db.CORP.example. 60 A 192.0.2.2"),
        ("xcorp.example", "NOERROR; xcorp.example. 60 A 192.0.2.1"),
        ("a.secret.example", "SERVFAIL"),
    ] {
        assert_eq!(ask(&forwarder, name, kind::A).await, expected, "{name}");
    }
    assert!(stub.asked().iter().all(|asked| asked.transport == Transport::Udp));
}

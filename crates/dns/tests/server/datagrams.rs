//! Questions in datagrams.

use portolan_dns::{MayAsk, Refusal, Source};
use portolan_names::Transport;

use crate::asking::{A, AAAA, ask, client, question, receive};
use crate::scene::{Scene, service};

const WEB: &str = "web.shop.svc.cluster.local";

#[test]
fn a_question_is_answered_and_counted() {
    let scene = Scene::new(|_| {});
    let socket = client(scene.address());
    let answer = ask(&socket, &question(7, WEB, A));
    assert_eq!((answer.id, answer.rcode, answer.address()), (7, 0, [10, 96, 0, 1]));
    assert_eq!(ask(&socket, &question(8, "none.shop.svc.cluster.local", A)).rcode, 3);
    assert_eq!(ask(&socket, &question(9, "example.com", A)).rcode, 5, "nobody else is there to be asked");
    let counts = scene.server.counts();
    let zone = &counts.zones[0];
    assert_eq!(zone.zone, ".");
    assert_eq!(
        (zone.requests[0].kind, zone.requests[0].transport, zone.requests[0].count),
        ("A", Transport::Udp, 3)
    );
    let responses: Vec<_> =
        zone.responses.iter().map(|found| (found.rcode, found.source, found.count)).collect();
    assert_eq!(responses, [(0, Source::Cluster, 1), (3, Source::Cluster, 1), (5, Source::Server, 1)]);
}

/// glibc sends both at once, and waits for both (spec §7).
#[test]
fn a_pair_from_one_port_is_answered_both() {
    let scene = Scene::new(|_| {});
    for round in 0..100 {
        let socket = client(scene.address());
        socket.send(&question(round, WEB, A)).unwrap();
        socket.send(&question(round + 1000, WEB, AAAA)).unwrap();
        let mut found =
            [receive(&socket), receive(&socket)].map(|answer| (answer.id, answer.rcode, answer.records));
        found.sort_unstable();
        assert_eq!(found, [(round, 0, 1), (round + 1000, 0, 0)]);
    }
}

/// A client takes answers from the address that it asked only: here one of several.
#[test]
fn answers_leave_from_the_address_that_was_asked() {
    for (listen, asked) in [
        ("0.0.0.0:0", "127.0.0.1"),
        ("0.0.0.0:0", "127.1.2.3"),
        ("[::]:0", "::1"),
        ("[::]:0", "127.4.5.6"),
        ("127.7.8.9:0", "127.7.8.9"),
    ] {
        let scene = Scene::new(|settings| settings.listeners[0].address = listen.parse().unwrap());
        let socket = client((asked.parse::<std::net::IpAddr>().unwrap(), scene.address().port()).into());
        assert_eq!(
            ask(&socket, &question(1, WEB, A)).address(),
            [10, 96, 0, 1],
            "{listen}, asked at {asked}"
        );
    }
}

#[test]
fn who_may_not_ask() {
    for (name, otherwise, expected) in
        [("is refused", Refusal::Refused, Some(5)), ("hears nothing", Refusal::Silence, None)]
    {
        let may_ask = MayAsk { networks: vec!["127.0.0.2/32".parse().unwrap()], otherwise };
        let scene = Scene::new(|settings| settings.may_ask = may_ask);
        let socket = client(scene.address());
        socket.send(&question(1, WEB, A)).unwrap();
        if let Some(code) = expected {
            assert_eq!(receive(&socket).rcode, code, "{name}");
        } else {
            while scene.server.counts().forbidden == 0 {
                std::thread::yield_now();
            }
            // From now on it may: the first answer is the one to the second question, because one
            // thread answers what comes from one port, in turn.
            scene.server.set_may_ask(&MayAsk::default());
            assert_eq!(ask(&socket, &question(2, WEB, A)).id, 2, "{name}");
        }
        assert_eq!(scene.server.counts().forbidden, 1, "{name}");
    }
}

#[test]
fn names_that_change_are_answered_as_they_are() {
    let scene = Scene::new(|_| {});
    let socket = client(scene.address());
    for number in 2..100 {
        let change = service("web", &format!("10.96.0.{number}"));
        scene.names.write().unwrap().apply([change.into()], 2);
        assert_eq!(ask(&socket, &question(number, WEB, A)).address()[3], u8::try_from(number).unwrap());
    }
}

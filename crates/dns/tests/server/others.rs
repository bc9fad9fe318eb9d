//! Names outside the cluster, and those who know them.

use std::net::SocketAddr;
use std::sync::Arc;

use portolan_dns::{Answered, Block, Known, LookedUp, Others, Source};
use portolan_names::Transport;
use portolan_names::wire::{Name, Query};

use crate::asking::{A, ask, client, question, receive};
use crate::elsewhere::{Asked, address, elsewhere, message};
use crate::scene::Scene;

fn scene(others: Arc<dyn Others>) -> Scene {
    Scene::new(|settings| settings.listeners[0].blocks[0].others = Some(others))
}

#[test]
fn others_answer_when_they_do() {
    let (others, asked) = elsewhere();
    let scene = scene(others);
    let socket = client(scene.address());
    for id in [1, 2] {
        socket.send(&question(id, "example.com", A)).unwrap();
    }
    let (first, second) = (message(&asked), message(&asked));
    assert_eq!(ask(&socket, &question(3, "web.shop.svc.cluster.local", A)).id, 3, "meanwhile");
    second.1(address(&second.0, [192, 0, 2, 2]));
    assert_eq!(receive(&socket).address(), [192, 0, 2, 2]);
    first.1(address(&first.0, [192, 0, 2, 1]));
    assert_eq!(receive(&socket).address(), [192, 0, 2, 1]);
    let responses = scene.server.counts().zones[0].responses.clone();
    assert!(
        responses.iter().any(|found| found.source == Source::Others && found.rcode == 0 && found.count == 2)
    );
}

#[test]
fn answers_that_are_none() {
    let (others, asked) = elsewhere();
    let scene = scene(others);
    let socket = client(scene.address());
    for (name, answer, rcode, truncated) in [
        ("forgotten", None, 2, false),
        ("empty", Some(vec![]), 2, false),
        ("longer than the client takes", Some(vec![0x80; 513]), 0, true),
    ] {
        socket.send(&question(1, "example.com", A)).unwrap();
        let (_, done) = message(&asked);
        match answer {
            None => drop(done),
            Some(answer) => done(answer),
        }
        let answer = receive(&socket);
        let found = (answer.id, answer.rcode, answer.octets[2] & 2 != 0, answer.octets.len());
        assert_eq!(found, (1, rcode, truncated, question(1, "example.com", A).len()), "{name}");
    }
}

#[test]
fn an_alias_leads_to_what_others_know() {
    let (others, asked) = elsewhere();
    let scene = scene(others);
    let socket = client(scene.address());
    for (found, rcode, records) in [(true, 0, 2), (false, 2, 1)] {
        socket.send(&question(1, "out.shop.svc.cluster.local", A)).unwrap();
        let Ok(Asked::Name(name, A, done)) = asked.recv_timeout(crate::asking::PATIENCE) else {
            panic!("nothing was looked up");
        };
        assert_eq!(name, "www.example.com.");
        done(found.then(|| address(&question(9, "www.example.com", A), [192, 0, 2, 7])));
        let answer = receive(&socket);
        assert_eq!((answer.id, answer.rcode, answer.records), (1, rcode, records));
        assert!(!found || answer.address() == [192, 0, 2, 7]);
    }
}

/// Answers at once, or panics.
struct AtHand;

impl Others for AtHand {
    fn ask(&self, _: Box<[u8]>, _: SocketAddr, _: Transport, _: Answered) {}

    fn look_up(&self, _: &Name, _: u16, _: LookedUp) {}

    fn at_hand(&self, query: &Query<'_>, message: &[u8], _: Transport, reply: &mut Vec<u8>) -> bool {
        assert!(query.name.label(0) != b"panic", "as the test wants");
        reply.extend(address(message, [192, 0, 2, 9]));
        query.name.label(0) == b"cached" || {
            reply.clear();
            false
        }
    }
}

impl Known for AtHand {
    fn answer(&self, query: &Query<'_>, _: Transport, reply: &mut Vec<u8>) -> bool {
        let known = query.name.label(0) == b"web";
        if known {
            let message = question(query.id, "web.shop.svc.cluster.local", A);
            reply.extend(address(&message, [192, 0, 2, 8]));
        }
        known
    }
}

#[test]
fn answers_at_hand() {
    let scene = scene(Arc::new(AtHand));
    let socket = client(scene.address());
    assert_eq!(ask(&socket, &question(1, "cached.example.com", A)).address(), [192, 0, 2, 9]);
    assert_eq!(ask(&socket, &question(2, "other.example.com", A)).rcode, 2, "asked, and forgotten");
}

#[test]
fn what_is_known_comes_before_the_clusters_names() {
    let scene = Scene::new(|settings| settings.listeners[0].blocks[0].known = Some(Arc::new(AtHand)));
    let socket = client(scene.address());
    let name = "web.shop.svc.cluster.local";
    assert_eq!(ask(&socket, &question(1, name, A)).address(), [192, 0, 2, 8]);
}

/// It ends the answer in which it happens, and no other.
#[test]
fn a_panic_is_one_servfail() {
    let scene = scene(Arc::new(AtHand));
    let socket = client(scene.address());
    for id in 1..20 {
        assert_eq!(ask(&socket, &question(id, "panic.example.com", A)).rcode, 2);
        assert_eq!(ask(&socket, &question(id, "web.shop.svc.cluster.local", A)).rcode, 0);
    }
    assert_eq!(scene.server.counts().panics, 19);
}

#[test]
fn each_zone_has_its_others_and_blocks_can_be_replaced() {
    let (others, asked) = elsewhere();
    let stub = Block { zones: vec!["consul.local".to_owned()], others: Some(others), ..Block::default() };
    let scene = Scene::new(|settings| settings.listeners[0].blocks.push(stub.clone()));
    let socket = client(scene.address());
    socket.send(&question(1, "db.Consul.local", A)).unwrap();
    let (first, done) = message(&asked);
    done(address(&first, [192, 0, 2, 1]));
    assert_eq!(receive(&socket).address(), [192, 0, 2, 1]);
    assert_eq!(ask(&socket, &question(2, "consul.example", A)).rcode, 5, "nobody is there for this zone");
    let mut replaced = scene.server.counts().zones;
    scene.server.set_blocks(0, vec![stub]).unwrap();
    assert_eq!(ask(&socket, &question(3, "web.shop.svc.cluster.local", A)).rcode, 5, "in no zone");
    let counts = scene.server.counts();
    assert_eq!(counts.elsewhere, 1);
    let kept = replaced.remove(0);
    assert_eq!(
        (counts.zones.len(), &counts.zones[0].zone, &kept.zone),
        (1, &kept.zone, &counts.zones[0].zone)
    );
    assert_eq!(counts.zones[0].requests, kept.requests);
}

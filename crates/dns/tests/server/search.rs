//! Server-side search: others are asked for one name after the other.

use std::sync::mpsc::Receiver;

use portolan_dns::LookedUp;
use portolan_names::{Names, Search};
use portolan_service::{NamesChange, ObjectName, Pod, PodPhase};

use crate::asking::{A, PATIENCE, ask, client, question, receive};
use crate::elsewhere::{Asked, address, elsewhere};
use crate::scene::{Scene, service};

/// Names of a cluster with a pod that has the address of loopback.
fn names() -> Names {
    let search = Search { domains: Vec::new(), list: vec!["corp.example".to_owned()] };
    let settings = portolan_names::Settings { search: Some(search), ..portolan_names::Settings::default() };
    let mut names = Names::new(settings, 1).unwrap();
    let pod = Pod {
        name: ObjectName::new("shop", "client"),
        addresses: vec!["127.0.0.1".parse().unwrap()],
        phase: PodPhase::Running,
        leaving: false,
    };
    names.apply([NamesChange::Pod(pod).into(), service("web", "10.96.0.1").into()], 1);
    names.set_synced();
    names
}

/// What others are asked for next.
fn sought(asked: &Receiver<Asked>) -> (String, LookedUp) {
    match asked.recv_timeout(PATIENCE).expect("a question in time") {
        Asked::Search(name, done) => (name, done),
        _ => panic!("another question"),
    }
}

/// `message` as an answer with this code and nothing else.
fn code(message: &[u8], rcode: u8) -> Vec<u8> {
    let mut answer = message.to_vec();
    answer[2..4].copy_from_slice(&[0x81, 0x80 | rcode]);
    answer
}

const QUESTION: &str = "www.example.shop.svc.cluster.local";

#[test]
fn the_first_name_that_exists_is_the_answer() {
    let (others, asked) = elsewhere();
    let scene = Scene::new(|settings| settings.listeners[0].blocks[0].others = Some(others));
    *scene.names.write().unwrap() = names();
    let socket = client(scene.address());
    let question = question(7, QUESTION, A);
    for (name, answers, expected) in [
        ("the first", &[Some(0)][..], (0, 1)),
        ("the second", &[Some(3), Some(0)], (0, 1)),
        ("none", &[Some(3), Some(3)], (3, 0)),
        ("one that cannot be found out", &[Some(3), Some(2)], (2, 0)),
        ("refused", &[Some(5)], (2, 0)),
        ("no answer", &[None], (2, 0)),
    ] {
        socket.send(&question).unwrap();
        for (at, answer) in answers.iter().enumerate() {
            let (wanted, done) = sought(&asked);
            assert_eq!(wanted, ["www.example.corp.example.", "www.example."][at], "{name}");
            match answer {
                Some(0) => done(Some(address(&question, [192, 0, 2, 1]))),
                answer => done(answer.map(|rcode| code(&question, rcode))),
            }
        }
        let answer = receive(&socket);
        assert_eq!((answer.id, (answer.rcode, answer.records)), (7, expected), "{name}");
    }
    assert_eq!(scene.server.counts().zones[0].found, 2);
}

#[test]
fn others_are_not_asked_where_the_cluster_knows() {
    let (others, asked) = elsewhere();
    let scene = Scene::new(|settings| settings.listeners[0].blocks[0].others = Some(others));
    *scene.names.write().unwrap() = names();
    let socket = client(scene.address());
    let found = ask(&socket, &question(1, "web.shop.shop.svc.cluster.local", A));
    assert_eq!((found.rcode, found.records, found.address()), (0, 2, [10, 96, 0, 1]));
    let absent = ask(&socket, &question(1, "www.example.other.svc.cluster.local", A));
    assert_eq!(absent.rcode, 3, "another namespace");
    assert!(asked.try_recv().is_err());
    assert_eq!(scene.server.counts().zones[0].found, 1);
}

#[test]
fn without_others_a_name_is_absent() {
    let scene = Scene::new(|_| {});
    *scene.names.write().unwrap() = names();
    let answer = ask(&client(scene.address()), &question(1, QUESTION, A));
    assert_eq!((answer.rcode, answer.records), (3, 0));
}

//! The log of questions.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portolan_dns::{Classes, Entry, QueryLog};

use crate::asking::{A, PATIENCE, ask, client, question};
use crate::scene::Scene;

const WEB: &str = "web.shop.svc.cluster.local";

fn scene(one_of: u32, classes: Classes, sink: impl Fn(&Entry) + Send + Sync + 'static) -> Scene {
    let log = QueryLog { one_of, classes, sink: Arc::new(sink) };
    Scene::new(|settings| {
        settings.threads = Some(1);
        settings.listeners[0].blocks[0].log = Some(log);
    })
}

#[test]
fn one_of_so_many_is_logged() {
    let (sender, entries) = channel();
    let sender = Mutex::new(sender);
    let scene = scene(3, Classes::default(), move |entry| {
        // It fails when the test has ended.
        let _ = sender.lock().unwrap().send(entry.clone());
    });
    let socket = client(scene.address());
    for id in 1..=9 {
        ask(&socket, &question(id, WEB, A));
    }
    for id in [3, 6, 9] {
        let entry = entries.recv_timeout(PATIENCE).unwrap();
        assert_eq!((entry.id, entry.name.to_string(), entry.kind), (id, format!("{WEB}."), A));
        assert_eq!((entry.client, entry.rcode, entry.size), (socket.local_addr().unwrap(), 0, 44));
        assert_eq!(entry.reply_size, 60);
        assert!(entry.duration > Duration::ZERO && entry.duration < PATIENCE);
    }
}

#[test]
fn classes_of_answers() {
    let (sender, entries) = channel();
    let sender = Mutex::new(sender);
    let classes = Classes { success: false, denial: true, error: false };
    let scene = scene(1, classes, move |entry| {
        let _ = sender.lock().unwrap().send(entry.id);
    });
    let socket = client(scene.address());
    for (id, name) in
        [(1, WEB), (2, "none.shop.svc.cluster.local"), (3, "example.com"), (4, "none.svc.cluster.local")]
    {
        ask(&socket, &question(id, name, A));
    }
    assert_eq!([entries.recv_timeout(PATIENCE), entries.recv_timeout(PATIENCE)], [Ok(2), Ok(4)]);
}

/// A log that takes nothing: answers go on, and what it has lost is counted.
#[test]
fn a_log_that_is_stuck_holds_nothing_up() {
    let (release, stuck) = channel::<()>();
    let stuck = Mutex::new(stuck);
    let scene = scene(1, Classes::default(), move |_| {
        // Until the test has ended.
        let _ = stuck.lock().unwrap().recv();
    });
    let socket = client(scene.address());
    for id in 0..1500 {
        assert_eq!(ask(&socket, &question(id, WEB, A)).id, id);
    }
    assert!(scene.server.counts().log_dropped > 400);
    drop(release);
}

//! One server after the other at the same address.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use portolan_dns::{Error, Listener, Server, Settings};

use crate::asking::{A, ask, client, question};
use crate::scene::{Scene, block, names};

const WEB: &str = "web.shop.svc.cluster.local";

#[test]
fn the_port_is_free_after_a_stop() {
    let first = Scene::new(|_| {});
    let address = first.address();
    let open = std::net::TcpStream::connect(address).unwrap();
    drop(first);
    let next = Scene::new(|settings| settings.listeners[0].address = address);
    assert_eq!(next.address(), address);
    assert_eq!(ask(&client(address), &question(1, WEB, A)).id, 1);
    drop(open);
}

/// Sockets go from one server to the next: each question is answered by one of them.
#[test]
fn no_question_is_lost_when_sockets_are_handed_over() {
    let first = Scene::new(|_| {});
    let address = first.address();
    let ended = Arc::new(AtomicBool::new(false));
    let asking = {
        let ended = ended.clone();
        std::thread::spawn(move || {
            let mut asked = 0u32;
            while !ended.load(Ordering::Relaxed) {
                // From many ports: of each of the sockets.
                assert_eq!(ask(&client(address), &question(1, WEB, A)).id, 1);
                asked += 1;
            }
            asked
        })
    };
    let mut server = first.server;
    for _ in 0..20 {
        let sockets = server.sockets().unwrap().remove(0);
        let mut listener = Listener::new("127.0.0.1:0".parse().unwrap(), vec![block(&names())]);
        listener.sockets = Some(sockets);
        let settings = Settings { listeners: vec![listener], threads: Some(2), ..Settings::default() };
        let next = Server::start(settings).unwrap();
        assert_eq!(next.addresses(), [address]);
        // The old one stops: the sockets stay open with the next.
        server = next;
    }
    ended.store(true, Ordering::Relaxed);
    assert!(asking.join().unwrap() > 20);
}

#[test]
fn an_address_that_cannot_be_had() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for (name, address, expected) in [
        ("taken", taken.local_addr().unwrap().to_string(), "ss -lnp"),
        ("not of this node", "192.0.2.1:0".to_owned(), "give an address of this node"),
    ] {
        let listener = Listener::new(address.parse().unwrap(), vec![block(&names())]);
        let settings = Settings { listeners: vec![listener], ..Settings::default() };
        let error = Server::start(settings).err().expect(name);
        assert!(matches!(&error, Error::Bind { .. }), "{name}: {error}");
        let text = error.to_string();
        assert!(text.contains(&address) && text.contains(expected), "{name}: {text}");
    }
}

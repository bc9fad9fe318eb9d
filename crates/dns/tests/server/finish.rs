//! A server that is asked to finish answers what has come.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::asking::{A, Answer, PATIENCE, client, question, receive};
use crate::elsewhere::{address, elsewhere, message};
use crate::scene::Scene;

const WEB: &str = "web.shop.svc.cluster.local";

#[test]
fn what_waits_in_sockets_is_answered() {
    let scene = Scene::new(|_| {});
    let clients: Vec<_> = (0..64).map(|_| client(scene.address())).collect();
    for id in 0..1024u16 {
        clients[usize::from(id % 64)].send(&question(id, WEB, A)).unwrap();
    }
    scene.server.finish(PATIENCE);
    for id in 0..1024u16 {
        assert_eq!(receive(&clients[usize::from(id % 64)]).rcode, 0, "{id}");
    }
}

#[test]
fn a_connection_is_answered_and_closed() {
    let scene = Scene::new(|_| {});
    let (address, server) = (scene.address(), scene.server);
    // One that is answered already, and one that has yet to ask.
    let mut answered = connection(address);
    ask(&mut answered, 1);
    let mut late = connection(address);
    let began = Instant::now();
    let finishing = thread::spawn(move || server.finish(PATIENCE));
    assert_eq!(answered.read(&mut [0]).unwrap(), 0, "closed");
    ask(&mut late, 2);
    assert_eq!(late.read(&mut [0]).unwrap(), 0, "closed, too");
    finishing.join().unwrap();
    assert!(began.elapsed() < PATIENCE, "nothing more was waited for");
}

#[test]
fn others_are_waited_for_as_long_as_there_is_patience() {
    for (patience, expected) in [(PATIENCE, true), (Duration::from_millis(50), false)] {
        let (others, asked) = elsewhere();
        let scene = Scene::new(|settings| settings.listeners[0].blocks[0].others = Some(others));
        let (socket, server) = (client(scene.address()), scene.server);
        socket.send(&question(1, "example.com", A)).unwrap();
        let (question, done) = message(&asked);
        let finishing = thread::spawn(move || server.finish(patience));
        if expected {
            done(address(&question, [192, 0, 2, 1]));
            finishing.join().unwrap();
            assert_eq!(receive(&socket).address(), [192, 0, 2, 1]);
        } else {
            finishing.join().unwrap();
            drop(done);
        }
    }
}

fn connection(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, id: u16) {
    let question = question(id, WEB, A);
    let length = u16::try_from(question.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], &question].concat()).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).unwrap();
    assert_eq!(Answer::of(&message).id, id);
}

//! Questions on connections.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::asking::{A, Answer, PATIENCE, ask, client, question};
use crate::elsewhere::{address, elsewhere, message};
use crate::scene::Scene;

const WEB: &str = "web.shop.svc.cluster.local";
/// So short that a test can wait for its end.
const SHORT: Duration = Duration::from_millis(200);

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A message after its length.
fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

fn read(stream: &mut TcpStream) -> Answer {
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("an answer in time");
    let mut octets = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut octets).expect("a whole answer");
    Answer::of(&octets)
}

/// Whether the server closes the connection, before anything else comes.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 16]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn questions_in_a_row_and_octet_by_octet() {
    let scene = Scene::new(|_| {});
    let mut stream = connect(scene.address());
    let many: Vec<u8> = (0..1000).flat_map(|id| framed(&question(id, WEB, A))).collect();
    // The server does not read on while its answers are not taken.
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&many).unwrap());
    for id in 0..1000 {
        let answer = read(&mut stream);
        assert_eq!((answer.id, answer.address()), (id, [10, 96, 0, 1]));
    }
    writing.join().unwrap();
    stream.set_nodelay(true).unwrap();
    for octet in framed(&question(7, WEB, A)) {
        stream.write_all(&[octet]).unwrap();
    }
    assert_eq!(read(&mut stream).id, 7);
    let large = framed(&question(8, "large.shop.svc.cluster.local", A));
    stream.write_all(&large).unwrap();
    assert_eq!(read(&mut stream).records, 4000);
    let counts = scene.server.counts();
    assert_eq!((counts.connections, counts.connections_open), (1, 1));
}

#[test]
fn an_answer_waits_for_no_other() {
    let (others, asked) = elsewhere();
    let scene = Scene::new(|settings| settings.listeners[0].blocks[0].others = Some(others));
    let mut stream = connect(scene.address());
    for (id, name) in [(1, "slow.example.com"), (2, "forgotten.example.com"), (3, WEB)] {
        stream.write_all(&framed(&question(id, name, A))).unwrap();
    }
    // No more will come from the client: what it has asked is answered all the same.
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read(&mut stream).id, 3);
    let (slow, done) = message(&asked);
    drop(message(&asked));
    let forgotten = read(&mut stream);
    assert_eq!((forgotten.id, forgotten.rcode), (2, 2));
    done(address(&slow, [192, 0, 2, 1]));
    assert_eq!(read(&mut stream).address(), [192, 0, 2, 1]);
    assert!(is_closed(&mut stream));
}

#[test]
fn who_asks_nothing_is_not_waited_for() {
    for (name, before, expected) in [
        ("before the first question", &[][..], SHORT),
        ("in the middle of the first", &framed(&question(1, WEB, A))[..9], SHORT),
        ("after the first", &framed(&question(1, WEB, A)), SHORT * 3),
    ] {
        let scene = Scene::new(|settings| {
            (settings.tcp.first, settings.tcp.idle) = (SHORT, SHORT * 3);
        });
        let start = Instant::now();
        let mut stream = connect(scene.address());
        stream.write_all(before).unwrap();
        if expected > SHORT {
            read(&mut stream);
        }
        assert!(is_closed(&mut stream), "{name}");
        assert!(start.elapsed() >= expected, "{name}: {:?}", start.elapsed());
    }
}

#[test]
fn what_is_no_question_ends_the_connection() {
    let scene = Scene::new(|_| {});
    let mut stream = connect(scene.address());
    stream.write_all(&[0x10, 0x01]).unwrap();
    assert!(is_closed(&mut stream), "4097 octets");
}

#[test]
fn so_many_connections_and_no_more() {
    let scene =
        Scene::new(|settings| (settings.tcp.connections, settings.tcp.connections_per_client) = (2, 8));
    let (mut first, mut second) = (connect(scene.address()), connect(scene.address()));
    first.write_all(&framed(&question(1, WEB, A))).unwrap();
    assert_eq!(read(&mut first).id, 1);
    // The second has asked nothing: it makes room.
    let mut third = connect(scene.address());
    assert!(is_closed(&mut second));
    third.write_all(&framed(&question(3, WEB, A))).unwrap();
    assert_eq!(read(&mut third).id, 3);
    assert!(is_closed(&mut connect(scene.address())), "all others have asked");
    drop(first);
    third.write_all(&framed(&question(4, WEB, A))).unwrap();
    assert_eq!(read(&mut third).id, 4);
    assert_eq!(scene.server.counts().connections_refused, 2);
}

#[test]
fn so_many_connections_of_one_client() {
    let scene = Scene::new(|settings| settings.tcp.connections_per_client = 1);
    let _first = connect(scene.address());
    assert!(is_closed(&mut connect(scene.address())));
}

/// Clients that ask for more than the kernel holds for a connection, and take nothing of it.
#[test]
fn who_takes_no_answers_holds_little_and_nobody_up() {
    for (name, write, buffered) in
        [("for too long", SHORT, usize::MAX), ("while too much waits", PATIENCE * 6, 10_000)]
    {
        let scene = Scene::new(|settings| (settings.tcp.write, settings.tcp.buffered) = (write, buffered));
        let many = framed(&question(1, "large.shop.svc.cluster.local", A)).repeat(300);
        let mut greedy: Vec<TcpStream> = (0..3).map(|_| connect(scene.address())).collect();
        for stream in &mut greedy {
            stream.write_all(&many).unwrap();
        }
        let mut good = connect(scene.address());
        good.write_all(&framed(&question(1, WEB, A))).unwrap();
        assert_eq!(read(&mut good).id, 1, "{name}");
        assert_eq!(ask(&client(scene.address()), &question(2, WEB, A)).id, 2, "{name}");
        while scene.server.counts().connections_open > 1 {
            std::thread::yield_now();
        }
        for mut stream in greedy {
            let mut all = Vec::new();
            // The end, or a reset.
            let _ = stream.read_to_end(&mut all);
            assert!(all.len() < 300 * 64_000, "{name}: all of it");
        }
    }
}

/// More than the kernel holds for a connection is answered when it is taken.
#[test]
fn who_takes_answers_late_gets_all() {
    let scene = Scene::new(|_| {});
    let mut stream = connect(scene.address());
    let large = framed(&question(1, "large.shop.svc.cluster.local", A));
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || (0..300).for_each(|_| writer.write_all(&large).unwrap()));
    writing.join().unwrap();
    for _ in 0..300 {
        assert_eq!(read(&mut stream).records, 4000);
    }
}

/// Slow clients by the hundred: each sends the half of a question, and waits.
#[test]
fn slow_clients_do_not_hold_up_datagrams() {
    let scene = Scene::new(|settings| settings.tcp.connections_per_client = 1000);
    let half = &framed(&question(1, WEB, A))[..20];
    let slow: Vec<TcpStream> = (0..400)
        .map(|_| {
            let mut stream = connect(scene.address());
            stream.write_all(half).unwrap();
            stream
        })
        .collect();
    let socket = client(scene.address());
    for id in 0..1000 {
        assert_eq!(ask(&socket, &question(id, WEB, A)).id, id);
    }
    let mut good = connect(scene.address());
    good.write_all(&framed(&question(5, WEB, A))).unwrap();
    assert_eq!(read(&mut good).id, 5);
    drop(slow);
}

//! Clients that send datagrams.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use libtest_mimic::Failed;
use portolan_netlink::rtnetlink::{Address, Rtnetlink};
use portolan_relay::Protocol;

use crate::scene::{KEY, SOON, Scene, await_that, descriptors, in_thread};

/// An endpoint that sends back what comes, after its name.
fn answering(address: &str, name: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind(address).unwrap();
    let address = socket.local_addr().unwrap();
    in_thread(move || {
        let mut octets = vec![0; 1 << 16];
        while let Ok((length, from)) = socket.recv_from(&mut octets) {
            let answer = [name.as_bytes(), &octets[..length]].concat();
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

fn client(to: SocketAddr) -> UdpSocket {
    let any: SocketAddr = if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }.parse().unwrap();
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

/// Asks until there is an answer: datagrams to an endpoint that is gone are lost.
fn ask(client: &UdpSocket) -> String {
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    await_that("an answer", || {
        client.send(b"?").unwrap();
        let mut answer = [0; 64];
        let length = client.recv(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer[..length]).trim_end_matches('?').to_owned())
    })
}

pub(crate) fn many_clients() -> Result<(), Failed> {
    const CLIENTS: u32 = 150;
    let mut kernel = Rtnetlink::open()?;
    let index = kernel.link("lo")?.ok_or("every namespace has it")?.index;
    kernel.add_address(&Address { index, network: "fd00::7/128".parse()? })?;
    for (host, addresses) in [
        ("0.0.0.0:0", ["127.0.0.1", "127.0.0.2"]),
        ("[::]:0", ["::1", "fd00::7"]),
        ("127.0.0.3:0", ["127.0.0.3"; 2]),
    ] {
        let host: SocketAddr = host.parse()?;
        let endpoint = answering(if host.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }, "one");
        let scene = Scene::with(Protocol::Udp, &[endpoint], |_, listener| listener.address = host);
        // A connected socket takes answers from nowhere else.
        let to = |number: u32| -> IpAddr { addresses[number as usize % 2].parse().unwrap() };
        let clients: Vec<_> =
            (0..CLIENTS).map(|number| client(SocketAddr::new(to(number), scene.address.port()))).collect();
        for round in 0..3u32 {
            for (number, client) in (0u32..).zip(&clients) {
                client.send(&[number.to_be_bytes(), round.to_be_bytes()].concat())?;
            }
            for (number, client) in (0u32..).zip(&clients) {
                let mut answer = [0; 64];
                let length = client.recv(&mut answer)?;
                let expected = [b"one", &number.to_be_bytes()[..], &round.to_be_bytes()].concat();
                assert_eq!(answer[..length], expected, "client {number}");
            }
        }
        let datagrams = u64::from(CLIENTS) * 3;
        let counts = scene.await_counts("all are counted", |counts| counts.datagrams_out == datagrams);
        assert_eq!((counts.open, counts.total), (CLIENTS.into(), CLIENTS.into()), "one socket each");
        assert_eq!((counts.datagrams_in, counts.unsent), (datagrams, 0));
        assert_eq!((counts.octets_in, counts.octets_out), (datagrams * 8, datagrams * 11));
        scene.assert_quiet();
    }
    Ok(())
}

pub(crate) fn boundaries() -> Result<(), Failed> {
    // The same length in a row, a shorter one at the end, none, and the longest there is.
    let mut lengths = vec![1200; 20];
    lengths.extend([7, 1200, 1200, 0, 0, 1, 1, 9000, 9000, 1472, 1473, 1473, 65_000, 60_000]);
    lengths.extend([500; 70]);
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let endpoint = answering(host, "one");
        let host: SocketAddr = host.parse()?;
        let scene = Scene::with(Protocol::Udp, &[endpoint], |_, listener| listener.address = host);
        let client = client(scene.address);
        // As many at once as the queues have room for.
        for (first, lengths) in (0..).step_by(8).zip(lengths.chunks(8)) {
            let datagrams: Vec<Vec<u8>> =
                (first..).zip(lengths).map(|(at, length): (u8, &usize)| vec![at; *length]).collect();
            for datagram in &datagrams {
                client.send(datagram)?;
            }
            for datagram in datagrams {
                let mut answer = vec![0; 1 << 16];
                let length = client.recv(&mut answer)?;
                assert!(answer[..length] == [b"one", &datagram[..]].concat(), "{length} octets");
            }
        }
        let counts = scene.counts();
        assert_eq!(counts.datagrams_in, lengths.len() as u64);
        assert_eq!(counts.octets_in, lengths.iter().sum::<usize>() as u64);
        assert_eq!((counts.total, counts.unsent), (1, 0));
    }
    Ok(())
}

pub(crate) fn idle() -> Result<(), Failed> {
    let endpoint = answering("127.0.0.1:0", "one");
    let scene = Scene::with(Protocol::Udp, &[endpoint], |_, listener| {
        listener.idle = Duration::from_millis(50);
    });
    let before = descriptors();
    let clients: Vec<_> = (0..50).map(|_| client(scene.address)).collect();
    for client in &clients {
        assert_eq!(ask(client), "one");
    }
    let mine = clients.len();
    let counts = scene.await_counts("all are forgotten", |counts| counts.open == 0);
    assert!(counts.total >= mine as u64);
    assert_eq!(descriptors(), before + mine);
    // Whoever comes again is a new client.
    assert_eq!(ask(&clients[0]), "one");
    assert!(scene.counts().total > counts.total);
    scene.await_counts("it is forgotten", |counts| counts.open == 0);
    scene.assert_quiet();
    Ok(())
}

pub(crate) fn dead_endpoint() -> Result<(), Failed> {
    let dead = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let alive = answering("127.0.0.1:0", "alive");
    let scene = Scene::new(Protocol::Udp, &[dead, alive]);
    let clients: Vec<_> = (0..4).map(|_| client(scene.address)).collect();
    for client in &clients {
        assert_eq!(ask(client), "alive");
    }
    assert_eq!(scene.counts().failed_dials, 4, "each client met it, once");
    // Nobody is left: datagrams are lost, and nothing spins.
    scene.table.set(vec![dead]);
    scene.relay.leave(KEY, alive, None);
    let lost = &clients[0];
    lost.set_read_timeout(Some(Duration::from_millis(20)))?;
    await_that("it is given up", || {
        let _ = lost.send(b"?");
        let error = lost.recv(&mut [0; 8]).expect_err("nobody answers");
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
        (scene.counts().refused_without_endpoint > 0).then_some(())
    });
    scene.assert_quiet();
    Ok(())
}

pub(crate) fn too_many() -> Result<(), Failed> {
    let endpoint = answering("127.0.0.1:0", "one");
    let scene = Scene::with(Protocol::Udp, &[endpoint], |settings, listener| {
        settings.limits.clients = 3;
        listener.idle = Duration::from_millis(500);
    });
    let clients: Vec<_> = (0..3).map(|_| client(scene.address)).collect();
    for client in &clients {
        assert_eq!(ask(client), "one");
    }
    let late = client(scene.address);
    late.send(b"?")?;
    scene.await_counts("it is refused", |counts| counts.refused_by_limits > 0);
    // There is room when others are forgotten.
    assert_eq!(ask(&late), "one");
    Ok(())
}

pub(crate) fn leaving_endpoint() -> Result<(), Failed> {
    let (first, second) = (answering("127.0.0.1:0", "first"), answering("127.0.0.1:0", "second"));
    let scene = Scene::new(Protocol::Udp, &[first, second]);
    let clients: Vec<_> = (0..10).map(|_| client(scene.address)).collect();
    let names = || clients.iter().map(ask).collect::<Vec<_>>();
    let before = names();
    assert_eq!(before.iter().collect::<HashSet<_>>().len(), 2, "{before:?}");
    assert_eq!(names(), before, "each keeps its endpoint");
    scene.table.set(vec![second]);
    scene.relay.leave(KEY, first, None);
    for client in &clients {
        await_that("it gets the other one", || (ask(client) == "second").then_some(()));
    }
    assert_eq!(scene.counts().open, 10);
    Ok(())
}

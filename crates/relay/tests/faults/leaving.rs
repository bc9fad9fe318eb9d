//! Endpoints, listeners and relays that go.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use portolan_relay::{Error, Listener, Protocol};

use crate::scene::{
    KEY, SOON, Scene, ask_name, assert_reset, await_that, connect, descriptors, endpoint, in_thread, name,
};

pub(crate) fn leaving_endpoint() -> Result<(), Failed> {
    let (stays, leaves) = (endpoint(name("stays")), endpoint(name("leaves")));
    let scene = Scene::new(Protocol::Tcp, &[stays, leaves]);
    let mut clients = [connect(scene.address), connect(scene.address)];
    let mut names: Vec<_> = clients.iter_mut().map(ask_name).collect();
    if names[0] == "leaves" {
        clients.reverse();
        names.reverse();
    }
    assert_eq!(names, ["stays", "leaves"]);
    scene.table.set(vec![stays]);
    scene.relay.leave(KEY, leaves, None);
    for _ in 0..4 {
        assert_eq!(ask_name(&mut connect(scene.address)), "stays");
    }
    assert_eq!(ask_name(&mut clients[1]), "leaves", "what is there goes on");
    let start = Instant::now();
    let limit = Duration::from_millis(200);
    scene.relay.leave(KEY, leaves, Some(limit));
    assert_reset(&mut clients[1]);
    assert!(start.elapsed() >= limit);
    assert_eq!(ask_name(&mut clients[0]), "stays");
    Ok(())
}

pub(crate) fn leaving_listener() -> Result<(), Failed> {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let address = endpoint(name("one"));
        let before = descriptors();
        let scene = Scene::new(protocol, &[address]);
        let mut client = (protocol == Protocol::Tcp).then(|| connect(scene.address));
        if let Some(client) = &mut client {
            assert_eq!(ask_name(client), "one");
        }
        scene.relay.remove(KEY, None)?;
        match protocol {
            Protocol::Tcp => drop(TcpListener::bind(scene.address)?),
            Protocol::Udp => drop(UdpSocket::bind(scene.address)?),
        }
        assert!(matches!(scene.relay.remove(KEY, None), Err(Error::NoListener { .. })));
        if let Some(mut client) = client {
            assert_eq!(ask_name(&mut client), "one");
            assert!(scene.relay.counts()[0].removed);
            drop(client);
            await_that("it has ended", || scene.relay.counts().is_empty().then_some(()));
        }
        // The key is free too.
        let table = scene.table.clone();
        scene.relay.add(Listener::new(KEY, protocol, scene.address, table))?;
        drop(scene);
        assert_eq!(descriptors(), before);
    }
    Ok(())
}

pub(crate) fn finish() -> Result<(), Failed> {
    let address = endpoint(name("one"));
    let before = descriptors();
    let Scene { relay, address: to, .. } = Scene::new(Protocol::Tcp, &[address]);
    let mut client = connect(to);
    assert_eq!(ask_name(&mut client), "one");
    let finishing = in_thread(move || relay.finish(SOON));
    await_that("no more are taken", || {
        let found = TcpStream::connect_timeout(&to, SOON);
        found.err().filter(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    assert_eq!(ask_name(&mut client), "one", "what is there goes on");
    drop(client);
    assert_eq!(finishing.join().map_err(|_| "it panicked")?, 0);
    await_that("descriptors are closed", || (descriptors() == before).then_some(()));
    Ok(())
}

pub(crate) fn impatience() -> Result<(), Failed> {
    let address = endpoint(name("one"));
    let Scene { relay, address: to, .. } = Scene::new(Protocol::Tcp, &[address]);
    let mut client = connect(to);
    assert_eq!(ask_name(&mut client), "one");
    assert_eq!(relay.finish(Duration::from_millis(50)), 1);
    assert_reset(&mut client);
    Ok(())
}

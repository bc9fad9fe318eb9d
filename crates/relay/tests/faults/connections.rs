//! Connections that come, go, break and wait.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use libtest_mimic::Failed;
use portolan_relay::{Keepalive, Protocol, ProxyHeader, Source, Upstream};
use socket2::{SockFilter, SockRef};

use crate::scene::{
    KEY, Scene, accept, ask_name, assert_refused, assert_reset, await_that, connect, descriptors, echo,
    endpoint, endpoint_at, in_thread, listening, name, read_long, send_long,
};

/// Octets of a long message.
const LONG: u64 = 24 << 20;

pub(crate) fn half_close() -> Result<(), Failed> {
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let host: SocketAddr = host.parse()?;
        let (listener, _) = listening();
        let listener = if host.is_ipv6() { std::net::TcpListener::bind(host)? } else { listener };
        let address = listener.local_addr()?;
        let scene = Scene::with(Protocol::Tcp, &[address], |_, listener| listener.address = host);
        for client_first in [true, false] {
            let client = connect(scene.address);
            let endpoint = accept(&listener);
            let (mut first, mut second) = if client_first { (client, endpoint) } else { (endpoint, client) };
            first.write_all(b"the last words")?;
            first.shutdown(Shutdown::Write)?;
            let mut text = String::new();
            second.read_to_string(&mut text)?;
            assert_eq!(text, "the last words");
            second.write_all(b"much more")?;
            drop(second);
            text.clear();
            first.read_to_string(&mut text)?;
            assert_eq!(text, "much more");
        }
        let counts = scene.await_counts("both have ended", |counts| counts.open == 0);
        assert_eq!((counts.total, counts.broken), (2, 0));
        assert_eq!((counts.octets_in, counts.octets_out), (14 + 9, 14 + 9));
    }
    Ok(())
}

pub(crate) fn long_messages() -> Result<(), Failed> {
    relay_long_messages(64)
}

pub(crate) fn long_messages_without_pipes() -> Result<(), Failed> {
    relay_long_messages(0)
}

fn relay_long_messages(pipes: usize) -> Result<(), Failed> {
    let (listener, address) = listening();
    let scene = Scene::with(Protocol::Tcp, &[address], |settings, _| settings.limits.pipes = pipes);
    let client = connect(scene.address);
    let endpoint = accept(&listener);
    let both = |stream: TcpStream| {
        let mut writer = stream.try_clone().unwrap();
        let sending = in_thread(move || {
            let sent = send_long(&mut writer, LONG);
            writer.shutdown(Shutdown::Write).unwrap();
            sent
        });
        let mut reader = stream;
        let reading = in_thread(move || read_long(&mut reader));
        [sending, reading]
    };
    for thread in both(client).into_iter().chain(both(endpoint)) {
        assert_eq!(thread.join().map_err(|_| "it arrived otherwise")?, LONG);
    }
    let counts = scene.await_counts("it has ended", |counts| counts.open == 0);
    assert_eq!((counts.octets_in, counts.octets_out, counts.broken), (LONG, LONG, 0));
    Ok(())
}

pub(crate) fn resets() -> Result<(), Failed> {
    let (listener, address) = listening();
    let scene = Scene::new(Protocol::Tcp, &[address]);
    for by_client in [true, false] {
        let client = connect(scene.address);
        let endpoint = accept(&listener);
        let (first, mut second) = if by_client { (client, endpoint) } else { (endpoint, client) };
        SockRef::from(&first).set_linger(Some(Duration::ZERO))?;
        drop(first);
        assert_reset(&mut second);
    }
    let counts = scene.await_counts("both have ended", |counts| counts.open == 0);
    assert_eq!(counts.broken, 2);
    Ok(())
}

pub(crate) fn silent_endpoint() -> Result<(), Failed> {
    let (listener, address) = listening();
    let scene = Scene::new(Protocol::Tcp, &[address]);
    let mut client = connect(scene.address);
    let mut endpoint = accept(&listener);
    client.write_all(b"hello?")?;
    endpoint.read_exact(&mut [0; 6])?;
    scene.assert_quiet();
    // It is waited for.
    endpoint.write_all(b"yes")?;
    client.read_exact(&mut [0; 3])?;
    Ok(())
}

/// Its acknowledgements are missing: keepalive notices.
pub(crate) fn vanished_endpoint() -> Result<(), Failed> {
    let (listener, address) = listening();
    let scene = Scene::with(Protocol::Tcp, &[address], |settings, _| {
        let second = Duration::from_secs(1);
        settings.keepalive = Some(Keepalive { idle: second, interval: second, probes: 1 });
    });
    let mut client = connect(scene.address);
    let mut endpoint = accept(&listener);
    client.write_all(b"hello?")?;
    endpoint.read_exact(&mut [0; 6])?;
    // BPF_RET with 0 (linux/filter.h): nothing gets through to it.
    SockRef::from(&endpoint).attach_filter(&[SockFilter::new(0x06, 0, 0, 0)])?;
    assert_reset(&mut client);
    let counts = scene.await_counts("it has ended", |counts| counts.open == 0);
    assert_eq!(counts.broken, 1);
    Ok(())
}

pub(crate) fn client_never_reads() -> Result<(), Failed> {
    let (listener, address) = listening();
    let scene = Scene::new(Protocol::Tcp, &[address]);
    let mut client = connect(scene.address);
    let mut endpoint = accept(&listener);
    endpoint.set_write_timeout(Some(Duration::from_millis(500)))?;
    let most = 256 << 20;
    let sent = send_long(&mut endpoint, most);
    assert!(sent < most, "all {sent} octets went somewhere, though nobody reads");
    scene.assert_quiet();
    // Others are served meanwhile.
    let mut other = connect(scene.address);
    let mut its = accept(&listener);
    other.write_all(b"x")?;
    its.read_exact(&mut [0])?;
    endpoint.shutdown(Shutdown::Write)?;
    assert_eq!(read_long(&mut client), sent);
    Ok(())
}

pub(crate) fn short_connections() -> Result<(), Failed> {
    const CLIENTS: u64 = 4;
    const EACH: u64 = 5000;
    let address = endpoint(|mut stream| {
        let mut request = [0; 8];
        if stream.read_exact(&mut request).is_ok() {
            let _ = stream.write_all(&request);
        }
    });
    let scene = Scene::new(Protocol::Tcp, &[address]);
    let relayed = |to: SocketAddr, number: u64| {
        let mut client = connect(to);
        client.write_all(&number.to_be_bytes()).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, number.to_be_bytes());
    };
    // Warm: pipes are there.
    relayed(scene.address, 0);
    scene.await_counts("the first has ended", |counts| counts.open == 0);
    let before = await_that("the endpoint has closed it", || Some(descriptors()));
    let to = scene.address;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| in_thread(move || (0..EACH).for_each(|at| relayed(to, client * EACH + at))))
        .collect();
    for client in clients {
        client.join().map_err(|_| "a client failed")?;
    }
    let counts = scene.await_counts("all have ended", |counts| counts.open == 0);
    assert_eq!((counts.total, counts.broken), (CLIENTS * EACH + 1, 0));
    // Some more pipes are kept for the next connections.
    await_that("descriptors are closed", || (descriptors() <= before + 4 * 2 * 2).then_some(()));
    scene.assert_quiet();
    Ok(())
}

pub(crate) fn too_many() -> Result<(), Failed> {
    let address = endpoint(name("one"));
    let scene = Scene::with(Protocol::Tcp, &[address], |settings, _| settings.limits.connections = 3);
    let mut clients: Vec<_> = (0..3).map(|_| connect(scene.address)).collect();
    for client in &mut clients {
        assert_eq!(ask_name(client), "one");
    }
    for _ in 0..2 {
        assert_refused(scene.address);
    }
    assert_eq!(scene.counts().refused_by_limits, 2);
    assert_eq!(ask_name(&mut clients[0]), "one");
    drop(clients.pop());
    scene.await_counts("there is room", |counts| counts.open == 2);
    assert_eq!(ask_name(&mut connect(scene.address)), "one");
    Ok(())
}

pub(crate) fn idle_connections() -> Result<(), Failed> {
    const CLIENTS: usize = 200;
    let (listener, address) = listening();
    let scene = Scene::new(Protocol::Tcp, &[address]);
    let mut pairs = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = connect(scene.address);
        let mut endpoint = accept(&listener);
        client.write_all(b"x")?;
        endpoint.read_exact(&mut [0])?;
        pairs.push((client, endpoint));
    }
    let all = descriptors();
    // Four a connection are sockets of clients, endpoints and the relay. One pipe a thread suffices
    // if they come one after the other.
    assert!(all < 4 * CLIENTS + 60, "{all} descriptors for {CLIENTS} connections");
    scene.assert_quiet();
    Ok(())
}

/// The header comes first, and a change holds for new connections.
pub(crate) fn proxy_header() -> Result<(), Failed> {
    let (listener, address) = listening();
    let v1 = Upstream { proxy_header: Some(ProxyHeader::V1), ..Upstream::default() };
    let scene = Scene::with(Protocol::Tcp, &[address], |_, listener| listener.upstream = v1);
    let text = |client: SocketAddr| {
        let ports = format!("{} {}", client.port(), scene.address.port());
        format!("PROXY TCP4 127.0.0.1 127.0.0.1 {ports}\r\n").into_bytes()
    };
    let binary = |client: SocketAddr| {
        let port = |address: SocketAddr| address.port().to_be_bytes();
        let addresses = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01";
        [&addresses[..], &port(client), &port(scene.address)].concat()
    };
    let mut open = Vec::new();
    for (header, expected) in [
        (Some(ProxyHeader::V1), &text as &dyn Fn(SocketAddr) -> Vec<u8>),
        (Some(ProxyHeader::V2), &binary),
        (None, &|_| Vec::new()),
    ] {
        scene.relay.set_upstream(KEY, Upstream { proxy_header: header, ..Upstream::default() });
        let mut client = connect(scene.address);
        client.write_all(b"hello")?;
        let expected = [expected(client.local_addr()?), b"hello".to_vec()].concat();
        let (mut endpoint, mut found) = (accept(&listener), vec![0; expected.len()]);
        endpoint.read_exact(&mut found)?;
        assert_eq!(found, expected, "{header:?}");
        open.push((client, endpoint));
    }
    for (mut client, mut endpoint) in open {
        client.write_all(b"more")?;
        let mut found = [0; 4];
        endpoint.read_exact(&mut found)?;
        assert_eq!(&found, b"more", "a connection of before a change");
    }
    Ok(())
}

pub(crate) fn source_address() -> Result<(), Failed> {
    for (source, expected) in [
        (Source::Address("127.0.0.7".parse()?), "127.0.0.7"),
        (Source::Client, "127.0.0.9"),
        (Source::Route, "127.0.0.1"),
    ] {
        let (sender, seen) = std::sync::mpsc::channel();
        let sender = std::sync::Mutex::new(sender);
        let address = endpoint_at("127.0.0.1:0".parse()?, move |stream| {
            sender.lock().unwrap().send(stream.peer_addr().unwrap()).unwrap();
            echo(stream);
        });
        let scene = Scene::with(Protocol::Tcp, &[address], |_, listener| {
            listener.upstream.source = source;
            listener.upstream.mark = Some(7);
        });
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&"127.0.0.9:0".parse::<SocketAddr>()?.into())?;
        socket.connect(&scene.address.into())?;
        let mut client = crate::scene::patient(socket.into());
        client.write_all(b"x")?;
        client.read_exact(&mut [0])?;
        assert_eq!(seen.recv()?.ip().to_string(), expected, "{source:?}");
    }
    Ok(())
}

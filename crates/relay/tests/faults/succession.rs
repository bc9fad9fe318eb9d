//! One process after the other.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libtest_mimic::Failed;
use portolan_relay::{Listener, Order, Protocol, Relay, Sockets, Table, hand_over};

use crate::scene::{SOON, accept, ask_name, connect, endpoint, in_thread, listening, local, name, settings};

/// With this in its environment, this program is a relay to the endpoint that it names, and takes
/// over listeners from who started it.
pub(crate) const CHILD: &str = "PORTOLAN_TEST_RELAY_TO";

/// With this in its environment, this program hands many sockets over to itself.
pub(crate) const MANY: &str = "PORTOLAN_TEST_RELAY_MANY";

/// A relay of both protocols in another process, until its input ends.
pub(crate) fn child(endpoint: &str) -> ExitCode {
    let relay = Relay::start(settings()).unwrap();
    let table = Arc::new(Table::new(Order::RoundRobin, None));
    table.set(vec![endpoint.parse().unwrap()]);
    let address = relay.add(Listener::new("web", Protocol::Tcp, local(), table)).unwrap();
    println!("{address}");
    let _ = std::io::stdin().read(&mut [0]);
    ExitCode::SUCCESS
}

pub(crate) fn killed() -> Result<(), Failed> {
    let (listener, address) = listening();
    let mut child = Command::new(std::env::current_exe()?)
        .env(CHILD, address.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("it was asked for")?).read_line(&mut line)?;
    let to: SocketAddr = line.trim().parse()?;
    let mut client = connect(to);
    let mut endpoint = accept(&listener);
    client.write_all(b"hello")?;
    endpoint.read_exact(&mut [0; 5])?;
    child.kill()?;
    child.wait()?;
    // The kernel ends both connections, and the port is free.
    for side in [&mut client, &mut endpoint] {
        match side.read(&mut [0; 8]) {
            Ok(0) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            other => return Err(format!("it goes on: {other:?}").into()),
        }
    }
    let relay = Relay::start(settings())?;
    let table = Arc::new(Table::new(Order::RoundRobin, None));
    relay.add(Listener::new("web", Protocol::Tcp, to, table))?;
    Ok(())
}

fn listeners(relay: &Relay, to: [SocketAddr; 2], sockets: Vec<(String, Arc<Sockets>)>) {
    for (key, sockets) in sockets {
        let table = Arc::new(Table::new(Order::RoundRobin, None));
        let udp = usize::from(sockets.protocol() == Protocol::Udp);
        table.set(vec![to[udp]]);
        let mut listener = Listener::new(key, sockets.protocol(), local(), table);
        listener.sockets = Some(sockets);
        relay.add(listener).unwrap();
    }
}

pub(crate) fn hand_over() -> Result<(), Failed> {
    let to = [endpoint(name("one")), answering()?];
    let mut relay = Relay::start(settings())?;
    let mut addresses = Vec::new();
    for (key, protocol) in [("web", Protocol::Tcp), ("names", Protocol::Udp)] {
        let table = Arc::new(Table::new(Order::RoundRobin, None));
        table.set(vec![to[usize::from(protocol == Protocol::Udp)]]);
        addresses.push(relay.add(Listener::new(key, protocol, local(), table))?);
    }
    let mut old = connect(addresses[0]);
    assert_eq!(ask_name(&mut old), "one");
    let ended = Arc::new(AtomicBool::new(false));
    let (seen, address) = (ended.clone(), addresses[0]);
    let connecting = in_thread(move || {
        let mut count = 0;
        while !seen.load(Ordering::Relaxed) {
            assert_eq!(ask_name(&mut connect(address)), "one");
            count += 1;
        }
        count
    });
    let mut finishing = Vec::new();
    for _ in 0..5 {
        let (ours, mut theirs) = UnixStream::pair()?;
        hand_over::send(&ours, &relay.sockets())?;
        let mut sockets = Vec::new();
        hand_over::receive(&mut theirs, &mut sockets)?;
        assert_eq!(sockets.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["web", "names"]);
        let next = Relay::start(settings())?;
        listeners(&next, to, sockets);
        let found: Vec<_> = next.counts().iter().map(|listener| listener.address).collect();
        assert_eq!(found, addresses);
        let before = std::mem::replace(&mut relay, next);
        finishing.push(in_thread(move || before.finish(SOON)));
        let datagrams = UdpSocket::bind(local())?;
        datagrams.set_read_timeout(Some(SOON))?;
        datagrams.connect(addresses[1])?;
        datagrams.send(b"?")?;
        datagrams.recv(&mut [0; 8])?;
    }
    assert_eq!(ask_name(&mut old), "one", "it is still with the first");
    ended.store(true, Ordering::Relaxed);
    assert!(connecting.join().map_err(|_| "a connection was refused")? > 0);
    drop(old);
    Ok(())
}

/// Receives more sockets than the soft limit of descriptors lets a process have.
pub(crate) fn receive_many() -> ExitCode {
    let many: Vec<_> = (0..100)
        .map(|number| {
            let socket = std::net::TcpListener::bind(local()).unwrap();
            (number.to_string(), Arc::new(Sockets::Tcp(socket)))
        })
        .collect();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    hand_over::send(&ours, &many).unwrap();
    // SAFETY: reads and writes one structure, which lives until the calls return.
    unsafe {
        let mut limit = std::mem::zeroed::<libc::rlimit>();
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = 64;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
    let mut received = Vec::new();
    hand_over::receive(&mut theirs, &mut received).unwrap();
    assert_eq!(received.len(), many.len());
    ExitCode::SUCCESS
}

pub(crate) fn more_than_the_soft_limit() -> Result<(), Failed> {
    let output = Command::new(std::env::current_exe()?).env(MANY, "1").output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{}: {said}", output.status).into()) }
}

fn answering() -> Result<SocketAddr, Failed> {
    let socket = UdpSocket::bind(local())?;
    let address = socket.local_addr()?;
    in_thread(move || {
        while let Ok((length, from)) = socket.recv_from(&mut [0; 64]) {
            let _ = socket.send_to(&[0; 64][..length], from);
        }
    });
    Ok(address)
}

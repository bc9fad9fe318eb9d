//! A process without descriptors. It is one of its own, because the limit is the whole process's.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_relay::{Limits, Listener, Order, Protocol, Relay, Settings, Table};
use socket2::{Domain, Socket, Type};

const SOON: Duration = Duration::from_secs(30);
/// What the process may have.
const DESCRIPTORS: u64 = 600;

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--list") {
        println!("new_connections_are_refused_and_old_ones_go_on: test");
        return ExitCode::SUCCESS;
    }
    new_connections_are_refused_and_old_ones_go_on();
    println!("test new_connections_are_refused_and_old_ones_go_on ... ok");
    ExitCode::SUCCESS
}

fn bound_descriptors() {
    let limit = libc::rlimit { rlim_cur: DESCRIPTORS, rlim_max: DESCRIPTORS };
    // SAFETY: the kernel reads one `rlimit`.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

fn unconnected() -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.into()
}

fn connect(socket: &TcpStream, to: SocketAddr) -> std::io::Result<()> {
    socket2::SockRef::from(socket).connect_timeout(&to.into(), SOON)
}

/// Sends an octet to the endpoint through the relay, and back.
fn round(client: &mut TcpStream, endpoint: &mut TcpStream) {
    client.write_all(b"x").unwrap();
    endpoint.read_exact(&mut [0]).unwrap();
    endpoint.write_all(b"y").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

fn new_connections_are_refused_and_old_ones_go_on() {
    bound_descriptors();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = Settings {
        threads: Some(1),
        // Less than there is, so that even who may raise the limit does not.
        limits: Limits { connections: 100, clients: 0, pipes: 10 },
        ..Settings::default()
    };
    let relay = Relay::start(settings).unwrap();
    assert_eq!(relay.limits().connections, 100);
    let table = Arc::new(Table::new(Order::RoundRobin, None));
    table.set(vec![listener.local_addr().unwrap()]);
    let address = "127.0.0.1:0".parse().unwrap();
    let to = relay.add(Listener::new("web", Protocol::Tcp, address, table)).unwrap();
    let mut client = unconnected();
    connect(&client, to).unwrap();
    let mut endpoint = listener.accept().unwrap().0;
    endpoint.set_read_timeout(Some(SOON)).unwrap();
    round(&mut client, &mut endpoint);
    let mut waiting: Vec<TcpStream> = (0..20).map(|_| unconnected()).collect();

    // Somebody else in this process takes what is left.
    let taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(taken.len() > 10);
    for client in &mut waiting {
        let connected = connect(client, to);
        let error = connected.and_then(|()| client.read(&mut [0])).expect_err("it is refused");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
    let before = relay.wakeups();
    assert_eq!(relay.counts()[0].counts.refused_by_limits, 20);
    round(&mut client, &mut endpoint);
    std::thread::park_timeout(Duration::from_millis(300));
    assert!(relay.wakeups() - before < 30, "it spins");

    // There is room again.
    drop((taken, waiting));
    let mut late = unconnected();
    connect(&late, to).unwrap();
    let mut its = listener.accept().unwrap().0;
    its.set_read_timeout(Some(SOON)).unwrap();
    round(&mut late, &mut its);
    let deadline = Instant::now() + SOON;
    drop((client, endpoint, late, its));
    while relay.counts()[0].counts.open > 0 {
        assert!(Instant::now() < deadline, "connections stay");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

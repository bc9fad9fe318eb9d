//! A relay with one listener, its endpoints, and clients.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portolan_relay::{Asked, Counts, Limits, Listener, Order, Picker, Protocol, Relay, Settings, Table};

/// Everything must have happened by then, however busy the machine is.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// Long enough for what spins to wake up thousands of times.
pub(crate) const A_WHILE: Duration = Duration::from_millis(300);
/// What has nothing to do wakes up no more often in [`A_WHILE`].
const QUIET: u64 = 20;
pub(crate) const KEY: &str = "shop/web:http";

/// A relay with one listener.
pub(crate) struct Scene {
    pub(crate) relay: Relay,
    pub(crate) table: Arc<Table>,
    pub(crate) address: SocketAddr,
}

pub(crate) fn settings() -> Settings {
    let limits = Limits { connections: 4096, clients: 4096, pipes: 64 };
    Settings { threads: Some(2), limits, ..Settings::default() }
}

pub(crate) fn local() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

impl Scene {
    /// Relays to these endpoints in turn.
    pub(crate) fn new(protocol: Protocol, endpoints: &[SocketAddr]) -> Scene {
        Scene::with(protocol, endpoints, |_, _| {})
    }

    /// The same, with other settings.
    pub(crate) fn with(
        protocol: Protocol,
        endpoints: &[SocketAddr],
        change: impl FnOnce(&mut Settings, &mut Listener),
    ) -> Scene {
        let table = Arc::new(Table::new(Order::RoundRobin, None));
        table.set(endpoints.to_vec());
        let mut settings = settings();
        let mut listener = Listener::new(KEY, protocol, local(), table.clone());
        change(&mut settings, &mut listener);
        let relay = Relay::start(settings).unwrap();
        let address = relay.add(listener).unwrap();
        Scene { relay, table, address }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.relay.counts()[0].counts
    }

    /// Waits until the counters are so.
    pub(crate) fn await_counts(&self, what: &str, wanted: impl Fn(&Counts) -> bool) -> Counts {
        await_that(what, || Some(self.counts()).filter(&wanted))
    }

    /// Sees that the relay does nothing while nothing happens: at the latest when it has looked
    /// after the deadlines of what has happened before.
    pub(crate) fn assert_quiet(&self) {
        let mut woken = Vec::new();
        while woken.len() < 4 && woken.last().is_none_or(|times| *times > QUIET) {
            let before = self.relay.wakeups();
            std::thread::park_timeout(A_WHILE);
            woken.push(self.relay.wakeups() - before);
        }
        assert!(woken.last() <= Some(&QUIET), "woke up {woken:?} times for nothing");
    }
}

/// Waits until `look` sees something.
pub(crate) fn await_that<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// How many descriptors this case has.
pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/thread-self/fd").unwrap().count()
}

/// Connects, with bounded patience.
pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    patient(TcpStream::connect_timeout(&to, SOON).unwrap())
}

pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream
}

/// An endpoint that does `serve` with each connection, until the case ends.
pub(crate) fn endpoint(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    endpoint_at(local(), serve)
}

pub(crate) fn endpoint_at(
    address: SocketAddr,
    serve: impl Fn(TcpStream) + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            std::thread::spawn(move || serve(patient(stream)));
        }
    });
    address
}

/// An endpoint of which the case takes the connections itself.
pub(crate) fn listening() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(local()).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    patient(listener.accept().unwrap().0)
}

/// Sends back what comes.
pub(crate) fn echo(mut stream: TcpStream) {
    let mut other = stream.try_clone().unwrap();
    let _ = std::io::copy(&mut stream, &mut other);
    let _ = other.shutdown(std::net::Shutdown::Write);
}

/// Says who it is, once something has come.
pub(crate) fn name(name: &'static str) -> impl Fn(TcpStream) + Send + Sync + 'static {
    move |mut stream| {
        let mut octet = [0];
        while let Ok(1..) = stream.read(&mut octet) {
            let _ = stream.write_all(name.as_bytes());
        }
    }
}

/// Which endpoint a connection leads to.
pub(crate) fn ask_name(stream: &mut TcpStream) -> String {
    stream.write_all(b"?").unwrap();
    let mut name = [0; 16];
    let length = stream.read(&mut name).unwrap();
    String::from_utf8(name[..length].to_vec()).unwrap()
}

/// A port of 127.0.0.1 where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    listening().1
}

/// Sees that a connection ends with a reset.
pub(crate) fn assert_reset(stream: &mut TcpStream) {
    let mut octets = [0; 1024];
    loop {
        match stream.read(&mut octets) {
            Ok(0) => panic!("it ended as if everything was said"),
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
                return;
            }
        }
    }
}

/// Sees that a connection to there is reset, which may be so fast that it is not even there.
pub(crate) fn assert_refused(to: SocketAddr) {
    match TcpStream::connect_timeout(&to, SOON) {
        Ok(stream) => assert_reset(&mut patient(stream)),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

/// The octet at this place of a long message.
fn octet(at: u64) -> u8 {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).to_le_bytes()[0]
}

/// Sends a long message, and returns how long it is in the end: `most`, unless nobody takes it.
pub(crate) fn send_long(stream: &mut TcpStream, most: u64) -> u64 {
    let mut sent = 0;
    while sent < most {
        let length = usize::try_from((most - sent).min(100_000)).unwrap();
        let part: Vec<u8> = (sent..).map(octet).take(length).collect();
        match stream.write(&part) {
            Ok(taken) => sent += taken as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("after {sent} octets: {error}"),
        }
    }
    sent
}

/// Reads a long message to its end, and returns how long it is.
pub(crate) fn read_long(stream: &mut TcpStream) -> u64 {
    let (mut came, mut part) = (0u64, vec![0; 70_000]);
    loop {
        match stream.read(&mut part).unwrap() {
            0 => return came,
            length => {
                for (at, found) in (came..).zip(&part[..length]) {
                    assert_eq!(*found, octet(at), "octet {at}");
                }
                came += length as u64;
            }
        }
    }
}

pub(crate) fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(work)
}

/// Gives the endpoints one after the other, and remembers what it was asked.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) endpoints: Vec<SocketAddr>,
    pub(crate) asked: Mutex<Vec<(usize, Vec<SocketAddr>)>>,
}

impl Picker for Script {
    fn pick(&self, asked: &Asked<'_>) -> Option<SocketAddr> {
        self.asked.lock().unwrap().push((asked.attempt, asked.failed.to_vec()));
        self.endpoints.get(asked.attempt).copied()
    }
}

//! Real sockets on the loopback interface of a network namespace.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};

use portolan_relay::{Destination, Protocol, ProxyHeader, Upstream};
use portolan_service::{List, ObjectName};

use super::*;
use crate::tests::namespace::{loopback_up, run};
use crate::tests::plans::backends;

/// An answer that is expected is waited for so long.
const PATIENCE: Duration = Duration::from_secs(30);
const PORT: &str = "127.0.0.1:30080";
const BOTH: [&str; 2] = ["127.1.0.1:8080", "127.1.0.2:8080"];

fn socket(service: &str, protocol: Protocol, address: &str) -> SocketName {
    let address = address.parse().unwrap();
    let service = ObjectName::new("shop", service);
    SocketName { service, port: "http".into(), protocol, address, list: List::Cluster }
}

fn wish(socket: &SocketName, endpoints: &[&str]) -> Wish {
    Wish {
        socket: socket.clone(),
        endpoints: backends(endpoints),
        keeping: Arc::default(),
        affinity: None,
        way: Way::default(),
    }
}

/// An endpoint that sends its name to each connection, and then what comes back.
fn endpoint(address: &'static str) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 100];
                let mut next = connection.write_all(address.as_bytes()).map(|()| 1);
                while matches!(next, Ok(1..)) {
                    next = connection.read(&mut buffer);
                    let _ = next.as_ref().map(|length| connection.write_all(&buffer[..*length]));
                }
            });
        }
    });
}

/// An endpoint that answers each datagram with its name.
fn udp_endpoint(address: &'static str) {
    let socket = UdpSocket::bind(address).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(address.as_bytes(), from);
        }
    });
}

/// Connects, and returns the connection with the name of its endpoint.
fn connect(to: &str) -> (TcpStream, String) {
    let mut connection = TcpStream::connect(to).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut name = [0; 14];
    connection.read_exact(&mut name).unwrap();
    (connection, String::from_utf8(name.to_vec()).unwrap())
}

fn is_refused(to: &str) -> bool {
    TcpStream::connect(to).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Asks with a datagram: the answer, or the error.
fn ask(client: &UdpSocket) -> Result<String, ErrorKind> {
    let mut buffer = [0; 100];
    let answer = client.send(b"?").and_then(|_| client.recv(&mut buffer));
    answer.map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned()).map_err(|error| error.kind())
}

/// Asks until the answer is this one: threads of the relay have to notice that an endpoint leaves.
fn ask_until(client: &UdpSocket, expected: &str) {
    let until = Instant::now() + PATIENCE;
    while ask(client).as_deref() != Ok(expected) {
        assert!(Instant::now() < until, "{expected} does not answer");
    }
}

fn udp_client(to: &str) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(to).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

#[test]
fn clients_go_where_the_last_wish_says() {
    run("listeners::tests::clients_go_where_the_last_wish_says", || {
        loopback_up();
        BOTH.into_iter().for_each(endpoint);
        BOTH.into_iter().for_each(udp_endpoint);
        let tcp = socket("web", Protocol::Tcp, PORT);
        let udp = socket("web", Protocol::Udp, PORT);
        let mut listeners = Listeners::default();
        let both = |endpoints: &[&str]| vec![wish(&tcp, endpoints), wish(&udp, endpoints)];

        listeners.sync(both(&[]));
        assert!(is_refused(PORT), "no endpoints");
        let client = udp_client(PORT);
        assert_eq!(ask(&client), Err(ErrorKind::ConnectionRefused), "no endpoints");
        assert_eq!(listeners.address(&tcp), None);

        listeners.change(both(&[]), both(&["127.1.0.1:8080"]));
        let (mut first, name) = connect(PORT);
        assert_eq!(name, "127.1.0.1:8080");
        assert_eq!(ask(&client).as_deref(), Ok("127.1.0.1:8080"));
        assert_eq!(listeners.address(&tcp), Some(PORT.parse().unwrap()));

        listeners.change(both(&["127.1.0.1:8080"]), both(&["127.1.0.2:8080"]));
        assert_eq!(connect(PORT).1, "127.1.0.2:8080");
        ask_until(&client, "127.1.0.2:8080");
        first.write_all(b"still here").unwrap();
        let mut echo = [0; 10];
        first.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"still here", "a connection to an endpoint that has left");

        listeners.sync(both(&[]));
        assert!(is_refused(PORT), "no endpoints again");
        assert_eq!(ask(&client), Err(ErrorKind::ConnectionRefused), "no endpoints again");
        first.write_all(b"still here").unwrap();
        first.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"still here", "a connection whose listener is gone");

        listeners.change(both(&[]), Vec::new());
        listeners.sync(Vec::new());
        assert!(is_refused(PORT));
    });
}

#[test]
fn the_proxy_protocol_comes_and_goes_without_a_new_socket() {
    run("listeners::tests::the_proxy_protocol_comes_and_goes_without_a_new_socket", || {
        loopback_up();
        let endpoint = TcpListener::bind(BOTH[0]).unwrap();
        let name = socket("web", Protocol::Tcp, "127.0.0.1:0");
        let with = |proxy_header| {
            let way = Way { upstream: Upstream { proxy_header, ..Upstream::default() }, ..Way::default() };
            Wish { way, ..wish(&name, &[BOTH[0]]) }
        };
        let mut listeners = Listeners::default();
        listeners.sync(vec![with(None)]);
        let address = listeners.address(&name).unwrap();
        let mut open = Vec::new();
        for (before, now) in [(None, None), (None, Some(ProxyHeader::V1)), (Some(ProxyHeader::V1), None)] {
            listeners.change(vec![with(before)], vec![with(now)]);
            assert_eq!(listeners.address(&name), Some(address), "{now:?}");
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(b"hello").unwrap();
            let (mut server, _) = endpoint.accept().unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut first = [0; 5];
            server.read_exact(&mut first).unwrap();
            assert_eq!(&first, if now.is_some() { b"PROXY" } else { b"hello" }, "{now:?}");
            open.push((client, server));
        }
        assert_eq!(listeners.counters().read()[0].counts.open, 3, "all are there");
    });
}

#[test]
fn udp_clients_keep_what_serves_on() {
    run("listeners::tests::udp_clients_keep_what_serves_on", || {
        loopback_up();
        BOTH.into_iter().for_each(udp_endpoint);
        let name = socket("dns", Protocol::Udp, PORT);
        let of = |endpoint: &str, keeping: &[&str]| Wish {
            keeping: backends(keeping),
            ..wish(&name, &[endpoint])
        };
        let mut listeners = Listeners::default();
        listeners.sync(vec![of("127.1.0.1:8080", &["127.1.0.1:8080"])]);
        let old = udp_client(PORT);
        assert_eq!(ask(&old).as_deref(), Ok("127.1.0.1:8080"));
        // It terminates, and serves on.
        listeners.sync(vec![of("127.1.0.2:8080", &["127.1.0.1:8080", "127.1.0.2:8080"])]);
        assert_eq!(ask(&udp_client(PORT)).as_deref(), Ok("127.1.0.2:8080"));
        assert_eq!(ask(&old).as_deref(), Ok("127.1.0.1:8080"));
        listeners.sync(vec![of("127.1.0.2:8080", &["127.1.0.2:8080"])]);
        ask_until(&old, "127.1.0.2:8080");
    });
}

#[test]
fn a_listener_of_the_host_wins() {
    run("listeners::tests::a_listener_of_the_host_wins", || {
        loopback_up();
        endpoint("127.1.0.1:8080");
        let hosts = TcpListener::bind("0.0.0.0:30080").unwrap();
        let name = socket("web", Protocol::Tcp, PORT);
        let mut listeners = Listeners::default();
        let counters = listeners.counters();
        listeners.sync(vec![wish(&name, &["127.1.0.1:8080"])]);
        let waiting: Vec<_> =
            listeners.waiting().map(|(socket, reason)| format!("{socket}: {reason}")).collect();
        let why = "another program has the port and keeps it (ss -lnp shows which): end that program, or give the \
                   Service another port; trying again";
        assert_eq!(waiting, [format!("{PORT}/TCP of Service port shop/web:http: {why}")]);
        listeners.retry();
        assert_eq!(counters.failures().v4, 1, "too early");
        listeners.retry_at(Instant::now() + Duration::from_secs(1));
        assert_eq!(counters.failures().v4, 2);
        drop(hosts);
        listeners.retry_at(Instant::now() + Duration::from_mins(1));
        assert_eq!((listeners.waiting().len(), counters.failures().v4), (0, 2));
        assert_eq!(connect(PORT).1, "127.1.0.1:8080");

        // What is no longer wanted is not waited for.
        let hosts = TcpListener::bind("127.0.0.1:30081").unwrap();
        let other = socket("other", Protocol::Tcp, "127.0.0.1:30081");
        let wishes = |endpoints: &[&str]| vec![wish(&other, endpoints)];
        for without in [Vec::new(), wishes(&[])] {
            listeners.change(Vec::new(), wishes(&["127.1.0.1:8080"]));
            assert_eq!(listeners.waiting().len(), 1);
            listeners.change(wishes(&["127.1.0.1:8080"]), without);
            assert_eq!(listeners.waiting().len(), 0);
        }
        drop(hosts);
    });
}

#[test]
fn a_port_passes_from_one_service_to_another() {
    run("listeners::tests::a_port_passes_from_one_service_to_another", || {
        loopback_up();
        BOTH.into_iter().for_each(endpoint);
        let (one, other) = (socket("one", Protocol::Tcp, PORT), socket("other", Protocol::Tcp, PORT));
        let of_one = || vec![wish(&one, &["127.1.0.1:8080"])];
        let of_other = || vec![wish(&other, &["127.1.0.2:8080"])];
        let mut listeners = Listeners::default();
        listeners.sync(of_one());
        for _ in 0..20 {
            listeners.change(of_one(), of_other());
            assert_eq!(connect(PORT).1, "127.1.0.2:8080");
            listeners.sync(of_one());
            assert_eq!(connect(PORT).1, "127.1.0.1:8080");
        }
        assert_eq!(listeners.waiting().len(), 0);
        // Another way: the socket is made anew.
        let way = Way { destination: Destination::Local, ..Way::default() };
        let another = Wish { way, ..wish(&one, &["127.1.0.1:8080"]) };
        listeners.sync(vec![another]);
        assert_eq!(connect(PORT).1, "127.1.0.1:8080");
    });
}

#[test]
fn clients_are_counted_until_all_ends() {
    run("listeners::tests::clients_are_counted_until_all_ends", || {
        loopback_up();
        endpoint("127.1.0.1:8080");
        let name = socket("web", Protocol::Tcp, "127.0.0.1:0");
        let mut listeners = Listeners::default();
        let counters = listeners.counters();
        assert_eq!(counters.read(), []);
        listeners.sync(vec![wish(&name, &["127.1.0.1:8080"])]);
        let address = listeners.address(&name).unwrap();
        let (mut connection, _) = connect(&address.to_string());
        let found = counters.read();
        assert_eq!((found.len(), found[0].service_port.as_str()), (1, "shop/web:http"));
        assert_eq!((found[0].protocol, found[0].address, found[0].listening), (Protocol::Tcp, address, true));
        assert_eq!((found[0].counts.open, found[0].counts.total), (1, 1));

        listeners.sync(Vec::new());
        assert_eq!(counters.read().iter().map(|found| found.listening).collect::<Vec<_>>(), [false]);
        assert_eq!(listeners.finish(Duration::ZERO), 1);
        assert_eq!(connection.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);

        // It can begin again, and who reads counters does not keep it.
        listeners.sync(vec![wish(&name, &["127.1.0.1:8080"])]);
        let (mut connection, _) = connect(&listeners.address(&name).unwrap().to_string());
        drop(listeners);
        assert_eq!(connection.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(counters.read(), []);
    });
}

#[test]
fn keys_name_service_ports() {
    for (service, port, expected) in [("web", "http", "shop/web:http"), ("web", "", "shop/web")] {
        let name = SocketName { port: port.into(), ..socket(service, Protocol::Udp, "[::1]:53") };
        assert_eq!(wish::service_port_of(&name.key()), expected);
        assert_eq!(name.to_string(), format!("[::1]:53/UDP of Service port {expected}"));
    }
}

#[test]
fn the_next_process_listens_on() {
    run("listeners::tests::the_next_process_listens_on", || {
        loopback_up();
        BOTH.into_iter().for_each(endpoint);
        BOTH.into_iter().for_each(udp_endpoint);
        // One with a port of the kernel's choice, one that is wanted no more.
        let chosen = socket("web", Protocol::Tcp, "127.0.0.1:0");
        let local = SocketName { list: List::Local, ..socket("web", Protocol::Tcp, "127.0.0.2:0") };
        let names = socket("names", Protocol::Udp, PORT);
        let gone = socket("gone", Protocol::Tcp, PORT);
        let mut before = Listeners::default();
        before.sync([&chosen, &local, &names, &gone].map(|socket| wish(socket, &BOTH[..1])).to_vec());
        let addresses = [&chosen, &local, &names].map(|socket| before.address(socket).unwrap());
        let to = addresses[0].to_string();
        let (mut open, _) = connect(&to);

        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        before.to_hand_over().send(&ours).unwrap();
        let (handed_over, received) = HandedOver::receive(&mut theirs);
        received.unwrap();
        let mut found: Vec<SocketName> = handed_over.names().collect();
        let mut expected = [&chosen, &local, &names, &gone].map(SocketName::clone);
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "the names are read from the keys");
        let ending = std::thread::spawn(move || before.finish(PATIENCE));

        // It comes between the two, and waits.
        let client = std::thread::spawn({
            let to = to.clone();
            move || connect(&to).1
        });
        let mut next = Listeners::default();
        next.take_over(handed_over);
        next.sync([&chosen, &local, &names].map(|socket| wish(socket, &BOTH[1..])).to_vec());
        assert_eq!([&chosen, &local, &names].map(|socket| next.address(socket).unwrap()), addresses);
        assert!(BOTH.contains(&client.join().unwrap().as_str()));
        // Until the first has stopped, either takes a new client's datagram.
        let begun = std::time::Instant::now();
        loop {
            let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
            datagrams.set_read_timeout(Some(PATIENCE)).unwrap();
            datagrams.connect(PORT).unwrap();
            let answered = ask(&datagrams).unwrap();
            if answered == BOTH[1] {
                break;
            }
            assert!(answered == BOTH[0] && begun.elapsed() < PATIENCE, "{answered}");
        }

        open.write_all(b"on").unwrap();
        open.read_exact(&mut [0; 2]).unwrap();
        drop(open);
        assert_eq!(ending.join().unwrap(), 0, "clients of the first have ended by themselves");
        assert_eq!(connect(&to).1, BOTH[1]);
        assert!(is_refused(PORT), "what is not wanted is closed");
    });
}

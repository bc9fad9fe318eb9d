//! Servers whose questions come back to us.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portolan_names::wire::{Transport, kind};
use portolan_upstream::{Forward, Forwarder, Metrics, Policy, Protocol, Settings, Target, Zone};
use tokio::net::UdpSocket;

use crate::fake::{Fake, LONG, ask};

/// What asks `forwarder` whatever it is asked, while `loops` says so, and is well otherwise.
async fn mirror(socket: UdpSocket, forwarder: Forwarder, loops: Arc<AtomicBool>) {
    let socket = Arc::new(socket);
    let mut buffer = [0; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let mut message = buffer[..length].to_vec();
        let (socket, forwarder) = (Arc::clone(&socket), forwarder.clone());
        let loops = loops.load(Ordering::Relaxed);
        tokio::spawn(async move {
            if loops {
                if let Some(reply) = forwarder.answer(&message, Transport::Udp).await {
                    drop(socket.send_to(&reply, from).await);
                }
            } else {
                // It is the question with the flag that makes it an answer.
                message[2] |= 0x80;
                drop(socket.send_to(&message, from).await);
            }
        });
    }
}

fn server(address: SocketAddr) -> Target {
    Target::Server { address, protocol: Protocol::Plain }
}

fn looping_servers(registry: &prometheus::Registry) -> i64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == "portolan_dns_looping_servers").unwrap();
    #[expect(clippy::cast_possible_truncation, reason = "a small count")]
    let count = family.get_metric()[0].get_gauge().get_value() as i64;
    count
}

async fn until(done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < LONG);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_server_that_loops_is_left_out_for_as_long_as_it_does() {
    let well = Fake::start(|asked| vec![asked.address(1, 60)]).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let mut zone = Zone::new(".");
    let mut forward = Forward::new([server(address)]);
    forward.policy = Policy::Sequential;
    zone.forwards.push(forward);
    zone.detect_loops = Some(Duration::from_millis(50));
    let registry = prometheus::Registry::new();
    let settings = Settings { zones: vec![zone.clone()], ..Settings::default() };
    let forwarder = Forwarder::new(&settings, Metrics::new(&registry).unwrap()).unwrap();
    let loops = Arc::new(AtomicBool::new(true));
    let mirror = tokio::spawn(mirror(socket, forwarder.clone(), Arc::clone(&loops)));

    until(|| looping_servers(&registry) == 1).await;
    let begun = Instant::now();
    assert_eq!(ask(&forwarder, "www.example.com", kind::A).await, "SERVFAIL");
    assert!(begun.elapsed() < Duration::from_millis(200), "at once");

    loops.store(false, Ordering::Relaxed);
    until(|| looping_servers(&registry) == 0).await;
    assert_eq!(ask(&forwarder, "www.example.com", kind::A).await, "NOERROR");

    // Beside another one that does not loop.
    loops.store(true, Ordering::Relaxed);
    zone.forwards[0].to.push(well.target());
    forwarder.replace(&Settings { zones: vec![zone], ..Settings::default() }).unwrap();
    until(|| looping_servers(&registry) == 1).await;
    for at in 0..5 {
        let reply = ask(&forwarder, &format!("name{at}.example.com"), kind::A).await;
        assert!(reply.ends_with(" A 192.0.2.1"), "{reply}");
    }
    mirror.abort();
}

#[tokio::test]
async fn a_loop_that_nobody_looks_for_ends_by_itself() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let mut zone = Zone::new(".");
    let mut forward = Forward::new([server(address)]);
    forward.timeout = Duration::from_millis(150);
    zone.forwards.push(forward);
    let forwarder =
        Forwarder::new(&Settings { zones: vec![zone], ..Settings::default() }, Metrics::default()).unwrap();
    let mirror = tokio::spawn(mirror(socket, forwarder.clone(), Arc::new(AtomicBool::new(true))));
    let begun = Instant::now();
    assert_eq!(ask(&forwarder, "www.example.com", kind::A).await, "SERVFAIL");
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "equal questions are asked once: {:?}",
        begun.elapsed()
    );
    mirror.abort();
}

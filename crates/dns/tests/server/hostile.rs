//! What nobody should send, and too much of everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use portolan_service::{Change, Endpoint, EndpointSlice, Family, ObjectName, Service};

use crate::asking::{A, AAAA, ask, client, question, receive};
use crate::scene::{Scene, service};

const WEB: &str = "web.shop.svc.cluster.local";

/// `message` with some of its octets replaced.
fn with(at: usize, octets: &[u8]) -> Vec<u8> {
    let mut message = question(0x0101, WEB, A);
    message[at..at + octets.len()].copy_from_slice(octets);
    message
}

/// A question with an OPT record of this version.
fn edns(version: u8) -> Vec<u8> {
    let mut message = with(10, &[0, 1]);
    message.extend_from_slice(&[0, 0, 41, 16, 0, 0, version, 0, 0, 0, 0]);
    message
}

/// Spec §6.
#[test]
fn messages_that_are_no_questions() {
    let scene = Scene::new(|_| {});
    let socket = client(scene.address());
    let truncated = |length| question(0x0101, WEB, A)[..length].to_vec();
    for (name, message, expected) in [
        ("nothing", vec![], None),
        ("an octet", vec![0], None),
        ("11 octets", truncated(11), None),
        ("a header alone", truncated(12), Some(1)),
        ("half a name", truncated(20), Some(1)),
        ("no type", truncated(40), Some(1)),
        ("an answer", with(2, &[0x80]), None),
        ("NOTIFY", with(2, &[0x20]), Some(4)),
        ("UPDATE", with(2, &[0x28]), Some(4)),
        ("no question", with(5, &[0]), Some(1)),
        ("two questions", with(5, &[2]), Some(1)),
        ("65535 questions", with(4, &[0xff, 0xff]), Some(1)),
        ("65535 additional records", with(10, &[0xff, 0xff]), Some(1)),
        ("a name that points to itself", with(12, &[0xc0, 12]), Some(1)),
        ("a name that points forwards", with(12, &[0xc0, 40]), Some(1)),
        ("a label with reserved bits", with(12, &[0x43]), Some(1)),
        ("all ones", vec![0xff; 4096], None),
        ("all zeroes", vec![0; 4096], Some(1)),
        ("a datagram of 65,507 octets", [with(0, &[]), vec![0; 65_507 - 44]].concat(), Some(0)),
        ("AXFR", with(41, &[252]), Some(5)),
        ("class CH", with(43, &[3]), Some(5)),
        ("an OPT record", edns(0), Some(0)),
        ("one of a later version", edns(1), Some(0)),
    ] {
        socket.send(&message).unwrap();
        if let Some(code) = expected {
            assert_eq!(receive(&socket).rcode, code, "{name}");
        }
        // One thread answers what comes from one port, in turn: this is the next answer.
        let answer = ask(&socket, &question(2, WEB, A));
        assert_eq!((answer.id, answer.address()), (2, [10, 96, 0, 1]), "{name}");
    }
    let counts = scene.server.counts();
    assert_eq!((counts.panics, counts.ignored, counts.unsent), (0, 5, 0));
    assert!(counts.zones[0].responses.iter().any(|found| found.rcode == 16), "BADVERS");
}

/// Floods of nonsense and of questions, as fast as the server works them off; a client among them
/// is answered all the same. (What comes faster than that, the kernel drops from its full queue.)
#[test]
fn a_flood_beside_a_good_client() {
    /// Fewer than the shortest queue of a socket has room for.
    const BURST: usize = 10;
    let scene = Scene::new(|_| {});
    let ended = Arc::new(AtomicBool::new(false));
    let address = scene.address();
    let floods: Vec<_> = [vec![0xff; 100], vec![0; 1400], question(1, WEB, AAAA), with(12, &[0xc0, 12])]
        .into_iter()
        .map(|message| {
            let ended = ended.clone();
            std::thread::spawn(move || {
                let mut bursts = 0u32;
                while !ended.load(Ordering::Relaxed) {
                    // From many ports, and so to each of the server's threads.
                    let socket = client(address);
                    for _ in 0..BURST {
                        socket.send(&message).unwrap();
                    }
                    socket.send(&question(9, WEB, A)).unwrap();
                    while receive(&socket).id != 9 {}
                    bursts += 1;
                }
                bursts
            })
        })
        .collect();
    let socket = client(address);
    for id in 0..500 {
        assert_eq!(ask(&socket, &question(id, WEB, A)).id, id);
    }
    ended.store(true, Ordering::Relaxed);
    for flood in floods {
        assert!(flood.join().unwrap() > 0);
    }
    assert_eq!(scene.server.counts().panics, 0);
}

/// 10,000 changes a minute while it is asked at full speed: every answer is one that was true
/// between question and answer.
#[test]
fn every_answer_was_true() {
    const CHANGES: u32 = 400;
    let scene = Scene::new(|_| {});
    let (begun, done) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let version = |number: u32| std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).to_string();
    scene.names.write().unwrap().apply([service("web", &version(0)).into()], 2);
    let address = scene.address();
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (begun, done) = (begun.clone(), done.clone());
            std::thread::spawn(move || {
                let socket = client(address);
                let mut asked = 0u32;
                while done.load(Ordering::SeqCst) < CHANGES {
                    let first = done.load(Ordering::SeqCst);
                    let answer = ask(&socket, &question(1, WEB, A));
                    let last = begun.load(Ordering::SeqCst);
                    let found = u32::from_be_bytes(answer.address()) - 0x0a00_0000;
                    assert!((first..=last).contains(&found), "{found} is not within {first}..={last}");
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    let start = Instant::now();
    let mut longest = Duration::ZERO;
    for number in 1..=CHANGES {
        let due = start + Duration::from_mins(1) * number / 10_000;
        while Instant::now() < due {
            std::thread::yield_now();
        }
        begun.store(number, Ordering::SeqCst);
        let before = Instant::now();
        scene.names.write().unwrap().apply([service("web", &version(number)).into()], 2);
        longest = longest.max(before.elapsed());
        done.store(number, Ordering::SeqCst);
    }
    let asked: u32 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert!(asked > CHANGES, "{asked} questions");
    assert!(longest < Duration::from_secs(1), "a change had to wait for {longest:?}");
}

/// The same for answers of several addresses: each has those of one moment, all of them.
#[test]
fn every_answer_was_whole() {
    const CHANGES: u16 = 400;
    let scene = Scene::new(|_| {});
    // Of different length, so that half of one list beside half of another would show.
    let addresses = |version: u16| {
        let [high, low] = version.to_be_bytes();
        (1..=4 - low % 3).map(move |host| std::net::Ipv4Addr::from([10, high, low, host]))
    };
    let endpoints = |version: u16| {
        let name = ObjectName::new("shop", "many");
        Change::from(EndpointSlice {
            name: ObjectName::new("shop", "many-a"),
            service: name,
            family: Family::V4,
            ports: Vec::new(),
            endpoints: addresses(version).map(|address| Endpoint::new(address.into())).collect(),
        })
    };
    let mut service = Service::new(ObjectName::new("shop", "many"));
    service.headless = true;
    scene.names.write().unwrap().apply([Change::from(service).into(), endpoints(0).into()], 2);
    let (address, ended) = (scene.address(), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let ended = ended.clone();
            std::thread::spawn(move || {
                let socket = client(address);
                let (mut asked, mut newest) = (0u32, 0);
                while !ended.load(Ordering::SeqCst) {
                    let answer = ask(&socket, &question(1, "many.shop.svc.cluster.local", A));
                    let count = usize::from(answer.records);
                    // Each record of 16 octets ends with its address.
                    let records = answer.octets[answer.octets.len() - 16 * count..].chunks_exact(16);
                    let mut found: Vec<[u8; 4]> =
                        records.map(|record| *record.last_chunk().unwrap()).collect();
                    found.sort_unstable();
                    let version = u16::from_be_bytes([found[0][1], found[0][2]]);
                    let expected: Vec<[u8; 4]> = addresses(version).map(|address| address.octets()).collect();
                    assert_eq!(found, expected, "of version {version}");
                    assert!(version >= newest, "{version} after {newest}");
                    (newest, asked) = (version, asked + 1);
                }
                asked
            })
        })
        .collect();
    let start = Instant::now();
    for version in 1..=CHANGES {
        let due = start + Duration::from_mins(1) * version.into() / 10_000;
        while Instant::now() < due {
            std::thread::yield_now();
        }
        scene.names.write().unwrap().apply([endpoints(version).into()], 2);
    }
    ended.store(true, Ordering::SeqCst);
    let asked: u32 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert!(asked > CHANGES.into(), "{asked} questions");
}

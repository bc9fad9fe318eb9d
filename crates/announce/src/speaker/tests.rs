//! Nodes on a link that exists in memory, with a clock of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::ethernet::BROADCAST;

/// The tests go forward in steps of this length.
const STEP: Duration = Duration::from_millis(10);
/// By then everybody has noticed what happened.
const SETTLED: Duration = Duration::from_millis(1_500);

fn hardware(node: usize) -> HardwareAddress {
    [2, 0, 0, 0, 0, u8::try_from(node).unwrap()]
}

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

fn interface(node: usize) -> Interface {
    Interface {
        index: 2,
        name: "eth0".to_owned(),
        hardware: hardware(node),
        networks: vec![
            format!("192.0.2.{}/24", node + 1).parse().unwrap(),
            "2001:db8::1/64".parse().unwrap(),
        ],
    }
}

/// The nodes of a cluster on one link.
struct Network {
    start: Instant,
    now: Instant,
    nodes: Vec<Node>,
    /// Of a hundred frames, so many are lost.
    loss: u32,
    random: u32,
}

struct Node {
    speaker: Option<Speaker>,
    /// Nodes of different parts do not hear each other.
    part: usize,
    own: Own,
    incarnation: u64,
    events: Vec<Event>,
    sent: Vec<(Instant, Frame)>,
}

fn key() -> Key {
    Key::new(b"0123456789abcdef").unwrap()
}

impl Network {
    fn new(nodes: usize) -> Network {
        let start = Instant::now() + Duration::from_secs(100);
        let mut network = Network { start, now: start, nodes: Vec::new(), loss: 0, random: 1 };
        for node in 0..nodes {
            let own = Own { addresses: Vec::new(), willing: true };
            let (events, sent) = (Vec::new(), Vec::new());
            network.nodes.push(Node { speaker: None, part: 0, own, incarnation: 0, events, sent });
            network.revive(node);
        }
        network
    }

    fn revive(&mut self, node: usize) {
        let name = format!("node-{node}").into();
        let this = &mut self.nodes[node];
        this.incarnation += 1;
        let mut speaker = Speaker::new(name, Some(key()), this.own.clone(), this.incarnation, self.now);
        speaker.set_interfaces(vec![interface(node)], self.now);
        this.speaker = Some(speaker);
    }

    fn set(&mut self, address: IpAddr, nodes: Option<&[usize]>) {
        let allowed: Allowed =
            nodes.map(|nodes| Arc::new(nodes.iter().map(|node| Arc::from(format!("node-{node}"))).collect()));
        for node in &mut self.nodes {
            if let Some(speaker) = &mut node.speaker {
                speaker.set_addresses([(address, Some(allowed.clone()))], self.now);
            }
        }
    }

    fn lost(&mut self) -> bool {
        // xorshift32
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random % 100 < self.loss
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += STEP;
            for from in 0..self.nodes.len() {
                let now = self.now;
                let node = &mut self.nodes[from];
                let Some(speaker) = &mut node.speaker else { continue };
                speaker.set_open(2, true, now);
                speaker.tick(now);
                let frames = speaker.take_frames();
                node.events.extend(speaker.take_events());
                node.sent.extend(frames.iter().map(|(_, frame)| (now, frame.clone())));
                let part = node.part;
                for (_, frame) in frames {
                    for to in (0..self.nodes.len()).filter(|to| *to != from) {
                        if self.nodes[to].part == part
                            && !self.lost()
                            && let Some(speaker) = &mut self.nodes[to].speaker
                        {
                            speaker.receive(2, &frame.bytes, now);
                        }
                    }
                }
            }
        }
    }

    fn has(&self, node: usize, address: IpAddr) -> bool {
        let speaker = self.nodes[node].speaker.as_ref();
        speaker.is_some_and(|speaker| speaker.held().any(|(_, held)| held == address))
    }

    /// The nodes that have an address.
    fn holders(&self, address: IpAddr) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.has(*node, address)).collect()
    }

    fn holder(&self, address: IpAddr) -> usize {
        let holders = self.holders(address);
        assert_eq!(holders.len(), 1, "{address} at {:?}: {holders:?}", self.now - self.start);
        holders[0]
    }

    /// Runs until `node` has what it has not now; returns how long that took.
    fn until_taken(&mut self, address: IpAddr, but: usize) -> Duration {
        let before = self.now;
        while !(0..self.nodes.len()).any(|node| node != but && self.has(node, address)) {
            assert!(self.now < before + Duration::from_secs(10), "nobody takes {address}");
            self.run(STEP);
        }
        self.now - before
    }

    fn duplicates(&self) -> usize {
        let all = self.nodes.iter().flat_map(|node| &node.events);
        all.filter(|event| matches!(event, Event::Duplicate { .. })).count()
    }
}

#[test]
fn nobody_answers_before_all_could_be_heard() {
    let mut network = Network::new(3);
    network.set(address(240), None);
    network.run(Duration::from_millis(900));
    assert_eq!(network.holders(address(240)), [0; 0]);
    network.run(SETTLED);
    network.holder(address(240));
}

#[test]
fn who_is_alone_answers_at_once() {
    let now = Instant::now();
    let own = Own { addresses: Vec::new(), willing: true };
    let mut speaker = Speaker::new("host".into(), None, own, 1, now);
    speaker.set_interfaces(vec![interface(0)], now);
    speaker.set_addresses([(address(240), Some(None)), ("2001:db8::7".parse().unwrap(), Some(None))], now);
    assert_eq!(speaker.held().count(), 0, "not before it can answer");
    speaker.set_open(2, true, now);
    assert_eq!(speaker.held().count(), 2);
    speaker.tick(now);
    let frames = speaker.take_frames();
    let kinds: Vec<Kind> = frames.iter().map(|(_, frame)| frame.kind).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == Kind::Arp).count(), 2);
    assert_eq!(kinds.iter().filter(|kind| **kind == Kind::Ipv6).count(), 1);
    assert_eq!(kinds.len(), 3, "no heartbeats");
}

#[test]
fn another_address_on_the_interface_changes_nothing() {
    let mut network = Network::new(3);
    network.set(address(240), None);
    network.run(Duration::from_secs(5));
    let holder = network.holder(address(240));
    let now = network.now;
    let mut wider = interface(holder);
    wider.networks.push("198.51.100.1/24".parse().unwrap());
    let speaker = network.nodes[holder].speaker.as_mut().unwrap();
    speaker.set_interfaces(vec![wider.clone()], now);
    assert!(speaker.take_events().is_empty());
    assert_eq!(network.holder(address(240)), holder);

    // Another card has other neighbours.
    wider.hardware = [2, 7, 7, 7, 7, 7];
    network.nodes[holder].speaker.as_mut().unwrap().set_interfaces(vec![wider], now);
    assert_eq!(network.holders(address(240)), [0; 0], "nobody, until the others could be heard");
}

#[test]
fn an_address_in_place_of_another_has_somebody_at_once() {
    let mut network = Network::new(3);
    network.set(address(240), None);
    network.run(Duration::from_secs(5));
    let now = network.now;
    for speaker in network.nodes.iter_mut().filter_map(|node| node.speaker.as_mut()) {
        speaker.set_addresses([(address(240), None), (address(241), Some(None))], now);
    }
    network.holder(address(241));
}

#[test]
fn another_takes_over_from_who_is_dead() {
    let mut network = Network::new(3);
    network.set(address(240), None);
    network.run(Duration::from_secs(5));
    let dead = network.holder(address(240));
    network.nodes[dead].speaker = None;
    let took = network.until_taken(address(240), dead);
    assert!(took <= Duration::from_millis(1_250), "{took:?}");
    let heir = network.holder(address(240));
    network.run(Duration::from_millis(20));
    let announced = network.nodes[heir].sent.iter().filter(|(_, frame)| frame.kind == Kind::Arp);
    let first = announced.map(|(at, _)| *at).find(|at| *at + Duration::from_millis(100) > network.now);
    assert!(first.is_some(), "announced as soon as it was taken");

    // It comes back, and only its own addresses move.
    network.revive(dead);
    network.set(address(240), None);
    network.run(Duration::from_secs(3));
    assert_eq!(network.holder(address(240)), dead);
}

#[test]
fn who_leaves_is_succeeded_at_once() {
    let mut network = Network::new(3);
    network.set(address(240), None);
    network.run(Duration::from_secs(5));
    let leaving = network.holder(address(240));
    let now = network.now;
    network.nodes[leaving].speaker.as_mut().unwrap().leave(now);
    network.run(STEP);
    assert_ne!(network.holder(address(240)), leaving);
}

#[test]
fn only_who_may_has_it() {
    let mut network = Network::new(4);
    network.set(address(240), Some(&[2]));
    network.set(address(241), Some(&[]));
    network.run(Duration::from_secs(3));
    assert_eq!(network.holder(address(240)), 2);
    assert_eq!(network.holders(address(241)), [0; 0]);
    network.set(address(240), Some(&[0, 3]));
    assert!([0, 3].contains(&network.holder(address(240))), "without delay");
    network.nodes[0].own.willing = false;
    let own = network.nodes[0].own.clone();
    let now = network.now;
    network.nodes[0].speaker.as_mut().unwrap().set_own(own, now);
    network.run(STEP * 2);
    assert_eq!(network.holder(address(240)), 3);
}

#[test]
fn parts_of_a_network_serve_their_clients_and_agree_again() {
    let mut network = Network::new(4);
    for last in 240..250 {
        network.set(address(last), None);
    }
    network.run(Duration::from_secs(5));
    (network.nodes[0].part, network.nodes[1].part) = (1, 1);
    network.run(SETTLED);
    for last in 240..250 {
        let holders = network.holders(address(last));
        let of_part = |part| holders.iter().filter(|node| network.nodes[**node].part == part).count();
        assert_eq!((of_part(0), of_part(1)), (1, 1), "{last}: {holders:?}");
    }
    (network.nodes[0].part, network.nodes[1].part) = (0, 0);
    network.run(Duration::from_millis(220));
    for last in 240..250 {
        network.holder(address(last));
    }
    // Who has them says so once more, after the other side has said its last.
    let before = network.now;
    network.run(Duration::from_secs(2));
    for last in 240..250 {
        let holder = network.holder(address(last));
        let IpAddr::V4(of) = address(last) else { unreachable!() };
        let expected = crate::arp::unsolicited(of, hardware(holder));
        let sent = &network.nodes[holder].sent;
        assert!(sent.iter().any(|(at, frame)| *at > before && *frame == expected[0]), "{last}");
    }
    assert_eq!(network.duplicates(), 0, "that is no duplicate to report");
}

#[test]
fn a_lossy_network_moves_nothing() {
    let mut network = Network::new(5);
    network.loss = 5;
    for last in 240..250 {
        network.set(address(last), None);
    }
    network.run(Duration::from_secs(3));
    let before: Vec<usize> = (240..250).map(|last| network.holder(address(last))).collect();
    for node in &mut network.nodes {
        node.events.clear();
    }
    network.run(Duration::from_mins(1));
    let after: Vec<usize> = (240..250).map(|last| network.holder(address(last))).collect();
    assert_eq!(before, after);
    let moved: Vec<&Event> = network.nodes.iter().flat_map(|node| &node.events).collect();
    assert!(moved.is_empty(), "{moved:?}");
}

#[test]
fn a_stranger_with_the_address_is_reported_once_and_answered() {
    let mut network = Network::new(1);
    network.set(address(240), None);
    network.run(Duration::from_secs(10));
    network.nodes[0].sent.clear();
    let IpAddr::V4(of) = address(240) else { unreachable!() };
    for _ in 0..500 {
        let [frame, _] = crate::arp::unsolicited(of, [2, 9, 9, 9, 9, 9]);
        let now = network.now;
        network.nodes[0].speaker.as_mut().unwrap().receive(2, &frame.bytes, now);
        network.run(STEP);
    }
    assert_eq!(network.duplicates(), 1);
    let answers = network.nodes[0].sent.iter().filter(|(_, frame)| frame.kind == Kind::Arp).count();
    assert_eq!(answers, 2, "one announcement of two frames in five seconds");
    let status = network.nodes[0].speaker.as_ref().unwrap().status(network.now);
    assert_eq!(status[0].duplicates, [[2, 9, 9, 9, 9, 9]]);
}

#[test]
fn questions_are_answered_by_who_has_the_address() {
    let mut network = Network::new(2);
    network.set(address(240), None);
    network.run(Duration::from_secs(3));
    let holder = network.holder(address(240));
    let IpAddr::V4(target) = address(240) else { unreachable!() };
    let asker = ([2, 9, 9, 9, 9, 9], Ipv4Addr::new(192, 0, 2, 99));
    let request = Arp { request: true, sender: asker, target: ([0; 6], target) };
    let frame = {
        // As `Arp::answer` frames it, but a request to everybody.
        let mut frame = request.answer(target, asker.0).bytes;
        frame[..6].copy_from_slice(&BROADCAST);
        frame[21] = 1;
        frame[28..32].copy_from_slice(&asker.1.octets());
        frame[38..42].copy_from_slice(&target.octets());
        frame
    };
    for node in 0..2 {
        let speaker = network.nodes[node].speaker.as_mut().unwrap();
        speaker.receive(2, &frame, network.now);
        let answers = speaker.take_frames();
        if node == holder {
            assert_eq!(answers, [(2, request.answer(target, hardware(node)))]);
        } else {
            assert_eq!(answers, []);
        }
    }
}

#[test]
fn another_cluster_on_the_wire_is_counted_and_ignored() {
    let mut network = Network::new(2);
    let name = "node-9".into();
    let foreign = Heartbeat {
        node: name,
        willing: true,
        incarnation: 1,
        sequence: 1,
        stale: Duration::ZERO,
        fresh: Duration::from_mins(1),
    };
    network.set(address(240), None);
    let frame = foreign.frame(&Key::new(b"another cluster's").unwrap(), [2, 8, 8, 8, 8, 8]);
    network.nodes[0].speaker.as_mut().unwrap().receive(2, &frame.bytes, network.now);
    network.run(Duration::from_secs(3));
    let speaker = network.nodes[0].speaker.as_ref().unwrap();
    assert_eq!(speaker.counters.foreign, 1);
    assert_eq!(speaker.status(network.now)[0].holders[0].could, 2);
}

#[test]
fn a_thousand_addresses_are_announced_within_two_seconds_and_not_faster() {
    let mut network = Network::new(2);
    for last in 0..1_000_u16 {
        let [high, low] = last.to_be_bytes();
        network.set(Ipv4Addr::new(198, 51, high, low).into(), None);
    }
    for node in 0..2 {
        let mut wide = interface(node);
        wide.networks.push("198.51.0.0/16".parse().unwrap());
        let now = network.now;
        network.nodes[node].speaker.as_mut().unwrap().set_interfaces(vec![wide], now);
    }
    network.run(Duration::from_secs(20));
    network.nodes[1].sent.clear();
    network.nodes[0].speaker = None;
    network.run(Duration::from_secs(2));
    let arp = |(at, frame): &(Instant, Frame)| {
        (frame.kind == Kind::Arp).then(|| (*at, frame.bytes[28..32].to_vec()))
    };
    let announced: Vec<(Instant, Vec<u8>)> = network.nodes[1].sent.iter().filter_map(arp).collect();
    let different: BTreeSet<&Vec<u8>> = announced.iter().map(|(_, address)| address).collect();
    let taken = network.nodes[1].speaker.as_ref().unwrap().held().count();
    assert_eq!(taken, 1_000);
    assert!(different.len() > 400, "{}", different.len());
    // Each is two frames; 200 at once, and 1,000 a second.
    let mut by_step = BTreeMap::<Instant, usize>::new();
    for (at, _) in &announced {
        *by_step.entry(*at).or_default() += 1;
    }
    assert!(by_step.values().all(|frames| *frames <= 420), "{:?}", by_step.values().max());
    assert!(announced.len() <= 2 * (200 + 1_000), "{}", announced.len());
}

#[derive(Debug, Clone)]
enum Happens {
    Dies(usize),
    Revives(usize),
    Willing(usize, bool),
    Allowed(u8, Vec<usize>),
    Gone(u8),
    Passes(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        (0..4_usize).prop_map(Happens::Dies),
        (0..4_usize).prop_map(Happens::Revives),
        (0..4_usize, any::<bool>()).prop_map(|(node, willing)| Happens::Willing(node, willing)),
        (240..244_u8, prop::collection::vec(0..4_usize, 0..4)).prop_map(|(a, n)| Happens::Allowed(a, n)),
        (240..244_u8).prop_map(Happens::Gone),
        (0..3_000_u64).prop_map(Happens::Passes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever happens: when it has settled, each address has one node of those that may have it,
    /// or none if there are none.
    #[test]
    fn in_the_end_exactly_one_has_it(story in prop::collection::vec(happens(), 1..20)) {
        let mut network = Network::new(4);
        let mut wanted = BTreeMap::<u8, Vec<usize>>::new();
        for happens in story {
            match happens {
                Happens::Dies(node) => network.nodes[node].speaker = None,
                Happens::Revives(node) => {
                    if network.nodes[node].speaker.is_none() {
                        network.revive(node);
                        for (last, nodes) in &wanted {
                            network.set(address(*last), Some(nodes));
                        }
                    }
                }
                Happens::Willing(node, willing) => {
                    network.nodes[node].own.willing = willing;
                    let (own, now) = (network.nodes[node].own.clone(), network.now);
                    if let Some(speaker) = &mut network.nodes[node].speaker {
                        speaker.set_own(own, now);
                    }
                }
                Happens::Allowed(last, nodes) => {
                    network.set(address(last), Some(&nodes));
                    wanted.insert(last, nodes);
                }
                Happens::Gone(last) => {
                    wanted.remove(&last);
                    let now = network.now;
                    for speaker in network.nodes.iter_mut().filter_map(|node| node.speaker.as_mut()) {
                        speaker.set_addresses([(address(last), None)], now);
                    }
                }
                Happens::Passes(time) => network.run(Duration::from_millis(time)),
            }
        }
        network.run(Duration::from_secs(3));
        for last in 240..244 {
            let nodes = wanted.get(&last).map_or(&[][..], Vec::as_slice);
            let can = |node: &usize| {
                let node = &network.nodes[*node];
                node.speaker.is_some() && node.own.willing
            };
            let holders = network.holders(address(last));
            prop_assert_eq!(holders.len(), usize::from(nodes.iter().any(can)), "{} {:?}", last, holders);
            prop_assert!(holders.iter().all(|holder| nodes.contains(holder) && can(holder)));
        }
    }
}

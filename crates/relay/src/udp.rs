//! The UDP clients of one thread. Each has a socket of its own, which is connected to its endpoint:
//! what comes from elsewhere is no answer to it, and the kernel reports there that the endpoint
//! cannot be reached.

mod batch;
mod control;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use rustix::event::epoll::EventFlags;

use crate::counters::ThreadCounters;
use crate::listener::Destination;
use crate::listening::{Listeners, Listening};
use crate::picker::Asked;
use crate::reactor::Reactor;
use crate::served::Served;
use crate::slots::Slots;
use crate::sockets;
use crate::token::Token;

use batch::{Batch, Outgoing, Peer, SLOTS, Sent};

/// Batches of one socket before others have their turn.
const TURNS: usize = 8;
/// Answers that are asked for at first: most sockets have one or two.
const FEW: usize = 4;

/// The UDP clients of one thread.
pub(crate) struct Udp {
    clients: Slots<Client>,
    numbers: HashMap<Key, u64>,
    requests: Batch,
    answers: Batch,
    /// Slots of `answers`, with who gets them.
    outgoing: Vec<Outgoing>,
    /// Where all of them leave.
    leaves_by: Option<(Place, Arc<Served>)>,
    /// Slots of `requests`, with the numbers of their clients.
    order: Vec<(u64, usize)>,
}

/// A socket that clients send to: the listener's number, and which of its sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) listener: u32,
    pub(crate) socket: u32,
}

/// What makes a client: the same sender at another place, or at another address of this host's, is
/// another client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    place: Place,
    peer: Peer,
}

struct Client {
    served: Arc<Served>,
    key: Key,
    endpoint: SocketAddr,
    socket: UdpSocket,
    /// Endpoints that could not be reached since the last answer.
    failed: Vec<SocketAddr>,
    /// When something last came from either side.
    last: Instant,
    /// Its endpoint has left: it gets another one with its next datagram. Until then, an answer
    /// that is on its way still reaches it.
    left: bool,
}

impl Udp {
    pub(crate) fn new() -> Udp {
        Udp {
            clients: Slots::default(),
            numbers: HashMap::new(),
            requests: Batch::new(),
            answers: Batch::new(),
            outgoing: Vec::new(),
            leaves_by: None,
            order: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Passes on what clients have sent to a socket.
    pub(crate) fn receive(&mut self, reactor: &mut Reactor, listening: &Listening, place: Place) {
        let Some(socket) = listening.datagrams(place.socket) else { return };
        for _ in 0..TURNS {
            self.requests.clear();
            // An error is one that an earlier answer has met (ICMP), or there was nothing.
            let received = self.requests.receive(socket, SLOTS).unwrap_or(0);
            self.pass_on(reactor, &listening.served, place);
            if received < SLOTS {
                break;
            }
        }
    }

    /// Sends requests to the endpoints of their clients, those of one client together.
    fn pass_on(&mut self, reactor: &mut Reactor, served: &Arc<Served>, place: Place) {
        self.order.clear();
        for at in 0..self.requests.slots().len() {
            let slot = self.requests.slots()[at];
            let Some(address) = slot.from else { continue };
            let key = Key { place, peer: Peer { address, local: slot.local() } };
            if let Some(number) = self.find(reactor, served, key) {
                self.order.push((number, at));
            }
        }
        self.order.sort_unstable();
        let order = std::mem::take(&mut self.order);
        for requests in order.chunk_by(|(one, _), (other, _)| one == other) {
            let outgoing: Vec<_> =
                requests.iter().map(|(_, slot)| Outgoing { slot: *slot, to: None }).collect();
            self.send(reactor, requests[0].0, &outgoing);
        }
        self.order = order;
    }

    /// The number of a client, who may be new. `None` if it is refused.
    fn find(&mut self, reactor: &mut Reactor, served: &Arc<Served>, key: Key) -> Option<u64> {
        if let Some(number) = self.numbers.get(&key).copied() {
            return self.go_on(reactor, number);
        }
        let counters = reactor.counters(served);
        if !reactor.shared.clients.take() {
            counters.refused_by_limits.add(1);
            return None;
        }
        let mut failed = Vec::new();
        let Some((endpoint, socket)) = reach(reactor, served, &key, &mut failed) else {
            reactor.shared.clients.give_back();
            return None;
        };
        let (served, last) = (served.clone(), reactor.now);
        let client = Client { served: served.clone(), key, endpoint, socket, failed, last, left: false };
        let Some(number) = self.clients.add(client) else {
            reactor.shared.clients.give_back();
            return None;
        };
        counters.opened.add(1);
        self.numbers.insert(key, number);
        if !self.watch(reactor, number) {
            counters.refused_by_limits.add(1);
            self.forget(reactor, number);
            return None;
        }
        reactor.wake_at(reactor.now + served.idle, Token::UdpClient(number));
        Some(number)
    }

    /// A client that is known has sent something: it gets another endpoint if its own has left.
    /// `None` if there is none.
    fn go_on(&mut self, reactor: &mut Reactor, number: u64) -> Option<u64> {
        let client = self.clients.get(number)?;
        if !client.left {
            return Some(number);
        }
        let served = client.served.clone();
        client.failed.clear();
        match reach(reactor, &served, &client.key, &mut client.failed) {
            Some((endpoint, socket)) => {
                (client.endpoint, client.socket, client.left) = (endpoint, socket, false);
                if self.watch(reactor, number) {
                    return Some(number);
                }
                self.forget(reactor, number);
            }
            None => self.forget(reactor, number),
        }
        None
    }

    fn watch(&mut self, reactor: &mut Reactor, number: u64) -> bool {
        let Some(client) = self.clients.get(number) else { return false };
        reactor.watch(&client.socket, Token::UdpClient(number), EventFlags::IN).is_ok()
    }

    /// Sends requests to a client's endpoint; to another one if it cannot be reached.
    fn send(&mut self, reactor: &mut Reactor, number: u64, outgoing: &[Outgoing]) {
        let mut left = outgoing;
        while !left.is_empty() {
            let Some(client) = self.clients.get(number) else { return };
            let counters = &client.served.counters[reactor.thread];
            client.last = reactor.now;
            let mut sent = Sent::default();
            let done = self.requests.send(&client.socket, left, &mut sent);
            counters.datagrams_in.add(sent.datagrams);
            counters.octets_in.add(sent.octets);
            counters.unsent.add(sent.unsent);
            let Err(at) = done else { return };
            left = &left[at..];
            self.reach_another(reactor, number);
        }
    }

    /// The endpoint of a client cannot be reached: chooses another one. Without another one the
    /// client is forgotten.
    fn reach_another(&mut self, reactor: &mut Reactor, number: u64) {
        let Some(client) = self.clients.get(number) else { return };
        let served = client.served.clone();
        reactor.counters(&served).failed_dials.add(1);
        client.failed.push(client.endpoint);
        match reach(reactor, &served, &client.key, &mut client.failed) {
            Some((endpoint, socket)) => {
                (client.endpoint, client.socket, client.left) = (endpoint, socket, false);
                if !self.watch(reactor, number) {
                    self.forget(reactor, number);
                }
            }
            None => self.forget(reactor, number),
        }
    }

    /// Something has come to the socket of a client: takes its answers.
    pub(crate) fn answer(&mut self, reactor: &mut Reactor, listeners: &Listeners, number: u64) {
        let mut wanted = FEW;
        for _ in 0..TURNS {
            let Some(client) = self.clients.get(number) else { return };
            let (place, to) = (client.key.place, Some(client.key.peer));
            let leaves = self.leaves_by.as_ref().map(|(place, _)| *place);
            if leaves != Some(place) || self.answers.slots().len() + wanted > SLOTS {
                let served = client.served.clone();
                self.flush(reactor, listeners);
                self.leaves_by = Some((place, served));
            }
            let Some(client) = self.clients.get(number) else { return };
            let first = self.answers.slots().len();
            match self.answers.receive(&client.socket, wanted) {
                Ok(received) => {
                    client.last = reactor.now;
                    client.failed.clear();
                    let all = first..first + received;
                    self.outgoing.extend(all.map(|slot| Outgoing { slot, to }));
                    if received < wanted {
                        return;
                    }
                    wanted = SLOTS / 2;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    return;
                }
                // The endpoint has closed its port, or is gone.
                Err(_) => return self.reach_another(reactor, number),
            }
        }
    }

    /// Sends the answers that were taken.
    pub(crate) fn flush(&mut self, reactor: &Reactor, listeners: &Listeners) {
        let Some((place, served)) = self.leaves_by.take() else { return };
        if let Some(socket) = listeners.get(place.listener).and_then(|found| found.datagrams(place.socket)) {
            let (mut sent, mut left) = (Sent::default(), &self.outgoing[..]);
            // An error is about the first that is left: the others go.
            while let Err(at) = self.answers.send(socket, left, &mut sent) {
                sent.unsent += 1;
                left = &left[at + 1..];
            }
            count_answers(reactor.counters(&served), &sent);
        }
        self.outgoing.clear();
        self.answers.clear();
    }

    /// A client may have been silent for too long.
    pub(crate) fn due(&mut self, reactor: &mut Reactor, number: u64) {
        let Some(client) = self.clients.get(number) else { return };
        let end = client.last + client.served.idle;
        if end <= reactor.now {
            self.forget(reactor, number);
        } else {
            reactor.wake_at(end, Token::UdpClient(number));
        }
    }

    /// Forgets the clients of a listener. Those of one of its endpoints get another one with their
    /// next datagram.
    pub(crate) fn leave(
        &mut self,
        reactor: &mut Reactor,
        served: &Arc<Served>,
        endpoint: Option<SocketAddr>,
    ) {
        let concerned = |client: &Client| {
            Arc::ptr_eq(&client.served, served) && endpoint.is_none_or(|endpoint| client.endpoint == endpoint)
        };
        for number in self.clients.numbers(concerned) {
            match (endpoint, self.clients.get(number)) {
                (Some(_), Some(client)) => client.left = true,
                _ => self.forget(reactor, number),
            }
        }
    }

    /// Forgets all.
    pub(crate) fn close_all(&mut self, reactor: &mut Reactor) {
        for number in self.clients.numbers(|_| true) {
            self.forget(reactor, number);
        }
    }

    fn forget(&mut self, reactor: &mut Reactor, number: u64) {
        let Some(client) = self.clients.remove(number) else { return };
        self.numbers.remove(&client.key);
        drop(client.socket);
        reactor.counters(&client.served).closed.add(1);
        reactor.shared.clients.give_back();
    }
}

fn count_answers(counters: &ThreadCounters, sent: &Sent) {
    counters.datagrams_out.add(sent.datagrams);
    counters.octets_out.add(sent.octets);
    counters.unsent.add(sent.unsent);
}

/// A socket to an endpoint. `None` if there is none, or too many could not be reached.
fn reach(
    reactor: &Reactor,
    served: &Served,
    key: &Key,
    failed: &mut Vec<SocketAddr>,
) -> Option<(SocketAddr, UdpSocket)> {
    let counters = reactor.counters(served);
    let client = key.peer.address;
    let local = key.peer.local.filter(|_| served.destination != Destination::Listener);
    let destination = local.map_or(served.address, |local| (local.address, served.address.port()).into());
    while failed.len() < reactor.shared.dial.len() {
        let asked = Asked { client, destination, attempt: failed.len(), failed };
        let Some(endpoint) = served.picker.pick(&asked) else { break };
        if asked.attempt > 0 {
            counters.retries.add(1);
        }
        match sockets::datagrams_to(endpoint, client, &served.upstream()) {
            Ok(socket) => return Some((endpoint, socket)),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                counters.refused_by_limits.add(1);
                return None;
            }
            Err(_) => {
                counters.failed_dials.add(1);
                failed.push(endpoint);
            }
        }
    }
    counters.refused_without_endpoint.add(1);
    None
}

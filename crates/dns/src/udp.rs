//! Questions in datagrams: a thread with a socket of its own for each listener.

mod batch;

use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use portolan_names::Transport;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::access::Access;
use crate::later::{Later, Way};
use crate::responder::{Held, Message, Responder, Then};
use crate::shared::Shared;
use crate::swap::Follower;
use crate::zones::Zones;

use batch::{Batch, Peer};

/// If nothing has come for so long, nothing more is on its way: the kernel may take its time to
/// bring what it has taken for this host.
const LAST: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// Batches of one socket before others have their turn.
const TURNS: usize = 16;

/// Answers what comes to `sockets` (each with its listener's number) until the server stops, which
/// `wake` shows. `number` is that of this thread's counters.
pub(crate) fn serve(
    shared: &Arc<Shared>,
    number: usize,
    sockets: &[(usize, Arc<UdpSocket>)],
    wake: &OwnedFd,
) {
    let mut thread = Thread {
        shared: shared.clone(),
        responder: Responder::new(shared.clone(), number),
        batch: Batch::new(),
        later: Vec::new(),
        number,
        zones: shared.listeners.iter().map(|(_, zones)| zones.follow()).collect(),
        access: shared.access.follow(),
    };
    let mut ready: Vec<PollFd<'_>> =
        sockets.iter().map(|(_, socket)| PollFd::new(&**socket, PollFlags::IN)).collect();
    ready.push(PollFd::new(wake, PollFlags::IN));
    let _under_way = shared.under_way.begin();
    while !shared.stopping.load(Ordering::Acquire) {
        let finishing = shared.finishing.load(Ordering::Acquire);
        // Nobody takes the notice that it finishes: it would not wait for anything else.
        let watched = ready.len() - usize::from(finishing);
        if poll(&mut ready[..watched], finishing.then_some(&LAST)).is_err() {
            // Interrupted, or out of memory: as if something had come.
            continue;
        }
        let mut any = false;
        for (at, (listener, socket)) in sockets.iter().enumerate() {
            if ready[at].revents().is_empty() {
                continue;
            }
            any = true;
            // Where several came at once, more have come meanwhile: asking would only cost time.
            for _ in 0..TURNS {
                if thread.turn(*listener, socket) < 2 {
                    break;
                }
            }
        }
        if finishing && !any {
            return;
        }
    }
}

struct Thread {
    shared: Arc<Shared>,
    responder: Responder,
    batch: Batch,
    later: Vec<(Box<Later>, usize)>,
    number: usize,
    /// Of each listener.
    zones: Vec<Follower<Zones>>,
    access: Follower<Access>,
}

impl Thread {
    /// Answers one batch, and returns how many questions that was.
    fn turn(&mut self, listener: usize, socket: &Arc<UdpSocket>) -> usize {
        // An error is one that an earlier answer has met (ICMP), or there was nothing after all.
        let Ok(count) = self.batch.receive(socket) else { return 0 };
        let received = Instant::now();
        let zones = self.zones[listener].current(&self.shared.listeners[listener].1).clone();
        let access = self.access.current(&self.shared.access);
        let mut held = Held::default();
        for at in 0..count {
            let (octets, client, out) = self.batch.message(at);
            let Some(client) = client else { continue };
            let message = Message { octets, client, transport: Transport::Udp, received };
            match self.responder.answer(&zones, access, &mut held, message, out) {
                Then::Send | Then::Nothing => {}
                Then::Later(later) => self.later.push((later, at)),
            }
        }
        drop(held);
        let unsent = self.batch.send(socket, count);
        if unsent > 0 {
            self.shared.counters[self.number].unsent.add(unsent as u64);
        }
        self.responder.sent(&zones);
        for (later, at) in self.later.drain(..) {
            let way = Back { socket: socket.clone(), peer: self.batch.peer(at) };
            later.ask(&self.shared, Box::new(way));
        }
        count
    }
}

/// The way back to who sent a datagram.
struct Back {
    socket: Arc<UdpSocket>,
    peer: Peer,
}

impl Way for Back {
    fn send(&self, message: Vec<u8>) -> bool {
        let mut peer = self.peer;
        peer.send(&self.socket, &message)
    }

    fn give_up(&self) {}
}

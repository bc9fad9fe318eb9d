//! Questions on connections: one thread has them all, and waits for none of them.

mod connection;
mod connections;
mod mailbox;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use portolan_names::Transport;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;

use crate::access::Access;
use crate::later::Later;
use crate::responder::{Held, Message, Responder, Then};
use crate::settings::{Refusal, TcpLimits};
use crate::shared::Shared;
use crate::swap::Follower;
use crate::zones::Zones;

use connection::{Connection, Interest, Over};
use connections::Connections;
use mailbox::Back;

pub(crate) use mailbox::Mailbox;

/// The mailbox, as the number of an event; numbers of listeners follow, then those of connections.
const MAILBOX: u64 = u64::MAX;
/// The first number of a listener.
const LISTENERS: u64 = u64::MAX - 1024;
/// Connections that are accepted before others have their turn.
const ACCEPTED_AT_ONCE: usize = 64;
/// Deadlines are looked after no more often.
const SWEEP: Duration = Duration::from_millis(50);

/// Answers on the connections that come to `listeners`, each with its number, until the server
/// stops. `number` is that of this thread's counters.
pub(crate) fn serve(
    shared: &Arc<Shared>,
    number: usize,
    listeners: Vec<(usize, TcpListener)>,
    limits: TcpLimits,
    mailbox: Arc<Mailbox>,
    epoll: OwnedFd,
) {
    let mut thread = Thread {
        shared: shared.clone(),
        responder: Responder::new(shared.clone(), number),
        zones: shared.listeners.iter().map(|(_, zones)| zones.follow()).collect(),
        access: shared.access.follow(),
        listeners,
        limits,
        mailbox,
        epoll,
        connections: Connections::default(),
        buffered: 0,
        sweep: None,
        paused: false,
        question: Vec::new(),
        answer: Vec::new(),
        later: Vec::new(),
    };
    let _under_way = shared.under_way.begin();
    let mut events = Vec::with_capacity(256);
    while !shared.stopping.load(Ordering::Acquire) {
        events.clear();
        let timeout = thread.sweep.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|timeout| timeout.try_into().ok());
        // An interruption is as good as nothing.
        let _ = epoll::wait(&thread.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref());
        for event in &events {
            match event.data.u64() {
                MAILBOX => thread.take_answers(),
                number if number >= LISTENERS => thread.accept(number - LISTENERS),
                number => thread.turn(number, event.flags),
            }
        }
        thread.close_overdue();
        if shared.finishing.load(Ordering::Acquire) && thread.finish() {
            return;
        }
    }
}

/// Makes what [`serve`] waits with.
pub(crate) fn watch(mailbox: &Mailbox, listeners: &[(usize, TcpListener)]) -> rustix::io::Result<OwnedFd> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, mailbox, EventData::new_u64(MAILBOX), EventFlags::IN)?;
    for (at, (_, listener)) in (LISTENERS..MAILBOX).zip(listeners) {
        epoll::add(&epoll, listener, EventData::new_u64(at), EventFlags::IN)?;
    }
    Ok(epoll)
}

struct Thread {
    shared: Arc<Shared>,
    responder: Responder,
    /// Of each listener.
    zones: Vec<Follower<Zones>>,
    access: Follower<Access>,
    listeners: Vec<(usize, TcpListener)>,
    limits: TcpLimits,
    mailbox: Arc<Mailbox>,
    epoll: OwnedFd,
    connections: Connections,
    /// Octets of answers that clients have not taken.
    buffered: usize,
    /// When deadlines are looked after next.
    sweep: Option<Instant>,
    /// No connections are accepted until then, because the kernel has no room for more.
    paused: bool,
    question: Vec<u8>,
    answer: Vec<u8>,
    later: Vec<Later>,
}

impl Thread {
    fn accept(&mut self, at: u64) {
        let Some((listener, socket)) = usize::try_from(at).ok().and_then(|at| self.listeners.get(at)) else {
            return;
        };
        let listener = *listener;
        let mut accepted = Vec::new();
        let mut full = false;
        for _ in 0..ACCEPTED_AT_ONCE {
            match socket.accept() {
                Ok(new) => accepted.push(new),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if is_of_connection(&error) => {}
                // No descriptors or no memory.
                Err(_) => {
                    full = true;
                    break;
                }
            }
        }
        for (stream, client) in accepted {
            self.shared.connections.add(1);
            if self.admit(stream, client, listener).is_none() {
                self.shared.connections_refused.add(1);
            }
        }
        if full {
            match self.connections.idlest() {
                Some(number) => self.close(number),
                None => self.pause(true),
            }
        }
    }

    /// Takes a connection, if there is room for it. A client that has asked nothing yet may have to
    /// make room.
    fn admit(&mut self, stream: TcpStream, client: SocketAddr, listener: usize) -> Option<()> {
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        let access = self.access.current(&self.shared.access);
        if access.otherwise == Refusal::Silence && !access.allows(client.ip()) {
            self.shared.counters[self.responder.number()].forbidden.add(1);
            return None;
        }
        if self.connections.of_client(client.ip()) >= self.limits.connections_per_client {
            return None;
        }
        if self.connections.len() >= self.limits.connections {
            let number = self.connections.idlest()?;
            self.close(number);
            self.shared.connections_refused.add(1);
        }
        stream.set_nonblocking(true).ok()?;
        // Answers are written whole: waiting for more would only delay them.
        stream.set_nodelay(true).ok()?;
        let connection = Connection::new(stream, client, listener, Instant::now());
        let deadline = connection.deadline(&self.limits);
        let number = self.connections.add(connection)?;
        self.shared.connections_open.store(self.connections.len() as u64, Ordering::Relaxed);
        let connection = self.connections.get(number)?;
        let data = EventData::new_u64(number);
        if epoll::add(&self.epoll, &connection.stream, data, EventFlags::IN).is_err() {
            self.close(number);
            return None;
        }
        self.sweep_by(deadline);
        Some(())
    }

    /// Something has happened to a connection.
    fn turn(&mut self, number: u64, flags: EventFlags) {
        let gone = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        let Some(connection) = self.connections.get(number) else { return };
        if gone || connection.read().is_err() {
            return self.close(number);
        }
        self.go_on(number);
    }

    /// Answers what can be answered, and sends what can be sent.
    fn go_on(&mut self, number: u64) {
        if self.answer_questions(number).is_err() {
            self.close(number);
        }
        for later in std::mem::take(&mut self.later) {
            let way = Back { mailbox: self.mailbox.clone(), connection: number };
            later.ask(&self.shared, Box::new(way));
        }
    }

    fn answer_questions(&mut self, number: u64) -> Result<(), Over> {
        let now = Instant::now();
        let connection = self.connections.get(number).ok_or(Over)?;
        let before = connection.waiting();
        let listener = connection.listener;
        let zones = self.zones[listener].current(&self.shared.listeners[listener].1).clone();
        let access = self.access.current(&self.shared.access);
        // What is taken now makes room for what was not answered for want of it.
        connection.write(now)?;
        loop {
            let mut held = Held::default();
            let mut any = false;
            while connection.next(&self.limits, &mut self.question, now)? {
                any = true;
                self.answer.clear();
                let message = Message {
                    octets: &self.question,
                    client: connection.client,
                    transport: Transport::Tcp,
                    received: now,
                };
                match self.responder.answer(&zones, access, &mut held, message, &mut self.answer) {
                    Then::Send => connection.answer(&self.answer),
                    Then::Nothing => {}
                    Then::Later(later) => {
                        connection.defer();
                        self.later.push(*later);
                    }
                }
            }
            drop(held);
            connection.write(now)?;
            self.responder.sent(&zones);
            if !any || connection.waiting() > 0 {
                break;
            }
        }
        let waiting = connection.waiting();
        self.buffered = self.buffered.saturating_sub(before) + waiting;
        if waiting > before && self.buffered > self.limits.buffered {
            return Err(Over);
        }
        let wanted = connection.interest(&self.limits)?;
        if wanted != connection.watched {
            connection.watched = wanted;
            let data = EventData::new_u64(number);
            epoll::modify(&self.epoll, &connection.stream, data, flags(wanted)).map_err(|_| Over)?;
        }
        let deadline = connection.deadline(&self.limits);
        self.sweep_by(deadline);
        Ok(())
    }

    /// Sends what others have answered.
    fn take_answers(&mut self) {
        for (number, answer) in self.mailbox.take() {
            let Some(connection) = self.connections.get(number) else { continue };
            let before = connection.waiting();
            connection.complete(answer.as_deref());
            self.buffered += connection.waiting() - before;
            self.go_on(number);
        }
    }

    fn close_overdue(&mut self) {
        let now = Instant::now();
        if self.sweep.is_none_or(|at| at > now) {
            return;
        }
        let (overdue, next) = self.connections.overdue(&self.limits, now);
        for number in overdue {
            self.close(number);
        }
        self.sweep = next.map(|next| next.max(now + SWEEP));
        if self.paused {
            self.pause(false);
        }
    }

    fn close(&mut self, number: u64) {
        let Some(connection) = self.connections.remove(number) else { return };
        self.buffered = self.buffered.saturating_sub(connection.waiting());
        self.shared.connections_open.store(self.connections.len() as u64, Ordering::Relaxed);
        // Closing the last descriptor takes it out of the epoll.
        drop(connection);
    }

    /// Closes the connections that have nothing to wait for any more. Returns whether none is left.
    fn finish(&mut self) -> bool {
        for at in 0..self.listeners.len() {
            self.accept(at as u64);
        }
        for number in self.connections.numbers() {
            // What came since it was last looked at.
            self.turn(number, EventFlags::IN);
            if self.connections.get(number).is_some_and(|connection| connection.is_done()) {
                self.close(number);
            }
        }
        self.connections.len() == 0
    }

    /// Stops or goes on to accept connections.
    fn pause(&mut self, pause: bool) {
        self.paused = pause;
        let flags = if pause { EventFlags::empty() } else { EventFlags::IN };
        for (at, (_, listener)) in (LISTENERS..MAILBOX).zip(&self.listeners) {
            // It fails only for want of memory, and is tried again.
            let _ = epoll::modify(&self.epoll, listener, EventData::new_u64(at), flags);
        }
        if pause {
            self.sweep_by(Instant::now() + SWEEP);
        }
    }

    fn sweep_by(&mut self, deadline: Instant) {
        self.sweep = Some(self.sweep.map_or(deadline, |at| at.min(deadline)));
    }
}

fn flags(interest: Interest) -> EventFlags {
    let mut flags = EventFlags::empty();
    flags.set(EventFlags::IN, interest.read);
    flags.set(EventFlags::OUT, interest.write);
    flags
}

/// Whether accept(2) failed because of the connection that it was about to return.
fn is_of_connection(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
            | ErrorKind::PermissionDenied
    )
}

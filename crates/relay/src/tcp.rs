//! The connections of one thread.

mod connection;
mod flow;
mod pipes;
mod splice;

use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

use crate::listening::Listening;
use crate::picker::Asked;
use crate::reactor::Reactor;
use crate::served::Served;
use crate::slots::Slots;
use crate::token::Token;
use crate::{proxy_header, sockets, system};

use connection::{Connection, Dial, Next, Way};
use pipes::Pipes;

/// Connections that are accepted before others have their turn. Other threads take some meanwhile.
const ACCEPTED_AT_ONCE: usize = 16;
/// So long do connections go on that move many octets, before events of others are looked for.
const SLICE: Duration = Duration::from_millis(1);
/// What is copied at once if there is no pipe, octets.
const COPIED_AT_ONCE: usize = 64 << 10;

/// The connections of one thread.
pub(crate) struct Tcp {
    connections: Slots<Connection>,
    pipes: Pipes,
    buffer: Vec<u8>,
    /// Connections that wait for their turn, because they move many octets.
    again: VecDeque<u64>,
}

/// Why no more connections were accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// There are none.
    All,
    /// Others have their turn.
    Some,
    /// Descriptors or memory ran out.
    Exhausted,
}

/// A side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Endpoint,
}

/// An endpoint that is being reached, or is.
struct Dialled {
    upstream: TcpStream,
    endpoint: SocketAddr,
    connected: bool,
}

/// Why no endpoint is reached.
enum Unreached {
    /// There is none, or none of those tried.
    None,
    /// Descriptors or memory ran out.
    Exhausted,
}

impl Tcp {
    pub(crate) fn new(pipes: usize, pipe: usize) -> Tcp {
        Tcp {
            connections: Slots::default(),
            pipes: Pipes::new(pipes, pipe),
            buffer: vec![0; COPIED_AT_ONCE],
            again: VecDeque::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there is something to do without an event.
    pub(crate) fn is_busy(&self) -> bool {
        !self.again.is_empty()
    }

    /// Takes connections of a listener.
    pub(crate) fn accept(&mut self, reactor: &mut Reactor, listening: &Listening) -> Accepted {
        let Some(listener) = listening.connections() else { return Accepted::All };
        for _ in 0..ACCEPTED_AT_ONCE {
            match system::accept(listener.as_fd()) {
                Ok((socket, client)) => self.admit(reactor, &listening.served, socket.into(), client),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Accepted::All,
                Err(error) if is_exhaustion(&error) => return Accepted::Exhausted,
                // Of the connection that would have been returned.
                Err(_) => {}
            }
        }
        Accepted::Some
    }

    fn admit(&mut self, reactor: &mut Reactor, served: &Arc<Served>, socket: TcpStream, client: SocketAddr) {
        if !reactor.shared.connections.take() {
            reactor.counters(served).refused_by_limits.add(1);
            return sockets::end_with_reset(&socket);
        }
        if let Err((socket, why)) = self.open(reactor, served, socket, client) {
            reactor.shared.connections.give_back();
            sockets::end_with_reset(&socket);
            refuse(reactor, served, &why);
        }
    }

    /// Begins to reach an endpoint for a client.
    fn open(
        &mut self,
        reactor: &mut Reactor,
        served: &Arc<Served>,
        socket: TcpStream,
        client: SocketAddr,
    ) -> Result<(), (TcpStream, Unreached)> {
        let Ok(destination) = sockets::destination(served.destination, served.address, &socket) else {
            return Err((socket, Unreached::None));
        };
        let upstream = served.upstream();
        let mut dial = Dial { client, destination, upstream, failed: Vec::new(), until: reactor.now };
        let dialled = match reach(reactor, served, &mut dial) {
            Ok(dialled) => dialled,
            Err(why) => return Err((socket, why)),
        };
        let connected = dialled.connected;
        let Some(number) = self.connections.add(Connection {
            served: served.clone(),
            client: socket,
            upstream: dialled.upstream,
            endpoint: dialled.endpoint,
            dial: Some(Box::new(dial)),
            up: Way::default(),
            down: Way::default(),
            until: None,
            queued: false,
            kept_alive: false,
        }) else {
            reactor.shared.connections.give_back();
            return Ok(());
        };
        reactor.counters(served).opened.add(1);
        let Some(connection) = self.connections.get(number) else { return Ok(()) };
        let watched = reactor.watch(&connection.client, Token::Client(number), watched());
        if watched.is_err() || !watch_upstream(reactor, connection, number) {
            self.close(reactor, number, true);
        } else if connected {
            self.connected(reactor, number);
        }
        Ok(())
    }

    /// Something has happened on a side of a connection.
    pub(crate) fn event(&mut self, reactor: &mut Reactor, number: u64, side: Side, flags: EventFlags) {
        let Some(connection) = self.connections.get(number) else { return };
        let (from, to) = match side {
            Side::Client => (&mut connection.up.flow, &mut connection.down.flow),
            Side::Endpoint => (&mut connection.down.flow, &mut connection.up.flow),
        };
        from.more |= flags.intersects(EventFlags::PRI | EventFlags::RDHUP | EventFlags::HUP);
        from.readable |= from.more || flags.contains(EventFlags::IN);
        to.writable |= flags.contains(EventFlags::OUT);
        // The side was reset, or has not answered in time. What it has sent before is passed on, as
        // far as the other side takes it at once.
        let broken = flags.contains(EventFlags::ERR);
        match (&connection.dial, side) {
            // Those that move few octets go first.
            (None, _) if connection.moves_many() && !broken => self.queue(number),
            (None, _) => self.relay(reactor, number, broken),
            (Some(_), Side::Endpoint) if flags.intersects(EventFlags::ERR | EventFlags::HUP) => {
                self.progress(reactor, number);
            }
            // A socket that is not connected takes nothing.
            (Some(_), Side::Endpoint) if flags.contains(EventFlags::OUT) => self.connected(reactor, number),
            (Some(_), Side::Client) if broken => self.close(reactor, number, true),
            (Some(_), _) => {}
        }
    }

    /// Looks after an attempt to reach an endpoint.
    fn progress(&mut self, reactor: &mut Reactor, number: u64) {
        let Some(connection) = self.connections.get(number) else { return };
        match sockets::dialled(&connection.upstream, connection.endpoint) {
            Ok(true) => self.connected(reactor, number),
            Ok(false) => {}
            // It was reached, and did not want the connection: that is its answer.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.close(reactor, number, true),
            Err(_) => self.retry(reactor, number),
        }
    }

    /// An attempt has failed: tries another endpoint.
    fn retry(&mut self, reactor: &mut Reactor, number: u64) {
        let Some(connection) = self.connections.get(number) else { return };
        let Some(dial) = &mut connection.dial else { return };
        let served = connection.served.clone();
        reactor.counters(&served).failed_dials.add(1);
        dial.failed.push(connection.endpoint);
        match reach(reactor, &served, dial) {
            Ok(Dialled { upstream, endpoint, connected }) => {
                // The socket before is closed, and so no longer watched.
                (connection.upstream, connection.endpoint) = (upstream, endpoint);
                (connection.down.flow.readable, connection.down.flow.more) = (false, false);
                connection.up.flow.writable = false;
                if !watch_upstream(reactor, connection, number) {
                    self.close(reactor, number, true);
                } else if connected {
                    self.connected(reactor, number);
                }
            }
            Err(why) => {
                refuse(reactor, &served, &why);
                self.close(reactor, number, true);
            }
        }
    }

    /// The endpoint is reached.
    fn connected(&mut self, reactor: &mut Reactor, number: u64) {
        let Some(connection) = self.connections.get(number) else { return };
        let Some(dial) = connection.dial.take() else { return };
        connection.up.flow.writable = true;
        if let Some(header) = dial.upstream.proxy_header {
            let header = proxy_header::encode(header, dial.client, dial.destination);
            // The socket is new: there is room for a short header.
            if !matches!((&connection.upstream).write(&header), Ok(sent) if sent == header.len()) {
                return self.close(reactor, number, true);
            }
        }
        self.relay(reactor, number, false);
    }

    fn relay(&mut self, reactor: &mut Reactor, number: u64, broken: bool) {
        let Some(connection) = self.connections.get(number) else { return };
        match connection.relay(&mut self.pipes, &mut self.buffer, reactor.thread) {
            Ok(Next::Done) => self.close(reactor, number, false),
            Ok(_) if broken => self.close(reactor, number, true),
            Ok(Next::Waits) => {}
            Ok(Next::Again) => self.queue(number),
            Err(_) => self.close(reactor, number, true),
        }
    }

    /// Has a connection wait for its turn.
    fn queue(&mut self, number: u64) {
        let Some(connection) = self.connections.get(number) else { return };
        if !std::mem::replace(&mut connection.queued, true) {
            self.again.push_back(number);
        }
    }

    /// Goes on with connections that wait for their turn, for a while.
    pub(crate) fn go_on(&mut self, reactor: &mut Reactor) {
        let start = Instant::now();
        for _ in 0..self.again.len() {
            let Some(number) = self.again.pop_front() else { return };
            if let Some(connection) = self.connections.get(number) {
                connection.queued = false;
                self.relay(reactor, number, false);
            }
            if start.elapsed() > SLICE {
                return;
            }
        }
    }

    /// A deadline of a connection has come, or none of its deadlines yet.
    pub(crate) fn due(&mut self, reactor: &mut Reactor, number: u64) {
        let Some(connection) = self.connections.get(number) else { return };
        let attempt = connection.dial.as_ref().map(|dial| dial.until);
        if connection.until.is_some_and(|until| until <= reactor.now) {
            return self.close(reactor, number, true);
        }
        match attempt {
            Some(until) if until <= reactor.now => return self.retry(reactor, number),
            // Only what lasts is worth these system calls.
            None if !connection.kept_alive => {
                connection.kept_alive = true;
                sockets::keep_alive(&connection.upstream, reactor.shared.keepalive);
            }
            _ => {}
        }
        if let Some(next) = connection.until.into_iter().chain(attempt).min() {
            reactor.wake_at(next, Token::Client(number));
        }
    }

    /// Has connections of a listener, or of one of its endpoints, cut at `until`.
    pub(crate) fn limit(
        &mut self,
        reactor: &mut Reactor,
        served: &Arc<Served>,
        endpoint: Option<SocketAddr>,
        until: Instant,
    ) {
        let concerned = |connection: &Connection| {
            Arc::ptr_eq(&connection.served, served)
                && endpoint.is_none_or(|endpoint| connection.endpoint == endpoint)
        };
        for number in self.connections.numbers(concerned) {
            if let Some(connection) = self.connections.get(number) {
                connection.until = Some(connection.until.map_or(until, |earlier| earlier.min(until)));
                reactor.wake_at(until, Token::Client(number));
            }
        }
    }

    /// Cuts all.
    pub(crate) fn close_all(&mut self, reactor: &mut Reactor) {
        for number in self.connections.numbers(|_| true) {
            self.close(reactor, number, true);
        }
    }

    fn close(&mut self, reactor: &mut Reactor, number: u64, broken: bool) {
        let Some(connection) = self.connections.remove(number) else { return };
        let served = connection.served.clone();
        let counters = reactor.counters(&served);
        counters.broken.add(u64::from(broken));
        connection.close(&mut self.pipes, broken);
        counters.closed.add(1);
        reactor.shared.connections.give_back();
    }
}

/// Begins to reach endpoints until one does not fail at once.
fn reach(reactor: &Reactor, served: &Served, dial: &mut Dial) -> Result<Dialled, Unreached> {
    let counters = reactor.counters(served);
    while let Some(time) = reactor.shared.dial.get(dial.failed.len()) {
        let asked = Asked {
            client: dial.client,
            destination: dial.destination,
            attempt: dial.failed.len(),
            failed: &dial.failed,
        };
        let endpoint = served.picker.pick(&asked).ok_or(Unreached::None)?;
        if asked.attempt > 0 {
            counters.retries.add(1);
        }
        match sockets::dial(endpoint, dial.client, &dial.upstream) {
            Ok((upstream, connected)) => {
                dial.until = reactor.now + *time;
                return Ok(Dialled { upstream, endpoint, connected });
            }
            Err(error) if is_exhaustion(&error) => return Err(Unreached::Exhausted),
            Err(_) => {
                counters.failed_dials.add(1);
                dial.failed.push(endpoint);
            }
        }
    }
    Err(Unreached::None)
}

fn watch_upstream(reactor: &mut Reactor, connection: &Connection, number: u64) -> bool {
    if let Some(dial) = &connection.dial {
        reactor.wake_at(dial.until, Token::Client(number));
    }
    reactor.watch(&connection.upstream, Token::Endpoint(number), watched()).is_ok()
}

/// Only changes are reported: nothing is to be said to the kernel while a connection goes on.
fn watched() -> EventFlags {
    EventFlags::IN | EventFlags::PRI | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET
}

fn refuse(reactor: &Reactor, served: &Served, why: &Unreached) {
    let counters = reactor.counters(served);
    match why {
        Unreached::None => counters.refused_without_endpoint.add(1),
        Unreached::Exhausted => counters.refused_by_limits.add(1),
    }
}

/// Whether descriptors or memory ran out.
fn is_exhaustion(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

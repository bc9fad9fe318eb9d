//! A thread: waits for what happens, and has it done.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, Event, EventFlags};

use crate::listener::Protocol;
use crate::listening::{Listeners, Listening};
use crate::mailbox::{Command, Mailbox};
use crate::reactor::Reactor;
use crate::shared::Shared;
use crate::tcp::{Accepted, Side, Tcp};
use crate::token::Token;
use crate::udp::{Place, Udp};
use crate::{sockets, system};

/// Events that are taken at once.
const EVENTS: usize = 256;
/// So long no connections are accepted after descriptors or memory ran out even for refusing them.
const PAUSE: Duration = Duration::from_millis(50);
/// Turns in which connections are accepted that came before their listener is left alone.
const WITHDRAWN_AFTER: usize = 256;

/// What a thread has.
pub(crate) struct Worker {
    reactor: Reactor,
    mailbox: Arc<Mailbox>,
    listeners: Listeners,
    tcp: Tcp,
    udp: Udp,
    /// A descriptor that is given up to take connections that are refused because there are no
    /// others.
    reserve: Option<File>,
    /// No more clients are taken.
    finishing: bool,
}

impl Worker {
    pub(crate) fn new(
        thread: usize,
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
    ) -> rustix::io::Result<Worker> {
        let pipes = shared.limits.pipes.div_ceil(shared.threads.max(1));
        let tcp = Tcp::new(pipes, shared.pipe);
        let reactor = Reactor::new(thread, shared)?;
        reactor.watch(&*mailbox, Token::Mailbox, EventFlags::IN)?;
        let (listeners, udp) = (Listeners::default(), Udp::new());
        Ok(Worker { reactor, mailbox, listeners, tcp, udp, reserve: spare(), finishing: false })
    }

    /// Works until the relay stops, or all clients are gone and no more are taken.
    pub(crate) fn run(mut self) {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        let mut due = Vec::new();
        let shared = self.reactor.shared.clone();
        while !shared.stopping.load(Ordering::Acquire) && !self.is_done() {
            events.clear();
            let timeout = if self.tcp.is_busy() {
                Some(Duration::ZERO)
            } else {
                self.reactor.deadlines.next(self.reactor.now)
            };
            let timeout = timeout.and_then(|timeout| timeout.try_into().ok());
            // An interruption is as good as nothing.
            let spare = rustix::buffer::spare_capacity(&mut events);
            let _ = epoll::wait(&self.reactor.epoll, spare, timeout.as_ref());
            self.reactor.now = Instant::now();
            shared.wakeups[self.reactor.thread].add(1);
            for event in &events {
                self.event(event.data.u64(), event.flags);
            }
            self.udp.flush(&self.reactor, &self.listeners);
            self.tcp.go_on(&mut self.reactor);
            self.reactor.deadlines.take(self.reactor.now, &mut due);
            for number in due.drain(..) {
                self.due(number);
            }
        }
        self.tcp.close_all(&mut self.reactor);
        self.udp.close_all(&mut self.reactor);
    }

    fn is_done(&self) -> bool {
        self.finishing && self.tcp.len() == 0 && self.udp.len() == 0
    }

    fn event(&mut self, token: u64, flags: EventFlags) {
        match Token::unpack(token) {
            Some(Token::Mailbox) => {
                for command in self.mailbox.take() {
                    self.command(command);
                }
            }
            Some(Token::Listener(number)) => self.accept(number),
            Some(Token::Datagrams(listener, socket)) => {
                if let Some(listening) = self.listeners.get(listener) {
                    self.udp.receive(&mut self.reactor, listening, Place { listener, socket });
                }
            }
            Some(Token::Client(number)) => self.tcp.event(&mut self.reactor, number, Side::Client, flags),
            Some(Token::Endpoint(number)) => self.tcp.event(&mut self.reactor, number, Side::Endpoint, flags),
            Some(Token::UdpClient(number)) => self.udp.answer(&mut self.reactor, &self.listeners, number),
            None => {}
        }
    }

    fn due(&mut self, token: u64) {
        match Token::unpack(token) {
            Some(Token::Client(number)) => self.tcp.due(&mut self.reactor, number),
            Some(Token::UdpClient(number)) => self.udp.due(&mut self.reactor, number),
            // It was paused.
            Some(Token::Listener(number)) => {
                if let Some(listening) = self.listeners.get(number) {
                    watch_listener(&self.reactor, number, listening);
                }
            }
            _ => {}
        }
    }

    fn accept(&mut self, number: u32) {
        let Some(listening) = self.listeners.get(number) else { return };
        if self.tcp.accept(&mut self.reactor, listening) != Accepted::Exhausted {
            return;
        }
        let Some(listener) = listening.connections() else { return };
        // With one descriptor more, as many as wait are refused.
        let mut any = false;
        self.reserve = None;
        while let Ok((socket, _)) = system::accept(listener.as_fd()) {
            // Before the client can know.
            self.reactor.counters(&listening.served).refused_by_limits.add(1);
            sockets::end_with_reset(&socket.into());
            any = true;
        }
        self.reserve = spare();
        if !any {
            // Not even that: others took the descriptor, or there is no memory.
            self.reactor.unwatch(listener);
            self.reactor.wake_at(self.reactor.now + PAUSE, Token::Listener(number));
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Serve { number, served, sockets } => {
                let listening = Listening { served, sockets };
                if !self.finishing {
                    watch_listener(&self.reactor, number, &listening);
                }
                self.listeners.put(number, listening);
            }
            Command::Remove { number, until, done } => {
                self.udp.flush(&self.reactor, &self.listeners);
                if let Some(listening) = self.listeners.take(number) {
                    self.withdraw(&listening);
                    self.udp.leave(&mut self.reactor, &listening.served, None);
                    if let Some(until) = until {
                        self.tcp.limit(&mut self.reactor, &listening.served, None, until);
                    }
                }
                drop(done);
            }
            Command::Leave { number, endpoint, until } => self.leave(number, endpoint, until),
            Command::Finish => {
                self.finishing = true;
                for number in self.listeners.iter().map(|(number, _)| number).collect::<Vec<_>>() {
                    let Some(listening) = self.listeners.get(number).cloned() else { continue };
                    self.withdraw(&listening);
                    // Answers leave by the sockets of UDP listeners.
                    if listening.served.protocol == Protocol::Tcp {
                        self.listeners.take(number);
                    }
                }
            }
        }
    }

    fn leave(&mut self, number: u32, endpoint: SocketAddr, until: Option<Instant>) {
        let Some(Listening { served, .. }) = self.listeners.get(number).cloned() else { return };
        self.udp.leave(&mut self.reactor, &served, Some(endpoint));
        if let Some(until) = until {
            self.tcp.limit(&mut self.reactor, &served, Some(endpoint), until);
        }
    }

    /// Takes no more clients of a listener than those that are there.
    fn withdraw(&mut self, listening: &Listening) {
        if let Some(socket) = listening.connections() {
            self.reactor.unwatch(socket);
            for _ in 0..WITHDRAWN_AFTER {
                if self.tcp.accept(&mut self.reactor, listening) != Accepted::Some {
                    break;
                }
            }
        }
        for (_, socket) in listening.own_datagrams(self.reactor.thread, self.reactor.shared.threads) {
            self.reactor.unwatch(socket);
        }
    }
}

/// Begins to take clients of a listener.
fn watch_listener(reactor: &Reactor, number: u32, listening: &Listening) {
    // These fail only for want of memory, or because it is watched already.
    if let Some(socket) = listening.connections() {
        // One thread wakes up for a connection, not all.
        let _ = reactor.watch(socket, Token::Listener(number), EventFlags::IN | EventFlags::EXCLUSIVE);
    }
    for (socket, which) in listening.own_datagrams(reactor.thread, reactor.shared.threads) {
        let _ = reactor.watch(which, Token::Datagrams(number, socket), EventFlags::IN);
    }
}

/// Some descriptor.
fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

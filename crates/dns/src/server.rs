//! The server: sockets and threads, started and stopped together.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use crate::access::Access;
use crate::counters::{Count, Counts, ThreadCounters, sum};
use crate::error::Error;
use crate::query_log::LogQueue;
use crate::settings::{Block, MayAsk, Settings, Sockets, TcpLimits, threads_of};
use crate::shared::Shared;
use crate::swap::Swap;
use crate::tcp::{self, Mailbox};
use crate::zones::Zones;
use crate::{socket_option, sockets, udp};

/// A server that answers. It stops when it is dropped.
pub struct Server {
    /// `None` when it stops.
    shared: Option<Arc<Shared>>,
    sockets: Vec<Sockets>,
    /// Wakes the threads that answer datagrams.
    wake: Arc<OwnedFd>,
    /// Wakes the thread that has the connections, if there is one.
    mailbox: Option<Arc<Mailbox>>,
    threads: Vec<JoinHandle<()>>,
    log: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds all addresses, and starts to answer.
    pub fn start(settings: Settings) -> Result<Server, Error> {
        let Settings { mut listeners, threads, may_ask, tcp: limits, receive_buffer } = settings;
        let threads = threads_of(threads);
        // One for each thread, one for connections, one for answers that come later.
        let counters = threads + 2;
        let mut sockets = Vec::new();
        let mut served = Vec::new();
        for listener in &mut listeners {
            sockets.push(sockets::open(listener, threads, receive_buffer)?);
            let blocks = std::mem::take(&mut listener.blocks);
            let zones = Zones::new(listener.address, blocks, &Zones::default(), counters)?;
            served.push((listener.address, Swap::new(zones)));
        }
        let (log, log_thread) = LogQueue::start().map_err(Error::system("starting a thread"))?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let wake =
            wake.map_err(|source| Error::System { what: "making an eventfd", source: source.into() })?;
        let shared = Arc::new(Shared {
            access: Swap::new(Access::new(&may_ask)),
            listeners: served,
            counters: (0..counters).map(|_| ThreadCounters::default()).collect(),
            later: Mutex::new(()),
            log,
            log_dropped: Count::default(),
            connections: Count::default(),
            connections_refused: Count::default(),
            connections_open: AtomicU64::new(0),
            under_way: Arc::default(),
            finishing: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        });
        let mut server = Server {
            shared: Some(shared.clone()),
            sockets,
            wake: Arc::new(wake),
            mailbox: None,
            threads: Vec::new(),
            log: Some(log_thread),
        };
        for number in 0..threads {
            server.answer_datagrams(&shared, number, threads)?;
        }
        server.answer_connections(&shared, threads, limits)?;
        Ok(server)
    }

    /// Starts the thread that answers at every `threads`th socket of each listener.
    fn answer_datagrams(&mut self, shared: &Arc<Shared>, number: usize, threads: usize) -> Result<(), Error> {
        let mut own: Vec<(usize, Arc<UdpSocket>)> = Vec::new();
        for (listener, sockets) in self.sockets.iter().enumerate() {
            for socket in sockets.udp.iter().skip(number).step_by(threads) {
                let socket = socket.try_clone().map_err(Error::system("duplicating a socket"))?;
                own.push((listener, Arc::new(socket)));
            }
        }
        if own.is_empty() {
            return Ok(());
        }
        let (shared, wake) = (shared.clone(), self.wake.clone());
        let thread = std::thread::Builder::new()
            .name(format!("dns-udp-{number}"))
            .spawn(move || udp::serve(&shared, number, &own, &wake))
            .map_err(Error::system("starting a thread"))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Starts the thread that has the connections.
    fn answer_connections(
        &mut self,
        shared: &Arc<Shared>,
        number: usize,
        limits: TcpLimits,
    ) -> Result<(), Error> {
        let mut listeners = Vec::new();
        for (listener, sockets) in self.sockets.iter().enumerate() {
            if let Some(socket) = &sockets.tcp {
                let socket = socket.try_clone().map_err(Error::system("duplicating a socket"))?;
                listeners.push((listener, socket));
            }
        }
        if listeners.is_empty() {
            return Ok(());
        }
        let denied = |source: rustix::io::Errno| Error::system("watching sockets")(source.into());
        let mailbox = Arc::new(Mailbox::new().map_err(denied)?);
        let epoll = tcp::watch(&mailbox, &listeners).map_err(denied)?;
        self.mailbox = Some(mailbox.clone());
        let shared = shared.clone();
        let thread = std::thread::Builder::new()
            .name("dns-tcp".to_owned())
            .spawn(move || tcp::serve(&shared, number, listeners, limits, mailbox, epoll))
            .map_err(Error::system("starting a thread"))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Where it listens, one address a listener.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.shared().listeners.iter().map(|(address, _)| *address).collect()
    }

    /// From now on answers at listener `number` as `blocks` say. Questions that are being answered
    /// are answered as before. Counters of zones that stay go on.
    pub fn set_blocks(&self, number: usize, blocks: Vec<Block>) -> Result<(), Error> {
        let shared = self.shared();
        let count = shared.listeners.len();
        let (address, zones) = shared.listeners.get(number).ok_or(Error::Listener { number, count })?;
        let next = Zones::new(*address, blocks, &zones.get(), shared.counters.len())?;
        zones.set(next);
        Ok(())
    }

    /// From now on these may ask.
    pub fn set_may_ask(&self, may_ask: &MayAsk) {
        self.shared().access.set(Access::new(may_ask));
    }

    /// The sockets of each listener, to be handed over. They stay open here.
    pub fn sockets(&self) -> Result<Vec<Sockets>, Error> {
        let copy = |sockets: &Sockets| {
            let udp = sockets.udp.iter().map(UdpSocket::try_clone).collect::<Result<_, _>>()?;
            Ok(Sockets { udp, tcp: sockets.tcp.as_ref().map(std::net::TcpListener::try_clone).transpose()? })
        };
        let copies: std::io::Result<_> = self.sockets.iter().map(copy).collect();
        copies.map_err(Error::system("duplicating a socket"))
    }

    /// All counters.
    pub fn counts(&self) -> Counts {
        let shared = self.shared();
        let mut counts = Counts {
            log_dropped: shared.log_dropped.read(),
            connections: shared.connections.read(),
            connections_refused: shared.connections_refused.read(),
            connections_open: shared.connections_open.load(Ordering::Relaxed),
            ..Counts::default()
        };
        for counters in &shared.counters {
            counters.add_to(&mut counts);
        }
        for socket in self.sockets.iter().flat_map(|sockets| &sockets.udp) {
            counts.overflowed += socket_option::overflowed(socket).unwrap_or(0);
        }
        for (address, zones) in &shared.listeners {
            for (zone, route) in zones.get().iter() {
                counts.zones.push(sum(*address, zone, &route.counters));
            }
        }
        counts
    }

    /// Answers what has come, closes connections that have been answered, and stops. Whoever has
    /// yet to be answered after so long is not. Nothing more should come meanwhile.
    pub fn finish(self, patience: Duration) {
        self.shared().finishing.store(true, Ordering::Release);
        self.wake_threads();
        self.shared().under_way.wait(patience);
    }

    fn wake_threads(&self) {
        // It fails only if it was written to before.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        if let Some(mailbox) = &self.mailbox {
            mailbox.wake();
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        self.shared.as_ref().expect("a server that is not dropped has it")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(shared) = self.shared.take() else { return };
        shared.stopping.store(true, Ordering::Release);
        self.wake_threads();
        for thread in self.threads.drain(..) {
            // A panic of it was reported by the panic hook.
            let _ = thread.join();
        }
        // Answers under way have the log still; its thread ends with the last of them.
        drop(shared);
        self.log.take();
    }
}

//! The relay: threads and listeners.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::counters::{Count, ListenerCounts, sum};
use crate::error::Error;
use crate::limits::Limits;
use crate::listener::{Listener, Sockets, Upstream};
use crate::mailbox::{Command, Mailbox};
use crate::served::Served;
use crate::shared::{Room, Settings, Shared};
use crate::sockets;
use crate::worker::Worker;

/// Relays what comes to its listeners. It stops when it is dropped: then all connections are reset.
pub struct Relay {
    shared: Arc<Shared>,
    threads: Vec<Thread>,
    /// All that are listening, by number, and those that were removed and still have connections.
    listeners: Mutex<All>,
}

#[derive(Default)]
struct All {
    listening: Vec<Option<(Arc<Served>, Arc<Sockets>)>>,
    /// Numbers by key.
    numbers: HashMap<String, usize>,
    /// Numbers that nothing has.
    free: Vec<usize>,
    removed: Vec<Arc<Served>>,
}

struct Thread {
    mailbox: Arc<Mailbox>,
    handle: Option<JoinHandle<()>>,
    /// Ends with the thread.
    ended: Receiver<()>,
}

impl Relay {
    /// Starts its threads. Raises the limit of descriptors of this process as far as it may.
    pub fn start(settings: Settings) -> Result<Relay, Error> {
        let Settings { threads, limits, dial, keepalive, pipe } = settings;
        let all = || std::thread::available_parallelism().ok().map(usize::from);
        let threads = threads.or_else(all).unwrap_or(1).max(1);
        let limits = limits.raised().map_err(Error::system("raising the limit of descriptors"))?;
        let shared = Arc::new(Shared {
            threads,
            limits,
            dial,
            keepalive,
            pipe,
            connections: Room::new(limits.connections),
            clients: Room::new(limits.clients),
            wakeups: (0..threads).map(|_| Count::default()).collect(),
            stopping: AtomicBool::new(false),
        });
        let mut relay = Relay { shared, threads: Vec::new(), listeners: Mutex::default() };
        for number in 0..threads {
            let thread = relay.thread(number)?;
            relay.threads.push(thread);
        }
        Ok(relay)
    }

    fn thread(&self, number: usize) -> Result<Thread, Error> {
        let mailbox = Arc::new(Mailbox::new().map_err(Error::system("making an eventfd"))?);
        let (alive, ended) = channel();
        let (started, has_started) = channel();
        let (shared, letters) = (self.shared.clone(), mailbox.clone());
        let handle = std::thread::Builder::new()
            .name(format!("relay-{number}"))
            .spawn(move || {
                let _alive: std::sync::mpsc::Sender<()> = alive;
                match Worker::new(number, shared, letters) {
                    Ok(worker) => {
                        drop(started);
                        worker.run();
                    }
                    Err(error) => drop(started.send(error)),
                }
            })
            .map_err(Error::system("starting a thread"))?;
        if let Ok(error) = has_started.recv() {
            return Err(Error::system("making an epoll")(error));
        }
        Ok(Thread { mailbox, handle: Some(handle), ended })
    }

    /// Listens. Returns the address, whose port the kernel may have chosen.
    pub fn add(&self, listener: Listener) -> Result<SocketAddr, Error> {
        let mut all = self.all();
        if all.numbers.contains_key(&listener.key) {
            return Err(Error::KeyTaken { key: listener.key });
        }
        let (sockets, address) = sockets::open(&listener, self.shared.threads, self.shared.keepalive)?;
        let served = Arc::new(Served::new(&listener, address, self.shared.threads));
        let at = all.free.pop().unwrap_or_else(|| {
            all.listening.push(None);
            all.listening.len() - 1
        });
        all.numbers.insert(listener.key, at);
        all.listening[at] = Some((served.clone(), sockets.clone()));
        let number = number(at);
        for thread in &self.threads {
            let (served, sockets) = (served.clone(), sockets.clone());
            thread.mailbox.put(Command::Serve { number, served, sockets });
        }
        Ok(address)
    }

    /// Stops listening: when this returns the port is free, unless the sockets were handed over.
    /// Connections go on until they end, or for so long. UDP clients are forgotten at once.
    pub fn remove(&self, key: &str, limit: Option<Duration>) -> Result<(), Error> {
        let mut all = self.all();
        let at = all.numbers.remove(key).ok_or_else(|| Error::NoListener { key: key.to_owned() })?;
        let until = limit.map(|limit| Instant::now() + limit);
        let (done, all_done) = channel();
        for thread in &self.threads {
            thread.mailbox.put(Command::Remove { number: number(at), until, done: done.clone() });
        }
        drop(done);
        // Nothing is sent: it ends when all threads have dropped their sockets.
        let _ = all_done.recv();
        if let Some((served, _)) = all.listening[at].take() {
            let all = &mut *all;
            if all.removed.len() == all.removed.capacity() {
                // Before it grows: nobody may ever ask for counters.
                all.removed.retain(|served| sum(&served.counters).open > 0);
            }
            all.removed.push(served);
        }
        all.free.push(at);
        Ok(())
    }

    /// An endpoint of a listener is gone; its picker no longer gives it. Connections to it go on
    /// until they end, or for so long. UDP clients get another endpoint with their next datagram.
    pub fn leave(&self, key: &str, endpoint: SocketAddr, limit: Option<Duration>) {
        let all = self.all();
        let Some(at) = all.numbers.get(key).copied() else { return };
        let until = limit.map(|limit| Instant::now() + limit);
        for thread in &self.threads {
            thread.mailbox.put(Command::Leave { number: number(at), endpoint, until });
        }
    }

    /// From now on, the endpoints of new clients of a listener are reached so. Clients that are
    /// there go on as before.
    pub fn set_upstream(&self, key: &str, upstream: Upstream) {
        let all = self.all();
        let Some(at) = all.numbers.get(key).copied() else { return };
        if let Some((served, _)) = &all.listening[at] {
            served.set_upstream(upstream);
        }
    }

    /// The sockets of all listeners with their keys, to be handed over. They stay open here too.
    pub fn sockets(&self) -> Vec<(String, Arc<Sockets>)> {
        let all = self.all();
        let listening = all.listening.iter().flatten();
        listening.map(|(served, sockets)| (served.key.clone(), sockets.clone())).collect()
    }

    /// The counters of each listener. Those of a removed one are here as long as it has
    /// connections.
    pub fn counts(&self) -> Vec<ListenerCounts> {
        let mut all = self.all();
        all.removed.retain(|served| sum(&served.counters).open > 0);
        let listening = all.listening.iter().flatten().map(|(served, _)| (served, false));
        let counts = |(served, removed): (&Arc<Served>, bool)| ListenerCounts {
            key: served.key.clone(),
            protocol: served.protocol,
            address: served.address,
            removed,
            counts: sum(&served.counters),
        };
        listening.chain(all.removed.iter().map(|served| (served, true))).map(counts).collect()
    }

    /// What clients may take together, with the descriptors that there are.
    pub fn limits(&self) -> Limits {
        self.shared.limits
    }

    /// How often threads have woken up: a relay that has nothing to do does not.
    pub fn wakeups(&self) -> u64 {
        self.shared.wakeups.iter().map(Count::read).sum()
    }

    /// Takes no more clients, and waits until all are gone, at most so long. Then what is left is
    /// reset. Returns how many connections and UDP clients that were.
    pub fn finish(self, patience: Duration) -> u64 {
        for thread in &self.threads {
            thread.mailbox.put(Command::Finish);
        }
        self.all().listening.iter_mut().flatten().for_each(|(_, sockets)| {
            // So that threads which let go of listening sockets close them.
            *sockets = Arc::new(Sockets::Udp(Vec::new()));
        });
        let end = Instant::now() + patience;
        for thread in &self.threads {
            // Nothing is ever sent: the other end goes with the thread.
            let _ = thread.ended.recv_timeout(end.saturating_duration_since(Instant::now()));
        }
        self.counts().iter().map(|listener| listener.counts.open).sum()
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        for thread in &self.threads {
            thread.mailbox.wake();
        }
        for thread in &mut self.threads {
            // A panic of it was reported by the panic hook.
            let _ = thread.handle.take().map(JoinHandle::join);
        }
    }
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

//! The thread that announces addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use portolan_netlink::rtnetlink::Changes;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::error::Error;
use crate::ethernet::Kind;
use crate::event::Event;
use crate::groups::Groups;
use crate::heartbeat::{GROUP, Key};
use crate::interfaces::{self, Selected};
use crate::link::Allowed;
use crate::packet_socket::{Buffer, PacketSocket};
use crate::peers::DEAD_AFTER;
use crate::speaker::{Own, Speaker};
use crate::status::{AddressStatus, Counters};

/// What there are sockets for. Who is alone needs no heartbeats.
const ALL: [Kind; 3] = [Kind::Arp, Kind::Ipv6, Kind::Heartbeat];
/// So many frames are taken from a socket before the others have their turn.
const AT_ONCE: usize = 64;
/// Interfaces are listed at most this often, however much they change.
const LISTED_EVERY: Duration = Duration::from_millis(100);
/// What failed is tried again after this time.
const TRIED_EVERY: Duration = Duration::from_secs(1);
/// The thread answers within this time or is stuck.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// How addresses are announced.
pub struct Settings {
    /// The name of this node
    pub node: Arc<str>,
    /// What the nodes of the cluster have in common. Without one, this node is the only one.
    pub key: Option<Key>,
    /// Where addresses are announced
    pub interfaces: Selected,
    /// Whether what this node knows of the cluster is up to date
    pub up_to_date: Box<dyn Fn() -> bool + Send>,
}

/// Announces addresses until it is ended or dropped. Others are asked to take over then.
#[derive(Debug)]
pub struct Announcer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Message {
    Addresses(Vec<(IpAddr, Option<Allowed>)>),
    Own(Own),
    Status(mpsc::Sender<Vec<AddressStatus>>),
    Counters(mpsc::Sender<Counters>),
    Leave,
}

#[derive(Debug)]
struct Shared {
    messages: Mutex<Vec<Message>>,
    /// Readable when there are messages.
    wake: OwnedFd,
}

impl Shared {
    fn messages(&self) -> MutexGuard<'_, Vec<Message>> {
        // Nothing panics while it is held.
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, message: Message) {
        self.messages().push(message);
        // It fails only if it is readable already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl Announcer {
    /// Starts to announce on the interfaces of the calling thread's network namespace. `observe` is
    /// called with what happens, in a thread of its own.
    pub fn start(settings: Settings, observe: impl Fn(&Event) + Send + 'static) -> Result<Announcer, Error> {
        PacketSocket::check().map_err(Error::RawSocket)?;
        let changes = interfaces::changes().map_err(Error::Interfaces)?;
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .map_err(|errno| Error::Thread(errno.into()))?;
        let shared = Arc::new(Shared { messages: Mutex::default(), wake });
        let now = Instant::now();
        let Settings { node, key, interfaces, up_to_date } = settings;
        let mut turns = Turns {
            shared: shared.clone(),
            speaker: Speaker::new(node, key.clone(), Own::default(), incarnation(), now),
            kinds: if key.is_some() { &ALL } else { &ALL[..2] },
            interfaces,
            changes,
            list_at: Some(now),
            listed: None,
            sockets: BTreeMap::new(),
            closed: BTreeSet::new(),
            turned: now,
            groups: Groups::default(),
            held: BTreeSet::new(),
            buffer: Buffer::new(),
            observe: Box::new(observe),
            up_to_date,
        };
        let thread = thread::Builder::new()
            .name("announcer".to_owned())
            .spawn(move || turns.run())
            .map_err(Error::Thread)?;
        Ok(Announcer { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Takes the addresses that have changed: who may have them, or `None` for those that are gone.
    pub fn set_addresses(&self, changes: Vec<(IpAddr, Option<Allowed>)>) {
        self.shared.send(Message::Addresses(changes));
    }

    /// Takes what this node is from now on.
    pub fn set_own(&self, own: Own) {
        self.shared.send(Message::Own(own));
    }

    /// Asks others to take over, and answers nobody any more.
    pub fn end(&self) {
        self.shared.send(Message::Leave);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It fails if the thread has panicked, which was reported.
            let _ = thread.join();
        }
    }

    /// Who has each address. `None` if the thread is stuck, or has ended.
    pub fn status(&self) -> Option<Vec<AddressStatus>> {
        self.ask(Message::Status)
    }

    /// What has happened so far. `None` if the thread is stuck, or has ended.
    pub fn counters(&self) -> Option<Counters> {
        self.ask(Message::Counters)
    }

    fn ask<A>(&self, question: fn(mpsc::Sender<A>) -> Message) -> Option<A> {
        let (answer, answered) = mpsc::channel();
        self.shared.send(question(answer));
        answered.recv_timeout(ANSWERS_WITHIN).ok()
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Rises with each start: microseconds since the epoch.
fn incarnation() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// What the thread has.
struct Turns {
    shared: Arc<Shared>,
    speaker: Speaker,
    kinds: &'static [Kind],
    interfaces: Selected,
    changes: Changes,
    /// When interfaces are to be listed, and when they last were.
    list_at: Option<Instant>,
    listed: Option<Instant>,
    sockets: BTreeMap<(u32, Kind), PacketSocket>,
    /// Interfaces that lack a socket, which was reported.
    closed: BTreeSet<u32>,
    /// When frames were last taken.
    turned: Instant,
    groups: Groups,
    /// The addresses that are held, for their groups.
    held: BTreeSet<(u32, IpAddr)>,
    buffer: Box<Buffer>,
    observe: Box<dyn Fn(&Event) + Send>,
    up_to_date: Box<dyn Fn() -> bool + Send>,
}

/// Whether the thread goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Continue,
    End,
}

impl Turns {
    fn run(&mut self) {
        loop {
            let next = self.take_messages();
            self.list(Instant::now());
            self.receive();
            let now = Instant::now();
            if self.speaker.beats_at(now) {
                self.speaker.set_up_to_date((self.up_to_date)(), now);
            }
            self.speaker.tick(now);
            self.keep_sockets();
            self.send();
            self.report();
            if next == Next::End {
                return;
            }
            self.wait();
        }
    }

    fn take_messages(&mut self) -> Next {
        let mut counted = [0; 8];
        // It fails if there is nothing to read.
        let _ = rustix::io::read(&self.shared.wake, &mut counted);
        let messages = std::mem::take(&mut *self.shared.messages());
        let now = Instant::now();
        for message in messages {
            match message {
                Message::Addresses(changes) => self.speaker.set_addresses(changes, now),
                Message::Own(own) => self.speaker.set_own(own, now),
                Message::Status(answer) => {
                    // Who asked may have gone.
                    let _ = answer.send(self.speaker.status(now));
                }
                Message::Counters(answer) => drop(answer.send(self.speaker.counted())),
                Message::Leave => {
                    self.speaker.leave(now);
                    return Next::End;
                }
            }
        }
        Next::Continue
    }

    /// Lists interfaces, if that is due.
    fn list(&mut self, now: Instant) {
        if self.list_at.is_none_or(|due| now < due) {
            return;
        }
        self.listed = Some(now);
        self.list_at = match interfaces::list(&self.interfaces) {
            Ok(interfaces) => {
                self.speaker.set_interfaces(interfaces, now);
                None
            }
            // A dump that raced with changes.
            Err(_) => Some(now + LISTED_EVERY),
        };
    }

    /// Takes what has been received. After a pause that is all of it, before anybody is taken for
    /// dead.
    fn receive(&mut self) {
        let paused = self.turned.elapsed() > DEAD_AFTER / 2;
        self.turned = Instant::now();
        let at_once = if paused { usize::MAX } else { AT_ONCE };
        for ((interface, kind), socket) in &self.sockets {
            let most = if *kind == Kind::Heartbeat { at_once } else { AT_ONCE };
            for _ in 0..most {
                let Ok(frame) = socket.receive(&mut self.buffer) else { break };
                self.speaker.receive(*interface, frame, Instant::now());
                if self.turned.elapsed() > DEAD_AFTER {
                    break;
                }
            }
        }
    }

    /// Opens sockets where addresses are, and closes those that nobody needs. A link is used when
    /// it has all of them.
    fn keep_sockets(&mut self) {
        let in_use: Vec<(u32, String)> =
            self.speaker.in_use().map(|interface| (interface.index, interface.name.clone())).collect();
        self.sockets.retain(|(index, _), _| in_use.iter().any(|(used, _)| used == index));
        self.closed.retain(|index| in_use.iter().any(|(used, _)| used == index));
        for (index, name) in in_use {
            let mut failed = None;
            for kind in self.kinds {
                if self.sockets.contains_key(&(index, *kind)) {
                    continue;
                }
                match open(*kind, index) {
                    Ok(socket) => drop(self.sockets.insert((index, *kind), socket)),
                    Err(error) => failed = Some(error),
                }
            }
            let now = Instant::now();
            self.speaker.set_open(index, failed.is_none(), now);
            match failed {
                None => drop(self.closed.remove(&index)),
                // The interface has just gone, or something is short: to be seen again.
                Some(error) => {
                    self.list_at = Some(now + TRIED_EVERY);
                    if self.closed.insert(index) {
                        (self.observe)(&Event::Closed { interface: name, reason: error.to_string() });
                    }
                }
            }
        }
    }

    fn send(&mut self) {
        for (interface, frame) in self.speaker.take_frames() {
            if let Some(socket) = self.sockets.get(&(interface, frame.kind))
                && socket.send(&frame).is_err()
            {
                self.speaker.counters.unsent += 1;
            }
        }
    }

    fn report(&mut self) {
        let events = self.speaker.take_events();
        if events.iter().any(|event| matches!(event, Event::Taken { .. } | Event::GivenUp { .. })) {
            self.keep_groups();
        }
        for event in &events {
            (self.observe)(event);
        }
    }

    /// Joins the groups of the addresses that are held, and leaves others.
    fn keep_groups(&mut self) {
        let held: BTreeSet<(u32, IpAddr)> =
            self.speaker.held().filter(|(_, address)| address.is_ipv6()).collect();
        for (interface, address) in self.held.difference(&held) {
            self.groups.leave(*interface, *address);
        }
        let kept: BTreeSet<(u32, IpAddr)> = self.held.intersection(&held).copied().collect();
        let new: Vec<(u32, IpAddr)> = held.difference(&self.held).copied().collect();
        self.held = kept;
        for (interface, address) in new {
            match self.groups.join(interface, address) {
                Ok(()) => drop(self.held.insert((interface, address))),
                // Without the group, hosts learn the address by announcements alone.
                Err(_) => self.speaker.counters.unsent += 1,
            }
        }
    }

    fn wait(&mut self) {
        let now = Instant::now();
        let due = self.speaker.next(now).into_iter().chain(self.list_at).min();
        let timeout = due.map(|due| due.saturating_duration_since(now));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut waiting = vec![
            PollFd::from_borrowed_fd(self.shared.wake.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.changes.as_fd(), PollFlags::IN),
        ];
        waiting.extend(self.sockets.values().map(|socket| PollFd::new(socket, PollFlags::IN)));
        // Interrupted, at worst: then it looks around once more.
        let _ = poll(&mut waiting, timeout.as_ref());
        if !waiting[1].revents().is_empty() {
            drop(waiting);
            // That something changed is all there is to know.
            self.changes.drain();
            let earliest = self.listed.map_or(now, |listed| listed + LISTED_EVERY);
            self.list_at = Some(self.list_at.map_or(earliest, |due| due.min(earliest)));
        }
    }
}

fn open(kind: Kind, interface: u32) -> io::Result<PacketSocket> {
    let socket = PacketSocket::open(kind, interface)?;
    if kind == Kind::Heartbeat {
        socket.join(interface, GROUP)?;
    }
    Ok(socket)
}

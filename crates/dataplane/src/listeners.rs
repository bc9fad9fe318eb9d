//! Sockets that are listened on for Service ports: a [`Relay`] that is kept in step with what a
//! mode wants.
//!
//! A mode says with a [`Wish`] where a Service port is to be listened on, and which endpoints its
//! clients may get. [`Listeners::sync`] takes all wishes, [`Listeners::change`] those of Services
//! that have changed, so that a change costs what it changes. What happens then:
//!
//! - Without endpoints there is no socket, and the kernel refuses clients at once: connections with
//!   a reset, datagrams with an ICMP error.
//! - A listener of somebody else wins. It is reported once, and [`Listeners::retry`] tries again.
//! - New clients get the endpoints of the last wish. Connections to an endpoint that leaves, and
//!   those of a socket that goes, go on until they end, at most for [`DRAIN`].
//!
//! Sockets of the process before ([`Listeners::take_over`]) are used in place of new ones, so that
//! clients that have come meanwhile are served.
//!
//! The relay starts with the first socket. Its threads are in the network namespace, and have the
//! capabilities, of the thread that makes the wish.

mod counters;
mod handed_over;
mod retries;
mod taken;
mod wish;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_relay::{Error, Listener, Order, Relay, Settings, Sockets, Table};
use portolan_service::Backend;
use tracing::{info, warn};

use self::counters::Shared;
pub use self::counters::{ListenerCounters, SocketCounts};
pub use self::handed_over::HandedOver;
use self::retries::Retries;
pub(crate) use self::taken::taken;
pub use self::wish::{SocketName, Way, Wish};
use crate::slots::slots_in_turn;

/// So long do connections go on after their endpoint or their listener is gone, if neither side
/// ends them. Those of a peer that no longer answers end by themselves after two or three minutes.
pub const DRAIN: Duration = Duration::from_hours(1);
/// This many failures of one call are reported each by itself.
const REPORTED: usize = 20;

/// Sockets for Service ports.
pub struct Listeners {
    settings: Settings,
    shared: Arc<Shared>,
    held: HashMap<SocketName, Held>,
    /// Those that could not be opened, with the reason, for people.
    waiting: BTreeMap<SocketName, String>,
    retries: Retries,
    /// Sockets of the process before that nobody has wished for yet.
    handed_over: HandedOver,
}

/// A wish, and what has become of it.
struct Held {
    wish: Wish,
    open: Option<Open>,
}

/// A socket that is listened on.
struct Open {
    table: Arc<Table>,
    address: SocketAddr,
}

impl Listeners {
    /// No sockets. The relay, once it is needed, has these `settings`.
    pub fn new(settings: Settings) -> Listeners {
        Listeners {
            settings,
            shared: Arc::default(),
            held: HashMap::new(),
            waiting: BTreeMap::new(),
            retries: Retries::default(),
            handed_over: HandedOver::default(),
        }
    }

    /// Uses these in place of new sockets. Those that the next [`Listeners::sync`] does not want
    /// are closed.
    pub fn take_over(&mut self, sockets: HandedOver) {
        self.handed_over = sockets;
    }

    /// The sockets that are listened on, for the next process. They stay open here too.
    pub fn to_hand_over(&self) -> HandedOver {
        self.shared.handed_over()
    }

    /// From now on exactly these are wanted.
    pub fn sync(&mut self, wishes: Vec<Wish>) {
        let wanted: HashSet<&SocketName> = wishes.iter().map(|wish| &wish.socket).collect();
        let gone: Vec<SocketName> =
            self.held.keys().filter(|socket| !wanted.contains(socket)).cloned().collect();
        self.step(gone, wishes);
        self.handed_over = HandedOver::default();
    }

    /// Services have changed: `before` was wanted of them, `after` is. All others stay as they are.
    pub fn change(&mut self, before: Vec<Wish>, after: Vec<Wish>) {
        let wanted: HashSet<&SocketName> = after.iter().map(|wish| &wish.socket).collect();
        let gone: Vec<SocketName> =
            before.into_iter().map(|wish| wish.socket).filter(|socket| !wanted.contains(socket)).collect();
        self.step(gone, after);
    }

    /// Tries to open what could not be opened, if it is time again. Costs nothing otherwise.
    pub fn retry(&mut self) {
        if !self.waiting.is_empty() {
            self.retry_at(Instant::now());
        }
    }

    fn retry_at(&mut self, now: Instant) {
        if !self.retries.are_due(now) {
            return;
        }
        let sockets: Vec<SocketName> = self.waiting.keys().cloned().collect();
        let before = sockets.len();
        self.open(sockets);
        self.retries.tried(self.waiting.len() < before, now);
    }

    /// Where `socket` is listened on, with the port that the kernel chose if it was asked for any.
    /// `None` if it is not: nobody wants it, it has no endpoints, or it could not be opened.
    pub fn address(&self, socket: &SocketName) -> Option<SocketAddr> {
        Some(self.held.get(socket)?.open.as_ref()?.address)
    }

    /// Those that are listened on, or were in the process before.
    pub(crate) fn open_sockets(&self) -> impl Iterator<Item = SocketName> {
        let open = self.held.iter().filter(|(_, held)| held.open.is_some());
        open.map(|(socket, _)| socket.clone()).chain(self.handed_over.names())
    }

    /// What [`Listeners::waiting`] has, a sentence each.
    pub(crate) fn unserved(&self) -> Vec<String> {
        self.waiting.iter().map(|(socket, reason)| format!("{socket} is not listened on: {reason}")).collect()
    }

    /// The sockets that could not be opened, with the reason, for people.
    pub fn waiting(&self) -> impl ExactSizeIterator<Item = (&SocketName, &str)> {
        self.waiting.iter().map(|(socket, reason)| (socket, reason.as_str()))
    }

    /// What happens at the sockets, for whoever asks in another thread, for as long as these
    /// listeners are there.
    pub fn counters(&self) -> ListenerCounters {
        ListenerCounters(self.shared.clone())
    }

    /// Listens no more, and waits until all clients are gone, at most so long. What is left then is
    /// reset. Returns how many connections and UDP clients that were.
    pub fn finish(&mut self, patience: Duration) -> u64 {
        self.held.clear();
        self.waiting.clear();
        self.handed_over = HandedOver::default();
        self.shared.take_relay().map_or(0, |relay| relay.finish(patience))
    }

    /// Those in `gone` are wanted no more, `wishes` are. Whatever is closed is closed before
    /// anything is opened: a port may have passed from one Service to another.
    fn step(&mut self, gone: Vec<SocketName>, wishes: Vec<Wish>) {
        for socket in gone {
            if let Some(held) = self.held.remove(&socket) {
                self.close(&socket, held.open.is_some());
            }
        }
        let to_open: Vec<SocketName> = wishes.into_iter().filter_map(|wish| self.take(wish)).collect();
        let known = self.waiting.len();
        self.open(to_open);
        if self.waiting.len() > known {
            self.retries.begin(Instant::now());
        }
    }

    /// Takes a wish, and closes its socket if it has to be. Returns its name if it is to be opened.
    fn take(&mut self, wish: Wish) -> Option<SocketName> {
        let socket = wish.socket.clone();
        let held = match self.held.entry(socket.clone()) {
            Entry::Vacant(new) => {
                let held = new.insert(Held { wish, open: None });
                return (!held.wish.endpoints.is_empty()).then_some(socket);
            }
            Entry::Occupied(known) => known.into_mut(),
        };
        let before = std::mem::replace(&mut held.wish, wish);
        let wanted = !held.wish.endpoints.is_empty();
        match &held.open {
            Some(open) if wanted && before.way.is_kept_by(&held.wish.way) => {
                if before.way != held.wish.way {
                    self.shared.set_upstream(&held.wish);
                }
                open.update(&before, &held.wish);
                self.shared.leave(&before, &held.wish);
                None
            }
            None if wanted => (!self.waiting.contains_key(&socket)).then_some(socket),
            open => {
                let was_open = open.is_some();
                held.open = None;
                self.close(&socket, was_open);
                wanted.then_some(socket)
            }
        }
    }

    fn close(&mut self, socket: &SocketName, open: bool) {
        self.waiting.remove(socket);
        if open {
            self.shared.remove(socket);
        }
    }

    /// Opens sockets that are wanted, and reports what has changed of what cannot be opened.
    fn open(&mut self, sockets: Vec<SocketName>) {
        let mut new = 0;
        for socket in sockets {
            let Some(held) = self.held.get_mut(&socket) else { continue };
            let handed_over = self.handed_over.take(&socket);
            match open(&self.shared, &self.settings, &held.wish, handed_over) {
                Ok(open) => {
                    held.open = Some(open);
                    if self.waiting.remove(&socket).is_some() {
                        info!("solved: {socket} is listened on");
                    }
                }
                Err(error) => {
                    self.shared.failed(&socket);
                    let reason = wish::reason(&error);
                    if self.waiting.get(&socket) != Some(&reason) {
                        new += 1;
                        if new <= REPORTED {
                            warn!("{socket} is not listened on: {reason}");
                        }
                        self.waiting.insert(socket, reason);
                    }
                }
            }
        }
        if new > REPORTED {
            warn!("{} more sockets of Service ports are not listened on", new - REPORTED);
        }
    }
}

impl Default for Listeners {
    fn default() -> Listeners {
        Listeners::new(Settings::default())
    }
}

impl Drop for Listeners {
    /// Who reads counters does not keep the relay.
    fn drop(&mut self) {
        drop(self.shared.take_relay());
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (held, waiting) = (self.held.len(), &self.waiting);
        f.debug_struct("Listeners").field("held", &held).field("waiting", waiting).finish_non_exhaustive()
    }
}

impl Open {
    fn update(&self, before: &Wish, now: &Wish) {
        if before.affinity != now.affinity {
            self.table.set_affinity(now.affinity);
        }
        if before.endpoints != now.endpoints {
            self.table.set(addresses(&now.endpoints));
        }
    }
}

fn open(
    shared: &Shared,
    settings: &Settings,
    wish: &Wish,
    sockets: Option<Arc<Sockets>>,
) -> Result<Open, Error> {
    let Wish { socket, endpoints, affinity, way, .. } = wish;
    let table = Arc::new(Table::new(Order::RoundRobin, *affinity));
    table.set(addresses(endpoints));
    let mut listener = Listener::new(socket.key(), socket.protocol, socket.address, table.clone());
    listener.sockets = sockets;
    listener.transparent = way.transparent;
    listener.destination = way.destination;
    listener.upstream = way.upstream;
    listener.idle = way.idle;
    let address = shared.with_relay(|| Relay::start(settings.clone()), |relay| relay.add(listener))?;
    Ok(Open { table, address })
}

/// In turn by weight: one that has several slots has as many turns.
fn addresses(endpoints: &[Backend]) -> Vec<SocketAddr> {
    slots_in_turn(endpoints)
        .into_iter()
        .map(|backend| SocketAddr::new(backend.address, backend.port))
        .collect()
}

#[cfg(test)]
mod tests;

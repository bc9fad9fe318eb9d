//! One interface that addresses are announced on: who is heard there, which of them has which
//! address, and what is to be sent because of that.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use portolan_netlink::rtnetlink::HardwareAddress;

use crate::choice::{self, Rank};
use crate::ethernet::Frame;
use crate::event::Event;
use crate::pace::Pace;
use crate::peers::{DEAD_AFTER, INTERVAL, Peers, View};
use crate::{arp, neighbour};

/// After an address was taken, it is announced at these times. Linux ignores what contradicts
/// something that it has learnt less than a second ago (`locktime`), so that once is not enough.
const ANNOUNCED_AFTER: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(300),
    Duration::from_millis(1_100),
    Duration::from_millis(2_300),
    Duration::from_secs(5),
];

/// An interface of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    /// Its number
    pub(crate) index: u32,
    /// Its name
    pub(crate) name: String,
    /// Where it can be reached
    pub(crate) hardware: HardwareAddress,
    /// The networks of its addresses
    pub(crate) networks: Vec<IpNet>,
}

/// The nodes that may have an address: all, or some.
pub type Allowed = Option<Arc<BTreeSet<Arc<str>>>>;

#[derive(Debug)]
struct Address {
    allowed: Allowed,
    /// Who has it, if anybody can.
    chosen: Option<(Rank, Arc<str>)>,
    /// Of one that this node has: how often it was announced since then, and when it is next.
    announced: usize,
    due: Option<Instant>,
}

/// The state of an interface.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) interface: Interface,
    /// All that are heard on it can be heard, and all that is asked can be answered.
    open: bool,
    /// Nobody is judged before all others had time to be heard.
    listens_until: Instant,
    alone: bool,
    pub(crate) peers: Peers,
    candidates: BTreeSet<Arc<str>>,
    addresses: HashMap<IpAddr, Address>,
    /// What is to be announced, by time.
    due: BTreeSet<(Instant, IpAddr)>,
    pace: Pace,
}

impl Link {
    pub(crate) fn new(interface: Interface, now: Instant, alone: bool) -> Link {
        Link {
            interface,
            open: false,
            listens_until: now,
            alone,
            peers: Peers::default(),
            candidates: BTreeSet::new(),
            addresses: HashMap::new(),
            due: BTreeSet::new(),
            pace: Pace::new(now),
        }
    }

    /// Takes whether all of its sockets are there. From then on others are listened for.
    pub(crate) fn set_open(&mut self, open: bool, now: Instant) {
        if open && !self.open {
            self.listens_until = if self.alone { now } else { now + DEAD_AFTER + INTERVAL };
        }
        self.open = open;
    }

    /// Whether it is too early to know who is there.
    pub(crate) fn listens(&self, now: Instant) -> bool {
        !self.open || now < self.listens_until
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Takes an address, or who may have it.
    pub(crate) fn set(&mut self, address: IpAddr, allowed: Allowed, me: &str, now: Instant) -> Option<Event> {
        match self.addresses.get_mut(&address) {
            Some(known) if known.allowed == allowed => return None,
            Some(known) => known.allowed = allowed,
            None => {
                let new = Address { allowed, chosen: None, announced: 0, due: None };
                self.addresses.insert(address, new);
            }
        }
        self.choose(address, me, now)
    }

    /// Forgets an address.
    pub(crate) fn remove(&mut self, address: IpAddr, me: &str) -> Option<Event> {
        let known = self.addresses.remove(&address)?;
        if let Some(due) = known.due {
            self.due.remove(&(due, address));
        }
        let held = known.chosen.is_some_and(|(_, node)| *node == *me);
        held.then(|| self.given_up(address, None))
    }

    /// Chooses anew what depends on who is there. `own`: this node can take addresses.
    pub(crate) fn judge(&mut self, own: Option<(&Arc<str>, View)>, me: &str, now: Instant) -> Vec<Event> {
        let candidates = if self.listens(now) { BTreeSet::new() } else { self.peers.candidates(own) };
        if candidates == self.candidates {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.candidates, candidates);
        let come: Vec<Arc<str>> = self.candidates.difference(&before).cloned().collect();
        let moved = |address: &Address, ip: &IpAddr| match &address.chosen {
            None => true,
            Some((rank, node)) => {
                !self.candidates.contains(node) || come.iter().any(|node| Rank::of(*ip, node) >= *rank)
            }
        };
        let moved: Vec<IpAddr> =
            self.addresses.iter().filter(|(ip, address)| moved(address, ip)).map(|(ip, _)| *ip).collect();
        moved.into_iter().filter_map(|address| self.choose(address, me, now)).collect()
    }

    /// Chooses who has an address. Returns what that means for this node, if anything.
    fn choose(&mut self, ip: IpAddr, me: &str, now: Instant) -> Option<Event> {
        let address = self.addresses.get_mut(&ip)?;
        let allowed =
            |node: &&Arc<str>| address.allowed.as_ref().is_none_or(|allowed| allowed.contains(*node));
        let chosen = choice::first(ip, self.candidates.iter().filter(allowed))
            .map(|(rank, node)| (rank, node.clone()));
        let is_me =
            |chosen: &Option<(Rank, Arc<str>)>| chosen.as_ref().is_some_and(|(_, node)| **node == *me);
        let (before, after) = (is_me(&address.chosen), is_me(&chosen));
        address.chosen = chosen;
        match (before, after) {
            (false, true) => {
                address.announced = 0;
                self.announce_at(ip, now);
                Some(Event::Taken { address: ip, interface: self.interface.name.clone() })
            }
            (true, false) => {
                let to = address.chosen.as_ref().map(|(_, node)| node.clone());
                if let Some(due) = address.due.take() {
                    self.due.remove(&(due, ip));
                }
                Some(self.given_up(ip, to))
            }
            _ => None,
        }
    }

    fn given_up(&self, address: IpAddr, to: Option<Arc<str>>) -> Event {
        Event::GivenUp { address, interface: self.interface.name.clone(), to }
    }

    /// Whether this node has an address here.
    pub(crate) fn has(&self, address: IpAddr, me: &str) -> bool {
        let address = self.addresses.get(&address);
        address.and_then(|address| address.chosen.as_ref()).is_some_and(|(_, node)| **node == *me)
    }

    /// All addresses that this node has here.
    pub(crate) fn held(&self, me: &str) -> impl Iterator<Item = IpAddr> {
        self.addresses.keys().filter(move |address| self.has(**address, me)).copied()
    }

    /// Who has an address, out of how many that could. `None` if it is not one of this link.
    pub(crate) fn holder(&self, address: IpAddr) -> Option<(Option<&Arc<str>>, usize)> {
        let address = self.addresses.get(&address)?;
        let could = match &address.allowed {
            None => self.candidates.len(),
            Some(allowed) => self.candidates.intersection(allowed).count(),
        };
        Some((address.chosen.as_ref().map(|(_, node)| node), could))
    }

    /// Announces an address, at `at` or earlier.
    fn announce_at(&mut self, ip: IpAddr, at: Instant) {
        let Some(address) = self.addresses.get_mut(&ip) else { return };
        match address.due {
            Some(due) if due <= at => return,
            Some(due) => drop(self.due.remove(&(due, ip))),
            None => {}
        }
        address.due = Some(at);
        self.due.insert((at, ip));
    }

    /// Announces all that this node has once more: whoever came may have said something else.
    pub(crate) fn repeat(&mut self, me: &str, at: Instant) {
        let held: Vec<IpAddr> = self.held(me).collect();
        for address in held {
            self.announce_at(address, at);
        }
    }

    /// Announces one that somebody else has announced.
    pub(crate) fn defend(&mut self, address: IpAddr, now: Instant) {
        self.announce_at(address, now);
    }

    /// When something is to be announced.
    pub(crate) fn next_announcement(&self, now: Instant) -> Option<Instant> {
        let (due, _) = self.due.first()?;
        Some((*due).max(self.pace.ready_at(now)))
    }

    /// The announcements that are due.
    pub(crate) fn announce(&mut self, now: Instant, to: &mut Vec<Frame>) {
        while let Some((due, ip)) = self.due.first().copied()
            && due <= now
            && self.pace.take(now)
        {
            self.due.pop_first();
            let hardware = self.interface.hardware;
            match ip {
                IpAddr::V4(address) => to.extend(arp::unsolicited(address, hardware)),
                IpAddr::V6(address) => to.push(neighbour::unsolicited(address, hardware)),
            }
            let Some(address) = self.addresses.get_mut(&ip) else { continue };
            address.due = None;
            address.announced += 1;
            if let Some(after) = ANNOUNCED_AFTER.get(address.announced) {
                let since = ANNOUNCED_AFTER[address.announced - 1];
                self.announce_at(ip, now + after.saturating_sub(since));
            }
        }
    }
}

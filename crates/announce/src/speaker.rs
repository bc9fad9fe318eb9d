//! Who has which address, as a function of what is heard: no sockets, no clock.
//!
//! Each node that can take addresses says so several times a second on each link that has any. Each
//! computes from what it hears who has which address, and answers for its own.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_netlink::rtnetlink::HardwareAddress;

use crate::arp::Arp;
use crate::duplicates::Duplicates;
use crate::ethernet::{Frame, Kind, Received};
use crate::event::Event;
use crate::heartbeat::{Heartbeat, Key};
use crate::link::{Allowed, Interface, Link};
use crate::neighbour::{self, Neighbour};
use crate::peers::{Heard, INTERVAL, View};
use crate::status::{AddressStatus, Counters, Holder};

/// The most others of its name that a node reports.
const MOST_NAMESAKES: usize = 8;
/// Whoever came has announced by then what it believed to have.
const SETTLED_AFTER: Duration = Duration::from_millis(1_500);

/// What this node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Own {
    /// Its own addresses. An address that is in no network of an interface is announced where these
    /// are.
    pub addresses: Vec<IpAddr>,
    /// It can take addresses: it is ready, its rules are in force, nobody has excluded it.
    pub willing: bool,
}

/// The state of a node that announces addresses.
#[derive(Debug)]
pub(crate) struct Speaker {
    node: Arc<str>,
    /// Without one, this node is the only one.
    key: Option<Key>,
    own: Own,
    /// Whether what it knows of the cluster is up to date, and since when.
    up_to_date: (bool, Instant),
    leaving: bool,
    incarnation: u64,
    sequence: u64,
    next_heartbeat: Instant,
    links: BTreeMap<u32, Link>,
    interfaces: BTreeMap<u32, Interface>,
    /// All addresses, and who may have them.
    addresses: HashMap<IpAddr, Allowed>,
    duplicates: Duplicates,
    same_name: HashSet<HardwareAddress>,
    pub(crate) counters: Counters,
    frames: Vec<(u32, Frame)>,
    events: Vec<Event>,
}

impl Speaker {
    /// A node that has no links and no addresses yet. `incarnation` rises with each start.
    pub(crate) fn new(node: Arc<str>, key: Option<Key>, own: Own, incarnation: u64, now: Instant) -> Speaker {
        Speaker {
            node,
            key,
            own,
            up_to_date: (true, now),
            leaving: false,
            incarnation,
            sequence: 0,
            next_heartbeat: now,
            links: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            addresses: HashMap::new(),
            duplicates: Duplicates::default(),
            same_name: HashSet::new(),
            counters: Counters::default(),
            frames: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Takes the interfaces that addresses can be announced on.
    pub(crate) fn set_interfaces(&mut self, interfaces: Vec<Interface>, now: Instant) {
        let interfaces: BTreeMap<u32, Interface> =
            interfaces.into_iter().map(|interface| (interface.index, interface)).collect();
        if interfaces == self.interfaces {
            return;
        }
        self.interfaces = interfaces;
        let mut gone = Vec::new();
        for (index, link) in &mut self.links {
            match self.interfaces.get(index) {
                // Addresses come and go on the same link.
                Some(now) if now.hardware == link.interface.hardware => link.interface = now.clone(),
                _ => gone.push(*index),
            }
        }
        for index in gone {
            self.drop_link(index);
        }
        self.place_all(now);
        self.judge(now);
    }

    fn place_all(&mut self, now: Instant) {
        let all: Vec<(IpAddr, Allowed)> =
            self.addresses.iter().map(|(address, allowed)| (*address, allowed.clone())).collect();
        for (address, allowed) in all {
            self.place(address, Some(&allowed), now);
        }
        self.drop_empty();
    }

    /// Forgets the links that have no address any more.
    fn drop_empty(&mut self) {
        self.links.retain(|_, link| !link.is_empty());
    }

    /// Takes the addresses that have changed: who may have them, or `None` for those that are gone.
    pub(crate) fn set_addresses(
        &mut self,
        changes: impl IntoIterator<Item = (IpAddr, Option<Allowed>)>,
        now: Instant,
    ) {
        for (address, allowed) in changes {
            self.place(address, allowed.as_ref(), now);
            if let Some(allowed) = allowed {
                self.addresses.insert(address, allowed);
            } else {
                self.addresses.remove(&address);
                self.duplicates.forget(address);
            }
        }
        self.drop_empty();
        self.judge(now);
    }

    /// Takes whether all sockets of an interface are there.
    pub(crate) fn set_open(&mut self, index: u32, open: bool, now: Instant) {
        if let Some(link) = self.links.get_mut(&index) {
            link.set_open(open, now);
            self.judge_link(index, now);
        }
    }

    /// Takes what this node says of itself.
    pub(crate) fn set_own(&mut self, own: Own, now: Instant) {
        if self.own.willing != own.willing {
            self.next_heartbeat = now;
        }
        let addresses = self.own.addresses != own.addresses;
        self.own = own;
        if addresses {
            self.place_all(now);
        }
        self.judge(now);
    }

    /// Takes whether what this node knows of the cluster is up to date.
    pub(crate) fn set_up_to_date(&mut self, is: bool, now: Instant) {
        if self.up_to_date.0 != is {
            self.up_to_date = (is, now);
        }
    }

    fn view(&self, now: Instant) -> View {
        let (up_to_date, since) = self.up_to_date;
        let time = now.saturating_duration_since(since);
        if up_to_date {
            View { stale: Duration::ZERO, fresh: time }
        } else {
            View { stale: time.max(Duration::from_millis(1)), fresh: Duration::ZERO }
        }
    }

    /// Gives up all addresses, and says so.
    pub(crate) fn leave(&mut self, now: Instant) {
        self.leaving = true;
        self.beat(now);
        self.judge(now);
    }

    /// Puts an address on the links that it fits, and takes it from the others.
    fn place(&mut self, address: IpAddr, allowed: Option<&Allowed>, now: Instant) {
        let fitting = if allowed.is_some() { self.fitting(address) } else { Vec::new() };
        let unfit: Vec<u32> = self.links.keys().filter(|index| !fitting.contains(index)).copied().collect();
        for index in unfit {
            let Some(link) = self.links.get_mut(&index) else { continue };
            self.events.extend(link.remove(address, &self.node));
        }
        for index in fitting {
            let Some(interface) = self.interfaces.get(&index) else { continue };
            let alone = self.key.is_none();
            let link = self.links.entry(index).or_insert_with(|| Link::new(interface.clone(), now, alone));
            let allowed = allowed.cloned().flatten();
            self.events.extend(link.set(address, allowed, &self.node, now));
        }
    }

    /// The interfaces with a network that an address is in; if there are none, those that have the
    /// node's own addresses of its family.
    fn fitting(&self, address: IpAddr) -> Vec<u32> {
        let with = |test: &dyn Fn(&ipnet::IpNet) -> bool| -> Vec<u32> {
            let fits = |interface: &&Interface| interface.networks.iter().any(test);
            self.interfaces.values().filter(fits).map(|interface| interface.index).collect()
        };
        let within = with(&|network| network.contains(&address));
        if !within.is_empty() {
            return within;
        }
        let of_family = |own: &&IpAddr| own.is_ipv4() == address.is_ipv4();
        let own: Vec<IpAddr> = self.own.addresses.iter().filter(of_family).copied().collect();
        with(&|network| own.contains(&network.addr()))
    }

    fn drop_link(&mut self, index: u32) {
        let Some(link) = self.links.remove(&index) else { return };
        let interface = &link.interface.name;
        let given_up = |address| Event::GivenUp { address, interface: interface.clone(), to: None };
        self.events.extend(link.held(&self.node).map(given_up));
    }

    /// Takes a frame that was received on an interface.
    pub(crate) fn receive(&mut self, index: u32, frame: &[u8], now: Instant) {
        let Some(link) = self.links.get_mut(&index) else { return };
        let Some(received) = Received::parse(frame) else { return };
        if received.source == link.interface.hardware {
            return;
        }
        match received.kind {
            Kind::Arp => self.receive_arp(index, &received, now),
            Kind::Ipv6 => self.receive_neighbour(index, &received, now),
            Kind::Heartbeat => self.receive_heartbeat(index, &received, now),
        }
    }

    fn receive_arp(&mut self, index: u32, received: &Received<'_>, now: Instant) {
        let Some(arp) = Arp::parse(received.packet) else { return };
        let Some(link) = self.links.get(&index) else { return };
        let hardware = link.interface.hardware;
        if arp.sender.0 != hardware && link.has(arp.sender.1.into(), &self.node) {
            self.contradicted(index, arp.sender.1.into(), arp.sender.0, now);
        } else if arp.request && link.has(arp.target.1.into(), &self.node) {
            self.counters.answers += 1;
            self.frames.push((index, arp.answer(arp.target.1, hardware)));
        }
    }

    fn receive_neighbour(&mut self, index: u32, received: &Received<'_>, now: Instant) {
        let Some(link) = self.links.get(&index) else { return };
        let hardware = link.interface.hardware;
        match Neighbour::parse(received.packet) {
            Some(Neighbour::Solicitation { source, target, hardware: asker })
                if link.has(target.into(), &self.node) =>
            {
                self.counters.answers += 1;
                let asker = asker.unwrap_or(received.source);
                self.frames.push((index, neighbour::answer(source, asker, target, hardware)));
            }
            Some(Neighbour::Advertisement { target }) if link.has(target.into(), &self.node) => {
                self.contradicted(index, target.into(), received.source, now);
            }
            _ => {}
        }
    }

    /// Somebody else says that it has an address which this node announces.
    fn contradicted(&mut self, index: u32, address: IpAddr, hardware: HardwareAddress, now: Instant) {
        // On a link that this node has two interfaces to.
        if self.interfaces.values().any(|interface| interface.hardware == hardware) {
            return;
        }
        self.counters.contradictions += 1;
        let Some(link) = self.links.get_mut(&index) else { return };
        let to_do = self.duplicates.note(address, hardware, link.peers.have(hardware), now);
        if to_do.defend {
            link.defend(address, now);
        }
        if to_do.report {
            let interface = link.interface.name.clone();
            self.events.push(Event::Duplicate { address, interface, hardware });
        }
    }

    fn receive_heartbeat(&mut self, index: u32, received: &Received<'_>, now: Instant) {
        let (Some(key), Some(link)) = (&self.key, self.links.get_mut(&index)) else { return };
        let Some(heartbeat) = Heartbeat::parse(key, received.source, received.packet) else {
            self.counters.foreign += 1;
            return;
        };
        self.counters.heartbeats += 1;
        if heartbeat.node == self.node {
            // Another interface of this node, on the same link.
            if heartbeat.incarnation == self.incarnation {
                return;
            }
            if self.same_name.len() < MOST_NAMESAKES && self.same_name.insert(received.source) {
                let interface = link.interface.name.clone();
                self.events.push(Event::SameName { hardware: received.source, interface });
            }
            return;
        }
        match link.peers.hear(&heartbeat, received.source, now) {
            Heard::Old | Heard::Known => return,
            Heard::Changed => {}
            Heard::New => {
                link.repeat(&self.node, now + SETTLED_AFTER);
                let interface = link.interface.name.clone();
                self.events.push(Event::Heard { node: heartbeat.node, interface });
            }
        }
        self.judge_link(index, now);
    }

    fn judge(&mut self, now: Instant) {
        let all: Vec<u32> = self.links.keys().copied().collect();
        for index in all {
            self.judge_link(index, now);
        }
    }

    fn judge_link(&mut self, index: u32, now: Instant) {
        let (willing, view) = (self.own.willing && !self.leaving, self.view(now));
        let Some(link) = self.links.get_mut(&index) else { return };
        let own = willing.then_some((&self.node, view));
        self.events.extend(link.judge(own, &self.node, now));
    }

    /// Does what is due at `now`.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.beats_at(now) {
            for link in self.links.values_mut() {
                let interface = link.interface.name.clone();
                let lost = |node| Event::Lost { node, interface: interface.clone() };
                self.events.extend(link.peers.expire(now).into_iter().map(lost));
            }
            self.judge(now);
            self.beat(now);
        }
        let mut frames = Vec::new();
        for (index, link) in &mut self.links {
            if !link.listens(now) {
                link.announce(now, &mut frames);
            }
            self.counters.announcements += frames.len() as u64;
            self.frames.extend(frames.drain(..).map(|frame| (*index, frame)));
        }
    }

    /// Whether it is time for the next heartbeat.
    pub(crate) fn beats_at(&self, now: Instant) -> bool {
        now >= self.next_heartbeat
    }

    /// Says what this node is on each link.
    fn beat(&mut self, now: Instant) {
        self.next_heartbeat = now + INTERVAL;
        let Some(key) = &self.key else { return };
        let View { stale, fresh } = self.view(now);
        for (index, link) in &self.links {
            self.sequence += 1;
            let heartbeat = Heartbeat {
                node: self.node.clone(),
                willing: self.own.willing && !self.leaving && !link.listens(now),
                incarnation: self.incarnation,
                sequence: self.sequence,
                stale,
                fresh,
            };
            self.frames.push((*index, heartbeat.frame(key, link.interface.hardware)));
        }
    }

    /// When [`Speaker::tick`] is due, if nothing is received before.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        if self.links.is_empty() {
            return None;
        }
        let announcements = self.links.values().filter_map(|link| link.next_announcement(now));
        let heartbeat = self.key.is_some().then_some(self.next_heartbeat);
        announcements.chain(heartbeat).min()
    }

    /// What is to be sent, each on the interface of that number.
    pub(crate) fn take_frames(&mut self) -> Vec<(u32, Frame)> {
        std::mem::take(&mut self.frames)
    }

    /// What has happened.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The interfaces in use.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = &Interface> {
        self.links.values().map(|link| &link.interface)
    }

    /// The addresses that this node has, each with the interface's number.
    pub(crate) fn held(&self) -> impl Iterator<Item = (u32, IpAddr)> {
        self.links.iter().flat_map(|(index, link)| link.held(&self.node).map(|address| (*index, address)))
    }

    /// How often things have happened.
    pub(crate) fn counted(&self) -> Counters {
        let heard = self.links.values().map(|link| link.peers.len() as u64).sum();
        Counters { heard, held: self.held().count() as u64, ..self.counters }
    }

    /// Who has each address.
    pub(crate) fn status(&self, now: Instant) -> Vec<AddressStatus> {
        let mut all: Vec<AddressStatus> =
            self.addresses.iter().map(|(address, allowed)| self.status_of(*address, allowed, now)).collect();
        all.sort_unstable_by_key(|status| status.address);
        all
    }

    fn status_of(&self, address: IpAddr, allowed: &Allowed, now: Instant) -> AddressStatus {
        let on = |link: &Link| {
            let (node, could) = link.holder(address)?;
            Some(Holder {
                interface: link.interface.name.clone(),
                node: node.cloned(),
                could,
                listens: link.listens(now),
            })
        };
        AddressStatus {
            address,
            willing: allowed.as_ref().map(|nodes| nodes.iter().cloned().collect()),
            holders: self.links.values().filter_map(on).collect(),
            duplicates: self.duplicates.reported(address, now),
        }
    }
}

#[cfg(test)]
mod tests;

//! Which port each socket has, if a range of them is given (`--proxy-port-range`).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use portolan_relay as relay;
use portolan_service::{Family, ObjectName, Protocol};
use tracing::warn;

use super::wishes::SocketKey;
use crate::listeners::SocketName;

/// A port of one transport in one family.
type Port = (Family, Protocol, u16);

/// The ports of sockets.
#[derive(Debug)]
pub(super) struct Ports {
    /// `None`: the kernel chooses.
    range: Option<RangeInclusive<u16>>,
    assigned: HashMap<SocketKey, u16>,
    taken: HashSet<Port>,
    /// Where to look for a free one.
    next: u16,
    /// Sockets that were asked for since [`Ports::begin`].
    wanted: Option<HashSet<SocketKey>>,
    /// Sockets for which none was left.
    lacking: BTreeSet<SocketKey>,
    /// That none was left has been logged, and none has become free since.
    exhausted: bool,
}

impl Ports {
    pub(super) fn new(range: Option<RangeInclusive<u16>>) -> Ports {
        let next = range.as_ref().map_or(0, |range| *range.start());
        Ports {
            range,
            assigned: HashMap::new(),
            taken: HashSet::new(),
            next,
            wanted: None,
            lacking: BTreeSet::new(),
            exhausted: false,
        }
    }

    /// The port of a socket: that which it has, else one that nobody listens on. `None` if there is
    /// none left.
    pub(super) fn assign(&mut self, key: &SocketKey, address: IpAddr) -> Option<u16> {
        let Some(range) = self.range.clone() else { return Some(0) };
        if let Some(wanted) = &mut self.wanted {
            wanted.insert(key.clone());
        }
        if let Some(number) = self.assigned.get(key) {
            return Some(*number);
        }
        let in_turn = (self.next..=*range.end()).chain(*range.start()..self.next);
        for number in in_turn {
            let port = (key.family, key.protocol, number);
            if !self.taken.contains(&port) && is_free(key.protocol, SocketAddr::new(address, number)) {
                self.next = if number == *range.end() { *range.start() } else { number + 1 };
                self.taken.insert(port);
                self.assigned.insert(key.clone(), number);
                self.lacking.remove(key);
                self.exhausted = false;
                return Some(number);
            }
        }
        if !std::mem::replace(&mut self.exhausted, true) {
            warn!("{}", lack(&range, key));
        }
        self.lacking.insert(key.clone());
        None
    }

    /// What has no port, for people.
    pub(super) fn unserved(&self) -> Vec<String> {
        let lacks = |range| self.lacking.iter().map(|key| lack(range, key)).collect();
        self.range.as_ref().map_or_else(Vec::new, lacks)
    }

    /// The port that a socket has; 0 for one that the kernel chooses.
    pub(super) fn assigned(&self, key: &SocketKey) -> u16 {
        self.assigned.get(key).copied().unwrap_or(0)
    }

    /// From now on all that are wanted are asked for. Those that are `open` keep their ports.
    pub(super) fn begin(&mut self, open: impl Iterator<Item = SocketName>) {
        for socket in open {
            let number = socket.address.port();
            if self.range.as_ref().is_some_and(|range| range.contains(&number)) {
                let key = key(&socket);
                self.taken.insert((key.family, key.protocol, number));
                self.assigned.insert(key, number);
            }
        }
        self.lacking.clear();
        self.wanted = Some(HashSet::new());
    }

    /// A Service changes: what it lacked is asked for again if it is still wanted.
    pub(super) fn changes(&mut self, service: &ObjectName) {
        self.lacking.retain(|key| key.service != *service);
    }

    /// All that are wanted have been asked for: others are free.
    pub(super) fn end(&mut self) {
        let Some(wanted) = self.wanted.take() else { return };
        let gone: Vec<SocketKey> =
            self.assigned.keys().filter(|key| !wanted.contains(key)).cloned().collect();
        for key in gone {
            self.free(&key);
        }
    }

    /// A socket is wanted no more.
    pub(super) fn release(&mut self, socket: &SocketName) {
        self.free(&key(socket));
    }

    fn free(&mut self, key: &SocketKey) {
        if let Some(number) = self.assigned.remove(key) {
            self.taken.remove(&(key.family, key.protocol, number));
        }
    }
}

fn key(socket: &SocketName) -> SocketKey {
    SocketKey {
        service: socket.service.clone(),
        port: socket.port.clone(),
        protocol: match socket.protocol {
            relay::Protocol::Tcp => Protocol::Tcp,
            relay::Protocol::Udp => Protocol::Udp,
        },
        family: Family::of(socket.address.ip()),
        list: socket.list,
    }
}

fn lack(range: &RangeInclusive<u16>, key: &SocketKey) -> String {
    format!(
        "all ports of {}-{} are taken, so {}:{} {}/{} is not served: give a larger --proxy-port-range",
        range.start(),
        range.end(),
        key.service,
        key.port,
        key.protocol,
        key.family
    )
}

/// Nobody listens there. An address that the node does not have is free too.
fn is_free(protocol: Protocol, address: SocketAddr) -> bool {
    match protocol {
        Protocol::Tcp => relay::is_free(relay::Protocol::Tcp, address),
        Protocol::Udp => relay::is_free(relay::Protocol::Udp, address),
        Protocol::Sctp => false,
    }
}

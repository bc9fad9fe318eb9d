//! Endpoints in a table: in turn or by chance, with affinity of clients if wanted.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::picker::{Asked, Picker};

/// So many clients are remembered.
const CLIENTS_MAX: usize = 65_536;

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// One after the other.
    RoundRobin,
    /// By chance, all alike.
    Random,
}

/// Endpoints, of which each client gets one.
#[derive(Debug)]
pub struct Table {
    order: Order,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    affinity: Option<Duration>,
    endpoints: Vec<SocketAddr>,
    next: usize,
    random: u64,
    clients: HashMap<IpAddr, (SocketAddr, Instant)>,
    swept: Instant,
}

impl Table {
    /// A table without endpoints. With `affinity`, an address of clients gets the same endpoint
    /// again until it has not come for so long, or the endpoint leaves or cannot be reached.
    pub fn new(order: Order, affinity: Option<Duration>) -> Table {
        let state = State {
            affinity,
            endpoints: Vec::new(),
            next: 0,
            random: RandomState::new().hash_one(0) | 1,
            clients: HashMap::new(),
            swept: Instant::now(),
        };
        Table { order, state: Mutex::new(state) }
    }

    /// From now on these are the endpoints.
    pub fn set(&self, endpoints: Vec<SocketAddr>) {
        let mut state = self.state();
        if !state.clients.is_empty() {
            let stay: HashSet<&SocketAddr> = endpoints.iter().collect();
            state.clients.retain(|_, (endpoint, _)| stay.contains(endpoint));
        }
        state.endpoints = endpoints;
    }

    /// From now on clients get the same endpoint again for so long, as in [`Table::new`]. Those
    /// that have one keep it, unless there is no affinity any more.
    pub fn set_affinity(&self, affinity: Option<Duration>) {
        let mut state = self.state();
        state.affinity = affinity;
        if affinity.is_none() {
            state.clients = HashMap::new();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pick_at(&self, asked: &Asked<'_>, now: Instant) -> Option<SocketAddr> {
        let mut guard = self.state();
        let state = &mut *guard;
        let client = asked.client.ip();
        if let Some(timeout) = state.affinity
            && let Some((endpoint, last)) = state.clients.get_mut(&client)
            && now.saturating_duration_since(*last) < timeout
            && !asked.failed.contains(endpoint)
        {
            *last = now;
            return Some(*endpoint);
        }
        let endpoint = state.turn(self.order, asked.failed)?;
        if let Some(timeout) = state.affinity {
            state.remember(client, endpoint, now, timeout);
        }
        Some(endpoint)
    }
}

impl Picker for Table {
    /// One that has failed comes again only if there is no other.
    fn pick(&self, asked: &Asked<'_>) -> Option<SocketAddr> {
        self.pick_at(asked, Instant::now())
    }
}

impl State {
    fn turn(&mut self, order: Order, failed: &[SocketAddr]) -> Option<SocketAddr> {
        let count = self.endpoints.len();
        if count == 0 {
            return None;
        }
        let first = match order {
            Order::RoundRobin => self.next % count,
            Order::Random => {
                // xorshift64
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                usize::try_from(self.random % count as u64).unwrap_or(0)
            }
        };
        let in_turn = (first..count).chain(0..first);
        let at = in_turn.into_iter().find(|at| !failed.contains(&self.endpoints[*at])).unwrap_or(first);
        self.next = at + 1;
        Some(self.endpoints[at])
    }

    fn remember(&mut self, client: IpAddr, endpoint: SocketAddr, now: Instant, timeout: Duration) {
        let full = self.clients.len() >= CLIENTS_MAX && !self.clients.contains_key(&client);
        if full && now.saturating_duration_since(self.swept) >= Duration::from_secs(1) {
            self.swept = now;
            self.clients.retain(|_, (_, last)| now.saturating_duration_since(*last) < timeout);
        }
        if self.clients.len() < CLIENTS_MAX || self.clients.contains_key(&client) {
            self.clients.insert(client, (endpoint, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(number: u16) -> SocketAddr {
        SocketAddr::new([10, 0, 0, 1].into(), number)
    }

    fn asked(client: u8, failed: &[SocketAddr]) -> Asked<'_> {
        let client = SocketAddr::new([10, 1, 0, client].into(), 1);
        Asked { client, destination: client, attempt: failed.len(), failed }
    }

    #[test]
    fn in_turn_without_those_that_failed() {
        let table = Table::new(Order::RoundRobin, None);
        assert_eq!(table.pick(&asked(1, &[])), None);
        table.set(vec![endpoint(1), endpoint(2), endpoint(3)]);
        for (failed, expected) in [
            (vec![], 1),
            (vec![], 2),
            (vec![], 3),
            (vec![endpoint(1)], 2),
            (vec![endpoint(3), endpoint(1)], 2),
            (vec![endpoint(3)], 1),
            (vec![endpoint(1), endpoint(2), endpoint(3)], 2),
        ] {
            assert_eq!(table.pick(&asked(1, &failed)), Some(endpoint(expected)), "{failed:?}");
        }
        table.set(vec![endpoint(9)]);
        assert_eq!(table.pick(&asked(1, &[])), Some(endpoint(9)));
    }

    #[test]
    fn by_chance_all_come() {
        let table = Table::new(Order::Random, None);
        table.set((0..10).map(endpoint).collect());
        let mut seen = [0; 10];
        for _ in 0..10_000 {
            seen[usize::from(table.pick(&asked(1, &[])).unwrap().port())] += 1;
        }
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
    }

    #[test]
    fn affinity_lasts_until_timeout_failure_or_departure() {
        let table = Table::new(Order::RoundRobin, Some(Duration::from_secs(10)));
        table.set(vec![endpoint(1), endpoint(2), endpoint(3)]);
        let start = Instant::now();
        let at = |client, seconds, failed: &[SocketAddr]| {
            table.pick_at(&asked(client, failed), start + Duration::from_secs(seconds)).unwrap().port()
        };
        assert_eq!([at(1, 0, &[]), at(2, 0, &[]), at(1, 9, &[]), at(1, 18, &[])], [1, 2, 1, 1]);
        assert_eq!(at(2, 10, &[]), 3, "forgotten after the timeout");
        assert_eq!([at(1, 19, &[endpoint(1)]), at(1, 20, &[])], [2, 2], "a failure changes it");
        table.set(vec![endpoint(1), endpoint(3)]);
        assert_ne!(at(1, 21, &[]), 2);
    }

    #[test]
    fn affinity_that_changes() {
        let table = Table::new(Order::RoundRobin, None);
        table.set(vec![endpoint(1), endpoint(2), endpoint(3)]);
        let start = Instant::now();
        let at =
            |seconds| table.pick_at(&asked(1, &[]), start + Duration::from_secs(seconds)).unwrap().port();
        assert_eq!([at(0), at(1)], [1, 2]);
        table.set_affinity(Some(Duration::from_secs(10)));
        assert_eq!([at(2), at(3), at(12)], [3, 3, 3]);
        table.set_affinity(Some(Duration::from_secs(100)));
        assert_eq!(at(40), 3, "whoever has an endpoint keeps it");
        table.set_affinity(None);
        assert_eq!([at(41), at(42)], [1, 2]);
    }

    #[test]
    fn clients_are_bounded() {
        let table = Table::new(Order::RoundRobin, Some(Duration::from_secs(1)));
        table.set(vec![endpoint(1)]);
        let now = Instant::now();
        for number in 0..CLIENTS_MAX as u128 + 10 {
            let client = SocketAddr::new(std::net::Ipv6Addr::from_bits(number).into(), 1);
            table.pick_at(&Asked { client, ..asked(1, &[]) }, now);
        }
        assert_eq!(table.state.lock().unwrap().clients.len(), CLIENTS_MAX);
        table.pick_at(&asked(1, &[]), now + Duration::from_secs(2));
        assert_eq!(table.state.lock().unwrap().clients.len(), 1);
    }
}

//! All connections: by number, and how many each client has.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use super::connection::Connection;
use crate::settings::TcpLimits;

/// Connections by number. A number is used once only.
#[derive(Default)]
pub(super) struct Connections {
    slots: Vec<Slot>,
    free: Vec<u32>,
    clients: HashMap<IpAddr, usize>,
    open: usize,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

impl Connections {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.open
    }

    /// How many a client has.
    pub(super) fn of_client(&self, client: IpAddr) -> usize {
        self.clients.get(&client).copied().unwrap_or(0)
    }

    /// Adds one, and returns its number. `None` if no number is left.
    pub(super) fn add(&mut self, connection: Connection) -> Option<u64> {
        if self.free.is_empty() {
            self.free.push(u32::try_from(self.slots.len()).ok()?);
            self.slots.push(Slot::default());
        }
        let at = self.free.pop()?;
        *self.clients.entry(connection.client.ip()).or_default() += 1;
        self.open += 1;
        let slot = &mut self.slots[at as usize];
        slot.connection = Some(connection);
        Some(u64::from(slot.generation) << 32 | u64::from(at))
    }

    /// The one with this number.
    pub(super) fn get(&mut self, number: u64) -> Option<&mut Connection> {
        let (generation, at) = parts(number)?;
        let slot = self.slots.get_mut(at).filter(|slot| slot.generation == generation)?;
        slot.connection.as_mut()
    }

    /// Removes one.
    pub(super) fn remove(&mut self, number: u64) -> Option<Connection> {
        self.get(number)?;
        let (_, at) = parts(number)?;
        let slot = &mut self.slots[at];
        let connection = slot.connection.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(u32::try_from(at).ok()?);
        self.open -= 1;
        if let Some(count) = self.clients.get_mut(&connection.client.ip()) {
            *count -= 1;
            if *count == 0 {
                self.clients.remove(&connection.client.ip());
            }
        }
        Some(connection)
    }

    /// Of those that have asked nothing, the one that has been waiting longest.
    pub(super) fn idlest(&self) -> Option<u64> {
        let silent = self.iter().filter(|(_, connection)| !connection.has_asked);
        silent.min_by_key(|(_, connection)| connection.last()).map(|(number, _)| number)
    }

    /// Those whose time is over, and when the next one's is.
    pub(super) fn overdue(&self, limits: &TcpLimits, now: Instant) -> (Vec<u64>, Option<Instant>) {
        let mut next = None;
        let mut overdue = Vec::new();
        for (number, connection) in self.iter() {
            let deadline = connection.deadline(limits);
            if deadline <= now {
                overdue.push(number);
            } else {
                next = Some(next.map_or(deadline, |next: Instant| next.min(deadline)));
            }
        }
        (overdue, next)
    }

    /// All numbers.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.iter().map(|(number, _)| number).collect()
    }

    fn iter(&self) -> impl Iterator<Item = (u64, &Connection)> {
        (0u64..)
            .zip(&self.slots)
            .filter_map(|(at, slot)| Some((u64::from(slot.generation) << 32 | at, slot.connection.as_ref()?)))
    }
}

fn parts(number: u64) -> Option<(u32, usize)> {
    let at = usize::try_from(number & 0xffff_ffff).ok()?;
    Some((u32::try_from(number >> 32).ok()?, at))
}

//! Who has which address. One address can have several Services, if they share it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use portolan_service::{AddressPool, AddressRange, Family, ObjectName, PerFamily, Protocol};

use super::request::{Request, SharingKey};
use super::runs::Runs;

/// Who has which address.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    held: HashMap<IpAddr, Holding>,
    /// Addresses that Services have without asking us.
    fixed: HashMap<IpAddr, BTreeSet<ObjectName>>,
    /// Those of both.
    taken: PerFamily<Runs>,
    /// Addresses that can be shared.
    shared: BTreeMap<SharingKey, BTreeSet<IpAddr>>,
}

/// An address and those who have it.
#[derive(Debug)]
struct Holding {
    /// The same for all of them; `None` if the one that there is does not share.
    key: Option<SharingKey>,
    services: BTreeSet<ObjectName>,
    ports: HashMap<(Protocol, u16), ObjectName>,
}

/// Why a Service cannot have an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Conflict {
    /// Another has it, and the two do not share.
    Taken(ObjectName),
    /// Another with the same key has a port that is the same.
    Port(ObjectName, Protocol, u16),
}

impl Holdings {
    /// Whether `name` can have `address`, and who is in its way otherwise. Who has it already can
    /// keep it whether or not another has it without asking us.
    pub(super) fn fits(
        &self,
        address: IpAddr,
        name: &ObjectName,
        request: &Request,
        keeps: bool,
    ) -> Result<(), Conflict> {
        let other = |names: &BTreeSet<ObjectName>| names.iter().find(|other| *other != name).cloned();
        if !keeps && let Some(other) = self.fixed.get(&address).and_then(other) {
            return Err(Conflict::Taken(other));
        }
        let Some(holding) = self.held.get(&address) else { return Ok(()) };
        let Some(other) = other(&holding.services) else { return Ok(()) };
        if holding.key.is_none() || holding.key != request.sharing() {
            return Err(Conflict::Taken(other));
        }
        for (protocol, port) in &request.ports {
            if let Some(other) = holding.ports.get(&(*protocol, *port)).filter(|other| *other != name) {
                return Err(Conflict::Port(other.clone(), *protocol, *port));
            }
        }
        Ok(())
    }

    /// Gives `address` to `name`, for which it [fits](Holdings::fits).
    pub(super) fn give(&mut self, address: IpAddr, name: &ObjectName, request: &Request) {
        let key = request.sharing();
        let holding = self.held.entry(address).or_insert_with(|| Holding {
            key: key.clone(),
            services: BTreeSet::new(),
            ports: HashMap::new(),
        });
        holding.services.insert(name.clone());
        holding.ports.extend(request.ports.iter().map(|port| (*port, name.clone())));
        if let Some(key) = key {
            self.shared.entry(key).or_default().insert(address);
        }
        self.mark(address);
    }

    /// `name` has `address` no more. Returns the key that it was shared by.
    pub(super) fn take(&mut self, address: IpAddr, name: &ObjectName) -> Option<SharingKey> {
        let holding = self.held.get_mut(&address)?;
        holding.services.remove(name);
        holding.ports.retain(|_, holder| holder != name);
        let key = holding.key.clone();
        if holding.services.is_empty() {
            self.held.remove(&address);
            if let Some(key) = &key
                && let Some(addresses) = self.shared.get_mut(key)
            {
                addresses.remove(&address);
                if addresses.is_empty() {
                    self.shared.remove(key);
                }
            }
            self.mark(address);
        }
        key
    }

    /// `name` has `address` without asking us, or no more. Returns the key that others share it by.
    pub(super) fn fix(&mut self, address: IpAddr, name: &ObjectName, has: bool) -> Option<SharingKey> {
        let names = self.fixed.entry(address).or_default();
        if has {
            names.insert(name.clone());
        } else {
            names.remove(name);
        }
        if names.is_empty() {
            self.fixed.remove(&address);
        }
        self.mark(address);
        self.held.get(&address)?.key.clone()
    }

    fn mark(&mut self, address: IpAddr) {
        let taken = self.held.contains_key(&address) || self.fixed.contains_key(&address);
        let runs = self.taken.get_mut(Family::of(address));
        let number = AddressRange::number(address);
        if taken { runs.insert(number) } else { runs.remove(number) }
    }

    pub(super) fn is_free(&self, address: IpAddr) -> bool {
        !self.taken.get(Family::of(address)).contains(AddressRange::number(address))
    }

    /// An address of `family` in `pool` that `name` can have: one that it can share, else the first
    /// that is free. What is to be avoided is used only when nothing else is left.
    pub(super) fn choose(
        &self,
        pool: &AddressPool,
        family: Family,
        name: &ObjectName,
        request: &Request,
        avoid: &dyn Fn(IpAddr) -> bool,
    ) -> Option<IpAddr> {
        let shared = request.sharing().and_then(|key| self.shared.get(&key));
        let sharable = shared.into_iter().flatten().copied().find(|address| {
            Family::of(*address) == family
                && pool.contains(*address)
                && self.fits(*address, name, request, false).is_ok()
        });
        sharable
            .or_else(|| self.first_free(pool, family, &|address| !avoid(address)))
            .or_else(|| self.first_free(pool, family, &|_| true))
    }

    /// The first free address of `family` in `pool` that is `good`.
    pub(super) fn first_free(
        &self,
        pool: &AddressPool,
        family: Family,
        good: &dyn Fn(IpAddr) -> bool,
    ) -> Option<IpAddr> {
        let taken = self.taken.get(family);
        for range in pool.ranges.iter().filter(|range| range.family() == family) {
            let mut from = Some(range.first());
            while let Some(number) = from.and_then(|from| taken.first_missing(from, range.last())) {
                let address = range.address(number);
                if !pool.avoids(address) && good(address) {
                    return Some(address);
                }
                from = number.checked_add(1);
            }
        }
        None
    }
}

//! Services and endpoints, found by name and by address. Objects are shared with whoever else took
//! the same changes; what is kept beside them is a few numbers each.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use portolan_service::{Endpoint, EndpointSlice, ObjectName, Service, ServiceType, TargetSlice};

use crate::endpoint_name::{Called, EndpointName};
use crate::index::{Hasher, Index, Slab, octets};
use crate::wire::LABEL_MAX;

/// An endpoint: the number of its slice, and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Place {
    pub(crate) slice: u32,
    pub(crate) endpoint: u32,
}

const NOWHERE: Place = Place { slice: u32::MAX, endpoint: u32::MAX };

/// Slices of as many endpoints are looked through: most are small, and an index costs memory.
const SCANNED: usize = 8;

/// A Service and what names it; perhaps only its slices are known.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    name: ObjectName,
    object: Option<Arc<Service>>,
    /// Numbers of its slices, sorted by the slices' names.
    slices: Vec<u32>,
    /// Slices of type FQDN, sorted by name.
    targets: Box<[Arc<TargetSlice>]>,
    /// Ready endpoints.
    ready: u32,
    /// Ready endpoints whose address another one has.
    duplicates: u32,
}

#[derive(Debug, Clone)]
struct Slice {
    object: Arc<EndpointSlice>,
    service: u32,
    /// Ready endpoints that can be asked for: hash of the name, place; sorted. Of a small slice
    /// none.
    by_name: Box<[(u32, u32)]>,
}

/// All Services.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    hasher: Hasher,
    pod_names: bool,
    entries: Slab<Entry>,
    by_name: Index<u32>,
    /// Services by ClusterIP.
    by_address: Index<u32>,
    slices: Slab<Slice>,
    slices_by_name: Index<u32>,
    /// The first of the ready endpoints with an address.
    endpoints: Index<Place>,
    /// After a ready endpoint the next with the same address. Few share one.
    next: HashMap<Place, Place>,
    /// Slices of type FQDN, and their Services: rare.
    targets: Vec<(ObjectName, u32)>,
}

impl Entry {
    /// The Service, if it exists.
    pub(crate) fn service(&self) -> Option<&Arc<Service>> {
        self.object.as_ref()
    }

    /// Namespace and name.
    pub(crate) fn name(&self) -> &ObjectName {
        &self.name
    }

    /// How many endpoints are ready.
    pub(crate) fn ready(&self) -> usize {
        self.ready as usize
    }

    /// Whether an address occurs twice among the ready endpoints.
    pub(crate) fn has_duplicates(&self) -> bool {
        self.duplicates > 0
    }

    /// Its slices of type FQDN.
    pub(crate) fn targets(&self) -> &[Arc<TargetSlice>] {
        &self.targets
    }
}

impl Services {
    pub(crate) fn new(hasher: Hasher, pod_names: bool) -> Services {
        Services {
            hasher,
            pod_names,
            entries: Slab::new(),
            by_name: Index::new(),
            by_address: Index::new(),
            slices: Slab::new(),
            slices_by_name: Index::new(),
            endpoints: Index::new(),
            next: HashMap::new(),
            targets: Vec::new(),
        }
    }

    /// The Service with this name. `key` is both labels in lower case, as messages have them. If
    /// several names differ in case only, the first in order counts.
    pub(crate) fn find(&self, key: &[u8]) -> Option<&Entry> {
        let entries = self.by_name.find(self.hasher.of(key)).filter_map(|at| self.entries.get(at));
        let same = entries.filter(|entry| entry.object.is_some() && has_key(&entry.name, key));
        same.min_by(|one, other| one.name.cmp(&other.name))
    }

    /// The Service of just this name.
    pub(crate) fn service(&self, name: &ObjectName) -> Option<&Arc<Service>> {
        self.entries.get(self.entry_at(name)?)?.object.as_ref()
    }

    /// What there is of the Service of just this name.
    pub(crate) fn entry(&self, name: &ObjectName) -> Option<&Entry> {
        self.entries.get(self.entry_at(name)?)
    }

    /// What there is at `count` places from place `from` on, and the place after them.
    pub(crate) fn entries_at(
        &self,
        from: usize,
        count: usize,
    ) -> (impl Iterator<Item = &Entry>, Option<usize>) {
        self.entries.range(from, count)
    }

    /// The slices of a Service, sorted by name.
    pub(crate) fn slice_objects<'s>(
        &'s self,
        entry: &'s Entry,
    ) -> impl Iterator<Item = &'s Arc<EndpointSlice>> {
        entry.slices.iter().filter_map(|at| Some(&self.slices.get(*at)?.object))
    }

    /// The Service that has this ClusterIP.
    pub(crate) fn by_cluster_ip(&self, address: IpAddr) -> Option<&Entry> {
        let found = self.by_address.find(self.hasher.of(&octets(address)));
        let entries = found.filter_map(|at| self.entries.get(at));
        let same =
            entries.filter(|entry| entry.object.as_ref().is_some_and(|object| has_ip(object, address)));
        same.min_by(|one, other| one.name.cmp(&other.name))
    }

    /// The ready endpoints with this address.
    pub(crate) fn by_endpoint(&self, address: IpAddr) -> impl Iterator<Item = Place> {
        let mut next = self.first(address).unwrap_or(NOWHERE);
        std::iter::from_fn(move || {
            let place = next;
            next = self.next(place);
            (place != NOWHERE).then_some(place)
        })
    }

    /// The Service of a slice.
    pub(crate) fn owner(&self, place: Place) -> Option<&Entry> {
        self.entries.get(self.slices.get(place.slice)?.service)
    }

    /// The slices of a Service with their numbers, sorted by name.
    pub(crate) fn slices<'s>(&'s self, entry: &'s Entry) -> impl Iterator<Item = (u32, &'s EndpointSlice)> {
        entry.slices.iter().filter_map(|at| Some((*at, &*self.slices.get(*at)?.object)))
    }

    /// The endpoint at `place`, with its slice.
    pub(crate) fn endpoint(&self, place: Place) -> Option<(&EndpointSlice, &Endpoint)> {
        let slice = &*self.slices.get(place.slice)?.object;
        Some((slice, slice.endpoints.get(place.endpoint as usize)?))
    }

    /// What an endpoint is called.
    pub(crate) fn name_of<'e>(&self, endpoint: &'e Endpoint) -> EndpointName<'e> {
        EndpointName::of(&endpoint.names, endpoint.address, self.pod_names)
    }

    /// The ready endpoints of a Service that are called `label`, which is in lower case.
    pub(crate) fn named(&self, entry: &Entry, label: &[u8], mut found: impl FnMut(Place)) {
        let (hash, label) = (self.hasher.of(label), Called::new(label));
        for &at in &entry.slices {
            let Some(slice) = self.slices.get(at) else { continue };
            let endpoints = &slice.object.endpoints;
            let is_called = |endpoint: &Endpoint| label.is_of(endpoint, self.pod_names);
            if endpoints.len() <= SCANNED {
                for (endpoint, listed) in (0..).zip(endpoints) {
                    if listed.ready && is_called(listed) {
                        found(Place { slice: at, endpoint });
                    }
                }
                continue;
            }
            let from = slice.by_name.partition_point(|(known, _)| *known < hash);
            for &(_, endpoint) in slice.by_name[from..].iter().take_while(|(known, _)| *known == hash) {
                if endpoints.get(endpoint as usize).is_some_and(is_called) {
                    found(Place { slice: at, endpoint });
                }
            }
        }
    }

    /// Takes a Service. `None` if nothing is different; else whether it existed before.
    pub(crate) fn set(&mut self, service: &Arc<Service>) -> Option<bool> {
        let at = self.entry_of(&service.name);
        let entry = self.entries.get_mut(at)?;
        if entry.object.as_ref() == Some(service) {
            return None;
        }
        let before = entry.object.replace(service.clone());
        let existed = before.is_some();
        // The name that is shared with the object, so that no other copy is kept.
        entry.name = service.name.clone();
        for address in before.iter().flat_map(|service| ips(service)) {
            self.by_address.remove(self.hasher.of(&octets(address)), at);
        }
        for address in ips(service) {
            self.by_address.insert(self.hasher.of(&octets(address)), at);
        }
        Some(existed)
    }

    /// Removes a Service; its slices stay. Returns whether it was there.
    pub(crate) fn remove(&mut self, name: &ObjectName) -> bool {
        let Some(at) = self.entry_at(name) else { return false };
        let Some(service) = self.entries.get_mut(at).and_then(|entry| entry.object.take()) else {
            return false;
        };
        for address in ips(&service) {
            self.by_address.remove(self.hasher.of(&octets(address)), at);
        }
        self.forget_if_empty(at);
        true
    }

    /// Takes a slice. Returns whether anything is different.
    pub(crate) fn set_slice(&mut self, object: &Arc<EndpointSlice>) -> bool {
        if let Some(at) = self.slice_at(&object.name) {
            if self.slices.get(at).is_some_and(|slice| slice.object == *object) {
                return false;
            }
            self.remove_slice_at(at);
        }
        let service = self.entry_of(&object.service);
        let by_name = self.names_in(object);
        let hash = self.hash_of(&object.name);
        let at = self.slices.insert(Slice { object: object.clone(), service, by_name });
        self.slices_by_name.insert(hash, at);
        let slices = &self.slices;
        if let Some(entry) = self.entries.get_mut(service) {
            let name_of = |at: &u32| slices.get(*at).map(|slice| &slice.object.name);
            let place = entry.slices.partition_point(|known| name_of(known) < Some(&object.name));
            // Most Services have one slice: no room for more.
            entry.slices.reserve_exact(1);
            entry.slices.insert(place, at);
        }
        for (endpoint, listed) in (0..).zip(&object.endpoints) {
            if listed.ready {
                self.link(Place { slice: at, endpoint }, listed.address, service);
            }
        }
        true
    }

    /// Removes a slice. Returns whether it was there.
    pub(crate) fn remove_slice(&mut self, name: &ObjectName) -> bool {
        let found = self.slice_at(name);
        if let Some(at) = found {
            self.remove_slice_at(at);
        }
        found.is_some()
    }

    /// Takes a slice of type FQDN. Returns whether anything is different.
    pub(crate) fn set_targets(&mut self, slice: Arc<TargetSlice>) -> bool {
        let known = self.targets.iter().find(|(name, _)| *name == slice.name);
        let known = known.and_then(|(_, at)| self.entries.get(*at));
        if known.is_some_and(|entry| entry.targets().contains(&slice)) {
            return false;
        }
        self.remove_targets(&slice.name.clone());
        let at = self.entry_of(&slice.service);
        self.targets.push((slice.name.clone(), at));
        if let Some(entry) = self.entries.get_mut(at) {
            let mut list = std::mem::take(&mut entry.targets).into_vec();
            list.push(slice);
            list.sort_by(|one, other| one.name.cmp(&other.name));
            entry.targets = list.into();
        }
        true
    }

    /// Removes a slice of type FQDN. Returns whether it was there.
    pub(crate) fn remove_targets(&mut self, name: &ObjectName) -> bool {
        let Some(place) = self.targets.iter().position(|(known, _)| known == name) else { return false };
        let (_, at) = self.targets.swap_remove(place);
        if let Some(entry) = self.entries.get_mut(at) {
            let mut list = std::mem::take(&mut entry.targets).into_vec();
            list.retain(|slice| slice.name != *name);
            entry.targets = list.into();
        }
        self.forget_if_empty(at);
        true
    }

    fn remove_slice_at(&mut self, at: u32) {
        let Some((object, service)) = self.slices.get(at).map(|slice| (slice.object.clone(), slice.service))
        else {
            return;
        };
        for (endpoint, listed) in (0..).zip(&object.endpoints) {
            if listed.ready {
                self.unlink(Place { slice: at, endpoint }, listed.address, service);
            }
        }
        self.slices_by_name.remove(self.hash_of(&object.name), at);
        self.slices.remove(at);
        if let Some(entry) = self.entries.get_mut(service) {
            entry.slices.retain(|known| *known != at);
        }
        self.forget_if_empty(service);
    }

    /// Adds a ready endpoint to those that are found by address.
    fn link(&mut self, place: Place, address: IpAddr, service: u32) {
        let twice = self.serves(address, service);
        let hash = self.hasher.of(&octets(address));
        match self.first(address) {
            Some(first) => {
                self.set_next(place, first);
                self.endpoints.replace(hash, first, place);
            }
            None => self.endpoints.insert(hash, place),
        }
        if let Some(entry) = self.entries.get_mut(service) {
            entry.ready += 1;
            entry.duplicates += u32::from(twice);
        }
    }

    /// The opposite of [`Services::link`].
    fn unlink(&mut self, place: Place, address: IpAddr, service: u32) {
        let hash = self.hasher.of(&octets(address));
        let (Some(first), next) = (self.first(address), self.next(place)) else { return };
        match (first == place, next == NOWHERE) {
            (true, true) => self.endpoints.remove(hash, place),
            (true, false) => self.endpoints.replace(hash, place, next),
            (false, _) => {
                let mut before = first;
                while before != NOWHERE && self.next(before) != place {
                    before = self.next(before);
                }
                self.set_next(before, next);
            }
        }
        self.set_next(place, NOWHERE);
        let still = self.serves(address, service);
        if let Some(entry) = self.entries.get_mut(service) {
            entry.ready -= 1;
            entry.duplicates -= u32::from(still);
        }
    }

    /// Whether a ready endpoint of this Service has the address.
    fn serves(&self, address: IpAddr, service: u32) -> bool {
        let mut place = self.first(address).unwrap_or(NOWHERE);
        while let Some(slice) = self.slices.get(place.slice) {
            if slice.service == service {
                return true;
            }
            place = self.next(place);
        }
        false
    }

    fn first(&self, address: IpAddr) -> Option<Place> {
        let mut found = self.endpoints.find(self.hasher.of(&octets(address)));
        found.find(|place| self.endpoint(*place).is_some_and(|(_, endpoint)| endpoint.address == address))
    }

    fn next(&self, place: Place) -> Place {
        self.next.get(&place).copied().unwrap_or(NOWHERE)
    }

    fn set_next(&mut self, place: Place, next: Place) {
        if next == NOWHERE {
            self.next.remove(&place);
        } else {
            self.next.insert(place, next);
        }
    }

    /// The names in a slice that can be asked for.
    fn names_in(&self, slice: &EndpointSlice) -> Box<[(u32, u32)]> {
        if slice.endpoints.len() <= SCANNED {
            return Box::default();
        }
        let mut names = Vec::with_capacity(slice.endpoints.len());
        for (place, endpoint) in (0..).zip(&slice.endpoints) {
            let name = self.name_of(endpoint);
            let name = name.as_str().as_bytes();
            if endpoint.ready && name.len() <= LABEL_MAX {
                let mut label = [0; LABEL_MAX];
                label[..name.len()].copy_from_slice(name);
                label.make_ascii_lowercase();
                names.push((self.hasher.of(&label[..name.len()]), place));
            }
        }
        names.sort_unstable();
        names.into()
    }

    /// The number of the Service called `name`, which is made if it is not known.
    fn entry_of(&mut self, name: &ObjectName) -> u32 {
        if let Some(at) = self.entry_at(name) {
            return at;
        }
        let at = self.entries.insert(Entry {
            name: name.clone(),
            object: None,
            slices: Vec::new(),
            targets: Box::default(),
            ready: 0,
            duplicates: 0,
        });
        self.by_name.insert(self.hash_of(name), at);
        at
    }

    fn entry_at(&self, name: &ObjectName) -> Option<u32> {
        let mut found = self.by_name.find(self.hash_of(name));
        found.find(|at| self.entries.get(*at).is_some_and(|entry| entry.name == *name))
    }

    fn slice_at(&self, name: &ObjectName) -> Option<u32> {
        let mut found = self.slices_by_name.find(self.hash_of(name));
        found.find(|at| self.slices.get(*at).is_some_and(|slice| slice.object.name == *name))
    }

    fn forget_if_empty(&mut self, at: u32) {
        let empty = self
            .entries
            .get(at)
            .filter(|entry| entry.object.is_none() && entry.slices.is_empty() && entry.targets.is_empty());
        if let Some(name) = empty.map(|entry| entry.name.clone()) {
            self.by_name.remove(self.hash_of(&name), at);
            self.entries.remove(at);
        }
    }

    fn hash_of(&self, name: &ObjectName) -> u32 {
        let mut key = [0; 2 * (LABEL_MAX + 1)];
        match key_of(name, &mut key) {
            Some(length) => self.hasher.of(&key[..length]),
            // Nobody can ask for it.
            None => self.hasher.of(name.as_str().as_bytes()),
        }
    }
}

/// Both labels of a name as messages have them, in lower case. `None` if one is too long.
fn key_of(name: &ObjectName, key: &mut [u8; 2 * (LABEL_MAX + 1)]) -> Option<usize> {
    let mut length = 0;
    for label in [name.name(), name.namespace()] {
        if label.is_empty() || label.len() > LABEL_MAX {
            return None;
        }
        key[length] = u8::try_from(label.len()).ok()?;
        key[length + 1..=length + label.len()].copy_from_slice(label.as_bytes());
        length += label.len() + 1;
    }
    key.make_ascii_lowercase();
    Some(length)
}

fn has_key(name: &ObjectName, key: &[u8]) -> bool {
    let mut own = [0; 2 * (LABEL_MAX + 1)];
    key_of(name, &mut own).is_some_and(|length| own[..length] == *key)
}

/// The addresses of a Service that its name stands for.
pub(crate) fn ips(service: &Service) -> impl Iterator<Item = IpAddr> + Clone {
    let all: &[IpAddr] = if service.kind == ServiceType::ExternalName || service.headless {
        &[]
    } else if service.cluster_ips.is_empty() {
        service.cluster_ip.as_slice()
    } else {
        &service.cluster_ips
    };
    all.iter().enumerate().filter(|(at, ip)| !all[..*at].contains(ip)).map(|(_, ip)| *ip)
}

fn has_ip(service: &Service, address: IpAddr) -> bool {
    ips(service).any(|ip| ip == address)
}

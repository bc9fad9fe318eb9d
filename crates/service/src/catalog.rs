//! The observed Services and EndpointSlices.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::{Change, EndpointSlice, ObjectName, Service};

/// The observed Services and EndpointSlices, independent of any node. Objects come one by one.
/// Slices may come before, after and without their Service (spec §1.30).
#[derive(Debug, Default)]
pub struct Catalog {
    services: HashMap<ObjectName, Service>,
    /// By Service; each list is sorted by the slice's name.
    slices: HashMap<ObjectName, Vec<EndpointSlice>>,
    /// The Service of each slice.
    owners: HashMap<ObjectName, ObjectName>,
    names: NamePool,
}

impl Catalog {
    /// Takes `change` and returns the Services it touches: none if nothing is different, two if a
    /// slice moved from one Service to another. Changes to Nodes touch none.
    pub fn apply(&mut self, change: Change) -> Vec<ObjectName> {
        match change {
            Change::Service(service) => self.set_service(service),
            Change::ServiceRemoved(name) => match self.services.remove(&name) {
                Some(_) => vec![name],
                None => Vec::new(),
            },
            Change::Slice(slice) => self.set_slice(slice),
            Change::SliceRemoved(name) => self.remove_slice(&name).into_iter().collect(),
            Change::Node(_) | Change::NodeRemoved(_) => Vec::new(),
        }
    }

    /// The Service of this name.
    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.services.get(name)
    }

    /// All Services, in no particular order.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// The slices of a Service, sorted by name.
    pub fn slices(&self, service: &ObjectName) -> &[EndpointSlice] {
        self.slices.get(service).map_or(&[], Vec::as_slice)
    }

    fn set_service(&mut self, mut service: Service) -> Vec<ObjectName> {
        if self.services.get(&service.name) == Some(&service) {
            return Vec::new();
        }
        for port in &mut service.ports {
            self.names.share(&mut port.name);
        }
        let name = service.name.clone();
        self.services.insert(name.clone(), service);
        vec![name]
    }

    fn set_slice(&mut self, mut slice: EndpointSlice) -> Vec<ObjectName> {
        let mut touched = Vec::new();
        match self.owners.get(&slice.name) {
            Some(owner) if *owner == slice.service => {
                let list = self.slices.get(owner).map_or(&[][..], Vec::as_slice);
                if list.contains(&slice) {
                    return touched;
                }
            }
            Some(_) => touched.extend(self.remove_slice(&slice.name.clone())),
            None => {}
        }
        self.share_names(&mut slice);
        touched.push(slice.service.clone());
        self.owners.insert(slice.name.clone(), slice.service.clone());
        let list = self.slices.entry(slice.service.clone()).or_default();
        match list.binary_search_by(|known| known.name.cmp(&slice.name)) {
            Ok(place) => list[place] = slice,
            Err(place) => {
                // Most Services have one slice: no room for more.
                list.reserve_exact(1);
                list.insert(place, slice);
            }
        }
        touched
    }

    fn remove_slice(&mut self, name: &ObjectName) -> Option<ObjectName> {
        let owner = self.owners.remove(name)?;
        let list = self.slices.get_mut(&owner)?;
        list.retain(|slice| slice.name != *name);
        if list.is_empty() {
            self.slices.remove(&owner);
        }
        Some(owner)
    }

    fn share_names(&mut self, slice: &mut EndpointSlice) {
        slice.ports.shrink_to_fit();
        slice.endpoints.shrink_to_fit();
        for port in &mut slice.ports {
            self.names.share(&mut port.name);
        }
        for endpoint in &mut slice.endpoints {
            let place = endpoint.node.iter_mut().chain(&mut endpoint.zone);
            for name in place.chain(endpoint.hints.names_mut()) {
                self.names.share(name);
            }
        }
    }
}

/// One copy of each node, zone and port name, however many endpoints mention it.
#[derive(Debug, Default)]
struct NamePool {
    names: HashSet<Arc<str>>,
    /// Names nobody uses any more are dropped when the pool has grown to this size.
    clean_at: usize,
}

impl NamePool {
    fn share(&mut self, name: &mut Arc<str>) {
        if let Some(known) = self.names.get(name) {
            *name = known.clone();
            return;
        }
        if self.names.len() >= self.clean_at {
            self.names.retain(|name| Arc::strong_count(name) > 1);
            self.clean_at = (self.names.len() * 2).max(1024);
        }
        self.names.insert(name.clone());
    }
}

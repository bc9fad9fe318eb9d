//! The observed Services and EndpointSlices.

use std::collections::HashMap;
use std::sync::Arc;

use crate::{Change, EndpointSlice, ObjectName, Service};

/// The observed Services and EndpointSlices, independent of any node. Objects come one by one.
/// Slices may come before, after and without their Service (spec §1.30).
///
/// The objects are shared with whoever else took the same changes.
#[derive(Debug, Default)]
pub struct Catalog {
    services: HashMap<ObjectName, Arc<Service>>,
    /// By Service; each list is sorted by the slice's name.
    slices: HashMap<ObjectName, Vec<Arc<EndpointSlice>>>,
    /// The Service of each slice.
    owners: HashMap<ObjectName, ObjectName>,
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
    pub fn service(&self, name: &ObjectName) -> Option<&Arc<Service>> {
        self.services.get(name)
    }

    /// All Services, in no particular order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// The slices of a Service, sorted by name.
    pub fn slices(&self, service: &ObjectName) -> &[Arc<EndpointSlice>] {
        self.slices.get(service).map_or(&[], Vec::as_slice)
    }

    fn set_service(&mut self, service: Arc<Service>) -> Vec<ObjectName> {
        if self.services.get(&service.name) == Some(&service) {
            return Vec::new();
        }
        let name = service.name.clone();
        self.services.insert(name.clone(), service);
        vec![name]
    }

    fn set_slice(&mut self, slice: Arc<EndpointSlice>) -> Vec<ObjectName> {
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
}

//! What has been allocated, remembered so that it stays the same.

use std::collections::{BTreeMap, HashMap};

use portolan_service::ObjectName;

/// Allocated values by what they are for, such as `IPv4`, `nodePort http/tcp` and
/// `healthCheckNodePort`.
pub type Allocations = BTreeMap<String, String>;

/// Remembers allocations. Services that are gone keep theirs as long as enough others are free, so
/// that they have the same when they come back.
pub trait Record {
    /// All that is known to be allocated.
    fn known(&self) -> &InMemory;

    /// Learns what others have recorded, and keeps them from allocating until [`Record::commit`].
    fn begin(&mut self);

    /// Records what has been allocated since [`Record::begin`]: all of each of these Services.
    fn commit(&mut self, allocated: Vec<(ObjectName, Allocations)>);
}

/// A record that lasts as long as this value, and is nobody else's.
#[derive(Debug, Default)]
pub struct InMemory {
    entries: HashMap<ObjectName, Allocations>,
    /// How many entries hold each value.
    reserved: HashMap<String, usize>,
}

impl InMemory {
    /// What is remembered for `service`.
    pub fn get(&self, service: &ObjectName) -> Option<&Allocations> {
        self.entries.get(service)
    }

    /// Everything, in no particular order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&ObjectName, &Allocations)> {
        self.entries.iter()
    }

    /// Whether any Service, present or not, has been allocated `value`.
    pub(crate) fn is_reserved(&self, value: &str) -> bool {
        self.reserved.contains_key(value)
    }

    /// `service` has been allocated this, and nothing else.
    pub fn remember(&mut self, service: ObjectName, allocated: Allocations) {
        for value in allocated.values() {
            *self.reserved.entry(value.clone()).or_default() += 1;
        }
        let old = self.entries.insert(service, allocated).unwrap_or_default();
        for value in old.into_values() {
            if let Some(count) = self.reserved.get_mut(&value) {
                *count -= 1;
                if *count == 0 {
                    self.reserved.remove(&value);
                }
            }
        }
    }
}

impl Record for InMemory {
    fn known(&self) -> &InMemory {
        self
    }

    fn begin(&mut self) {}

    fn commit(&mut self, allocated: Vec<(ObjectName, Allocations)>) {
        for (service, allocated) in allocated {
            self.remember(service, allocated);
        }
    }
}

//! Who waits for which addresses, so that what becomes free goes to them without a look at all
//! others.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use portolan_service::{Family, ObjectName};

use super::request::SharingKey;

/// What a Service waits for. Whichever comes first serves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum WaitsFor {
    /// An address that it asks for.
    Address(IpAddr),
    /// Any address of this family in the pool of this name.
    Pool(Arc<str>, Family),
    /// A port of an address that it can share.
    Sharing(SharingKey),
}

/// Who waits for what.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    services: HashMap<WaitsFor, BTreeSet<ObjectName>>,
    by_service: HashMap<ObjectName, Vec<WaitsFor>>,
}

impl Waiting {
    pub(super) fn add(&mut self, name: &ObjectName, what: WaitsFor) {
        if self.services.entry(what.clone()).or_default().insert(name.clone()) {
            self.by_service.entry(name.clone()).or_default().push(what);
        }
    }

    /// `name` waits no more.
    pub(super) fn remove(&mut self, name: &ObjectName) {
        for what in self.by_service.remove(name).unwrap_or_default() {
            if let Some(names) = self.services.get_mut(&what) {
                names.remove(name);
                if names.is_empty() {
                    self.services.remove(&what);
                }
            }
        }
    }

    /// All who wait for `what`.
    pub(super) fn all(&self, what: &WaitsFor) -> Vec<ObjectName> {
        self.services.get(what).into_iter().flatten().cloned().collect()
    }

    /// The first by name after `last` who waits for `what`.
    pub(super) fn after(&self, what: &WaitsFor, last: Option<&ObjectName>) -> Option<ObjectName> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.services.get(what)?.range((from, Bound::Unbounded)).next().cloned()
    }
}

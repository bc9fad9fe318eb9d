//! The names that are served, listed: for people who want to see them.

mod absent;
mod records;

use std::sync::Arc;

use portolan_service::{EndpointSlice, ObjectName, Service, ServiceType, TargetSlice};

use crate::services::Entry;
use crate::settings::Options;
use crate::state::Names;

pub use absent::{Absent, Waiting};
pub use records::Listed;

/// A Service and all that its names come from, as they are at one moment. It shares the objects, so
/// that whoever lists names holds no lock meanwhile.
#[derive(Debug, Clone)]
pub struct Served {
    options: Arc<Options>,
    service: Arc<Service>,
    slices: Vec<Arc<EndpointSlice>>,
    targets: Vec<Arc<TargetSlice>>,
    /// Its namespace exists in the DNS.
    shown: bool,
    /// It exists in the DNS, if its namespace does.
    exists: bool,
}

impl Names {
    /// Calls `found` with the Services at `count` places from place `from` on, and returns the
    /// place after them; `None` if there are no more. Each is at one place for as long as it is
    /// there. They are in no order.
    pub fn services_at(
        &self,
        from: usize,
        count: usize,
        mut found: impl FnMut(&ObjectName),
    ) -> Option<usize> {
        let (entries, next) = self.services.entries_at(from, count);
        for entry in entries.filter(|entry| entry.service().is_some()) {
            found(entry.name());
        }
        next
    }

    /// The Service of just this name, with what its names come from.
    pub fn served(&self, name: &ObjectName) -> Option<Served> {
        let entry = self.services.entry(name)?;
        let service = entry.service()?.clone();
        let shown = self.shows_namespace(name.namespace());
        let exists = self.shown(entry).is_some();
        let slices = self.services.slice_objects(entry).cloned().collect();
        let (options, targets) = (self.options.clone(), Entry::targets(entry).to_vec());
        Some(Served { options, service, slices, targets, shown, exists })
    }

    /// The domains of Services that are answered for, without a dot at the end; those of the
    /// settings, in their order.
    pub fn domains(&self) -> Vec<String> {
        self.options.service_domains().map(str::to_owned).collect()
    }
}

impl Served {
    /// Namespace and name of the Service.
    pub fn name(&self) -> &ObjectName {
        &self.service.name
    }

    /// Whether its namespace is one that has names.
    pub fn is_shown(&self) -> bool {
        self.shown
    }

    /// Its names in `domain`, with their records: that of the Service and, with `all`, those of its
    /// ports and endpoints. A name that has none is there with the reason.
    pub fn records(&self, domain: &str, all: bool) -> Vec<Listed> {
        let mut listed = Vec::new();
        match self.absent() {
            Some(absent) => listed.push(Listed::absent(self.own_name(domain), absent)),
            None if self.service.kind == ServiceType::ExternalName => self.alias(domain, &mut listed),
            None => self.addresses(domain, &mut listed),
        }
        if all && self.shown && self.options.settings.endpoints {
            if self.exists {
                self.ports(domain, &mut listed);
            }
            self.endpoints(domain, &mut listed);
        }
        listed
    }
}

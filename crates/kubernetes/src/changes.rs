//! What objects lead to: changes for the catalog, and changes of what only names come from.

use std::collections::HashSet;
use std::sync::Arc;

use portolan_service::{Change, EndpointSlice, NamesChange, ObjectName, TargetSlice, further};

use crate::Followed;
use crate::convert::{self, Names};
use crate::decode::Object;
use crate::resource::Resource;
use crate::wire;

/// Fewer changes than this are not worth compacting.
const COMPACT_AT_LEAST: usize = 4096;

/// Changes that wait to be delivered, in order.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) objects: Vec<Change>,
    pub(crate) names: Vec<NamesChange>,
    /// When there are this many, those that later ones make pointless are dropped.
    compact_at: usize,
}

impl Changes {
    /// Adds what came later.
    pub(crate) fn extend(&mut self, later: Changes) {
        self.objects.extend(later.objects);
        self.names.extend(later.names);
    }

    /// Bounds what waits while a first list cannot be had: of each object only the last change
    /// matters.
    pub(crate) fn compact(&mut self) {
        let length = |changes: &Changes| changes.objects.len() + changes.names.len();
        if length(self) < self.compact_at.max(COMPACT_AT_LEAST) {
            return;
        }
        Change::keep_last(&mut self.objects);
        NamesChange::keep_last(&mut self.names);
        self.compact_at = length(self) * 2;
    }
}

/// Turns objects into changes.
#[derive(Debug)]
pub(crate) struct Converter {
    followed: Followed,
    names: Names,
    /// Slices with endpoints that have several addresses: almost always none.
    with_further: HashSet<ObjectName>,
    /// Slices of type FQDN: as rare.
    with_targets: HashSet<ObjectName>,
}

impl Converter {
    /// For what is `followed`.
    pub(crate) fn new(followed: Followed) -> Converter {
        Converter {
            followed,
            names: Names::default(),
            with_further: HashSet::new(),
            with_targets: HashSet::new(),
        }
    }

    /// `object` is there, and if it `was_known` it was before. Returns the slice that it is, if it
    /// is one for a proxy. ServiceCIDRs lead to no change.
    pub(crate) fn put(
        &mut self,
        name: &ObjectName,
        object: &Object<'_>,
        was_known: bool,
        changes: &mut Changes,
    ) -> Option<Arc<EndpointSlice>> {
        match object {
            Object::Service(service) => {
                let service = convert::service(name.clone(), service, &mut self.names);
                changes.objects.push(service.into());
            }
            Object::EndpointSlice(slice) => return self.put_slice(name, slice, was_known, changes),
            Object::Node(node) => changes.objects.push(Change::Node(convert::node(node))),
            Object::ServiceCidr(_) => {}
            Object::Namespace(namespace) => {
                changes.names.push(NamesChange::Namespace(convert::namespace(namespace)));
            }
            Object::Pod(pod) => changes.names.push(NamesChange::Pod(convert::pod(name.clone(), pod))),
        }
        None
    }

    fn put_slice(
        &mut self,
        name: &ObjectName,
        wire: &wire::EndpointSlice<'_>,
        was_known: bool,
        changes: &mut Changes,
    ) -> Option<Arc<EndpointSlice>> {
        let slice = convert::slice(name.clone(), wire, &mut self.names).map(Arc::new);
        match &slice {
            Some(slice) => changes.objects.push(Change::Slice(slice.clone())),
            // A slice that no longer is for a service proxy is as good as gone.
            None if was_known => changes.objects.push(Change::SliceRemoved(name.clone())),
            None => {}
        }
        let known = slice.as_deref().filter(|_| self.followed.names);
        let further = known.and_then(|slice| convert::further_addresses(slice, wire, &mut self.names));
        self.put_further(name, further, changes);
        let targets = self.followed.names.then(|| convert::targets(name.clone(), wire)).flatten();
        self.put_targets(name, targets, changes);
        slice
    }

    /// `name` is gone.
    pub(crate) fn removed(&mut self, resource: Resource, name: ObjectName, changes: &mut Changes) {
        match resource {
            Resource::Services => changes.objects.push(Change::ServiceRemoved(name)),
            Resource::EndpointSlices => {
                self.put_further(&name, None, changes);
                self.put_targets(&name, None, changes);
                changes.objects.push(Change::SliceRemoved(name));
            }
            Resource::Nodes => changes.objects.push(Change::NodeRemoved(name.name().into())),
            Resource::ServiceCidrs => {}
            Resource::Namespaces => {
                changes.names.push(NamesChange::NamespaceRemoved(name.name().into()));
            }
            Resource::Pods => changes.names.push(NamesChange::PodRemoved(name)),
        }
    }

    /// The further addresses of the slice called `name` are these now.
    fn put_further(&mut self, name: &ObjectName, slice: Option<EndpointSlice>, changes: &mut Changes) {
        match slice {
            Some(slice) => {
                self.with_further.insert(name.clone());
                changes.names.push(NamesChange::Further(slice.into()));
            }
            None if self.with_further.remove(name) => {
                changes.names.push(NamesChange::FurtherRemoved(further(name)));
            }
            None => {}
        }
    }

    /// The slice called `name` is of type FQDN and has these targets, or is not.
    fn put_targets(&mut self, name: &ObjectName, slice: Option<TargetSlice>, changes: &mut Changes) {
        match slice {
            Some(slice) => {
                self.with_targets.insert(name.clone());
                changes.names.push(NamesChange::Targets(slice.into()));
            }
            None if self.with_targets.remove(name) => {
                changes.names.push(NamesChange::TargetsRemoved(name.clone()));
            }
            None => {}
        }
    }
}

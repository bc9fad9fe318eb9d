//! Brings together what is heard of all resources, and says when it is to be delivered. No I/O but
//! the snapshot's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ipnet::IpNet;
use jiff::Timestamp;
use portolan_service::{EndpointSlice, EndpointsTrigger, ObjectName};

use crate::changes::{Changes, Converter};
use crate::convert;
use crate::decode::{Object, Undecodable};
use crate::known_objects::{KnownObjects, News, version};
use crate::record::Recorder;
use crate::resource::Resource;
use crate::snapshot::Loaded;
use crate::{Followed, Origin, Problem, Status, Update};

/// All that was heard and not yet delivered, and what is known of each object.
#[derive(Debug)]
pub(crate) struct Collector {
    status: Arc<Status>,
    recorder: Recorder,
    /// Triggers from before this are of another proxy's time (spec §9.15).
    started: SystemTime,
    known: [KnownObjects; Resource::ALL.len()],
    followed: Followed,
    converter: Converter,
    networks: BTreeMap<ObjectName, Vec<IpNet>>,
    /// Whether a complete list has been read.
    listed: [bool; Resource::ALL.len()],
    /// Whether the first complete lists have been delivered.
    initial_done: bool,
    /// Names come from the snapshot, until more is known.
    names_restored: bool,
    pending: Pending,
}

#[derive(Debug, Default)]
struct Pending {
    changes: Changes,
    networks_changed: bool,
    triggers: Vec<EndpointsTrigger>,
    received: Option<Instant>,
    problems: Vec<Problem>,
}

impl Collector {
    /// For what is `followed`.
    pub(crate) fn new(
        status: Arc<Status>,
        recorder: Recorder,
        followed: Followed,
        started: SystemTime,
    ) -> Collector {
        Collector {
            status,
            recorder,
            started,
            known: Default::default(),
            followed,
            converter: Converter::new(followed),
            networks: BTreeMap::new(),
            listed: Default::default(),
            initial_done: false,
            names_restored: false,
            pending: Pending::default(),
        }
    }

    /// A complete list of `resource` begins. `distrust` says that its versions cannot be compared
    /// with those known.
    pub(crate) fn begin_list(&mut self, resource: Resource, distrust: bool) {
        let known = &mut self.known[resource as usize];
        if distrust {
            known.distrust_versions();
        }
        known.begin_list();
    }

    /// `object` exists. `received` is when its first byte was read.
    pub(crate) fn put(&mut self, resource: Resource, object: &Object<'_>, received: Instant) {
        let identity = object.identity();
        let name = object.name();
        let version = version(identity.uid, identity.resource_version);
        let known = &mut self.known[resource as usize];
        let news = known.put(&name, version);
        self.status.undecodable(resource, known.undecodable_now());
        if news == News::Unchanged {
            return;
        }
        self.recorder.put(resource, &name, object);
        self.pending.begin(received);
        let slice = self.converter.put(&name, object, news == News::Changed, &mut self.pending.changes);
        match object {
            Object::ServiceCidr(cidr) => {
                self.networks.insert(name, convert::networks(cidr));
                self.pending.networks_changed = true;
            }
            Object::EndpointSlice(wire) => {
                slice.inspect(|slice| self.note_trigger(slice, &wire.metadata));
            }
            _ => {}
        }
        self.pending.changes.compact();
    }

    /// `object` is gone.
    pub(crate) fn remove(&mut self, resource: Resource, object: &Object<'_>, received: Instant) {
        let name = object.name();
        if let Object::EndpointSlice(slice) = object
            && let Some(service) = convert::owner(name.namespace(), &slice.metadata)
        {
            // The removal of a slice takes the times of its Service with it (spec §9.15).
            self.pending.triggers.retain(|trigger| trigger.service != service);
        }
        self.remove_named(resource, name, received);
    }

    /// An object or event could not be decoded. What is known of the object stays, unless it is
    /// gone.
    pub(crate) fn undecodable(&mut self, resource: Resource, undecodable: Undecodable, received: Instant) {
        let Undecodable { name, deleted, message, .. } = undecodable;
        if let (true, Some(name)) = (deleted, &name) {
            self.remove_named(resource, name.clone(), received);
            return;
        }
        let known = &mut self.known[resource as usize];
        known.undecodable(name.as_ref());
        self.status.undecodable(resource, known.undecodable_now());
        let name = name.as_ref().map_or_else(String::new, |name| display(resource, name));
        let known = if name.is_empty() { "an object" } else { name.as_str() };
        tracing::debug!(%resource, name = known, reason = message, "cannot be decoded; what is known of it stays in force");
        self.pending.begin(received);
        self.pending.problems.push(Problem { kind: resource.kind(), name, message });
    }

    /// The list of `resource` that began last is complete: what it did not mention is gone.
    pub(crate) fn finish_list(&mut self, resource: Resource, received: Instant) {
        for name in self.known[resource as usize].finish_list() {
            self.removed(resource, name, received);
        }
        if self.known[resource as usize].uncertain() {
            tracing::warn!(%resource, "the list has an object without a readable name; nothing is counted as removed");
        }
        self.status.undecodable(resource, self.known[resource as usize].undecodable_now());
        self.status.listed(resource);
        let first = !std::mem::replace(&mut self.listed[resource as usize], true);
        if first && resource == Resource::ServiceCidrs {
            // Also none at all is something to know.
            self.pending.begin(received);
            self.pending.networks_changed = true;
        }
        if first && self.all_listed() {
            self.recorder.finish_base();
            self.pending.begin(received);
        }
        if first && resource.has_names() && self.names_complete() {
            self.pending.begin(received);
        }
    }

    /// Whether only another list can show which objects of `resource` there are.
    pub(crate) fn uncertain(&self, resource: Resource) -> bool {
        self.known[resource as usize].uncertain()
    }

    /// How many objects of `resource` are known.
    pub(crate) fn count(&self, resource: Resource) -> usize {
        self.known[resource as usize].len()
    }

    /// Whether the lists that the proxy cannot begin without are complete (spec §9.6).
    pub(crate) fn all_listed(&self) -> bool {
        Resource::ALL.into_iter().all(|resource| !resource.required() || self.listed[resource as usize])
    }

    /// Whether all is known that names come from.
    fn names_complete(&self) -> bool {
        let needed = |resource: &Resource| resource.has_names() && resource.is_followed(self.followed);
        let mut needed = Resource::ALL.into_iter().filter(needed);
        self.followed.names && (self.names_restored || needed.all(|resource| self.listed[resource as usize]))
    }

    /// What is to be delivered, if anything is: nothing until the first lists are complete.
    pub(crate) fn take(&mut self) -> Option<Update> {
        if !self.all_listed() {
            return None;
        }
        let received = self.pending.received?;
        let origin = if self.initial_done { Origin::Change } else { Origin::Initial };
        if !self.initial_done {
            self.initial_done = true;
            self.status.snapshot(None);
        }
        Some(self.deliver(origin, received))
    }

    /// The last good state, if there is one: what is known only from it, and what has been heard so
    /// far. Of a resource that has been listed, what has been heard is all.
    pub(crate) fn take_snapshot(&mut self) -> Option<Update> {
        let heard = std::mem::take(&mut self.pending);
        let now = Instant::now();
        let (mut objects, mut namespaces) = (0, 0);
        let Collector { recorder, followed, known, converter, networks, listed, pending, .. } = self;
        let loaded = recorder.load(|resource, json| {
            if listed[resource as usize] || !resource.is_followed(*followed) {
                return false;
            }
            let object = match crate::decode::object(resource, json) {
                Ok(object) => object,
                Err(undecodable) => {
                    tracing::warn!(%resource, reason = undecodable.message, "an object of the snapshot cannot be decoded");
                    return false;
                }
            };
            let (name, identity) = (object.name(), object.identity());
            let known = &mut known[resource as usize];
            if known.contains(&name) {
                return false;
            }
            // As if it had been in a list before the one that may be under way.
            known.put_earlier(&name, version(identity.uid, identity.resource_version));
            objects += 1;
            namespaces += usize::from(resource == Resource::Namespaces);
            converter.put(&name, &object, false, &mut pending.changes);
            if let Object::ServiceCidr(cidr) = &object {
                networks.insert(name, convert::networks(cidr));
                pending.networks_changed = true;
            }
            true
        });
        let Some(Loaded { taken, whole, .. }) = loaded else {
            self.pending = heard;
            return None;
        };
        if !whole {
            // The same version from the API server says more.
            let unlisted = known.iter_mut().zip(*listed).filter(|(_, listed)| !listed);
            unlisted.for_each(|(known, _)| known.distrust_versions());
        }
        tracing::debug!(objects, taken = %timestamp(taken), "the API server has not answered; starting from the last good state");
        // Every cluster has namespaces: without any, who wrote it did not follow names.
        self.names_restored = namespaces > 0;
        self.status.snapshot(Some(taken));
        self.pending.begin(heard.received.unwrap_or(now));
        self.pending.changes.extend(heard.changes);
        self.pending.problems.extend(heard.problems);
        self.pending.networks_changed |= heard.networks_changed;
        Some(self.deliver(Origin::Snapshot { taken }, now))
    }

    fn deliver(&mut self, origin: Origin, received: Instant) -> Update {
        let Pending { changes, networks_changed, triggers, problems, .. } = std::mem::take(&mut self.pending);
        let names_complete = self.names_complete();
        let service_networks = networks_changed.then(|| {
            let mut networks: Vec<IpNet> = self.networks.values().flatten().copied().collect();
            networks.sort_unstable();
            networks.dedup();
            networks
        });
        let Changes { objects: changes, names, .. } = changes;
        Update { changes, names, names_complete, service_networks, triggers, received, origin, problems }
    }

    fn remove_named(&mut self, resource: Resource, name: ObjectName, received: Instant) {
        let known = &mut self.known[resource as usize];
        let was_in_force = known.remove(&name);
        self.status.undecodable(resource, known.undecodable_now());
        if was_in_force {
            self.removed(resource, name, received);
        }
    }

    /// What was in force under `name` is gone.
    fn removed(&mut self, resource: Resource, name: ObjectName, received: Instant) {
        self.recorder.remove(resource, &name);
        self.pending.begin(received);
        if resource == Resource::ServiceCidrs {
            self.networks.remove(&name);
            self.pending.networks_changed = true;
        }
        self.converter.removed(resource, name, &mut self.pending.changes);
        self.pending.changes.compact();
    }

    fn note_trigger(&mut self, slice: &EndpointSlice, metadata: &crate::wire::Metadata<'_>) {
        // What led to the state at the start did not wait for this proxy.
        if !self.initial_done {
            return;
        }
        let time =
            metadata.annotations.trigger_time.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
        let time = time.map(SystemTime::from).filter(|time| *time > self.started);
        let trigger = |at| EndpointsTrigger { service: slice.service.clone(), family: slice.family, at };
        self.pending.triggers.extend(time.map(trigger));
    }
}

impl Pending {
    fn begin(&mut self, received: Instant) {
        self.received = Some(self.received.map_or(received, |earlier| earlier.min(received)));
    }
}

/// `name` as people write it.
fn display(resource: Resource, name: &ObjectName) -> String {
    if resource.is_namespaced() { name.to_string() } else { name.name().to_owned() }
}

fn timestamp(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|error| error.to_string(), |time| time.to_string())
}

//! What only names for Services come from: Namespaces, pods with their addresses, and slices of
//! names.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::mem;
use std::sync::Arc;

use portolan_service::{Family, NamesChange, Namespace, ObjectName, Pod, further};

use crate::declared::{Key, Kind, Labels, Object, Slice};

/// Those that every cluster has.
const ALWAYS: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// The label by which each Namespace has its name. An API server sets it.
const NAME: &str = "kubernetes.io/metadata.name";

/// What only names come from, and what of it has changed.
#[derive(Debug)]
pub(super) struct NamesOnly {
    /// Namespaces that are declared, with their labels.
    declared: HashMap<Arc<str>, Labels>,
    /// All objects that are in namespaces, and how many are in each.
    objects: HashSet<Key>,
    within: HashMap<Arc<str>, usize>,
    /// Namespaces that exist.
    emitted: HashMap<Arc<str>, Namespace>,
    /// Namespaces that may be different.
    touched: BTreeSet<Arc<str>>,
    /// Slices with endpoints that have several addresses.
    with_further: HashSet<ObjectName>,
    /// Slices of type FQDN.
    with_targets: HashSet<ObjectName>,
    changes: Vec<NamesChange>,
}

impl NamesOnly {
    /// What there is without any manifest.
    pub(super) fn new() -> NamesOnly {
        NamesOnly {
            declared: HashMap::new(),
            objects: HashSet::new(),
            within: HashMap::new(),
            emitted: HashMap::new(),
            touched: ALWAYS.iter().map(|name| Arc::from(*name)).collect(),
            with_further: HashSet::new(),
            with_targets: HashSet::new(),
            changes: Vec::new(),
        }
    }

    /// The object called `key` is now `object`, or gone.
    pub(super) fn set(&mut self, key: &Key, object: Option<&Object>) {
        self.count(key, object.is_some());
        let name = &key.name;
        match (key.kind, object) {
            (Kind::Namespace, object) => {
                let namespace: Arc<str> = name.name().into();
                match object {
                    Some(Object::Namespace(labels)) => {
                        drop(self.declared.insert(namespace.clone(), labels.clone()));
                    }
                    _ => drop(self.declared.remove(&namespace)),
                }
                self.touched.insert(namespace);
            }
            (Kind::Pod, Some(Object::Pod(pod, phase, _))) => {
                let addresses = Family::ALL.into_iter().filter_map(|family| *pod.addresses.get(family));
                self.changes.push(NamesChange::Pod(Pod {
                    name: name.clone(),
                    addresses: addresses.collect(),
                    phase: *phase,
                    leaving: pod.terminating,
                }));
            }
            (Kind::Pod, _) => self.changes.push(NamesChange::PodRemoved(name.clone())),
            (Kind::EndpointSlice, object) => {
                let (more, targets) = match object {
                    Some(Object::EndpointSlice(Slice::Addresses { further, .. })) => (further.clone(), None),
                    Some(Object::EndpointSlice(Slice::Targets(targets))) => (None, Some(targets.clone())),
                    _ => (None, None),
                };
                match more {
                    Some(slice) => {
                        self.with_further.insert(name.clone());
                        self.changes.push(NamesChange::Further(slice));
                    }
                    None if self.with_further.remove(name) => {
                        self.changes.push(NamesChange::FurtherRemoved(further(name)));
                    }
                    None => {}
                }
                match targets {
                    Some(slice) => {
                        self.with_targets.insert(name.clone());
                        self.changes.push(NamesChange::Targets(slice));
                    }
                    None if self.with_targets.remove(name) => {
                        self.changes.push(NamesChange::TargetsRemoved(name.clone()));
                    }
                    None => {}
                }
            }
            _ => {}
        }
    }

    /// What has changed since the last call, each object once.
    pub(super) fn take(&mut self) -> Vec<NamesChange> {
        for name in mem::take(&mut self.touched) {
            let exists = self.declared.contains_key(&name)
                || self.within.contains_key(&name)
                || ALWAYS.contains(&&*name);
            if !exists {
                if self.emitted.remove(&name).is_some() {
                    self.changes.push(NamesChange::NamespaceRemoved(name));
                }
                continue;
            }
            let declared = self.declared.get(&name).into_iter().flat_map(|labels| labels.iter().cloned());
            let mut labels: Vec<_> = declared.filter(|(key, _)| **key != *NAME).collect();
            labels.push((NAME.into(), (*name).into()));
            let namespace = Namespace { name: name.clone(), labels: labels.into() };
            if self.emitted.get(&name) != Some(&namespace) {
                self.emitted.insert(name, namespace.clone());
                self.changes.push(NamesChange::Namespace(namespace));
            }
        }
        NamesChange::keep_last(&mut self.changes);
        mem::take(&mut self.changes)
    }

    /// Counts the objects of a namespace: it exists as long as there are any.
    fn count(&mut self, key: &Key, is_there: bool) {
        let namespace: Arc<str> = key.name.namespace().into();
        if namespace.is_empty() {
            return;
        }
        if is_there {
            if self.objects.insert(key.clone()) {
                let count = self.within.entry(namespace.clone()).or_default();
                *count += 1;
                if *count == 1 {
                    self.touched.insert(namespace);
                }
            }
        } else if self.objects.remove(key)
            && let Some(count) = self.within.get_mut(&namespace)
        {
            *count -= 1;
            if *count == 0 {
                self.within.remove(&namespace);
                self.touched.insert(namespace);
            }
        }
    }
}

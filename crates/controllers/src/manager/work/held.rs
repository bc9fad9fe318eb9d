//! The objects, as they are found: by name, by owner, by namespace. A change makes controllers
//! due.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::job::{Job, Key, Name};
use crate::manager::batch_job::BatchJob;
use crate::manager::daemon_set::DaemonSet;
use crate::manager::deployment::Deployment;
use crate::manager::endpoint_slices::{EndpointSlice, Service};
use crate::manager::history::ControllerRevision;
use crate::manager::namespace::Namespace;
use crate::manager::node_lifecycle::Lease;
use crate::manager::object::{Anything, Object, OwnerReference, Unreadable};
use crate::manager::placement::Node;
use crate::manager::pod::Pod;
use crate::manager::replica_set::{ReplicaSet, ReplicationController};
use crate::manager::selector::Selects as _;
use crate::manager::stateful_set::StatefulSet;

/// All objects.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) anything: BTreeMap<Key, Anything>,
    pub(super) pods: BTreeMap<Name, Pod>,
    pub(super) replica_sets: BTreeMap<Name, ReplicaSet>,
    pub(super) replication_controllers: BTreeMap<Name, ReplicationController>,
    pub(super) deployments: BTreeMap<Name, Deployment>,
    pub(super) stateful_sets: BTreeMap<Name, StatefulSet>,
    pub(super) daemon_sets: BTreeMap<Name, DaemonSet>,
    pub(super) batch_jobs: BTreeMap<Name, BatchJob>,
    revisions: BTreeMap<Name, ControllerRevision>,
    pub(super) services: BTreeMap<Name, Service>,
    pub(super) slices: BTreeMap<Name, EndpointSlice>,
    pub(super) endpoints: BTreeMap<Name, Value>,
    pub(super) nodes: BTreeMap<Name, Node>,
    pub(super) leases: BTreeMap<Name, Lease>,
    pub(super) namespaces: BTreeMap<Name, Namespace>,
    /// What refers to an owner, by its uid.
    owned: HashMap<String, BTreeSet<Key>>,
    /// What nobody manages: namespace, kind and name.
    orphans: BTreeSet<(String, String, String)>,
    uids: HashMap<String, Key>,
}

/// What is in a namespace.
pub(super) fn within<'a, T>(all: &'a BTreeMap<Name, T>, namespace: &str) -> impl Iterator<Item = &'a T> {
    let from = (namespace.to_owned(), String::new());
    let namespace = namespace.to_owned();
    all.range(from..).take_while(move |((found, _), _)| *found == namespace).map(|(_, object)| object)
}

impl Held {
    pub(super) fn set(&mut self, object: &Value, due: &mut BTreeSet<Job>) -> Result<(), Unreadable> {
        let meta = Anything::read(object)?;
        let key = (meta.kind.clone(), meta.namespace().to_owned(), meta.name().to_owned());
        let before = self.anything.get(&key);
        if before.is_some_and(|before| before.uid() != meta.uid()) {
            // Another object under the name of one whose end nobody has seen.
            self.remove(&key, due);
        }
        self.touch(&key, due);
        self.unindex(&key);
        self.index(&key, meta);
        let put = self.put(&key, object);
        if put.is_err() {
            self.take(&key);
        }
        self.touch(&key, due);
        put
    }

    pub(super) fn remove(&mut self, key: &Key, due: &mut BTreeSet<Job>) {
        let Some(object) = self.anything.get(key) else { return };
        let (uid, owners) = (object.uid().to_owned(), object.owners().to_vec());
        self.touch(key, due);
        match key.0.as_str() {
            "Pod" => due.extend([Job::Schedule]),
            "Node" => due.extend([Job::LostPods]),
            _ => {}
        }
        self.unindex(key);
        self.take(key);
        // What it owned may be garbage now, and an owner may have waited for it.
        due.extend(self.owned.get(&uid).into_iter().flatten().cloned().map(Job::Garbage));
        let owners = owners.iter().filter_map(|owner| self.uids.get(&owner.uid));
        due.extend(owners.cloned().map(Job::Garbage));
    }

    fn index(&mut self, key: &Key, meta: Anything) {
        for owner in meta.owners() {
            self.owned.entry(owner.uid.clone()).or_default().insert(key.clone());
        }
        if meta.controller().is_none() {
            self.orphans.insert((key.1.clone(), key.0.clone(), key.2.clone()));
        }
        self.uids.insert(meta.uid().to_owned(), key.clone());
        self.anything.insert(key.clone(), meta);
    }

    fn unindex(&mut self, key: &Key) {
        let Some(meta) = self.anything.remove(key) else { return };
        for owner in meta.owners() {
            if let Some(owned) = self.owned.get_mut(&owner.uid) {
                owned.remove(key);
                if owned.is_empty() {
                    self.owned.remove(&owner.uid);
                }
            }
        }
        self.orphans.remove(&(key.1.clone(), key.0.clone(), key.2.clone()));
        self.uids.remove(meta.uid());
    }

    /// Keeps an object as what its kind is.
    fn put(&mut self, key: &Key, object: &Value) -> Result<(), Unreadable> {
        let name = (key.1.clone(), key.2.clone());
        match key.0.as_str() {
            "Pod" => drop(self.pods.insert(name, Object::read(object)?)),
            "ReplicaSet" => drop(self.replica_sets.insert(name, Object::read(object)?)),
            "ReplicationController" => {
                drop(self.replication_controllers.insert(name, Object::read(object)?));
            }
            "Deployment" => drop(self.deployments.insert(name, Object::read(object)?)),
            "StatefulSet" => drop(self.stateful_sets.insert(name, Object::read(object)?)),
            "DaemonSet" => drop(self.daemon_sets.insert(name, Object::read(object)?)),
            "Job" => drop(self.batch_jobs.insert(name, Object::read(object)?)),
            "ControllerRevision" => drop(self.revisions.insert(name, ControllerRevision::read(object)?)),
            "Service" => drop(self.services.insert(name, Object::read(object)?)),
            "EndpointSlice" => drop(self.slices.insert(name, EndpointSlice::read(object)?)),
            "Endpoints" => drop(self.endpoints.insert(name, object.clone())),
            "Node" => drop(self.nodes.insert(name, Object::read(object)?)),
            "Lease" => drop(self.leases.insert(name, Object::read(object)?)),
            "Namespace" => drop(self.namespaces.insert(name, Object::read(object)?)),
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, key: &Key) {
        let name = (key.1.clone(), key.2.clone());
        match key.0.as_str() {
            "Pod" => drop(self.pods.remove(&name)),
            "ReplicaSet" => drop(self.replica_sets.remove(&name)),
            "ReplicationController" => drop(self.replication_controllers.remove(&name)),
            "Deployment" => drop(self.deployments.remove(&name)),
            "StatefulSet" => drop(self.stateful_sets.remove(&name)),
            "DaemonSet" => drop(self.daemon_sets.remove(&name)),
            "Job" => drop(self.batch_jobs.remove(&name)),
            "ControllerRevision" => drop(self.revisions.remove(&name)),
            "Service" => drop(self.services.remove(&name)),
            "EndpointSlice" => drop(self.slices.remove(&name)),
            "Endpoints" => drop(self.endpoints.remove(&name)),
            "Node" => drop(self.nodes.remove(&name)),
            "Lease" => drop(self.leases.remove(&name)),
            "Namespace" => drop(self.namespaces.remove(&name)),
            _ => {}
        }
    }

    /// Makes due what looks at an object as it is held.
    fn touch(&self, key: &Key, due: &mut BTreeSet<Job>) {
        let Some(object) = self.anything.get(key) else { return };
        let name = (key.1.clone(), key.2.clone());
        if !object.owners().is_empty() || object.is_deleting() {
            due.insert(Job::Garbage(key.clone()));
        }
        if object.is_deleting() {
            due.extend(self.owned.get(object.uid()).into_iter().flatten().cloned().map(Job::Garbage));
        }
        let namespace = self.namespaces.get(&(String::new(), key.1.clone()));
        if namespace.is_some_and(Object::is_deleting) || key.0 == "ServiceAccount" {
            due.insert(Job::Namespace(key.1.clone()));
        }
        due.extend(object.controller().and_then(|owner| job_of(&owner.kind, &key.1, &owner.name)));
        due.extend(job_of(&key.0, &key.1, &key.2));
        match key.0.as_str() {
            "Pod" => due.extend(self.pods.get(&name).into_iter().flat_map(|pod| self.of_pod(pod))),
            "ReplicaSet" if object.controller().is_none() => {
                let deployments = within(&self.deployments, &key.1);
                let selecting = deployments.filter(|found| found.selects(object.labels()));
                due.extend(selecting.filter_map(|found| job_of("Deployment", &key.1, found.name())));
            }
            "EndpointSlice" => {
                let service = self.slices.get(&name).and_then(EndpointSlice::service);
                due.extend(service.map(|service| Job::Endpoints((key.1.clone(), service.to_owned()))));
            }
            "Node" => {
                due.extend([Job::Schedule, Job::NodeLifecycle(key.2.clone())]);
                due.extend(self.daemon_sets.keys().cloned().map(Job::DaemonSet));
                let pods = self.pods.values().filter(|pod| pod.spec.node_name == key.2);
                due.extend(pods.flat_map(|pod| self.services_of(pod)));
            }
            _ => {}
        }
    }

    fn services_of(&self, pod: &Pod) -> impl Iterator<Item = Job> {
        let services = within(&self.services, pod.namespace()).filter(|service| service.selects(pod));
        services.map(|service| Job::Endpoints((service.namespace().to_owned(), service.name().to_owned())))
    }

    fn of_pod(&self, pod: &Pod) -> Vec<Job> {
        let mut jobs: Vec<Job> = self.services_of(pod).collect();
        let (namespace, labels) = (pod.namespace(), pod.labels());
        if pod.spec.node_name.is_empty() {
            jobs.push(Job::Schedule);
        } else {
            jobs.push(Job::NodeLifecycle(pod.spec.node_name.clone()));
        }
        if let Some(owner) = pod.controller() {
            let set = self.replica_sets.get(&(namespace.to_owned(), owner.name.clone()));
            let above = set.and_then(Object::controller);
            jobs.extend(above.and_then(|above| job_of(&above.kind, namespace, &above.name)));
            return jobs;
        }
        let select = |kind: &'static str, name: &str, selects: bool| {
            if selects { job_of(kind, namespace, name) } else { None }
        };
        jobs.extend(
            within(&self.replica_sets, namespace)
                .filter_map(|found| select("ReplicaSet", found.name(), found.spec.selector.selects(labels))),
        );
        jobs.extend(within(&self.replication_controllers, namespace).filter_map(|found| {
            select("ReplicationController", found.name(), found.spec.selector.selects(labels))
        }));
        jobs.extend(
            within(&self.stateful_sets, namespace)
                .filter_map(|found| select("StatefulSet", found.name(), found.selects(labels))),
        );
        jobs.extend(
            within(&self.daemon_sets, namespace)
                .filter_map(|found| select("DaemonSet", found.name(), found.selects(labels))),
        );
        jobs.extend(
            within(&self.batch_jobs, namespace)
                .filter_map(|found| select("Job", found.name(), found.spec.selector.selects(labels))),
        );
        jobs
    }

    /// What refers to an owner.
    pub(super) fn owned_by(&self, uid: &str) -> impl Iterator<Item = &Anything> {
        self.owned.get(uid).into_iter().flatten().filter_map(|key| self.anything.get(key))
    }

    /// The object that a reference of `object` means.
    pub(super) fn owner(&self, object: &Anything, owner: &OwnerReference) -> Option<&Anything> {
        let find = |namespace: &str| {
            self.anything.get(&(owner.kind.clone(), namespace.to_owned(), owner.name.clone()))
        };
        find(object.namespace()).or_else(|| find(""))
    }

    /// Names of what an owner manages, and of what nobody does in its namespace.
    pub(super) fn candidates(&self, uid: &str, kind: &str, namespace: &str) -> impl Iterator<Item = Name> {
        let owned = self.owned.get(uid).into_iter().flatten().filter(move |key| key.0 == kind);
        let owned: BTreeSet<Name> = owned.map(|key| (key.1.clone(), key.2.clone())).collect();
        let from = (namespace.to_owned(), kind.to_owned(), String::new());
        let orphans = self.orphans.range(from..);
        let orphans = orphans.take_while(move |orphan| orphan.0 == namespace && orphan.1 == kind);
        let orphans = orphans.map(|orphan| (orphan.0.clone(), orphan.2.clone()));
        let orphans: Vec<Name> = orphans.filter(|name| !owned.contains(name)).collect();
        owned.into_iter().chain(orphans)
    }

    /// Pods that an owner manages, and those of its namespace that nobody does.
    pub(super) fn candidate_pods(&self, uid: &str, namespace: &str) -> Vec<&Pod> {
        self.candidates(uid, "Pod", namespace).filter_map(|name| self.pods.get(&name)).collect()
    }

    /// Records that an owner manages, and those of its namespace that nobody does.
    pub(super) fn candidate_revisions(&self, uid: &str, namespace: &str) -> Vec<&ControllerRevision> {
        let names = self.candidates(uid, "ControllerRevision", namespace);
        names.filter_map(|name| self.revisions.get(&name)).collect()
    }

    /// The pods that an owner manages.
    pub(super) fn pods_of(&self, uid: &str) -> impl Iterator<Item = &Pod> {
        let owned = self.owned.get(uid).into_iter().flatten().filter(|key| key.0 == "Pod");
        owned.filter_map(|key| self.pods.get(&(key.1.clone(), key.2.clone())))
    }
}

/// The controller for objects of a kind.
fn job_of(kind: &str, namespace: &str, name: &str) -> Option<Job> {
    let of = |job: fn(Name) -> Job| Some(job((namespace.to_owned(), name.to_owned())));
    match kind {
        "Deployment" => of(Job::Deployment),
        "ReplicaSet" => of(Job::ReplicaSet),
        "ReplicationController" => of(Job::ReplicationController),
        "StatefulSet" => of(Job::StatefulSet),
        "DaemonSet" => of(Job::DaemonSet),
        "Job" => of(Job::BatchJob),
        "Service" | "Endpoints" => of(Job::Endpoints),
        "Namespace" => Some(Job::Namespace(name.to_owned())),
        _ => None,
    }
}

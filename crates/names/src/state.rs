//! The zone data, and how changes of objects change it.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use portolan_service::{Change, NamesChange, ObjectName, Service};

use crate::index::Hasher;
use crate::namespaces::Namespaces;
use crate::networks::Networks;
use crate::pods::Pods;
use crate::services::Services;
use crate::settings::{Error, Options, PodMode, Settings};
use crate::update::Update;

/// All names, as the objects that were observed so far make them.
///
/// Answers depend on the objects and not on the order in which they came. A change costs as much as
/// the object that changed.
#[derive(Debug, Clone)]
pub struct Names {
    pub(crate) options: Arc<Options>,
    pub(crate) hasher: Hasher,
    pub(crate) services: Services,
    pub(crate) namespaces: Namespaces,
    pub(crate) pods: Pods,
    pub(crate) networks: Networks,
    /// Unix time of the last change.
    pub(crate) serial: u32,
    pub(crate) synced: bool,
}

impl Names {
    /// No names yet. `seed` is a random number, so that nobody can choose names that collide.
    pub fn new(settings: Settings, seed: u64) -> Result<Names, Error> {
        let hasher = Hasher::new(seed);
        let networks = Networks::new(&settings.own_networks);
        let services = Services::new(hasher, settings.endpoint_pod_names);
        let options = Arc::new(Options::new(settings)?);
        Ok(Names {
            options,
            hasher,
            services,
            namespaces: Namespaces::new(hasher),
            pods: Pods::new(hasher),
            networks,
            serial: 0,
            synced: false,
        })
    }

    /// Takes changes that became known at `now`, Unix time in seconds, which becomes the zone's
    /// serial if anything is different.
    pub fn apply(&mut self, updates: impl IntoIterator<Item = Update>, now: u32) {
        let mut different = false;
        for update in updates {
            different |= self.update(update);
        }
        if different {
            self.serial = now;
        }
    }

    /// The cluster's networks are those of its nodes, those of the settings, and these: nobody else
    /// is asked for names of addresses there.
    pub fn set_service_networks(&mut self, networks: &[IpNet]) {
        self.networks.set_node(&"".into(), networks);
    }

    /// The server's own addresses are these from now on, in place of those of the settings.
    pub fn set_own_addresses(&mut self, addresses: Vec<IpAddr>) {
        // Shared with nobody but what it was cloned for.
        Arc::make_mut(&mut self.options).settings.own_addresses = addresses;
    }

    /// The Service of this name, as it was given.
    pub fn service_object(&self, name: &ObjectName) -> Option<&Arc<Service>> {
        self.services.service(name)
    }

    /// All objects that there are have been given: from now on absent names are absent. Before,
    /// every answer is SERVFAIL (spec §2).
    pub fn set_synced(&mut self) {
        self.synced = true;
    }

    /// Whether all objects have been given.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.options.settings
    }

    /// Takes one step. Returns whether anything is different.
    fn update(&mut self, update: Update) -> bool {
        match update {
            Update::Object(change) => self.object(change),
            Update::Names(change) => self.names_only(change),
        }
    }

    fn names_only(&mut self, change: NamesChange) -> bool {
        match change {
            NamesChange::Namespace(namespace) => self.namespaces.set(namespace, &self.options),
            NamesChange::NamespaceRemoved(name) => self.namespaces.remove(&name, &self.options),
            NamesChange::Pod(pod) => {
                let settings = &self.options.settings;
                let known = settings.pods == PodMode::Verified || settings.search.is_some();
                known && self.pods.set(&pod)
            }
            NamesChange::PodRemoved(name) => self.pods.remove(&name),
            NamesChange::Targets(slice) => self.services.set_targets(slice),
            NamesChange::TargetsRemoved(name) => self.services.remove_targets(&name),
            NamesChange::Further(slice) => self.services.set_slice(&slice),
            NamesChange::FurtherRemoved(name) => self.services.remove_slice(&name),
        }
    }

    fn object(&mut self, change: Change) -> bool {
        match change {
            Change::Service(service) => {
                let name = service.name.clone();
                let existed = self.services.set(&service);
                if existed == Some(false) {
                    self.namespaces.add_service(name.namespace(), &self.options);
                }
                existed.is_some()
            }
            Change::ServiceRemoved(name) => {
                let existed = self.services.remove(&name);
                if existed {
                    self.namespaces.remove_service(name.namespace(), &self.options);
                }
                existed
            }
            Change::Slice(slice) => self.services.set_slice(&slice),
            Change::SliceRemoved(name) => self.services.remove_slice(&name),
            // Nodes have no names here.
            Change::Node(node) => {
                self.networks.set_node(&node.name, &node.pod_cidrs);
                false
            }
            Change::NodeRemoved(name) => {
                self.networks.remove_node(&name);
                false
            }
        }
    }
}

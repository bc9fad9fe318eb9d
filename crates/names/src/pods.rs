//! Pods by namespace and address, for names that are verified.

use std::net::IpAddr;

use portolan_service::{ObjectName, Pod};

use crate::index::{Hasher, Index, Slab, octets};
use crate::wire::LABEL_MAX;

#[derive(Debug, Clone)]
struct Entry {
    name: ObjectName,
    addresses: Box<[IpAddr]>,
}

/// The pods that give names.
#[derive(Debug, Clone)]
pub(crate) struct Pods {
    hasher: Hasher,
    entries: Slab<Entry>,
    by_name: Index<u32>,
    by_address: Index<u32>,
}

impl Pods {
    pub(crate) fn new(hasher: Hasher) -> Pods {
        Pods { hasher, entries: Slab::new(), by_name: Index::new(), by_address: Index::new() }
    }

    /// Whether a pod of the namespace of this label, in lower case, has the address.
    pub(crate) fn has(&self, namespace: &[u8], address: IpAddr) -> bool {
        let found = self.by_address.find(self.hash_of_address(namespace, address));
        found.filter_map(|at| self.entries.get(at)).any(|pod| {
            pod.addresses.contains(&address)
                && pod.name.namespace().as_bytes().eq_ignore_ascii_case(namespace)
        })
    }

    /// Takes a Pod. Returns whether anything is different.
    pub(crate) fn set(&mut self, pod: &Pod) -> bool {
        if !pod.is_listed() || pod.addresses.is_empty() {
            return self.remove(&pod.name);
        }
        if let Some(at) = self.entry_at(&pod.name) {
            if self.entries.get(at).is_some_and(|known| *known.addresses == *pod.addresses) {
                return false;
            }
            self.remove(&pod.name);
        }
        let mut addresses = pod.addresses.clone();
        addresses.dedup();
        let entry = Entry { name: pod.name.clone(), addresses: addresses.into() };
        let at = self.entries.insert(entry.clone());
        self.by_name.insert(self.hasher.of(pod.name.as_str().as_bytes()), at);
        for address in &entry.addresses {
            let hash = self.hash_of_address(entry.name.namespace().as_bytes(), *address);
            self.by_address.insert(hash, at);
        }
        true
    }

    /// Removes a Pod. Returns whether it was there.
    pub(crate) fn remove(&mut self, name: &ObjectName) -> bool {
        let Some(at) = self.entry_at(name) else { return false };
        self.by_name.remove(self.hasher.of(name.as_str().as_bytes()), at);
        if let Some(pod) = self.entries.remove(at) {
            for address in &pod.addresses {
                let hash = self.hash_of_address(name.namespace().as_bytes(), *address);
                self.by_address.remove(hash, at);
            }
        }
        true
    }

    fn entry_at(&self, name: &ObjectName) -> Option<u32> {
        let mut found = self.by_name.find(self.hasher.of(name.as_str().as_bytes()));
        found.find(|at| self.entries.get(*at).is_some_and(|pod| pod.name == *name))
    }

    fn hash_of_address(&self, namespace: &[u8], address: IpAddr) -> u32 {
        let mut key = [0; 16 + LABEL_MAX];
        let length = namespace.len().min(LABEL_MAX);
        key[..16].copy_from_slice(&octets(address));
        key[16..16 + length].copy_from_slice(&namespace[..length]);
        key[16..].make_ascii_lowercase();
        self.hasher.of(&key[..16 + length])
    }
}

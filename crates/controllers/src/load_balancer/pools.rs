//! The pools, and which of them a Service may have addresses of.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use portolan_service::AddressPool;

use crate::Labels;

/// The label by which each namespace has its name. An API server sets it.
const NAMESPACE: &str = "kubernetes.io/metadata.name";

/// The pools, in order.
#[derive(Debug, Default)]
pub(super) struct Pools {
    list: Vec<Arc<AddressPool>>,
    /// Labels of the namespaces that have some.
    namespaces: HashMap<String, Labels>,
}

impl Pools {
    /// Puts `pools` in the place of those before. Of two with the same name or an address in
    /// common, the first is used. Returns what is wrong with the others.
    pub(super) fn replace(&mut self, pools: Vec<AddressPool>) -> Vec<String> {
        let mut wrong = Vec::new();
        self.list.clear();
        for pool in pools {
            let name = &pool.name;
            if self.get(name).is_some() {
                wrong.push(format!("pool {name} is there twice, and the second is not used; rename it"));
            } else if let Some(other) = self.list.iter().find(|other| other.overlaps(&pool)) {
                let other = &other.name;
                wrong.push(format!(
                    "pool {name} has addresses that pool {other} has, and is not used; leave them out of one"
                ));
            } else {
                self.list.push(Arc::new(pool));
            }
        }
        wrong
    }

    /// `labels` are now those of `namespace`. Returns whether that may matter for any pool.
    pub(super) fn set_namespace(&mut self, namespace: &str, labels: Option<Labels>) -> bool {
        let labels = labels.filter(|labels| !labels.is_empty());
        let old = match labels.clone() {
            Some(labels) => self.namespaces.insert(namespace.to_owned(), labels),
            None => self.namespaces.remove(namespace),
        };
        let by_labels = |pool: &Arc<AddressPool>| {
            pool.allocation.as_ref().is_some_and(|allocation| !allocation.namespace_selectors.is_empty())
        };
        old != labels && self.list.iter().any(by_labels)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<AddressPool>> {
        self.list.iter().find(|pool| &*pool.name == name)
    }

    /// The pool that `address` is of.
    pub(super) fn of(&self, address: IpAddr) -> Option<&Arc<AddressPool>> {
        self.list.iter().find(|pool| pool.contains(address))
    }

    /// Whether a Service in `namespace` with `labels` may have addresses of `pool`.
    pub(super) fn serves(&self, pool: &AddressPool, namespace: &str, labels: &Labels) -> bool {
        let Some(allocation) = &pool.allocation else { return true };
        let any_namespace = allocation.namespaces.is_empty() && allocation.namespace_selectors.is_empty();
        let selected = || {
            let mut labels = self.namespaces.get(namespace).cloned().unwrap_or_default();
            labels.entry(NAMESPACE.to_owned()).or_insert_with(|| namespace.to_owned());
            allocation.namespace_selectors.iter().any(|selector| selector.selects(&labels))
        };
        let in_namespace = any_namespace || allocation.namespaces.contains(namespace) || selected();
        let selectors = &allocation.service_selectors;
        in_namespace && (selectors.is_empty() || selectors.iter().any(|selector| selector.selects(labels)))
    }

    /// The pools that a Service which asks for none may have addresses of, the best first: those
    /// for certain Services by their priority, then those for all.
    pub(super) fn automatic(&self, namespace: &str, labels: &Labels) -> Vec<Arc<AddressPool>> {
        let fits = |pool: &&Arc<AddressPool>| pool.auto_assign && self.serves(pool, namespace, labels);
        let mut pools: Vec<Arc<AddressPool>> = self.list.iter().filter(fits).cloned().collect();
        pools.sort_by_key(|pool| match &pool.allocation {
            Some(allocation) if allocation.priority > 0 => (0, allocation.priority),
            Some(_) => (1, 0),
            None => (2, 0),
        });
        pools
    }

    /// All of them, for a message.
    pub(super) fn names(&self) -> String {
        let names: Vec<&str> = self.list.iter().map(|pool| &*pool.name).collect();
        names.join(", ")
    }
}

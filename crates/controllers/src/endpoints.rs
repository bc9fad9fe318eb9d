//! The endpoints of Services: of the pods that they select, or as an Endpoints object gives them.

mod mirror;
mod slices;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use portolan_service::{EndpointSlice, Family, Node, ObjectName, PerFamily};

pub use mirror::{Endpoints, Subset};

use crate::labels::{LabelIndex, selects};
use crate::{Issue, Labels, Naming, Pod, ServiceSpec};

/// What endpoints are made of.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pods: HashMap<ObjectName, Arc<Pod>>,
    /// Zones by node.
    zones: HashMap<Arc<str>, Arc<str>>,
    given: HashMap<ObjectName, Arc<Endpoints>>,
    /// Pods by their labels.
    pod_labels: LabelIndex,
    /// Services by one pair of their selector, and that selector.
    selectors: LabelIndex,
    services: HashMap<ObjectName, Selector>,
    pods_of_node: HashMap<Arc<str>, BTreeSet<ObjectName>>,
}

/// The selector of a Service.
#[derive(Debug)]
struct Selector {
    spec: Arc<ServiceSpec>,
    /// The pair under which the Service is indexed.
    indexed: (String, String),
}

impl Sources {
    /// The pods and their addresses.
    pub(crate) fn pods(&self) -> impl Iterator<Item = (&ObjectName, PerFamily<Option<IpAddr>>)> {
        self.pods.iter().map(|(name, pod)| (name, pod.addresses))
    }

    /// What pods say of names.
    pub(crate) fn naming(&self) -> impl Iterator<Item = (&ObjectName, &Arc<Naming>)> {
        self.pods.iter().filter_map(|(name, pod)| Some((name, pod.naming.as_ref()?)))
    }

    /// Returns the Services whose endpoints may be different now.
    pub(crate) fn set_node(&mut self, name: &str, node: Option<&Node>) -> BTreeSet<ObjectName> {
        let zone = node.and_then(|node| node.zone.clone());
        let before = match &zone {
            Some(zone) => self.zones.insert(name.into(), zone.clone()),
            None => self.zones.remove(name),
        };
        if before == zone {
            return BTreeSet::new();
        }
        let pods = self.pods_of_node.get(name).into_iter().flatten();
        pods.flat_map(|pod| self.selecting(pod)).collect()
    }

    /// Returns the Services whose endpoints may be different now.
    pub(crate) fn set_pod(&mut self, name: &ObjectName, pod: Option<Arc<Pod>>) -> BTreeSet<ObjectName> {
        let mut touched: BTreeSet<ObjectName> = self.selecting(name).collect();
        if let Some(old) = self.pods.remove(name) {
            for (key, value) in &old.labels {
                self.pod_labels.remove(name, key, value);
            }
            if let Some(node) = &old.node
                && let Some(pods) = self.pods_of_node.get_mut(node)
            {
                pods.remove(name);
                if pods.is_empty() {
                    self.pods_of_node.remove(node);
                }
            }
        }
        if let Some(pod) = pod {
            for (key, value) in &pod.labels {
                self.pod_labels.insert(name, key, value);
            }
            if let Some(node) = &pod.node {
                self.pods_of_node.entry(node.clone()).or_default().insert(name.clone());
            }
            self.pods.insert(name.clone(), pod);
            touched.extend(self.selecting(name));
        }
        touched
    }

    /// The endpoints that are given for the Service called `name`.
    pub(crate) fn set_given(&mut self, name: &ObjectName, endpoints: Option<Arc<Endpoints>>) {
        match endpoints {
            Some(endpoints) => self.given.insert(name.clone(), endpoints),
            None => self.given.remove(name),
        };
    }

    /// The Service called `name` now selects as `spec` says.
    pub(crate) fn set_service(&mut self, name: &ObjectName, spec: Option<&Arc<ServiceSpec>>) {
        if let Some(Selector { indexed: (key, value), .. }) = self.services.remove(name) {
            self.selectors.remove(name, &key, &value);
        }
        let Some(spec) = spec else { return };
        // Under the pair that the fewest others share, so that few Services are looked at when a
        // pod changes.
        let rarest = spec
            .selector
            .iter()
            .min_by_key(|(key, value)| self.selectors.get(name.namespace(), key, value).len());
        if let Some((key, value)) = rarest {
            let indexed = (key.clone(), value.clone());
            self.selectors.insert(name, key, value);
            self.services.insert(name.clone(), Selector { spec: spec.clone(), indexed });
        }
    }

    /// The Services that select `pod` as it is now.
    fn selecting(&self, pod: &ObjectName) -> impl Iterator<Item = ObjectName> {
        let labels: Option<&Labels> = self.pods.get(pod).map(|pod| &pod.labels);
        labels.into_iter().flat_map(|labels| {
            let indexed =
                labels.iter().flat_map(|(key, value)| self.selectors.get(pod.namespace(), key, value));
            let selecting = indexed.filter(|name| {
                self.services.get(*name).is_some_and(|service| selects(&service.spec.selector, labels))
            });
            selecting.cloned()
        })
    }

    /// The slices for the Service called `name`, which has these `families`.
    pub(crate) fn slices(
        &self,
        name: &ObjectName,
        service: &ServiceSpec,
        families: &[Family],
    ) -> (BTreeMap<ObjectName, EndpointSlice>, Vec<Issue>) {
        let given = self.given.get(name);
        let mut issues = Vec::new();
        let slices = if service.selector.is_empty() {
            given.map(|given| given.slices(name)).unwrap_or_default()
        } else {
            if given.is_some() {
                issues.push(Issue::new(
                    "spec.selector",
                    "the Endpoints object of the same name is not used, because pods are selected; \
                     remove one of the two",
                ));
            }
            let pods = self.pod_labels.smallest(name.namespace(), &service.selector);
            let pods = pods.iter().filter_map(|pod| Some((pod, &**self.pods.get(pod)?)));
            slices::slices(name, service, families, pods, |node| self.zones.get(node).cloned())
        };
        (slices.into_iter().map(|slice| (slice.name.clone(), slice)).collect(), issues)
    }
}

/// The name of a slice made for a Service, not given.
fn generated_name(service: &ObjectName, family: Family, number: usize) -> ObjectName {
    let family = match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    };
    ObjectName::new(service.namespace(), &format!("{}-portolan-{family}-{number}", service.name()))
}

/// Whether slices that are made for Services are called like this, so that none should be given.
pub fn is_generated_name(name: &str) -> bool {
    ["-portolan-ipv4-", "-portolan-ipv6-"].iter().any(|part| {
        name.rsplit_once(part)
            .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

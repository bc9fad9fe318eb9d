//! Objects that every cluster has, whoever deletes them: the certificate that clients trust in each
//! namespace, and what leads to the API server.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use portolan_apiserver::{Objects, Resource};
use serde_json::{Map, Value, json};

/// What is known of the API server.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The certificate that its clients trust, as PEM.
    pub ca_pem: String,
    /// Where it listens. Those of another family or port than the first are left out: an
    /// EndpointSlice has one of each.
    pub api: Vec<SocketAddr>,
}

/// The ConfigMap of each namespace that has the certificate.
const ROOT_CA: &str = "kube-root-ca.crt";
/// The Service of the API server, and what has its name.
const NAME: &str = "kubernetes";
const NAMESPACE: &str = "default";

/// Keeps these objects.
#[derive(Debug)]
pub(super) struct Standing {
    facts: Facts,
    /// Namespaces that are to be looked at.
    due: BTreeSet<String>,
    /// Whether the objects of the API server are to be looked at.
    api_is_due: bool,
    /// The Service, as the API server has made it.
    service: Option<Value>,
}

impl Standing {
    pub(super) fn new(facts: Facts) -> Self {
        Self { facts, due: BTreeSet::new(), api_is_due: true, service: None }
    }

    /// An object is there, as it is now.
    pub(super) fn notice(&mut self, resource: Resource, object: &Value) {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let (namespace, name) = (text("namespace"), text("name"));
        match resource {
            Resource::Namespaces => drop(self.due.insert(name.to_owned())),
            Resource::ConfigMaps if name == ROOT_CA => drop(self.due.insert(namespace.to_owned())),
            Resource::Services | Resource::Endpoints | Resource::EndpointSlices
                if (namespace, name) == (NAMESPACE, NAME) =>
            {
                self.api_is_due = true;
                if resource == Resource::Services && self.service.is_none() {
                    let labels = &object["metadata"]["labels"];
                    self.service = Some(json!({ "apiVersion": "v1", "kind": "Service",
                        "metadata": { "name": NAME, "namespace": NAMESPACE, "labels": labels },
                        "spec": object["spec"] }));
                }
            }
            _ => {}
        }
    }

    /// An object is gone.
    pub(super) fn notice_end(&mut self, resource: Resource, object: &Value) {
        // A namespace that is gone needs nothing.
        if resource != Resource::Namespaces {
            self.notice(resource, object);
        }
    }

    /// Puts right what was noticed. What the server refuses is looked at again when it changes.
    pub(super) fn put(&mut self, objects: &Objects) {
        while let Some(namespace) = self.due.pop_first() {
            let found = objects.get(Resource::Namespaces, "", &namespace);
            if found.is_none_or(|found| found["metadata"]["deletionTimestamp"].is_string()) {
                continue;
            }
            let description = "Contains a CA bundle that can be used to verify the kube-apiserver when using \
                               internal endpoints such as the internal service IP or kubernetes.default.svc. No \
                               other usage is guaranteed across distributions of Kubernetes clusters.";
            keep(
                objects,
                json!({ "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": { "name": ROOT_CA, "namespace": namespace,
                        "annotations": { "kubernetes.io/description": description } },
                    "data": { "ca.crt": self.facts.ca_pem } }),
            );
        }
        if std::mem::take(&mut self.api_is_due) {
            for object in self.service.iter().cloned().chain(self.endpoints()) {
                keep(objects, object);
            }
        }
    }

    /// The EndpointSlice and the Endpoints of the API server.
    fn endpoints(&self) -> Vec<Value> {
        let Some(first) = self.facts.api.first() else { return Vec::new() };
        let alike = |other: &&SocketAddr| (other.is_ipv4(), other.port()) == (first.is_ipv4(), first.port());
        let addresses: Vec<String> =
            self.facts.api.iter().filter(alike).map(|other| other.ip().to_string()).collect();
        let ports = json!([{ "name": "https", "port": first.port(), "protocol": "TCP" }]);
        let metadata = |label: &str, value: &str| {
            let labels = Map::from_iter([(label.to_owned(), json!(value))]);
            json!({ "name": NAME, "namespace": NAMESPACE, "labels": labels })
        };
        let endpoints: Vec<Value> = addresses
            .iter()
            .map(|address| json!({ "addresses": [address], "conditions": { "ready": true } }))
            .collect();
        let ips: Vec<Value> = addresses.iter().map(|address| json!({ "ip": address })).collect();
        vec![
            json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": metadata("kubernetes.io/service-name", NAME),
                "addressType": if first.is_ipv4() { "IPv4" } else { "IPv6" },
                "endpoints": endpoints, "ports": ports }),
            json!({ "apiVersion": "v1", "kind": "Endpoints",
                "metadata": metadata("endpointslice.kubernetes.io/skip-mirror", "true"),
                "subsets": [{ "addresses": ips, "ports": ports }] }),
        ]
    }
}

/// Creates an object, or puts right what it says otherwise.
fn keep(objects: &Objects, wanted: Value) {
    let Ok(resource) = Resource::of(&wanted) else { return };
    let text = |field: &str| wanted["metadata"][field].as_str().unwrap_or_default();
    match objects.get(resource, text("namespace"), text("name")) {
        None => drop(objects.create(wanted)),
        Some(found) if says(&found, &wanted) => {}
        // A Service that somebody has changed stays so until it is deleted.
        Some(_) if resource == Resource::Services => {}
        Some(_) => drop(objects.patch(resource, text("namespace"), text("name"), wanted.clone())),
    }
}

/// Whether `found` has all that `wanted` has.
fn says(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| found.get(key).is_some_and(|found| says(found, value)))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| says(found, wanted))
        }
        (found, wanted) => found == wanted,
    }
}

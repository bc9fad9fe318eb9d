//! Clusters of any size, with objects as large as real ones.

use serde_json::{Value, json};

/// Endpoints of one slice at most, as the controller of a real cluster makes them.
pub const SLICE: usize = 100;

/// The shape of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cluster {
    /// Services.
    pub services: usize,
    /// Endpoints of all Services together, spread evenly.
    pub endpoints: usize,
    /// Nodes on which the endpoints are.
    pub nodes: usize,
}

/// A cluster with the same number of endpoints for each Service, 30 a node.
pub fn cluster(services: usize, endpoints_per_service: usize) -> Cluster {
    let endpoints = services * endpoints_per_service;
    Cluster { services, endpoints, nodes: (endpoints / 30).max(1) }
}

impl Cluster {
    /// All objects: Nodes, then each Service with its EndpointSlices.
    pub fn objects(self) -> impl Iterator<Item = Value> {
        let nodes = (0..self.nodes).map(node);
        nodes.chain(
            (0..self.services)
                .flat_map(move |service| std::iter::once(self.service(service)).chain(self.slices(service))),
        )
    }

    /// A Service by its number.
    pub fn service(self, number: usize) -> Value {
        let (namespace, name, app) = names(number);
        let ip = cluster_ip(number);
        let controller = format!("{app}-controller");
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {
                    "app.kubernetes.io/name": app,
                    "app.kubernetes.io/instance": name,
                    "app.kubernetes.io/managed-by": "Helm",
                    "app.kubernetes.io/version": "2.14.3",
                    "helm.sh/chart": format!("{app}-2.14.3"),
                },
                "annotations": {
                    "meta.helm.sh/release-name": name,
                    "meta.helm.sh/release-namespace": namespace,
                    "prometheus.io/scrape": "true",
                    "prometheus.io/port": "9090",
                },
                "managedFields": [
                    managed_fields("helm", &[
                        "f:metadata.f:annotations.f:meta.helm.sh/release-name",
                        "f:metadata.f:annotations.f:prometheus.io/scrape",
                        "f:metadata.f:labels.f:app.kubernetes.io/name",
                        "f:metadata.f:labels.f:app.kubernetes.io/instance",
                        "f:spec.f:internalTrafficPolicy", "f:spec.f:ports.k:{\"port\":80,\"protocol\":\"TCP\"}.f:name",
                        "f:spec.f:ports.k:{\"port\":80,\"protocol\":\"TCP\"}.f:targetPort",
                        "f:spec.f:selector", "f:spec.f:sessionAffinity", "f:spec.f:type",
                    ]),
                    managed_fields(&controller, &["f:metadata.f:annotations.f:prometheus.io/port"]),
                ],
            },
            "spec": {
                "clusterIP": ip,
                "clusterIPs": [ip],
                "internalTrafficPolicy": "Cluster",
                "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack",
                "ports": [{ "name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080 }],
                "selector": { "app.kubernetes.io/name": app, "app.kubernetes.io/instance": name },
                "sessionAffinity": "None",
                "type": "ClusterIP",
            },
            "status": { "loadBalancer": {} },
        })
    }

    /// How many endpoints a Service has.
    pub fn endpoints_of(self, service: usize) -> usize {
        self.endpoints / self.services + usize::from(service < self.endpoints % self.services)
    }

    /// The slices of a Service by its number.
    pub fn slices(self, service: usize) -> impl Iterator<Item = Value> {
        let count = self.endpoints_of(service);
        (0..count.div_ceil(SLICE)).map(move |slice| {
            let endpoints = slice * SLICE..count.min((slice + 1) * SLICE);
            self.slice(service, slice, endpoints)
        })
    }

    fn slice(self, service: usize, slice: usize, endpoints: std::ops::Range<usize>) -> Value {
        let (namespace, name, app) = names(service);
        // Endpoints are numbered through the whole cluster, so that every one has an address of its
        // own.
        let first = service * (self.endpoints / self.services) + service.min(self.endpoints % self.services);
        let endpoints: Vec<Value> =
            endpoints.map(|endpoint| self.endpoint(first + endpoint, namespace.as_str(), &name)).collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{name}-{}", suffix(service * 7919 + slice)),
                "generateName": format!("{name}-"),
                "namespace": namespace,
                "generation": 3,
                "labels": {
                    "app.kubernetes.io/name": app,
                    "app.kubernetes.io/instance": name,
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                    "kubernetes.io/service-name": name,
                },
                "annotations": { "endpoints.kubernetes.io/last-change-trigger-time": "2026-05-04T09:17:35Z" },
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Service", "name": name, "controller": true,
                    "blockOwnerDeletion": true, "uid": format!("5bd1e7c4-8a0e-4d3c-9b1f-{service:012x}"),
                }],
                "managedFields": [managed_fields("kube-controller-manager", &[
                    "f:addressType", "f:endpoints", "f:metadata.f:annotations", "f:metadata.f:generateName",
                    "f:metadata.f:labels.f:kubernetes.io/service-name", "f:metadata.f:ownerReferences", "f:ports",
                ])],
            },
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
        })
    }

    fn endpoint(self, number: usize, namespace: &str, service: &str) -> Value {
        let node = number % self.nodes;
        json!({
            "addresses": [pod_ip(number)],
            "conditions": { "ready": true, "serving": true, "terminating": false },
            "nodeName": node_name(node),
            "targetRef": {
                "kind": "Pod", "namespace": namespace, "name": format!("{service}-7d9c5b{}", suffix(number)),
                "uid": format!("c1f6a2b8-37e4-4f52-8d90-{number:012x}"),
            },
            "zone": zone(node),
        })
    }
}

/// A Node by its number.
pub fn node(number: usize) -> Value {
    let name = node_name(number);
    let pods = format!("10.{}.{}.0/24", 128 + number / 256 % 64, number % 256);
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
                "topology.kubernetes.io/region": "north", "topology.kubernetes.io/zone": zone(number),
            },
        },
        "spec": { "podCIDR": pods, "podCIDRs": [pods] },
        "status": {
            "addresses": [
                { "type": "InternalIP", "address": format!("172.20.{}.{}", number / 256 % 256, number % 256) },
                { "type": "Hostname", "address": name },
            ],
            "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady" }],
        },
    })
}

fn names(service: usize) -> (String, String, String) {
    let app = ["web", "orders", "cart", "search", "mail", "auth", "stock"][service % 7];
    (format!("team-{:03}", service / 50), format!("{app}-{service:05}"), app.to_owned())
}

fn cluster_ip(service: usize) -> String {
    let host = service + 1;
    format!("10.{}.{}.{}", 96 + host / 65_536, host / 256 % 256, host % 256)
}

fn pod_ip(endpoint: usize) -> String {
    let host = endpoint + 1;
    format!("10.{}.{}.{}", 128 + host / 65_536, host / 256 % 256, host % 256)
}

fn node_name(node: usize) -> String {
    format!("node-{node:05}.cluster.internal")
}

fn zone(node: usize) -> String {
    format!("north-{}", ["a", "b", "c"][node % 3])
}

/// Five letters or digits that differ for different numbers below 27 to the fifth, as generated
/// names end in.
fn suffix(mut number: usize) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5)
        .map(|_| {
            let letter = LETTERS[number % LETTERS.len()];
            number /= LETTERS.len();
            char::from(letter)
        })
        .collect()
}

/// What server-side apply notes about who set which field.
fn managed_fields(manager: &str, paths: &[&str]) -> Value {
    let mut fields = json!({});
    for path in paths {
        let mut at = &mut fields;
        // Dots inside of a step are part of its name: only those before a type prefix separate.
        for step in path.replace(".f:", "\n f:").replace(".k:", "\n k:").split("\n ") {
            at = &mut at[step];
            if at.is_null() {
                *at = json!({ ".": {} });
            }
        }
        *at = json!({});
    }
    json!({
        "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields, "manager": manager,
        "operation": "Update", "time": "2026-05-04T09:17:33Z",
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn has_the_shape_asked_for() {
        for (services, endpoints, slices) in [(10, 10, 10), (3, 700, 9), (15, 260, 15)] {
            let cluster = Cluster { services, endpoints, nodes: 4 };
            let objects: Vec<Value> = cluster.objects().collect();
            let of_kind =
                |kind: &str| objects.iter().filter(|object| object["kind"] == kind).collect::<Vec<_>>();
            let addresses: BTreeSet<&str> = of_kind("EndpointSlice")
                .iter()
                .flat_map(|slice| slice["endpoints"].as_array().expect("a list"))
                .map(|endpoint| endpoint["addresses"][0].as_str().expect("text"))
                .collect();
            let names: BTreeSet<String> =
                objects.iter().map(|object| object["metadata"]["name"].to_string()).collect();
            let counts = (of_kind("Node").len(), of_kind("Service").len(), of_kind("EndpointSlice").len());
            assert_eq!(counts, (4, services, slices), "{services} {endpoints}");
            assert_eq!((addresses.len(), names.len()), (endpoints, objects.len()), "{services} {endpoints}");
        }
    }

    #[test]
    fn services_are_as_large_as_real_ones() {
        let size = cluster(1, 1).service(0).to_string().len();
        assert!((1_500..2_500).contains(&size), "{size} bytes");
    }
}

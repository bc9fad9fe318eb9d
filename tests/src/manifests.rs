//! Manifests as the proxy reads them, written from tests.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use portolan_service::{Family, Protocol};
use serde_json::{Map, Value, json};

/// A folder of manifests. Files appear, change and go atomically.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A new folder at `path`.
    pub fn create(path: PathBuf) -> anyhow::Result<Folder> {
        std::fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Folder { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `objects` as the file `name`, in place of what it held.
    pub fn write(&self, name: &str, objects: &[Value]) -> anyhow::Result<()> {
        self.write_text(
            &format!("{name}.json"),
            &json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string(),
        )
    }

    /// Writes `text` as the file `name`, which ends in `.yaml` or `.json`.
    pub fn write_text(&self, name: &str, text: &str) -> anyhow::Result<()> {
        // A leading dot: the proxy does not read it before it is whole.
        let draft = self.path.join(format!(".{name}.draft"));
        std::fs::write(&draft, text).with_context(|| format!("writing {}", draft.display()))?;
        std::fs::rename(&draft, self.path.join(name)).with_context(|| format!("renaming {}", draft.display()))
    }

    /// Removes the file that [`Folder::write`] made.
    pub fn remove(&self, name: &str) -> anyhow::Result<()> {
        let path = self.path.join(format!("{name}.json"));
        std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
    }
}

/// A Service to be written: ports first, then what differs from a plain ClusterIP Service.
#[derive(Debug, Clone)]
pub struct ServiceManifest {
    name: String,
    labels: Map<String, Value>,
    annotations: Map<String, Value>,
    spec: Map<String, Value>,
    ports: Vec<Value>,
    ingress: Vec<Value>,
}

impl ServiceManifest {
    /// Service `default/name` with these ClusterIPs, the first of each family.
    pub fn new(name: &str, cluster_ips: &[IpAddr]) -> ServiceManifest {
        let families: Vec<_> = cluster_ips.iter().map(|address| family_name(Family::of(*address))).collect();
        let mut spec = Map::new();
        spec.insert("clusterIP".into(), json!(cluster_ips.first()));
        spec.insert("clusterIPs".into(), json!(cluster_ips));
        spec.insert("ipFamilies".into(), json!(families));
        let policy = if families.len() > 1 { "RequireDualStack" } else { "SingleStack" };
        spec.insert("ipFamilyPolicy".into(), json!(policy));
        ServiceManifest {
            name: name.to_owned(),
            labels: Map::new(),
            annotations: Map::new(),
            spec,
            ports: Vec::new(),
            ingress: Vec::new(),
        }
    }

    /// Adds a port.
    #[must_use]
    pub fn port(self, name: &str, protocol: Protocol, port: u16) -> ServiceManifest {
        self.node_port(name, protocol, port, None)
    }

    /// Adds a port with a NodePort.
    #[must_use]
    pub fn node_port(
        mut self,
        name: &str,
        protocol: Protocol,
        port: u16,
        node_port: Option<u16>,
    ) -> ServiceManifest {
        let mut entry = json!({"name": name, "protocol": protocol_name(protocol), "port": port});
        if let Some(node_port) = node_port {
            entry["nodePort"] = node_port.into();
        }
        self.ports.push(entry);
        self
    }

    /// Sets a field of `spec`.
    #[must_use]
    pub fn spec(mut self, field: &str, value: impl Into<Value>) -> ServiceManifest {
        self.spec.insert(field.to_owned(), value.into());
        self
    }

    /// Sets a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> ServiceManifest {
        self.labels.insert(key.to_owned(), value.into());
        self
    }

    /// Sets an annotation.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> ServiceManifest {
        self.annotations.insert(key.to_owned(), value.into());
        self
    }

    /// `spec.type`
    #[must_use]
    pub fn kind(self, kind: &str) -> ServiceManifest {
        self.spec("type", kind)
    }

    /// `spec.externalIPs`
    #[must_use]
    pub fn external_ips(self, addresses: &[IpAddr]) -> ServiceManifest {
        self.spec("externalIPs", json!(addresses))
    }

    /// Adds an entry of `status.loadBalancer.ingress`; `mode` is `VIP` or `Proxy`.
    #[must_use]
    pub fn ingress(mut self, address: IpAddr, mode: &str) -> ServiceManifest {
        self.ingress.push(json!({"ip": address, "ipMode": mode}));
        self
    }

    /// Takes the ports' NodePorts away.
    #[must_use]
    pub fn without_node_ports(mut self) -> ServiceManifest {
        for port in self.ports.iter_mut().filter_map(Value::as_object_mut) {
            port.remove("nodePort");
        }
        self
    }

    /// Takes the load-balancer addresses away.
    #[must_use]
    pub fn without_ingress(mut self) -> ServiceManifest {
        self.ingress.clear();
        self
    }

    /// `sessionAffinity: ClientIP` with its timeout in seconds.
    #[must_use]
    pub fn affinity(self, seconds: u32) -> ServiceManifest {
        self.spec("sessionAffinity", "ClientIP")
            .spec("sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": seconds}}))
    }

    /// The object.
    pub fn object(&self) -> Value {
        let mut spec = self.spec.clone();
        spec.insert("ports".into(), json!(self.ports));
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name, "labels": self.labels, "annotations": self.annotations},
            "spec": spec,
            "status": {"loadBalancer": {"ingress": self.ingress}},
        })
    }
}

/// One endpoint of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointManifest {
    /// Its address.
    pub address: IpAddr,
    /// The node it is on, if any.
    pub node: Option<String>,
    /// The pod that it is, if it is one.
    pub pod: Option<String>,
    /// `ready`, `serving`, `terminating`
    pub conditions: [bool; 3],
    /// `hints.forZones`
    pub zones: Vec<String>,
    /// `hints.forNodes`
    pub nodes: Vec<String>,
}

impl EndpointManifest {
    /// A ready endpoint.
    pub fn new(address: IpAddr, node: Option<&str>) -> EndpointManifest {
        EndpointManifest {
            address,
            node: node.map(str::to_owned),
            pod: None,
            conditions: [true, true, false],
            zones: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// The same, shutting down while it still answers.
    #[must_use]
    pub fn terminating(mut self) -> EndpointManifest {
        self.conditions = [false, true, true];
        self
    }

    /// The same, not ready.
    #[must_use]
    pub fn unready(mut self) -> EndpointManifest {
        self.conditions = [false, false, false];
        self
    }

    /// The same, without the name of its node.
    #[must_use]
    pub fn without_node(mut self) -> EndpointManifest {
        self.node = None;
        self
    }

    /// The same, which is a pod of this name.
    #[must_use]
    pub fn pod(mut self, name: &str) -> EndpointManifest {
        self.pod = Some(name.to_owned());
        self
    }

    /// The same with a zone hint.
    #[must_use]
    pub fn zone(mut self, zone: &str) -> EndpointManifest {
        self.zones.push(zone.to_owned());
        self
    }

    /// The same with a node hint.
    #[must_use]
    pub fn for_node(mut self, node: &str) -> EndpointManifest {
        self.nodes.push(node.to_owned());
        self
    }

    fn object(&self) -> Value {
        let named = |names: &[String]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
        let [ready, serving, terminating] = self.conditions;
        let mut endpoint = json!({
            "addresses": [self.address],
            "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        });
        if let Some(pod) = &self.pod {
            endpoint["targetRef"] = json!({"kind": "Pod", "name": pod});
        }
        if let Some(node) = &self.node {
            endpoint["nodeName"] = json!(node);
        }
        if !self.zones.is_empty() || !self.nodes.is_empty() {
            let mut hints = Map::new();
            if !self.zones.is_empty() {
                hints.insert("forZones".into(), json!(named(&self.zones)));
            }
            if !self.nodes.is_empty() {
                hints.insert("forNodes".into(), json!(named(&self.nodes)));
            }
            endpoint["hints"] = Value::Object(hints);
        }
        endpoint
    }
}

/// An EndpointSlice of `service` in `default`: `ports` are name, protocol and number.
pub fn slice(
    name: &str,
    service: &str,
    family: Family,
    ports: &[(&str, Protocol, u16)],
    endpoints: &[EndpointManifest],
) -> Value {
    let ports: Vec<_> = ports
        .iter()
        .map(|(name, protocol, port)| json!({"name": name, "protocol": protocol_name(*protocol), "port": port}))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": family_name(family),
        "ports": ports,
        "endpoints": endpoints.iter().map(EndpointManifest::object).collect::<Vec<_>>(),
    })
}

/// A Pod with one address, which may have a lab's responder behind it.
#[derive(Debug, Clone)]
pub struct PodManifest {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The node it is on.
    pub node: String,
    /// Its addresses, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// Its ports: name, possibly empty, and number. All are served over TCP and UDP.
    pub ports: Vec<(String, u16)>,
    labels: Map<String, Value>,
    host_network: bool,
}

impl PodManifest {
    /// Pod `default/name` with this address.
    ///
    /// # Panics
    /// If `address` is none: it is a literal of a test.
    pub fn new(name: &str, node: &str, address: &str) -> PodManifest {
        PodManifest {
            name: name.to_owned(),
            namespace: "default".to_owned(),
            node: node.to_owned(),
            addresses: vec![address.parse().expect("a pod's address")],
            ports: Vec::new(),
            labels: Map::new(),
            host_network: false,
        }
    }

    /// Sets its labels.
    #[must_use]
    pub fn labels(mut self, labels: &[(&str, &str)]) -> PodManifest {
        self.labels.extend(labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))));
        self
    }

    /// Sets its namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> PodManifest {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// Adds an address.
    #[must_use]
    pub fn address(mut self, address: IpAddr) -> PodManifest {
        self.addresses.push(address);
        self
    }

    /// Adds a port.
    #[must_use]
    pub fn port(mut self, name: &str, number: u16) -> PodManifest {
        self.ports.push((name.to_owned(), number));
        self
    }

    /// Puts it on its node's network.
    #[must_use]
    pub fn on_host_network(mut self) -> PodManifest {
        self.host_network = true;
        self
    }

    /// The object, running and ready.
    pub fn object(&self) -> Value {
        let mut ports = Vec::new();
        for (name, number) in &self.ports {
            let mut port = json!({"containerPort": number, "protocol": "TCP"});
            if !name.is_empty() {
                port["name"] = json!(name);
            }
            ports.push(port);
        }
        let addresses: Vec<_> = self.addresses.iter().map(|address| json!({"ip": address})).collect();
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": self.labels},
            "spec": {
                "nodeName": self.node,
                "hostNetwork": self.host_network,
                "containers": [{"name": "main", "image": "responder", "ports": ports}],
            },
            "status": {
                "phase": "Running",
                "podIP": self.addresses.first(),
                "podIPs": addresses,
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        })
    }
}

/// A Node with its addresses and pod networks.
pub fn node(name: &str, zone: Option<&str>, addresses: &[IpAddr], pod_networks: &[ipnet::IpNet]) -> Value {
    let labels = zone.map_or_else(|| json!({}), |zone| json!({"topology.kubernetes.io/zone": zone}));
    let addresses: Vec<_> =
        addresses.iter().map(|address| json!({"type": "InternalIP", "address": address})).collect();
    let pod_networks: Vec<_> = pod_networks.iter().map(ToString::to_string).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"podCIDR": pod_networks.first(), "podCIDRs": pod_networks},
        "status": {"addresses": addresses},
    })
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

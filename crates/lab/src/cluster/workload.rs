//! What manifests ask of the lab: nodes, and pods to run.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use portolan_controllers::{Issue, Naming};
use portolan_source::manifests::{Problem, Severity, Tree};
use serde_json::{Value, json};

use crate::Error;

/// One thing that a manifest asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Wanted {
    Node(WantedNode),
    Pods(WantedPods),
}

/// A Node object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WantedNode {
    pub(super) name: String,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) pod_networks: Vec<IpNet>,
    pub(super) labels: Value,
}

/// How many pods a manifest wants, and how they are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// A Pod, which has its own name.
    One,
    /// So many, numbered from 1.
    Replicas(u32),
    /// So many, numbered from 0, as the pods of a StatefulSet are.
    Ordinals(u32),
    /// One on each node, named after it.
    EachNode,
}

/// A Pod, or the pods of a workload.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WantedPods {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) count: Count,
    pub(super) labels: Value,
    pub(super) node: Option<String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) host_network: bool,
    /// `spec.containers`, with their ports.
    pub(super) containers: Value,
    pub(super) ports: Vec<u16>,
    /// Whether they are ready.
    pub(super) ready: bool,
    /// What their spec says of names.
    pub(super) naming: Box<Naming>,
    /// The fields of the spec that this is from.
    pub(super) naming_fields: Value,
    /// The cluster's DNS answers in them.
    pub(super) runs_dns: bool,
}

impl WantedPods {
    /// What the pod `name` says of names. Pods of a StatefulSet have theirs as hostname.
    pub(super) fn naming(&self, name: &str) -> Naming {
        let hostname = match self.count {
            Count::Ordinals(_) => Some(name.into()),
            _ => self.naming.hostname.clone(),
        };
        Naming { hostname, ..Naming::clone(&self.naming) }
    }

    /// The name of its first pod in the lab: the namespace is left out where it is `default`.
    fn base(&self) -> String {
        let prefix = if self.namespace == "default" { String::new() } else { format!("{}/", self.namespace) };
        format!("{prefix}{}", self.name)
    }

    /// The names of its pods in the lab, each with the node that it must be on, if it must be on
    /// one.
    pub(super) fn pods<'a>(&'a self, nodes: impl Iterator<Item = &'a str>) -> Vec<(String, Option<&'a str>)> {
        let base = self.base();
        let node = self.node.as_deref();
        match self.count {
            Count::One => vec![(base, node)],
            Count::Replicas(count) => (1..=count).map(|number| (format!("{base}-{number}"), node)).collect(),
            Count::Ordinals(count) => (0..count).map(|number| (format!("{base}-{number}"), node)).collect(),
            Count::EachNode => nodes.map(|node| (format!("{base}-{node}"), Some(node))).collect(),
        }
    }
}

/// A Service that selects pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selecting {
    namespace: String,
    selector: BTreeMap<String, String>,
    /// The numbers in its `targetPort`s.
    ports: Vec<u16>,
}

impl Selecting {
    /// Has `pods` answer on its target ports if it selects them and they do not say where they do.
    /// In a cluster `containerPort` is only information; here, no program runs that would know.
    pub(super) fn open(services: &[Selecting], pods: &mut WantedPods) {
        if !pods.ports.is_empty() {
            return;
        }
        let selects = |service: &&Selecting| {
            service.namespace == pods.namespace
                && service.selector.iter().all(|(key, value)| pods.labels[key] == value.as_str())
        };
        for port in services.iter().filter(selects).flat_map(|service| &service.ports) {
            if !pods.ports.contains(port) {
                pods.ports.push(*port);
            }
        }
    }
}

/// A Service, as it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) selector: BTreeMap<String, String>,
    /// The ClusterIPs that it asks for.
    pub(super) addresses: Vec<IpAddr>,
}

/// What a file asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Contents {
    pub(super) wanted: Vec<Wanted>,
    /// The Services that select pods.
    pub(super) services: Vec<Selecting>,
    /// All Services.
    pub(super) declared: Vec<Declared>,
    /// The text for the proxies where it differs from the file's: without the Nodes and Pods that
    /// the lab completes.
    pub(super) text: Option<String>,
    /// What the lab does not do.
    pub(super) warnings: Vec<Problem>,
}

/// Reads the text of a manifest. Kinds that need nothing from the lab are passed over; they are the
/// proxy's.
pub(super) fn read(file: &Path, text: &str) -> Result<Contents, Error> {
    let documents = portolan_source::manifests::documents(text).map_err(|(line, message)| {
        Error::Manifest(Box::new(Problem {
            file: file.to_owned(),
            line: Some(line),
            object: None,
            field: None,
            message,
            severity: Severity::Error,
        }))
    })?;
    let (mut wanted, mut completed, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    let (mut services, mut declared) = (Vec::new(), Vec::new());
    for document in &documents {
        for (tree, alone) in objects(document) {
            let reader = Reader { file, tree, object: &tree.to_json() };
            warnings.extend(reader.not_done());
            services.extend(reader.service());
            declared.extend(reader.declared());
            let Some(item) = reader.wanted()? else { continue };
            let complete = match &item {
                Wanted::Node(node) => !node.addresses.is_empty() && !node.pod_networks.is_empty(),
                Wanted::Pods(pods) => {
                    pods.count != Count::One || (pods.node.is_some() && !pods.addresses.is_empty())
                }
            };
            if !complete && !alone {
                return Err(reader.error(
                    "items",
                    "the lab completes Pods and Nodes that are documents of their own; take it out of the list, or \
                     give it its node and addresses",
                ));
            }
            if !complete {
                completed.push(document.line);
            }
            wanted.push(item);
        }
    }
    let text = (!completed.is_empty()).then(|| without(text, &completed));
    Ok(Contents { wanted, services, declared, text, warnings })
}

/// The objects in a document, and whether each is the whole document.
fn objects(document: &Tree) -> Vec<(&Tree, bool)> {
    let is_list = document.get("kind").and_then(Tree::text).is_some_and(|kind| kind.ends_with("List"));
    match document.get("items").and_then(Tree::items).filter(|_| is_list) {
        Some(items) => items.iter().map(|item| (item, false)).collect(),
        None => vec![(document, true)],
    }
}

/// The text with the documents that begin on these lines made blank, so that all others keep their
/// lines.
fn without(text: &str, documents: &[usize]) -> String {
    let is_separator = |line: &str| line.starts_with("---");
    let lines: Vec<&str> = text.lines().collect();
    let mut kept = vec![true; lines.len()];
    for begin in documents {
        // A separator may have the document's first line behind it.
        let first = begin.saturating_sub(1).min(lines.len());
        let end = lines[first..]
            .iter()
            .skip(1)
            .position(|line| is_separator(line))
            .map_or(lines.len(), |at| first + 1 + at);
        for index in first..end {
            kept[index] = is_separator(lines[index]) && lines[index].trim_end() == "---";
        }
    }
    lines.iter().zip(kept).flat_map(|(line, kept)| [if kept { line } else { "" }, "\n"]).collect()
}

/// Fields of a pod that the lab does not honour, and why.
const NOT_DONE: [(&str, &str); 2] = [
    ("nodeSelector", "the lab places pods round its nodes; nodeName chooses one"),
    ("affinity", "the lab places pods round its nodes; nodeName chooses one"),
];

/// Fields of a pod that are about names.
const NAMING_FIELDS: [&str; 8] = [
    "hostNetwork",
    "hostname",
    "subdomain",
    "hostnameOverride",
    "setHostnameAsFQDN",
    "hostAliases",
    "dnsPolicy",
    "dnsConfig",
];

struct Reader<'a> {
    file: &'a Path,
    tree: &'a Tree,
    object: &'a Value,
}

impl Reader<'_> {
    fn kind(&self) -> &str {
        self.object["kind"].as_str().unwrap_or_default()
    }

    fn wanted(&self) -> Result<Option<Wanted>, Error> {
        let template = |count| {
            self.pods("spec.template.spec", "spec.template.metadata", count).map(Wanted::Pods).map(Some)
        };
        match self.kind() {
            "Node" => self.node().map(Wanted::Node).map(Some),
            "Pod" => self.pods("spec", "metadata", Count::One).map(Wanted::Pods).map(Some),
            "Deployment" | "ReplicaSet" | "ReplicationController" => {
                template(Count::Replicas(self.replicas()?))
            }
            "StatefulSet" => template(Count::Ordinals(self.replicas()?)),
            "DaemonSet" => template(Count::EachNode),
            _ => Ok(None),
        }
    }

    fn replicas(&self) -> Result<u32, Error> {
        match &self.object["spec"]["replicas"] {
            Value::Null => Ok(1),
            value => value
                .as_u64()
                .and_then(|count| u32::try_from(count).ok())
                .filter(|count| *count <= 1000)
                .ok_or_else(|| {
                    self.error("spec.replicas", &format!("{value} is not a number from 0 to 1000"))
                }),
        }
    }

    /// What this object asks for and the lab does not do.
    fn not_done(&self) -> Vec<Problem> {
        let spec = match self.kind() {
            kind @ ("Job" | "CronJob") => {
                return vec![
                    self.warning("kind", &format!("is passed over: the lab makes no pods of a {kind}")),
                ];
            }
            "NetworkPolicy" => {
                return vec![self.warning(
                    "kind",
                    "is passed over: in a cluster the network plugin enforces it, and the lab has none",
                )];
            }
            "Ingress" => {
                return vec![self.warning(
                    "kind",
                    "is passed over: the lab has no Ingress controller; ask its Services themselves",
                )];
            }
            "Service" => return self.no_address().into_iter().collect(),
            "Pod" => "spec",
            "Deployment" | "ReplicaSet" | "ReplicationController" | "StatefulSet" | "DaemonSet" => {
                "spec.template.spec"
            }
            _ => return Vec::new(),
        };
        let given = |field: &str| !self.at(field).is_null();
        let fields = NOT_DONE.iter().map(|(field, why)| (format!("{spec}.{field}"), *why));
        let mut warnings: Vec<Problem> = fields
            .filter(|(field, _)| given(field))
            .map(|(field, why)| self.warning(&field, &format!("is ignored: {why}")))
            .collect();
        let host_network = self.at(&format!("{spec}.hostNetwork")).as_bool().unwrap_or_default();
        for (container, port, object) in self.ports(spec) {
            if !host_network && !object["hostPort"].is_null() {
                warnings.push(self.warning(
                    &format!("{spec}.containers[{container}].ports[{port}].hostPort"),
                    "is ignored: in a cluster the network plugin opens it, and the lab has none; a Service of type NodePort \
                     opens a port on the nodes",
                ));
            }
        }
        warnings
    }

    /// What a Service of type LoadBalancer lacks, since the lab has no load balancer.
    fn no_address(&self) -> Option<Problem> {
        let balanced = self.at("spec.type") == "LoadBalancer";
        let given = self.at("status.loadBalancer.ingress").as_array().is_some_and(|list| !list.is_empty());
        (balanced && !given).then(|| {
            self.warning(
                "spec.type",
                "LoadBalancer, but the lab allocates no load-balancer address; give it one, such as status: \
                 {loadBalancer: {ingress: [{ip: 203.0.113.5}]}}",
            )
        })
    }

    /// The Service, if it is one that selects pods.
    fn service(&self) -> Option<Selecting> {
        let selector = self.at("spec.selector").as_object().filter(|_| self.kind() == "Service")?;
        let selector: BTreeMap<String, String> = selector
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        let ports = self.at("spec.ports").as_array().into_iter().flatten().filter_map(|port| {
            let target = if port["targetPort"].is_null() { &port["port"] } else { &port["targetPort"] };
            target.as_u64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)
        });
        (!selector.is_empty()).then(|| Selecting {
            namespace: self.at("metadata.namespace").as_str().unwrap_or("default").to_owned(),
            selector,
            ports: ports.collect(),
        })
    }

    /// The Service, if it is one with a name.
    fn declared(&self) -> Option<Declared> {
        let name = self.at("metadata.name").as_str().filter(|_| self.kind() == "Service")?;
        let pairs = self.at("spec.selector").as_object().into_iter().flatten();
        let selector = pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        let addresses = self.list(&["spec", "clusterIPs"]).into_iter();
        let addresses = addresses.chain(self.at("spec.clusterIP").as_str().map(str::to_owned));
        Some(Declared {
            namespace: self.at("metadata.namespace").as_str().unwrap_or("default").to_owned(),
            name: name.to_owned(),
            selector: selector.collect(),
            addresses: addresses.filter_map(|text| text.parse().ok()).collect(),
        })
    }

    /// The ports of the containers under `spec`, with the places of both in their lists.
    fn ports(&self, spec: &str) -> Vec<(usize, usize, &Value)> {
        let containers = self.at(&format!("{spec}.containers")).as_array().into_iter().flatten().enumerate();
        containers
            .flat_map(|(container, object)| {
                let ports = object["ports"].as_array().into_iter().flatten().enumerate();
                ports.map(move |(port, object)| (container, port, object))
            })
            .collect()
    }

    fn node(&self) -> Result<WantedNode, Error> {
        let networks = self.list(&["spec", "podCIDRs"]);
        let mut pod_networks = Vec::new();
        for text in networks.into_iter().chain(self.at("spec.podCIDR").as_str().map(str::to_owned)) {
            let network: IpNet = self.parse("spec.podCIDRs", &text, "a network such as 10.244.1.0/24")?;
            if !pod_networks.contains(&network.trunc()) {
                pod_networks.push(network.trunc());
            }
        }
        let addresses = self.at("status.addresses").as_array().into_iter().flatten();
        let addresses = addresses
            .filter(|entry| entry["type"] == "InternalIP")
            .filter_map(|entry| entry["address"].as_str())
            .map(|text| self.parse("status.addresses", text, "an IP address"))
            .collect::<Result<_, _>>()?;
        Ok(WantedNode {
            name: self.name()?,
            addresses,
            pod_networks,
            labels: labels(self.at("metadata.labels")),
        })
    }

    fn pods(&self, spec: &str, metadata: &str, count: Count) -> Result<WantedPods, Error> {
        let mut ports = Vec::new();
        for (container, index, object) in self.ports(spec) {
            let value = &object["containerPort"];
            let port = value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
            let field = format!("{spec}.containers[{container}].ports[{index}].containerPort");
            let port = port.ok_or_else(|| self.error(&field, &format!("{value} is not in 1-65535")))?;
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
        let mut addresses: Vec<IpAddr> = Vec::new();
        if count == Count::One {
            let given = self
                .at("status.podIPs")
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|entry| entry["ip"].as_str());
            for text in given.chain(self.at("status.podIP").as_str()) {
                let address = self.parse("status.podIPs", text, "an IP address")?;
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        let naming_fields = self.naming_fields(spec);
        let naming = portolan_source::naming(&naming_fields).map_err(|issues| self.first(spec, &issues))?;
        Ok(WantedPods {
            namespace: self.at("metadata.namespace").as_str().unwrap_or("default").to_owned(),
            name: self.name()?,
            count,
            labels: labels(self.at(&format!("{metadata}.labels"))),
            node: self.at(&format!("{spec}.nodeName")).as_str().map(str::to_owned),
            addresses,
            host_network: naming.host_network,
            containers: self.at(&format!("{spec}.containers")).clone(),
            ports,
            ready: count != Count::One || self.ready(),
            naming: naming.into(),
            naming_fields,
            runs_dns: false,
        })
    }

    /// What the pod's `spec` says of names. The Service of a StatefulSet is its pods' subdomain.
    fn naming_fields(&self, spec: &str) -> Value {
        let given = NAMING_FIELDS.iter().map(|field| (*field, self.at(&format!("{spec}.{field}"))));
        let mut fields: BTreeMap<&str, &Value> = given.filter(|(_, value)| !value.is_null()).collect();
        if self.kind() == "StatefulSet" {
            fields.insert("subdomain", self.at("spec.serviceName"));
        }
        json!(fields)
    }

    /// The first of what is wrong with a pod's `spec`.
    fn first(&self, spec: &str, issues: &[Issue]) -> Error {
        let Some(issue) = issues.first() else { return self.error(spec, "cannot be used") };
        let field = issue.field.strip_prefix("spec").unwrap_or(&issue.field);
        self.error(&format!("{spec}{field}"), &issue.message)
    }

    /// Whether a Pod is ready: as its status says. The lab completes one that says nothing, unless
    /// it has all that the proxies need of it.
    fn ready(&self) -> bool {
        let has = |field| !self.at(field).is_null();
        let whole = has("spec.nodeName") && (has("status.podIP") || has("status.podIPs"));
        let conditions = self.at("status.conditions").as_array();
        let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
        ready.map_or(!whole, |condition| condition["status"] == "True")
    }

    fn name(&self) -> Result<String, Error> {
        let name = self.at("metadata.name").as_str().map(str::to_owned);
        name.filter(|name| !name.is_empty())
            .ok_or_else(|| self.error("metadata.name", "is missing; give one"))
    }

    fn at(&self, path: &str) -> &Value {
        path.split('.').fold(self.object, |value, key| &value[key])
    }

    fn list(&self, path: &[&str]) -> Vec<String> {
        let entries = path.iter().fold(self.object, |value, key| &value[*key]).as_array();
        entries.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn parse<T: std::str::FromStr>(&self, field: &str, text: &str, what: &str) -> Result<T, Error> {
        text.parse().map_err(|_| self.error(field, &format!("{text:?} is not {what}")))
    }

    fn title(&self) -> String {
        let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        format!("{} {}", word(&self.object["kind"]), word(&self.object["metadata"]["name"]))
    }

    fn error(&self, field: &str, message: &str) -> Error {
        Error::Manifest(Box::new(self.problem(Severity::Error, field, message)))
    }

    fn warning(&self, field: &str, message: &str) -> Problem {
        self.problem(Severity::Warning, field, message)
    }

    fn problem(&self, severity: Severity, field: &str, message: &str) -> Problem {
        Problem {
            file: self.file.to_owned(),
            line: Some(self.tree.line_of(field)),
            object: Some(self.title()),
            field: Some(field.to_owned()),
            message: message.to_owned(),
            severity,
        }
    }
}

fn labels(value: &Value) -> Value {
    if value.is_object() { value.clone() } else { json!(BTreeMap::<String, String>::new()) }
}

#[cfg(test)]
mod tests;

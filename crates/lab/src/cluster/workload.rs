//! What manifests ask of the lab: nodes, and pods to run.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
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
}

impl WantedPods {
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

/// What a file asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Contents {
    pub(super) wanted: Vec<Wanted>,
    /// The text for the proxies where it differs from the file's: without the Nodes and Pods that
    /// the lab completes.
    pub(super) text: Option<String>,
    /// What the lab does not do.
    pub(super) warnings: Vec<Problem>,
}

/// Reads the text of a manifest. Kinds that need nothing from the lab are passed over; they are the
/// proxy's.
pub(super) fn read(file: &Path, text: &str) -> Result<Contents, Error> {
    let documents =
        portolan_source::manifests::documents(text).map_err(|(line, message)| Error::Manifest {
            file: file.display().to_string(),
            line,
            object: "document".to_owned(),
            field: "text".to_owned(),
            message,
        })?;
    let (mut wanted, mut completed, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    for document in &documents {
        for (tree, alone) in objects(document) {
            let reader = Reader { file, tree, object: &tree.to_json() };
            warnings.extend(reader.not_done());
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
    Ok(Contents { wanted, text, warnings })
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
        Ok(WantedPods {
            namespace: self.at("metadata.namespace").as_str().unwrap_or("default").to_owned(),
            name: self.name()?,
            count,
            labels: labels(self.at(&format!("{metadata}.labels"))),
            node: self.at(&format!("{spec}.nodeName")).as_str().map(str::to_owned),
            addresses,
            host_network: self.at(&format!("{spec}.hostNetwork")).as_bool().unwrap_or_default(),
            containers: self.at(&format!("{spec}.containers")).clone(),
            ports,
        })
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
        Error::Manifest {
            file: self.file.display().to_string(),
            line: self.tree.line_of(field),
            object: self.title(),
            field: field.to_owned(),
            message: message.to_owned(),
        }
    }

    fn warning(&self, field: &str, message: &str) -> Problem {
        Problem {
            file: self.file.to_owned(),
            line: Some(self.tree.line_of(field)),
            object: Some(self.title()),
            field: Some(field.to_owned()),
            message: message.to_owned(),
            severity: Severity::Warning,
        }
    }
}

fn labels(value: &Value) -> Value {
    if value.is_object() { value.clone() } else { json!(BTreeMap::<String, String>::new()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Contents, String> {
        super::read(Path::new("a.yaml"), text).map_err(|error| error.to_string())
    }

    const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: a, ports: [{containerPort: 8080}, {containerPort: 8080, protocol: UDP}]}]}
";

    #[test]
    fn deployments_want_replicas() {
        let contents = read(DEPLOYMENT).unwrap();
        assert_eq!(contents.text, None);
        let [Wanted::Pods(pods)] = &contents.wanted[..] else { panic!("{contents:?}") };
        assert_eq!(names(pods), ["shop/web-1", "shop/web-2"]);
        assert_eq!((&pods.ports[..], &pods.labels["app"]), (&[8080][..], &json!("web")));
    }

    fn names(pods: &WantedPods) -> Vec<String> {
        pods.pods(["host1", "host2"].into_iter()).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn each_workload_names_its_pods() {
        for (kind, expected) in [
            ("ReplicaSet", &["shop/web-1", "shop/web-2"]),
            ("ReplicationController", &["shop/web-1", "shop/web-2"]),
            ("StatefulSet", &["shop/web-0", "shop/web-1"]),
            ("DaemonSet", &["shop/web-host1", "shop/web-host2"]),
        ] {
            let contents = read(&DEPLOYMENT.replace("Deployment", kind)).unwrap();
            let [Wanted::Pods(pods)] = &contents.wanted[..] else { panic!("{contents:?}") };
            assert_eq!(names(pods), *expected, "{kind}");
        }
    }

    #[test]
    fn what_the_lab_does_not_do_is_reported() {
        let reported = |text: &str| {
            let warnings = read(text).unwrap().warnings;
            warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let port = "{containerPort: 8080, protocol: UDP}";
        assert_eq!(reported(DEPLOYMENT), [""; 0]);
        assert_eq!(
            reported(&DEPLOYMENT.replace(port, "{containerPort: 8080, hostPort: 80}")),
            [
                "a.yaml:9: Deployment web: spec.template.spec.containers[0].ports[1].hostPort: is ignored: in a cluster the \
                 network plugin opens it, and the lab has none; a Service of type NodePort opens a port on the nodes"
            ]
        );
        assert_eq!(
            reported("kind: Job\nmetadata: {name: j}\n"),
            ["a.yaml:1: Job j: kind: is passed over: the lab makes no pods of a Job"]
        );
        assert_eq!(
            reported("kind: Pod\nmetadata: {name: p}\nspec:\n  nodeSelector: {a: b}\n"),
            [
                "a.yaml:4: Pod p: spec.nodeSelector: is ignored: the lab places pods round its nodes; nodeName chooses one"
            ]
        );
    }

    #[test]
    fn what_the_lab_completes_is_blank_for_the_proxies() {
        let service = "kind: Service\nmetadata: {name: s}\n";
        for (situation, text, expected) in [
            ("a Service alone", service.to_owned(), None),
            (
                "a Pod without address before it",
                format!("kind: Pod\nmetadata: {{name: p}}\n---\n{service}"),
                Some(format!("\n\n---\n{service}")),
            ),
            (
                "a Pod without address behind it",
                format!("{service}---\nkind: Pod\nmetadata: {{name: p}}\n"),
                Some(format!("{service}---\n\n\n")),
            ),
            (
                "a Pod with everything",
                "kind: Pod\nmetadata: {name: p}\nspec: {nodeName: n}\nstatus: {podIP: 10.0.0.9}\n".to_owned(),
                None,
            ),
        ] {
            assert_eq!(read(&text).unwrap().text, expected, "{situation}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, message) in [
            ("kind: Pod\nspec: {}\n", "a.yaml:1: Pod ?: metadata.name: is missing; give one"),
            (
                "kind: Deployment\nmetadata: {name: d}\nspec: {replicas: -1}\n",
                "a.yaml:3: Deployment d: spec.replicas: -1 is not a number from 0 to 1000",
            ),
            (
                "kind: Pod\nmetadata: {name: p}\nspec: {containers: [{ports: [{containerPort: 0}]}]}\n",
                "a.yaml:3: Pod p: spec.containers[0].ports[0].containerPort: 0 is not in 1-65535",
            ),
            (
                "kind: Node\nmetadata: {name: n}\nspec: {podCIDRs: [10.0.0.0]}\n",
                "a.yaml:3: Node n: spec.podCIDRs: \"10.0.0.0\" is not a network such as 10.244.1.0/24",
            ),
            (
                "kind: List\nitems: [{kind: Pod, metadata: {name: p}}]\n",
                "a.yaml:2: Pod p: items: the lab completes Pods and Nodes that are documents of their own; take it out of \
                 the list, or give it its node and addresses",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), message);
        }
    }
}

//! What manifests ask of the lab: nodes, and pods to run.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
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

/// A Pod, or the replicas of a Deployment or ReplicaSet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WantedPods {
    pub(super) namespace: String,
    pub(super) name: String,
    /// How many, named after this with a number; none for a Pod, which has its own name.
    pub(super) replicas: Option<u32>,
    pub(super) labels: Value,
    pub(super) node: Option<String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) host_network: bool,
    /// `spec.containers`, with their ports.
    pub(super) containers: Value,
    pub(super) ports: Vec<u16>,
}

impl WantedPods {
    /// The names of its pods in the lab: the namespace is left out where it is `default`.
    pub(super) fn pod_names(&self) -> Vec<String> {
        let prefix = if self.namespace == "default" { String::new() } else { format!("{}/", self.namespace) };
        match self.replicas {
            None => vec![format!("{prefix}{}", self.name)],
            Some(replicas) => {
                (1..=replicas).map(|number| format!("{prefix}{}-{number}", self.name)).collect()
            }
        }
    }
}

/// What a file asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Contents {
    pub(super) wanted: Vec<Wanted>,
    /// The text for the proxies where it differs from the file's: without the Nodes and Pods that the lab completes.
    pub(super) text: Option<String>,
}

/// Reads the text of a manifest. Kinds that need nothing from the lab are passed over; they are the proxy's.
pub(super) fn read(file: &Path, text: &str) -> Result<Contents, Error> {
    let documents =
        portolan_source::manifests::documents(text).map_err(|(line, message)| Error::Manifest {
            file: file.display().to_string(),
            object: format!("line {line}"),
            field: "document".to_owned(),
            message,
        })?;
    let mut wanted = Vec::new();
    let mut completed = Vec::new();
    for (line, document) in &documents {
        for (object, alone) in objects(document) {
            let reader = Reader { file, object };
            let Some(item) = reader.wanted()? else { continue };
            let complete = match &item {
                Wanted::Node(node) => !node.addresses.is_empty() && !node.pod_networks.is_empty(),
                Wanted::Pods(pods) => {
                    pods.replicas.is_some() || (pods.node.is_some() && !pods.addresses.is_empty())
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
                completed.push(*line);
            }
            wanted.push(item);
        }
    }
    let text = (!completed.is_empty()).then(|| without(text, &completed));
    Ok(Contents { wanted, text })
}

/// The objects in a document, and whether each is the whole document.
fn objects(document: &Value) -> Vec<(&Value, bool)> {
    let is_list = document["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match document["items"].as_array().filter(|_| is_list) {
        Some(items) => items.iter().map(|item| (item, false)).collect(),
        None => vec![(document, true)],
    }
}

/// The text with the documents that begin on these lines made blank, so that all others keep their lines.
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

struct Reader<'a> {
    file: &'a Path,
    object: &'a Value,
}

impl Reader<'_> {
    fn wanted(&self) -> Result<Option<Wanted>, Error> {
        match self.object["kind"].as_str() {
            Some("Node") => self.node().map(Wanted::Node).map(Some),
            Some("Pod") => self.pods("spec", "metadata", None).map(Wanted::Pods).map(Some),
            Some("Deployment" | "ReplicaSet") => {
                let replicas = match &self.object["spec"]["replicas"] {
                    Value::Null => 1,
                    value => value
                        .as_u64()
                        .and_then(|count| u32::try_from(count).ok())
                        .filter(|count| *count <= 1000)
                        .ok_or_else(|| {
                            self.error("spec.replicas", &format!("{value} is not a number from 0 to 1000"))
                        })?,
                };
                self.pods("spec.template.spec", "spec.template.metadata", Some(replicas))
                    .map(Wanted::Pods)
                    .map(Some)
            }
            _ => Ok(None),
        }
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

    fn pods(&self, spec: &str, metadata: &str, replicas: Option<u32>) -> Result<WantedPods, Error> {
        let mut ports = Vec::new();
        for container in self.at(&format!("{spec}.containers")).as_array().into_iter().flatten() {
            for port in container["ports"].as_array().into_iter().flatten() {
                let value = &port["containerPort"];
                let port = value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
                let field = format!("{spec}.containers[].ports[].containerPort");
                let port = port.ok_or_else(|| self.error(&field, &format!("{value} is not in 1-65535")))?;
                if !ports.contains(&port) {
                    ports.push(port);
                }
            }
        }
        let mut addresses: Vec<IpAddr> = Vec::new();
        if replicas.is_none() {
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
            replicas,
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

    fn error(&self, field: &str, message: &str) -> Error {
        let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        Error::Manifest {
            file: self.file.display().to_string(),
            object: format!("{} {}", word(&self.object["kind"]), word(&self.object["metadata"]["name"])),
            field: field.to_owned(),
            message: message.to_owned(),
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
        assert_eq!(pods.pod_names(), ["shop/web-1", "shop/web-2"]);
        assert_eq!((&pods.ports[..], &pods.labels["app"]), (&[8080][..], &json!("web")));
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
            ("kind: Pod\nspec: {}\n", "a.yaml: Pod ?: metadata.name: is missing; give one"),
            (
                "kind: Deployment\nmetadata: {name: d}\nspec: {replicas: -1}\n",
                "a.yaml: Deployment d: spec.replicas: -1 is not a number from 0 to 1000",
            ),
            (
                "kind: Pod\nmetadata: {name: p}\nspec: {containers: [{ports: [{containerPort: 0}]}]}\n",
                "a.yaml: Pod p: spec.containers[].ports[].containerPort: 0 is not in 1-65535",
            ),
            (
                "kind: Node\nmetadata: {name: n}\nspec: {podCIDRs: [10.0.0.0]}\n",
                "a.yaml: Node n: spec.podCIDRs: \"10.0.0.0\" is not a network such as 10.244.1.0/24",
            ),
            (
                "kind: List\nitems: [{kind: Pod, metadata: {name: p}}]\n",
                "a.yaml: Pod p: items: the lab completes Pods and Nodes that are documents of their own; take it out of \
                 the list, or give it its node and addresses",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), message);
        }
    }
}

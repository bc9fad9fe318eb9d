//! Names in manifests that match nothing in them: selectors without pods, ports that no pod has,
//! slices of no Service; and what DNS has no name for.
//!
//! The files are looked at by themselves: what another tool adds while the proxy runs is not known
//! here. So these are warnings for people who ask, and never of the proxy.

mod dns;
mod objects;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use portolan_yaml::{Content, Tree, nearest};

use objects::{Object, PodLike, at, collect, items, number, text, texts};

use super::contents::{self, WORKLOADS};
use super::problem::Problem;

/// Whether somebody makes the pods of Deployments and the like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workloads {
    /// Nobody: a folder of manifests has no controllers.
    Ignored,
    /// A cluster or a lab.
    Run,
}

/// The label that names a slice's Service (spec §1.20).
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What is to be found in [`super::unmatched`].
pub(super) fn find(files: &[(PathBuf, String)], workloads: Workloads) -> Vec<Problem> {
    let trees: Vec<(&Path, Tree)> = files
        .iter()
        .flat_map(|(file, text)| contents::trees(file, text).into_iter().map(move |trees| (file, trees)))
        .flat_map(|(file, trees)| trees.unwrap_or_default().into_iter().map(|tree| (file.as_path(), tree)))
        .collect();
    let mut objects = Vec::new();
    for (file, tree) in &trees {
        collect(file, tree, None, &mut objects);
    }
    let known = Known::of(&objects, workloads);
    let mut problems: Vec<Problem> = objects
        .iter()
        .flat_map(|object| match object.kind {
            "Service" => known.service(object),
            "EndpointSlice" => known.slice(object),
            "Endpoints" => known.endpoints(object),
            "Pod" => [known.node(object), dns::pods(object, &known.services)].concat(),
            kind if WORKLOADS.contains(&kind) => {
                [workload(object, workloads), dns::pods(object, &known.services)].concat()
            }
            _ => Vec::new(),
        })
        .collect();
    problems.sort();
    problems
}

fn meant(likely: Option<String>) -> String {
    likely.map_or(String::new(), |likely| format!("; is {likely} meant?"))
}

fn written(labels: &BTreeMap<&str, &str>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// What names can match.
struct Known<'a> {
    pods: Vec<PodLike<'a>>,
    /// Pods by each of their labels.
    by_label: HashMap<(&'a str, &'a str), Vec<usize>>,
    services: BTreeSet<(&'a str, &'a str)>,
    /// The slices, or Endpoints, of each Service.
    given: HashMap<(&'a str, &'a str), Vec<&'a Object<'a>>>,
    nodes: BTreeSet<&'a str>,
    workloads: Workloads,
}

impl<'a> Known<'a> {
    fn of(objects: &'a [Object<'a>], workloads: Workloads) -> Known<'a> {
        let pods: Vec<PodLike<'a>> = objects.iter().filter_map(PodLike::of).collect();
        let mut by_label: HashMap<_, Vec<usize>> = HashMap::new();
        for (index, pod) in pods.iter().enumerate() {
            for (key, value) in &pod.labels {
                by_label.entry((*key, *value)).or_default().push(index);
            }
        }
        let mut given: HashMap<_, Vec<_>> = HashMap::new();
        for object in objects {
            let service = match object.kind {
                "EndpointSlice" => texts(object.tree, "metadata.labels").get(SERVICE_NAME).copied(),
                "Endpoints" => Some(object.name),
                _ => None,
            };
            if let Some(service) = service {
                given.entry((object.namespace, service)).or_default().push(object);
            }
        }
        let of_kind = |kind: &'static str| objects.iter().filter(move |object| object.kind == kind);
        Known {
            pods,
            by_label,
            services: of_kind("Service").map(|service| (service.namespace, service.name)).collect(),
            given,
            nodes: of_kind("Node").map(|node| node.name).collect(),
            workloads,
        }
    }

    /// The pods, in any namespace, that have all of these labels.
    fn selected(&self, selector: &BTreeMap<&str, &str>) -> Vec<&PodLike<'a>> {
        let candidates = selector
            .iter()
            .map(|(key, value)| self.by_label.get(&(*key, *value)))
            .min_by_key(|candidates| candidates.map_or(0, Vec::len));
        let has = |pod: &&PodLike<'_>| selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
        candidates.flatten().into_iter().flatten().map(|index| &self.pods[*index]).filter(has).collect()
    }

    fn service(&self, object: &Object<'_>) -> Vec<Problem> {
        if text(object.tree, "spec.type") == Some("ExternalName") {
            return dns::external_name(object).into_iter().collect();
        }
        let selector = texts(object.tree, "spec.selector");
        if selector.is_empty() { self.given(object) } else { self.selecting(object, &selector) }
    }

    /// A Service whose endpoints are given.
    fn given(&self, object: &Object<'_>) -> Vec<Problem> {
        let Some(given) = self.given.get(&(object.namespace, object.name)) else {
            let message =
                "nothing gives it endpoints: it has no selector, and no EndpointSlice here names it; \
                           connections are refused"
                    .to_owned();
            return vec![object.problem("", message)];
        };
        let names: BTreeSet<&str> = given
            .iter()
            .flat_map(|given| match given.kind {
                "Endpoints" => {
                    items(given.tree, "subsets").iter().flat_map(|subset| items(subset, "ports")).collect()
                }
                _ => items(given.tree, "ports").iter().collect::<Vec<_>>(),
            })
            .map(|port| text(port, "name").unwrap_or_default())
            .collect();
        let ports = items(object.tree, "spec.ports").iter().enumerate();
        ports
            .filter_map(|(index, port)| {
                let name = text(port, "name").unwrap_or_default();
                let missing = !names.is_empty() && !names.contains(name);
                let quoted = names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
                missing.then(|| {
                    let likely = nearest(name, names.iter().copied()).filter(|likely| !likely.is_empty());
                    object.problem(
                        &format!("spec.ports[{index}].name"),
                        format!(
                            "no EndpointSlice of this Service has a port called {name:?}; they have {quoted}{}",
                            meant(likely.map(|likely| format!("{likely:?}")))
                        ),
                    )
                })
            })
            .collect()
    }

    /// A Service that selects pods.
    fn selecting(&self, object: &Object<'_>, selector: &BTreeMap<&str, &str>) -> Vec<Problem> {
        let everywhere = self.selected(selector);
        let pods: Vec<_> = everywhere.iter().filter(|pod| pod.object.namespace == object.namespace).collect();
        if pods.is_empty() {
            let elsewhere =
                everywhere.first().map(|pod| format!("; {} has, in another namespace", pod.object.title()));
            let likely = || meant(self.likely_labels(object.namespace, selector));
            let message = format!(
                "no pod here has the labels {}{}",
                written(selector),
                elsewhere.unwrap_or_else(likely)
            );
            return vec![object.problem("spec.selector", message)];
        }
        let mut problems: Vec<Problem> = self.none_ready(object, &pods).into_iter().collect();
        for (index, port) in items(object.tree, "spec.ports").iter().enumerate() {
            let Some(wanted) = text(port, "targetPort") else {
                problems.extend(no_such_number(object, index, port, &pods));
                continue;
            };
            let protocol = text(port, "protocol").unwrap_or("TCP");
            if pods.iter().any(|pod| pod.ports.contains(&(wanted, protocol))) {
                continue;
            }
            let names: BTreeSet<&str> = pods
                .iter()
                .flat_map(|pod| &pod.ports)
                .filter(|(_, of)| *of == protocol)
                .map(|(name, _)| *name)
                .collect();
            let have = if names.is_empty() {
                "give one of their container ports this name, or write a number".to_owned()
            } else {
                let names: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
                format!("they have {}", names.join(", "))
            };
            let message = format!("no selected pod has a {protocol} port called {wanted:?}; {have}");
            problems.push(object.problem(&format!("spec.ports[{index}].targetPort"), message));
        }
        problems
    }

    /// Pods that have what is asked for, of which none will get connections. Where somebody runs
    /// pods, they become ready.
    fn none_ready(&self, object: &Object<'_>, pods: &[&&PodLike<'_>]) -> Option<Problem> {
        let all_count = at(object.tree, "spec.publishNotReadyAddresses")
            .is_some_and(|given| given.content == Content::Bool(true));
        let mut pods = pods.iter().filter(|pod| pod.object.kind == "Pod").peekable();
        let first = pods.peek().filter(|_| self.workloads == Workloads::Ignored)?.object;
        let serves =
            |pod: &PodLike<'_>| pod.has_address() && (all_count || pod.is_ready() || pod.is_probed());
        if pods.any(|pod| serves(pod)) {
            return None;
        }
        let lacks = if PodLike::of(first)?.has_address() {
            "has no condition of type Ready with status \"True\" in status.conditions"
        } else {
            "has no address in status.podIP"
        };
        let message = format!(
            "no selected pod is ready, so that connections are refused: {} {lacks}; in a cluster the kubelet writes it",
            first.title()
        );
        Some(object.problem("spec.selector", message))
    }

    /// The labels of a pod of this namespace that differ from the selector by a slip, or in one
    /// value.
    fn likely_labels(&self, namespace: &str, selector: &BTreeMap<&str, &str>) -> Option<String> {
        let wanted = written(selector);
        let of_pods: BTreeSet<String> = self
            .pods
            .iter()
            .filter(|pod| pod.object.namespace == namespace)
            .map(|pod| {
                let same_keys = pod.labels.iter().filter(|(key, _)| {
                    selector.contains_key(*key) || nearest(key, selector.keys().copied()).is_some()
                });
                written(&same_keys.map(|(key, value)| (*key, *value)).collect())
            })
            .filter(|labels| !labels.is_empty())
            .collect();
        nearest(&wanted, of_pods.iter().map(String::as_str)).map(str::to_owned)
    }

    fn slice(&self, object: &Object<'_>) -> Vec<Problem> {
        let field = format!("metadata.labels.{SERVICE_NAME}");
        let labels = texts(object.tree, "metadata.labels");
        let mut problems = match labels.get(SERVICE_NAME).filter(|name| !name.is_empty()) {
            None => vec![object.problem(
                "metadata.labels",
                format!("the label {SERVICE_NAME} is missing, so that no Service uses this slice; let it name the Service"),
            )],
            Some(service) => self.no_service(object, &field, service),
        };
        let node_of = |(index, _): (usize, &Tree)| format!("endpoints[{index}].nodeName");
        let endpoints = items(object.tree, "endpoints").iter().enumerate();
        problems.extend(endpoints.filter_map(|(index, endpoint)| {
            self.no_node(object, &node_of((index, endpoint)), text(endpoint, "nodeName")?)
        }));
        problems
    }

    fn endpoints(&self, object: &Object<'_>) -> Vec<Problem> {
        self.no_service(object, "metadata.name", object.name)
    }

    fn no_service(&self, object: &Object<'_>, field: &str, service: &str) -> Vec<Problem> {
        if self.services.contains(&(object.namespace, service)) {
            return Vec::new();
        }
        let others = self.services.iter().filter(|(namespace, _)| *namespace == object.namespace);
        let likely = nearest(service, others.map(|(_, name)| *name)).map(str::to_owned);
        let message = format!("there is no Service {}/{service} here{}", object.namespace, meant(likely));
        vec![object.problem(field, message)]
    }

    fn node(&self, object: &Object<'_>) -> Vec<Problem> {
        let name = text(object.tree, "spec.nodeName");
        name.and_then(|name| self.no_node(object, "spec.nodeName", name)).into_iter().collect()
    }

    /// Folders without any Node are usual; beside Nodes, a name that none has is a slip.
    fn no_node(&self, object: &Object<'_>, field: &str, node: &str) -> Option<Problem> {
        if self.nodes.is_empty() || node.is_empty() || self.nodes.contains(node) {
            return None;
        }
        let likely = nearest(node, self.nodes.iter().copied()).map(str::to_owned);
        Some(object.problem(field, format!("there is no Node {node} here{}", meant(likely))))
    }
}

/// A port number that no pod has, though all of them say which ones they have. Without
/// `targetPort`, it is the Service port's own.
fn no_such_number(object: &Object<'_>, index: usize, port: &Tree, pods: &[&&PodLike<'_>]) -> Option<Problem> {
    let field = if at(port, "targetPort").is_some() { "targetPort" } else { "port" };
    let wanted = number(port, field)?;
    if pods.iter().any(|pod| pod.numbers.is_empty() || pod.numbers.contains(&wanted)) {
        return None;
    }
    let numbers: BTreeSet<u64> = pods.iter().flat_map(|pod| &pod.numbers).copied().collect();
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    let message = format!("no selected pod has a container port {wanted}; they have {}", numbers.join(", "));
    Some(object.problem(&format!("spec.ports[{index}].{field}"), message))
}

fn workload(object: &Object<'_>, workloads: Workloads) -> Vec<Problem> {
    let mut problems = Vec::new();
    if workloads == Workloads::Ignored {
        problems.push(object.problem(
            "kind",
            "is passed over: without a cluster nobody makes its pods; write Pods or EndpointSlices with the addresses, \
             or try it with `portolan lab up`"
                .to_owned(),
        ));
    }
    let field =
        if object.kind == "ReplicationController" { "spec.selector" } else { "spec.selector.matchLabels" };
    let (selector, labels) = (texts(object.tree, field), texts(object.tree, "spec.template.metadata.labels"));
    if let Some((key, value)) = selector.iter().find(|(key, value)| labels.get(*key) != Some(value)) {
        let has = labels.get(key).map_or("does not have it".to_owned(), |other| format!("has {key}={other}"));
        problems.push(object.problem(field, format!("asks for {key}={value}, but its own template {has}")));
    }
    problems
}

#[cfg(test)]
mod tests;

//! The objects of files, looked at without knowing their kinds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use portolan_yaml::{Content, Tree};

use crate::manifests::contents::WORKLOADS;
use crate::manifests::problem::{Problem, Severity};

/// An object of a file.
pub(super) struct Object<'a> {
    pub(super) file: &'a Path,
    pub(super) kind: &'a str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) tree: &'a Tree,
}

/// A Pod, or the template of one.
pub(super) struct PodLike<'a> {
    pub(super) object: &'a Object<'a>,
    pub(super) labels: BTreeMap<&'a str, &'a str>,
    /// Names and protocols of its containers' ports.
    pub(super) ports: BTreeSet<(&'a str, &'a str)>,
    /// The numbers of its containers' ports, whatever their protocol.
    pub(super) numbers: BTreeSet<u64>,
}

impl Object<'_> {
    pub(super) fn problem(&self, field: &str, message: String) -> Problem {
        Problem {
            file: self.file.to_owned(),
            line: Some(self.tree.line_of(field)),
            object: Some(self.title()),
            field: (!field.is_empty()).then(|| field.to_owned()),
            message,
            severity: Severity::Warning,
        }
    }

    pub(super) fn title(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl<'a> PodLike<'a> {
    pub(super) fn of(object: &'a Object<'a>) -> Option<PodLike<'a>> {
        let pod = match object.kind {
            "Pod" => object.tree,
            kind if WORKLOADS.contains(&kind) => at(object.tree, "spec.template")?,
            _ => return None,
        };
        let lists = ["spec.containers", "spec.initContainers"];
        let ports =
            || lists.iter().flat_map(|list| items(pod, list)).flat_map(|container| items(container, "ports"));
        Some(PodLike {
            object,
            labels: texts(pod, "metadata.labels"),
            numbers: ports().filter_map(|port| number(port, "containerPort")).collect(),
            ports: ports()
                .filter_map(|port| Some((text(port, "name")?, text(port, "protocol").unwrap_or("TCP"))))
                .collect(),
        })
    }
}

impl PodLike<'_> {
    /// Its status has an address.
    pub(super) fn has_address(&self) -> bool {
        let pod = self.object.tree;
        let of_host = at(pod, "spec.hostNetwork").is_some_and(|given| given.content == Content::Bool(true));
        text(pod, "status.podIP").is_some()
            || !items(pod, "status.podIPs").is_empty()
            || of_host && text(pod, "status.hostIP").is_some()
    }

    /// Its status has the condition Ready.
    pub(super) fn is_ready(&self) -> bool {
        let conditions = items(self.object.tree, "status.conditions");
        conditions.iter().any(|it| text(it, "type") == Some("Ready") && text(it, "status") == Some("True"))
    }

    /// A container has a probe that says whether it is ready.
    pub(super) fn is_probed(&self) -> bool {
        let given = |container: &Tree, probe: &str| {
            ["httpGet", "tcpSocket", "grpc"]
                .iter()
                .any(|how| at(container, &format!("{probe}.{how}")).is_some())
        };
        let containers = items(self.object.tree, "spec.containers").iter();
        let probes = ["readinessProbe", "livenessProbe", "startupProbe"];
        containers.into_iter().any(|container| probes.iter().any(|probe| given(container, probe)))
    }
}

/// Takes the objects of a document, which may be a list.
pub(super) fn collect<'a>(
    file: &'a Path,
    tree: &'a Tree,
    implied: Option<&'a str>,
    objects: &mut Vec<Object<'a>>,
) {
    let Some(kind) = tree.get("kind").and_then(Tree::text).or(implied) else { return };
    if let (Some(of), Some(items)) = (kind.strip_suffix("List"), tree.get("items")) {
        if let Content::List(items) = &items.content {
            let of = Some(of).filter(|of| !of.is_empty());
            for item in items {
                collect(file, item, of, objects);
            }
        }
        return;
    }
    let Some(name) = text(tree, "metadata.name") else { return };
    let namespace = text(tree, "metadata.namespace").filter(|namespace| !namespace.is_empty());
    objects.push(Object { file, kind, namespace: namespace.unwrap_or("default"), name, tree });
}

pub(super) fn at<'a>(tree: &'a Tree, path: &str) -> Option<&'a Tree> {
    path.split('.').try_fold(tree, |tree, key| tree.get(key))
}

pub(super) fn text<'a>(tree: &'a Tree, path: &str) -> Option<&'a str> {
    at(tree, path)?.text()
}

/// The whole number at `path`, which may be none that a port can have.
pub(super) fn number(tree: &Tree, path: &str) -> Option<u64> {
    match &at(tree, path)?.content {
        Content::Number(number) => number.as_u64(),
        _ => None,
    }
}

pub(super) fn items<'a>(tree: &'a Tree, path: &str) -> &'a [Tree] {
    match at(tree, path).map(|tree| &tree.content) {
        Some(Content::List(items)) => items,
        _ => &[],
    }
}

pub(super) fn texts<'a>(tree: &'a Tree, path: &str) -> BTreeMap<&'a str, &'a str> {
    match at(tree, path).map(|tree| &tree.content) {
        Some(Content::Map(map)) => {
            map.iter().filter_map(|(key, value)| Some((key.as_str(), value.text()?))).collect()
        }
        _ => BTreeMap::new(),
    }
}

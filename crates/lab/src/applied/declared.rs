//! An object that a file declares.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use portolan_apiserver::{Failure, Objects, Resource};
use portolan_source::manifests::{Problem, Severity, Tree};
use serde_json::{Map, Value, json};

use crate::finding::Finding;
use crate::kubelet::ASKED_ADDRESSES;

/// What an object is known by: its resource, its namespace (empty for none) and its name.
pub(super) type Key = (Resource, String, String);

/// Fields of `metadata` that only a server sets: they are in what was read from one.
const OF_THE_SERVER: [&str; 6] =
    ["managedFields", "uid", "resourceVersion", "creationTimestamp", "generation", "selfLink"];

/// An object, and where it is written.
#[derive(Debug, Clone)]
pub(super) struct Declared {
    file: PathBuf,
    tree: Tree,
    /// As it is written.
    pub(super) given: Value,
    /// Where its objects are served; none if they are not.
    resource: Option<Resource>,
}

impl Declared {
    /// Reads one that has a kind and a name; else the problem says what is missing.
    pub(super) fn read(file: &Path, tree: Tree) -> Result<Self, Box<Problem>> {
        let mut given = tree.to_json();
        if given.is_object() && given["apiVersion"].is_null() {
            let mut all = Resource::ALL.into_iter();
            let alike = all.find(|resource| given["kind"] == resource.kind());
            given["apiVersion"] = json!(alike.map(Resource::api_version));
        }
        let resource = Objects::resource_of(&given).ok();
        let declared = Self { file: file.to_owned(), tree, given, resource };
        for (field, found) in [("kind", declared.kind()), ("metadata.name", declared.name())] {
            if found.is_empty() {
                return Err(Box::new(declared.problem(field, "is missing; give one", Severity::Error)));
            }
        }
        Ok(declared)
    }

    pub(super) fn kind(&self) -> &str {
        self.given["kind"].as_str().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.given["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// The value of a field such as `spec.type`; null if there is none.
    pub(super) fn at(&self, path: &str) -> &Value {
        path.split('.').fold(&self.given, |value, key| &value[key])
    }

    /// Its place on the server, if it is served.
    pub(super) fn key(&self) -> Option<Key> {
        let resource = self.resource?;
        let namespace = match self.given["metadata"]["namespace"].as_str() {
            _ if !resource.namespaced() => "",
            None | Some("") => "default",
            Some(namespace) => namespace,
        };
        Some((resource, namespace.to_owned(), self.name().to_owned()))
    }

    /// What is to be applied: without what is the server's or a node's.
    pub(super) fn wanted(&self) -> Value {
        let mut wanted = self.given.clone();
        if let Some(fields) = wanted.as_object_mut() {
            fields.remove("status");
        }
        if let Some(metadata) = wanted["metadata"].as_object_mut() {
            metadata.retain(|field, _| !OF_THE_SERVER.contains(&field.as_str()));
        }
        let asked = self.asked_addresses();
        if !asked.is_empty() {
            let annotations = &mut wanted["metadata"]["annotations"];
            if !annotations.is_object() {
                *annotations = Value::Object(Map::new());
            }
            annotations[ASKED_ADDRESSES] = json!(asked.join(","));
        }
        wanted
    }

    /// The addresses that a Pod is to have.
    fn asked_addresses(&self) -> Vec<&str> {
        if self.resource != Some(Resource::Pods) {
            return Vec::new();
        }
        let listed = self.at("status.podIPs").as_array().into_iter().flatten();
        let listed = listed.filter_map(|entry| entry["ip"].as_str());
        let mut asked: Vec<&str> = Vec::new();
        for address in listed.chain(self.at("status.podIP").as_str()) {
            if !asked.contains(&address) {
                asked.push(address);
            }
        }
        asked
    }

    /// What its load balancer has, if it is a Service that says so.
    pub(super) fn load_balancer(&self) -> Option<Value> {
        let found = self.at("status.loadBalancer");
        (self.resource == Some(Resource::Services) && found.is_object()).then(|| found.clone())
    }

    /// The ClusterIPs that it asks for, if it is a Service.
    pub(super) fn cluster_ips(&self) -> Vec<IpAddr> {
        if self.resource != Some(Resource::Services) {
            return Vec::new();
        }
        let listed = self.at("spec.clusterIPs").as_array().into_iter().flatten();
        let texts = listed.chain([self.at("spec.clusterIP")]).filter_map(Value::as_str);
        let mut asked: Vec<IpAddr> = texts.filter_map(|text| text.parse().ok()).collect();
        asked.dedup();
        asked
    }

    /// `file:line`, for messages about others.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.tree.line)
    }

    /// That something about it is left out.
    pub(super) fn warning(&self, field: &str, message: &str) -> Finding {
        Finding::of(&self.problem(field, message, Severity::Warning))
    }

    /// That something about it is wrong.
    pub(super) fn error(&self, field: &str, message: &str) -> Finding {
        Finding::of(&self.problem(field, message, Severity::Error))
    }

    /// That the server does not take it.
    pub(super) fn refused(&self, failure: &Failure) -> Finding {
        let field = failure.details.pointer("/causes/0/field").and_then(Value::as_str).unwrap_or_default();
        let problem = self.problem(field, &failure.message, Severity::Error);
        // The message names the field, and others that are wrong.
        Finding::of(&Problem { field: None, ..problem })
    }

    fn problem(&self, field: &str, message: &str, severity: Severity) -> Problem {
        let or_unknown = |text: &str| if text.is_empty() { "?".to_owned() } else { text.to_owned() };
        Problem {
            file: self.file.clone(),
            line: Some(self.tree.line_of(field)),
            object: Some(format!("{} {}", or_unknown(self.kind()), or_unknown(self.name()))),
            field: Some(field.to_owned()).filter(|field| !field.is_empty()),
            message: message.to_owned(),
            severity,
        }
    }
}

//! Objects as they are declared: checked, with usable values, before anything is allocated or selected.
//!
//! The checks are those of the API server, so that a manifest accepted here is one that a cluster accepts.

mod address;
mod endpoints;
mod node;
mod pod;
mod service;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use portolan_service::{EndpointSlice, Family, Node, ObjectName, Protocol, Special};

pub use address::{parse_address, parse_network};
pub(crate) use pod::Pod;
pub(crate) use service::{Distribution, FamilyPolicy, Port, Service, TargetPort};

use crate::objects;

/// The kinds of objects that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Namespace,
    Node,
    Pod,
    Service,
    Endpoints,
    EndpointSlice,
}

impl Kind {
    const ALL: [Kind; 6] =
        [Kind::Namespace, Kind::Node, Kind::Pod, Kind::Service, Kind::Endpoints, Kind::EndpointSlice];

    /// The kind called `name`.
    pub(crate) fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Namespace => "Namespace",
            Kind::Node => "Node",
            Kind::Pod => "Pod",
            Kind::Service => "Service",
            Kind::Endpoints => "Endpoints",
            Kind::EndpointSlice => "EndpointSlice",
        }
    }

    /// The `apiVersion` of this kind.
    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Kind::EndpointSlice => "discovery.k8s.io/v1",
            _ => "v1",
        }
    }

    /// Whether its objects live in namespaces.
    pub(crate) fn namespaced(self) -> bool {
        !matches!(self, Kind::Namespace | Kind::Node)
    }
}

/// What identifies an object: kind and name. The namespace is empty where the kind has none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) kind: Kind,
    pub(crate) name: ObjectName,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind.namespaced() {
            write!(f, "{} {}", self.kind.name(), self.name)
        } else {
            write!(f, "{} {}", self.kind.name(), self.name.name())
        }
    }
}

/// A checked object.
#[derive(Debug, PartialEq)]
pub(crate) enum Object {
    Namespace,
    Node(Node),
    Pod(Pod),
    Service(Service),
    /// Endpoints, as the slices that a cluster would mirror them to.
    Endpoints(Vec<EndpointSlice>),
    /// `None` for a slice that names no Service or has no IP addresses (spec §1.20, §1.21).
    EndpointSlice(Option<EndpointSlice>),
}

/// One thing wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Issue {
    /// Path of the field; empty for the whole object.
    pub(crate) field: String,
    /// What is wrong, with the value, and what to do.
    pub(crate) message: String,
}

/// Collects what is wrong with one object, so that people learn all of it at once.
#[derive(Debug, Default)]
pub(crate) struct Issues(Vec<Issue>);

impl Issues {
    pub(crate) fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Issue { field: field.into(), message: message.into() });
    }

    /// `value`, or what is wrong.
    fn or<T>(self, value: T) -> Result<T, Vec<Issue>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }

    /// An address that a Service could have.
    fn of_a_service(&mut self, field: &str, address: IpAddr) -> Option<IpAddr> {
        let Some(special) = Special::of(address) else { return Some(address) };
        self.add(
            field,
            format!("{address} is {special}, which is no Service's to have, and is not served: remove it"),
        );
        None
    }

    /// A port number.
    fn port(&mut self, field: impl Into<String>, number: i64) -> Option<u16> {
        match u16::try_from(number) {
            Ok(port) if port != 0 => Some(port),
            _ => {
                self.add(field, format!("{number} is not in 1-65535"));
                None
            }
        }
    }

    /// A protocol; TCP if not given.
    fn protocol(&mut self, field: impl Into<String>, name: Option<&str>) -> Option<Protocol> {
        match name {
            None | Some("TCP") => Some(Protocol::Tcp),
            Some("UDP") => Some(Protocol::Udp),
            Some("SCTP") => Some(Protocol::Sctp),
            Some(other) => {
                self.add(field, format!("{other} is not one of TCP, UDP, SCTP"));
                None
            }
        }
    }

    /// A value out of a list of words.
    fn word<T: Copy>(&mut self, field: &str, value: &str, words: &[(&str, T)]) -> Option<T> {
        let found = words.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.add(field, format!("{value} is not one of {}", known.join(", ")));
        }
        found
    }

    /// A DNS label (RFC 1123): how most names are spelled.
    fn label(&mut self, field: impl Into<String>, name: &str) {
        if !is_label(name) {
            self.add(
                field,
                format!(
                    "{name:?} is not a DNS label: up to 63 of a-z, 0-9 and -, not beginning or ending with -"
                ),
            );
        }
    }
}

fn is_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Whether `name` is a DNS subdomain (RFC 1123): labels with dots between them.
fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label)
}

/// What is wrong with the name or namespace of an object.
pub(crate) fn check_name(kind: Kind, namespace: &str, name: &str) -> Result<(), Vec<Issue>> {
    let mut issues = Issues::default();
    match kind {
        Kind::Service | Kind::Namespace => issues.label("metadata.name", name),
        _ if !is_subdomain(name) => issues.add(
            "metadata.name",
            format!("{name:?} is not a DNS name: up to 253 of a-z, 0-9, - and ., each part beginning and ending with a letter or digit"),
        ),
        _ => {}
    }
    if kind.namespaced() {
        issues.label("metadata.namespace", namespace);
    }
    if kind == Kind::EndpointSlice && is_generated(name) {
        issues.add(
            "metadata.name",
            format!("{name} is how slices made for Services with a selector are called; choose another name"),
        );
    }
    issues.or(())
}

/// The name of a slice made for a Service, not given.
pub(crate) fn generated_name(service: &ObjectName, family: Family, number: usize) -> ObjectName {
    let family = match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    };
    ObjectName::new(service.namespace(), &format!("{}-portolan-{family}-{number}", service.name()))
}

fn is_generated(name: &str) -> bool {
    ["-portolan-ipv4-", "-portolan-ipv6-"].iter().any(|part| {
        name.rsplit_once(part)
            .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// What one object is found to be.
#[derive(Debug)]
pub(crate) struct Declared {
    /// `None` if it is not valid.
    pub(crate) object: Option<Object>,
    /// What is wrong with it; of a valid object, what of it is left out.
    pub(crate) issues: Vec<Issue>,
}

impl Declared {
    /// Not valid, for this reason.
    pub(crate) fn invalid(issue: Issue) -> Declared {
        Declared { object: None, issues: vec![issue] }
    }
}

/// So many things wrong with one object are listed; of others it is said how many there are.
const LISTED: usize = 20;

/// The first of `issues`, and how many others there are: one object cannot fill the log.
pub(crate) fn capped(mut issues: Vec<Issue>) -> Vec<Issue> {
    if issues.len() > LISTED {
        let more = issues.len() - LISTED;
        issues.truncate(LISTED);
        issues.push(Issue {
            field: String::new(),
            message: format!("{more} more problems, which are not listed"),
        });
    }
    issues
}

/// Checks the object called `key`, given as JSON. The label of errors is the path of the field.
pub(crate) fn declare(key: &Key, json: serde_json::Value) -> Declared {
    let mut left_out = Vec::new();
    let declared = declare_all(key, json, &mut left_out);
    let (object, mut issues) = match declared {
        Ok(object) => (Some(object), Vec::new()),
        Err(issues) => (None, issues),
    };
    issues.append(&mut left_out);
    Declared { object, issues: capped(issues) }
}

fn declare_all(key: &Key, json: serde_json::Value, left_out: &mut Vec<Issue>) -> Result<Object, Vec<Issue>> {
    match key.kind {
        Kind::Namespace => Ok(Object::Namespace),
        Kind::Node => {
            read::<objects::Node>(json).and_then(|node| node::declare(&key.name, &node)).map(Object::Node)
        }
        Kind::Pod => read::<objects::Pod>(json).and_then(|pod| pod::declare(&pod)).map(Object::Pod),
        Kind::Service => read::<objects::Service>(json)
            .and_then(|service| service::declare(&key.name, &service, left_out))
            .map(Object::Service),
        Kind::Endpoints => read::<objects::Endpoints>(json)
            .and_then(|endpoints| endpoints::mirror(&key.name, &endpoints))
            .map(Object::Endpoints),
        Kind::EndpointSlice => read::<objects::EndpointSlice>(json)
            .and_then(|slice| endpoints::declare(&key.name, &slice))
            .map(Object::EndpointSlice),
    }
}

fn read<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> Result<T, Vec<Issue>> {
    serde_path_to_error::deserialize(json).map_err(|error| {
        let field = match error.path().to_string() {
            path if path == "." => String::new(),
            path => path,
        };
        let mut message = error.inner().to_string();
        if message.contains("expected a string") && !message.contains("map") && !message.contains("sequence")
        {
            message.push_str("; put it in quotes");
        }
        vec![Issue { field, message }]
    })
}

/// Text that many objects share.
fn shared(text: &str) -> Arc<str> {
    Arc::from(text)
}

/// Labels or a selector.
pub(crate) type Labels = BTreeMap<String, String>;

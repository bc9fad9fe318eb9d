//! Objects as they are declared: checked, with usable values, before anything is allocated or
//! selected.
//!
//! The checks are those of the API server, so that a manifest accepted here is one that a cluster
//! accepts.

mod endpoints;
mod naming;
mod node;
mod pod;
mod probes;
mod service;
mod slice;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use portolan_controllers::{Endpoints, Issue, Naming, Pod, ServiceSpec, is_generated_name};
use portolan_probe::Target;
use portolan_service::{
    EndpointSlice, Node, ObjectName, PodPhase, Protocol, Special, TargetSlice, parse_address, parse_network,
};

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
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Object {
    Namespace(Labels),
    Node(Arc<Node>),
    Pod(Arc<Pod>, PodPhase, Option<Arc<Target>>),
    Service(Arc<ServiceSpec>),
    Endpoints(Arc<Endpoints>),
    EndpointSlice(Slice),
}

/// Labels of a Namespace.
pub(crate) type Labels = Arc<[(Box<str>, Box<str>)]>;

/// A checked EndpointSlice.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Slice {
    /// For rules (spec §1.20, §1.21). `further` has the addresses of its endpoints after their
    /// first, for names only.
    Addresses { slice: Arc<EndpointSlice>, further: Option<Arc<EndpointSlice>> },
    /// One of type FQDN, for names only.
    Targets(Arc<TargetSlice>),
    /// It names no Service.
    Unused,
}

/// Collects what is wrong with one object, so that people learn all of it at once.
#[derive(Debug, Default)]
pub(crate) struct Issues(Vec<Issue>);

impl Issues {
    pub(crate) fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Issue::new(field, message));
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

    /// An IP address.
    fn address(&mut self, field: impl Into<String>, text: &str) -> Option<IpAddr> {
        let address = parse_address(text);
        if address.is_none() {
            self.add(field, format!("{text:?} is not an IP address"));
        }
        address
    }

    /// A network in CIDR notation.
    fn network(&mut self, field: impl Into<String>, text: &str) -> Option<IpNet> {
        let network = parse_network(text);
        if network.is_none() {
            self.add(field, format!("{text:?} is not a network such as 10.0.0.0/8 or fd00::/64"));
        }
        network
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

/// Whether `name` is a subdomain of two labels or more; it may end in a dot.
fn is_qualified(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.contains('.') && is_subdomain(name)
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
    if kind == Kind::EndpointSlice && is_generated_name(name) {
        issues.add(
            "metadata.name",
            format!("{name} is how slices made for Services with a selector are called; choose another name"),
        );
    }
    issues.or(())
}

/// What one object is found to be.
#[derive(Debug)]
pub(crate) struct Declared {
    /// `None` if it is not valid.
    pub(crate) object: Option<Object>,
    /// What is wrong with it; of a valid object, what of it is left out.
    pub(crate) issues: Vec<Issue>,
    /// What is asked for, and nobody does here.
    pub(crate) warnings: Vec<Issue>,
}

impl Declared {
    /// Not valid, for this reason.
    pub(crate) fn invalid(issue: Issue) -> Declared {
        Declared { object: None, issues: vec![issue], warnings: Vec::new() }
    }
}

/// Checks the object called `key`, given as JSON. The label of errors is the path of the field.
pub(crate) fn declare(key: &Key, json: serde_json::Value) -> Declared {
    let (mut left_out, mut warnings) = (Vec::new(), Vec::new());
    let declared = declare_all(key, json, &mut left_out, &mut warnings);
    let (object, mut issues) = match declared {
        Ok(object) => (Some(object), Vec::new()),
        Err(issues) => (None, issues),
    };
    issues.append(&mut left_out);
    Declared { object, issues: Issue::capped(issues), warnings: Issue::capped(warnings) }
}

fn declare_all(
    key: &Key,
    json: serde_json::Value,
    left_out: &mut Vec<Issue>,
    warnings: &mut Vec<Issue>,
) -> Result<Object, Vec<Issue>> {
    let name = &key.name;
    Ok(match key.kind {
        Kind::Namespace => {
            let namespace: objects::Namespace = read(json)?;
            let labels = namespace.metadata.labels.into_iter();
            Object::Namespace(labels.map(|(key, value)| (key.into(), value.into())).collect())
        }
        Kind::Node => Object::Node(node::declare(name, &read(json)?)?.into()),
        Kind::Pod => {
            let named = read(&json)?;
            let pod: objects::Pod = read(json)?;
            let phase = PodPhase::named(pod.status.phase.as_deref().unwrap_or_default());
            let (pod, target) = pod::declare(&pod, &named, warnings)?;
            Object::Pod(pod.into(), phase, target)
        }
        Kind::Service => Object::Service(service::declare(name, &read(json)?, left_out)?.into()),
        Kind::Endpoints => Object::Endpoints(endpoints::declare(&read(json)?)?.into()),
        Kind::EndpointSlice => Object::EndpointSlice(slice::declare(name, &read(json)?)?),
    })
}

/// What the `spec` of a Pod, or of a template of one, says of names. The path of a field in an
/// issue begins with `spec`.
pub fn naming(spec: &serde_json::Value) -> Result<Naming, Vec<Issue>> {
    let mut issues = Issues::default();
    let read: objects::NamedPod = read(serde_json::json!({"spec": spec}))?;
    let naming = naming::declare(&mut issues, &read.spec);
    issues.or(naming)
}

fn read<'j, T: serde::de::DeserializeOwned>(
    json: impl serde::Deserializer<'j, Error = serde_json::Error>,
) -> Result<T, Vec<Issue>> {
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

/// Text that is not empty.
fn given(text: Option<&str>) -> Option<Arc<str>> {
    text.filter(|text| !text.is_empty()).map(shared)
}

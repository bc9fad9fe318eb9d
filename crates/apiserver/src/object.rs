//! One object as it is stored: serialised once, with what selectors look at beside it.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::resource::Resource;

/// Namespace (empty for what has none) and name.
pub(crate) type Key = (Arc<str>, Arc<str>);

#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) key: Key,
    pub(crate) version: u64,
    labels: Box<[(Box<str>, Box<str>)]>,
    /// In the order of `Resource::selectable`.
    fields: Box<[Box<str>]>,
    resource: Resource,
    /// As in a list: without kind and apiVersion, metadata first.
    pub(crate) json: Bytes,
}

/// An object that cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It is of a kind that is not served.
    #[error("{api_version} {kind} is not a kind that is served")]
    Kind {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
    /// It has no name.
    #[error("{0}: metadata.name is missing")]
    Name(&'static str),
    /// It is not a JSON object, or its metadata is not.
    #[error("not an object with metadata")]
    Shape,
}

pub(crate) fn resource_of(object: &Value) -> Result<Resource, Invalid> {
    let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    Resource::from_kind(&api_version, &kind).ok_or(Invalid::Kind { api_version, kind })
}

impl Object {
    /// Takes an object at a version, filling in what a server fills in.
    pub(crate) fn new(resource: Resource, object: Value, version: u64) -> Result<Self, Invalid> {
        let Value::Object(mut object) = object else { return Err(Invalid::Shape) };
        object.remove("kind");
        object.remove("apiVersion");
        let Some(Value::Object(mut metadata)) = object.remove("metadata") else { return Err(Invalid::Shape) };
        let Some(name) = metadata.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) else {
            return Err(Invalid::Name(resource.kind()));
        };
        let name: Arc<str> = name.into();
        let namespace: Arc<str> = if resource.namespaced() {
            metadata
                .entry("namespace")
                .or_insert_with(|| json!("default"))
                .as_str()
                .unwrap_or("default")
                .into()
        } else {
            metadata.remove("namespace");
            "".into()
        };
        metadata.entry("uid").or_insert_with(|| json!(uid(resource, &namespace, &name)));
        metadata.entry("creationTimestamp").or_insert_with(|| json!("2026-05-04T09:17:31Z"));
        metadata.insert("resourceVersion".to_owned(), json!(version.to_string()));
        let labels = metadata.get("labels").and_then(Value::as_object).into_iter().flatten();
        let labels = labels.map(|(key, value)| (key.as_str().into(), text(value).into())).collect();
        let fields = resource.selectable().iter().map(|path| text(at(&object, path)).into()).collect();
        Ok(Self {
            key: (namespace, name),
            version,
            labels,
            fields,
            resource,
            json: serialise(&metadata, &object),
        })
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(name, _)| **name == *key).map(|(_, value)| &**value)
    }

    pub(crate) fn field(&self, path: &str) -> &str {
        match path {
            "metadata.name" => &self.key.1,
            "metadata.namespace" => &self.key.0,
            _ => {
                let position = self.resource.selectable().iter().position(|field| *field == path);
                position.map_or("", |position| &self.fields[position])
            }
        }
    }

    /// The whole object; none when it has been corrupted beyond JSON.
    pub(crate) fn value(&self) -> Option<Value> {
        let mut value: Value = serde_json::from_slice(&self.json).ok()?;
        value["apiVersion"] = json!(self.resource.api_version());
        value["kind"] = json!(self.resource.kind());
        Some(value)
    }

    /// The same at another version, as a deletion shows it.
    pub(crate) fn at_version(&self, version: u64) -> Self {
        let json = match serde_json::from_slice(&self.json) {
            Ok(Value::Object(mut object)) => match object.remove("metadata") {
                Some(Value::Object(mut metadata)) => {
                    metadata.insert("resourceVersion".to_owned(), json!(version.to_string()));
                    serialise(&metadata, &object)
                }
                _ => self.json.clone(),
            },
            _ => self.json.clone(),
        };
        self.with_json(version, json)
    }

    /// The same, selected as before, but sent as `json`.
    pub(crate) fn with_json(&self, version: u64, json: Bytes) -> Self {
        Self {
            key: self.key.clone(),
            version,
            labels: self.labels.clone(),
            fields: self.fields.clone(),
            resource: self.resource,
            json,
        }
    }

    /// As it is sent alone or in a watch event: with kind and apiVersion.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"kind\":\"");
        out.extend_from_slice(self.resource.kind().as_bytes());
        out.extend_from_slice(b"\",\"apiVersion\":\"");
        out.extend_from_slice(self.resource.api_version().as_bytes());
        out.extend_from_slice(b"\",");
        out.extend_from_slice(self.json.strip_prefix(b"{").unwrap_or(&self.json));
    }
}

fn at<'a>(object: &'a Map<String, Value>, path: &str) -> &'a Value {
    let mut steps = path.split('.');
    let mut value = steps.next().and_then(|step| object.get(step)).unwrap_or(&Value::Null);
    for step in steps {
        value = &value[step];
    }
    value
}

/// A value as field selectors compare it.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Metadata first, as a real server writes it.
fn serialise(metadata: &Map<String, Value>, rest: &Map<String, Value>) -> Bytes {
    let mut out = b"{\"metadata\":".to_vec();
    out.extend(serde_json::to_vec(metadata).expect("maps with text keys"));
    for (field, value) in rest {
        out.push(b',');
        out.extend(serde_json::to_vec(field).expect("text"));
        out.push(b':');
        out.extend(serde_json::to_vec(value).expect("maps with text keys"));
    }
    out.push(b'}');
    out.into()
}

/// An identity that stays the same for the same name.
fn uid(resource: Resource, namespace: &str, name: &str) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (resource, namespace, name).hash(&mut hasher);
    let high = hasher.finish();
    high.hash(&mut hasher);
    let low = hasher.finish();
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}

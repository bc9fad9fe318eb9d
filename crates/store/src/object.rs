//! One object as it is stored: serialised once, with what selectors look at beside it.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::definition::Definition;

/// Namespace (empty for what has none) and name.
pub(crate) type Key = (Arc<str>, Arc<str>);

/// An object at a version.
#[derive(Debug)]
pub struct Object {
    key: Key,
    version: u64,
    labels: Box<[(Box<str>, Box<str>)]>,
    /// In the order of `Definition::selectable`.
    fields: Box<[Box<str>]>,
    definition: &'static Definition,
    json: Bytes,
}

/// An object that cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It has no name.
    #[error("{0}: metadata.name is missing")]
    Name(&'static str),
    /// It is not a JSON object, or its metadata is not.
    #[error("not an object with metadata")]
    Shape,
}

impl Object {
    /// Takes an object at a version. One without a namespace that needs one is in `default`.
    pub(crate) fn new(definition: &'static Definition, object: Value, version: u64) -> Result<Self, Invalid> {
        let Value::Object(mut object) = object else { return Err(Invalid::Shape) };
        object.remove("kind");
        object.remove("apiVersion");
        let Some(Value::Object(mut metadata)) = object.remove("metadata") else { return Err(Invalid::Shape) };
        let Some(name) = metadata.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) else {
            return Err(Invalid::Name(definition.kind));
        };
        let name: Arc<str> = name.into();
        let namespace: Arc<str> = if definition.namespaced {
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
        metadata.insert("resourceVersion".to_owned(), json!(version.to_string()));
        let labels = metadata.get("labels").and_then(Value::as_object).into_iter().flatten();
        let labels = labels.map(|(key, value)| (key.as_str().into(), text(value).into())).collect();
        let fields = definition.selectable.iter().map(|path| text(at(&object, path)).into()).collect();
        Ok(Self {
            key: (namespace, name),
            version,
            labels,
            fields,
            definition,
            json: serialise(&metadata, &object),
        })
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Its namespace; empty for what has none.
    pub fn namespace(&self) -> &str {
        &self.key.0
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.key.1
    }

    /// Its `kind`.
    pub fn kind(&self) -> &'static str {
        self.definition.kind
    }

    /// Its resource version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// As it is in a list: without kind and apiVersion, metadata first.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(name, _)| **name == *key).map(|(_, value)| &**value)
    }

    pub(crate) fn field(&self, path: &str) -> &str {
        match path {
            "metadata.name" => &self.key.1,
            "metadata.namespace" => &self.key.0,
            _ => {
                let position = self.definition.selectable.iter().position(|field| *field == path);
                position.map_or("", |position| &self.fields[position])
            }
        }
    }

    /// The whole object; none if it is sent as something that is not JSON.
    pub fn value(&self) -> Option<Value> {
        let mut value: Value = serde_json::from_slice(&self.json).ok()?;
        value["apiVersion"] = json!(self.definition.api_version());
        value["kind"] = json!(self.definition.kind);
        Some(value)
    }

    /// The same at another version, as a deletion shows it.
    #[must_use]
    pub fn at_version(&self, version: u64) -> Self {
        let mut object: Map<String, Value> = serde_json::from_slice(&self.json).unwrap_or_default();
        let Some(Value::Object(mut metadata)) = object.remove("metadata") else {
            // It is sent as something else, which has no version.
            return self.with_json(version, self.json.clone());
        };
        metadata.insert("resourceVersion".to_owned(), json!(version.to_string()));
        self.with_json(version, serialise(&metadata, &object))
    }

    /// The same, selected as before, but sent as `json`, which has no kind and apiVersion either.
    #[must_use]
    pub fn sent_as(&self, json: Bytes) -> Self {
        self.with_json(self.version, json)
    }

    fn with_json(&self, version: u64, json: Bytes) -> Self {
        Self {
            key: self.key.clone(),
            version,
            labels: self.labels.clone(),
            fields: self.fields.clone(),
            definition: self.definition,
            json,
        }
    }

    /// As it is sent alone or in a watch event: with kind and apiVersion.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"kind\":\"");
        out.extend_from_slice(self.definition.kind.as_bytes());
        out.extend_from_slice(b"\",\"apiVersion\":\"");
        out.extend_from_slice(self.definition.api_version().as_bytes());
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

//! The schema as OpenAPI 3 documents: what `kubectl explain` prints, and by which clients know that
//! fields are checked here.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::schema::{Field, Kind, ListKind, Merge, Scalar, Schema, Struct};
use crate::view::{View, group_version};

/// Changes with the schema, so that clients keep documents until then.
const HASH: &str = "1.36-1";

/// `/openapi/v3`: where the documents are.
pub(crate) fn root() -> Value {
    let mut paths = Map::new();
    for view in View::all() {
        let path = path_of(view.group(), view.version());
        let url = json!({ "serverRelativeURL": format!("/openapi/v3/{path}?hash={HASH}") });
        paths.insert(path, url);
    }
    json!({ "paths": paths })
}

fn path_of(group: &str, version: &str) -> String {
    let prefix = if group.is_empty() { "api" } else { "apis" };
    format!("{prefix}/{}", group_version(group, version))
}

/// The document of a group version by its path, as `apis/apps/v1`.
pub(crate) fn document(path: &str) -> Option<Value> {
    let views: Vec<View> = View::all().filter(|view| path_of(view.group(), view.version()) == path).collect();
    if views.is_empty() {
        return None;
    }
    let mut schemas = Schemas::default();
    let mut paths = Map::new();
    for view in views {
        let gvk = json!({ "group": view.group(), "version": view.version(), "kind": view.kind() });
        let root = Schema::get().find(view.schema());
        let mut schema = schemas.of(root);
        schema["x-kubernetes-group-version-kind"] = json!([gvk]);
        for field in ["apiVersion", "kind"] {
            schema["properties"][field] = json!({ "type": "string",
                "description": "What the object is: its group and version, and its kind." });
        }
        // The same type under two versions has two names.
        let name = if view.is_old_deployment() {
            "io.k8s.api.extensions.v1beta1.Deployment".to_owned()
        } else {
            full_name(root)
        };
        schemas.done.insert(name, schema);
        let namespaces = if view.resource.namespaced() { "namespaces/{namespace}/" } else { "" };
        let at = format!("/{path}/{namespaces}{}/{{name}}", view.plural());
        let validation = json!({ "name": "fieldValidation", "in": "query", "schema": { "type": "string" } });
        paths.insert(
            at,
            json!({ "patch": { "parameters": [validation], "responses": {},
                "x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": gvk } }),
        );
    }
    schemas.finish();
    Some(
        json!({ "openapi": "3.0.0", "info": { "title": "Portolan's lab", "version": "v1.36.0" }, "paths": paths,
        "components": { "schemas": schemas.done } }),
    )
}

/// As Kubernetes names a type there.
fn full_name(schema: &Struct) -> String {
    match schema.name.strip_prefix("meta.") {
        Some(rest) => format!("io.k8s.apimachinery.pkg.apis.meta.{rest}"),
        None => format!("io.k8s.api.{}", schema.name),
    }
}

/// The types of a document.
#[derive(Default)]
struct Schemas {
    done: Map<String, Value>,
    /// Positions of types that others lead to.
    wanted: BTreeSet<usize>,
}

impl Schemas {
    /// Adds all types that others lead to.
    fn finish(&mut self) {
        while let Some(position) = self.wanted.pop_first() {
            let schema = Schema::get().at(position);
            let name = full_name(schema);
            if !self.done.contains_key(&name) {
                let value = self.of(schema);
                self.done.insert(name, value);
            }
        }
    }

    fn of(&mut self, schema: &'static Struct) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in schema.all_fields() {
            properties.insert(field.name.to_owned(), self.field(field));
            if field.required {
                required.push(field.name);
            }
        }
        let mut value = json!({ "type": "object", "properties": properties });
        if let Some(text) = Schema::description(schema.name) {
            value["description"] = json!(text);
        }
        if !required.is_empty() {
            value["required"] = json!(required);
        }
        value
    }

    fn field(&mut self, field: &Field) -> Value {
        let mut value = self.kind(&field.kind);
        // What stands beside a reference is ignored, so the reference goes one step down.
        if value.get("$ref").is_some() {
            value = json!({ "allOf": [value] });
        }
        if let Some(text) = field.description() {
            value["description"] = json!(text);
        }
        match &field.list {
            ListKind::Keys(keys) => {
                value["x-kubernetes-list-type"] = json!("map");
                value["x-kubernetes-list-map-keys"] = json!(keys);
            }
            ListKind::Set => value["x-kubernetes-list-type"] = json!("set"),
            ListKind::Default if matches!(field.kind, Kind::List(_)) => {
                value["x-kubernetes-list-type"] = json!("atomic");
            }
            ListKind::Atomic => value["x-kubernetes-map-type"] = json!("atomic"),
            ListKind::Default => {}
        }
        let strategy = match (field.merge.is_some(), field.retain_keys) {
            (true, true) => "merge,retainKeys",
            (true, false) => "merge",
            (false, true) => "retainKeys",
            (false, false) => return value,
        };
        value["x-kubernetes-patch-strategy"] = json!(strategy);
        if let Some(Merge::By(key)) = field.merge {
            value["x-kubernetes-patch-merge-key"] = json!(key);
        }
        value
    }

    fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Struct(position) => {
                self.wanted.insert(*position);
                let name = full_name(Schema::get().at(*position));
                json!({ "$ref": format!("#/components/schemas/{name}") })
            }
            Kind::List(item) => json!({ "type": "array", "items": self.kind(item) }),
            Kind::Map(item) => json!({ "type": "object", "additionalProperties": self.kind(item) }),
            Kind::Scalar(scalar) => self.scalar(*scalar),
        }
    }

    fn scalar(&mut self, scalar: Scalar) -> Value {
        let plain = |kind: &str, format: &str| json!({ "type": kind, "format": format });
        let (name, value) = match scalar {
            Scalar::String | Scalar::Duration => return json!({ "type": "string" }),
            Scalar::Bool => return json!({ "type": "boolean" }),
            Scalar::Int32 => return plain("integer", "int32"),
            Scalar::Int64 => return plain("integer", "int64"),
            Scalar::Float => return plain("number", "double"),
            Scalar::Bytes => return plain("string", "byte"),
            Scalar::Raw => return json!({ "type": "object" }),
            Scalar::Time | Scalar::MicroTime => return plain("string", "date-time"),
            Scalar::Quantity => {
                ("io.k8s.apimachinery.pkg.api.resource.Quantity", json!({ "type": "string" }))
            }
            Scalar::IntOrString => (
                "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
                json!({ "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] }),
            ),
        };
        self.done.insert(name.to_owned(), value);
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every reference leads somewhere.
    #[test]
    fn documents_are_whole() {
        let root = root();
        for path in root["paths"].as_object().expect("paths").keys() {
            let document = document(path).unwrap_or_else(|| panic!("{path}"));
            let schemas = document["components"]["schemas"].as_object().expect("schemas");
            let text = document.to_string();
            for reference in text.split("\"#/components/schemas/").skip(1) {
                let name = reference.split('"').next().expect("its end");
                assert!(schemas.contains_key(name), "{path}: {name}");
            }
        }
        assert_eq!(document("apis/apps/v9"), None);
        let apps = document("apis/apps/v1").expect("served");
        let strategy =
            &apps["components"]["schemas"]["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["strategy"];
        assert_eq!(strategy["x-kubernetes-patch-strategy"], "retainKeys");
    }
}

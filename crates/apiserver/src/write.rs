//! What clients may write: Events above all.

use portolan_store::Failure;
use serde_json::{Value, json};

use crate::resource::Resource;
use crate::state::{State, key};

/// Creates an object (`POST`), naming it if it asks for that.
pub(crate) fn create(
    state: &mut State,
    resource: Resource,
    namespace: Option<&str>,
    body: &[u8],
) -> Result<Value, Failure> {
    let mut object = read(resource, namespace, body)?;
    if object["metadata"]["name"].as_str().is_none_or(str::is_empty)
        && let Some(prefix) = object["metadata"]["generateName"].as_str()
    {
        object["metadata"]["name"] = json!(format!("{prefix}{:05x}", state.store.version()));
    }
    let (namespace, name) = key(&object);
    if state.store.get(resource.definition(), &namespace, &name).is_some() {
        return Err(Failure::new(409, format!("{} \"{name}\" already exists", resource.plural())));
    }
    put(state, resource, object)
}

/// Replaces an object (`PUT`).
pub(crate) fn replace(
    state: &mut State,
    resource: Resource,
    namespace: &str,
    body: &[u8],
) -> Result<Value, Failure> {
    let object = read(resource, Some(namespace), body)?;
    put(state, resource, object)
}

/// Changes an object by a merge patch (RFC 7396; strategic ones are taken for such).
pub(crate) fn patch(
    state: &mut State,
    resource: Resource,
    (namespace, name): (&str, &str),
    body: &[u8],
) -> Result<Value, Failure> {
    let object = state.object(resource, namespace, name);
    let mut object = object.ok_or_else(|| not_found(resource, name))?;
    merge(&mut object, parse(body)?);
    put(state, resource, object)
}

pub(crate) fn not_found(resource: Resource, name: &str) -> Failure {
    let group = resource.group();
    let dot = if group.is_empty() { "" } else { "." };
    Failure::new(404, format!("{}{dot}{group} \"{name}\" not found", resource.plural()))
}

fn put(state: &mut State, resource: Resource, object: Value) -> Result<Value, Failure> {
    let (namespace, name) = key(&object);
    state.apply(object).map_err(|error| Failure::new(422, error.to_string()))?;
    let stored = state.object(resource, &namespace, &name);
    stored.ok_or_else(|| Failure::new(500, "the object was not stored"))
}

fn parse(body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::new(400, format!("couldn't decode the body: {error}")))
}

fn read(resource: Resource, namespace: Option<&str>, body: &[u8]) -> Result<Value, Failure> {
    let mut object = parse(body)?;
    if !object.is_object() || !object["metadata"].is_object() {
        return Err(Failure::new(400, "the body is not an object with metadata"));
    }
    for (field, expected) in [("kind", resource.kind()), ("apiVersion", &resource.api_version())] {
        match object[field].as_str() {
            None => object[field] = json!(expected),
            Some(given) if given == expected => {}
            Some(given) => {
                return Err(Failure::new(
                    400,
                    format!("{field}: {given} does not belong here, but {expected}"),
                ));
            }
        }
    }
    if let (Some(namespace), true) = (namespace, resource.namespaced()) {
        let given = object["metadata"]["namespace"].as_str().unwrap_or(namespace);
        if given != namespace {
            return Err(Failure::new(
                400,
                format!(
                    "the namespace of the object ({given}) does not match that of the path ({namespace})"
                ),
            ));
        }
        object["metadata"]["namespace"] = json!(namespace);
    }
    Ok(object)
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (field, value) in patch {
        if value.is_null() {
            target.as_object_mut().expect("made one above").remove(&field);
        } else {
            merge(&mut target[field], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges() {
        // The examples of RFC 7396, appendix A.
        for (target, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let mut merged = target.clone();
            merge(&mut merged, patch.clone());
            assert_eq!(merged, result, "{target} {patch}");
        }
    }
}

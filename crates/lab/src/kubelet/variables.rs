//! Variables of containers whose values are in ConfigMaps and Secrets.

use data_encoding::BASE64;
use portolan_apiserver::{Objects, Resource};
use serde_json::{Value, json};

use crate::Error;
use crate::object::{items, text};

/// The pod with the values of `envFrom`, `configMapKeyRef` and `secretKeyRef` written into it. One
/// that is missing and not optional is an error: the pod begins when it is there.
pub(super) fn filled_in(objects: &Objects, namespace: &str, pod: &Value) -> Result<Value, Error> {
    let of = (namespace, text(&pod["metadata"]["name"]));
    let mut filled_pod = pod.clone();
    for list in ["initContainers", "containers"] {
        for container in filled_pod["spec"][list].as_array_mut().into_iter().flatten() {
            let mut variables = Vec::new();
            for source in items(&container["envFrom"]) {
                let prefix = source["prefix"].as_str().unwrap_or_default();
                for (name, value) in whole(objects, of, source)? {
                    variables.push(json!({ "name": format!("{prefix}{name}"), "value": value }));
                }
            }
            for variable in items(&container["env"]) {
                variables.extend(filled(objects, of, variable)?);
            }
            container["env"] = json!(variables);
        }
    }
    Ok(filled_pod)
}

/// A variable with its value; none if what it refers to is missing, and may be.
fn filled(objects: &Objects, of: (&str, &str), variable: &Value) -> Result<Option<Value>, Error> {
    let ((namespace, pod), from) = (of, &variable["valueFrom"]);
    for (field, resource) in [("configMapKeyRef", Resource::ConfigMaps), ("secretKeyRef", Resource::Secrets)]
    {
        if !from[field].is_object() {
            continue;
        }
        let (name, key) = (text(&from[field]["name"]), text(&from[field]["key"]));
        let found = objects.get(resource, namespace, name).and_then(|found| value(resource, &found, key));
        return match found {
            Some(found) => Ok(Some(json!({ "name": variable["name"], "value": found }))),
            None if from[field]["optional"] == true => Ok(None),
            None => Err(missing(pod, resource, name, Some(key))),
        };
    }
    Ok(Some(variable.clone()))
}

/// All that an entry of `envFrom` brings.
fn whole(objects: &Objects, of: (&str, &str), source: &Value) -> Result<Vec<(String, String)>, Error> {
    let (namespace, pod) = of;
    for (field, resource) in [("configMapRef", Resource::ConfigMaps), ("secretRef", Resource::Secrets)] {
        if !source[field].is_object() {
            continue;
        }
        let name = text(&source[field]["name"]);
        let Some(found) = objects.get(resource, namespace, name) else {
            if source[field]["optional"] == true {
                return Ok(Vec::new());
            }
            return Err(missing(pod, resource, name, None));
        };
        let keys = found["data"].as_object().into_iter().flat_map(|data| data.keys());
        return Ok(keys.filter_map(|key| Some((key.clone(), value(resource, &found, key)?))).collect());
    }
    Ok(Vec::new())
}

fn value(resource: Resource, found: &Value, key: &str) -> Option<String> {
    let value = found["data"][key].as_str()?;
    if resource == Resource::ConfigMaps {
        return Some(value.to_owned());
    }
    String::from_utf8(BASE64.decode(value.as_bytes()).ok()?).ok()
}

fn missing(pod: &str, resource: Resource, name: &str, key: Option<&str>) -> Error {
    let kind = resource.kind().to_lowercase();
    let what = match key {
        Some(key) => format!("{kind} {name:?} with the key {key:?} is not there, which a variable needs"),
        None => format!("{kind} {name:?} is not there, which variables need"),
    };
    Error::Spec { pod: pod.to_owned(), what }
}

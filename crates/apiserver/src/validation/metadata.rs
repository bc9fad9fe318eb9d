//! `metadata` of every object.

use serde_json::Value;

use super::names::{label, label_1035, label_value, path_step, qualified, subdomain};
use crate::refusal::Errors;
use crate::resource::Resource;
use crate::value::{items, text};

/// Annotations of an object are so long at most, in bytes, keys and values together.
const ANNOTATIONS: usize = 256 << 10;

pub(super) fn check(resource: Resource, object: &Value, old: Option<&Value>, errors: &mut Errors) {
    let name = text(object, "/metadata/name");
    if name.is_empty() {
        errors.required("metadata.name", "name or generateName is required");
    } else if old.is_none()
        && let Some(wrong) = name_of(resource, name)
    {
        errors.invalid("metadata.name", name, wrong);
    }
    labels(object, "metadata.labels", errors);
    let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
    let mut size = 0;
    for (key, value) in annotations.into_iter().flatten() {
        if let Some(wrong) = qualified(&key.to_lowercase()) {
            errors.invalid("metadata.annotations", &**key, &wrong);
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS {
        let message = format!("may not be more than {ANNOTATIONS} bytes");
        errors.invalid("metadata.annotations", "", &message);
    }
    for (position, owner) in items(object, "/metadata/ownerReferences").enumerate() {
        let at = format!("metadata.ownerReferences[{position}]");
        for field in ["apiVersion", "kind", "name", "uid"] {
            if text(owner, &format!("/{field}")).is_empty() {
                errors.invalid(format!("{at}.{field}"), "", &format!("{field} must not be empty"));
            }
        }
    }
    for finalizer in items(object, "/metadata/finalizers").filter_map(Value::as_str) {
        if let Some(wrong) = qualified(finalizer) {
            errors.invalid("metadata.finalizers", finalizer, &wrong);
        }
    }
}

/// The labels there, whose path is written with dots.
pub(super) fn labels(object: &Value, path: &str, errors: &mut Errors) {
    let pointer = format!("/{}", path.replace('.', "/"));
    for (key, value) in object.pointer(&pointer).and_then(Value::as_object).into_iter().flatten() {
        if let Some(wrong) = qualified(key) {
            errors.invalid(path, &**key, &wrong);
        }
        let value = value.as_str().unwrap_or_default();
        if let Some(wrong) = label_value(value) {
            errors.invalid(path, value, wrong);
        }
    }
}

fn name_of(resource: Resource, name: &str) -> Option<&'static str> {
    match resource {
        Resource::Services => label_1035(name),
        Resource::Namespaces => label(name),
        Resource::IpAddresses => path_step(name),
        _ => subdomain(name),
    }
}

//! What is refused, in the words of a real server.

mod metadata;
mod names;
mod pod;
mod service;
mod workload;

use serde_json::Value;

use crate::refusal::Errors;
use crate::resource::Resource;
use crate::value::{items, text};
use crate::view::View;

/// Checks an object that has its defaults; `old` is what it replaces.
pub(crate) fn check(view: View, object: &Value, old: Option<&Value>, errors: &mut Errors) {
    metadata::check(view.resource, object, old, errors);
    match view.resource {
        Resource::Services => service::check(object, old, errors),
        Resource::Pods => pod::check(object, old, errors),
        Resource::Deployments
        | Resource::ReplicaSets
        | Resource::DaemonSets
        | Resource::StatefulSets
        | Resource::ReplicationControllers
        | Resource::Jobs => workload::check(view.resource, object, old, errors),
        Resource::EndpointSlices => endpoint_slice(object, old, errors),
        Resource::ConfigMaps | Resource::Secrets => {
            let fixed = |object: &Value| object["immutable"] == true;
            if old.is_some_and(|old| fixed(old) && (old["data"] != object["data"] || !fixed(object))) {
                errors.forbidden("data", "field is immutable when `immutable` is set");
            }
        }
        _ => {}
    }
}

fn endpoint_slice(object: &Value, old: Option<&Value>, errors: &mut Errors) {
    let family = text(object, "/addressType");
    match (family, old.map(|old| text(old, "/addressType"))) {
        (family, Some(before)) if family != before => {
            errors.invalid("addressType", family, "field is immutable");
        }
        ("", _) => errors.required("addressType", ""),
        ("IPv4" | "IPv6" | "FQDN", _) => {}
        (family, _) => errors.unsupported("addressType", family, &["FQDN", "IPv4", "IPv6"]),
    }
    for (position, endpoint) in items(object, "/endpoints").enumerate() {
        if items(endpoint, "/addresses").next().is_none() {
            errors.required(format!("endpoints[{position}].addresses"), "must contain at least 1 address");
        }
    }
}

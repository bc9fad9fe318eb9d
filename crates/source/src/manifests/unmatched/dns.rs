//! What DNS has no name for, though a manifest reads as if it had.

use std::collections::BTreeSet;
use std::net::IpAddr;

use portolan_yaml::nearest;

use super::objects::{Object, at, text};
use crate::manifests::problem::Problem;

/// The longest label of a name, and the longest name as text (RFC 1035 §2.3.4).
const LABEL_MAX: usize = 63;
const NAME_MAX: usize = 253;
/// What a StatefulSet puts behind its name: a dash and a digit at least.
const ORDINAL_LEN: usize = 2;

/// An ExternalName Service: where it leads must be a name.
pub(super) fn external_name(service: &Object<'_>) -> Option<Problem> {
    let field = "spec.externalName";
    let target = text(service.tree, field)?;
    let bare = target.strip_suffix('.').unwrap_or(target);
    let message = if target.parse::<IpAddr>().is_ok() {
        format!(
            "{target} is an address, to which DNS leads nobody; use a Service without selector, and an EndpointSlice"
        )
    } else if bare.len() > NAME_MAX {
        format!("has {} characters, and a name at most {NAME_MAX}; DNS leads nobody there", bare.len())
    } else if let Some(label) = bare.split('.').find(|label| label.len() > LABEL_MAX) {
        format!(
            "{label:?} has {} characters, and a part of a name at most {LABEL_MAX}; DNS leads nobody there",
            label.len()
        )
    } else {
        return None;
    };
    Some(service.problem(field, message))
}

/// A Pod, or what makes pods: the Service in which they have names must be there.
pub(super) fn pods(object: &Object<'_>, services: &BTreeSet<(&str, &str)>) -> Vec<Problem> {
    let field = match object.kind {
        "Pod" => "spec.subdomain",
        "StatefulSet" => "spec.serviceName",
        _ => "spec.template.spec.subdomain",
    };
    let mut problems = Vec::new();
    let given = text(object.tree, field).filter(|name| !name.is_empty());
    if let Some(name) = given.filter(|name| !services.contains(&(object.namespace, *name))) {
        let of_namespace = services.iter().filter(|(namespace, _)| *namespace == object.namespace);
        let likely = nearest(name, of_namespace.map(|(_, service)| *service));
        let likely = likely.map_or(String::new(), |likely| format!("; is {likely} meant?"));
        let whose = if object.kind == "Pod" { "this pod" } else { "its pods" };
        problems.push(object.problem(
            field,
            format!(
                "there is no Service {}/{name} here, so that DNS has no name for {whose}{likely}",
                object.namespace
            ),
        ));
    }
    // Its pods are to have their names as host names.
    if object.kind == "StatefulSet" && object.name.len() + ORDINAL_LEN > LABEL_MAX {
        let message = format!(
            "has {} characters; with their numbers its pods' names are longer than {LABEL_MAX}, which no host name can \
             be: shorten it",
            object.name.len()
        );
        problems.push(object.problem("metadata.name", message));
    }
    let hostname = match object.kind {
        "Deployment" | "ReplicaSet" | "ReplicationController" | "DaemonSet" => "spec.template.spec.hostname",
        _ => return problems,
    };
    if given.is_some() && at(object.tree, hostname).is_none() {
        problems.push(object.problem(
            field,
            "without a hostname beside it, DNS has no name by it for any of its pods; give one, or use a StatefulSet"
                .to_owned(),
        ));
    }
    problems
}

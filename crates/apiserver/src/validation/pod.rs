//! Pods and templates of pods.

use serde_json::{Value, json};

use super::names::{label, subdomain, unique_label};
use crate::refusal::Errors;
use crate::value::{items, number, text};

const PORT: &str = "must be between 1 and 65535, inclusive";

pub(super) fn check(object: &Value, old: Option<&Value>, errors: &mut Errors) {
    match old {
        None => spec(&object["spec"], "spec", errors),
        Some(old) => changed(&object["spec"], &old["spec"], errors),
    }
}

/// A `spec` at a path.
pub(super) fn spec(spec: &Value, at: &str, errors: &mut Errors) {
    let volumes: Vec<&str> = items(spec, "/volumes").map(|volume| text(volume, "/name")).collect();
    for (position, name) in volumes.iter().enumerate() {
        let at = format!("{at}.volumes[{position}].name");
        if name.is_empty() {
            errors.required(at, "");
        } else {
            unique_label(at, name, &volumes[..position], errors);
        }
    }
    if items(spec, "/containers").next().is_none() {
        errors.required(format!("{at}.containers"), "");
    }
    let mut names = Vec::new();
    for list in ["initContainers", "containers"] {
        for (position, each) in items(spec, &format!("/{list}")).enumerate() {
            let at = format!("{at}.{list}[{position}]");
            let name = text(each, "/name");
            if name.is_empty() {
                errors.required(format!("{at}.name"), "");
            } else {
                unique_label(format!("{at}.name"), name, &names, errors);
            }
            names.push(name);
            container(each, &at, &volumes, spec["hostNetwork"] == true, errors);
        }
    }
    let restart = text(spec, "/restartPolicy");
    if !matches!(restart, "Always" | "OnFailure" | "Never") {
        errors.unsupported(format!("{at}.restartPolicy"), restart, &["Always", "OnFailure", "Never"]);
    }
    let dns = text(spec, "/dnsPolicy");
    if !matches!(dns, "ClusterFirst" | "ClusterFirstWithHostNet" | "Default" | "None") {
        let known = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
        errors.unsupported(format!("{at}.dnsPolicy"), dns, &known);
    }
    if dns == "None" && items(spec, "/dnsConfig/nameservers").next().is_none() {
        let message = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.required(format!("{at}.dnsConfig.nameservers"), message);
    }
    for (field, check) in [
        ("hostname", label as fn(&str) -> Option<&'static str>),
        ("subdomain", label),
        ("nodeName", subdomain),
        ("serviceAccountName", subdomain),
    ] {
        let value = text(spec, &format!("/{field}"));
        if let Some(wrong) = Some(value).filter(|value| !value.is_empty()).and_then(check) {
            errors.invalid(format!("{at}.{field}"), value, wrong);
        }
    }
    let grace = number(spec, "/terminationGracePeriodSeconds").unwrap_or(0);
    if grace < 0 {
        let at = format!("{at}.terminationGracePeriodSeconds");
        errors.invalid(at, grace, "must be greater than or equal to 0");
    }
}

fn container(container: &Value, at: &str, volumes: &[&str], on_host: bool, errors: &mut Errors) {
    let image = text(container, "/image");
    if image.is_empty() {
        errors.required(format!("{at}.image"), "");
    } else if image.trim() != image {
        let message = "must not have leading or trailing whitespace";
        errors.invalid(format!("{at}.image"), image, message);
    }
    let pull = text(container, "/imagePullPolicy");
    if !matches!(pull, "Always" | "IfNotPresent" | "Never") {
        let known = ["Always", "IfNotPresent", "Never"];
        errors.unsupported(format!("{at}.imagePullPolicy"), pull, &known);
    }
    ports(container, at, on_host, errors);
    for (position, variable) in items(container, "/env").enumerate() {
        let name = text(variable, "/name");
        if name.is_empty() {
            errors.required(format!("{at}.env[{position}].name"), "");
        }
        if variable.get("valueFrom").is_some() && !text(variable, "/value").is_empty() {
            let at = format!("{at}.env[{position}].valueFrom");
            errors.invalid(at, "", "may not be specified when `value` is not empty");
        }
    }
    let mut paths = Vec::new();
    for (position, mount) in items(container, "/volumeMounts").enumerate() {
        let at = format!("{at}.volumeMounts[{position}]");
        let (name, path) = (text(mount, "/name"), text(mount, "/mountPath"));
        if name.is_empty() {
            errors.required(format!("{at}.name"), "");
        } else if !volumes.contains(&name) {
            errors.not_found(format!("{at}.name"), name);
        }
        if path.is_empty() {
            errors.required(format!("{at}.mountPath"), "");
        } else if paths.contains(&path) {
            errors.invalid(format!("{at}.mountPath"), path, "must be unique");
        }
        paths.push(path);
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(found) = container.get(name) {
            probe(found, &format!("{at}.{name}"), name, errors);
        }
    }
}

fn ports(container: &Value, at: &str, on_host: bool, errors: &mut Errors) {
    let mut names = Vec::new();
    for (position, port) in items(container, "/ports").enumerate() {
        let at = format!("{at}.ports[{position}]");
        let name = text(port, "/name");
        if !name.is_empty() {
            if let Some(wrong) = super::names::port_name(name) {
                errors.invalid(format!("{at}.name"), name, wrong);
            } else if names.contains(&name) {
                errors.duplicate(format!("{at}.name"), name);
            }
            names.push(name);
        }
        let inside = number(port, "/containerPort").unwrap_or(0);
        if inside == 0 {
            errors.required(format!("{at}.containerPort"), "");
        } else if !(1..=65_535).contains(&inside) {
            errors.invalid(format!("{at}.containerPort"), inside, PORT);
        }
        let outside = number(port, "/hostPort").unwrap_or(0);
        if outside != 0 && !(1..=65_535).contains(&outside) {
            errors.invalid(format!("{at}.hostPort"), outside, PORT);
        }
        if on_host && outside != inside {
            let message = "must match `hostPort` when `hostNetwork` is true";
            errors.invalid(format!("{at}.containerPort"), inside, message);
        }
        let protocol = text(port, "/protocol");
        if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
            errors.unsupported(format!("{at}.protocol"), protocol, &["SCTP", "TCP", "UDP"]);
        }
    }
}

fn probe(probe: &Value, at: &str, name: &str, errors: &mut Errors) {
    let handlers = ["exec", "httpGet", "tcpSocket", "grpc"];
    let given: Vec<&str> = handlers.into_iter().filter(|handler| probe.get(*handler).is_some()).collect();
    match &given[..] {
        [] => errors.required(at, "must specify a handler type"),
        [_] => {}
        [_, second, ..] => {
            errors.forbidden(format!("{at}.{second}"), "may not specify more than 1 handler type");
        }
    }
    for field in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        let value = number(probe, &format!("/{field}")).unwrap_or(0);
        if value < 0 {
            errors.invalid(format!("{at}.{field}"), value, "must be greater than or equal to 0");
        }
    }
    let successes = number(probe, "/successThreshold").unwrap_or(1);
    if name != "readinessProbe" && successes != 1 {
        errors.invalid(format!("{at}.successThreshold"), successes, "must be 1");
    }
    for handler in ["httpGet", "tcpSocket"] {
        match probe.get(handler).map(|handler| &handler["port"]) {
            Some(Value::Number(port)) if port.as_i64().is_none_or(|port| !(1..=65_535).contains(&port)) => {
                errors.invalid(format!("{at}.{handler}.port"), json!(port), PORT);
            }
            _ => {}
        }
    }
}

/// Little of a pod can be changed.
fn changed(new: &Value, old: &Value, errors: &mut Errors) {
    let mut comparable = new.clone();
    for list in ["containers", "initContainers"] {
        let before = items(old, &format!("/{list}"));
        let after = comparable.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (after, before) in after.zip(before) {
            for field in ["image", "imagePullPolicy"] {
                if let (Some(slot), Some(value)) = (after.get_mut(field), before.get(field)) {
                    *slot = value.clone();
                }
            }
        }
    }
    let before: Vec<&Value> = items(old, "/tolerations").collect();
    let added_only =
        before.iter().all(|toleration| items(new, "/tolerations").any(|kept| kept == *toleration));
    let mut free = vec!["activeDeadlineSeconds", "ephemeralContainers"];
    if added_only {
        free.push("tolerations");
    }
    for field in free {
        if let Some(map) = comparable.as_object_mut() {
            map.remove(field);
            map.extend(old.get(field).map(|value| (field.to_owned(), value.clone())));
        }
    }
    if comparable != *old {
        errors.forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,\
             `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
             tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        );
    }
}

//! Services.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::metadata::labels;
use super::names::{port_name, subdomain, unique_label};
use crate::refusal::Errors;
use crate::value::{items, number, text};

const PORT: &str = "must be between 1 and 65535, inclusive";
const ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

pub(super) fn check(object: &Value, old: Option<&Value>, errors: &mut Errors) {
    let spec = &object["spec"];
    let kind = text(spec, "/type");
    let headless = text(spec, "/clusterIP") == "None";
    if items(spec, "/ports").next().is_none() && !headless && kind != "ExternalName" {
        errors.required("spec.ports", "");
    }
    match kind {
        "LoadBalancer" if headless => {
            errors.invalid(
                "spec.clusterIPs[0]",
                "None",
                "may not be set to 'None' for LoadBalancer services",
            );
        }
        "ClusterIP" | "NodePort" | "LoadBalancer" => {}
        "ExternalName" => external_name(spec, errors),
        other => {
            errors.unsupported(
                "spec.type",
                other,
                &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
            );
        }
    }
    if kind == "NodePort" && headless {
        errors.invalid("spec.clusterIPs[0]", "None", "may not be set to 'None' for NodePort services");
    }
    ports(spec, kind, errors);
    labels(object, "spec.selector", errors);
    affinity(spec, errors);
    policies(spec, kind, errors);
    for (position, address) in items(spec, "/externalIPs").enumerate() {
        let address = address.as_str().unwrap_or_default();
        let at = format!("spec.externalIPs[{position}]");
        match address.parse::<IpAddr>() {
            Err(_) => errors.invalid(at, address, ADDRESS),
            Ok(found) if found.is_unspecified() => {
                errors.invalid(at, address, "may not be unspecified (0.0.0.0)");
            }
            Ok(found) if found.is_loopback() => {
                errors.invalid(at, address, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
            }
            Ok(_) => {}
        }
    }
    if let Some(old) = old {
        changed(object, old, errors);
    }
}

fn external_name(spec: &Value, errors: &mut Errors) {
    let name = text(spec, "/externalName");
    if name.is_empty() {
        errors.required("spec.externalName", "");
    } else if let Some(wrong) = subdomain(name.trim_end_matches('.')) {
        errors.invalid("spec.externalName", name, wrong);
    }
    if !text(spec, "/clusterIP").is_empty() {
        errors.forbidden("spec.clusterIPs", "may not be set for ExternalName services");
    }
}

fn ports(spec: &Value, kind: &str, errors: &mut Errors) {
    let (mut names, mut numbers, mut node_ports) = (Vec::new(), Vec::new(), Vec::new());
    let several = items(spec, "/ports").count() > 1;
    for (position, port) in items(spec, "/ports").enumerate() {
        let at = format!("spec.ports[{position}]");
        let name = text(port, "/name");
        if name.is_empty() {
            if several {
                errors.required(format!("{at}.name"), "");
            }
        } else {
            unique_label(format!("{at}.name"), name, &names, errors);
        }
        names.push(name);
        let value = number(port, "/port").unwrap_or(0);
        if !(1..=65_535).contains(&value) {
            errors.invalid(format!("{at}.port"), value, PORT);
        }
        let protocol = text(port, "/protocol");
        if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
            errors.unsupported(format!("{at}.protocol"), protocol, &["SCTP", "TCP", "UDP"]);
        }
        target(port, &at, errors);
        if numbers.contains(&(protocol, value)) {
            errors.duplicate(at.clone(), json!({ "port": value, "protocol": protocol }));
        }
        numbers.push((protocol, value));
        let node_port = number(port, "/nodePort").unwrap_or(0);
        if node_port == 0 {
            continue;
        }
        if matches!(kind, "ClusterIP" | "ExternalName") {
            errors.forbidden(format!("{at}.nodePort"), &format!("may not be used when `type` is '{kind}'"));
        }
        if node_ports.contains(&(protocol, node_port)) {
            errors.duplicate(format!("{at}.nodePort"), node_port);
        }
        node_ports.push((protocol, node_port));
    }
}

fn target(port: &Value, at: &str, errors: &mut Errors) {
    let at = format!("{at}.targetPort");
    match &port["targetPort"] {
        Value::String(name) => {
            if let Some(wrong) = port_name(name) {
                errors.invalid(at, &**name, wrong);
            }
        }
        number => {
            if number.as_i64().is_none_or(|number| !(1..=65_535).contains(&number)) {
                errors.invalid(at, number.clone(), PORT);
            }
        }
    }
}

fn affinity(spec: &Value, errors: &mut Errors) {
    match text(spec, "/sessionAffinity") {
        // Whatever is configured has been cleared away.
        "None" => {}
        "ClientIP" => {
            let seconds = number(spec, "/sessionAffinityConfig/clientIP/timeoutSeconds").unwrap_or(0);
            if !(1..=86_400).contains(&seconds) {
                errors.invalid(
                    "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
                    seconds,
                    "must be greater than 0 and less than 86400",
                );
            }
        }
        other => errors.unsupported("spec.sessionAffinity", other, &["ClientIP", "None"]),
    }
}

fn policies(spec: &Value, kind: &str, errors: &mut Errors) {
    let from_outside =
        matches!(kind, "NodePort" | "LoadBalancer") || items(spec, "/externalIPs").next().is_some();
    match text(spec, "/externalTrafficPolicy") {
        "" if matches!(kind, "NodePort" | "LoadBalancer") => {
            errors.required("spec.externalTrafficPolicy", "");
        }
        "" => {}
        policy if !from_outside => {
            let message = "may only be set for externally-accessible services";
            errors.invalid("spec.externalTrafficPolicy", policy, message);
        }
        "Cluster" | "Local" => {}
        other => errors.unsupported("spec.externalTrafficPolicy", other, &["Cluster", "Local"]),
    }
    match text(spec, "/internalTrafficPolicy") {
        "Cluster" | "Local" => {}
        "" if kind == "ExternalName" => {}
        "" => errors.required("spec.internalTrafficPolicy", ""),
        other => errors.unsupported("spec.internalTrafficPolicy", other, &["Cluster", "Local"]),
    }
    if number(spec, "/healthCheckNodePort").is_some_and(|port| port != 0)
        && (kind != "LoadBalancer" || text(spec, "/externalTrafficPolicy") != "Local")
    {
        errors.invalid(
            "spec.healthCheckNodePort",
            spec["healthCheckNodePort"].clone(),
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        );
    }
    let policy = text(spec, "/ipFamilyPolicy");
    if !matches!(policy, "" | "SingleStack" | "PreferDualStack" | "RequireDualStack") {
        let known = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        errors.unsupported("spec.ipFamilyPolicy", policy, &known);
    }
    let ranges = items(spec, "/loadBalancerSourceRanges").enumerate();
    for (position, range) in ranges {
        let range = range.as_str().unwrap_or_default();
        let is_range = range.trim().split_once('/').is_some_and(|(address, length)| {
            let most = address.parse::<IpAddr>().map(|address| if address.is_ipv4() { 32 } else { 128 });
            most.is_ok_and(|most| length.parse::<u8>().is_ok_and(|length| length <= most))
        });
        let at = format!("spec.loadBalancerSourceRanges[{position}]");
        if kind != "LoadBalancer" {
            errors
                .forbidden("spec.LoadBalancerSourceRanges", "may only be used when `type` is 'LoadBalancer'");
            break;
        } else if !is_range {
            errors.invalid(at, range, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
        }
    }
}

/// What has an address keeps it.
fn changed(object: &Value, old: &Value, errors: &mut Errors) {
    let had_address = text(old, "/spec/type") != "ExternalName" && !text(old, "/spec/clusterIP").is_empty();
    let needs_one = text(object, "/spec/type") != "ExternalName";
    if had_address && needs_one && text(old, "/spec/clusterIP") != text(object, "/spec/clusterIP") {
        errors.invalid("spec.clusterIPs[0]", object["spec"]["clusterIPs"].clone(), "may not change once set");
    }
}

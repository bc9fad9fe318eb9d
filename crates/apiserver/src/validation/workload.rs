//! Deployments and whatever else makes pods.

use serde_json::{Map, Value, json};

use super::metadata::labels;
use super::pod;
use crate::refusal::Errors;
use crate::resource::Resource;
use crate::value::{items, number, text};

pub(super) fn check(resource: Resource, object: &Value, old: Option<&Value>, errors: &mut Errors) {
    let spec = &object["spec"];
    for field in
        ["replicas", "minReadySeconds", "revisionHistoryLimit", "parallelism", "completions", "backoffLimit"]
    {
        let value = number(spec, &format!("/{field}")).unwrap_or(0);
        if value < 0 {
            errors.invalid(format!("spec.{field}"), value, "must be greater than or equal to 0");
        }
    }
    selector(resource, spec, old, errors);
    if resource == Resource::Deployments {
        strategy(spec, errors);
    }
    labels(object, "spec.template.metadata.labels", errors);
    pod::spec(&spec["template"]["spec"], "spec.template.spec", errors);
    let restart = text(spec, "/template/spec/restartPolicy");
    let at = "spec.template.spec.restartPolicy";
    match resource {
        Resource::Jobs if restart == "Always" => {
            errors.required(at, "valid values: \"OnFailure\", \"Never\"");
        }
        Resource::Jobs => {}
        _ if restart != "Always" => errors.unsupported(at, restart, &["Always"]),
        _ => {}
    }
}

fn selector(resource: Resource, spec: &Value, old: Option<&Value>, errors: &mut Errors) {
    let selector = &spec["selector"];
    let template = spec.pointer("/template/metadata/labels").and_then(Value::as_object);
    let labels = template.cloned().unwrap_or_default();
    let mismatch = "`selector` does not match template `labels`";
    let at = "spec.template.metadata.labels";
    if resource == Resource::ReplicationControllers {
        let wanted = selector.as_object().cloned().unwrap_or_default();
        if wanted.is_empty() {
            errors.required("spec.selector", "");
        } else if !wanted.iter().all(|(key, value)| labels.get(key) == Some(value)) {
            errors.invalid(at, json!(labels), mismatch);
        }
        return;
    }
    // A Job's selector is made by the server.
    if resource == Resource::Jobs && old.is_none() {
        return;
    }
    if selector.is_null() {
        errors.required("spec.selector", "");
        return;
    }
    if old.is_some_and(|old| old["spec"]["selector"] != *selector) {
        errors.invalid("spec.selector", selector.clone(), "field is immutable");
    }
    let expressions = items(selector, "/matchExpressions").count();
    let is_empty = expressions == 0 && selector["matchLabels"].as_object().is_none_or(Map::is_empty);
    if is_empty {
        let kind = resource.kind().to_lowercase();
        errors.invalid("spec.selector", selector.clone(), &format!("empty selector is invalid for {kind}"));
    } else if !selects(selector, &labels) {
        errors.invalid(at, json!(labels), mismatch);
    }
}

/// Whether a selector with `matchLabels` and `matchExpressions` selects labels.
fn selects(selector: &Value, labels: &Map<String, Value>) -> bool {
    let wanted = selector["matchLabels"].as_object();
    wanted.into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
        && items(selector, "/matchExpressions").all(|expression| {
            let value = labels.get(text(expression, "/key"));
            let among = || value.is_some_and(|value| items(expression, "/values").any(|one| one == value));
            match text(expression, "/operator") {
                "In" => among(),
                "NotIn" => !among(),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

fn strategy(spec: &Value, errors: &mut Errors) {
    let strategy = &spec["strategy"];
    match text(strategy, "/type") {
        "Recreate" if strategy.get("rollingUpdate").is_some() => errors.forbidden(
            "spec.strategy.rollingUpdate",
            "may not be specified when strategy `type` is 'Recreate'",
        ),
        "Recreate" => {}
        "RollingUpdate" => {
            let is_none = |value: &Value| *value == 0 || *value == "0%";
            let rolling = &strategy["rollingUpdate"];
            if is_none(&rolling["maxUnavailable"]) && is_none(&rolling["maxSurge"]) {
                errors.invalid(
                    "spec.strategy.rollingUpdate.maxUnavailable",
                    rolling["maxUnavailable"].clone(),
                    "may not be 0 when `maxSurge` is 0",
                );
            }
            for field in ["maxUnavailable", "maxSurge"] {
                let wrong = match &rolling[field] {
                    Value::Number(number) => number.as_i64().is_none_or(|number| number < 0),
                    Value::String(share) => {
                        share.strip_suffix('%').is_none_or(|share| share.parse::<u32>().is_err())
                    }
                    _ => true,
                };
                if wrong {
                    let at = format!("spec.strategy.rollingUpdate.{field}");
                    let message = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  \
                         or '93%', regex used for validation is '[0-9]+%')";
                    errors.invalid(at, rolling[field].clone(), message);
                }
            }
        }
        other => errors.unsupported("spec.strategy.type", other, &["Recreate", "RollingUpdate"]),
    }
}

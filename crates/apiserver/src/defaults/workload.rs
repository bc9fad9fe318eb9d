//! Deployments and whatever else makes pods.

use serde_json::{Value, json};

use super::pod;
use crate::value::{fill, map, text};

/// `template` of the spec, and how many pods there are to be.
fn template(object: &mut Value) {
    map(object, "spec");
    map(&mut object["spec"], "template");
    let template = &mut object["spec"]["template"];
    map(template, "metadata");
    pod::template(template);
}

fn replicas(object: &mut Value) {
    map(object, "spec");
    fill(&mut object["spec"], "replicas", 1);
}

/// `extensions/v1beta1` has defaults of its own: the selector is the labels of the template, and
/// one pod at a time is exchanged.
pub(super) fn deployment(object: &mut Value, old: bool) {
    template(object);
    replicas(object);
    let labels = object["spec"]["template"]["metadata"]["labels"].clone();
    if old && labels.is_object() {
        fill(&mut object["spec"], "selector", json!({ "matchLabels": labels }));
        if !object["metadata"]["labels"].is_object() {
            object["metadata"]["labels"] = labels;
        }
    }
    let spec = &mut object["spec"];
    let (step, history, deadline) =
        if old { (json!(1), i32::MAX, i32::MAX) } else { (json!("25%"), 10, 600) };
    let strategy = map(spec, "strategy");
    if strategy.get("type").is_none_or(|kind| kind == "") {
        strategy.insert("type".to_owned(), json!("RollingUpdate"));
    }
    if strategy["type"] == "RollingUpdate" {
        map(&mut spec["strategy"], "rollingUpdate");
        let rolling = &mut spec["strategy"]["rollingUpdate"];
        fill(rolling, "maxUnavailable", step.clone());
        fill(rolling, "maxSurge", step);
    }
    fill(spec, "revisionHistoryLimit", history);
    fill(spec, "progressDeadlineSeconds", deadline);
}

pub(super) fn replica_set(object: &mut Value) {
    template(object);
    replicas(object);
    let labels = object["spec"]["template"]["metadata"]["labels"].clone();
    if labels.is_object() && !object["metadata"]["labels"].is_object() {
        object["metadata"]["labels"] = labels;
    }
}

pub(super) fn replication_controller(object: &mut Value) {
    replica_set(object);
    let labels = object["spec"]["template"]["metadata"]["labels"].clone();
    if labels.is_object() {
        fill(&mut object["spec"], "selector", labels);
    }
}

pub(super) fn daemon_set(object: &mut Value) {
    template(object);
    let spec = &mut object["spec"];
    let update = map(spec, "updateStrategy");
    update.entry("type").or_insert_with(|| json!("RollingUpdate"));
    if update["type"] == "RollingUpdate" {
        map(&mut spec["updateStrategy"], "rollingUpdate");
        let rolling = &mut spec["updateStrategy"]["rollingUpdate"];
        fill(rolling, "maxUnavailable", 1);
        fill(rolling, "maxSurge", 0);
    }
    fill(spec, "revisionHistoryLimit", 10);
}

pub(super) fn stateful_set(object: &mut Value) {
    template(object);
    replicas(object);
    let spec = &mut object["spec"];
    fill(spec, "podManagementPolicy", "OrderedReady");
    let update = map(spec, "updateStrategy");
    update.entry("type").or_insert_with(|| json!("RollingUpdate"));
    if update["type"] == "RollingUpdate" {
        map(&mut spec["updateStrategy"], "rollingUpdate").entry("partition").or_insert_with(|| json!(0));
    }
    fill(spec, "revisionHistoryLimit", 10);
    let retention = json!({ "whenDeleted": "Retain", "whenScaled": "Retain" });
    fill(spec, "persistentVolumeClaimRetentionPolicy", retention);
}

pub(super) fn job(object: &mut Value) {
    template(object);
    let spec = &mut object["spec"];
    if spec["completions"].is_null() && spec["parallelism"].is_null() {
        fill(spec, "completions", 1);
    }
    fill(spec, "parallelism", 1);
    fill(spec, "backoffLimit", 6);
    fill(spec, "completionMode", "NonIndexed");
    fill(spec, "suspend", false);
    fill(spec, "podReplacementPolicy", "TerminatingOrFailed");
}

/// What a Job's pods are found by, once it has an identity.
pub(crate) fn select_by_uid(object: &mut Value) {
    if object["spec"]["manualSelector"] == true || object["spec"]["selector"].is_object() {
        return;
    }
    let (uid, name) = (text(object, "/metadata/uid").to_owned(), text(object, "/metadata/name").to_owned());
    let labels = map(&mut object["spec"]["template"]["metadata"], "labels");
    for (label, value) in [
        ("controller-uid", &uid),
        ("batch.kubernetes.io/controller-uid", &uid),
        ("job-name", &name),
        ("batch.kubernetes.io/job-name", &name),
    ] {
        labels.insert(label.to_owned(), json!(value));
    }
    object["spec"]["selector"] = json!({ "matchLabels": { "batch.kubernetes.io/controller-uid": uid } });
}

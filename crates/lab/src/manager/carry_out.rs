//! What a controller wants done, done over the API.

use std::collections::HashMap;

use portolan_apiserver::{DeleteOptions, Failure, Objects, Propagation, Resource};
use portolan_controllers::manager::{self, Event, Step, Target, Write};
use serde_json::{Value, json};

use crate::recorder::Recorder;

/// Does what a step wants, up to the first write that the server refuses. Events are no reason to
/// stop.
pub(super) fn carry_out(objects: &Objects, recorder: &Recorder, step: &Step) -> Result<(), Failure> {
    // By uid: the versions that this step's own writes have made.
    let mut versions: HashMap<&str, String> = HashMap::new();
    for write in &step.writes {
        match write {
            Write::Create(object) => {
                if let Err(failure) = objects.create(object.clone()) {
                    report(recorder, object, &failure);
                    return Err(failure);
                }
            }
            Write::Update { target, patch } | Write::UpdateStatus { target, patch } => {
                let version = versions.get(target.uid.as_str()).unwrap_or(&target.resource_version);
                let patch = conditional(patch, target, version);
                let is_status = matches!(write, Write::UpdateStatus { .. });
                let written = change(objects, target, patch, is_status)?;
                let version = written["metadata"]["resourceVersion"].as_str().unwrap_or_default();
                versions.insert(&target.uid, version.to_owned());
            }
            Write::Bind { pod, node } => objects.bind(&pod.namespace, &pod.name, node)?,
            Write::Delete { target, propagation, grace } => {
                delete(objects, target, *propagation, *grace)?;
            }
            Write::Event(event) => {
                let Event { regarding, warning, reason, message, component } = event;
                recorder.record(&named(regarding), *warning, reason, message, component);
            }
        }
    }
    Ok(())
}

/// As much of an object as its events need.
fn named(target: &Target) -> Value {
    json!({
        "apiVersion": target.api_version,
        "kind": target.kind,
        "metadata": { "name": target.name, "namespace": target.namespace, "uid": target.uid,
            "resourceVersion": target.resource_version },
    })
}

fn resource(target: &Target) -> Result<Resource, Failure> {
    Resource::of(&json!({ "apiVersion": target.api_version, "kind": target.kind }))
        .map_err(|error| Failure::new(400, error.to_string()))
}

/// The patch, for this very object at this version only.
fn conditional(patch: &Value, target: &Target, version: &str) -> Value {
    let mut patch = patch.clone();
    patch["metadata"]["uid"] = json!(target.uid);
    patch["metadata"]["resourceVersion"] = json!(version);
    patch
}

fn change(objects: &Objects, target: &Target, mut patch: Value, is_status: bool) -> Result<Value, Failure> {
    let resource = resource(target)?;
    let (namespace, name) = (&target.namespace, &target.name);
    if is_status {
        return objects.patch_status(resource, namespace, name, patch);
    }
    // Those of a namespace are a part of their own.
    if resource == Resource::Namespaces && patch.pointer("/spec/finalizers").is_some() {
        patch["apiVersion"] = json!(target.api_version);
        patch["kind"] = json!(target.kind);
        patch["metadata"]["name"] = json!(name);
        return objects.finalize(patch);
    }
    objects.patch(resource, namespace, name, patch)
}

/// Deletes an object, if it is still this one.
fn delete(
    objects: &Objects,
    target: &Target,
    propagation: manager::Propagation,
    grace: Option<u32>,
) -> Result<(), Failure> {
    let propagation = match propagation {
        manager::Propagation::Background => Propagation::Background,
        manager::Propagation::Foreground => Propagation::Foreground,
        manager::Propagation::Orphan => Propagation::Orphan,
    };
    let options = DeleteOptions {
        grace: grace.map(i64::from),
        propagation: Some(propagation),
        uid: Some(target.uid.clone()),
        ..DeleteOptions::default()
    };
    match objects.delete(resource(target)?, &target.namespace, &target.name, &options) {
        // It is gone, and what has its name is not meant.
        Err(failure) if matches!(failure.code, 404 | 409) => Ok(()),
        deleted => deleted.map(drop),
    }
}

/// Who creates objects for which kind, as its events name it.
const CREATORS: [(&str, &str); 6] = [
    ("Job", "job-controller"),
    ("Deployment", "deployment-controller"),
    ("ReplicaSet", "replicaset-controller"),
    ("ReplicationController", "replication-controller"),
    ("StatefulSet", "statefulset-controller"),
    ("DaemonSet", "daemonset-controller"),
];

/// Says at the owner why something could not be created, unless it is only late.
fn report(recorder: &Recorder, object: &Value, failure: &Failure) {
    let mut owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let Some(owner) = owners.find(|owner| owner["controller"] == true) else { return };
    let creator = CREATORS.iter().find(|(kind, _)| owner["kind"] == *kind);
    let (Some((_, component)), false) = (creator, matches!(failure.code, 403 | 409)) else { return };
    let regarding = json!({
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "metadata": { "name": owner["name"], "uid": owner["uid"],
            "namespace": object["metadata"]["namespace"] },
    });
    recorder.record(&regarding, true, "FailedCreate", &format!("Error creating: {failure}"), component);
}

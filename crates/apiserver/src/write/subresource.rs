//! Writes to parts of an object.

use portolan_store::Failure;
use serde_json::{Value, json};

use super::{Options, Place, Written};
use crate::clock::{now, timestamp};
use crate::defaults;
use crate::refusal;
use crate::resource::{Resource, Subresource};
use crate::state::State;
use crate::value::{map, text};

/// What an update of a part (none: of the object) makes of the whole.
pub(crate) fn update_part(place: Place, old: &Value, mut object: Value) -> Result<Value, Failure> {
    let view = place.view;
    match place.part {
        None | Some(Subresource::Scale) => {
            if view.has(Subresource::Status) {
                copy(old, &mut object, "status");
            }
            // Finalizers of a namespace are a part of their own.
            if view.resource == Resource::Namespaces {
                copy(old, &mut object, "spec");
            }
            defaults::fill_in(view, &mut object);
            Ok(object)
        }
        Some(Subresource::Status) => {
            let mut new = old.clone();
            copy(&object, &mut new, "status");
            // Owners of fields were noted by server-side apply.
            let fields = object["metadata"]["managedFields"].clone();
            if fields.is_array() {
                new["metadata"]["managedFields"] = fields;
            }
            if view.resource == Resource::Pods
                && text(&new, "/status/qosClass").is_empty()
                && let Some(class) = old.pointer("/status/qosClass")
            {
                new["status"]["qosClass"] = class.clone();
            }
            Ok(new)
        }
        Some(Subresource::Finalize) => {
            let mut new = old.clone();
            copy(&object, &mut new, "spec");
            Ok(new)
        }
        Some(_) => Err(refusal::not_allowed()),
    }
}

fn copy(from: &Value, to: &mut Value, field: &str) {
    let Some(map) = to.as_object_mut() else { return };
    match from.get(field) {
        Some(value) => drop(map.insert(field.to_owned(), value.clone())),
        None => drop(map.remove(field)),
    }
}

/// Binds a pod to a node.
pub(crate) fn bind(
    state: &mut State,
    place: Place,
    binding: &Value,
    options: Options,
) -> Result<Written, Failure> {
    let mut pod = place.find(state)?;
    let node = text(binding, "/target/name");
    if node.is_empty() {
        return Err(refusal::bad_request("Binding: target.name: Required value"));
    }
    if pod["metadata"]["deletionTimestamp"].is_string() {
        let reason = format!("pod {} is being deleted, cannot be assigned to a host", place.name);
        return Err(refusal::conflict(place.view, place.name, &reason));
    }
    let bound = text(&pod, "/spec/nodeName");
    if !bound.is_empty() {
        let reason = format!("pod {} is already assigned to node {bound:?}", place.name);
        return Err(refusal::conflict(place.view, place.name, &reason));
    }
    pod["spec"]["nodeName"] = json!(node);
    let conditions = map(&mut pod, "status").entry("conditions").or_insert_with(|| json!([]));
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.retain(|condition| condition["type"] != "PodScheduled");
        conditions.push(json!({ "type": "PodScheduled", "status": "True", "lastProbeTime": null,
            "lastTransitionTime": timestamp(now()) }));
    }
    if !options.dry_run {
        let failed = |error: portolan_store::Invalid| Failure::new(422, error.to_string());
        state.commit(Resource::Pods, pod.clone()).map_err(failed)?;
    }
    Ok(Written { object: pod, created: true, warnings: Vec::new() })
}

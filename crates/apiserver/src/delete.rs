//! Deleting objects: at once, with a period of grace, or when finalizers are gone.

use portolan_store::Failure;
use serde_json::{Value, json};

use crate::clock::{now, timestamp};
use crate::refusal;
use crate::resource::Resource;
use crate::state::State;
use crate::value::{items, map, number, text};
use crate::view::View;
use crate::write::{Place, remove_if_done};

/// What a deletion asks for: `DeleteOptions` of the API, and the parameters that say the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// How long a pod has to end, in seconds; none: as it says itself.
    pub grace: Option<i64>,
    /// What becomes of the objects that it owns; none: they are deleted afterwards.
    pub propagation: Option<Propagation>,
    /// Do everything but delete it.
    pub dry_run: bool,
    /// Only the object of this identity, and no other of the same name.
    pub uid: Option<String>,
    /// Only if it is still at this version.
    pub version: Option<String>,
}

/// What becomes of the objects that it owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted afterwards.
    Background,
    /// They are deleted before.
    Foreground,
    /// They stay.
    Orphan,
}

impl DeleteOptions {
    /// Reads the body, and the parameters, which `parameter` looks up.
    pub(crate) fn read<'a>(
        body: &Value,
        parameter: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Self, Failure> {
        let grace = match parameter("gracePeriodSeconds").filter(|text| !text.is_empty()) {
            Some(text) => {
                let number = text.parse::<i64>().ok().filter(|number| *number >= 0);
                Some(number.ok_or_else(|| {
                    refusal::bad_request(format!("gracePeriodSeconds: invalid value: {text:?}"))
                })?)
            }
            None => number(body, "/gracePeriodSeconds"),
        };
        let policy = parameter("propagationPolicy").unwrap_or_else(|| text(body, "/propagationPolicy"));
        let propagation = match policy {
            "" if body["orphanDependents"] == true => Some(Propagation::Orphan),
            "" => None,
            "Background" => Some(Propagation::Background),
            "Foreground" => Some(Propagation::Foreground),
            "Orphan" => Some(Propagation::Orphan),
            other => {
                return Err(Failure::new(
                    422,
                    format!(
                        "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: {other:?}: supported \
                     values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
                    ),
                ));
            }
        };
        let condition = |field: &str| {
            let value = body.pointer(&format!("/preconditions/{field}"));
            value.and_then(Value::as_str).map(str::to_owned)
        };
        let dry_run =
            parameter("dryRun") == Some("All") || items(body, "/dryRun").any(|value| value == "All");
        Ok(Self { grace, propagation, dry_run, uid: condition("uid"), version: condition("resourceVersion") })
    }
}

/// What came of it.
pub(crate) enum Deleted {
    /// It is gone; this is what it was.
    Gone(Value),
    /// It is on its way, and still there.
    Lingers(Value),
}

/// Deletes an object.
pub(crate) fn delete(state: &mut State, place: Place, options: &DeleteOptions) -> Result<Deleted, Failure> {
    let (view, resource) = (place.view, place.view.resource);
    let old = place.find(state)?;
    let conditions = [
        (&options.uid, "/metadata/uid", "UID"),
        (&options.version, "/metadata/resourceVersion", "ResourceVersion"),
    ];
    for (wanted, pointer, what) in conditions {
        let found = text(&old, pointer);
        if let Some(wanted) = wanted.as_ref().filter(|wanted| **wanted != found) {
            let reason = format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
            );
            return Err(refusal::conflict(view, place.name, &reason));
        }
    }
    if resource == Resource::Namespaces
        && state.rules.namespaces
        && matches!(place.name, "default" | "kube-system" | "kube-public")
    {
        return Err(refusal::forbidden(view, place.name, "this namespace may not be deleted"));
    }
    let mut new = old.clone();
    mark(resource, &mut new, options);
    if options.dry_run {
        return Ok(Deleted::Gone(old));
    }
    let (namespace, name) = (place.namespace, place.name);
    // Nothing holds it, and nobody has to see it going.
    if new["metadata"]["deletionTimestamp"].is_null() {
        state.delete(resource, namespace, name);
        return Ok(Deleted::Gone(old));
    }
    if remove_if_done(state, resource, &new) {
        return Ok(Deleted::Gone(new));
    }
    let version =
        state.commit(resource, new.clone()).map_err(|error| Failure::new(422, error.to_string()))?;
    new["metadata"]["resourceVersion"] = json!(version.to_string());
    Ok(Deleted::Lingers(new))
}

/// Marks an object as being deleted, if anything holds it.
fn mark(resource: Resource, object: &mut Value, options: &DeleteOptions) {
    let was_deleted = object["metadata"]["deletionTimestamp"].is_string();
    let finalizer = match options.propagation {
        Some(Propagation::Foreground) => Some("foregroundDeletion"),
        Some(Propagation::Orphan) => Some("orphan"),
        Some(Propagation::Background) | None => None,
    };
    if let Some(finalizer) = finalizer.filter(|_| !was_deleted) {
        let finalizers = map(object, "metadata").entry("finalizers").or_insert_with(|| json!([]));
        if let Some(list) = finalizers.as_array_mut()
            && !list.iter().any(|one| one == finalizer)
        {
            list.push(json!(finalizer));
        }
    }
    let grace = grace(resource, object, options);
    let held = items(object, "/metadata/finalizers").next().is_some()
        || (resource == Resource::Namespaces && items(object, "/spec/finalizers").next().is_some());
    if grace == 0 && !held {
        if was_deleted {
            object["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        }
        return;
    }
    let before = number(object, "/metadata/deletionGracePeriodSeconds");
    // Whoever asks again can make it sooner, never later.
    if !was_deleted || before.is_some_and(|before| grace < before) {
        object["metadata"]["deletionTimestamp"] = json!(timestamp(now() + grace));
        object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        if let Some(generation) = number(object, "/metadata/generation").filter(|_| !was_deleted) {
            object["metadata"]["generation"] = json!(generation + 1);
        }
    }
    if resource == Resource::Namespaces {
        map(object, "status").insert("phase".to_owned(), json!("Terminating"));
    }
}

/// How long it may take to end, in seconds; 0 for everything that does not run on a node.
fn grace(resource: Resource, object: &Value, options: &DeleteOptions) -> i64 {
    let runs = !text(object, "/spec/nodeName").is_empty()
        && !matches!(text(object, "/status/phase"), "Succeeded" | "Failed");
    if resource != Resource::Pods || !runs {
        return 0;
    }
    let own = number(object, "/spec/terminationGracePeriodSeconds").unwrap_or(30);
    options.grace.unwrap_or(own).max(0)
}

/// The answer to a deletion.
pub(crate) fn answer(view: View, name: &str, deleted: Deleted) -> Value {
    match deleted {
        Deleted::Lingers(mut object) => {
            view.to_shown(&mut object);
            object
        }
        Deleted::Gone(object) => {
            let mut details =
                json!({ "name": name, "kind": view.plural(), "uid": object["metadata"]["uid"] });
            if !view.group().is_empty() {
                details["group"] = json!(view.group());
            }
            json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details })
        }
    }
}

//! Creating and changing objects: everything that a server does to what clients send.

mod finish;
mod scale;
mod subresource;

use portolan_store::Failure;
use serde_json::{Value, json};

use crate::clock::{now, suffix, timestamp, uid};
use crate::defaults;
use crate::document::Document;
use crate::fields::normalise;
use crate::ownership::{self, Manager};
use crate::patch::{PatchKind, patch};
use crate::refusal;
use crate::resource::{Resource, Subresource};
use crate::schema::Schema;
use crate::state::State;
use crate::value::{map, remove, text};
use crate::view::View;
pub(crate) use finish::remove_if_done;
use finish::{Step, finish};
pub(crate) use scale::scale_of;
pub(crate) use subresource::{bind, update_part};

/// What to do about fields that are not known, or there twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Validation {
    /// Refuse the object.
    Strict,
    #[default]
    Warn,
    Ignore,
}

/// How something is written.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options<'a> {
    /// Who writes; none: it is not noted who owns which field.
    pub(crate) manager: Option<&'a str>,
    /// Do everything but store it.
    pub(crate) dry_run: bool,
    pub(crate) validation: Validation,
    /// Take over fields that others own (server-side apply).
    pub(crate) force: bool,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Written {
    /// As it is stored.
    pub(crate) object: Value,
    pub(crate) created: bool,
    /// For the client.
    pub(crate) warnings: Vec<String>,
}

/// What a request is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) view: View,
    /// Empty for what has none.
    pub(crate) namespace: &'a str,
    /// Empty for what is to be created.
    pub(crate) name: &'a str,
    pub(crate) part: Option<Subresource>,
}

impl Place<'_> {
    /// The object as it is stored.
    pub(crate) fn find(&self, state: &State) -> Result<Value, Failure> {
        let stored = state.stored(self.view.resource, self.namespace, self.name);
        stored.ok_or_else(|| refusal::not_found(self.view, self.name))
    }

    fn manager<'a>(&self, name: &'a str, api_version: &'a str) -> Manager<'a> {
        Manager { name, api_version, subresource: self.part.map_or("", Subresource::name) }
    }
}

/// Creates an object (`POST`).
pub(crate) fn create(
    state: &mut State,
    place: Place,
    document: Document,
    options: Options,
) -> Result<Written, Failure> {
    let (mut object, warnings) = accept(place, document, options)?;
    let metadata = &mut object["metadata"];
    if text(metadata, "/name").is_empty() && !text(metadata, "/generateName").is_empty() {
        let prefix: String = text(metadata, "/generateName").chars().take(58).collect();
        metadata["name"] = json!(format!("{prefix}{}", suffix(5)));
    }
    create_accepted(state, place, object, warnings, options)
}

fn create_accepted(
    state: &mut State,
    place: Place,
    mut object: Value,
    warnings: Vec<String>,
    options: Options,
) -> Result<Written, Failure> {
    let view = place.view;
    let name = text(&object, "/metadata/name").to_owned();
    if !text(&object, "/metadata/resourceVersion").is_empty() {
        return Err(Failure::new(500, "resourceVersion should not be set on objects to be created"));
    }
    check_namespace(state, place, &name)?;
    let metadata = map(&mut object, "metadata");
    for field in ["selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        metadata.remove(field);
    }
    metadata.insert("uid".to_owned(), json!(uid()));
    metadata.insert("creationTimestamp".to_owned(), json!(timestamp(now())));
    metadata.remove("generation");
    if view.entry().counts_generations {
        metadata.insert("generation".to_owned(), json!(1));
    }
    // A kubelet registers its node as it is, so that it is ready from the first moment on.
    if view.has(Subresource::Status) && view.resource != Resource::Nodes {
        remove(&mut object, "", "status");
    }
    defaults::fill_in(view, &mut object);
    begin(state, view, &mut object);
    finish(state, Step { place, old: None, new: object, warnings, options })
}

/// What an object begins with that its owner cannot say.
fn begin(state: &State, view: View, object: &mut Value) {
    match view.resource {
        Resource::Pods => {
            object["status"] = json!({ "phase": "Pending", "qosClass": qos_class(object) });
        }
        Resource::Namespaces => {
            object["status"] = json!({ "phase": "Active" });
            if state.rules.namespaces {
                map(object, "spec").insert("finalizers".to_owned(), json!(["kubernetes"]));
            }
        }
        Resource::Deployments
        | Resource::StatefulSets
        | Resource::Jobs
        | Resource::ServiceCidrs
        | Resource::Nodes => {
            map(object, "status");
        }
        Resource::ReplicaSets | Resource::ReplicationControllers => {
            object["status"] = json!({ "replicas": 0 });
        }
        Resource::DaemonSets => {
            object["status"] = json!({ "currentNumberScheduled": 0, "numberMisscheduled": 0,
                "desiredNumberScheduled": 0, "numberReady": 0 });
        }
        _ => {}
    }
    if view.resource == Resource::Jobs {
        defaults::select_by_uid(object);
    }
}

/// What a pod's containers ask for decides which pod is killed first.
fn qos_class(object: &Value) -> &'static str {
    let containers = || object["spec"]["containers"].as_array().into_iter().flatten();
    let asks = |container: &Value| {
        ["limits", "requests"]
            .iter()
            .any(|kind| container["resources"][kind].as_object().is_some_and(|amounts| !amounts.is_empty()))
    };
    let guaranteed = |container: &Value| {
        ["cpu", "memory"].iter().all(|name| {
            let limit = &container["resources"]["limits"][name];
            limit.is_string() && container["resources"]["requests"][name] == *limit
        })
    };
    match () {
        () if !containers().any(asks) => "BestEffort",
        () if containers().all(guaranteed) => "Guaranteed",
        () => "Burstable",
    }
}

fn check_namespace(state: &State, place: Place, name: &str) -> Result<(), Failure> {
    if !place.view.resource.namespaced() || !state.rules.namespaces {
        return Ok(());
    }
    let namespace = state.stored(Resource::Namespaces, "", place.namespace);
    let namespace = namespace.ok_or_else(|| refusal::namespace_not_found(place.namespace))?;
    if text(&namespace, "/status/phase") == "Terminating" {
        let message = format!(
            "unable to create new content in namespace {} because it is being terminated",
            place.namespace
        );
        let mut failure = refusal::forbidden(place.view, name, &message);
        failure.details["causes"] = json!([{ "reason": "NamespaceTerminating", "field": "metadata.namespace",
            "message": format!("namespace {} is being terminated", place.namespace) }]);
        return Err(failure);
    }
    Ok(())
}

/// Replaces an object (`PUT`).
pub(crate) fn replace(
    state: &mut State,
    place: Place,
    document: Document,
    options: Options,
) -> Result<Written, Failure> {
    let old = place.find(state)?;
    let (object, warnings) = accept(place, document, options)?;
    change(state, place, old, object, warnings, options)
}

/// Changes an object by a patch.
pub(crate) fn patch_object(
    state: &mut State,
    place: Place,
    kind: PatchKind,
    document: Document,
    options: Options,
) -> Result<Written, Failure> {
    let old = place.find(state)?;
    let schema = Schema::get().find(place.view.schema());
    let mut shown = old.clone();
    place.view.to_shown(&mut shown);
    let before = text(&shown, "/metadata/resourceVersion").to_owned();
    patch(kind, schema, &mut shown, document.value)?;
    // A version in the patch is a condition; the one that was there is none.
    if text(&shown, "/metadata/resourceVersion") == before {
        remove(&mut shown, "/metadata", "resourceVersion");
    }
    if text(&shown, "/metadata/name") != place.name {
        let message = "the name of the object does not match the name on the URL";
        return Err(refusal::bad_request(message));
    }
    let document = Document { value: shown, repeated: document.repeated };
    let (object, warnings) = accept(place, document, options)?;
    change(state, place, old, object, warnings, options)
}

/// Server-side apply (`PATCH` with `application/apply-patch+yaml`).
pub(crate) fn apply(
    state: &mut State,
    place: Place,
    document: Document,
    options: Options,
) -> Result<Written, Failure> {
    let name = options.manager.filter(|name| !name.is_empty());
    let Some(name) = name else {
        return Err(refusal::bad_request(
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ));
    };
    if document.value["metadata"]["managedFields"].is_array() {
        return Err(refusal::bad_request("metadata.managedFields must be nil"));
    }
    let (mut wanted, warnings) = accept(place, document, options)?;
    let version = remove(&mut wanted, "/metadata", "resourceVersion");
    let old = state.stored(place.view.resource, place.namespace, place.name);
    let api_version = place.view.resource.api_version();
    let schema = Schema::get().find(place.view.entry().schema);
    let manager = place.manager(name, &api_version);
    let mut merged = ownership::apply(schema, old.as_ref(), &wanted, manager, options.force)?;
    // Who owns what has been noted.
    let options = Options { manager: None, ..options };
    let Some(old) = old else {
        if place.part.is_some() {
            return Err(refusal::not_found(place.view, place.name));
        }
        for field in ["apiVersion", "kind"] {
            merged[field] = wanted[field].clone();
        }
        return create_accepted(state, place, merged, warnings, options);
    };
    match version {
        Some(version) => merged["metadata"]["resourceVersion"] = version,
        None => drop(remove(&mut merged, "/metadata", "resourceVersion")),
    }
    change(state, place, old, merged, warnings, options)
}

/// Puts `object`, which was accepted, in the place of `old`.
fn change(
    state: &mut State,
    place: Place,
    old: Value,
    mut object: Value,
    warnings: Vec<String>,
    options: Options,
) -> Result<Written, Failure> {
    let view = place.view;
    let given = |field: &str| text(&object, &format!("/metadata/{field}"));
    let version = given("resourceVersion");
    if !version.is_empty() && version != text(&old, "/metadata/resourceVersion") {
        return Err(refusal::conflict(view, place.name, refusal::MODIFIED));
    }
    let (identity, now) = (given("uid"), text(&old, "/metadata/uid"));
    if !identity.is_empty() && identity != now {
        let reason =
            format!("Precondition failed: UID in precondition: {identity}, UID in object meta: {now}");
        return Err(refusal::conflict(view, place.name, &reason));
    }
    let kept = [
        "uid",
        "name",
        "namespace",
        "generateName",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ];
    for field in kept {
        let value = old["metadata"][field].clone();
        let metadata = map(&mut object, "metadata");
        if value.is_null() {
            metadata.remove(field);
        } else {
            metadata.insert(field.to_owned(), value);
        }
    }
    let new = update_part(place, &old, object)?;
    finish(state, Step { place, old: Some(old), new, warnings, options })
}

/// Reads what a client sent: the right kind, in the right place, with known fields only, as it is
/// stored.
fn accept(place: Place, document: Document, options: Options) -> Result<(Value, Vec<String>), Failure> {
    let view = place.view;
    let mut object = document.value;
    if !object.is_object() {
        return Err(refusal::bad_request("the body of the request is no object"));
    }
    let expected = view.api_version();
    let (kind, api_version) = (text(&object, "/kind"), text(&object, "/apiVersion"));
    if !api_version.is_empty() && api_version != expected {
        return Err(refusal::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({expected})"
        )));
    }
    if !kind.is_empty() && kind != view.kind() {
        return Err(refusal::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {}: no kind {kind:?} is served here",
            view.version(),
            view.kind()
        )));
    }
    let unhandled = |reason: &str| {
        let (kind, version) = (view.kind(), view.version());
        refusal::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {reason}"))
    };
    let schema = Schema::get().find(view.schema());
    let unknown = normalise(schema, &mut object).map_err(|error| unhandled(&error))?;
    let unknown = unknown.iter().map(|path| format!("unknown field {path:?}"));
    let repeated = document.repeated.iter().map(|path| format!("duplicate field {path:?}"));
    let mut complaints: Vec<String> = unknown.chain(repeated).collect();
    match options.validation {
        Validation::Strict if !complaints.is_empty() => {
            return Err(unhandled(&format!("strict decoding error: {}", complaints.join(", "))));
        }
        Validation::Strict | Validation::Warn => {}
        Validation::Ignore => complaints.clear(),
    }
    map(&mut object, "metadata");
    if view.resource.namespaced() {
        let given = text(&object, "/metadata/namespace");
        if !given.is_empty() && given != place.namespace {
            return Err(refusal::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        object["metadata"]["namespace"] = json!(place.namespace);
    } else {
        remove(&mut object, "/metadata", "namespace");
    }
    let given = text(&object, "/metadata/name");
    if !place.name.is_empty() && !given.is_empty() && given != place.name {
        return Err(refusal::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({})",
            place.name
        )));
    }
    if !place.name.is_empty() {
        object["metadata"]["name"] = json!(place.name);
    }
    view.to_stored(&mut object);
    Ok((object, complaints))
}

//! The last steps of every write: allocation, validation, generation, owners of fields, storing.

use portolan_store::Failure;
use serde_json::{Value, json};

use super::{Options, Place, Written};
use crate::allocation::allocate;
use crate::ownership::note_update;
use crate::refusal::{self, Errors};
use crate::resource::{Resource, Subresource};
use crate::schema::Schema;
use crate::state::State;
use crate::validation;
use crate::value::{items, number, text};

/// A write that is almost done.
pub(super) struct Step<'a> {
    pub(super) place: Place<'a>,
    pub(super) old: Option<Value>,
    pub(super) new: Value,
    pub(super) warnings: Vec<String>,
    pub(super) options: Options<'a>,
}

pub(super) fn finish(state: &mut State, step: Step) -> Result<Written, Failure> {
    let Step { place, old, mut new, warnings, options } = step;
    let view = place.view;
    let name = text(&new, "/metadata/name").to_owned();
    let mut errors = Errors::default();
    let whole = place.part.is_none() || place.part == Some(Subresource::Scale);
    if view.resource == Resource::Services && whole {
        allocate(&state.claims, &state.rules.ranges, &mut new, old.as_ref(), &mut errors);
    }
    if whole {
        validation::check(view, &new, old.as_ref(), &mut errors);
    }
    errors.result(view, &name)?;
    if old.is_none() && state.stored(view.resource, place.namespace, &name).is_some() {
        return Err(refusal::exists(view, &name));
    }
    if let Some(old) = &old
        && view.entry().counts_generations
        && differs(old, &new)
    {
        new["metadata"]["generation"] = json!(number(old, "/metadata/generation").unwrap_or(0) + 1);
    }
    if let Some(manager) = options.manager {
        let api_version = view.resource.api_version();
        let schema = Schema::get().find(view.entry().schema);
        note_update(schema, old.as_ref(), &mut new, place.manager(manager, &api_version));
    }
    let created = old.is_none();
    if options.dry_run {
        if let Some(old) = &old {
            new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        }
        return Ok(Written { object: new, created, warnings });
    }
    if old.is_some() && remove_if_done(state, view.resource, &new) {
        return Ok(Written { object: new, created, warnings });
    }
    let failed = |error: portolan_store::Invalid| Failure::new(422, error.to_string());
    let version = state.commit(view.resource, new.clone()).map_err(failed)?;
    new["metadata"]["resourceVersion"] = json!(version.to_string());
    Ok(Written { object: new, created, warnings })
}

/// Whether something else than metadata and status has changed.
fn differs(old: &Value, new: &Value) -> bool {
    let relevant = |object: &Value| -> Vec<(String, Value)> {
        let fields = object.as_object().into_iter().flatten();
        let kept =
            fields.filter(|(name, _)| !matches!(&***name, "metadata" | "status" | "apiVersion" | "kind"));
        kept.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    relevant(old) != relevant(new)
}

/// Removes an object that is being deleted once nothing holds it any more; says whether it did.
pub(crate) fn remove_if_done(state: &mut State, resource: Resource, object: &Value) -> bool {
    let is_deleted = object["metadata"]["deletionTimestamp"].is_string();
    let held = items(object, "/metadata/finalizers").next().is_some()
        || (resource == Resource::Namespaces && items(object, "/spec/finalizers").next().is_some())
        || (resource == Resource::Pods && number(object, "/metadata/deletionGracePeriodSeconds") != Some(0));
    if !is_deleted || held {
        return false;
    }
    // What was written last is what watches see of it.
    let (namespace, name) =
        (text(object, "/metadata/namespace").to_owned(), text(object, "/metadata/name").to_owned());
    let stored = state.commit(resource, object.clone()).is_ok();
    stored && state.delete(resource, &namespace, &name)
}

//! Refusals, worded as by real servers.

use portolan_store::Failure;
use serde_json::{Value, json};

use crate::resource::Resource;
use crate::view::View;

fn about(view: View, name: &str) -> Value {
    let mut details = json!({ "name": name, "kind": view.plural() });
    if !view.group().is_empty() {
        details["group"] = json!(view.group());
    }
    details
}

pub(crate) fn not_found(view: View, name: &str) -> Failure {
    Failure::new(404, format!("{} {name:?} not found", view.qualified())).about(about(view, name))
}

pub(crate) fn no_path() -> Failure {
    Failure::new(404, "the server could not find the requested resource").about(json!({}))
}

pub(crate) fn namespace_not_found(name: &str) -> Failure {
    not_found(View::stored(Resource::Namespaces), name)
}

pub(crate) fn exists(view: View, name: &str) -> Failure {
    Failure::new(409, format!("{} {name:?} already exists", view.qualified())).about(about(view, name))
}

/// The object is no longer as the client has seen it.
pub(crate) fn conflict(view: View, name: &str, reason: &str) -> Failure {
    let message = format!("Operation cannot be fulfilled on {} {name:?}: {reason}", view.qualified());
    Failure { reason: "Conflict", ..Failure::new(409, message) }.about(about(view, name))
}

/// What [`conflict`] says about a resource version.
pub(crate) const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

pub(crate) fn forbidden(view: View, name: &str, reason: &str) -> Failure {
    Failure::new(403, format!("{} {name:?} is forbidden: {reason}", view.qualified()))
        .about(about(view, name))
}

pub(crate) fn bad_request(message: impl Into<String>) -> Failure {
    Failure::new(400, message)
}

pub(crate) fn not_allowed() -> Failure {
    Failure::new(405, "the server does not allow this method on the requested resource").about(json!({}))
}

/// What is wrong with the fields of an object.
#[derive(Debug, Default)]
pub(crate) struct Errors(Vec<FieldError>);

#[derive(Debug)]
struct FieldError {
    reason: &'static str,
    field: String,
    message: String,
}

impl Errors {
    fn add(&mut self, reason: &'static str, field: impl Into<String>, message: String) {
        self.0.push(FieldError { reason, field: field.into(), message });
    }

    pub(crate) fn invalid(&mut self, field: impl Into<String>, value: impl Into<Value>, detail: &str) {
        let value: Value = value.into();
        self.add("FieldValueInvalid", field, format!("Invalid value: {value}: {detail}"));
    }

    pub(crate) fn required(&mut self, field: impl Into<String>, detail: &str) {
        let colon = if detail.is_empty() { "" } else { ": " };
        self.add("FieldValueRequired", field, format!("Required value{colon}{detail}"));
    }

    pub(crate) fn duplicate(&mut self, field: impl Into<String>, value: impl Into<Value>) {
        let value: Value = value.into();
        self.add("FieldValueDuplicate", field, format!("Duplicate value: {value}"));
    }

    pub(crate) fn not_found(&mut self, field: impl Into<String>, value: impl Into<Value>) {
        let value: Value = value.into();
        self.add("FieldValueNotFound", field, format!("Not found: {value}"));
    }

    pub(crate) fn forbidden(&mut self, field: impl Into<String>, detail: &str) {
        self.add("FieldValueForbidden", field, format!("Forbidden: {detail}"));
    }

    /// A value that is none of those that there are.
    pub(crate) fn unsupported(&mut self, field: impl Into<String>, value: &str, supported: &[&str]) {
        let supported: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        let message = format!("Unsupported value: {value:?}: supported values: {}", supported.join(", "));
        self.add("FieldValueNotSupported", field, message);
    }

    /// Fails with 422 if anything is wrong.
    pub(crate) fn result(self, view: View, name: &str) -> Result<(), Failure> {
        if self.0.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> =
            self.0.iter().map(|error| format!("{}: {}", error.field, error.message)).collect();
        let list = if let [line] = &lines[..] { line.clone() } else { format!("[{}]", lines.join(", ")) };
        let dot = if view.group().is_empty() { "" } else { "." };
        let message = format!("{}{dot}{} {name:?} is invalid: {list}", view.kind(), view.group());
        let causes: Vec<Value> = self
            .0
            .into_iter()
            .map(|error| json!({ "reason": error.reason, "message": error.message, "field": error.field }))
            .collect();
        let mut details = about(view, name);
        details["kind"] = json!(view.kind());
        details["causes"] = json!(causes);
        Err(Failure::new(422, message).about(details))
    }
}

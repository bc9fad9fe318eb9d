//! How objects are sent: whole, as rows of a table, or their metadata alone; in lists, events and
//! alone.

use bytes::Bytes;
use portolan_store::{Bookmark, Change, Failure, Object, Page, bookmark_line, list_metadata};
use serde_json::{Value, json};

use crate::clock::now;
use crate::table::{Include, column_definitions, columns, row_json};
use crate::view::View;

/// The shape that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) view: View,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Whole,
    Table(Include),
    Metadata,
}

impl Shape {
    /// By `Accept`, where the first that is known counts, and by `includeObject`.
    ///
    /// Fails with 406 if nothing that is asked for is known.
    pub(crate) fn read(view: View, accept: &str, include: Option<&str>) -> Result<Self, Failure> {
        let include = match include {
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            _ => Include::Metadata,
        };
        let form = if accept.trim().is_empty() {
            Some(Form::Whole)
        } else {
            accept.split(',').find_map(|media| form(media, include))
        };
        let form = form.ok_or_else(|| {
            Failure::new(
                406,
                "only the following media types are accepted: application/json, \
                 application/json;as=Table;v=v1;g=meta.k8s.io, \
                 application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
            )
        })?;
        Ok(Self { view, form })
    }

    /// Everything, as `view` has it.
    pub(crate) fn whole(view: View) -> Self {
        Self { view, form: Form::Whole }
    }

    pub(crate) fn is_table(self) -> bool {
        matches!(self.form, Form::Table(_))
    }

    /// A list up to its first item; items with commas between them and `]}` follow.
    pub(crate) fn list_head(self, page: &Page, left: bool) -> Vec<u8> {
        let metadata = list_metadata(page, left);
        let (kind, api_version, items) = match self.form {
            Form::Whole => {
                (format!("{}List", self.view.kind()), self.view.api_version(), "\"items\":[".to_owned())
            }
            Form::Metadata => (
                "PartialObjectMetadataList".to_owned(),
                "meta.k8s.io/v1".to_owned(),
                "\"items\":[".to_owned(),
            ),
            Form::Table(_) => (
                "Table".to_owned(),
                "meta.k8s.io/v1".to_owned(),
                format!(
                    "\"columnDefinitions\":{},\"rows\":[",
                    column_definitions(columns(self.view.resource))
                ),
            ),
        };
        format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{metadata},{items}")
            .into_bytes()
    }

    /// An item of a list.
    pub(crate) fn item(self, object: &Object) -> Bytes {
        if self.form == Form::Whole && self.view.is_stored_form() {
            return object.json().clone();
        }
        // What is not JSON, because a test wants it so, is sent as it is.
        let Some(stored) = object.value() else { return object.json().clone() };
        let mut item = match self.form {
            Form::Table(include) => self.row(&stored, include),
            Form::Metadata => metadata_alone(&stored),
            Form::Whole => self.shown(stored),
        };
        // Items of a list are known by the list.
        if self.form == Form::Whole
            && let Some(item) = item.as_object_mut()
        {
            item.remove("kind");
            item.remove("apiVersion");
        }
        item.to_string().into()
    }

    /// An object alone, as it is stored.
    pub(crate) fn alone(self, stored: Value) -> Value {
        match self.form {
            Form::Whole => self.shown(stored),
            Form::Metadata => metadata_alone(&stored),
            Form::Table(include) => {
                let metadata = json!({ "resourceVersion": stored["metadata"]["resourceVersion"] });
                let row = self.row(&stored, include);
                self.table(&metadata, &row)
            }
        }
    }

    /// The line of a watch that reports a change.
    pub(crate) fn event(self, change: &Change) -> Bytes {
        if self.form == Form::Whole && self.view.is_stored_form() {
            return change.line();
        }
        match change.object.value() {
            Some(stored) => {
                let object = self.alone(stored);
                format!("{{\"type\":\"{}\",\"object\":{object}}}\n", change.kind.name()).into()
            }
            None => change.line(),
        }
    }

    /// The line of a watch that says how far it has come.
    pub(crate) fn bookmark(self, bookmark: Bookmark) -> Bytes {
        let object = match self.form {
            Form::Whole => {
                return bookmark_line(self.view.resource.definition(), &self.view.api_version(), bookmark);
            }
            Form::Metadata => json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": bookmark.metadata() }),
            Form::Table(_) => {
                let cells = vec![Value::Null; columns(self.view.resource).len()];
                let row = json!({ "cells": cells, "object": { "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1", "metadata": bookmark.metadata() } });
                self.table(&json!({ "resourceVersion": bookmark.version.to_string() }), &row)
            }
        };
        format!("{{\"type\":\"BOOKMARK\",\"object\":{object}}}\n").into()
    }

    fn table(self, metadata: &Value, row: &Value) -> Value {
        json!({ "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "columnDefinitions": column_definitions(columns(self.view.resource)), "rows": [row] })
    }

    fn row(self, stored: &Value, include: Include) -> Value {
        row_json(self.view.resource, stored, self.shown(stored.clone()), include, now())
    }

    fn shown(self, mut stored: Value) -> Value {
        self.view.to_shown(&mut stored);
        stored
    }
}

fn metadata_alone(stored: &Value) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": stored["metadata"] })
}

/// The form that one part of `Accept` asks for, if it is known.
fn form(media: &str, include: Include) -> Option<Form> {
    let mut parts = media.split(';').map(str::trim);
    let kind = parts.next()?;
    if !matches!(kind, "application/json" | "application/*" | "*/*") {
        return None;
    }
    let parameters: Vec<&str> = parts.collect();
    let value = |name: &str| parameters.iter().find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    match value("as") {
        None => Some(Form::Whole),
        Some("Table") if value("v") == Some("v1") => Some(Form::Table(include)),
        Some("PartialObjectMetadata" | "PartialObjectMetadataList") if value("v") == Some("v1") => {
            Some(Form::Metadata)
        }
        // Another version of these, or something that is asked for elsewhere.
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Resource;

    #[test]
    fn chooses_the_first_that_it_knows() {
        let view = View::stored(Resource::Pods);
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,\
                     application/json";
        for (accept, form) in [
            ("", Some(Form::Whole)),
            ("application/json, */*", Some(Form::Whole)),
            ("application/vnd.kubernetes.protobuf,application/json", Some(Form::Whole)),
            (table, Some(Form::Table(Include::Metadata))),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Some(Form::Metadata)),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", Some(Form::Whole)),
            ("application/vnd.kubernetes.protobuf", None),
            ("text/html", None),
        ] {
            let shape = Shape::read(view, accept, None).ok().map(|shape| shape.form);
            assert_eq!(shape, form, "{accept}");
        }
    }
}

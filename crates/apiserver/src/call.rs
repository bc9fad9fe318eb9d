//! Requests about objects: which operation each is, and how its outcome is sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use portolan_store::{Failure, Selector};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::clock::now;
use crate::delete::{self, DeleteOptions};
use crate::document::{self, Document};
use crate::list::list;
use crate::patch::PatchKind;
use crate::refusal;
use crate::resource::Subresource;
use crate::shape::Shape;
use crate::state::{Request, Shared};
use crate::table;
use crate::value::{number, text};
use crate::view::View;
use crate::watch::watch;
use crate::write::{self, Options, Place, Validation, Written};

/// A request about objects.
pub(crate) struct Call<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) request: &'a Request,
    pub(crate) method: Method,
    pub(crate) content_type: &'a str,
    /// The first word of `User-Agent`, for who is given no other name.
    pub(crate) agent: &'a str,
    pub(crate) body: Bytes,
    pub(crate) bookmark_interval: Duration,
}

impl Call<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.request.parameter(name)
    }

    fn options(&self) -> Result<Options<'_>, Failure> {
        let dry_run = match self.parameter("dryRun") {
            None | Some("") => false,
            Some("All") => true,
            Some(other) => {
                return Err(Failure::new(
                    422,
                    format!("dryRun: Unsupported value: {other:?}: supported values: \"All\""),
                ));
            }
        };
        let validation = match self.parameter("fieldValidation") {
            None | Some("" | "Warn") => Validation::Warn,
            Some("Strict") => Validation::Strict,
            Some("Ignore") => Validation::Ignore,
            Some(other) => {
                return Err(Failure::new(
                    422,
                    format!(
                        "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
                    ),
                ));
            }
        };
        let manager = self.parameter("fieldManager").filter(|manager| !manager.is_empty());
        let force = self.parameter("force") == Some("true");
        Ok(Options { manager: manager.or(Some(self.agent)), dry_run, validation, force })
    }

    fn selector(&self, view: View, namespace: Option<&str>) -> Result<Selector, Failure> {
        let fields = view.stored_fields(self.parameter("fieldSelector").unwrap_or_default());
        let labels = self.parameter("labelSelector").unwrap_or_default();
        Selector::parse(view.resource.definition(), namespace, labels, &fields)
    }

    fn document(&self) -> Result<Document, Failure> {
        document::read(self.content_type, &self.body)
    }

    /// A body that may be missing.
    fn optional(&self) -> Result<Value, Failure> {
        if self.body.is_empty() { Ok(Value::Null) } else { self.document().map(|document| document.value) }
    }

    /// Answers a request about all objects of a resource, or those of a namespace.
    pub(crate) fn collection(&self, view: View, namespace: Option<&str>) -> Result<Answer, Failure> {
        match self.method {
            Method::GET => {
                let selector = self.selector(view, namespace)?;
                let shape = Shape::read(view, &self.request.accept, self.parameter("includeObject"))?;
                let body = if self.request.is_watch() {
                    watch(self.shared, shape, selector, self.request, self.bookmark_interval)?
                } else {
                    list(self.shared, shape, &selector, self.request)?
                };
                Ok(Answer::new(200, body))
            }
            Method::POST => {
                let options = self.options()?;
                let document = self.document()?;
                let own = text(&document.value, "/metadata/namespace").to_owned();
                let namespace = namespace.unwrap_or(if own.is_empty() { "default" } else { &own });
                let namespace = if view.resource.namespaced() { namespace } else { "" };
                let place = Place { view, namespace, name: "", part: None };
                let written = self.shared.write(|state| write::create(state, place, document, options))?;
                Ok(answer(view, written))
            }
            Method::DELETE => self.delete_collection(view, namespace),
            _ => Err(refusal::not_allowed()),
        }
    }

    fn delete_collection(&self, view: View, namespace: Option<&str>) -> Result<Answer, Failure> {
        let selector = self.selector(view, namespace)?;
        let options = DeleteOptions::read(&self.optional()?, |name| self.parameter(name))?;
        let deleted = self.shared.write(|state| {
            let found = state.store.select(view.resource.definition(), &selector);
            let mut items = Vec::with_capacity(found.len());
            for object in found {
                let place = Place { view, namespace: object.namespace(), name: object.name(), part: None };
                // Whoever is already gone by what went before is no failure.
                if delete::delete(state, place, &options).is_ok() {
                    items.push(object.value().unwrap_or_default());
                }
            }
            (items, state.version())
        });
        let (mut items, version) = deleted;
        for item in &mut items {
            view.to_shown(item);
        }
        let list = json!({ "kind": format!("{}List", view.kind()), "apiVersion": view.api_version(),
            "metadata": { "resourceVersion": version.to_string() }, "items": items });
        Ok(Answer::json(200, &list))
    }

    /// Answers a request about one object, or a part of one.
    pub(crate) fn object(&self, place: Place) -> Result<Answer, Failure> {
        match place.part {
            Some(Subresource::Scale) => self.scale(place),
            Some(Subresource::Binding) => self.post(|| {
                let (binding, options) = (self.document()?.value, self.options()?);
                self.shared.write(|state| write::bind(state, place, &binding, options))?;
                Ok(Answer::json(201, &success()))
            }),
            Some(Subresource::Eviction) => self.post(|| {
                let body = self.document()?.value;
                let options = DeleteOptions::read(&body["deleteOptions"], |name| self.parameter(name))?;
                let place = Place { part: None, ..place };
                self.shared.write(|state| delete::delete(state, place, &options))?;
                Ok(Answer::json(201, &success()))
            }),
            _ => self.plain(place),
        }
    }

    fn post(&self, answer: impl FnOnce() -> Result<Answer, Failure>) -> Result<Answer, Failure> {
        if self.method == Method::POST { answer() } else { Err(refusal::not_allowed()) }
    }

    fn plain(&self, place: Place) -> Result<Answer, Failure> {
        let view = place.view;
        match self.method {
            Method::GET => self.get(place),
            Method::PUT => {
                let (document, options) = (self.document()?, self.options()?);
                let written = self.shared.write(|state| write::replace(state, place, document, options))?;
                Ok(answer(view, written))
            }
            Method::PATCH => {
                let written = self.patch(place)?;
                Ok(answer(view, written))
            }
            Method::DELETE if place.part.is_none() => {
                let options = DeleteOptions::read(&self.optional()?, |name| self.parameter(name))?;
                let deleted = self.shared.write(|state| delete::delete(state, place, &options))?;
                Ok(Answer::json(200, &delete::answer(view, place.name, deleted)))
            }
            _ => Err(refusal::not_allowed()),
        }
    }

    fn get(&self, place: Place) -> Result<Answer, Failure> {
        let shape = Shape::read(place.view, &self.request.accept, self.parameter("includeObject"))?;
        let state = self.shared.lock();
        let object = state.store.get(place.view.resource.definition(), place.namespace, place.name);
        let object = object.ok_or_else(|| refusal::not_found(place.view, place.name))?;
        let object = state.faults.sent(object);
        drop(state);
        if shape == Shape::whole(place.view) && place.view.is_stored_form() {
            let mut body = Vec::with_capacity(object.json().len() + 64);
            object.write(&mut body);
            body.push(b'\n');
            return Ok(Answer::new(200, crate::body::Body::whole(body)));
        }
        let stored = object.value();
        let stored =
            stored.ok_or_else(|| Failure::new(500, "the object is stored as something that is not JSON"))?;
        Ok(Answer::json(200, &shape.alone(stored)))
    }

    fn patch(&self, place: Place) -> Result<Written, Failure> {
        let options = self.options()?;
        let document = self.document()?;
        let media = self.content_type.split(';').next().unwrap_or_default().trim();
        let kind = match media {
            "application/apply-patch+yaml" => {
                let options = Options { manager: self.parameter("fieldManager"), ..options };
                return self.shared.write(|state| write::apply(state, place, document, options));
            }
            "application/json-patch+json" => PatchKind::Json,
            "application/merge-patch+json" | "application/json" | "" => PatchKind::Merge,
            "application/strategic-merge-patch+json" => PatchKind::Strategic,
            _ => {
                return Err(Failure::new(
                    415,
                    format!(
                        "the body of the request was in an unknown format - accepted media types include: \
                         application/json-patch+json, application/merge-patch+json, \
                         application/strategic-merge-patch+json, application/apply-patch+yaml (got {media:?})"
                    ),
                ));
            }
        };
        self.shared.write(|state| write::patch_object(state, place, kind, document, options))
    }

    /// `scale`, which has documents of its own.
    fn scale(&self, place: Place) -> Result<Answer, Failure> {
        let options = self.options()?;
        let current = write::scale_of(&place.find(&self.shared.lock())?);
        let wanted = match self.method {
            Method::GET => {
                let shape = Shape::read(place.view, &self.request.accept, None)?;
                if !shape.is_table() {
                    return Ok(Answer::json(200, &current));
                }
                let (columns, cells) = table::scale_cells(&current, now());
                let table = json!({ "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {},
                    "columnDefinitions": table::column_definitions(columns),
                    "rows": [{ "cells": cells, "object": { "kind": "PartialObjectMetadata",
                        "apiVersion": "meta.k8s.io/v1", "metadata": current["metadata"] } }] });
                return Ok(Answer::json(200, &table));
            }
            Method::PUT => self.document()?.value,
            Method::PATCH => {
                let document = self.document()?;
                let mut scale = current.clone();
                let kind = if self.content_type.starts_with("application/json-patch") {
                    PatchKind::Json
                } else {
                    PatchKind::Merge
                };
                let schema = crate::schema::Schema::get().find("autoscaling.v1.Scale");
                crate::patch::patch(kind, schema, &mut scale, document.value)?;
                if scale["metadata"]["resourceVersion"] == current["metadata"]["resourceVersion"] {
                    scale["metadata"]["resourceVersion"] = Value::Null;
                }
                scale
            }
            _ => return Err(refusal::not_allowed()),
        };
        let replicas = number(&wanted, "/spec/replicas").unwrap_or(0);
        let mut change = json!({ "spec": { "replicas": replicas } });
        let version = &wanted["metadata"]["resourceVersion"];
        if version.as_str().is_some_and(|version| !version.is_empty()) {
            change["metadata"] = json!({ "resourceVersion": version });
        }
        let document = Document { value: change, repeated: Vec::new() };
        let written = self
            .shared
            .write(|state| write::patch_object(state, place, PatchKind::Merge, document, options))?;
        Ok(Answer::json(200, &write::scale_of(&written.object)))
    }

    /// Whether the client may do something: it may.
    pub(crate) fn access_review(&self) -> Result<Answer, Failure> {
        self.post(|| {
            let spec = self.document()?.value["spec"].take();
            let review = json!({ "kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
                "metadata": {}, "spec": spec,
                "status": { "allowed": true, "reason": "whoever is known may do everything here" } });
            Ok(Answer::json(201, &review))
        })
    }
}

fn success() -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 })
}

fn answer(view: View, written: Written) -> Answer {
    let object = Shape::whole(view).alone(written.object);
    let code = if written.created { 201 } else { 200 };
    Answer { warnings: written.warnings, ..Answer::json(code, &object) }
}

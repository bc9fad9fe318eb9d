//! A resource as a group version shows it: most are shown as they are stored.

use serde_json::{Map, Value, json};

use crate::invalid::Invalid;
use crate::resource::{Entry, Resource, Subresource};

/// A resource under one of its group versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) resource: Resource,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Stored,
    /// Events as `v1` has them.
    CoreEvents,
    /// Deployments as `extensions/v1beta1` had them, until Kubernetes 1.16.
    Extensions,
}

/// Fields of Events: in `events.k8s.io/v1`, and in `v1`.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];

impl View {
    /// As it is stored.
    pub(crate) const fn stored(resource: Resource) -> Self {
        Self { resource, form: Form::Stored }
    }

    /// All of them, in the order of discovery.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let others = [
            Self { resource: Resource::Events, form: Form::CoreEvents },
            Self { resource: Resource::Deployments, form: Form::Extensions },
        ];
        Resource::ALL.into_iter().map(Self::stored).chain(others)
    }

    pub(crate) fn find(group: &str, version: &str, plural: &str) -> Option<Self> {
        let named = |view: &Self| (view.group(), view.version(), view.plural()) == (group, version, plural);
        Self::all().find(named)
    }

    /// What an object is shown as, by its `apiVersion` and kind.
    pub(crate) fn of(object: &Value) -> Result<Self, Invalid> {
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let found = Self::all().find(|view| view.kind() == kind && view.api_version() == api_version);
        found.ok_or_else(|| Invalid::Kind { api_version: api_version.to_owned(), kind: kind.to_owned() })
    }

    pub(crate) fn entry(self) -> &'static Entry {
        self.resource.entry()
    }

    pub(crate) fn group(self) -> &'static str {
        match self.form {
            Form::Stored => self.resource.group(),
            Form::CoreEvents => "",
            Form::Extensions => "extensions",
        }
    }

    pub(crate) fn version(self) -> &'static str {
        match self.form {
            Form::Stored => self.entry().definition.version,
            Form::CoreEvents => "v1",
            Form::Extensions => "v1beta1",
        }
    }

    /// `apiVersion` of its objects.
    pub(crate) fn api_version(self) -> String {
        group_version(self.group(), self.version())
    }

    pub(crate) fn plural(self) -> &'static str {
        self.resource.plural()
    }

    pub(crate) fn kind(self) -> &'static str {
        self.resource.kind()
    }

    /// `deployments.apps`, `pods`: as messages name it.
    pub(crate) fn qualified(self) -> String {
        let dot = if self.group().is_empty() { "" } else { "." };
        format!("{}{dot}{}", self.plural(), self.group())
    }

    /// Its type in the schema.
    pub(crate) fn schema(self) -> &'static str {
        match self.form {
            Form::CoreEvents => "core.v1.Event",
            Form::Stored | Form::Extensions => self.entry().schema,
        }
    }

    /// Names of a group of resources that it is in. What is shown twice is listed once.
    pub(crate) fn categories(self) -> &'static [&'static str] {
        if self.form == Form::Extensions { &[] } else { self.entry().categories }
    }

    /// Short names. What is shown twice has them once, or clients warn.
    pub(crate) fn short(self) -> &'static [&'static str] {
        if self.form == Form::Extensions { &[] } else { self.entry().short }
    }

    pub(crate) fn has(self, subresource: Subresource) -> bool {
        self.entry().subresources.contains(&subresource)
    }

    pub(crate) fn is_stored_form(self) -> bool {
        self.form == Form::Stored
    }

    /// Whether it is what `extensions/v1beta1` had, with other defaults.
    pub(crate) fn is_old_deployment(self) -> bool {
        self.form == Form::Extensions
    }

    /// A field selector's path as the stored form names it.
    pub(crate) fn stored_fields(self, selector: &str) -> String {
        if self.form != Form::CoreEvents {
            return selector.to_owned();
        }
        let names = [("involvedObject.", "regarding."), ("reportingComponent", "reportingController")];
        let parts = selector.split(',').map(|part| {
            if let Some(rest) = part.strip_prefix("source") {
                return format!("deprecatedSource.component{rest}");
            }
            let known = names.iter().find_map(|(shown, stored)| Some((stored, part.strip_prefix(shown)?)));
            known.map_or_else(|| part.to_owned(), |(stored, rest)| format!("{stored}{rest}"))
        });
        parts.collect::<Vec<_>>().join(",")
    }

    /// Turns an object as it is shown into what is stored.
    pub(crate) fn to_stored(self, object: &mut Value) {
        if let (Form::CoreEvents, Some(object)) = (self.form, object.as_object_mut()) {
            rename(object, EVENT_FIELDS.map(|(stored, shown)| (shown, stored)));
        }
        self.set_kind(object, &self.resource.api_version());
    }

    /// Turns what is stored into the object as it is shown.
    pub(crate) fn to_shown(self, object: &mut Value) {
        if let (Form::CoreEvents, Some(object)) = (self.form, object.as_object_mut()) {
            rename(object, EVENT_FIELDS);
        }
        self.set_kind(object, &self.api_version());
    }

    fn set_kind(self, object: &mut Value, api_version: &str) {
        if let Some(object) = object.as_object_mut() {
            object.insert("apiVersion".to_owned(), json!(api_version));
            object.insert("kind".to_owned(), json!(self.kind()));
        }
    }
}

/// `v1`, `apps/v1`.
pub(crate) fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn rename(object: &mut Map<String, Value>, names: [(&str, &str); EVENT_FIELDS.len()]) {
    for (from, to) in names {
        if let Some(value) = object.remove(from) {
            object.insert(to.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_events_both_ways() {
        let view = View::find("", "v1", "events").expect("served");
        let shown = json!({ "apiVersion": "v1", "kind": "Event", "metadata": { "name": "a" },
            "involvedObject": { "name": "web" }, "message": "m", "count": 2, "reportingComponent": "kubelet" });
        let mut object = shown.clone();
        view.to_stored(&mut object);
        assert_eq!(
            object,
            json!({ "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": "a" },
                "regarding": { "name": "web" }, "note": "m", "deprecatedCount": 2,
                "reportingController": "kubelet" })
        );
        view.to_shown(&mut object);
        assert_eq!(object, shown);
        assert_eq!(view.stored_fields("involvedObject.name=web,type!=x"), "regarding.name=web,type!=x");
    }
}

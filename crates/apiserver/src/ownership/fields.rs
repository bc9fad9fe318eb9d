//! Sets of fields, as `fieldsV1` has them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::schema::{Field, Kind, ListKind, Schema, Struct};

/// A set of fields of an object.
///
/// Steps are named as in `fieldsV1`: `f:name`, `k:{"name":"a"}`, `v:"value"`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// Whether the value here is in the set itself.
    pub(super) own: bool,
    pub(super) below: BTreeMap<String, Fields>,
}

/// What the server writes itself, and therefore nobody owns.
const SERVERS: [&str; 12] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "generateName",
    "managedFields",
    "selfLink",
    "clusterName",
];

/// Deeper sets are cut off.
const DEPTH: usize = 48;

impl Fields {
    pub(super) fn is_empty(&self) -> bool {
        !self.own && self.below.is_empty()
    }

    /// All fields that an object sets.
    pub(super) fn of(schema: &'static Struct, object: &Value) -> Self {
        Self::walk(schema, object, None)
    }

    /// The fields that `new` sets to something else than `old`.
    pub(super) fn changed(schema: &'static Struct, old: &Value, new: &Value) -> Self {
        Self::walk(schema, new, Some(old))
    }

    fn walk(schema: &'static Struct, new: &Value, old: Option<&Value>) -> Self {
        let mut all = Self::default();
        for (name, value) in new.as_object().into_iter().flatten() {
            let Some(field) = schema.field(name) else { continue };
            let before = old.map(|old| old.get(name).unwrap_or(&Value::Null));
            let Some(mut found) = set(&field.kind, &field.list, value, before) else { continue };
            if name == "metadata" {
                found.own = false;
                for own in SERVERS {
                    found.below.remove(&format!("f:{own}"));
                }
            }
            if !found.is_empty() {
                all.below.insert(format!("f:{name}"), found);
            }
        }
        all
    }

    pub(super) fn from_json(value: &Value) -> Self {
        fn read(value: &Value, depth: usize) -> Fields {
            let mut fields = Fields::default();
            let map = value.as_object().into_iter().flatten();
            for (name, value) in map.take(if depth == 0 { 0 } else { usize::MAX }) {
                if name == "." {
                    fields.own = true;
                } else {
                    fields.below.insert(name.clone(), read(value, depth - 1));
                }
            }
            fields.own |= fields.below.is_empty();
            fields
        }
        let mut fields = read(value, DEPTH);
        fields.own = false;
        fields
    }

    pub(super) fn to_json(&self) -> Value {
        let mut map = Map::new();
        if self.own && !self.below.is_empty() {
            map.insert(".".to_owned(), json!({}));
        }
        for (name, below) in &self.below {
            map.insert(name.clone(), below.to_json());
        }
        Value::Object(map)
    }

    /// Adds all of another set.
    pub(super) fn add(&mut self, other: &Self) {
        self.own |= other.own;
        for (name, theirs) in &other.below {
            self.below.entry(name.clone()).or_default().add(theirs);
        }
    }

    /// Removes all of another set. Who owns a list or map as such keeps it as long as it has
    /// something in it.
    pub(super) fn subtract(&mut self, other: &Self) {
        for (name, theirs) in &other.below {
            if let Some(ours) = self.below.get_mut(name) {
                ours.subtract(theirs);
                if ours.is_empty() {
                    self.below.remove(name);
                }
            }
        }
        if other.own && self.below.is_empty() {
            self.own = false;
        }
    }

    /// What is in both sets.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        let mut both = Self { own: self.own && other.own && self.below.is_empty(), ..Self::default() };
        for (name, ours) in &self.below {
            let Some(theirs) = other.below.get(name) else { continue };
            let inner = ours.intersection(theirs);
            if !inner.is_empty() {
                both.below.insert(name.clone(), inner);
            }
        }
        both
    }

    /// Removes what an object does not have.
    pub(super) fn keep_present(&mut self, schema: &'static Struct, object: &Value) {
        let all = Self::of(schema, object);
        self.keep(&all);
    }

    fn keep(&mut self, present: &Self) {
        self.below.retain(|name, ours| {
            let Some(theirs) = present.below.get(name) else { return false };
            ours.keep(theirs);
            !ours.is_empty()
        });
    }

    /// Paths as conflicts have them: `.spec.containers[name="a"].image`.
    pub(super) fn paths(&self) -> Vec<String> {
        fn collect(fields: &Fields, path: &str, out: &mut Vec<String>) {
            if fields.own {
                out.push(path.to_owned());
            }
            for (name, below) in &fields.below {
                collect(below, &format!("{path}{}", shown(name)), out);
            }
        }
        let mut out = Vec::new();
        collect(self, "", &mut out);
        out
    }
}

fn shown(step: &str) -> String {
    match step.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("k", key)) => {
            let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
            let parts: Vec<String> = key.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("[{}]", parts.join(","))
        }
        Some(("v", value)) => format!("[={value}]"),
        _ => step.to_owned(),
    }
}

/// The step that leads to an item of a list by its keys; none if it lacks one.
pub(super) fn item_step(keys: &[&str], item: &Value, kind: &Kind) -> Option<String> {
    let defaults = |key: &str| match kind {
        Kind::Struct(position) => Schema::get().at(*position).field(key)?.default.map(|text| json!(text)),
        _ => None,
    };
    let mut key = Map::new();
    for name in keys {
        match item.get(*name).cloned().or_else(|| defaults(name)) {
            Some(value) => drop(key.insert((*name).to_owned(), value)),
            None if keys.len() > 1 => {}
            None => return None,
        }
    }
    (!key.is_empty()).then(|| format!("k:{}", Value::Object(key)))
}

/// Whether server-side apply replaces a value whole.
pub(super) fn is_atomic(kind: &Kind, list: &ListKind) -> bool {
    match kind {
        Kind::Struct(position) => *list == ListKind::Atomic || Schema::get().at(*position).atomic,
        Kind::Map(_) => *list == ListKind::Atomic,
        Kind::List(_) => matches!(list, ListKind::Default | ListKind::Atomic),
        Kind::Scalar(_) => true,
    }
}

/// The set of a value; of what differs from `old`, if that is given. None: of nothing.
fn set(kind: &Kind, list: &ListKind, new: &Value, old: Option<&Value>) -> Option<Fields> {
    if old == Some(new) {
        return None;
    }
    let leaf = Some(Fields { own: true, ..Fields::default() });
    if is_atomic(kind, list) {
        return leaf;
    }
    let mut fields = Fields::default();
    match (kind, new) {
        (Kind::Struct(_) | Kind::Map(_), Value::Object(map)) => {
            if map.is_empty() {
                return leaf;
            }
            for (name, value) in map {
                let before = old.map(|old| old.get(name).unwrap_or(&Value::Null));
                let below = match kind {
                    Kind::Struct(position) => {
                        let field: Option<&'static Field> = Schema::get().at(*position).field(name);
                        field.and_then(|field| set(&field.kind, &field.list, value, before))
                    }
                    Kind::Map(inner) => set(inner, &ListKind::Default, value, before),
                    _ => None,
                };
                fields.below.extend(below.map(|below| (format!("f:{name}"), below)));
            }
        }
        (Kind::List(item), Value::Array(items)) => {
            if items.is_empty() {
                return leaf;
            }
            let before: Vec<&Value> = old.and_then(Value::as_array).into_iter().flatten().collect();
            for value in items {
                let ListKind::Keys(keys) = list else {
                    if old.is_none() || !before.contains(&value) {
                        fields.below.insert(format!("v:{value}"), Fields { own: true, ..Fields::default() });
                    }
                    continue;
                };
                let Some(step) = item_step(keys, value, item) else { continue };
                let same =
                    before.iter().find(|other| item_step(keys, other, item).as_deref() == Some(&*step));
                let same = old.map(|_| same.copied().unwrap_or(&Value::Null));
                if let Some(mut below) = set(item, &ListKind::Default, value, same) {
                    below.own |= same.is_none_or(Value::is_null);
                    fields.below.insert(step, below);
                }
            }
        }
        // Of another type than the schema says: it is replaced whole.
        _ => return leaf,
    }
    // What is new as a whole, and not by server-side apply, is owned as a whole, too.
    fields.own = old.is_some_and(Value::is_null) && !matches!(kind, Kind::Struct(_));
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_sets_as_fields_v1() {
        let schema = Schema::get().find("core.v1.Service");
        let object = json!({ "metadata": { "name": "web", "labels": { "app": "web" }, "finalizers": ["x"] },
            "spec": { "ports": [{ "port": 80 }], "selector": { "app": "web" } } });
        let fields = Fields::of(schema, &object);
        let written = json!({
            "f:metadata": { "f:labels": { "f:app": {} }, "f:finalizers": { "v:\"x\"": {} } },
            "f:spec": { "f:selector": {},
                "f:ports": { "k:{\"port\":80,\"protocol\":\"TCP\"}": { ".": {}, "f:port": {} } } } });
        assert_eq!(fields.to_json(), written);
        assert_eq!(Fields::from_json(&written), fields);
        assert_eq!(
            fields.paths(),
            [
                ".metadata.finalizers[=\"x\"]",
                ".metadata.labels.app",
                ".spec.ports[port=80,protocol=\"TCP\"]",
                ".spec.ports[port=80,protocol=\"TCP\"].port",
                ".spec.selector",
            ]
        );
        let mut less = fields.clone();
        less.keep_present(schema, &json!({ "metadata": { "labels": { "app": "other" } } }));
        assert_eq!(less.to_json(), json!({ "f:metadata": { "f:labels": { "f:app": {} } } }));
    }
}

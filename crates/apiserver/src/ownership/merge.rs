//! What server-side apply puts into an object, and what it takes out.

use serde_json::{Map, Value};

use super::fields::{Fields, is_atomic, item_step};
use crate::schema::{Kind, ListKind, Schema, Struct};

/// Puts all of `wanted` into an object of a type.
pub(super) fn merge(schema: &'static Struct, object: &mut Value, wanted: &Value) {
    if let (Some(object), Some(wanted)) = (object.as_object_mut(), wanted.as_object()) {
        merge_struct(schema, object, wanted);
    }
}

fn merge_struct(schema: &'static Struct, object: &mut Map<String, Value>, wanted: &Map<String, Value>) {
    for (name, value) in wanted {
        match (schema.field(name), object.get_mut(name)) {
            (Some(field), Some(slot)) => merge_value(&field.kind, &field.list, slot, value),
            _ => drop(object.insert(name.clone(), value.clone())),
        }
    }
}

fn merge_value(kind: &Kind, list: &ListKind, slot: &mut Value, wanted: &Value) {
    if is_atomic(kind, list) {
        *slot = wanted.clone();
        return;
    }
    match (kind, &mut *slot, wanted) {
        (Kind::Struct(position), Value::Object(map), Value::Object(wanted)) => {
            merge_struct(Schema::get().at(*position), map, wanted);
        }
        (Kind::Map(inner), Value::Object(map), Value::Object(wanted)) => {
            for (name, value) in wanted {
                match map.get_mut(name) {
                    Some(slot) => merge_value(inner, &ListKind::Default, slot, value),
                    None => drop(map.insert(name.clone(), value.clone())),
                }
            }
        }
        (Kind::List(item), Value::Array(present), Value::Array(wanted)) => {
            merge_list(item, list, present, wanted);
        }
        _ => *slot = wanted.clone(),
    }
}

/// Items that are wanted come in their order, after those that others have set before them.
fn merge_list(item: &Kind, list: &ListKind, present: &mut Vec<Value>, wanted: &[Value]) {
    for value in wanted {
        let ListKind::Keys(keys) = list else {
            if !present.contains(value) {
                present.push(value.clone());
            }
            continue;
        };
        let step = item_step(keys, value, item);
        match present.iter_mut().find(|other| step.is_some() && item_step(keys, other, item) == step) {
            Some(slot) => merge_value(item, &ListKind::Default, slot, value),
            None => present.push(value.clone()),
        }
    }
}

/// Takes out of an object what is in `gone`, unless others own something within it.
pub(super) fn remove(schema: &'static Struct, object: &mut Value, gone: &Fields, others: &Fields) {
    if let Some(object) = object.as_object_mut() {
        remove_fields(object, gone, others, &|name| {
            schema.field(name).map(|field| (&field.kind, &field.list))
        });
    }
}

type Find<'a> = dyn Fn(&str) -> Option<(&'static Kind, &'static ListKind)> + 'a;

fn remove_fields(object: &mut Map<String, Value>, gone: &Fields, others: &Fields, find: &Find) {
    let nothing = Fields::default();
    for (step, below) in &gone.below {
        let Some(name) = step.strip_prefix("f:") else { continue };
        let kept = others.below.get(step).unwrap_or(&nothing);
        let Some(value) = object.get_mut(name) else { continue };
        if below.own && kept.is_empty() {
            object.remove(name);
            continue;
        }
        if let Some((kind, list)) = find(name) {
            remove_below(kind, list, value, below, kept);
        }
        let is_empty =
            value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty);
        if is_empty && kept.is_empty() {
            object.remove(name);
        }
    }
}

fn remove_below(kind: &'static Kind, list: &ListKind, value: &mut Value, gone: &Fields, others: &Fields) {
    static PLAIN: ListKind = ListKind::Default;
    let nothing = Fields::default();
    match (kind, value) {
        (Kind::Struct(position), Value::Object(map)) => {
            let schema = Schema::get().at(*position);
            remove_fields(map, gone, others, &|name| {
                schema.field(name).map(|field| (&field.kind, &field.list))
            });
        }
        (Kind::Map(inner), Value::Object(map)) => {
            remove_fields(map, gone, others, &|_| Some((&**inner, &PLAIN)));
        }
        (Kind::List(item), Value::Array(items)) => items.retain_mut(|value| {
            let step = match list {
                ListKind::Keys(keys) => item_step(keys, value, item),
                _ => Some(format!("v:{value}")),
            };
            let found = step.and_then(|step| Some((gone.below.get(&step)?, step)));
            let Some((below, step)) = found else { return true };
            let kept = others.below.get(&step).unwrap_or(&nothing);
            if below.own && kept.is_empty() {
                return false;
            }
            remove_below(item, &ListKind::Default, value, below, kept);
            true
        }),
        _ => {}
    }
}

//! Small helpers for JSON values.

use serde_json::{Map, Value, json};

/// The text there; empty if there is none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The number there, if there is one.
pub(crate) fn number(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}

/// The items there, if there is a list.
pub(crate) fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// The items there, to be changed.
pub(crate) fn items_mut<'a>(
    value: &'a mut Value,
    pointer: &str,
) -> impl Iterator<Item = &'a mut Value> + use<'a> {
    value.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten()
}

/// The map in a field, which is made if there is none.
pub(crate) fn map<'a>(value: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    let slot = &mut value[field];
    if !slot.is_object() {
        *slot = json!({});
    }
    slot.as_object_mut().expect("made one above")
}

/// Puts a value into a field that is absent or null.
pub(crate) fn fill(value: &mut Value, field: &str, default: impl Into<Value>) {
    if let Some(map) = value.as_object_mut() {
        let slot = map.entry(field).or_insert(Value::Null);
        if slot.is_null() {
            *slot = default.into();
        }
    }
}

/// Removes a field of what the pointer leads to.
pub(crate) fn remove(value: &mut Value, pointer: &str, field: &str) -> Option<Value> {
    value.pointer_mut(pointer)?.as_object_mut()?.remove(field)
}

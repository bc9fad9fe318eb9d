//! Strategic merge patches: merge patches in which lists that have a key are merged element by
//! element, and that can say more by directives.

use serde_json::{Map, Value, json};

use crate::schema::{Field, Kind, Merge, Schema, Struct};

/// Changes an object of a type. The error is for the client.
pub(super) fn merge(schema: &'static Struct, object: &mut Value, patch: Value) -> Result<(), String> {
    let (Value::Object(object), Value::Object(patch)) = (object, patch) else {
        return Err("a strategic merge patch is an object".to_owned());
    };
    merge_map(Some(schema), object, patch)
}

fn merge_map(
    schema: Option<&'static Struct>,
    object: &mut Map<String, Value>,
    mut patch: Map<String, Value>,
) -> Result<(), String> {
    match patch.remove("$patch").as_ref().map(|directive| directive.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("replace") => {
            *object = patch;
            return Ok(());
        }
        Some("delete") => {
            object.clear();
            return Ok(());
        }
        Some(other) => return Err(format!("Unknown patch type found: {other}")),
    }
    if let Some(keep) = patch.remove("$retainKeys") {
        let keep = keep.as_array().ok_or("$retainKeys is no list")?;
        object.retain(|name, _| keep.iter().any(|kept| kept == name.as_str()));
    }
    let mut orders = Vec::new();
    for (name, value) in patch {
        if let Some(list) = name.strip_prefix("$setElementOrder/") {
            orders.push((list.to_owned(), value));
        } else if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = value.as_array().ok_or_else(|| format!("{name} is no list"))?;
            if let Some(list) = object.get_mut(list).and_then(Value::as_array_mut) {
                list.retain(|value| !gone.contains(value));
            }
        } else if value.is_null() {
            object.remove(&name);
        } else {
            let field = schema.and_then(|schema| schema.field(&name));
            merge_field(field, object.entry(name).or_insert(Value::Null), value)?;
        }
    }
    for (name, order) in orders {
        let field = schema.and_then(|schema| schema.field(&name));
        if let (Some(Value::Array(list)), Value::Array(order)) = (object.get_mut(&name), order) {
            set_order(field.and_then(|field| field.merge), list, &order);
        }
    }
    Ok(())
}

fn merge_field(field: Option<&'static Field>, slot: &mut Value, value: Value) -> Result<(), String> {
    match value {
        Value::Object(patch) => {
            if !slot.is_object() {
                *slot = json!({});
            }
            let schema = field.and_then(|field| struct_of(&field.kind));
            merge_map(schema, slot.as_object_mut().expect("made one above"), patch)
        }
        Value::Array(patch) => {
            let before = if let Value::Array(list) = slot.take() { list } else { Vec::new() };
            let merged = match field.and_then(|field| Some((field, field.merge?))) {
                Some((field, Merge::By(key))) => merge_list(struct_of(&field.kind), key, before, patch)?,
                Some((_, Merge::Values)) => {
                    let mut merged = before;
                    for value in patch {
                        if !merged.contains(&value) {
                            merged.push(value);
                        }
                    }
                    merged
                }
                None => patch,
            };
            *slot = Value::Array(merged);
            Ok(())
        }
        value => {
            *slot = value;
            Ok(())
        }
    }
}

fn merge_list(
    schema: Option<&'static Struct>,
    key: &str,
    before: Vec<Value>,
    patch: Vec<Value>,
) -> Result<Vec<Value>, String> {
    let is_directive = |item: &Value, directive: &str| item["$patch"] == directive;
    let mut merged = before;
    if patch.iter().any(|item| is_directive(item, "replace")) {
        merged.clear();
    }
    for item in patch {
        if is_directive(&item, "replace") && item.get(key).is_none() {
            continue;
        }
        let found = item.get(key).cloned();
        let wanted =
            found.ok_or_else(|| format!("map: {item} does not contain declared merge key: {key}"))?;
        if is_directive(&item, "delete") {
            merged.retain(|present| present.get(key) != Some(&wanted));
            continue;
        }
        let Value::Object(item) = item else { return Err(format!("an item with key {key} is no object")) };
        let present = merged.iter_mut().find(|present| present.get(key) == Some(&wanted));
        if let Some(Value::Object(present)) = present {
            merge_map(schema, present, item)?;
        } else {
            let mut new = Map::new();
            merge_map(schema, &mut new, item)?;
            merged.push(Value::Object(new));
        }
    }
    Ok(merged)
}

/// Puts what the client knows into its order. What only the server has stays before what followed
/// it.
fn set_order(merge: Option<Merge>, list: &mut Vec<Value>, order: &[Value]) {
    let key = |value: &Value| match merge {
        Some(Merge::By(key)) => value.get(key).cloned().unwrap_or_default(),
        _ => value.clone(),
    };
    let order: Vec<Value> = order.iter().map(key).collect();
    let place = |value: &Value| {
        let wanted = key(value);
        order.iter().position(|ordered| *ordered == wanted)
    };
    let (mut known, mut others) = (Vec::new(), Vec::new());
    for (position, value) in list.drain(..).enumerate() {
        match place(&value) {
            Some(place) => known.push((place, position, value)),
            None => others.push((position, value)),
        }
    }
    known.sort_by_key(|(place, _, _)| *place);
    let mut others = others.into_iter().peekable();
    for (_, position, value) in known {
        while let Some((_, other)) = others.next_if(|(before, _)| *before < position) {
            list.push(other);
        }
        list.push(value);
    }
    list.extend(others.map(|(_, value)| value));
}

fn struct_of(kind: &Kind) -> Option<&'static Struct> {
    match kind {
        Kind::Struct(position) => Some(Schema::get().at(*position)),
        Kind::List(item) => struct_of(item),
        Kind::Map(_) | Kind::Scalar(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(object: Value, patch: Value) -> Result<Value, String> {
        let mut object = object;
        merge(Schema::get().find("apps.v1.Deployment"), &mut object, patch).map(|()| object)
    }

    /// The patch that kubectl sends for a change with all directives.
    #[test]
    fn merges_with_directives() {
        let object = json!({ "metadata": { "labels": { "x": "1", "y": "2" } },
            "spec": { "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1 } },
                "template": { "spec": { "containers": [
                    { "name": "b" },
                    { "name": "a", "args": ["old", "older"],
                        "env": [{ "name": "E1", "value": "1" }, { "name": "E2", "value": "2" }],
                        "ports": [{ "containerPort": 80 }, { "containerPort": 81 }] },
                    { "name": "side" },
                ] } } } });
        let patch = json!({"metadata":{"labels":{"x":null}},"spec":{
        "strategy":{"$retainKeys":["type"],"rollingUpdate":null,"type":"Recreate"},
        "template":{"spec":{"$setElementOrder/containers":[{"name":"new"},{"name":"a"}],"containers":[
            {"name":"a","args":["x"],"$setElementOrder/env":[{"name":"E2"}],
                "env":[{"name":"E2","value":"3"},{"$patch":"delete","name":"E1"}],
                "ports":[{"$patch":"delete","containerPort":81}]},
            {"$patch":"delete","name":"b"},
            {"name":"new","image":"i"},
        ]}}}});
        assert_eq!(
            patched(object, patch),
            Ok(json!({ "metadata": { "labels": { "y": "2" } },
                "spec": { "strategy": { "type": "Recreate" },
                    "template": { "spec": { "containers": [
                        { "name": "side" },
                        { "name": "new", "image": "i" },
                        { "name": "a", "args": ["x"], "env": [{ "name": "E2", "value": "3" }],
                            "ports": [{ "containerPort": 80 }] },
                    ] } } } }))
        );
    }

    #[test]
    fn replaces_and_deletes() {
        for (object, patch, result) in [
            (
                json!({ "metadata": { "finalizers": ["a", "b"] } }),
                json!({ "metadata": { "finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"] } }),
                Some(json!({ "metadata": { "finalizers": ["b", "c"] } })),
            ),
            (
                json!({ "spec": { "template": { "spec": { "containers": [{ "name": "a" }] } } } }),
                json!({ "spec": { "template": { "spec": { "containers": [
                    { "name": "b" }, { "$patch": "replace" }] } } } }),
                Some(json!({ "spec": { "template": { "spec": { "containers": [{ "name": "b" }] } } } })),
            ),
            (
                json!({ "spec": { "strategy": { "type": "Recreate" } } }),
                json!({ "spec": { "strategy": { "$patch": "replace", "rollingUpdate": {} } } }),
                Some(json!({ "spec": { "strategy": { "rollingUpdate": {} } } })),
            ),
            (json!({ "a": { "b": 1 } }), json!({ "a": { "$patch": "delete" } }), Some(json!({ "a": {} }))),
            (json!({ "a": 1 }), json!({ "a": { "$patch": "explode" } }), None),
            (
                json!({}),
                json!({ "spec": { "template": { "spec": { "containers": [{ "image": "i" }] } } } }),
                None,
            ),
            (json!({}), json!({ "spec": { "template": { "spec": { "containers": [1] } } } }), None),
        ] {
            assert_eq!(patched(object.clone(), patch.clone()).ok(), result, "{object} {patch}");
        }
    }
}

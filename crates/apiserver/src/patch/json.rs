//! JSON patches (RFC 6902).

use portolan_store::Failure;
use serde_json::Value;

/// More operations are refused, as by real servers.
const MOST_OPERATIONS: usize = 10_000;

/// What `copy` may add in all, in bytes of JSON: it could double an object with each operation.
const MOST_COPIED: usize = 3 << 20;

/// How deeply an object may be nested: what a body can be, and no more by copying it into itself.
const DEPTH: usize = 128;

pub(super) fn patch(object: &mut Value, patch: Value) -> Result<(), Failure> {
    let Value::Array(operations) = patch else {
        return Err(Failure::new(400, "error decoding patch: a JSON patch is a list of operations"));
    };
    if operations.len() > MOST_OPERATIONS {
        return Err(Failure::new(
            413,
            format!(
                "The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {}",
                operations.len()
            ),
        ));
    }
    let mut copied = 0;
    for operation in &operations {
        apply(object, operation, &mut copied).map_err(|message| Failure::new(422, message))?;
    }
    Ok(())
}

fn apply(object: &mut Value, operation: &Value, copied: &mut usize) -> Result<(), String> {
    let text = |name: &str| {
        operation[name].as_str().ok_or_else(|| format!("an operation of a JSON patch has no {name:?}"))
    };
    let name = text("op")?;
    let path = text("path")?;
    let failed = |reason: String| format!("{name} operation does not apply: {reason}");
    let value =
        || operation.get("value").cloned().ok_or_else(|| failed(format!("it has no value: {path:?}")));
    match name {
        "add" => add(object, path, value()?).map_err(failed),
        "remove" => remove(object, path).map(drop).map_err(failed),
        "replace" => {
            *find(object, path).map_err(failed)? = value()?;
            Ok(())
        }
        "move" => {
            let from = text("from")?;
            if path.strip_prefix(from).is_some_and(|rest| rest.starts_with('/')) {
                return Err(failed(format!("{path:?} is within {from:?}")));
            }
            let value = remove(object, from).map_err(failed)?;
            add(object, path, value).map_err(failed)
        }
        "copy" => {
            let value = find(object, text("from")?).map_err(failed)?.clone();
            *copied += value.to_string().len();
            if *copied > MOST_COPIED {
                return Err(failed("the copies become too large".to_owned()));
            }
            add(object, path, value).map_err(failed)
        }
        "test" => {
            // What is absent is null, as in real servers.
            let is_as_said = match find(object, path) {
                Ok(value) => Some(&*value) == operation.get("value"),
                Err(_) => operation.get("value").is_none_or(Value::is_null),
            };
            if is_as_said { Ok(()) } else { Err(format!("testing value {path} failed: test failed")) }
        }
        other => Err(format!("Unexpected kind: {other}")),
    }
}

/// The steps of a pointer (RFC 6901).
fn steps(path: &str) -> Result<Vec<String>, String> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let rest = path.strip_prefix('/').ok_or_else(|| format!("{path:?} does not begin with a slash"))?;
    Ok(rest.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect())
}

fn missing(path: &str) -> String {
    format!("doc is missing path: {path:?}: missing value")
}

fn index(step: &str) -> Option<usize> {
    if step.len() > 1 && step.starts_with('0') { None } else { step.parse().ok() }
}

fn find<'a>(object: &'a mut Value, path: &str) -> Result<&'a mut Value, String> {
    walk(object, &steps(path)?).ok_or_else(|| missing(path))
}

fn walk<'a>(object: &'a mut Value, steps: &[String]) -> Option<&'a mut Value> {
    steps.iter().try_fold(object, |value, step| match value {
        Value::Object(map) => map.get_mut(step),
        Value::Array(list) => list.get_mut(index(step)?),
        _ => None,
    })
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn add(object: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let steps = steps(path)?;
    if steps.len() + depth(&value) > DEPTH {
        return Err(format!("{path:?} would be nested too deeply"));
    }
    let Some((last, before)) = steps.split_last() else {
        *object = value;
        return Ok(());
    };
    match walk(object, before) {
        Some(Value::Object(map)) => {
            map.insert(last.clone(), value);
            Ok(())
        }
        Some(Value::Array(list)) => {
            let position = if last == "-" { Some(list.len()) } else { index(last) };
            let position = position.filter(|position| *position <= list.len());
            list.insert(position.ok_or_else(|| format!("invalid index {last:?} in {path:?}"))?, value);
            Ok(())
        }
        _ => Err(missing(path)),
    }
}

fn remove(object: &mut Value, path: &str) -> Result<Value, String> {
    let steps = steps(path)?;
    let (last, before) = steps.split_last().ok_or("the whole object cannot be removed")?;
    let removed = match walk(object, before) {
        Some(Value::Object(map)) => map.remove(last),
        Some(Value::Array(list)) => {
            index(last).filter(|position| *position < list.len()).map(|position| list.remove(position))
        }
        _ => None,
    };
    removed.ok_or_else(|| missing(path))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Examples of RFC 6902, appendix A, and what cannot be done.
    #[test]
    fn patches() {
        for (object, operations, result) in [
            (
                json!({"foo":"bar"}),
                json!([{"op":"add","path":"/baz","value":"qux"}]),
                Some(json!({"baz":"qux","foo":"bar"})),
            ),
            (
                json!({"foo":["bar","baz"]}),
                json!([{"op":"add","path":"/foo/1","value":"qux"}]),
                Some(json!({"foo":["bar","qux","baz"]})),
            ),
            (
                json!({"foo":["bar"]}),
                json!([{"op":"add","path":"/foo/-","value":["abc"]}]),
                Some(json!({"foo":["bar",["abc"]]})),
            ),
            (
                json!({"foo":["bar","qux","baz"]}),
                json!([{"op":"remove","path":"/foo/1"}]),
                Some(json!({"foo":["bar","baz"]})),
            ),
            (
                json!({"foo":{"bar":1},"qux":{}}),
                json!([{"op":"move","from":"/foo/bar","path":"/qux/thud"}]),
                Some(json!({"foo":{},"qux":{"thud":1}})),
            ),
            (
                json!({"/":9,"~1":10}),
                json!([{"op":"test","path":"/~01","value":10},{"op":"replace","path":"/~1","value":1}]),
                Some(json!({"/":1,"~1":10})),
            ),
            (json!({"a":1}), json!([{"op":"copy","from":"/a","path":"/b"}]), Some(json!({"a":1,"b":1}))),
            (json!({"a":1}), json!([{"op":"test","path":"/a","value":2}]), None),
            (json!({"a":1}), json!([{"op":"remove","path":"/b"}]), None),
            (json!({"a":1}), json!([{"op":"add","path":"/b/c","value":2}]), None),
            (json!({"a":[]}), json!([{"op":"add","path":"/a/1","value":2}]), None),
            (json!({"a":{}}), json!([{"op":"move","from":"/a","path":"/a/b"}]), None),
            (json!({"a":1}), json!([{"op":"add","path":"a","value":2}]), None),
            (json!({"a":1}), json!([{"op":"jump","path":"/a"}]), None),
            (json!({"a":1}), json!([{"path":"/a"}]), None),
            (json!({"a":1}), json!([7]), None),
            (json!({"a":1}), json!({}), None),
        ] {
            let mut patched = object.clone();
            let done = patch(&mut patched, operations.clone()).ok().map(|()| patched);
            assert_eq!(done, result, "{object} {operations}");
        }
    }

    #[test]
    fn copies_are_bounded() {
        for (from, path) in [("", "/x"), ("/a", "/a/-")] {
            let double = json!({ "op": "copy", "from": from, "path": path });
            let done = patch(&mut json!({ "a": ["x".repeat(1000)] }), json!(vec![double; 200]));
            assert_eq!(done.map_err(|failure| failure.code), Err(422), "{from}");
        }
        let many = json!(vec![json!({ "op": "test", "path": "", "value": 1 }); MOST_OPERATIONS + 1]);
        assert_eq!(patch(&mut json!({}), many).map_err(|failure| failure.code), Err(413));
    }
}

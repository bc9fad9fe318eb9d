//! Elements of sets and maps, and the types that a set declares for them.

use std::collections::HashMap;

use serde_json::Value;

use super::expression;
use super::value::ValueKind;
use super::verdict::goal;
use crate::printable::printable;
use crate::ruleset::{Data, Set};

/// The kinds of a set's `type`: a name, names, names joined by dots, or expressions of a `typeof`.
/// `None` if one is not known.
pub(super) fn kinds(declared: &Value) -> Option<Vec<ValueKind>> {
    match declared {
        Value::String(names) => names.split('.').map(|name| ValueKind::named(name.trim())).collect(),
        Value::Array(names) => names.iter().map(|name| ValueKind::named(name.as_str()?)).collect(),
        Value::Object(object) => {
            let operands = expression::key(object.get("typeof")?, &mut Vec::new())?;
            Some(operands.iter().map(|operand| ValueKind::of(operand.field)).collect())
        }
        _ => None,
    }
}

/// The values of `value`, one for each of `kinds`: a concatenation, or a single one.
fn ranges(value: &Value, kinds: &[ValueKind]) -> Option<Vec<(u128, u128)>> {
    let values = match value.get("concat") {
        Some(values) => values.as_array()?.as_slice(),
        None => std::slice::from_ref(value),
    };
    if values.len() != kinds.len() {
        return None;
    }
    values.iter().zip(kinds).map(|(value, kind)| kind.range(value)).collect()
}

/// Adds `element` to a set, or to a map of `data` or, if that is `None`, of verdicts. Returns
/// whether it was understood.
pub(super) fn insert(
    set: &mut Set,
    element: &Value,
    kinds: &[ValueKind],
    data: Option<&[ValueKind]>,
    chains: &HashMap<String, u32>,
) -> Result<bool, String> {
    let (key, value) = match element.as_array().map(Vec::as_slice) {
        Some([key, value]) => (key, Some(value)),
        Some(_) => return Ok(false),
        None => (element, None),
    };
    // With a comment, a timeout or a counter, the key is one level deeper.
    let comment = key.get("elem").and_then(|elem| elem.get("comment")).and_then(Value::as_str);
    let comment = comment.map(|comment| printable(comment).into());
    let key = key.get("elem").map_or(Some(key), |elem| elem.get("val"));
    let Some(key) = key.and_then(|key| ranges(key, kinds)) else { return Ok(false) };
    let data = match (value, data) {
        (None, _) => Data::Nothing,
        (Some(value), Some(kinds)) => {
            let Some(values) = ranges(value, kinds) else { return Ok(false) };
            if values.iter().any(|(first, last)| first != last) {
                return Ok(false);
            }
            Data::Values(values.iter().map(|(value, _)| *value).collect())
        }
        (Some(value), None) => match goal(value, chains)? {
            Some(goal) => Data::Goal(goal),
            None => return Ok(false),
        },
    };
    set.insert_commented(&key, data, comment);
    Ok(true)
}

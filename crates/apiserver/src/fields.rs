//! Objects held against the schema: fields that are not known, values of the wrong type, and what
//! stands for nothing.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::clock::{seconds, timestamp};
use crate::schema::{Field, Kind, Scalar, Schema, Struct};

/// A list has at most so many items: far more than any real one, and few enough to compare each
/// with each.
pub(crate) const MOST_ITEMS: usize = 4_096;

/// More fields that are not known are not listed.
const MOST_UNKNOWN: usize = 10;

/// Removes fields that are not known and values that stand for nothing, and writes the rest as the
/// API does. Gives the paths of what is not known, as `spec.replcias`.
///
/// The error is that of a decoder in Go, as real servers pass it on.
pub(crate) fn normalise(schema: &'static Struct, object: &mut Value) -> Result<Vec<String>, String> {
    let mut walk = Walk { path: Vec::new(), unknown: Vec::new() };
    let Value::Object(map) = object else {
        return Err(format!(
            "json: cannot unmarshal {} into Go value of type v1.{}",
            go_name(object),
            schema.short_name()
        ));
    };
    let head = ["apiVersion", "kind"].map(|name| (name, map.remove(name)));
    let result = walk.object(schema, map);
    for (name, value) in head {
        if let Some(value) = value {
            map.insert(name.to_owned(), value);
        }
    }
    result.map(|()| walk.unknown)
}

struct Walk {
    path: Vec<Step>,
    unknown: Vec<String>,
}

enum Step {
    Field(String),
    Item(usize),
}

impl Walk {
    /// With positions in lists, or without, as errors about types have it.
    fn path(&self, positions: bool) -> String {
        let mut out = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) => {
                    if !out.is_empty() {
                        out.push('.');
                    }
                    out.push_str(name);
                }
                Step::Item(position) if positions => drop(write!(out, "[{position}]")),
                Step::Item(_) => {}
            }
        }
        out
    }

    fn object(&mut self, schema: &'static Struct, map: &mut Map<String, Value>) -> Result<(), String> {
        let names: Vec<String> = map.keys().cloned().collect();
        for name in names {
            let Some(field) = schema.field(&name) else {
                // An object within an object.
                if schema.name == "core.v1.PersistentVolumeClaim" && (name == "kind" || name == "apiVersion")
                {
                    continue;
                }
                map.remove(&name);
                self.path.push(Step::Field(name));
                if self.unknown.len() < MOST_UNKNOWN {
                    self.unknown.push(self.path(true));
                }
                self.path.pop();
                continue;
            };
            let value = map.get_mut(&name).expect("its key");
            if value.is_null() {
                map.remove(&name);
                continue;
            }
            self.path.push(Step::Field(name.clone()));
            self.value(&field.kind, schema, value)?;
            self.path.pop();
            if stands_for_nothing(field, value) {
                map.remove(&name);
            }
        }
        Ok(())
    }

    fn value(&mut self, kind: &Kind, owner: &'static Struct, value: &mut Value) -> Result<(), String> {
        match (kind, &mut *value) {
            (Kind::Struct(position), Value::Object(map)) => self.object(Schema::get().at(*position), map),
            (Kind::List(_), Value::Array(list)) if list.len() > MOST_ITEMS => Err(format!(
                "{}: Too many: {}: must have at most {MOST_ITEMS} items",
                self.path(true),
                list.len()
            )),
            (Kind::List(item), Value::Array(list)) => {
                for (position, value) in list.iter_mut().enumerate() {
                    self.path.push(Step::Item(position));
                    if value.is_null() && matches!(**item, Kind::Struct(_)) {
                        *value = json!({});
                    }
                    self.value(item, owner, value)?;
                    self.path.pop();
                }
                Ok(())
            }
            (Kind::Map(item), Value::Object(map)) => {
                for (name, value) in map.iter_mut() {
                    self.path.push(Step::Field(name.clone()));
                    if value.is_null() && **item == Kind::Scalar(Scalar::String) {
                        *value = json!("");
                    }
                    self.value(item, owner, value)?;
                    self.path.pop();
                }
                Ok(())
            }
            (Kind::Scalar(scalar), _) => match scalar_value(*scalar, value) {
                Ok(()) => Ok(()),
                Err(Some(message)) => Err(message),
                Err(None) => Err(self.mismatch(kind, owner, value)),
            },
            _ => Err(self.mismatch(kind, owner, value)),
        }
    }

    fn mismatch(&self, kind: &Kind, owner: &Struct, value: &Value) -> String {
        format!(
            "json: cannot unmarshal {} into Go struct field {}.{} of type {}",
            go_name(value),
            owner.short_name(),
            self.path(false),
            go_type(kind)
        )
    }
}

/// What an encoder in Go leaves out.
fn stands_for_nothing(field: &Field, value: &Value) -> bool {
    if field.required || field.pointer {
        return false;
    }
    match value {
        Value::Bool(value) => !value,
        Value::Number(number) => {
            field.kind != Kind::Scalar(Scalar::IntOrString) && number.as_i64() == Some(0)
        }
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty() && matches!(field.kind, Kind::Map(_)),
        Value::Null => true,
    }
}

/// Checks a value and writes it as the API does. The error is a message, or none if the type is
/// wrong.
fn scalar_value(scalar: Scalar, value: &mut Value) -> Result<(), Option<String>> {
    let fits = match (scalar, &*value) {
        (Scalar::Raw, _)
        | (Scalar::Bool, Value::Bool(_))
        | (Scalar::String | Scalar::Duration | Scalar::IntOrString, Value::String(_))
        | (Scalar::Float, Value::Number(_)) => true,
        (Scalar::Int32 | Scalar::IntOrString, Value::Number(number)) => {
            whole(number.as_f64(), number.as_i64()).is_some_and(|number| i32::try_from(number).is_ok())
        }
        (Scalar::Int64, Value::Number(number)) => whole(number.as_f64(), number.as_i64()).is_some(),
        (Scalar::Bytes, Value::String(text)) => {
            STANDARD.decode(text).map_err(|error| Some(format!("illegal base64 data: {error}")))?;
            true
        }
        (Scalar::Time, Value::String(text)) => {
            let time = seconds(text).ok_or_else(|| {
                Some(format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?}"))
            })?;
            *value = json!(timestamp(time));
            true
        }
        (Scalar::MicroTime, Value::String(text)) => {
            seconds(text).ok_or_else(|| {
                Some(format!(
                    "parsing time {text:?} as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse {text:?}"
                ))
            })?;
            true
        }
        (Scalar::Quantity, Value::Number(number)) => {
            *value = json!(quantity(&number.to_string())?);
            true
        }
        (Scalar::Quantity, Value::String(text)) => {
            *value = json!(quantity(text)?);
            true
        }
        _ => false,
    };
    if let (Scalar::Int32 | Scalar::Int64 | Scalar::IntOrString, Value::Number(number)) = (scalar, &*value)
        && let Some(number) = whole(number.as_f64(), number.as_i64())
    {
        *value = json!(number);
    }
    if fits { Ok(()) } else { Err(None) }
}

/// A number without a fraction.
fn whole(float: Option<f64>, integer: Option<i64>) -> Option<i64> {
    integer.or_else(|| {
        let float = float.filter(|float| float.fract() == 0.0 && float.abs() < 9e15)?;
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and within range")]
        Some(float as i64)
    })
}

/// An amount as the API writes it: without a fraction where a smaller unit has none.
fn quantity(text: &str) -> Result<String, Option<String>> {
    let refused = || {
        Some(
            "quantities must match the regular expression \
             '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
                .to_owned(),
        )
    };
    let digits = text.trim_start_matches(['+', '-']);
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
    let (amount, unit) = digits.split_at(end);
    let known = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let exponent = unit.strip_prefix(['e', 'E']).is_some_and(|rest| rest.parse::<i8>().is_ok());
    let dots = amount.matches('.').count();
    if amount.trim_matches('.').is_empty() || dots > 1 || !(known.contains(&unit) || exponent) {
        return Err(refused());
    }
    match (amount.split_once('.'), unit) {
        (Some((whole, fraction)), "") if fraction.len() <= 3 && text == digits => {
            let milli = format!("{whole}{fraction:0<3}");
            let milli: u64 = milli.parse().map_err(|_| refused())?;
            Ok(if milli.is_multiple_of(1000) { (milli / 1000).to_string() } else { format!("{milli}m") })
        }
        _ => Ok(text.to_owned()),
    }
}

/// What decoders in Go call a value.
fn go_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn go_type(kind: &Kind) -> String {
    match kind {
        Kind::Struct(position) => format!("v1.{}", Schema::get().at(*position).short_name()),
        Kind::List(item) => format!("[]{}", go_type(item)),
        Kind::Map(item) => format!("map[string]{}", go_type(item)),
        Kind::Scalar(scalar) => match scalar {
            Scalar::String => "string",
            Scalar::Int32 => "int32",
            Scalar::Int64 => "int64",
            Scalar::Float => "float64",
            Scalar::Bool => "bool",
            Scalar::Bytes => "[]uint8",
            Scalar::Quantity => "resource.Quantity",
            Scalar::Time => "v1.Time",
            Scalar::MicroTime => "v1.MicroTime",
            Scalar::Duration => "v1.Duration",
            Scalar::IntOrString => "intstr.IntOrString",
            Scalar::Raw => "runtime.RawExtension",
        }
        .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_what_is_not_known_and_what_says_nothing() {
        let mut object = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "extra": 1,
            "metadata": { "name": "web", "labels": {}, "creationTimestamp": null },
            "spec": { "replicas": 0, "paused": false, "replcias": 3, "template": { "spec": {
                "hostNetwork": false,
                "containers": [
                    { "name": "a", "imag": "x", "resources": { "limits": { "cpu": 0.5, "memory": "1Gi" } } },
                ] } } } });
        let unknown = normalise(Schema::get().find("apps.v1.Deployment"), &mut object).expect("types fit");
        assert_eq!(unknown, ["extra", "spec.replcias", "spec.template.spec.containers[0].imag"]);
        assert_eq!(
            object,
            json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
                "spec": { "replicas": 0, "template": { "spec": { "containers": [
                    { "name": "a", "resources": { "limits": { "cpu": "500m", "memory": "1Gi" } } },
                ] } } } })
        );
    }

    #[test]
    fn names_wrong_types_as_go_does() {
        for (object, error) in [
            (
                json!({ "spec": { "replicas": "3" } }),
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                json!({ "spec": { "template": { "spec": { "containers": [{ "image": 1 }] } } } }),
                "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.image \
                 of type string",
            ),
            (
                json!({ "metadata": { "labels": { "a": 1 } } }),
                "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels.a of type string",
            ),
            (json!([]), "json: cannot unmarshal array into Go value of type v1.Deployment"),
        ] {
            let mut object = object;
            let result = normalise(Schema::get().find("apps.v1.Deployment"), &mut object);
            assert_eq!(result, Err(error.to_owned()));
        }
    }

    #[test]
    fn writes_amounts_as_the_api_does() {
        for (text, written) in
            [("1", "1"), ("0.5", "500m"), ("1.0", "1"), ("128Mi", "128Mi"), ("1e3", "1e3"), ("-1", "-1")]
        {
            assert_eq!(quantity(text), Ok(written.to_owned()));
        }
        for text in ["", "one", "1 Gi", "1.2.3", "1Gib", "."] {
            assert!(quantity(text).is_err(), "{text}");
        }
    }
}

//! Objects in protobuf, decoded by the schema: four bytes, then `runtime.Unknown` with kind and
//! object.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::clock::timestamp;
use crate::schema::{Field, Kind, Scalar, Schema, Struct};

const MAGIC: &[u8] = b"k8s\0";

/// How deeply messages may be nested.
const DEPTH: usize = 48;

/// Decodes an object.
pub(super) fn decode(body: &[u8]) -> Result<Value, String> {
    let unknown = body.strip_prefix(MAGIC).ok_or("it does not begin with the four bytes that it must")?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for entry in Wire(unknown) {
        match entry? {
            (1, Part::Bytes(meta)) => {
                for entry in Wire(meta) {
                    match entry? {
                        (1, Part::Bytes(text)) => api_version = utf8(text)?,
                        (2, Part::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Part::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let schema = Schema::get().of(&api_version, &kind);
    let schema =
        schema.ok_or_else(|| format!("no kind \"{kind}\" is registered for version \"{api_version}\""))?;
    let mut object = Map::new();
    message(schema, raw, DEPTH, &mut object)?;
    object.insert("apiVersion".to_owned(), json!(api_version));
    object.insert("kind".to_owned(), json!(kind));
    Ok(Value::Object(object))
}

/// The fields of a message, one after another.
struct Wire<'a>(&'a [u8]);

/// What a field holds.
enum Part<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    fn varint(&mut self) -> Result<u64, String> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (first, rest) = self.0.split_first().ok_or("a number is broken off")?;
            self.0 = rest;
            number |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number is too long".to_owned())
    }

    fn bytes(&mut self, length: u64) -> Result<&'a [u8], String> {
        let split = usize::try_from(length).ok().and_then(|length| self.0.split_at_checked(length));
        let (bytes, rest) = split.ok_or("a field is broken off")?;
        self.0 = rest;
        Ok(bytes)
    }

    fn entry(&mut self) -> Result<(u64, Part<'a>), String> {
        let tag = self.varint()?;
        let part = match tag & 7 {
            0 => Part::Number(self.varint()?),
            1 => Part::Number(little_endian(self.bytes(8)?)),
            2 => {
                let length = self.varint()?;
                Part::Bytes(self.bytes(length)?)
            }
            5 => Part::Number(little_endian(self.bytes(4)?)),
            other => return Err(format!("no wire type {other}")),
        };
        Ok((tag >> 3, part))
    }
}

impl<'a> Iterator for Wire<'a> {
    type Item = Result<(u64, Part<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let entry = self.entry();
        if entry.is_err() {
            self.0 = &[];
        }
        Some(entry)
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_owned()).map_err(|error| error.to_string())
}

fn message(
    schema: &'static Struct,
    bytes: &[u8],
    depth: usize,
    out: &mut Map<String, Value>,
) -> Result<(), String> {
    let depth = depth.checked_sub(1).ok_or("it is nested too deeply")?;
    for entry in Wire(bytes) {
        let (number, part) = entry?;
        // What is not known here is newer than this server, or older.
        let known = schema.fields.iter().find(|field| u64::from(field.number) == number);
        let Some(field) = known else { continue };
        field_value(field, &part, depth, out)
            .map_err(|error| format!("{}.{}: {error}", schema.short_name(), field.name))?;
    }
    Ok(())
}

fn field_value(field: &Field, part: &Part, depth: usize, out: &mut Map<String, Value>) -> Result<(), String> {
    match (&field.kind, part) {
        (Kind::Struct(position), Part::Bytes(bytes)) => {
            let inner = Schema::get().at(*position);
            if field.name.is_empty() {
                return message(inner, bytes, depth, out);
            }
            let slot = out.entry(field.name).or_insert_with(|| json!({}));
            message(inner, bytes, depth, slot.as_object_mut().ok_or("two kinds of value")?)
        }
        (Kind::List(item), part) => {
            let value = item_value(item, part, depth)?;
            let list = out.entry(field.name).or_insert_with(|| json!([]));
            list.as_array_mut().ok_or("two kinds of value")?.extend(value);
            Ok(())
        }
        (Kind::Map(kind), Part::Bytes(bytes)) => {
            let (mut key, mut value) = (String::new(), None);
            for entry in Wire(bytes) {
                match entry? {
                    (1, Part::Bytes(text)) => key = utf8(text)?,
                    (2, part) => value = item_value(kind, &part, depth)?,
                    _ => {}
                }
            }
            let empty = if **kind == Kind::Scalar(Scalar::String) { json!("") } else { Value::Null };
            let map = out.entry(field.name).or_insert_with(|| json!({}));
            map.as_object_mut().ok_or("two kinds of value")?.insert(key, value.unwrap_or(empty));
            Ok(())
        }
        (kind @ Kind::Scalar(_), part) => {
            if let Some(value) = item_value(kind, part, depth)? {
                out.insert(field.name.to_owned(), value);
            }
            Ok(())
        }
        (Kind::Struct(_) | Kind::Map(_), Part::Number(_)) => {
            Err("a number where a message is expected".to_owned())
        }
    }
}

/// A value; none if it stands for nothing.
fn item_value(kind: &Kind, part: &Part, depth: usize) -> Result<Option<Value>, String> {
    match (kind, part) {
        (Kind::Struct(position), Part::Bytes(bytes)) => {
            let mut out = Map::new();
            message(Schema::get().at(*position), bytes, depth, &mut out)?;
            Ok(Some(Value::Object(out)))
        }
        (Kind::Scalar(scalar), part) => scalar_value(*scalar, part),
        // Only `map[string][]T` has these, through a message of one list.
        (Kind::List(item), Part::Bytes(bytes)) => {
            let mut list = Vec::new();
            for entry in Wire(bytes) {
                list.extend(item_value(item, &entry?.1, depth)?);
            }
            Ok(Some(Value::Array(list)))
        }
        _ => Err("a value of another type is expected".to_owned()),
    }
}

fn scalar_value(scalar: Scalar, part: &Part) -> Result<Option<Value>, String> {
    Ok(Some(match (scalar, part) {
        (Scalar::Bool, Part::Number(number)) => json!(*number != 0),
        (Scalar::Int32 | Scalar::Int64, Part::Number(number)) => json!(number.cast_signed()),
        (Scalar::Float, Part::Number(number)) => json!(f64::from_bits(*number)),
        (Scalar::String, Part::Bytes(bytes)) => json!(utf8(bytes)?),
        (Scalar::Bytes, Part::Bytes(bytes)) => json!(STANDARD.encode(bytes)),
        (scalar, Part::Bytes(bytes)) => return small_message(scalar, bytes),
        (_, Part::Number(_)) => return Err("a number where something else is expected".to_owned()),
    }))
}

/// The types that are messages in protobuf, and single values in JSON.
fn small_message(scalar: Scalar, bytes: &[u8]) -> Result<Option<Value>, String> {
    let (mut numbers, mut texts) = ([None; 4], [None; 4]);
    for entry in Wire(bytes) {
        match entry? {
            (at @ 1..=3, Part::Number(number)) => numbers[usize::try_from(at).unwrap_or(0)] = Some(number),
            (at @ 1..=3, Part::Bytes(text)) => texts[usize::try_from(at).unwrap_or(0)] = Some(text),
            _ => {}
        }
    }
    Ok(match scalar {
        Scalar::Quantity => texts[1].map(utf8).transpose()?.map(Value::String),
        Scalar::Time | Scalar::MicroTime => {
            numbers[1].map(|seconds| json!(timestamp(seconds.cast_signed().clamp(0, 253_402_300_799))))
        }
        Scalar::Duration => numbers[1].map(|nanoseconds| json!(format!("{nanoseconds}ns"))),
        Scalar::IntOrString if numbers[1] == Some(1) => Some(json!(utf8(texts[3].unwrap_or_default())?)),
        Scalar::IntOrString => Some(json!(numbers[2].unwrap_or(0).cast_signed())),
        Scalar::Raw => {
            let raw = texts[1].map(serde_json::from_slice).transpose();
            raw.map_err(|error| error.to_string())?
        }
        _ => return Err("a message where a single value is expected".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).expect("short")];
        out.extend_from_slice(bytes);
        out
    }

    fn unknown(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &meta), field(2, raw)].concat()
    }

    #[test]
    fn decodes_by_the_schema() {
        let target = [field(1, b"")[..0].to_vec(), vec![1 << 3, 1], field(3, b"http")].concat();
        let port = [field(2, b"TCP"), vec![3 << 3, 80], field(4, &target)].concat();
        let spec = [field(1, &port), field(2, &[field(1, b"app"), field(2, b"web")].concat())].concat();
        let service = [field(1, &[field(1, b"web"), field(8, b"")].concat()), field(2, &spec)].concat();
        assert_eq!(
            decode(&unknown("v1", "Service", &service)),
            Ok(json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
                "spec": { "ports": [{ "protocol": "TCP", "port": 80, "targetPort": "http" }],
                    "selector": { "app": "web" } } }))
        );
        // Fields of an embedded type: Volume 2 is VolumeSource, and 2 of that is emptyDir.
        let volume = [field(1, b"tmp"), field(2, &field(2, b""))].concat();
        let pod = field(2, &field(1, &volume));
        assert_eq!(
            decode(&unknown("v1", "Pod", &pod)).expect("a pod")["spec"]["volumes"],
            json!([{ "name": "tmp", "emptyDir": {} }])
        );
    }

    #[test]
    fn refuses_what_is_broken() {
        let deep = (0..100).fold(Vec::new(), |inner, _| {
            let inner: Vec<u8> = inner;
            if inner.len() > 100 { inner } else { field(5, &inner) }
        });
        for body in [
            b"".to_vec(),
            b"k8s\0\x0a\xff".to_vec(),
            unknown("v1", "Nothing", b""),
            unknown("v1", "Service", b"\x0a\x05a"),
            unknown("v1", "Service", b"\x08\x01"),
            unknown("v1", "Service", &[0xff; 12]),
            unknown("v1", "Service", b"\x0b"),
            unknown("v1", "ConfigMap", &field(1, &field(1, b"\xff"))),
        ] {
            assert!(decode(&body).is_err(), "{body:?}");
        }
        assert!(decode(&unknown("v1", "Service", &deep)).is_ok(), "of unknown fields");
    }
}

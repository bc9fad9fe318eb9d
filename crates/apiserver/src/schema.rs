//! The types of what is served, as data: `schema/*.txt`.
//!
//! A file has the types of a package. A line that begins a type has its name, and `atomic` if
//! server-side apply replaces it whole. Each line below it is a field:
//!
//! ```text
//!   5 nodePort int32
//!   1 ports []ServicePort merge=port keys=port,protocol
//! ```
//!
//! It has the number in protobuf, the name in JSON, the type, and what else is known. `+` as a name
//! means that the fields of that type are fields of this one. `*` before a type: zero differs from
//! absent. `required`: must be there. `merge`: strategic merge patches merge the list, by this key
//! if it has one; `retainKeys`: they may name what alone is to stay. `keys`, `set`: server-side
//! apply merges the list by these keys, or as a set; `atomic`: it replaces it whole.
//! `default`: what a key that is missing stands for.
//!
//! `schema/words.txt` says what types and fields are for: `PACKAGE.TYPE.FIELD: text`.

use std::collections::HashMap;
use std::sync::OnceLock;

const FILES: [(&str, &str); 11] = [
    ("apps.v1", include_str!("schema/apps.txt")),
    ("authorization.v1", include_str!("schema/authorization.txt")),
    ("autoscaling.v1", include_str!("schema/autoscaling.txt")),
    ("batch.v1", include_str!("schema/batch.txt")),
    ("coordination.v1", include_str!("schema/coordination.txt")),
    ("core.v1", include_str!("schema/core.txt")),
    ("discovery.v1", include_str!("schema/discovery.txt")),
    ("events.v1", include_str!("schema/events.txt")),
    ("meta.v1", include_str!("schema/meta.txt")),
    ("networking.v1", include_str!("schema/networking.txt")),
    ("policy.v1", include_str!("schema/policy.txt")),
];

/// A type with fields.
#[derive(Debug)]
pub(crate) struct Struct {
    /// With its package: `core.v1.Pod`.
    pub(crate) name: &'static str,
    pub(crate) fields: Vec<Field>,
    pub(crate) atomic: bool,
    /// Its fields, with those of types whose fields are its own.
    flat: OnceLock<Vec<&'static Field>>,
}

/// A field of a type.
#[derive(Debug)]
pub(crate) struct Field {
    /// In protobuf.
    pub(crate) number: u32,
    /// In JSON; empty if the fields of its type are fields of this one.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Whether zero differs from absent.
    pub(crate) pointer: bool,
    pub(crate) required: bool,
    pub(crate) merge: Option<Merge>,
    pub(crate) retain_keys: bool,
    pub(crate) list: ListKind,
    pub(crate) default: Option<&'static str>,
    /// The type that has it, with its package.
    owner: &'static str,
}

/// How a strategic merge patch merges a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merge {
    /// Of values, as a set.
    Values,
    /// Of maps, by this key.
    By(&'static str),
}

/// How server-side apply merges a list or a map.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ListKind {
    /// A list is replaced, a map merged.
    Default,
    /// Replaced, also if it is a map.
    Atomic,
    Set,
    Keys(Vec<&'static str>),
}

/// The type of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Scalar(Scalar),
    /// The position of the type.
    Struct(usize),
    List(Box<Kind>),
    Map(Box<Kind>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    String,
    Int32,
    Int64,
    Float,
    Bool,
    /// Base64 in JSON.
    Bytes,
    Quantity,
    Time,
    MicroTime,
    Duration,
    IntOrString,
    /// Any JSON.
    Raw,
}

/// All types.
#[derive(Debug)]
pub(crate) struct Schema {
    structs: Vec<Struct>,
    positions: HashMap<&'static str, usize>,
}

impl Schema {
    /// Reads the files, once.
    pub(crate) fn get() -> &'static Self {
        static SCHEMA: OnceLock<Schema> = OnceLock::new();
        SCHEMA.get_or_init(|| Self::read(&FILES))
    }

    /// A type that there is, by its name with its package.
    pub(crate) fn find(&'static self, name: &str) -> &'static Struct {
        &self.structs[self.positions[name]]
    }

    /// The type of an object by what it says it is, if it is one of these.
    pub(crate) fn of(&'static self, api_version: &str, kind: &str) -> Option<&'static Struct> {
        let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
        let package = group.split('.').next().unwrap_or_default();
        let own = format!("{package}.{version}.{kind}");
        // Options of a request are of any group.
        let position = self.positions.get(own.as_str()).or_else(|| {
            if kind == "DeleteOptions" { self.positions.get("meta.v1.DeleteOptions") } else { None }
        });
        position.map(|position| &self.structs[*position])
    }

    pub(crate) fn at(&'static self, position: usize) -> &'static Struct {
        &self.structs[position]
    }

    #[cfg(test)]
    pub(crate) fn structs(&'static self) -> &'static [Struct] {
        &self.structs
    }

    /// What a type or a field is for, if that is written down: `core.v1.Pod`,
    /// `core.v1.PodSpec.hostNetwork`.
    pub(crate) fn description(path: &str) -> Option<&'static str> {
        static WORDS: OnceLock<HashMap<&str, &str>> = OnceLock::new();
        let words = WORDS.get_or_init(|| {
            let lines = include_str!("schema/words.txt").lines().filter(|line| !line.starts_with('#'));
            lines.filter_map(|line| line.split_once(": ")).collect()
        });
        words.get(path).copied()
    }

    fn read(files: &[(&'static str, &'static str)]) -> Self {
        let mut positions = HashMap::new();
        let heads = files.iter().flat_map(|(package, text)| {
            let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', ' ']));
            lines.map(move |line| (*package, line))
        });
        let mut structs = Vec::new();
        for (package, line) in heads {
            let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
            let name: &'static str = format!("{package}.{name}").leak();
            positions.insert(name, structs.len());
            let atomic = rest == "atomic";
            structs.push(Struct { name, fields: Vec::new(), atomic, flat: OnceLock::new() });
        }
        let mut position = 0_usize;
        for (package, text) in files {
            for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
                if line.starts_with(' ') {
                    let owner = structs[position - 1].name;
                    let field = Field::read(line, (package, owner), &positions);
                    structs[position - 1].fields.push(field);
                } else {
                    position += 1;
                }
            }
        }
        Self { structs, positions }
    }
}

impl Struct {
    /// A field by its name, also if it is one of a type whose fields are its own.
    pub(crate) fn field(&'static self, name: &str) -> Option<&'static Field> {
        self.all_fields().iter().copied().find(|field| field.name == name)
    }

    /// All fields, with those of types whose fields are its own.
    pub(crate) fn all_fields(&'static self) -> &'static [&'static Field] {
        self.flat.get_or_init(|| {
            let mut all = Vec::with_capacity(self.fields.len());
            for field in &self.fields {
                match &field.kind {
                    Kind::Struct(position) if field.name.is_empty() => {
                        all.extend(Schema::get().at(*position).all_fields());
                    }
                    _ => all.push(field),
                }
            }
            all
        })
    }

    /// Its name without the package.
    pub(crate) fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }
}

impl Field {
    /// What it is for, if that is written down.
    pub(crate) fn description(&self) -> Option<&'static str> {
        Schema::description(&format!("{}.{}", self.owner, self.name))
    }

    fn read(
        line: &'static str,
        (package, owner): (&str, &'static str),
        positions: &HashMap<&'static str, usize>,
    ) -> Self {
        let mut words = line.split_ascii_whitespace();
        let mut word = || words.next().unwrap_or_default();
        let (number, name, mut kind) = (word(), word(), word().to_owned());
        let mut rest: Vec<&str> = words.collect();
        if kind.ends_with("map") {
            kind = format!("{kind} {}", rest.remove(0));
        }
        let value = |key: &str| rest.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let has = |key: &str| rest.contains(&key);
        let merge = if has("merge") { Some(Merge::Values) } else { value("merge").map(Merge::By) };
        let list = match value("keys") {
            Some(keys) => ListKind::Keys(keys.split(',').collect()),
            None if has("set") => ListKind::Set,
            None if has("atomic") => ListKind::Atomic,
            None => ListKind::Default,
        };
        let (pointer, kind) = kind.strip_prefix('*').map_or((false, &*kind), |kind| (true, kind));
        Self {
            number: number.parse().unwrap_or_default(),
            name: if name == "+" { "" } else { name },
            kind: Kind::read(kind, package, positions),
            pointer,
            required: has("required"),
            merge,
            retain_keys: has("retainKeys"),
            list,
            default: value("default"),
            owner,
        }
    }
}

impl Kind {
    fn read(text: &str, package: &str, positions: &HashMap<&'static str, usize>) -> Self {
        if let Some(item) = text.strip_prefix("[]") {
            return Self::List(Box::new(Self::read(item, package, positions)));
        }
        if let Some(value) = text.strip_prefix("map ") {
            return Self::Map(Box::new(Self::read(value, package, positions)));
        }
        Self::Scalar(match text {
            "string" => Scalar::String,
            "int32" => Scalar::Int32,
            "int64" => Scalar::Int64,
            "float64" => Scalar::Float,
            "bool" => Scalar::Bool,
            "bytes" => Scalar::Bytes,
            "Quantity" => Scalar::Quantity,
            "Time" => Scalar::Time,
            "MicroTime" => Scalar::MicroTime,
            "Duration" => Scalar::Duration,
            "IntOrString" => Scalar::IntOrString,
            "Raw" | "FieldsV1" => Scalar::Raw,
            name => {
                let own = format!("{package}.{name}");
                let position = positions.get(own.as_str()).or_else(|| positions.get(name));
                return Self::Struct(*position.unwrap_or_else(|| panic!("{own}: no such type")));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::View;

    #[test]
    fn reads_all_types() {
        let schema = Schema::get();
        for view in View::all() {
            let found = schema.find(view.schema());
            assert!(found.field("metadata").is_some(), "{}", view.schema());
            assert!(found.field("kind").is_none(), "{}", view.schema());
        }
        let port = schema.find("core.v1.ServiceSpec").field("ports").expect("there");
        assert_eq!(port.merge, Some(Merge::By("port")));
        assert_eq!(port.list, ListKind::Keys(vec!["port", "protocol"]));
        assert_eq!(schema.find("core.v1.Volume").field("emptyDir").map(|field| field.number), Some(2));
        assert!(schema.find("apps.v1.DeploymentSpec").field("strategy").expect("there").retain_keys);
    }

    #[test]
    fn has_each_number_and_name_once() {
        for one in Schema::get().structs() {
            let mut names: Vec<_> = one.all_fields().iter().map(|field| field.name).collect();
            let mut numbers: Vec<_> = one.fields.iter().map(|field| field.number).collect();
            let counts = (names.len(), numbers.len());
            names.sort_unstable();
            names.dedup();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!((names.len(), numbers.len()), counts, "{}", one.name);
        }
    }
}

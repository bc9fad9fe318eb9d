//! One mapping of the configuration file, read field by field: types are checked, and what nobody
//! asked for is named.

use std::collections::BTreeMap;

use portolan_yaml::{Content, Tree, nearest};

use crate::duration::GoDuration;
use crate::problems::Problems;

/// A mapping that is being read.
pub(crate) struct Section<'t, 'p, 'f> {
    /// `None` if the mapping is missing, null or of another type: then all fields are unset.
    fields: Option<&'t BTreeMap<String, Tree>>,
    /// As `iptables`; empty at the top.
    path: String,
    known: Vec<&'static str>,
    problems: &'p mut Problems<'f>,
}

impl<'t, 'p, 'f> Section<'t, 'p, 'f> {
    /// Reads the whole document.
    pub(crate) fn read<T>(
        tree: &'t Tree,
        problems: &'p mut Problems<'f>,
        read: impl FnOnce(&mut Section<'t, '_, 'f>) -> T,
    ) -> T {
        let fields = match &tree.content {
            Content::Map(fields) => Some(fields),
            _ => None,
        };
        inside(fields, String::new(), problems, read)
    }

    /// Text, empty if unset.
    pub(crate) fn text(&mut self, field: &'static str) -> String {
        self.field(field, "text", |value| value.text().map(str::to_owned)).unwrap_or_default()
    }

    /// `true` or `false`; also the other words that YAML 1.1 has for them.
    pub(crate) fn boolean(&mut self, field: &'static str) -> Option<bool> {
        self.field(field, "true or false", boolean)
    }

    /// A whole number that fits into 32 bits.
    pub(crate) fn integer(&mut self, field: &'static str) -> Option<i32> {
        self.field(field, "a whole number from -2147483648 to 2147483647", |value| {
            whole(value).and_then(|number| i32::try_from(number).ok())
        })
    }

    /// A whole number that fits into 64 bits.
    pub(crate) fn long(&mut self, field: &'static str) -> Option<i64> {
        self.field(field, "a whole number", whole)
    }

    /// Any number.
    pub(crate) fn number(&mut self, field: &'static str) -> Option<f32> {
        self.field(field, "a number", |value| match &value.content {
            // As precise as the reference holds it.
            #[allow(clippy::cast_possible_truncation)]
            Content::Number(number) => {
                number.as_f64().map(|number| number as f32).filter(|number| number.is_finite())
            }
            _ => None,
        })
    }

    /// Text in Go's syntax.
    pub(crate) fn duration(&mut self, field: &'static str) -> Option<GoDuration> {
        self.field(field, DURATION, |value| value.text().and_then(|text| text.parse().ok()))
    }

    /// Text in Go's syntax, or a number of nanoseconds, of which zero is unset.
    pub(crate) fn duration_or_nanoseconds(&mut self, field: &'static str) -> Option<GoDuration> {
        self.field(field, DURATION, |value| match whole(value) {
            Some(nanoseconds) => Some((nanoseconds != 0).then_some(GoDuration(nanoseconds))),
            None => value.text().and_then(|text| text.parse().ok()).map(Some),
        })
        .flatten()
    }

    /// A Kubernetes quantity: text or a number, as text.
    pub(crate) fn quantity(&mut self, field: &'static str) -> String {
        self.field(field, "a number of bytes such as 65536 or 64Ki", |value| match &value.content {
            Content::Text(text) => Some(text.clone()),
            Content::Number(number) => Some(number.to_string()),
            _ => None,
        })
        .unwrap_or_default()
    }

    /// A list of texts.
    pub(crate) fn texts(&mut self, field: &'static str) -> Vec<String> {
        let mut texts = Vec::new();
        for (path, item) in self.list(field, "a list of texts") {
            match item.text() {
                Some(text) => texts.push(text.to_owned()),
                None => self.mismatch(&path, item, "text"),
            }
        }
        texts
    }

    /// A mapping of names to `true` or `false`.
    pub(crate) fn booleans(&mut self, field: &'static str) -> BTreeMap<String, bool> {
        let path = self.path_of(field);
        let expected = "a mapping of names to true or false";
        let map = self.field(field, expected, |value| match &value.content {
            Content::Map(map) => Some(map),
            _ => None,
        });
        let mut booleans = BTreeMap::new();
        for (name, value) in map.into_iter().flatten() {
            match boolean(value) {
                Some(value) => drop(booleans.insert(name.clone(), value)),
                None => self.mismatch(&format!("{path}.{name}"), value, "true or false"),
            }
        }
        booleans
    }

    /// A mapping of names to texts.
    pub(crate) fn labels(&mut self, field: &'static str) -> BTreeMap<String, String> {
        let path = self.path_of(field);
        let mut labels = BTreeMap::new();
        for (name, value) in self.field(field, "a mapping of names to texts", map).into_iter().flatten() {
            match value.text() {
                Some(text) => drop(labels.insert(name.clone(), text.to_owned())),
                None => self.mismatch(&format!("{path}.{name}"), value, "text"),
            }
        }
        labels
    }

    /// A mapping inside of this one.
    pub(crate) fn section<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Section<'t, '_, 'f>) -> T,
    ) -> T {
        let path = self.path_of(field);
        let fields = self.field(field, "a mapping of fields", map);
        inside(fields, path, self.problems, read)
    }

    /// A list of mappings.
    pub(crate) fn sections<T>(
        &mut self,
        field: &'static str,
        read: impl Fn(&mut Section<'t, '_, 'f>) -> T,
    ) -> Vec<T> {
        let mut sections = Vec::new();
        for (path, item) in self.list(field, "a list of mappings") {
            match map(item) {
                Some(fields) => sections.push(inside(Some(fields), path, self.problems, &read)),
                None => self.mismatch(&path, item, "a mapping of fields"),
            }
        }
        sections
    }

    /// The items of a list with their paths.
    fn list(&mut self, field: &'static str, expected: &str) -> Vec<(String, &'t Tree)> {
        let path = self.path_of(field);
        let items = self.field(field, expected, |value| match &value.content {
            Content::List(items) => Some(items),
            _ => None,
        });
        let items = items.into_iter().flatten().enumerate();
        items.map(|(i, item)| (format!("{path}[{i}]"), item)).collect()
    }

    /// The value of a field: `None` if it is unset, or if `read` does not find what is expected.
    fn field<T>(
        &mut self,
        field: &'static str,
        expected: &str,
        read: impl FnOnce(&'t Tree) -> Option<T>,
    ) -> Option<T> {
        self.known.push(field);
        let value = self.fields?.get(field).filter(|value| value.content != Content::Null)?;
        let read = read(value);
        if read.is_none() {
            let path = self.path_of(field);
            self.mismatch(&path, value, expected);
        }
        read
    }

    fn mismatch(&mut self, path: &str, value: &Tree, expected: &str) {
        let found = found(value);
        // Text that another type was expected for needs no quotes; other things that text was
        // expected for do.
        let remedy = match &value.content {
            Content::Number(_) if expected == DURATION => "; add a unit",
            Content::Number(_) | Content::Bool(_) if expected == "text" => "; put it in quotes",
            _ => "",
        };
        self.problems.error(path, format!("found {found}, expected {expected}{remedy}"));
    }

    fn path_of(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    /// Names the fields that were not asked for.
    fn end(self) {
        for name in self.fields.into_iter().flatten().map(|(name, _)| name) {
            if self.known.contains(&name.as_str()) {
                continue;
            }
            let meant = nearest(name, self.known.iter().copied());
            let meant = meant.map(|known| format!("; is {known} meant?")).unwrap_or_default();
            let path = self.path_of(name);
            self.problems.warn(&path, format!("unknown field, ignored{meant}"));
        }
    }
}

const DURATION: &str = "a duration such as 30s, 1h15m or 300ms";

fn inside<'t, 'f, T>(
    fields: Option<&'t BTreeMap<String, Tree>>,
    path: String,
    problems: &mut Problems<'f>,
    read: impl FnOnce(&mut Section<'t, '_, 'f>) -> T,
) -> T {
    let mut section = Section { fields, path, known: Vec::new(), problems };
    let done = read(&mut section);
    section.end();
    done
}

fn map(value: &Tree) -> Option<&BTreeMap<String, Tree>> {
    match &value.content {
        Content::Map(map) => Some(map),
        _ => None,
    }
}

fn boolean(value: &Tree) -> Option<bool> {
    match &value.content {
        Content::Bool(value) => Some(*value),
        // The reference reads YAML 1.1.
        Content::Text(text) => match text.as_str() {
            "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
            "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn whole(value: &Tree) -> Option<i64> {
    let Content::Number(number) = &value.content else { return None };
    number.as_i64().or_else(|| {
        // 1e3 and 14.0 are whole, too.
        #[allow(clippy::cast_possible_truncation)]
        let (number, limit) = (number.as_f64()?, 9e15);
        #[allow(clippy::cast_possible_truncation)]
        (number.fract() == 0.0 && number.abs() < limit).then_some(number as i64)
    })
}

/// What a value is, for a message.
pub(crate) fn found(value: &Tree) -> String {
    match &value.content {
        Content::Null => "nothing".to_owned(),
        Content::Bool(value) => value.to_string(),
        Content::Number(number) => format!("the number {number}"),
        Content::Text(text) => {
            let mut short: String = text.chars().take(60).collect();
            if short.len() < text.len() {
                short.push_str("...");
            }
            format!("{short:?}")
        }
        Content::List(_) => "a list".to_owned(),
        Content::Map(_) => "a mapping of fields".to_owned(),
    }
}

//! YAML text as a tree in which every value knows its line.
//!
//! JSON is read by the same parser. Numbers, booleans and null follow the core schema of YAML 1.2.
//! Documents are bounded in depth and in what aliases may add, so that a small file cannot exhaust
//! memory.

mod nearest;

use std::collections::{BTreeMap, HashMap};

pub use nearest::{nearest, slips};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};
use serde_json::{Map, Number, Value};

/// How deeply collections may be nested; the deepest Kubernetes objects need about 20.
const MAX_DEPTH: usize = 64;

/// How many values anchors and aliases may copy in one document.
const MAX_COPIED: usize = 100_000;

/// A value and the line it begins on.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    /// From 1.
    pub line: usize,
    /// The line of its key, if it is a value in a mapping; its own otherwise.
    pub key_line: usize,
    /// What it is.
    pub content: Content,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Nothing, as `~`, `null` or a key without value.
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number that JSON can hold.
    Number(Number),
    /// A scalar in quotes, or one that is nothing of the above.
    Text(String),
    /// A sequence.
    List(Vec<Tree>),
    /// A mapping.
    Map(BTreeMap<String, Tree>),
}

/// A key that a mapping has twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeated {
    /// The line of the later value.
    pub line: usize,
    /// The line of the earlier value.
    pub first_line: usize,
    /// Where it is, as `spec.ports[0].port`.
    pub path: String,
}

/// Text that is not usable YAML.
#[derive(Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// The text does not follow the grammar; else it breaks a bound or repeats a key.
    pub is_grammar: bool,
}

impl Tree {
    /// The value of `key`, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Tree> {
        match &self.content {
            Content::Map(map) => map.get(key),
            _ => None,
        }
    }

    /// The text, if this is text.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The items, if this is a sequence.
    pub fn items(&self) -> Option<&[Tree]> {
        match &self.content {
            Content::List(items) => Some(items),
            _ => None,
        }
    }

    /// The line of the value at `path` (as `spec.ports[0].port`), or of the nearest value around
    /// it.
    pub fn line_of(&self, path: &str) -> usize {
        let path = path.strip_prefix('.').unwrap_or(path);
        match &self.content {
            Content::Map(map) => {
                // Keys may contain dots, as labels do: the longest that fits is meant.
                let inner = map
                    .iter()
                    .filter_map(|(key, value)| Some((key, value, path.strip_prefix(key.as_str())?)))
                    .filter(|(_, _, rest)| rest.is_empty() || rest.starts_with(['.', '[']))
                    .max_by_key(|(key, _, _)| key.len());
                inner.map_or(self.line, |(_, value, rest)| value.line_of(rest))
            }
            Content::List(items) => path
                .strip_prefix('[')
                .and_then(|path| path.split_once(']'))
                .and_then(|(index, rest)| Some((items.get(index.parse::<usize>().ok()?)?, rest)))
                .map_or(self.line, |(item, rest)| item.line_of(rest)),
            _ => self.line,
        }
    }

    /// The value without lines. A key without value is left out: to the API, null is unset.
    pub fn to_json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(value) => Value::Bool(*value),
            Content::Number(number) => Value::Number(number.clone()),
            Content::Text(text) => Value::String(text.clone()),
            Content::List(items) => Value::Array(items.iter().map(Tree::to_json).collect()),
            Content::Map(map) => Value::Object(
                map.iter()
                    .filter(|(_, value)| value.content != Content::Null)
                    .map(|(key, value)| (key.clone(), value.to_json()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    /// The tree of JSON whose lines are not known. The depth is bounded by the JSON parser.
    pub fn from_json(value: Value) -> Tree {
        let content = match value {
            Value::Null => Content::Null,
            Value::Bool(value) => Content::Bool(value),
            Value::Number(number) => Content::Number(number),
            Value::String(text) => Content::Text(text),
            Value::Array(items) => Content::List(items.into_iter().map(Tree::from_json).collect()),
            Value::Object(map) => {
                Content::Map(map.into_iter().map(|(key, value)| (key, Tree::from_json(value))).collect())
            }
        };
        Tree::new(1, content)
    }

    fn new(line: usize, content: Content) -> Tree {
        Tree { line, key_line: line, content }
    }

    fn size(&self) -> usize {
        1 + match &self.content {
            Content::List(items) => items.iter().map(Tree::size).sum(),
            Content::Map(map) => map.values().map(Tree::size).sum(),
            _ => 0,
        }
    }
}

/// All documents in `text`, whose first line is line `first_line` of its file. Documents without
/// content are left out. A key that a mapping has twice is an error.
pub fn parse(text: &str, first_line: usize) -> Result<Vec<Tree>, SyntaxError> {
    build(text, first_line, None).map(|builder| builder.documents)
}

/// As [`parse`], but of a key that a mapping has twice the later value counts. The second list has
/// those keys.
pub fn parse_repeating(text: &str, first_line: usize) -> Result<(Vec<Tree>, Vec<Repeated>), SyntaxError> {
    build(text, first_line, Some(Vec::new()))
        .map(|builder| (builder.documents, builder.repeated.unwrap_or_default()))
}

fn build(text: &str, first_line: usize, repeated: Option<Vec<Repeated>>) -> Result<Builder, SyntaxError> {
    let mut builder =
        Builder { documents: Vec::new(), open: Vec::new(), anchors: HashMap::new(), copied: 0, repeated };
    let shift = |line: usize| line + first_line - 1;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error: ScanError| SyntaxError {
            line: shift(error.marker().line()),
            message: format!("not valid YAML: {}", error.info()),
            is_grammar: true,
        })?;
        let line = shift(span.start.line());
        builder.take(event, line).map_err(|message| SyntaxError { line, message, is_grammar: false })?;
    }
    Ok(builder)
}

/// A collection whose end has not been seen.
struct Open {
    line: usize,
    anchor: usize,
    inner: OpenContent,
}

enum OpenContent {
    List(Vec<Tree>),
    Map {
        entries: BTreeMap<String, Tree>,
        /// The key whose value comes next, and its line.
        key: Option<(String, usize)>,
        merged: Vec<Tree>,
    },
}

struct Builder {
    documents: Vec<Tree>,
    open: Vec<Open>,
    anchors: HashMap<usize, Tree>,
    copied: usize,
    /// The keys seen twice, if that is not an error.
    repeated: Option<Vec<Repeated>>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), String> {
        match event {
            Event::DocumentStart(_) => self.anchors.clear(),
            Event::Scalar(text, style, anchor, tag) => {
                let as_text = style != ScalarStyle::Plain
                    || tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
                let content = if as_text { Content::Text(text.into_owned()) } else { plain(&text) };
                self.put(Tree::new(line, content), anchor)?;
            }
            Event::SequenceStart(anchor, _) => self.begin(line, anchor, OpenContent::List(Vec::new()))?,
            Event::MappingStart(anchor, _) => {
                let inner = OpenContent::Map { entries: BTreeMap::new(), key: None, merged: Vec::new() };
                self.begin(line, anchor, inner)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end()?,
            Event::Alias(anchor) => {
                let tree =
                    self.anchors.get(&anchor).cloned().ok_or("an alias inside of what it stands for")?;
                self.count(&tree)?;
                if self.open.len() + depth(&tree) > MAX_DEPTH {
                    return Err(too_deep());
                }
                self.put(tree, 0)?;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn count(&mut self, tree: &Tree) -> Result<(), String> {
        self.copied += tree.size();
        if self.copied > MAX_COPIED {
            return Err(format!("aliases stand for more than {MAX_COPIED} values; write them out"));
        }
        Ok(())
    }

    fn begin(&mut self, line: usize, anchor: usize, inner: OpenContent) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep());
        }
        self.open.push(Open { line, anchor, inner });
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        let Some(Open { line, anchor, inner }) = self.open.pop() else { return Ok(()) };
        let content = match inner {
            OpenContent::List(items) => Content::List(items),
            OpenContent::Map { mut entries, merged, .. } => {
                for source in merged {
                    merge(&mut entries, source)?;
                }
                Content::Map(entries)
            }
        };
        self.put(Tree::new(line, content), anchor)
    }

    fn put(&mut self, mut tree: Tree, anchor: usize) -> Result<(), String> {
        if anchor != 0 {
            self.count(&tree)?;
            self.anchors.insert(anchor, tree.clone());
        }
        let (around, innermost) = match self.open.split_last_mut() {
            None => (&[][..], None),
            Some((open, around)) => (&*around, Some(&mut open.inner)),
        };
        match innermost {
            None => {
                if tree.content != Content::Null {
                    self.documents.push(tree);
                }
            }
            Some(OpenContent::List(items)) => items.push(tree),
            Some(OpenContent::Map { entries, key, merged }) => match key.take() {
                None => *key = Some((key_text(&tree)?, tree.line)),
                Some((key, _)) if key == "<<" => merged.push(tree),
                Some((key, key_line)) => {
                    tree.key_line = key_line;
                    if let Some(first) = entries.get(&key) {
                        let Some(repeated) = &mut self.repeated else {
                            return Err(format!(
                                "key {key} is written twice (first on line {}); remove one",
                                first.line
                            ));
                        };
                        repeated.push(Repeated {
                            line: tree.line,
                            first_line: first.line,
                            path: path_of(around, &key),
                        });
                    }
                    entries.insert(key, tree);
                }
            },
        }
        Ok(())
    }
}

/// The path of `key` in a collection that lies inside of `around`.
fn path_of(around: &[Open], key: &str) -> String {
    let mut path = String::new();
    for open in around {
        match &open.inner {
            OpenContent::List(items) => path.extend(["[", &items.len().to_string(), "]"]),
            OpenContent::Map { key, .. } => {
                push_key(&mut path, key.as_ref().map_or("", |(key, _)| key.as_str()));
            }
        }
    }
    push_key(&mut path, key);
    path
}

fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

fn too_deep() -> String {
    format!("more than {MAX_DEPTH} collections inside of each other")
}

fn depth(tree: &Tree) -> usize {
    match &tree.content {
        Content::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Content::Map(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Adds what `source` has and `entries` lacks: the key `<<`.
fn merge(entries: &mut BTreeMap<String, Tree>, source: Tree) -> Result<(), String> {
    match source.content {
        Content::Map(map) => {
            for (key, value) in map {
                entries.entry(key).or_insert(value);
            }
            Ok(())
        }
        Content::List(items) => items.into_iter().try_for_each(|item| match item.content {
            Content::Map(_) => merge(entries, item),
            _ => Err("<< takes mappings only".to_owned()),
        }),
        _ => Err("<< takes a mapping or a list of mappings".to_owned()),
    }
}

fn key_text(tree: &Tree) -> Result<String, String> {
    match &tree.content {
        Content::Text(text) => Ok(text.clone()),
        Content::Number(number) => Ok(number.to_string()),
        Content::Bool(value) => Ok(value.to_string()),
        Content::Null => Ok("null".to_owned()),
        Content::List(_) | Content::Map(_) => Err("a key must be text, not a list or mapping".to_owned()),
    }
}

/// An unquoted scalar by the core schema (YAML 1.2.2 §10.3.2).
fn plain(text: &str) -> Content {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Content::Null,
        "true" | "True" | "TRUE" => return Content::Bool(true),
        "false" | "False" | "FALSE" => return Content::Bool(false),
        _ => {}
    }
    number(text).map_or_else(|| Content::Text(text.to_owned()), Content::Number)
}

fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if let Some(hex) = text.strip_prefix("0x") {
        return digits_only(hex, 16).then(|| u64::from_str_radix(hex, 16).ok()).flatten().map(Number::from);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return digits_only(octal, 8).then(|| u64::from_str_radix(octal, 8).ok()).flatten().map(Number::from);
    }
    if digits_only(digits, 10) {
        return text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from)).ok();
    }
    let numeric = digits.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    if numeric && digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return text.parse::<f64>().ok().and_then(Number::from_f64);
    }
    None
}

fn digits_only(text: &str, radix: u32) -> bool {
    !text.is_empty() && text.chars().all(|digit| digit.is_digit(radix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_keys_are_errors_or_named() {
        let text = "a:\n  - b: 1\n    c: {d: 1}\n    b: 2\na: 3\n";
        let error = parse(text, 1).unwrap_err();
        assert_eq!(
            (error.line, error.message.as_str()),
            (4, "key b is written twice (first on line 2); remove one")
        );
        let (documents, repeated) = parse_repeating(text, 1).unwrap();
        let found: Vec<(&str, usize, usize)> =
            repeated.iter().map(|it| (it.path.as_str(), it.first_line, it.line)).collect();
        assert_eq!(found, [("a[0].b", 2, 4), ("a", 2, 5)]);
        assert_eq!(documents[0].to_json(), serde_json::json!({"a": 3}), "the last counts");
    }

    #[test]
    fn values_know_their_lines() {
        let tree = parse("a:\n  b: [1,\n    2]\n  x.y/z: 5\nc: ~\n", 10).unwrap().remove(0);
        for (path, line) in
            [("a", 11), ("a.b", 11), ("a.b[1]", 12), ("a.b[7]", 11), ("a.x.y/z", 13), ("c", 14), ("", 10)]
        {
            assert_eq!(tree.line_of(path), line, "{path}");
        }
    }

    #[test]
    fn values_know_the_lines_of_their_keys() {
        let tree = parse("a:\n\n  b:\n  - 1\nc: 5\n", 10).unwrap().remove(0);
        let a = tree.get("a").unwrap();
        assert_eq!((a.key_line, a.line), (10, 12));
        let b = a.get("b").unwrap();
        assert_eq!((b.key_line, b.line), (12, 13));
        assert_eq!(tree.get("c").unwrap().key_line, 14);
    }

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        for (text, expected) in [
            ("true", Content::Bool(true)),
            ("yes", Content::Text("yes".to_owned())),
            ("'true'", Content::Text("true".to_owned())),
            ("!!str 5", Content::Text("5".to_owned())),
            ("-5", Content::Number((-5).into())),
            ("0x1f", Content::Number(31.into())),
            ("0o17", Content::Number(15.into())),
            ("5s", Content::Text("5s".to_owned())),
            ("1e3", Content::Number(Number::from_f64(1000.0).unwrap())),
        ] {
            assert_eq!(parse(text, 1).unwrap()[0].content, expected, "{text}");
        }
    }
}

//! What one file declares.

use std::collections::HashSet;
use std::path::Path;

use portolan_controllers::Issue;
use portolan_service::ObjectName;
use portolan_yaml::{Content, Tree};

use super::problem::{Problem, Severity};
use crate::declared::{self, Declared, Key, Kind, Object};
use crate::schema;

/// The objects and problems of a file.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) items: Vec<Item>,
    pub(super) problems: Vec<Problem>,
    /// A part could not be read at all. Objects may be missing here that the file still means to
    /// declare.
    pub(super) partial: bool,
}

impl Contents {
    /// A file that cannot be read now, and why; nothing if that will be over soon.
    pub(super) fn unread(problem: Option<Problem>) -> Contents {
        Contents { problems: problem.into_iter().collect(), partial: true, ..Contents::default() }
    }

    /// Whether all of it could be read, and is valid.
    pub(super) fn is_whole(&self) -> bool {
        !self.partial && self.items.iter().all(|item| item.object.is_some())
    }

    /// Puts `others` where an object is not valid, or may be missing because it could not be read.
    pub(super) fn fill_up(&mut self, others: Vec<Item>) {
        for other in others {
            match self.items.iter_mut().find(|item| item.key == other.key) {
                Some(Item { object: Some(_), .. }) => {}
                Some(invalid) => *invalid = Item { lines: std::mem::take(&mut invalid.lines), ..other },
                None if self.partial => self.items.push(other),
                None => {}
            }
        }
    }

    /// The kinds of the objects that were skipped, each as often as that happened.
    pub(super) fn undecodable(&self) -> impl Iterator<Item = &'static str> {
        let invalid = self.items.iter().filter(|item| item.object.is_none());
        invalid
            .map(|item| item.key.kind.name())
            .chain((self.partial && !self.problems.is_empty()).then_some("unknown"))
    }
}

/// One object of a file.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) key: Key,
    /// `None` if it is not valid.
    pub(super) object: Option<Object>,
    pub(super) lines: Lines,
    /// The object as JSON, if it is valid, with what a typed list may leave out.
    pub(super) text: String,
}

/// Lines of those fields of an object that can turn out wrong only beside other objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lines(Box<[(Box<str>, usize)]>);

impl Lines {
    fn of(tree: &Tree, key: &Key) -> Lines {
        let mut lines = vec![(Box::from(""), tree.line)];
        if key.kind == Kind::Service {
            let ports = match tree.get("spec").and_then(|spec| spec.get("ports")).map(|ports| &ports.content)
            {
                Some(Content::List(ports)) => ports.len(),
                _ => 0,
            };
            let fields = [
                "spec.clusterIP",
                "spec.clusterIPs",
                "spec.ipFamilyPolicy",
                "spec.healthCheckNodePort",
                "spec.selector",
                "spec.externalIPs",
                "spec.loadBalancerSourceRanges",
            ];
            let given = |field: &&str| {
                tree.get("spec").is_some_and(|spec| spec.get(&field["spec.".len()..]).is_some())
            };
            let fields = fields.into_iter().filter(given).map(str::to_owned);
            for field in fields.chain((0..ports).map(|i| format!("spec.ports[{i}].nodePort"))) {
                let line = tree.line_of(&field);
                lines.push((field.into(), line));
            }
        }
        Lines(lines.into())
    }

    /// The line of `field`, or of the object.
    pub(super) fn get(&self, field: &str) -> Option<usize> {
        let find = |wanted: &str| self.0.iter().find(|(field, _)| **field == *wanted).map(|(_, line)| *line);
        find(field).or_else(|| find(""))
    }
}

/// Kinds that make pods of a template.
pub(super) const WORKLOADS: [&str; 5] =
    ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "ReplicationController"];

/// Reads the text of the file called `file`.
pub(super) fn read(file: &Path, text: &str) -> Contents {
    let last_line = text.lines().count().max(1);
    let mut reader = Reader { file, last_line, contents: Contents::default(), seen: HashSet::new() };
    for read in trees(file, text) {
        match read {
            Ok(trees) => {
                for tree in &trees {
                    reader.object(tree, None);
                }
            }
            Err((line, message)) => reader.unreadable(line, message),
        }
    }
    reader.contents
}

/// The documents of each part of a file, or the line and the message of what is wrong with the
/// part.
pub(super) fn trees(file: &Path, text: &str) -> Vec<Result<Vec<Tree>, (usize, String)>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if file.extension().is_some_and(|extension| extension == "json") {
        return vec![json(text)];
    }
    let parse = |(first_line, document)| {
        portolan_yaml::parse(document, first_line).map_err(|error| (error.line, error.message))
    };
    documents(text).into_iter().map(parse).collect()
}

fn json(text: &str) -> Result<Vec<Tree>, (usize, String)> {
    // A tab is white space in JSON, and cannot be anything else in valid JSON; YAML minds it.
    portolan_yaml::parse(&text.replace('\t', " "), 1).or_else(|error| {
        // What is wrong with JSON is better said in terms of JSON; and JSON may pair escapes as
        // YAML does not.
        match serde_json::from_str::<serde_json::Value>(text) {
            Err(json) => Err((json.line(), format!("not valid JSON: {json}"))),
            Ok(_) if !error.is_grammar => Err((error.line, error.message)),
            Ok(value) => Ok(vec![Tree::from_json(value)]),
        }
    })
}

/// The documents in `text` with their first lines. They are split here, so that an error in one
/// leaves the others alone.
fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut first_line, mut offset) = (0, 1, 0);
    // A document that so far has nothing but directives and comments begins with the next `---`.
    let mut only_head = true;
    for (i, line) in text.split_inclusive('\n').enumerate() {
        let separator = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if separator && !only_head {
            documents.push((first_line, &text[start..offset]));
            (start, first_line) = (offset, i + 1);
        }
        let blank = line.trim().is_empty() || line.starts_with(['#', '%']);
        only_head = if separator { false } else { only_head && blank };
        offset += line.len();
    }
    documents.push((first_line, &text[start..]));
    documents
}

struct Reader<'a> {
    file: &'a Path,
    last_line: usize,
    contents: Contents,
    seen: HashSet<Key>,
}

impl Reader<'_> {
    fn unreadable(&mut self, line: usize, message: String) {
        self.contents.partial = true;
        self.problem(line, None, "", message);
    }

    fn problem(&mut self, line: usize, object: Option<String>, field: &str, message: String) {
        self.report(Severity::Error, line, object, field, message);
    }

    fn report(
        &mut self,
        severity: Severity,
        line: usize,
        object: Option<String>,
        field: &str,
        message: String,
    ) {
        let field = (!field.is_empty()).then(|| field.to_owned());
        self.contents.problems.push(Problem {
            file: self.file.to_owned(),
            // The end of the text can be past its last line.
            line: Some(line.min(self.last_line)),
            object,
            field,
            message,
            severity,
        });
    }

    /// Takes an object or a list of objects. The items of a typed list need not say what they are:
    /// they are `implied`.
    fn object(&mut self, tree: &Tree, implied: Option<Kind>) {
        if !matches!(tree.content, Content::Map(_)) {
            self.unreadable(
                tree.line,
                "not a Kubernetes object: it has no apiVersion, kind and metadata".to_owned(),
            );
            return;
        }
        let kind = match (tree.get("kind"), implied) {
            (None, Some(implied)) => implied.name(),
            (None, None) => {
                return self.unreadable_field(tree, "kind", "missing; say what kind of object this is");
            }
            (Some(kind), _) => match kind.text() {
                Some(kind) => kind,
                None => return self.unreadable_field(tree, "kind", "not text; put it in quotes"),
            },
        };
        if let (Some(of), Some(items)) = (kind.strip_suffix("List"), tree.get("items")) {
            let of = Kind::named(of);
            match &items.content {
                Content::List(items) => items.iter().for_each(|item| self.object(item, of)),
                Content::Null => {}
                _ => self.unreadable_field(tree, "items", "not a list"),
            }
            return;
        }
        let version = tree.get("apiVersion").and_then(Tree::text);
        if version.is_some_and(schema::is_foreign) {
            return;
        }
        let Some(kind) = Kind::named(kind) else { return self.passed_over(tree, version, kind) };
        self.known(tree, kind, implied == Some(kind));
    }

    /// An object of a kind that is not for a service proxy.
    fn passed_over(&mut self, tree: &Tree, version: Option<&str>, kind: &str) {
        let metadata = |field| tree.get("metadata").and_then(|metadata| metadata.get(field)?.text());
        let object = metadata("name").map(|name| match metadata("namespace") {
            None if !WORKLOADS.contains(&kind) => format!("{kind} {name}"),
            namespace => format!("{kind} {}/{name}", namespace.unwrap_or("default")),
        });
        let unknown = match schema::unknown_kind(version, kind, tree) {
            Some(unknown) => {
                self.contents.partial = true;
                vec![unknown]
            }
            None => schema::unknown_fields(kind, tree),
        };
        self.warnings(object.as_deref(), unknown);
    }

    fn warnings(&mut self, object: Option<&str>, unknown: Vec<schema::Unknown>) {
        for schema::Unknown { field, line, message } in unknown {
            self.report(Severity::Warning, line, object.map(str::to_owned), &field, message);
        }
    }

    fn unreadable_field(&mut self, tree: &Tree, field: &str, message: &str) {
        self.contents.partial = true;
        self.problem(tree.line_of(field), None, field, message.to_owned());
    }

    fn known(&mut self, tree: &Tree, kind: Kind, version_implied: bool) {
        let metadata = |field| tree.get("metadata").and_then(|metadata| metadata.get(field));
        let Some(name) = metadata("name").and_then(Tree::text) else {
            self.contents.partial = true;
            let message = match metadata("name").map(|name| &name.content) {
                None | Some(Content::Null) => "missing; every object needs a name".to_owned(),
                Some(_) => "not text; put it in quotes".to_owned(),
            };
            return self.problem(
                tree.line_of("metadata.name"),
                Some(kind.name().to_owned()),
                "metadata.name",
                message,
            );
        };
        let namespace = match metadata("namespace").map(|namespace| &namespace.content) {
            _ if !kind.namespaced() => "",
            None | Some(Content::Null) => "default",
            Some(Content::Text(namespace)) if namespace.is_empty() => "default",
            Some(Content::Text(namespace)) => namespace,
            Some(_) => {
                self.contents.partial = true;
                let field = "metadata.namespace";
                let object = Some(format!("{} {name}", kind.name()));
                return self.problem(
                    tree.line_of(field),
                    object,
                    field,
                    "not text; put it in quotes".to_owned(),
                );
            }
        };
        if let Err(issues) = declared::check_name(kind, namespace, name) {
            let separator = if namespace.is_empty() { "" } else { "/" };
            let object = format!("{} {namespace}{separator}{name}", kind.name());
            self.contents.partial = true;
            self.issues(tree, &object, issues);
            return;
        }
        let key = Key { kind, name: ObjectName::new(namespace, name) };

        let version = tree.get("apiVersion");
        let wrong = match version.map(|version| &version.content) {
            None if version_implied => None,
            None | Some(Content::Null) => {
                Some(format!("missing; for this kind it is {}", kind.api_version()))
            }
            Some(Content::Text(version)) if version == kind.api_version() => None,
            Some(Content::Text(version)) => {
                Some(format!("{version} is not supported; for this kind it is {}", kind.api_version()))
            }
            Some(_) => Some(format!("not text; for this kind it is {}", kind.api_version())),
        };
        let (declared, text) = if let Some(message) = wrong {
            (Declared::invalid(Issue::new("apiVersion", message)), String::new())
        } else {
            let mut json = tree.to_json();
            json["apiVersion"] = kind.api_version().into();
            json["kind"] = kind.name().into();
            let text = json.to_string();
            (declared::declare(&key, json), text)
        };
        if !self.seen.insert(key.clone()) {
            let message = "declared twice in this file; the first counts".to_owned();
            return self.problem(tree.line, Some(key.to_string()), "", message);
        }
        self.issues(tree, &key.to_string(), declared.issues);
        let unknown =
            |Issue { field, message }| schema::Unknown { line: tree.line_of(&field), field, message };
        self.warnings(Some(&key.to_string()), declared.warnings.into_iter().map(unknown).collect());
        let object = declared.object;
        self.warnings(Some(&key.to_string()), schema::unknown_fields(kind.name(), tree));
        let lines = Lines::of(tree, &key);
        self.contents.items.push(Item { key, object, lines, text });
    }

    fn issues(&mut self, tree: &Tree, object: &str, issues: Vec<Issue>) {
        for issue in issues {
            let line = tree.line_of(&issue.field);
            self.problem(line, Some(object.to_owned()), &issue.field, issue.message);
        }
    }
}

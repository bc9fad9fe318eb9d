//! The modules of a crate and what they import, read from their source.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// A module's place below the crate's root; the root itself is empty.
pub(crate) type Place = Vec<String>;

/// Which module names items of which others of its crate. Code for tests does not count.
pub(crate) struct Modules {
    imports: BTreeMap<Place, BTreeSet<Place>>,
}

impl Modules {
    /// All modules.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        self.imports.keys()
    }

    /// Pairs of modules directly below `parent`: the first, or a module within it, uses the second.
    pub(crate) fn between_siblings(&self, parent: &[String]) -> BTreeSet<(String, String)> {
        let depth = parent.len();
        let child = |place: &Place| place.starts_with(parent).then(|| place.get(depth).cloned()).flatten();
        let mut pairs = BTreeSet::new();
        for (user, used) in &self.imports {
            let Some(user) = child(user) else { continue };
            pairs.extend(
                used.iter().filter_map(child).filter(|used| *used != user).map(|used| (user.clone(), used)),
            );
        }
        pairs
    }
}

/// Reads the modules in files below `source`, a crate's `src`.
pub(crate) fn read(source: &Path) -> Modules {
    let mut files = BTreeMap::new();
    collect(source, source, &mut files);
    let places: BTreeSet<Place> = files.keys().cloned().collect();
    let mut imports = BTreeMap::new();
    for (place, file) in files {
        let text = fs::read_to_string(&file).expect("reading a module");
        let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut reader = Reader { place: &place, places: &places, imports: BTreeSet::new() };
        reader.visit_file(&syntax);
        let found = reader.imports;
        imports.insert(place, found);
    }
    Modules { imports }
}

fn collect(folder: &Path, source: &Path, files: &mut BTreeMap<Place, PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if stem == "tests" || stem == "test" {
            continue;
        }
        if path.is_dir() {
            collect(&path, source, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(source).expect("a file below src");
            let mut place: Place = relative
                .iter()
                .map(|part| part.to_string_lossy().trim_end_matches(".rs").to_owned())
                .collect();
            if matches!(stem.as_str(), "mod" | "lib" | "main") {
                place.pop();
            }
            files.insert(place, path);
        }
    }
}

struct Reader<'a> {
    place: &'a Place,
    places: &'a BTreeSet<Place>,
    imports: BTreeSet<Place>,
}

impl Reader<'_> {
    /// Notes the module that `path` leads into: the longest beginning of it that is a module.
    fn note(&mut self, path: &[String]) {
        let mut place = match path.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("self" | "super") => self.place.clone(),
            _ => return,
        };
        for part in path {
            match part.as_str() {
                "crate" | "self" => {}
                "super" => drop(place.pop()),
                name => place.push(name.to_owned()),
            }
        }
        while !self.places.contains(&place) {
            if place.pop().is_none() {
                return;
            }
        }
        if place != *self.place {
            self.imports.insert(place);
        }
    }

    fn note_tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.note_tree(&with(&path.ident), &path.tree),
            UseTree::Name(name) => self.note(&with(&name.ident)),
            UseTree::Rename(rename) => self.note(&with(&rename.ident)),
            UseTree::Glob(_) => self.note(before),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.note_tree(before, tree)),
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&parts);
        visit::visit_path(self, path);
    }
}

fn is_for_tests(item: &Item) -> bool {
    let attributes: &[Attribute] = match item {
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Const(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| {
        let list = attribute.path().is_ident("cfg").then(|| attribute.meta.require_list().ok()).flatten();
        list.is_some_and(|list| list.tokens.to_string() == "test")
    })
}

/// A drawing of imports in Markdown: a block that begins with "```modules FOLDER".
pub(crate) struct Whiteboard {
    /// The `src` folder of a crate, from the root of the repository.
    pub(crate) folder: String,
    /// Pairs of modules at the crate's top, of which the first uses the second.
    pub(crate) arrows: BTreeSet<(String, String)>,
}

/// The whiteboards of a document. A line `a, b -> c, d` of one means that each of `a` and `b` uses
/// `c` and `d`.
pub(crate) fn whiteboards(markdown: &str) -> Vec<Whiteboard> {
    let mut boards = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        let Some(folder) = line.strip_prefix("```modules ") else { continue };
        let mut arrows = BTreeSet::new();
        for line in lines.by_ref().take_while(|line| !line.starts_with("```")) {
            let (users, used) = line.split_once("->").unwrap_or_else(|| panic!("an arrow in: {line}"));
            for user in names(users) {
                arrows.extend(names(used).map(|used| (user.clone(), used)));
            }
        }
        boards.push(Whiteboard { folder: folder.trim().to_owned(), arrows });
    }
    boards
}

/// The lines of a whiteboard, one for each module that uses others.
pub(crate) fn draw(arrows: &BTreeSet<(String, String)>) -> String {
    let mut lines: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (user, used) in arrows {
        lines.entry(user).or_default().push(used);
    }
    let lines: Vec<String> =
        lines.iter().map(|(user, used)| format!("{user} -> {}", used.join(", "))).collect();
    lines.join("\n")
}

fn names(list: &str) -> impl Iterator<Item = String> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned)
}

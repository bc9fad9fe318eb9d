//! What crates depend on: as written in a table, and as their manifests say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// For each crate, by the name of its folder, the crates of ours that it depends on.
pub(crate) type Dependencies = BTreeMap<String, BTreeSet<String>>;

/// The rows of a Markdown table that begin with a crate's folder in code quotes. The third column
/// lists what it depends on, separated by commas. Words in parentheses explain, and so does what
/// follows a semicolon.
pub(crate) fn written(markdown: &str) -> Dependencies {
    let mut table = Dependencies::new();
    for line in markdown.lines().filter(|line| line.starts_with("| `crates/")) {
        let columns: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, dependencies] = columns[..] else { panic!("a row of three columns: {line}") };
        let name = name.trim_matches('`').trim_start_matches("crates/").to_owned();
        let listed = dependencies.split(';').next().unwrap_or_default();
        let list = listed.split(',').map(|word| word.split('(').next().unwrap_or_default().trim());
        let list = list.filter(|word| !word.is_empty() && *word != "nothing of ours");
        table.insert(name, list.map(str::to_owned).collect());
    }
    table
}

/// The normal dependencies in `FOLDER/*/Cargo.toml` that are crates of ours.
pub(crate) fn actual(folder: &Path) -> Dependencies {
    let mut table = Dependencies::new();
    for entry in fs::read_dir(folder).expect("reading crates/").flatten() {
        let manifest = entry.path().join("Cargo.toml");
        let Ok(text) = fs::read_to_string(&manifest) else { continue };
        let section = text.split("\n[dependencies]").nth(1).unwrap_or_default();
        let section = section.split("\n[").next().unwrap_or_default();
        let names = section.lines().map(|line| line.split(['.', ' ', '=']).next().unwrap_or_default());
        let names = names.filter(|name| *name == "portolan" || name.starts_with("portolan-"));
        let names = names.map(|name| name.trim_start_matches("portolan-").to_owned());
        table.insert(entry.file_name().to_string_lossy().into_owned(), names.collect());
    }
    table
}

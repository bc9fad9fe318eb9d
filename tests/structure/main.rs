//! The structure of the source, held against what ARCHITECTURE.md and CONTRIBUTING.md say: which
//! crate depends on which, which module of a crate imports which, where a module's file is, and how
//! wide prose may be.

mod circles;
mod crates;
mod modules;
mod sources;
mod writing;

use std::collections::BTreeSet;
use std::fs;

use crate::sources::root;

/// The table of crates in ARCHITECTURE.md names each crate of `crates/` and what it depends on.
#[test]
fn crates_depend_on_what_architecture_md_says() {
    let written = crates::written(&fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap());
    let actual = crates::actual(&root().join("crates"));
    assert_eq!(
        written.keys().collect::<Vec<_>>(),
        actual.keys().collect::<Vec<_>>(),
        "crates in the table of ARCHITECTURE.md, and folders in crates/"
    );
    for (name, dependencies) in &actual {
        assert_eq!(
            &written[name], dependencies,
            "what crate {name} depends on, as ARCHITECTURE.md says and as it is"
        );
    }
}

/// Of two modules beside each other at most one uses the other, directly or through further ones.
#[test]
fn no_modules_import_each_other_in_a_circle() {
    let mut found = Vec::new();
    for package in sources::packages() {
        let modules = modules::read(&package.join("src"));
        for circle in circles::find(&modules) {
            found.push(format!("{}: {circle}", package.strip_prefix(root()).unwrap_or(&package).display()));
        }
    }
    assert!(found.is_empty(), "modules that import each other:\n{}", found.join("\n"));
}

/// The drawing of a crate's modules names modules that exist, and its arrows are imports.
#[test]
fn the_whiteboard_shows_imports_as_they_are() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let boards = modules::whiteboards(&text);
    assert!(!boards.is_empty(), "ARCHITECTURE.md has no block that begins with ```modules");
    let mut wrong = Vec::new();
    for board in boards {
        let modules = modules::read(&root().join(&board.folder));
        let actual: BTreeSet<(String, String)> = modules.between_siblings(&[]).into_iter().collect();
        if board.arrows != actual {
            let different: Vec<_> = board.arrows.symmetric_difference(&actual).collect();
            wrong.push(format!("{}: {different:?}; it imports\n{}", board.folder, modules::draw(&actual)));
        }
    }
    assert!(
        wrong.is_empty(),
        "whiteboards of ARCHITECTURE.md that differ from the imports:\n{}",
        wrong.join("\n")
    );
}

/// The file of module `name` is `name.rs`, with its own modules in `name/`.
#[test]
fn no_module_is_in_a_file_mod_rs() {
    let found: Vec<_> = sources::tracked().into_iter().filter(|path| path.ends_with("mod.rs")).collect();
    assert!(found.is_empty(), "to be named after the module and put beside its folder: {found:?}");
}

#[test]
fn prose_and_comments_fit_a_hundred_columns() {
    let wide = writing::wide_lines(&sources::tracked());
    assert!(wide.is_empty(), "lines of more than 100 columns:\n{}", wide.join("\n"));
}

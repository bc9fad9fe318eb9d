//! What the program says is for people who have its documentation, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

/// All texts in `source` outside of comments, as they are written.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let hashes = rest.strip_prefix('r').map(|raw| raw.len() - raw.trim_start_matches('#').len());
        if rest.starts_with("//") {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(hashes) = hashes.filter(|hashes| rest[1 + hashes..].starts_with('"')) {
            let end = format!("\"{}", "#".repeat(hashes));
            let (text, after) = rest[2 + hashes..].split_once(&end).unwrap_or((&rest[2 + hashes..], ""));
            found.push(text.to_owned());
            rest = after;
        } else if c == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            let end = end.unwrap_or(rest.len() - 1);
            found.push(rest[1..=end].to_owned());
            rest = rest.get(end + 2..).unwrap_or("");
        } else if let Some(character) =
            ["'\"'", "'\\\"'", "'\\''", "'\\\\'"].iter().find(|it| rest.starts_with(**it))
        {
            rest = &rest[character.len()..];
        } else {
            rest = &rest[c.len_utf8()..];
        }
    }
    found
}

#[test]
fn texts_are_found() {
    #[allow(clippy::needless_raw_string_hashes, reason = "a quote and a hash stand in it")]
    let source = r##"
        // "a comment"
        let a = "one \" two"; /// "another comment"
        let b = r#"raw "text""#; let c = '"'; let d = "three \
            four"; let e = '\''; let f = "";
    "##;
    let found = literals(source);
    assert_eq!(found, ["one \\\" two", "raw \"text\"", "three \\\n            four", ""]);
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() && !matches!(name.as_str(), "tests" | "target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests.rs" {
            found.push(path);
        }
    }
}

/// Clauses such as "spec §4.7" are for comments and names of tests: no user has the document that
/// they are of.
#[test]
fn no_message_cites_a_clause() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the folder of crates");
    let mut files = Vec::new();
    sources(crates, &mut files);
    assert!(files.len() > 200, "only {} files: is {} the right folder?", files.len(), crates.display());
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source");
        // Tests come last.
        let program = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for text in literals(program).iter().filter(|text| text.contains('§')) {
            wrong.push(format!("{}: {text:?}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "clauses in messages:\n{}", wrong.join("\n"));
}

//! How lines of prose are written.

use std::fs;
use std::path::PathBuf;

use crate::sources::root;

/// The widest that a line of Markdown or a comment may be.
const COLUMNS: usize = 100;

/// `file:line` of each line that is too wide. In Markdown, tables, code blocks and lines without a
/// space may be wider. In Rust, only comments count.
pub(crate) fn wide_lines(files: &[PathBuf]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).expect("reading a file");
        let name = file.strip_prefix(root()).unwrap_or(file).display().to_string();
        let markdown = file.extension().is_some_and(|extension| extension == "md");
        let mut in_code = false;
        for (number, line) in text.lines().enumerate() {
            in_code ^= markdown && line.trim_start().starts_with("```");
            let prose = if markdown { !in_code && !line.starts_with('|') } else { is_comment(line) };
            let breakable = line.trim().contains(' ');
            if prose && breakable && line.chars().count() > COLUMNS {
                found.push(format!("{name}:{}", number + 1));
            }
        }
    }
    found
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

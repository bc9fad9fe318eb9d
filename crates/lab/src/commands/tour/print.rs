//! How a tour looks on paper and in a terminal.

use super::super::style::Style;
use super::story::{Part, Place, Step, Tour};
use super::words;

/// No line is longer, in columns.
const WIDTH: usize = 100;
/// Before what is printed by commands, and before what continues a line of it.
const INDENT: &str = "    ";
const FURTHER: &str = "        ";

/// The beginning of a tour.
pub(super) fn opening(style: Style, tour: &Tour, notes: &[String]) -> String {
    let mut text = format!("{}\n", style.strong(&format!("{}  {}", tour.name, tour.title)));
    for note in std::iter::once(tour.differs).chain(notes.iter().map(String::as_str)) {
        text.extend(wrapped(note, "", "").into_iter().map(|line| line + "\n"));
    }
    text
}

/// Before the steps of a part.
pub(super) fn heading(style: Style, part: &Part) -> String {
    format!("\n{}", style.strong(part.title))
}

/// A step as it is typed.
pub(super) fn typed(style: Style, number: usize, step: &Step) -> String {
    let place = match step.place {
        Place::Here => String::new(),
        Place::Client => "client".to_owned(),
        Place::Node(name) => name.to_owned(),
    };
    let before = format!("{number:>2}  {place}$ ");
    let end = if matches!(step.act, super::story::Act::Behind(_)) { " &" } else { "" };
    let lines = folded(step.line, WIDTH - before.chars().count() - 2);
    let lines: Vec<String> = lines.iter().map(|line| style.strong(line)).collect();
    format!("\n{}{}{end}", style.faint(&before), lines.join(&format!(" \\\n{FURTHER}")))
}

/// What a command has printed.
pub(super) fn output(text: &str) -> String {
    let is_table = is_table(text);
    let mut shown = String::new();
    for line in text.lines() {
        let line = line.trim_end().replace('\t', INDENT);
        if is_table {
            shown.extend([INDENT, &cut(&line), "\n"]);
            continue;
        }
        let (before, rest) = beginning(&line);
        let line = if INDENT.len() + line.chars().count() > WIDTH { squeezed(rest) } else { rest.to_owned() };
        let before = format!("{INDENT}{before}");
        let further = before.replace("├─", "│ ").replace("└─", "  ") + INDENT;
        shown.extend(wrapped(&line, &before, &further).into_iter().map(|line| line + "\n"));
    }
    shown
}

/// What stands before the first word of a line: spaces, and lines that are drawn.
fn beginning(line: &str) -> (&str, &str) {
    let end = line.find(|letter: char| !" │├└─".contains(letter)).unwrap_or(line.len());
    line.split_at(end)
}

/// A line with two spaces at most between its words.
fn squeezed(line: &str) -> String {
    let mut squeezed = String::new();
    for letter in line.chars() {
        if letter != ' ' || !squeezed.ends_with("  ") {
            squeezed.push(letter);
        }
    }
    squeezed
}

/// What to look at, which has been found true.
pub(super) fn look(style: Style, step: &Step) -> String {
    if step.look.is_empty() {
        return String::new();
    }
    let lines = wrapped(step.look, "  ✓ ", INDENT);
    lines.into_iter().map(|line| style.good(&line) + "\n").collect()
}

/// A step that cannot be done here.
pub(super) fn skipped(style: Style, (program, package): (&str, &str)) -> String {
    let why = format!("skipped: {program} is not on this machine. Package {package} has it.");
    format!("  {} {}\n", style.bad("-"), style.bad(&why))
}

/// Whether the columns of a text belong together: it begins with a line of headings.
fn is_table(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    let is_heading = |letter: char| letter.is_ascii_uppercase() || " -()".contains(letter);
    first.contains("  ") && first.chars().all(is_heading)
}

/// The columns of a table that there is room for.
fn cut(line: &str) -> String {
    let room = WIDTH - INDENT.len();
    if line.chars().count() <= room {
        return line.to_owned();
    }
    let kept: String = line.chars().take(room - 2).collect();
    format!("{} …", kept.trim_end())
}

/// A line in pieces that there is room for, broken at spaces.
fn wrapped(line: &str, before: &str, further: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut current = before.to_owned();
    let mut is_begun = false;
    // What stands between words stays: it may be a column.
    for word in line.split_inclusive(' ') {
        let is_long = current.chars().count() + word.trim_end().chars().count() > WIDTH;
        if is_long && is_begun {
            lines.push(std::mem::replace(&mut current, further.to_owned()).trim_end().to_owned());
            is_begun = false;
        }
        if is_begun || !word.trim().is_empty() || lines.is_empty() {
            current += word;
        }
        is_begun |= !word.trim().is_empty();
    }
    lines.push(current.trim_end().to_owned());
    lines
}

/// A command in pieces that there is room for, as a shell takes them again: quoted text stays
/// whole, and an option stays with its value, a program with the pipe before it.
fn folded(line: &str, room: usize) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for word in words::quoted(line) {
        match pieces.last_mut() {
            Some(last) if is_open(last) => *last = format!("{last} {word}"),
            _ => pieces.push(word.to_owned()),
        }
    }
    let mut lines: Vec<String> = Vec::new();
    for piece in pieces {
        match lines.last_mut() {
            Some(last) if last.chars().count() + 1 + piece.chars().count() <= room => {
                *last = format!("{last} {piece}");
            }
            _ => lines.push(piece),
        }
    }
    lines
}

/// Whether the next word belongs to this one: an option of one letter, a pipe, or a shell.
fn is_open(piece: &str) -> bool {
    let last = piece.rsplit(' ').next().unwrap_or_default();
    matches!(last, "|" | "sh") || (last.len() == 2 && last.starts_with('-') && last != "--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_too_long() {
        let long = "word ".repeat(60);
        for line in wrapped(&long, "  ✓ ", INDENT).iter().chain(&folded(&long, 90)) {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        let row = "NAME   ".repeat(30);
        assert!(output(&row).lines().all(|line| line.chars().count() <= WIDTH && line.ends_with(" …")));
        assert_eq!(output(&long).lines().count(), 4);
    }

    #[test]
    fn columns_and_quotes_stay() {
        assert_eq!(output("KUBE-A    tcp  --  x\n\tb"), "    KUBE-A    tcp  --  x\n        b\n");
        let drawn = format!("│  ├─ a    b {}", "word ".repeat(20));
        let lines: Vec<String> = output(&drawn).lines().map(str::to_owned).collect();
        assert!(
            lines[0].starts_with("    │  ├─ a  b word") && lines[1].starts_with("    │  │      word"),
            "{lines:?}"
        );
        for (line, expected) in [
            (
                "kubectl patch a -p '{\"b\": 1, \"c\": 2}' -n d",
                &["kubectl patch a", "-p '{\"b\": 1, \"c\": 2}'", "-n d"][..],
            ),
            ("for n in 1; do curl -s a | sort | uniq -c", &["for n in 1; do curl", "-s a | sort | uniq -c"]),
        ] {
            assert_eq!(folded(line, 22), expected);
        }
    }
}

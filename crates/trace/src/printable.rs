//! Text from dumps, made safe for terminals.

use std::borrow::Cow;

/// Whether `c` could move a terminal's cursor or hide what is written.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// `text` with everything that a terminal would act upon escaped. Tabs become spaces.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\t' => clean.push(' '),
            c if is_unsafe(c) => clean.extend(c.escape_unicode()),
            c => clean.push(c),
        }
    }
    Cow::Owned(clean)
}

/// The beginning of `text`, at most 120 characters of it.
pub(crate) fn shortened(text: &str) -> String {
    let clean = printable(text);
    match clean.char_indices().nth(120) {
        Some((at, _)) => format!("{}...", &clean[..at]),
        None => clean.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor() {
        let cases = [
            ("plain text stays", "-A INPUT -j DROP", "-A INPUT -j DROP"),
            ("a tab is a space", "a\tb", "a b"),
            ("an escape sequence is shown", "\u{1b}[2J", "\\u{1b}[2J"),
            ("C1 controls too", "\u{9b}2J", "\\u{9b}2J"),
            ("text direction too", "a\u{202e}b", "a\\u{202e}b"),
        ];
        for (name, text, expected) in cases {
            assert_eq!(printable(text), expected, "{name}");
        }
        assert_eq!(shortened(&"x".repeat(500)).len(), 123, "long text is cut");
    }
}

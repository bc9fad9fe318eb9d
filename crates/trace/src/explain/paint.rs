//! Lines of text: wrapped, indented, coloured.

use super::explanation::Style;

/// What a piece of text is, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    Plain,
    /// Headings.
    Bold,
    /// What is good to know, if at all.
    Dim,
    /// Goes on.
    Good,
    /// Goes nowhere.
    Bad,
    /// Is not certain.
    Open,
}

impl Ink {
    /// Select Graphic Rendition (ECMA-48 §8.3.117).
    fn code(self) -> &'static str {
        match self {
            Ink::Plain => "",
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Good => "32",
            Ink::Bad => "31",
            Ink::Open => "33",
        }
    }
}

/// A text that is being written.
pub(super) struct Page {
    style: Style,
    text: String,
}

/// Wrapped text has at least so much room, however deep it stands.
const NARROWEST: usize = 40;

impl Page {
    pub(super) fn new(style: Style) -> Page {
        Page { style, text: String::new() }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    pub(super) fn blank(&mut self) {
        self.text.push('\n');
    }

    /// `words` on a line that begins with `first`; lines after it begin with `next`.
    pub(super) fn line(&mut self, first: &str, next: &str, words: &str, ink: Ink) {
        let mut before = first;
        for line in self.wrapped(first.chars().count().max(next.chars().count()), words) {
            self.text.push_str(before);
            if self.style.colour && ink != Ink::Plain {
                self.text.push_str("\u{1b}[");
                self.text.push_str(ink.code());
                self.text.push('m');
                self.text.push_str(line);
                self.text.push_str("\u{1b}[0m");
            } else {
                self.text.push_str(line);
            }
            self.text.push('\n');
            before = next;
        }
    }

    fn wrapped<'t>(&self, indent: usize, words: &'t str) -> Vec<&'t str> {
        if self.style.width == 0 {
            return vec![words];
        }
        let room = self.style.width.saturating_sub(indent).max(NARROWEST);
        let mut lines = Vec::new();
        let mut rest = words;
        loop {
            let Some((end, beyond)) = rest.char_indices().nth(room) else {
                lines.push(rest);
                return lines;
            };
            // A word that is longer than the line stays whole: it may have to be copied.
            let at =
                rest[..end + beyond.len_utf8()].rfind(' ').filter(|at| *at > 0).or_else(|| rest.find(' '));
            let Some(at) = at else {
                lines.push(rest);
                return lines;
            };
            lines.push(&rest[..at]);
            rest = rest[at..].trim_start();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(width: usize, colour: bool, words: &str, ink: Ink) -> String {
        let mut page = Page::new(Style { colour, verbose: false, width });
        page.line("- ", "  ", words, ink);
        page.finish()
    }

    #[test]
    fn lines_are_wrapped_between_words() {
        let thirty = "a".repeat(30);
        let sixty = "b".repeat(60);
        let cases = [
            ("short", 80, "one two".to_owned(), "- one two\n".to_owned()),
            ("no width", 0, format!("{sixty} {sixty}"), format!("- {sixty} {sixty}\n")),
            ("two lines", 42, format!("{thirty} {thirty}"), format!("- {thirty}\n  {thirty}\n")),
            ("long words stay whole", 42, format!("{sixty} x"), format!("- {sixty}\n  x\n")),
            ("letters of more bytes", 42, "ä".repeat(50), format!("- {}\n", "ä".repeat(50))),
        ];
        for (name, width, words, expected) in cases {
            assert_eq!(page(width, false, &words, Ink::Plain), expected, "{name}");
        }
        assert_eq!(page(80, true, "x", Ink::Bad), "- \u{1b}[31mx\u{1b}[0m\n");
        assert_eq!(page(80, false, "x", Ink::Bad), "- x\n");
    }
}

//! Text as tokens: words, and quoted texts.

use std::sync::Arc;

use crate::problem::{Place, Problem};

/// A word, or what is within quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) place: Place,
    /// It is the first of its line.
    pub(crate) starts_line: bool,
    /// It was in quotes, so that it is no brace.
    pub(crate) quoted: bool,
}

impl Token {
    pub(crate) fn opens(&self) -> bool {
        !self.quoted && self.text == "{"
    }

    pub(crate) fn closes(&self) -> bool {
        !self.quoted && self.text == "}"
    }

    /// The token is the word `import` where that is a directive.
    pub(crate) fn imports(&self) -> bool {
        self.starts_line && !self.quoted && self.text == "import"
    }
}

/// The tokens of `text`. White space separates them. `#` begins a comment, also within a word. In
/// quotes, `\"` stands for a quote, and nothing else is an escape.
pub(crate) fn tokens(file: &Arc<str>, text: &str) -> Result<Vec<Token>, Problem> {
    let mut reader = Reader { file, line: 1, starts_line: true, tokens: Vec::new() };
    let mut letters = text.strip_prefix('\u{feff}').unwrap_or(text).chars();
    let mut word = String::new();
    while let Some(letter) = letters.next() {
        match letter {
            '\r' => {}
            '\n' => {
                reader.finish(&mut word);
                reader.next_line();
            }
            '#' => {
                reader.finish(&mut word);
                if letters.by_ref().any(|letter| letter == '\n') {
                    reader.next_line();
                }
            }
            '"' if word.is_empty() => reader.quoted(&mut letters)?,
            letter if letter.is_whitespace() => reader.finish(&mut word),
            letter => word.push(letter),
        }
    }
    reader.finish(&mut word);
    Ok(reader.tokens)
}

struct Reader<'a> {
    file: &'a Arc<str>,
    line: usize,
    starts_line: bool,
    tokens: Vec<Token>,
}

impl Reader<'_> {
    fn next_line(&mut self) {
        self.line += 1;
        self.starts_line = true;
    }

    fn finish(&mut self, word: &mut String) {
        if !word.is_empty() {
            let text = std::mem::take(word);
            self.push(text, self.line, false);
        }
    }

    fn push(&mut self, text: String, line: usize, quoted: bool) {
        let place = Place { file: self.file.clone(), line };
        self.tokens.push(Token { text, place, starts_line: self.starts_line, quoted });
        self.starts_line = false;
    }

    /// Reads what follows an opening quote.
    fn quoted(&mut self, letters: &mut std::str::Chars<'_>) -> Result<(), Problem> {
        let begins = self.line;
        let mut text = String::new();
        let mut escaped = false;
        for letter in letters.by_ref() {
            if letter == '\n' {
                self.line += 1;
            }
            match letter {
                '"' if !escaped => {
                    self.push(text, begins, true);
                    return Ok(());
                }
                '\\' if !escaped => escaped = true,
                letter => {
                    if escaped && letter != '"' {
                        text.push('\\');
                    }
                    escaped = false;
                    text.push(letter);
                }
            }
        }
        Err(Problem {
            place: Place { file: self.file.clone(), line: begins },
            subject: String::new(),
            message: "a quote (\") has no end: close it, or write \\\" within quotes".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_tokens() {
        for (name, text, expected) in [
            ("words and lines", "a b\nc", &[(1, true, "a"), (1, false, "b"), (2, true, "c")][..]),
            ("a comment", "a # b\nc#d\n#e", &[(1, true, "a"), (2, true, "c")]),
            ("carriage returns", "a\r\nb\r\n", &[(1, true, "a"), (2, true, "b")]),
            ("a byte order mark", "\u{feff}a", &[(1, true, "a")]),
            (
                "quotes",
                r#"a "b # c" "" d"#,
                &[(1, true, "a"), (1, false, "b # c"), (1, false, ""), (1, false, "d")],
            ),
            ("escapes", r#""a\"b\d\\""#, &[(1, true, r#"a"b\d\\"#)]),
            ("lines in quotes", "\"a\nb\" c\nd", &[(1, true, "a\nb"), (2, false, "c"), (3, true, "d")]),
            ("a quote within a word", "a\"b c", &[(1, true, "a\"b"), (1, false, "c")]),
            ("braces", "a{ {\n}", &[(1, true, "a{"), (1, false, "{"), (2, true, "}")]),
        ] {
            let tokens = tokens(&"f".into(), text).unwrap();
            let found: Vec<_> =
                tokens.iter().map(|token| (token.place.line, token.starts_line, &*token.text)).collect();
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn a_quote_without_an_end_is_named_where_it_begins() {
        let problem = tokens(&"f".into(), "a\nb \"c\nd").unwrap_err();
        assert!(problem.to_string().starts_with("f:2: a quote"), "{problem}");
    }
}

//! Text of nft as tokens.

use crate::printable::printable;

/// A piece of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    /// Without the quotes, if it had some. The end of a line is `\n`.
    pub(super) text: String,
    pub(super) quoted: bool,
    /// From 1.
    pub(super) line: usize,
}

impl Token {
    pub(super) fn is(&self, text: &str) -> bool {
        !self.quoted && self.text == text
    }
}

/// Characters that are tokens by themselves.
fn stands_alone(c: char) -> bool {
    matches!(c, '{' | '}' | '(' | ')' | ';' | ',' | '|' | '&' | '^' | '=')
}

/// The tokens of `text`. Comments (`#`) are left out, and so are ends of lines behind a backslash.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(text.len() / 5);
    for (line, raw) in (1..).zip(text.lines()) {
        let clean = printable(raw);
        let mut rest = clean.trim_start();
        let mut goes_on = false;
        while let Some(first) = rest.chars().next() {
            let (text, quoted, after) = match first {
                '#' => break,
                '"' => {
                    let end = rest[1..].find('"').map_or(rest.len(), |end| end + 1);
                    (&rest[1..end], true, rest.get(end + 1..).unwrap_or(""))
                }
                '=' if rest.starts_with("==") => ("==", false, &rest[2..]),
                '!' if rest.starts_with("!=") => ("!=", false, &rest[2..]),
                c if stands_alone(c) => (&rest[..1], false, &rest[1..]),
                '\\' if rest.trim_end() == "\\" => {
                    goes_on = true;
                    break;
                }
                _ => {
                    let end = rest
                        .find(|c: char| c.is_whitespace() || stands_alone(c) || c == '"')
                        .unwrap_or(rest.len())
                        .max(first.len_utf8());
                    (&rest[..end], false, &rest[end..])
                }
            };
            tokens.push(Token { text: text.to_owned(), quoted, line });
            rest = after.trim_start();
        }
        if !goes_on {
            tokens.push(Token { text: "\n".to_owned(), quoted: false, line });
        }
    }
    tokens
}

/// Tokens that are read one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [Token],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(rest: &'a [Token]) -> Cursor<'a> {
        Cursor { rest }
    }

    pub(super) fn next(&mut self) -> Option<&'a Token> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    pub(super) fn peek(&self) -> Option<&'a Token> {
        self.rest.first()
    }

    pub(super) fn peek_at(&self, place: usize) -> Option<&'a Token> {
        self.rest.get(place)
    }

    /// The next token, unless it is quoted; empty at the end.
    pub(super) fn word(&self) -> &'a str {
        self.rest.first().filter(|token| !token.quoted).map_or("", |token| token.text.as_str())
    }

    /// Takes the next token if it is `text`.
    pub(super) fn skip(&mut self, text: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is(text));
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    pub(super) fn skip_lines(&mut self) {
        while self.skip("\n") || self.skip(";") {}
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What lies between the next token, an opening brace, and the brace that closes it. Both are
    /// taken.
    pub(super) fn braces(&mut self) -> Option<&'a [Token]> {
        self.peek().filter(|token| token.is("{"))?;
        let mut depth = 0_usize;
        for (at, token) in self.rest.iter().enumerate() {
            if token.is("{") {
                depth += 1;
            } else if token.is("}") {
                depth -= 1;
                if depth == 0 {
                    let within = &self.rest[1..at];
                    self.rest = &self.rest[at + 1..];
                    return Some(within);
                }
            }
        }
        None
    }

    /// What comes before the end of the line or a semicolon that is in no braces; both are taken.
    pub(super) fn statement(&mut self) -> &'a [Token] {
        let mut depth = 0_usize;
        let ends = |token: &Token, depth: usize| depth == 0 && (token.is("\n") || token.is(";"));
        let mut end = self.rest.len();
        for (at, token) in self.rest.iter().enumerate() {
            if ends(token, depth) {
                end = at;
                break;
            }
            if token.is("{") {
                depth += 1;
            } else if token.is("}") {
                depth = depth.saturating_sub(1);
            }
        }
        let found = &self.rest[..end];
        self.rest = self.rest.get(end + 1..).unwrap_or(&[]);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_tokens() {
        let words = |text: &str| -> Vec<String> {
            tokens(text)
                .into_iter()
                .map(|token| if token.quoted { format!("{:?}", token.text) } else { token.text })
                .collect()
        };
        assert_eq!(
            words("ip saddr != { 10.0.0.1,\n 10.0.0.2 } log prefix \"a # b\" # handle 3"),
            [
                "ip",
                "saddr",
                "!=",
                "{",
                "10.0.0.1",
                ",",
                "\n",
                "10.0.0.2",
                "}",
                "log",
                "prefix",
                "\"a # b\"",
                "\n"
            ]
        );
        assert_eq!(
            words("tcp flags & (syn|ack) == syn \\\naccept"),
            ["tcp", "flags", "&", "(", "syn", "|", "ack", ")", "==", "syn", "accept", "\n"]
        );
        assert_eq!(words("\"no end"), ["\"no end\"", "\n"]);
    }
}

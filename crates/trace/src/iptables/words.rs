//! A line as words.

use std::borrow::Cow;

/// What iptables-save prints for options of a revision that it does not know (`print_match_save` of
/// iptables.c).
pub(super) const UNSUPPORTED: &str = "[unsupported revision]";

/// A word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) text: Cow<'a, str>,
    /// Written in quotes: never an option.
    pub(super) quoted: bool,
}

impl Word<'_> {
    pub(super) fn is(&self, option: &str) -> bool {
        !self.quoted && self.text == option
    }

    pub(super) fn is_option(&self) -> bool {
        !self.quoted && (self.text.starts_with('-') && self.text.len() > 1 || self.text == "!")
    }
}

/// The words of a line, with a look ahead.
pub(super) struct Words<'a> {
    words: std::vec::IntoIter<Word<'a>>,
}

impl<'a> Words<'a> {
    /// Splits at white space. Double quotes hold a word together; within them, a backslash keeps
    /// the next character.
    pub(super) fn of(line: &'a str) -> Result<Words<'a>, String> {
        let mut words = Vec::with_capacity(24);
        let mut rest = line.trim_start();
        while !rest.is_empty() {
            let (word, after) = if let Some(quoted) = rest.strip_prefix('"') {
                let (text, after) = unquote(quoted).ok_or("a quotation without an end")?;
                (Word { text, quoted: true }, after)
            } else {
                let end = rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len());
                (Word { text: Cow::Borrowed(&rest[..end]), quoted: false }, &rest[end..])
            };
            words.push(word);
            rest = after.trim_start();
        }
        Ok(Words { words: words.into_iter() })
    }

    pub(super) fn next(&mut self) -> Option<Word<'a>> {
        self.words.next()
    }

    /// The word after `skip` others, without taking it.
    pub(super) fn peek(&self, skip: usize) -> Option<&Word<'a>> {
        self.words.as_slice().get(skip)
    }

    /// Whether `word`, which was taken, and the next are [`UNSUPPORTED`].
    pub(super) fn at_unsupported(&self, word: &Word<'_>) -> bool {
        word.is("[unsupported") && self.peek(0).is_some_and(|next| next.is("revision]"))
    }

    /// The argument of `option`.
    pub(super) fn argument(&mut self, option: &str) -> Result<Cow<'a, str>, String> {
        self.words.next().map(|word| word.text).ok_or_else(|| format!("{option} without a value"))
    }
}

/// The quotation at the beginning of `text`, whose opening mark is gone, and what follows it.
fn unquote(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut owned: Option<String> = None;
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => {
                let word = owned.map_or(Cow::Borrowed(&text[..at]), Cow::Owned);
                return Some((word, &text[at + 1..]));
            }
            '\\' => {
                let kept = owned.get_or_insert_with(|| text[..at].to_owned());
                kept.push(characters.next()?.1);
            }
            c => {
                if let Some(owned) = &mut owned {
                    owned.push(c);
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_words() {
        type Case<'a> = (&'a str, &'a str, &'a [(&'a str, bool)]);
        let cases: [Case<'_>; 5] = [
            ("white space", "-A  X\t-j Y ", &[("-A", false), ("X", false), ("-j", false), ("Y", false)]),
            (
                "a quotation",
                r#"--comment "a -j b" -j C"#,
                &[("--comment", false), ("a -j b", true), ("-j", false), ("C", false)],
            ),
            ("escapes within", r#""a \"q\" \\ b""#, &[(r#"a "q" \ b"#, true)]),
            ("an empty quotation", r#""" x"#, &[("", true), ("x", false)]),
            ("nothing", "  ", &[]),
        ];
        for (name, line, expected) in cases {
            let mut words = Words::of(line).expect(name);
            let actual: Vec<_> = std::iter::from_fn(|| words.next()).collect();
            let actual: Vec<_> = actual.iter().map(|word| (&*word.text, word.quoted)).collect();
            assert_eq!(actual, expected, "{name}");
        }
        for broken in ["\"abc", "\"abc\\"] {
            assert!(Words::of(broken).is_err(), "{broken}: no end");
        }
    }
}

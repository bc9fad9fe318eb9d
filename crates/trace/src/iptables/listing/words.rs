//! The words of a row, and the words that are written for them.

use std::fmt::Write;

use crate::iptables::matches::AS_LISTED;

/// Text that words are taken from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest<'a>(pub(super) &'a str);

impl<'a> Rest<'a> {
    pub(super) fn peek(&self) -> Option<&'a str> {
        self.0.split_ascii_whitespace().next()
    }

    pub(super) fn word(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start();
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        self.0 = &text[end..];
        (end > 0).then(|| &text[..end])
    }

    /// Takes these words, if they come next.
    pub(super) fn skip(&mut self, words: &str) -> bool {
        let mut after = *self;
        for word in words.split(' ') {
            if after.word() != Some(word) {
                return false;
            }
        }
        *self = after;
        true
    }
}

/// A rule in the words of iptables-save, while it is written.
pub(super) struct Out(pub(super) String);

impl Out {
    pub(super) fn option(&mut self, negated: bool, words: &[&str]) {
        if negated {
            self.0.push_str(" !");
        }
        for word in words {
            let _ = write!(self.0, " {word}");
        }
    }

    pub(super) fn quoted(&mut self, option: &str, text: &str) {
        let _ = write!(self.0, " {option} \"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    }

    pub(super) fn unknown(&mut self, words: &str) {
        self.quoted(AS_LISTED, words);
    }
}

pub(super) fn negation(word: &str) -> (bool, &str) {
    word.strip_prefix('!').map_or((false, word), |after| (true, after))
}

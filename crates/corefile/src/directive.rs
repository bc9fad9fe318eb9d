//! A plugin as it is written: its name, what follows it, and the lines of its block.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use portolan_config::GoDuration;

use crate::problem::{Complaints, Place};
use crate::token::Token;

/// A plugin in a server block.
#[derive(Debug, Clone)]
pub(crate) struct Directive {
    pub(crate) name: Token,
    pub(crate) args: Vec<Token>,
    /// What is in braces after it.
    pub(crate) lines: Vec<Line>,
}

/// A line of a plugin's block.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) name: Token,
    pub(crate) args: Vec<Token>,
    /// It has a block in turn, which no option of ours has.
    pub(crate) has_block: bool,
}

impl Directive {
    pub(crate) fn place(&self) -> &Place {
        &self.name.place
    }

    /// Complains if there is a block.
    pub(crate) fn no_block(&self, complaints: &mut Complaints<'_>) {
        for line in &self.lines {
            line.unknown(&[], complaints);
        }
    }

    /// At most one argument.
    pub(crate) fn at_most_one(&self, what: &str, complaints: &mut Complaints<'_>) -> Option<&Token> {
        if self.args.len() > 1 {
            complaints.error(self.place(), format!("takes {what} alone, not {} words", self.args.len()));
        }
        self.args.first()
    }
}

impl Line {
    /// Complains of an option that does not exist, naming the one that was probably meant.
    pub(crate) fn unknown(&self, known: &[&str], complaints: &mut Complaints<'_>) {
        let option = &self.name.text;
        let meant = portolan_yaml::nearest(option, known.iter().copied());
        let message = match meant {
            Some(meant) => format!("no such option: did you mean {meant}?"),
            None if known.is_empty() => "it has no options: delete the block".to_owned(),
            None => format!("no such option: there are {}", known.join(", ")),
        };
        complaints.option_error(&self.name.place, option, message);
    }

    pub(crate) fn option(&self) -> &str {
        &self.name.text
    }

    pub(crate) fn error(&self, complaints: &mut Complaints<'_>, message: impl Into<String>) {
        complaints.option_error(&self.name.place, self.option(), message);
    }

    pub(crate) fn notice(&self, complaints: &mut Complaints<'_>, message: impl Into<String>) {
        complaints.option_notice(&self.name.place, self.option(), message);
    }

    /// The arguments' texts.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.args.iter().map(|token| &*token.text)
    }

    /// Complains of arguments.
    pub(crate) fn nothing(&self, complaints: &mut Complaints<'_>) {
        if !self.args.is_empty() {
            self.error(complaints, "takes no value: delete what follows it");
        }
    }

    /// Exactly one argument, which is `what`.
    pub(crate) fn one(&self, what: &str, complaints: &mut Complaints<'_>) -> Option<&str> {
        match &*self.args {
            [one] => Some(&one.text),
            args => {
                self.error(complaints, format!("takes {what}, not {} words", args.len()));
                None
            }
        }
    }

    /// At least one argument; none is complained of.
    pub(crate) fn some(&self, what: &str, complaints: &mut Complaints<'_>) -> &[Token] {
        if self.args.is_empty() {
            self.error(complaints, format!("takes {what}: add it"));
        }
        &self.args
    }

    /// Exactly one number.
    pub(crate) fn one_number<T: FromStr + PartialOrd + std::fmt::Display>(
        &self,
        range: RangeInclusive<T>,
        complaints: &mut Complaints<'_>,
    ) -> Option<T> {
        let text = self.one("one number", complaints)?;
        self.number(text, range, complaints)
    }

    /// `text` as a number in `range`.
    pub(crate) fn number<T: FromStr + PartialOrd + std::fmt::Display>(
        &self,
        text: &str,
        range: RangeInclusive<T>,
        complaints: &mut Complaints<'_>,
    ) -> Option<T> {
        let number = text.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            let (first, last) = (range.start(), range.end());
            self.error(complaints, format!("{text:?} is no number from {first} to {last}"));
        }
        number
    }

    /// Exactly one duration, which is not negative.
    pub(crate) fn one_duration(&self, complaints: &mut Complaints<'_>) -> Option<Duration> {
        let text = self.one("one duration, such as 5s", complaints)?;
        self.duration(text, complaints)
    }

    /// `text` as a duration that is not negative.
    pub(crate) fn duration(&self, text: &str, complaints: &mut Complaints<'_>) -> Option<Duration> {
        match duration(text) {
            Ok(duration) => Some(duration),
            Err(message) => {
                self.error(complaints, message);
                None
            }
        }
    }
}

/// `text` as a duration that is not negative. The error is for people.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration: GoDuration = text.parse().map_err(|error| format!("{error}"))?;
    duration.to_std().ok_or_else(|| format!("{text} is negative: give 0 or more"))
}

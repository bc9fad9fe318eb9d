//! What is wrong with a Corefile, and what should be known about it.

use std::fmt;
use std::sync::Arc;

/// Where something is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// From 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Something that is wrong or should be known: `Corefile:7: kubernetes: ttl: ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it is.
    pub place: Place,
    /// The plugin, and perhaps its option: `kubernetes: ttl`. Empty for what is in no plugin.
    pub subject: String,
    /// What is the matter, and the remedy.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.subject.is_empty() {
            write!(f, "{}: ", self.subject)?;
        }
        f.write_str(&self.message)
    }
}

/// All that is wrong with a Corefile; at least one problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(pub Vec<Problem>);

impl fmt::Display for Errors {
    /// A line for each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if number == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    pub(crate) errors: Vec<Problem>,
    pub(crate) notices: Vec<Problem>,
}

impl Problems {
    /// Notes what concerns one plugin.
    pub(crate) fn of<'a>(&'a mut self, plugin: &'a str) -> Complaints<'a> {
        Complaints { plugin, problems: self }
    }
}

/// Notes problems of one plugin.
pub(crate) struct Complaints<'a> {
    plugin: &'a str,
    problems: &'a mut Problems,
}

impl Complaints<'_> {
    /// The plugin cannot be as it is written.
    pub(crate) fn error(&mut self, place: &Place, message: impl Into<String>) {
        self.problems.errors.push(problem(place, self.plugin.to_owned(), message));
    }

    /// An option cannot be as it is written.
    pub(crate) fn option_error(&mut self, place: &Place, option: &str, message: impl Into<String>) {
        self.problems.errors.push(problem(place, format!("{}: {option}", self.plugin), message));
    }

    /// Something is accepted that has no effect.
    pub(crate) fn notice(&mut self, place: &Place, message: impl Into<String>) {
        self.problems.notices.push(problem(place, self.plugin.to_owned(), message));
    }

    /// An option is accepted that has no effect.
    pub(crate) fn option_notice(&mut self, place: &Place, option: &str, message: impl Into<String>) {
        self.problems.notices.push(problem(place, format!("{}: {option}", self.plugin), message));
    }
}

fn problem(place: &Place, subject: String, message: impl Into<String>) -> Problem {
    Problem { place: place.clone(), subject, message: message.into() }
}

//! What is wrong with an object.

/// One thing wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Path of the field; empty for the whole object.
    pub field: String,
    /// What is wrong, with the value, and what to do.
    pub message: String,
}

/// At most this many things wrong with one object are listed.
const LISTED: usize = 20;

impl Issue {
    /// An issue with `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Issue {
        Issue { field: field.into(), message: message.into() }
    }

    /// The first of `issues`, and how many others there are: one object cannot fill the log.
    pub fn capped(mut issues: Vec<Issue>) -> Vec<Issue> {
        if issues.len() > LISTED {
            let more = issues.len() - LISTED;
            issues.truncate(LISTED);
            issues.push(Issue::new("", format!("{more} more problems, which are not listed")));
        }
        issues
    }
}

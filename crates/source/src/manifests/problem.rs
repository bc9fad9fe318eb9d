//! What is wrong in a folder of manifests, for people.

use std::fmt;
use std::path::PathBuf;

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something that was asked for cannot be done.
    Error,
    /// Something is ignored, or has no effect, that was probably meant to have one.
    Warning,
}

/// One thing in the manifests that could not be honoured, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, relative to the folder.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: Option<usize>,
    /// The object: kind, namespace and name.
    pub object: Option<String>,
    /// The field: a path such as `spec.ports[0].port`.
    pub field: Option<String>,
    /// What is wrong, with the value, and what to do.
    pub message: String,
    /// How bad it is.
    pub severity: Severity,
}

impl Problem {
    /// An error of a file as a whole.
    pub(super) fn of_file(file: PathBuf, line: Option<usize>, message: String) -> Problem {
        Problem { file, line, object: None, field: None, message, severity: Severity::Error }
    }

    /// Whether this is the same problem as `other`, though perhaps on another line.
    pub(super) fn is(&self, other: &Problem) -> bool {
        (&self.file, &self.object, &self.field, &self.message, self.severity)
            == (&other.file, &other.object, &other.field, &other.message, other.severity)
    }
}

impl fmt::Display for Problem {
    /// `web.yaml:12: Service shop/web: spec.ports[0].port: 0 is not in 1-65535`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        for part in [&self.object, &self.field].into_iter().flatten() {
            write!(f, ": {part}")?;
        }
        write!(f, ": {}", self.message)
    }
}

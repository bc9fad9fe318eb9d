//! What is wrong with the user's files, as `lab status` shows it.

use std::path::PathBuf;

use portolan_source::manifests::{Problem, Severity};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Something wrong with a manifest, or ignored in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// The user's file; none for what is in no file.
    pub file: Option<PathBuf>,
    /// The line, from 1.
    pub line: Option<usize>,
    /// Object, field, what is wrong and what to do.
    pub message: String,
    /// Nothing that was asked for is missing because of it, but something is ignored.
    pub is_warning: bool,
}

impl Finding {
    /// The same, for whoever looks at the lab.
    pub(crate) fn of(problem: &Problem) -> Finding {
        let parts = [problem.object.as_deref(), problem.field.as_deref(), Some(&problem.message)];
        Finding {
            file: Some(problem.file.clone()),
            line: problem.line,
            message: parts.into_iter().flatten().collect::<Vec<_>>().join(": "),
            is_warning: problem.severity == Severity::Warning,
        }
    }

    /// What has gone wrong, and where as far as that is known.
    pub(crate) fn of_error(error: &Error) -> Finding {
        match error {
            Error::Manifest(problem) => Finding::of(problem),
            other => Finding { file: None, line: None, message: other.to_string(), is_warning: false },
        }
    }
}

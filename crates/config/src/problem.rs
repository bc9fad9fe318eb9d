//! What is wrong with a configuration, and what an operator should know about it.

use std::fmt;
use std::path::PathBuf;

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On the command line, by this flag (without the dashes).
    Flag(&'static str),
    /// In the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// From 1; of the value, or of what it should be in.
        line: usize,
        /// As `iptables.masqueradeBit`; empty for the file as a whole.
        field: String,
    },
    /// Nowhere: a default.
    Default {
        /// As `iptables.masqueradeBit`.
        field: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Flag(flag) => write!(f, "--{flag}"),
            Place::File { path, line, field } if field.is_empty() => write!(f, "{}:{line}", path.display()),
            Place::File { path, line, field } => write!(f, "{}:{line}: {field}", path.display()),
            Place::Default { field } => f.write_str(field),
        }
    }
}

/// A reason not to start. All there are are reported together (spec §10C).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct ConfigError {
    /// Which value.
    pub place: Place,
    /// What it is, and what it may be.
    pub message: String,
}

/// How much a note matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Good to know; all is as asked.
    Info,
    /// Something asked for does not happen.
    Warning,
}

/// A line for the log about a configuration that is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// How to log it.
    pub level: Level,
    /// Which value.
    pub place: Place,
    /// What is to be known about it.
    pub message: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

//! Gathering errors and notes, each with the place of the value that it is about.

use std::path::Path;

use portolan_yaml::Tree;

use crate::bound;
use crate::flags::Flags;
use crate::problem::{ConfigError, Level, Note, Place};

/// What has been found so far.
#[derive(Debug)]
pub(crate) struct Problems<'a> {
    pub(crate) flags: &'a Flags,
    /// The configuration file, if there is one, and its content, if that is readable.
    pub(crate) file: Option<(&'a Path, Option<&'a Tree>)>,
    pub(crate) errors: Vec<ConfigError>,
    pub(crate) notes: Vec<Note>,
}

impl<'a> Problems<'a> {
    pub(crate) fn new(flags: &'a Flags, file: Option<(&'a Path, Option<&'a Tree>)>) -> Problems<'a> {
        Problems { flags, file, errors: Vec::new(), notes: Vec::new() }
    }

    /// Where the value of `field` (as `spec.ports[0]`) was given.
    pub(crate) fn place(&self, field: &str) -> Place {
        let flag = bound::flags_of(field).find(|bound| (bound.given)(self.flags).is_some());
        match (self.file, flag) {
            (None, Some(bound)) => Place::Flag(bound.flag),
            (Some(_), Some(bound)) if bound.beats_file => Place::Flag(bound.flag),
            (Some((path, tree)), _) => Place::File {
                path: path.to_owned(),
                line: tree.map_or(1, |tree| tree.line_of(field)),
                field: field.to_owned(),
            },
            (None, None) => Place::Default { field: field.to_owned() },
        }
    }

    pub(crate) fn error(&mut self, field: &str, message: impl Into<String>) {
        let place = self.place(field);
        self.error_at(place, message);
    }

    pub(crate) fn error_at(&mut self, place: Place, message: impl Into<String>) {
        self.errors.push(ConfigError { place, message: message.into() });
    }

    pub(crate) fn warn(&mut self, field: &str, message: impl Into<String>) {
        let place = self.place(field);
        self.note_at(Level::Warning, place, message);
    }

    pub(crate) fn info(&mut self, field: &str, message: impl Into<String>) {
        let place = self.place(field);
        self.note_at(Level::Info, place, message);
    }

    pub(crate) fn note_at(&mut self, level: Level, place: Place, message: impl Into<String>) {
        self.notes.push(Note { level, place, message: message.into() });
    }
}

//! What a Corefile takes from outside itself.

/// A file that was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Its name, for messages and for the imports that it has itself.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// Where environment variables and imported files come from.
pub trait Surroundings {
    /// The value of an environment variable: `{$NAME}`, `{%NAME%}`.
    fn variable(&self, name: &str) -> Option<String>;

    /// The files that `import PATTERN` in the file `from` means, in order. The error says why there
    /// are none, and is for people.
    fn import(&self, pattern: &str, from: &str) -> Result<Vec<Imported>, String>;
}

/// No variable is set, and no file can be imported.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSurroundings;

impl Surroundings for NoSurroundings {
    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn import(&self, _pattern: &str, _from: &str) -> Result<Vec<Imported>, String> {
        Err("no file can be imported here: write its text in place of this line".to_owned())
    }
}

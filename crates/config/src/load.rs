//! Flags and file put together (spec §10A).

use std::path::{Path, PathBuf};

use crate::bound;
use crate::config::{Config, Mode};
use crate::decode;
use crate::flags::Flags;
use crate::from_flags;
use crate::meaningless;
use crate::object::Object;
use crate::problem::{ConfigError, Level, Note, Place};
use crate::problems::Problems;
use crate::resolve::{Origin, resolve};
use crate::userspace;

/// A configuration that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What to do.
    pub config: Config,
    /// What an operator should know about it.
    pub notes: Vec<Note>,
}

/// The effective configuration of `flags` and, if there is one, the file with its path and text.
///
/// With a file, it alone counts, but for flags of logging and `--hostname-override` (spec §10.1).
/// The error is everything that is wrong.
pub fn load(flags: &Flags, file: Option<(&Path, &str)>) -> Result<Loaded, Vec<ConfigError>> {
    let removed = flags.removed.errors();
    let Some((path, text)) = file else {
        let mut problems = Problems::new(flags, None);
        problems.errors = removed;
        let mut errors = Vec::new();
        let object = from_flags::object(flags, &mut errors);
        problems.errors.append(&mut errors);
        return finish(&object, Origin::Flags, problems);
    };
    let document = decode::parse(path, text).map_err(|error| {
        let mut errors = removed.clone();
        errors.push(error);
        errors
    })?;
    let mut problems = Problems::new(flags, Some((path, Some(&document.tree))));
    problems.errors = removed;
    let mut object = decode::decode(path, &document, &mut problems);
    let mut errors = Vec::new();
    from_flags::overlay(flags, &mut object, &mut errors);
    problems.errors.append(&mut errors);
    finish(&object, Origin::File, problems)
}

fn finish(object: &Object, origin: Origin, mut problems: Problems<'_>) -> Result<Loaded, Vec<ConfigError>> {
    let config = resolve(object, origin, &mut problems);
    if config.mode != Mode::Userspace {
        problems.errors.splice(0..0, userspace::elsewhere(problems.flags));
    }
    meaningless::note(object, &config, origin, &mut problems);
    if origin == Origin::File {
        overridden(&config, &mut problems);
    }
    if problems.errors.is_empty() {
        Ok(Loaded { config, notes: problems.notes })
    } else {
        Err(problems.errors)
    }
}

/// Names flags that were given, and that the file decides otherwise (spec §10.1, where they are
/// ignored silently).
fn overridden(config: &Config, problems: &mut Problems<'_>) {
    for bound in bound::ALL.iter().filter(|bound| !bound.beats_file) {
        let Some(given) = (bound.given)(problems.flags) else { continue };
        let effective = (bound.effective)(config);
        if given == effective {
            continue;
        }
        let field = bound.fields.iter().find(|field| is_given(field, problems)).or(bound.fields.first());
        let field = field.copied().unwrap_or_default();
        let effective = if effective.is_empty() { "empty" } else { &effective };
        let message = format!(
            "{given:?} has no effect: beside --config this flag is not read, and {field} is {effective}; set it in \
             the file"
        );
        problems.note_at(Level::Warning, Place::Flag(bound.flag), message);
    }
}

fn is_given(field: &str, problems: &Problems<'_>) -> bool {
    let mut tree = problems.file.and_then(|(_, tree)| tree);
    for name in field.split('.') {
        tree = tree.and_then(|tree| tree.get(name));
    }
    tree.is_some()
}

impl Default for Config {
    /// What is in force without any flag and file.
    fn default() -> Config {
        let flags = Flags::default();
        resolve(&Object::default(), Origin::Flags, &mut Problems::new(&flags, None))
    }
}

impl Flags {
    /// All flags of kube-proxy with their values: as given, else as they are by default. For
    /// `/flagz` (spec §11.15).
    pub fn values(&self) -> Vec<(&'static str, String)> {
        let defaults = Config::default();
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let switch = |switch: Option<bool>| switch.unwrap_or_default().to_string();
        let mut values = vec![
            ("config", path(&self.config).unwrap_or_default()),
            ("write-config-to", path(&self.write_config_to).unwrap_or_default()),
            ("cleanup", switch(self.cleanup)),
            ("init-only", switch(self.init_only)),
            ("master", self.master.clone().unwrap_or_default()),
            ("boot-id-file", self.boot_id_file.clone().unwrap_or_else(|| meaningless::BOOT_ID.to_owned())),
            (
                "machine-id-file",
                self.machine_id_file.clone().unwrap_or_else(|| meaningless::MACHINE_ID.to_owned()),
            ),
        ];
        let value =
            |bound: &bound::Bound| (bound.given)(self).unwrap_or_else(|| (bound.effective)(&defaults));
        values.extend(bound::ALL.iter().map(|bound| (bound.flag, value(bound))));
        values
    }
}
